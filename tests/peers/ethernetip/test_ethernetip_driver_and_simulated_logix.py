"""Our driver against the simulated Logix controller, which two other clients agree with, through a proxy."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from drivers.ethernetip import EtherNetIpKind
from drivers.ethernetip.settings import EtherNetIpDevice
from drivers.ethernetip.simulator import BOOL, DINT, INT, REAL, Controller, LogixServer, micro800
from drivers.ethernetip.simulator.controller import crowd, showcase
from drivers.ethernetip.simulator.wire import asked_in, is_reading
from edge.clock import SystemClock
from edge.config.validate import settings_from
from edge.errors import DeviceRefused, DeviceUnreachable
from edge.model import Quality, StatusCode, quality_of, status_codes
from edge.testing.proxy import RecordingProxy

Tags = list[tuple[str, str]]
Open = Callable[..., Any]

KINDS: list[tuple[str, str, object]] = [
    ("Running", "BOOL", True), ("Small", "SINT", -5), ("Count", "INT", -1234), ("Vials", "DINT", 70_000),
    ("Vials.4", "BOOL", True), ("Vials.0", "BOOL", False), ("Total", "LINT", 1 << 40), ("Volume", "LREAL", 1.5),
    ("Mask", "UDINT", 0x80000001), ("Samples[99]", "REAL", 24.75), ("Grid[1,2,3]", "INT", 23),
    ("Alarms[3]", "BOOL", True), ("Alarms[32]", "BOOL", False), ("Alarms[63]", "BOOL", True),
    ("Recipe", "STRING", "LOT-2041-A"), ("Dwell.ACC", "DINT", 1200), ("Dwell.TT", "BOOL", True),
    ("Dwell.DN", "BOOL", False), ("Line1.Running", "BOOL", True), ("Line1.Lot", "STRING", "A-7"),
    ("Line1.Drives[2].Speed", "REAL", 21.0), ("Line1.Drives[1].Code", "INT", 1), ("Line1.Limits[3]", "REAL", 4.0),
    ("Line1.Total", "LINT", -9), ("Line1.Bits[39]", "BOOL", True), ("Program:MainProgram.Step", "DINT", 12),
    ("Program:MainProgram.Lines[1].Drives[0].Code", "INT", 0), ("Guarded", "DINT", 1), ("Shortcut", "DINT", 70_000),
]  # fmt: skip


def device_at(port: int, tags: Tags, **more: Any) -> EtherNetIpDevice:
    rows = [{"name": f"t{at}", "address": address, "type": kind} for at, (address, kind) in enumerate(tags)]
    return settings_from(EtherNetIpDevice,
        {"name": "plc", "driver": "ethernetip", "host": "127.0.0.1", "port": port,
         "scan_groups": [{"every": "1 s", "tags": rows}], **more}
    )  # fmt: skip


def by_address(plan: Any, tags: Any, reading: Any) -> dict[str, Any]:
    """Values of the tags that are good, by address."""
    codes = status_codes(reading.status, len(plan.layout))
    return {
        tag.address: reading.vectors[vector][at].item() if tag.type != "STRING" else reading.vectors[vector][at]
        for tag, (vector, at), code in zip(tags, plan.layout.slots, codes, strict=True)
        if not code
    }


@pytest.fixture
def plc() -> Controller:
    return showcase()


@pytest.fixture
async def peer(plc: Controller) -> AsyncIterator[RecordingProxy]:
    async with LogixServer(plc) as server, RecordingProxy("127.0.0.1", server.port) as proxy:
        yield proxy
        for recording in proxy.recordings:
            assert [asked for asked in asked_in(bytes(recording.sent)) if not is_reading(asked)] == []
    assert plc.writes_asked == 0


async def read(device: EtherNetIpDevice, times: int = 1, told: int = 0) -> list[dict[str, Any]]:
    """Values of so many readings, of which the first has so many violations, and the others have none."""
    driver = EtherNetIpKind().driver(device, SystemClock())
    tags = device.scan_groups[0].tags
    plan = driver.plan(tags)
    async with driver.connect() as session:
        readings = [await session.read(plan) for _ in range(times)]
    assert [len(reading.violations) for reading in readings] == [told, *[0] * (times - 1)]
    return [by_address(plan, tags, reading) for reading in readings]


@pytest.mark.parametrize(
    "more",
    [{}, {"limits": {"structures": "members"}}, {"limits": {"connection_bytes": 504}}, {"messaging": "unconnected"}],
    ids=["large connection", "members", "small connection", "unconnected"],
)
async def test_every_kind_of_tag_is_read(peer: RecordingProxy, more: dict[str, Any]) -> None:
    device = device_at(peer.port, [(address, kind) for address, kind, _ in KINDS], **more)

    for values in await read(device, times=4):
        assert values == {address: value for address, _, value in KINDS}


async def test_a_moving_value_moves(plc: Controller, peer: RecordingProxy) -> None:
    served: list[int] = []
    plc["Vials"] = lambda elapsed_s: served.append(len(served)) or len(served)

    first, second = await read(device_at(peer.port, [("Vials", "DINT"), ("Count", "INT")]), times=2)

    assert first["Vials"] < second["Vials"]
    assert first["Count"] == second["Count"] == -1234


@pytest.mark.parametrize("is_large_refused", [False, True])
async def test_a_long_array_is_read_whatever_the_connection(
    plc: Controller, peer: RecordingProxy, is_large_refused: bool
) -> None:
    plc.is_large_refused = is_large_refused

    [values] = await read(device_at(peer.port, [("Long[0..4999]", "DINT")]))

    assert list(values.values()) == list(range(5000))


async def test_a_controller_grants_what_it_can(plc: Controller, peer: RecordingProxy) -> None:
    plc.connection_bytes_most = 1400

    [values] = await read(device_at(peer.port, [("Long[0..999]", "DINT")]))

    assert list(values.values()) == list(range(1000))


async def test_five_hundred_tags_come_in_few_packets() -> None:
    plc = crowd(500)
    tags = [(f"Tag{at:04d}", ("REAL", "DINT", "BOOL")[at % 3]) for at in range(500)]
    async with LogixServer(plc) as server:
        [values] = await read(device_at(server.port, tags))

    assert [values[f"Tag{at:04d}"] for at in range(500)] == [
        bool(at) if at % 3 == 2 else float(at) if at % 3 == 0 else at for at in range(500)
    ]
    assert plc.services[0x0A, 2] <= 4
    assert plc.writes_asked == 0


async def test_a_tag_that_is_refused_is_bad_alone(plc: Controller, peer: RecordingProxy) -> None:
    plc.fail("Count", 0x0F)
    plc.tag("Secret", DINT, 1, access=3)
    tags = [("Vials", "DINT"), ("Count", "INT"), ("Nope", "DINT"), ("Secret", "DINT"),
            ("Samples[100]", "REAL"), ("Small", "SINT")]  # fmt: skip

    values, again = await read(device_at(peer.port, tags), times=2, told=4)

    assert values == again == {"Vials": 70_000, "Small": -5}


async def test_a_download_takes_a_tag_away_and_brings_it_back(plc: Controller, peer: RecordingProxy) -> None:
    """Numbers of tags move at a download: no value may be taken for another's."""
    addresses = ["Vials", "Count", "Line1.Total", "Line1.Drives[1].Code", "Line1.Limits[0]"]
    device = device_at(
        peer.port, list(zip(addresses, ["DINT", "INT", "LINT", "INT", "REAL"], strict=True)),
        limits={"check_changes": "1 ms"},
    )  # fmt: skip
    driver = EtherNetIpKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)
    expected = dict(zip(addresses, [70_000, -1234, -9, 1, 1.0], strict=True))

    async with driver.connect() as session:

        async def now() -> dict[str, Any]:
            return by_address(plan, device.scan_groups[0].tags, await session.read(plan))

        settled = [await now() for _ in range(10)]
        plc.remove("Vials")
        plc.download()
        gone = [await now() for _ in range(10)]
        plc.tag("Vials", DINT, 5)
        plc.download()
        back = [await now() for _ in range(10)]

    without = {address: value for address, value in expected.items() if address != "Vials"}
    assert settled == [expected] * 10
    assert all(values.items() <= without.items() for values in gone)
    assert gone[-1] == without
    assert all(values.items() <= {**expected, "Vials": 5}.items() for values in back)
    assert back[-1] == {**expected, "Vials": 5}


