from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asyncua import ua

from drivers.opcua import address_space, channel
from drivers.opcua.browse import browse
from drivers.opcua.connection import Connection, OperationLimits
from drivers.opcua.discovery import discover
from drivers.opcua.metadata import read_identity, read_tag_metadata, ucum
from drivers.opcua.plan import OpcuaPlan
from drivers.opcua.session_setup import open_session
from drivers.opcua.settings import OpcuaDevice, OpcuaTag
from edge.clock import SystemClock
from edge.config.validate import settings_from
from edge.driver import BrowseEntry, Target
from edge.errors import DeviceUnreachable
from edge.model import TagMetadata

DeviceMaker = Callable[..., OpcuaDevice]
PLANT = "nsu=urn:test:plant;"


@pytest.fixture
def anonymous(peer: Any, device: DeviceMaker) -> OpcuaDevice:
    peer.be(policies=["NoSecurity"])
    return device(security="none", certificates=None)


@pytest.fixture
async def connection(anonymous: OpcuaDevice) -> AsyncIterator[Connection]:
    async with open_session(anonymous, SystemClock()) as connection:
        yield connection


async def below(connection: Connection, device: OpcuaDevice, path: str) -> dict[str, BrowseEntry]:
    return {entry.name: entry for entry in await browse(connection, device, path)}


async def test_the_top_are_the_objects(connection: Connection, anonymous: OpcuaDevice) -> None:
    top = await below(connection, anonymous, "")

    assert top["Plant"] == BrowseEntry(name="Plant", path=f"{PLANT}s=Plant")
    assert top["Server"].path == "i=2253"


async def test_a_variable_comes_with_all_that_a_tag_needs(connection: Connection, anonymous: OpcuaDevice) -> None:
    plant = await below(connection, anonymous, f"{PLANT}s=Plant")

    assert plant["Temp"] == BrowseEntry(
        name="Temp",
        type="float64",
        value="37.5",
        tag={
            "address": f"{PLANT}s=Temp",
            "type": "float64",
            "unit": "Cel",
            "range": [-20.0, 120.0],
            "description": "of the broth",
        },
    )
    assert plant["Serial/1"].tag == {"address": f"{PLANT}s=Serial; number", "type": "text"}
    assert settings_from(OpcuaTag, {"name": "t", **plant["Serial/1"].tag}).parsed_address.identifier == "Serial; number"  # type: ignore[union-attr]


async def test_texts_statuses_and_methods_are_shown(connection: Connection, anonymous: OpcuaDevice) -> None:
    plant = await below(connection, anonymous, f"{PLANT}s=Plant")

    assert (plant["Mode"].type, plant["Mode"].value) == ("enumeration", "2 (NoConfiguration)")
    assert plant["Valve"].value == "1 (open)"
    assert plant["Broken"].value == "BadSensorFailure"
    assert plant["Reset"] == BrowseEntry(name="Reset", type="Method")


async def test_elements_of_an_array_are_tags_by_their_index(connection: Connection, anonymous: OpcuaDevice) -> None:
    plant = await below(connection, anonymous, f"{PLANT}s=Plant")
    elements = await below(connection, anonymous, f"{PLANT}s=Floats")

    whole = {"address": f"{PLANT}s=Floats", "type": "float32", "index": "0..1"}
    assert (plant["Floats"].type, plant["Floats"].tag) == ("float32[2]", whole)
    assert elements["[1]"].value == "2.5"
    assert elements["[1]"].tag == {"address": f"{PLANT}s=Floats", "type": "float32", "index": 1}


async def test_a_browse_path_leads_there_too(connection: Connection, anonymous: OpcuaDevice) -> None:
    assert "Temp" in await below(connection, anonymous, "/Objects/{urn:test:plant}Plant")


@pytest.mark.parametrize("path", ["nonsense", "ns=2;s=Plant", f"{PLANT}s=Nothing", "nsu=urn:other;i=1", "/Objects/No"])
async def test_no_such_path_is_a_lookup_error(connection: Connection, anonymous: OpcuaDevice, path: str) -> None:
    with pytest.raises(LookupError, match=re.escape(path[-5:])):
        await browse(connection, anonymous, path)


