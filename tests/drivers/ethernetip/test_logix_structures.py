"""Structures as a whole where that is cheaper, and never a value of the program before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from drivers.ethernetip import simulator
from drivers.ethernetip.settings import EtherNetIpDevice
from drivers.ethernetip.simulator import LOGIX, MICRO800, Controller, LogixServer
from drivers.ethernetip.simulator.controller import showcase
from edge.model import StatusCode

MakeDevice = Callable[..., EtherNetIpDevice]
MEMBERS = {
    "Ready": simulator.BOOL,
    "Fault": simulator.BOOL,
    "Code": simulator.INT,
    "Speed": simulator.REAL,
    "Total": simulator.LINT,
}
TYPES = {"Ready": "BOOL", "Fault": "BOOL", "Code": "INT", "Speed": "REAL", "Total": "LINT"}
VALUES = {"Ready": True, "Fault": False, "Code": 7, "Speed": 2.5, "Total": -3}


def drives(count: int = 3) -> Controller:
    plc = Controller()
    kind = plc.structure("Drive", MEMBERS)
    plc.tag("Drives", kind[count], [VALUES] * count)
    return plc


def tags_of(count: int = 3) -> list[tuple[str, str]]:
    return [(f"Drives[{index}].{name}", kind) for index in range(count) for name, kind in TYPES.items()]


def reads_of(session: Any, plan: Any) -> list[str]:
    """The reads, without the check for program changes."""
    return [str(read) for packet in session._polls[plan]._packets for read in packet.reads if not read.expected_bytes]


async def until_known(session: Any, plan: Any) -> Any:
    """Scans until nothing more is being looked up."""
    for _ in range(50):
        await session.read(plan)
        if session._background._query is None and len(reads_of(session, plan)) < len(plan.reads):
            return await session.read(plan)
    raise AssertionError(f"still read as {reads_of(session, plan)}")


async def test_members_of_neighbouring_structures_become_one_read(make_device: MakeDevice, client: Any) -> None:
    async with LogixServer(drives()) as server:
        one = client(make_device(tags_of(), port=server.port))
        async with one.driver.connect() as session:
            first = await session.read(one.plan)
            known = await until_known(session, one.plan)
            reads = reads_of(session, one.plan)

    assert one.values(first) == one.values(known) == list(VALUES.values()) * 3
    assert reads == ["Drives[0..2]"]
    assert known.violations == ()


async def test_a_few_members_of_a_large_structure_are_read_alone(make_device: MakeDevice, client: Any) -> None:
    plc = Controller()
    kind = plc.structure("Big", MEMBERS | {"History": simulator.REAL[800]})
    plc.tag("Big", kind, VALUES)
    async with LogixServer(plc) as server:
        one = client(make_device([(f"Big.{name}", kind) for name, kind in TYPES.items()], port=server.port))
        async with one.driver.connect() as session:
            for _ in range(20):
                reading = await session.read(one.plan)
            reads = reads_of(session, one.plan)

    assert one.values(reading) == list(VALUES.values())
    assert len(reads) == 5


async def test_members_are_read_alone_where_the_settings_say_so(make_device: MakeDevice, client: Any) -> None:
    plc = drives()
    async with LogixServer(plc) as server:
        one = client(make_device(tags_of(), port=server.port, limits={"structures": "members"}))
        readings = await one.read(times=10)

    assert one.values(readings[-1]) == list(VALUES.values()) * 3
    assert not any(service == 0x55 for service, _ in plc.services)


async def test_a_structure_larger_than_a_packet_comes_in_fragments(make_device: MakeDevice, client: Any) -> None:
    plc = Controller()
    kind = plc.structure(
        "Trace", {"Points": simulator.REAL[300], "Names": simulator.STRING[4], "Count": simulator.DINT}
    )
    points = [index / 2 for index in range(300)]
    plc.tag("Trace", kind, {"Points": points, "Names": ["a", "b", "c", "d"], "Count": 4})
    tags = [(f"Trace.Points[{3 * index}]", "REAL") for index in range(100)]
    tags += [(f"Trace.Names[{index}]", "STRING") for index in range(4)] + [("Trace.Count", "DINT")]
    async with LogixServer(plc) as server:
        limits = {"connection_bytes": 504, "hole": 0}
        one = client(make_device(tags, port=server.port, limits=limits))
        async with one.driver.connect() as session:
            first = await session.read(one.plan)
            known = await until_known(session, one.plan)
            reads = reads_of(session, one.plan)

    assert reads == ["Trace"]
    assert one.values(first) == one.values(known) == [*points[::3], "a", "b", "c", "d", 4]
    assert plc.services[0x52, None] > 0


async def test_a_long_string_comes_in_fragments(make_device: MakeDevice, client: Any) -> None:
    plc = Controller()
    plc.tag("Report", plc.string("STRING2000", 2000), "x" * 1999 + "y")
    plc.tag("Vials", simulator.DINT, 3)
    tags = [{"address": "Report", "type": "STRING", "length": 2000}, ("Vials", "DINT"), ("Report", "STRING")]
    async with LogixServer(plc) as server:
        one = client(make_device(tags, port=server.port, limits={"connection_bytes": 504}))
        first, second = await one.read(times=2)

    assert one.values(first) == one.values(second) == ["x" * 1999 + "y", 3, StatusCode.BAD_DECODING_ERROR]


async def test_a_reconnect_uploads_no_tag_list(make_device: MakeDevice, client: Any) -> None:
    plc = drives()
    async with LogixServer(plc) as server:
        one = client(make_device(tags_of(), port=server.port))
        async with one.driver.connect() as session:
            await until_known(session, one.plan)
        uploads = plc.services[0x55, 0x6B]
        async with one.driver.connect() as session:
            await until_known(session, one.plan)

    assert uploads > 0
    assert plc.services[0x55, 0x6B] == uploads


async def test_after_a_download_the_new_program_is_read(make_device: MakeDevice, client: Any) -> None:
    """The layout moved, the members are the same: no value is ever taken from its old place."""
    plc = drives()
    async with LogixServer(plc) as server:
        one = client(make_device(tags_of(), port=server.port))
        async with one.driver.connect() as session:
            await until_known(session, one.plan)
            plc.remove("Drives")
            moved = plc.structure("Drive", {"Spare": simulator.LINT} | dict(reversed(MEMBERS.items())))
            plc.tag("Drives", moved[3], [VALUES] * 3)
            plc.download()
            at_once = await session.read(one.plan)
            one.clock.ahead_ns += 6 * 10**9
            later = await until_known(session, one.plan)
            reads = reads_of(session, one.plan)

    assert one.values(at_once) == one.values(later) == list(VALUES.values()) * 3
    assert reads == ["Drives[0..2]"]


async def test_after_a_download_no_value_comes_from_where_another_member_was(
    make_device: MakeDevice, client: Any
) -> None:
    """Members that changed places may have the same handle and size: only the change counters differ."""
    plc = Controller()
    kind = plc.structure("Pair", {"Speed": simulator.REAL, "Flow": simulator.REAL, "Level": simulator.REAL})
    values = {"Speed": 1.0, "Flow": 2.0, "Level": 3.0}
    plc.tag("Pairs", kind[2], [values] * 2)
    tags = [(f"Pairs[{index}].{name}", "REAL") for index in range(2) for name in values]
    async with LogixServer(plc) as server:
        one = client(make_device(tags, port=server.port))
        async with one.driver.connect() as session:
            await until_known(session, one.plan)
            plc.remove("Pairs")
            moved = plc.structure("Pair", {"Level": simulator.REAL, "Flow": simulator.REAL, "Speed": simulator.REAL})
            plc.tag("Pairs", moved[2], [values] * 2)
            plc.download()
            at_once = await session.read(one.plan)
            one.clock.ahead_ns += 6 * 10**9
            later = await until_known(session, one.plan)
            uploads = plc.services[0x55, 0x6B]
        async with one.driver.connect() as session:
            after_reconnect = await until_known(session, one.plan)

    assert moved.handle == kind.handle
    assert one.values(at_once) == one.values(later) == one.values(after_reconnect) == [1.0, 2.0, 3.0] * 2
    assert plc.services[0x55, 0x6B] == uploads


async def test_a_program_that_changes_all_the_time_is_not_looked_up_all_the_time(
    make_device: MakeDevice, client: Any
) -> None:
    """Looking structures up asks a controller for its whole list of tags: once in each `check_changes` at most."""
    plc = drives()
    async with LogixServer(plc) as server:
        one = client(make_device(tags_of(), port=server.port))
        async with one.driver.connect() as session:
            await until_known(session, one.plan)
            uploads = plc.services[0x55, 0x6B]
            readings = []
            for _ in range(100):
                plc.download()
                readings.append(await session.read(one.plan))
                one.clock.ahead_ns += 100 * 10**6

    assert [one.values(reading) for reading in readings] == [list(VALUES.values()) * 3] * 100
    assert plc.services[0x55, 0x6B] - uploads <= 2


async def test_a_controller_without_change_numbers_is_read_by_members(make_device: MakeDevice, client: Any) -> None:
    plc = drives()
    plc.personality = replace(LOGIX, has_programs=False)
    async with LogixServer(plc) as server:
        one = client(make_device(tags_of(), port=server.port))
        readings = await one.read(times=20)

    assert [one.values(reading) for reading in readings] == [list(VALUES.values()) * 3] * 20
    assert (plc.services[0x55, 0x6B], plc.services[0x03, 0xAC]) == (0, 1)


@pytest.mark.parametrize("is_gone", [True, False])
async def test_while_a_download_goes_on_no_layout_counts(
    make_device: MakeDevice, client: Any, *, is_gone: bool
) -> None:
    """The controller has no change numbers then (1756-PM020, How to detect changes)."""
    plc = drives()
    async with LogixServer(plc) as server:
        one = client(make_device(tags_of(), port=server.port))
        async with one.driver.connect() as session:
            await until_known(session, one.plan)
            if is_gone:
                plc.personality = MICRO800
            else:
                plc.attributes[0xAC, 1] = {}
            plc.edition += 1
            during = [await session.read(one.plan) for _ in range(5)]
            reads = reads_of(session, one.plan)
            plc.personality = LOGIX
            plc.attributes.clear()
            plc.edition += 1
            one.clock.ahead_ns += 6 * 10**9
            after = await until_known(session, one.plan)

    assert [one.values(reading) for reading in (*during, after)] == [list(VALUES.values()) * 3] * 6
    assert len(reads) == len(one.plan.reads)


@pytest.mark.parametrize("name", ["TIMER", "an add-on instruction", "a structure with a timer in it"])
async def test_what_the_controller_lays_out_by_rules_of_its_own_is_read_by_members(
    make_device: MakeDevice, client: Any, name: str
) -> None:
    """1756-PM020, Work with data structures: of those, only members are to be read."""
    plc = Controller()
    members = {"PRE": simulator.DINT, "ACC": simulator.DINT, "DN": simulator.BOOL}
    kind = simulator.TIMER if name == "TIMER" else plc.structure("Pump", {"__l01": simulator.DINT, **members})
    if name == "a structure with a timer in it":
        kind = plc.structure("Pump", {**members, "Dwell": simulator.TIMER})
    plc.tag("Pump", kind, {"PRE": 5000, "ACC": 1200, "DN": True})
    async with LogixServer(plc) as server:
        one = client(make_device([("Pump.PRE", "DINT"), ("Pump.ACC", "DINT"), ("Pump.DN", "BOOL")], port=server.port))
        async with one.driver.connect() as session:
            readings = [await session.read(one.plan) for _ in range(20)]
            reads = reads_of(session, one.plan)

    assert [one.values(reading) for reading in readings] == [[5000, 1200, True]] * 20
    assert reads == ["Pump.PRE", "Pump.ACC", "Pump.DN"]


async def test_a_session_lost_while_structures_are_looked_up_is_made_good_by_the_next(
    make_device: MakeDevice, client: Any
) -> None:
    """What is in a structure is learned also where the structure itself was learned before."""
    plc = Controller()
    inner = plc.structure("Inner", dict.fromkeys("abcdef", simulator.REAL))
    plc.tag("Outer", plc.structure("Outer", {"In": inner, "Out": inner}), {"In": {"a": 1.5}})
    tags = [(f"Outer.In.{name}", "REAL") for name in "abcdef"]
    async with LogixServer(plc) as server:
        one = client(make_device(tags, port=server.port))
        for scans in range(1, 8):
            async with one.driver.connect() as session:
                for _ in range(scans):
                    await session.read(one.plan)
        async with one.driver.connect() as session:
            known = await until_known(session, one.plan)
            reads = reads_of(session, one.plan)

    assert one.values(known) == [1.5, 0, 0, 0, 0, 0]
    assert reads == ["Outer.In"]


async def test_a_string_of_another_length_is_bad_in_a_structure_too(make_device: MakeDevice, client: Any) -> None:
    plc = Controller()
    kind = plc.structure(
        "Lot", {"Name": plc.string("STRING20", 20), "A": simulator.LINT, "B": simulator.LINT, "C": simulator.LINT}
    )
    plc.tag("Lot", kind, {"Name": "A-7", "A": 1, "B": 2, "C": 3})
    tags = [("Lot.Name", "STRING"), ("Lot.A", "LINT"), ("Lot.B", "LINT"), ("Lot.C", "LINT")]
    async with LogixServer(plc) as server:
        one = client(make_device(tags, port=server.port))
        readings = await one.read(times=20)

    assert [one.values(reading) for reading in readings] == [[StatusCode.BAD_DECODING_ERROR, 1, 2, 3]] * 20


async def test_a_changed_program_is_noticed_while_polling(make_device: MakeDevice, client: Any) -> None:
    plc = drives()
    async with LogixServer(plc) as server:
        one = client(make_device(tags_of(), port=server.port))
        async with one.driver.connect() as session:
            await until_known(session, one.plan)
            uploads = plc.services[0x55, 0x6B]
            plc.download()
            for _ in range(20):
                reading = await session.read(one.plan)
                one.clock.ahead_ns += 10**9

    assert plc.services[0x55, 0x6B] > uploads
    assert one.values(reading) == list(VALUES.values()) * 3


async def test_a_vanished_member_is_bad_alone(make_device: MakeDevice, client: Any) -> None:
    plc = drives()
    async with LogixServer(plc) as server:
        one = client(make_device(tags_of(), port=server.port))
        async with one.driver.connect() as session:
            await until_known(session, one.plan)
            plc.remove("Drives")
            smaller = plc.structure("Drive", {name: kind for name, kind in MEMBERS.items() if name != "Code"})
            plc.tag("Drives", smaller[3], [{k: v for k, v in VALUES.items() if k != "Code"}] * 3)
            plc.download()
            reading = await session.read(one.plan)

    assert one.values(reading) == [True, False, StatusCode.BAD_ADDRESS, 2.5, -3] * 3


async def test_a_controller_that_lists_nothing_is_read_all_the_same(make_device: MakeDevice, client: Any) -> None:
    plc = drives()

    def refuse(answer: bytes) -> bytes:
        return answer[:46] + b"\xd5\x00\x08\x00" if answer[46:47] == b"\xd5" and answer[0] == 0x70 else answer

    def fix(answer: bytes) -> bytes:
        cut = refuse(answer)
        if cut is answer:
            return answer
        length = len(cut) - 24
        return cut[:2] + length.to_bytes(2, "little") + cut[4:42] + (length - 20).to_bytes(2, "little") + cut[44:]

    plc.distort = fix
    async with LogixServer(plc) as server:
        one = client(make_device(tags_of(), port=server.port))
        readings = await one.read(times=12)

    assert [one.values(reading) for reading in readings] == [list(VALUES.values()) * 3] * 12
    told = [text for reading in readings for text in reading.violations]
    assert ["structures are read member by member" in text for text in told] == [True]


async def test_everything_in_a_showcase_structure_is_the_same_both_ways(make_device: MakeDevice, client: Any) -> None:
    tags = [("Line1.Running", "BOOL"), ("Line1.Lot", "STRING"), ("Line1.Total", "LINT"), ("Line1.Total.3", "BOOL")]
    tags += [
        (f"Line1.Drives[{index}].{name}", kind)
        for index in range(3)
        for name, kind in {"Ready": "BOOL", "Fault": "BOOL", "Code": "INT", "Speed": "REAL"}.items()
    ]
    tags += [(f"Line1.Limits[{index}]", "REAL") for index in range(4)]
    tags += [(f"Line1.Bits[{index}]", "BOOL") for index in range(40)]
    tags += [(f"Program:MainProgram.Lines[1].Drives[{index}].Speed", "REAL") for index in range(3)]
    tags += [
        (f"Dwell.{name}", kind)
        for name, kind in {"PRE": "DINT", "ACC": "DINT", "EN": "BOOL", "TT": "BOOL", "DN": "BOOL"}.items()
    ]
    async with LogixServer(showcase()) as server:
        one = client(make_device(tags, port=server.port))
        async with one.driver.connect() as session:
            first = await session.read(one.plan)
            known = await until_known(session, one.plan)
            reads = reads_of(session, one.plan)

    assert one.values(first) == one.values(known)
    assert (first.status, known.status) == ((), ())
    assert "Line1" in reads
    assert "Dwell.ACC" in reads