async def test_a_structure_that_changed_is_never_read_as_it_was(plc: Controller, peer: RecordingProxy) -> None:
    """A download with another layout behind the same names: a value is right, or BAD."""
    names = ["A", "B", "C", "D"]
    plc.tag("S", plc.structure("Shape", dict.fromkeys(names, DINT)), dict(zip(names, range(1, 5), strict=True)))
    device = device_at(peer.port, [(f"S.{name}", "DINT") for name in names], limits={"check_changes": "1 ms"})
    driver = EtherNetIpKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)
    expected = {f"S.{name}": at for at, name in enumerate(names, 1)}

    async with driver.connect() as session:
        before = [by_address(plan, device.scan_groups[0].tags, await session.read(plan)) for _ in range(10)]
        plc.remove("S")
        turned = plc.structure("Shape", dict.fromkeys(reversed(names), DINT))
        plc.tag("S", turned, dict(zip(names, range(1, 5), strict=True)))
        plc.download()
        after = [by_address(plan, device.scan_groups[0].tags, await session.read(plan)) for _ in range(10)]

    assert before == [expected] * 10
    assert all(values.items() <= expected.items() for values in after)
    assert after[-1] == expected


async def test_attributes_are_read_beside_tags(plc: Controller, peer: RecordingProxy) -> None:
    plc.attribute(0x93, 1, 3, struct.pack("<h", -600))

    [values] = await read(device_at(peer.port, [("cip 0x93/1/3", "INT"), ("cip 1/1/1", "UINT"), ("Vials", "DINT")]))

    assert list(values.values()) == [-600, 1, 70_000]