async def test_limits_of_the_server_are_kept_and_places_released(
    connection: Connection, anonymous: OpcuaDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.operation_limits = OperationLimits(nodes_per_read=7, nodes_per_browse=5)
    monkeypatch.setattr(address_space, "_REFERENCES_AT_ONCE", 50)

    many = await browse(connection, anonymous, f"{PLANT}s=Many")

    assert [entry.value for entry in many] == [str(number) for number in range(120)]


async def test_answers_that_are_too_long_are_asked_for_in_parts(
    connection: Connection, anonymous: OpcuaDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's objects take a hundred times as much memory: its responses are bounded."""
    monkeypatch.setattr(channel, "DECODED_BYTES", 2500)
    index = connection.namespaces.index("urn:test:plant")
    plant, points = ua.NodeId("Plant", index), [ua.NodeId(f"P{number}", index) for number in range(90)]

    names = await address_space.attributes(connection, [(node, 4) for node in points for _ in range(3)])
    below = await address_space.references(connection, [plant, *points, plant])
    ((refused, nothing),) = await address_space.references(connection, [ua.NodeId("Many", index)])

    assert [value.Value.Value.Text for value in names[::3]] == [f"P{number}" for number in range(90)]
    assert [len(found) for _, found in below] == [8, *[0] * 90, 8]
    assert (refused.name, nothing) == ("BadResponseTooLarge", [])


async def test_more_than_can_be_shown_is_said(
    connection: Connection, anonymous: OpcuaDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address_space, "REFERENCES_LIMIT", 20)
    monkeypatch.setattr("drivers.opcua.browse.REFERENCES_LIMIT", 20)
    monkeypatch.setattr(address_space, "_REFERENCES_AT_ONCE", 15)

    many = await browse(connection, anonymous, f"{PLANT}s=Many")

    assert len(many) == 21
    assert many[-1].name == "(more than 20; the rest is not shown)"


async def test_facts_are_those_of_each_tag(connection: Connection, anonymous: OpcuaDevice) -> None:
    addresses = {"Temp": "float64", "Valve": "uint32", "Nothing": "float64", "Mode": "enumeration"}
    tags = [
        settings_from(OpcuaTag, {"name": name, "address": f"{PLANT}s={name}", "type": kind})
        for name, kind in addresses.items()
    ]

    temperature, valve, nothing, mode = await read_tag_metadata(connection, OpcuaPlan(tags, anonymous))

    assert temperature == TagMetadata(unit="Cel", range=(-20.0, 120.0), description="of the broth")
    assert valve == TagMetadata(texts=((0, "closed"), (1, "open")))
    assert nothing == TagMetadata()
    assert dict(mode.texts)[2] == "NoConfiguration"


async def test_identity_is_what_the_server_says(connection: Connection) -> None:
    identity = await read_identity(connection)

    assert (identity.vendor, identity.product) == ("FreeOpcUa", "FreeOpcUa Python Server")
    assert identity.firmware
    assert identity.serial == "SN-4711"  # Of the one device behind it that has a nameplate (OPC 10000-100).
    assert dict(identity.more)["application URI"] == "urn:test:server"


async def test_discovery_tells_endpoints_users_and_certificate(peer: Any) -> None:
    certificate = peer.be(host="plc-7", users=["anonymous", "name"])
    pauses = 0

    async def pause() -> None:
        nonlocal pauses
        pauses += 1

    (found,) = await discover(Target("127.0.0.1", (peer.port,)), pause)

    details = "\n".join(f"{label}: {text}" for label, text in found.details)
    assert pauses == 3
    assert found.port == peer.port
    assert "offers: Basic256Sha256 SignAndEncrypt for anonymous, user name" in details
    assert f"endpoint: opc.tcp://plc-7:{peer.port}/plant: it names another host" in details
    assert f"until {certificate.not_valid_after_utc:%Y-%m-%d}" in details
    assert found.device == {
        "url": f"opc.tcp://127.0.0.1:{peer.port}/plant",
        "security": {"policy": "Aes256_Sha256_RsaPss", "mode": "SignAndEncrypt"},
        "certificates": "pki",
    }


async def test_discovery_finds_nothing_where_nobody_speaks_opc_ua(unused_port: int) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    closing = server.sockets[0].getsockname()[1]

    async with server:
        for ports, why in (((unused_port, closing), "Connection refused"), ((closing,), "closed")):
            with pytest.raises(DeviceUnreachable, match=why):
                await discover(Target("127.0.0.1", ports), lambda: asyncio.sleep(0))


@pytest.mark.parametrize(
    ("code", "name", "unit"),
    [(4408652, "°C", "Cel"), (20529, "%", "%"), (5066068, "mm", "mm"), (-1, "widgets", "widgets"), (77, "x\n", "x")],
)
def test_common_units_are_ucum_and_others_as_shown(code: int, name: str, unit: str) -> None:
    assert ucum("http://www.opcfoundation.org/UA/units/un/cefact", code, name) == unit
