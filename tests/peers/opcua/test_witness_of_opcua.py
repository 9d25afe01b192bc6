"""The witness on asyncua, and the one on node-opcua, at servers on both."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.opcua.settings import OpcuaDevice
from edge.config.validate import settings_from
from edge.errors import ConfigError
from hil.witness import BAD_NO_COMMUNICATION, Seen, reader_of
from tests.peers.opcua.node_opcua import modules
from tests.peers.opcua.plant import BROKEN, EXPECTED, NODES, Server

RECORDED_AS = {"datetime": "int64", "enumeration": "int32"}
TAGS = {name: wanted for name, wanted in EXPECTED.items() if "Setpoint" not in name and name != "Floats[1]"}


def device_at(server: Server, **more: Any) -> OpcuaDevice:
    rows: list[dict[str, Any]] = [
        {"name": name, "address": f"nsu=p;s={name}", "type": kind} for name, (kind, _) in TAGS.items()
    ]
    rows += [
        {"name": "Floats[1]", "address": NODES + "Floats", "type": "float32", "index": 1},
        {"name": "Path", "address": "/Objects/{urn:tidegate:plant}Plant/p:Int16", "type": "int16"},
        {"name": "Broken", "address": NODES + "Broken", "type": "float64"},
        {"name": "Nowhere", "address": NODES + "Nowhere", "type": "float64"},
    ]
    return settings_from(
        OpcuaDevice,
        {"name": "server", "driver": "opcua", "url": f"127.0.0.1:{server.port}/plant", "security": "none",
         "namespaces": {"p": "urn:tidegate:plant"}, "scan_groups": [{"every": "1 s", "tags": rows}], **more},
    )  # fmt: skip


@pytest.mark.parametrize("library", ["asyncua", "node-opcua"])
async def test_every_kind_of_value_is_read(server: Server, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_PATH", str(modules()))

    async with reader_of(device_at(server), library) as reader:
        found: dict[str, Seen] = {seen.tag: seen for seen in await reader.read()}

    assert reader.library.startswith(f"{library} ")
    assert found.pop("Nowhere").status == 0x80340000
    assert found.pop("Broken").status == BROKEN
    values = {name: (seen.type, seen.value, seen.status) for name, seen in found.items()}
    expected = {name: (RECORDED_AS.get(kind, kind), value, 0) for name, (kind, value) in TAGS.items()}
    assert values == {**expected, "Floats[1]": ("float32", 2.5, 0), "Path": ("int16", -16, 0)}
    assert all(seen.source_ns is None or seen.source_ns > 10**18 for seen in found.values())


@pytest.mark.parametrize("own_server", ["asyncua"], indirect=True)
@pytest.mark.parametrize("library", ["asyncua", "node-opcua"])
async def test_a_server_that_is_gone_is_bad(own_server: Server, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_PATH", str(modules()))

    async with reader_of(device_at(own_server), library, ["Int16"]) as reader:
        [before] = await reader.read()
        own_server.end()
        [during] = await reader.read()

    assert (before.value, during.value, during.status) == (-16, None, BAD_NO_COMMUNICATION)


async def test_a_missing_library_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_PATH", "/nowhere")

    with pytest.raises(ConfigError, match="node-opcua is not installed: `npm install node-opcua`"):
        async with reader_of(device_at(server), "node-opcua"):
            pass