async def test_a_drive_has_attributes_only(plc: Controller, peer: RecordingProxy) -> None:
    plc.attribute(0x93, 1, 3, struct.pack("<h", -600))

    [values] = await read(device_at(peer.port, [("cip 0x93/1/3", "INT")], family="generic"))

    assert list(values.values()) == [-600]


async def test_a_micro800_is_read() -> None:
    plc = micro800()
    plc.tag("Level", REAL, 1.5)
    plc.tag("Rows", INT[10], list(range(10)))
    plc.tag("On", BOOL, True)

    async with LogixServer(plc) as server:
        tags = [("Level", "REAL"), ("Rows[0..9]", "INT"), ("On", "BOOL")]
        values, again = await read(device_at(server.port, tags, family="micro800"), times=2)

    assert values == again
    assert [values["Level"], values["On"], values["Rows[9]"]] == [1.5, True, 9]
    assert plc.writes_asked == 0


async def test_it_says_who_it_is(peer: RecordingProxy) -> None:
    device = device_at(peer.port, [("Vials", "DINT")])

    async with EtherNetIpKind().driver(device, SystemClock()).connect() as session:
        identity = await session.identity()

    assert (identity.product, identity.firmware, identity.serial.lower()) == ("1756-L83E/B", "33.11", "00c0ffee")
    assert identity.vendor.startswith("Rockwell")


# What goes wrong.


async def test_a_full_controller_refuses_whoever_insists(plc: Controller, peer: RecordingProxy) -> None:
    plc.connections_limit = 0

    with pytest.raises(DeviceRefused, match="no connection left"):
        await read(device_at(peer.port, [("Vials", "DINT")], messaging="connected"))


async def test_a_wrong_slot_is_said(peer: RecordingProxy) -> None:
    with pytest.raises((DeviceRefused, DeviceUnreachable), match="slot"):
        await read(device_at(peer.port, [("Vials", "DINT")], slot=5))


@pytest.mark.parametrize("how", ["silence", "cut", "forget_connections"])
async def test_a_lost_controller_is_noticed_and_found_again(plc: Controller, peer: RecordingProxy, how: str) -> None:
    device = device_at(peer.port, [("Vials", "DINT")], limits={"timeout": "200 ms"})
    driver = EtherNetIpKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)

    async with driver.connect() as session:
        await session.read(plan)
        getattr(plc, how)()
        with pytest.raises(DeviceUnreachable):
            await session.read(plan)
    plc.resume()

    async with driver.connect() as session:
        reading = await session.read(plan)
    assert reading.status == ()
    assert reading.vectors[0].tolist() == [70_000]


async def test_every_session_is_closed_as_it_was_opened(plc: Controller, peer: RecordingProxy) -> None:
    plc.connections_limit = 1
    device = device_at(peer.port, [("Vials", "DINT")])

    for _ in range(5):
        assert await read(device) == [{"Vials": 70_000}]

    assert plc.services[0x4E, 6] == 5


async def test_statuses_say_what_to_do(plc: Controller, peer: RecordingProxy) -> None:
    device = device_at(peer.port, [("Nope", "DINT"), ("Volume", "DINT")])
    driver = EtherNetIpKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)

    async with driver.connect() as session:
        reading = await session.read(plan)

    codes = status_codes(reading.status, 2)
    assert codes[0] == StatusCode.BAD_ADDRESS
    assert quality_of(int(codes[1])) is Quality.BAD
    assert any("LREAL" in told for told in reading.violations)
