"""The driver against the simulated controller, over real TCP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from drivers.ethernetip import simulator
from drivers.ethernetip.browse import discover
from drivers.ethernetip.settings import EtherNetIpDevice
from drivers.ethernetip.simulator import Controller, Identity, LogixServer, micro800
from drivers.ethernetip.simulator.controller import showcase
from edge.errors import DeviceRefused, DeviceUnreachable
from edge.model import StatusCode, status_codes
from edge.scan import DeviceClockMonitor
from edge.testing.proxy import RecordingProxy
from tests.support.subjects.ethernetip import services_of

MakeDevice = Callable[..., EtherNetIpDevice]
EVERYTHING: list[tuple[str, str, Any]] = [
    ("Running", "BOOL", True),
    ("Small", "SINT", -5),
    ("Count", "INT", -1234),
    ("Vials", "DINT", 70_000),
    ("Total", "LINT", 1 << 40),
    ("Volume", "LREAL", 1.5),
    ("Mask", "UDINT", 0x80000001),
    ("Samples[3]", "REAL", 0.75),
    ("Samples[99]", "REAL", 24.75),
    ("Grid[1,2,3]", "INT", 23),
    ("Alarms[33]", "BOOL", True),
    ("Alarms[34]", "BOOL", False),
    ("Recipe", "STRING", "LOT-2041-A"),
    ("Dwell.ACC", "DINT", 1200),
    ("Dwell.EN", "BOOL", True),
    ("Dwell.DN", "BOOL", False),
    ("Line1.Lot", "STRING", "A-7"),
    ("Line1.Drives[2].Speed", "REAL", 21.0),
    ("Line1.Bits[39]", "BOOL", True),
    ("Program:MainProgram.Step", "DINT", 12),
    ("program:mainprogram.STEP.2", "BOOL", True),
    ("Mask.31", "BOOL", True),
    ("Small.7", "BOOL", True),
    ("Shortcut", "DINT", 70_000),
    ("cip 1/1/7", "STRING", "1756-L83E/B"),
    ("cip 1/1/6", "UDINT", 0x00C0FFEE),
]


@pytest.mark.requirement("REQ-TYPE-01")
@pytest.mark.parametrize("size", [4002, 504, 200])
async def test_a_scan_reads_every_kind_of_tag(make_device: MakeDevice, client: Any, size: int) -> None:
    plc = showcase()
    async with LogixServer(plc) as server:
        device = make_device(
            [(address, kind) for address, kind, _ in EVERYTHING], port=server.port, limits={"connection_bytes": size}
        )
        one = client(device)
        readings = await one.read(times=12)

    assert [one.values(reading) for reading in readings] == [[value for *_, value in EVERYTHING]] * 12
    assert all(reading.violations == () for reading in readings)
    assert plc.writes_asked == 0


async def test_an_unchanged_scan_hands_out_the_same_vectors(make_device: MakeDevice, client: Any) -> None:
    """An unchanged scan can be recognised by identity."""
    plc = showcase()
    async with LogixServer(plc) as server:
        one = client(make_device([("Vials", "DINT"), ("Volume", "LREAL")], port=server.port))
        async with one.driver.connect() as session:
            first, same = await session.read(one.plan), await session.read(one.plan)
            plc["Vials"] = 8
            moved = await session.read(one.plan)

    assert first.vectors is same.vectors
    assert one.values(first) == [70_000, 1.5]
    assert one.values(moved) == [8, 1.5]


async def test_timeouts_are_checked_on_tenths_so_that_those_of_all_controllers_coincide(
    make_device: MakeDevice, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wake-up for each controller costs more than the scan that it watches."""
    loop, checks = asyncio.get_running_loop(), []
    call_at = loop.call_at
    monkeypatch.setattr(
        loop, "call_at", lambda when, *call, **more: (checks.append((when, call[0])), call_at(when, *call, **more))[1]
    )
    async with LogixServer(showcase()) as server:
        await client(make_device([("Vials", "DINT")], port=server.port, limits={"timeout": "2 s"})).read(times=12)

    tenths = [when / 0.2 for when, check in checks if "deadline" in check.__name__]
    assert tenths == pytest.approx([round(tenth) for tenth in tenths], rel=0, abs=1e-6)
    assert 1 <= len(tenths) <= 6  # For the requests of a connection together; it is opened a few times.


async def test_what_is_wrong_is_bad_alone_and_told_once(make_device: MakeDevice, client: Any) -> None:
    tags = [("Vials", "DINT"), ("Nowhere", "DINT"), ("Vials", "REAL"), ("Samples[100]", "REAL"), ("Small.9", "BOOL"),
            ("Line1", "DINT"), ("cip 1/1/99", "UINT"), ("Running", "BOOL")]  # fmt: skip
    async with LogixServer(showcase()) as server:
        one = client(make_device(tags, port=server.port))
        first, second = await one.read(times=2)

    missing, wrong = StatusCode.BAD_ADDRESS, StatusCode.BAD_DECODING_ERROR
    expected = [70_000, missing, wrong, missing, wrong, wrong, missing, True]
    assert one.values(first) == one.values(second) == expected
    assert any("Vials is DINT on the controller, not REAL; correct its type" in text for text in first.violations)
    assert any("Small is SINT, which has no bit 9" in text for text in first.violations)
    assert second.violations == ()


async def test_one_element_beyond_the_end_costs_its_neighbours_nothing(make_device: MakeDevice, client: Any) -> None:
    async with LogixServer(showcase()) as server:
        one = client(make_device([(f"Samples[{index}]", "REAL") for index in range(96, 102)], port=server.port))
        (reading,) = await one.read()

    assert one.values(reading) == [24.0, 24.25, 24.5, 24.75, StatusCode.BAD_ADDRESS, StatusCode.BAD_ADDRESS]


async def test_what_is_refused_together_for_a_while_is_asked_together_again(
    make_device: MakeDevice, client: Any
) -> None:
    """While a controller is busy it refuses everything: that must not make a thousand requests of ten for good."""
    plc = showcase()
    async with LogixServer(plc) as server:
        one = client(make_device([(f"Samples[{index}]", "REAL") for index in range(100)], port=server.port))
        async with one.driver.connect() as session:
            plc.fail("Samples", 0x10)
            busy = await session.read(one.plan)
            plc.fail("Samples", 0)
            well = [await session.read(one.plan) for _ in range(2)][-1]
            split = len(session._polls[one.plan]._reads)
            one.clock.ahead_ns += 11 * 10**9
            later = await session.read(one.plan)
            unsplit = len(session._polls[one.plan]._reads)

    assert set(one.values(busy)) == {StatusCode.BAD_DEVICE_FAILURE}
    assert one.values(well) == one.values(later) == [index / 4 for index in range(100)]
    assert (split, unsplit) == (100, 1)


async def test_an_element_beyond_the_end_of_a_row_is_not_one_of_the_next_row(
    make_device: MakeDevice, client: Any
) -> None:
    """A controller that is asked for several elements goes on in the next row."""
    async with LogixServer(showcase()) as server:
        one = client(make_device([(f"Grid[0,0,{index}]", "INT") for index in range(6)], port=server.port))
        (reading,) = await one.read()

    assert one.values(reading) == [0, 1, 2, 3, StatusCode.BAD_ADDRESS, StatusCode.BAD_ADDRESS]


async def test_a_bit_that_is_not_there_costs_the_others_of_its_word_nothing(
    make_device: MakeDevice, client: Any
) -> None:
    async with LogixServer(showcase()) as server:
        one = client(make_device([("Small.0", "BOOL"), ("Small.9", "BOOL"), ("Small.15", "BOOL")], port=server.port))
        (reading,) = await one.read()

    assert one.values(reading) == [True, StatusCode.BAD_DECODING_ERROR, StatusCode.BAD_DECODING_ERROR]
    assert ["which has no bit 9, 15" in text for text in reading.violations] == [True]


async def test_a_failing_tag_keeps_the_good_ones_and_comes_back(make_device: MakeDevice, client: Any) -> None:
    plc = showcase()
    async with LogixServer(plc) as server:
        one = client(make_device([("Vials", "DINT"), ("Count", "INT")], port=server.port))
        async with one.driver.connect() as session:
            plc.fail("Vials", 0x10)
            failed = await session.read(one.plan)
            plc.fail("Vials", 0)
            back = await session.read(one.plan)

    assert one.values(failed) == [StatusCode.BAD_DEVICE_FAILURE, -1234]
    assert ["CIP status 0x10" in text for text in failed.violations] == [True]
    assert one.values(back) == [70_000, -1234]


async def test_a_vanished_tag_is_bad_and_comes_back(make_device: MakeDevice, client: Any) -> None:
    plc = showcase()
    async with LogixServer(plc) as server:
        one = client(make_device([("Vials", "DINT"), ("Count", "INT")], port=server.port))
        async with one.driver.connect() as session:
            await session.read(one.plan)
            plc.remove("Vials")
            plc.download()
            gone = await session.read(one.plan)
            plc.tag("Vials", simulator.DINT, 5)
            plc.download()
            back = await session.read(one.plan)
            plc.remove("Vials")
            plc.tag("Vials", simulator.REAL, 5.5)
            plc.download()
            other = await session.read(one.plan)

    assert one.values(gone) == [StatusCode.BAD_ADDRESS, -1234]
    assert one.values(back) == [5, -1234]
    assert one.values(other) == [StatusCode.BAD_DECODING_ERROR, -1234]


async def test_many_tags_go_in_few_packets(make_device: MakeDevice, client: Any) -> None:
    plc = Controller()
    for number in range(500):
        plc.tag(f"Tank_{number:03d}", simulator.REAL, number)
    async with LogixServer(plc) as server:
        one = client(make_device([(f"Tank_{number:03d}", "REAL") for number in range(500)], port=server.port))
        (reading,) = await one.read()

    packets = sum(count for (service, _), count in plc.services.items() if service == 0x0A)
    assert one.values(reading) == list(range(500))
    assert packets == one.plan.cost().requests == 3


async def test_a_controller_without_large_connections_is_asked_in_smaller_packets(
    make_device: MakeDevice, client: Any
) -> None:
    plc = showcase()
    plc.is_large_refused = True
    async with LogixServer(plc) as server:
        one = client(make_device([(f"Long[{20 * index}]", "DINT") for index in range(100)], port=server.port))
        (reading,) = await one.read()

    assert one.values(reading) == [20 * index for index in range(100)]


async def test_a_micro800_is_read_one_by_one(make_device: MakeDevice, client: Any) -> None:
    plc = micro800()
    plc.tag("Level", simulator.REAL, 1.5)
    plc.tag("Count", simulator.DINT, 7)
    async with LogixServer(plc) as server:
        one = client(make_device([("Level", "REAL"), ("Count", "DINT")], port=server.port, family="micro800"))
        (reading,) = await one.read()
        async with one.driver.connect() as session:
            listed = await session.browse("")

    assert one.values(reading) == [1.5, 7]
    assert {entry.name for entry in listed} == {"Level", "Count"}
    assert plc.writes_asked == 0


async def test_a_device_that_takes_no_packets_is_found_out(make_device: MakeDevice, client: Any) -> None:
    plc = micro800()
    plc.tag("Level", simulator.REAL, 1.5)
    plc.tag("Count", simulator.DINT, 7)
    async with LogixServer(plc) as server:
        one = client(make_device([("Level", "REAL"), ("Count", "DINT")], port=server.port, route="1,0"))
        one.driver._device.__dict__["parsed_route"] = ()
        (reading,) = await one.read()

    assert one.values(reading) == [1.5, 7]


async def test_a_drive_is_read_by_its_attributes(make_device: MakeDevice, client: Any) -> None:
    plc = Controller()
    plc.attribute(0x2A, 1, 7, (1500).to_bytes(2, "little"))
    plc.attribute(0x93, 12, 9, b"\xfe\xff\xff\xff")
    tags = [("cip 0x2A/1/7", "INT"), ("cip 0x93/12/9", "DINT"), ("cip 0x93/13/9", "DINT"), ("cip 0x2A/1/7", "DINT")]
    async with LogixServer(plc) as server:
        one = client(make_device(tags, port=server.port, family="generic"))
        (reading,) = await one.read()
        routed = client(make_device(tags, port=server.port, family="generic", route="1,0"))
        (same,) = await routed.read()

    expected = [1500, -2, StatusCode.BAD_ADDRESS, StatusCode.BAD_DECODING_ERROR]
    assert one.values(reading) == routed.values(same) == expected


async def test_a_wrong_slot_is_unreachable_with_a_hint(make_device: MakeDevice, client: Any) -> None:
    async with LogixServer(showcase()) as server:
        for settings in ({}, {"messaging": "unconnected"}):
            one = client(make_device([("Vials", "DINT")], port=server.port, slot=3, **settings))
            with pytest.raises(DeviceUnreachable, match=r"slot|route"):
                await one.read()


async def test_a_refusal_of_a_large_connection_is_followed_by_a_small_one(make_device: MakeDevice, client: Any) -> None:
    """A module on the way that knows no large ones says so in words of its own."""
    plc = showcase()

    def refuse_large(answer: bytes) -> bytes:
        if answer[40:41] != b"\xdb":
            return answer
        body = bytes.fromhex("db 00 01 01 15 03") + answer[-10:]  # Segment not valid.
        size = 16 + len(body)
        return answer[:2] + size.to_bytes(2, "little") + answer[4:38] + len(body).to_bytes(2, "little") + body

    plc.distort = refuse_large
    async with LogixServer(plc) as server:
        one = client(make_device([("Vials", "DINT")], port=server.port))
        (reading,) = await one.read()

    assert one.values(reading) == [70_000]
    assert (plc.services[0x5B, 6], plc.services[0x54, 6]) == (1, 1)


@pytest.mark.parametrize("status", ["02 00", "01 01 04 02", "08 00"])
async def test_a_route_that_breaks_is_no_violation_of_the_device_behind_it(
    make_device: MakeDevice, client: Any, status: str
) -> None:
    plc = showcase()

    def refuse(answer: bytes) -> bytes:
        if answer[0] != 0x6F:
            return answer
        body = b"\xd2\x00" + bytes.fromhex(status)
        size = 16 + len(body)
        return answer[:2] + size.to_bytes(2, "little") + answer[4:38] + len(body).to_bytes(2, "little") + body

    async with LogixServer(plc) as server:
        one = client(make_device([("Vials", "DINT")], port=server.port, messaging="unconnected"))
        async with one.driver.connect() as session:
            plc.distort = refuse
            with pytest.raises(DeviceUnreachable, match="cannot reach the device on the route"):
                await session.read(one.plan)


async def test_a_full_controller_is_read_without_a_connection_and_says_why(
    make_device: MakeDevice, client: Any
) -> None:
    plc = showcase()
    plc.connections_limit = 1
    async with LogixServer(plc) as server:
        one = client(make_device([("Vials", "DINT")], port=server.port))
        async with one.driver.connect() as session:
            other = client(make_device([("Vials", "DINT")], port=server.port))
            unconnected, *_ = await other.read()
            insists = client(make_device([("Vials", "DINT")], port=server.port, messaging="connected"))
            with pytest.raises(DeviceRefused, match="has no connection left"):
                await insists.read()
            await session.read(one.plan)
        (again,) = await other.read()

    assert other.values(unconnected) == other.values(again) == [70_000]
    assert "is read without one: it has no connection left" in unconnected.violations[0]
    assert again.violations == ()


async def test_a_silent_controller_is_unreachable(make_device: MakeDevice, client: Any) -> None:
    plc = showcase()
    async with LogixServer(plc) as server:
        one = client(make_device([("Vials", "DINT")], port=server.port, limits={"timeout": "50 ms"}))
        async with one.driver.connect() as session:
            plc.silence()
            with pytest.raises(DeviceUnreachable, match=r"did not answer within 0\.05 s"):
                await session.read(one.plan)


async def test_the_answer_to_a_cancelled_scan_is_never_taken_for_the_next(make_device: MakeDevice, client: Any) -> None:
    plc = showcase()
    async with LogixServer(plc) as server:
        one = client(make_device([("Vials", "DINT")], port=server.port))
        async with one.driver.connect() as session:
            await session.read(one.plan)
            answered = asyncio.Event()

            def note(answer: bytes) -> bytes:
                answered.set()
                return answer

            plc.distort, plc.answer_late_s = note, 0.05
            cancelled = asyncio.create_task(session.read(one.plan))
            await answered.wait()
            cancelled.cancel()
            await asyncio.wait([cancelled])
            plc["Vials"] = 9
            reading = await session.read(one.plan)

    assert one.values(reading) == [9]


async def test_a_pause_lies_between_requests(make_device: MakeDevice, client: Any) -> None:
    async with LogixServer(showcase()) as server:
        limits = {"gap": "20 ms", "connection_bytes": 200}
        device = make_device([(f"Long[{20 * index}]", "DINT") for index in range(20)], port=server.port, limits=limits)
        one = client(device)
        (reading,) = await one.read()

    assert one.values(reading) == [20 * index for index in range(20)]
    assert reading.answered_at_ns - reading.asked_at_ns >= (one.plan.cost().requests - 1) * 19 * 10**6


async def test_the_device_tells_the_time_now_and_then(make_device: MakeDevice, client: Any) -> None:
    plc = showcase()
    plc.time_offset_us = 90 * 10**6
    async with LogixServer(plc) as server:
        one = client(make_device([("Vials", "DINT")], port=server.port, clock_limit="1 s"))
        async with one.driver.connect() as session:
            readings = [await session.read(one.plan) for _ in range(3)]
            one.clock.ahead_ns += 61 * 10**9
            later = await session.read(one.plan)
        silent = client(make_device([("Vials", "DINT")], port=server.port))
        (untold,) = await silent.read()

    told = [reading.device_time_ns is not None for reading in (*readings, later, untold)]
    assert told == [True, False, False, True, False]
    assert readings[0].device_time_ns - one.clock.utc_ns() > 80 * 10**9


async def test_the_time_of_a_device_is_known_as_well_as_the_question_for_it_was_short(
    make_device: MakeDevice, client: Any
) -> None:
    """It is asked for after the values, and may take longer than they did."""
    plc = showcase()
    plc.time_offset_us = 90 * 10**6

    def late(answer: bytes) -> bytes:
        if b"\x01\x00\x06\x00\x00\x00" in answer:
            read_ns = time.monotonic_ns()
            while time.monotonic_ns() < read_ns + 50 * 10**6:  # The device reads its clock, and answers late.
                pass
        return answer

    plc.distort = late
    async with LogixServer(plc) as server:
        one = client(make_device([("Vials", "DINT")], port=server.port, clock_limit="1 s"))
        (reading,) = await one.read()
    monitor = DeviceClockMonitor(10**9, lambda boot_ns: boot_ns + one.clock.utc_ns() - one.clock.boot_ns())
    event = monitor.check(reading)

    assert event is not None
    assert event["state"] == "off"
    assert monitor.off_ns is not None
    assert monitor.unsure_ns >= 25 * 10**6
    assert abs(monitor.off_ns - 90 * 10**9) <= monitor.unsure_ns


async def test_controllers_found_before_a_slot_is_silent_are_told() -> None:
    """A chassis with a controller in slot 0, and a module in slot 2 that never answers."""
    plc = Controller(identity=Identity(device_type=12, product="1756-EN2T"))
    slots = 0

    def as_chassis(answer: bytes) -> bytes | None:
        nonlocal slots
        if answer[0] != 0x6F:
            return answer
        slots += 1
        return None if slots == 3 else answer.replace(b"\x01\x00\x0c\x00", b"\x01\x00\x0e\x00", 1)

    plc.distort = as_chassis
    pauses = 0

    async def pause() -> None:
        nonlocal pauses
        pauses += 1

    async with LogixServer(plc) as server:
        found = await discover("127.0.0.1", pause, server.port)

    here = {"host": "127.0.0.1", "port": server.port}
    assert [one.device for one in found] == [here, {**here, "slot": 0}]
    assert pauses == 2 + 3


@pytest.mark.requirement("REQ-SAFE-01")
async def test_only_reading_services_cross_the_wire(make_device: MakeDevice, client: Any) -> None:
    """Over everything that the driver does."""
    async with LogixServer(showcase()) as server, RecordingProxy("127.0.0.1", server.port) as proxy:
        tags = [(address, kind) for address, kind, _ in EVERYTHING]
        one = client(make_device(tags, port=proxy.port, clock_limit="1 s", limits={"connection_bytes": 300}))
        async with one.driver.connect() as session:
            await session.identity()
            for _ in range(12):
                await session.read(one.plan)
            for path in ("", "Line1", "Line1.Drives[1]", "Program:MainProgram"):
                await session.browse(path)
        drive = client(make_device([("cip 1/1/6", "UDINT")], port=proxy.port, family="generic", route="1,0"))
        await drive.read()

    asked = {name for recording in proxy.recordings for name in services_of(bytes(recording.sent))}
    assert asked == {
        "REGISTER_SESSION", "UNREGISTER_SESSION", "FORWARD_OPEN", "FORWARD_CLOSE", "UNCONNECTED_SEND",
        "MULTIPLE_SERVICE_PACKET", "READ_TAG", "GET_ATTRIBUTE_SINGLE", "GET_ATTRIBUTE_LIST", "GET_ATTRIBUTES_ALL",
        "GET_INSTANCE_ATTRIBUTE_LIST",
    }  # fmt: skip


async def test_a_browse_shows_types_values_and_what_to_write(make_device: MakeDevice, client: Any) -> None:
    async with LogixServer(showcase()) as server:
        one = client(make_device([("Vials", "DINT")], port=server.port))
        async with one.driver.connect() as session:
            top = {entry.name: entry for entry in await session.browse("")}
            line = {entry.name: entry for entry in await session.browse("Line1")}
            drives = await session.browse("Line1.Drives")
            alarms = await session.browse("Alarms")
            program = {entry.name: entry for entry in await session.browse("Program:MainProgram")}
            for path in ("Nowhere", "Vials", "Line1.Nowhere", "Line1.Drives[9]", "Vials.3", "Program:",
                         "Program:Füller", "Program:" + "a" * 300, "Program:Nowhere"):  # fmt: skip
                with pytest.raises(LookupError):
                    await session.browse(path)

    assert (top["Vials"].type, top["Vials"].value, top["Vials"].path) == ("DINT", "70000", "")
    assert top["Operator"].tag == {"address": "Operator", "type": "STRING", "length": 20}
    assert top["Samples"].type == "REAL[100]"
    assert (top["Line1"].type, top["Line1"].path, top["Line1"].tag) == ("Line", "Line1", {})
    assert top["Program:MainProgram"].path == "Program:MainProgram"
    assert line["Lot"].value == "A-7"
    assert [entry.path for entry in drives] == [f"Line1.Drives[{index}]" for index in range(3)]
    assert [entry.value for entry in alarms][:4] == ["true", "false", "false", "true"]
    assert len(alarms) == 64
    assert program["Step"].tag["address"] == "Program:MainProgram.Step"


async def test_the_identity_is_the_controllers(make_device: MakeDevice, client: Any) -> None:
    async with LogixServer(showcase()) as server:
        one = client(make_device([("Vials", "DINT")], port=server.port))
        async with one.driver.connect() as session:
            identity = await session.identity()

    assert (identity.vendor, identity.product, identity.firmware, identity.serial) == (
        "Rockwell Automation/Allen-Bradley", "1756-L83E/B", "33.11", "00C0FFEE",
    )  # fmt: skip
    assert ("keyswitch", "remote run") in identity.more


@pytest.mark.parametrize(
    ("status", "more"),
    [
        (0x3160, {"keyswitch": "remote run", "status": "minor recoverable fault"}),
        (0x2170, {"keyswitch": "program", "status": "minor recoverable fault"}),
        (0x3470, {"keyswitch": "remote program", "status": "major recoverable fault"}),
        (0x1060, {"keyswitch": "run"}),
    ],
)
async def test_the_key_and_the_faults_of_a_controller_are_told(
    make_device: MakeDevice, client: Any, status: int, more: dict[str, str]
) -> None:
    async with LogixServer(Controller(identity=Identity(status=status))) as server:
        one = client(make_device([("Vials", "DINT")], port=server.port))
        async with one.driver.connect() as session:
            identity = await session.identity()

    assert dict(identity.more) == {"device type": "programmable logic controller", "product code": "166", **more}


async def test_a_string_too_long_for_a_tag_is_shown_and_offers_nothing(make_device: MakeDevice, client: Any) -> None:
    plc = Controller()
    plc.tag("Log", plc.string("STRING20000", 20_000), "x")
    async with LogixServer(plc) as server:
        one = client(make_device([("Log", "STRING")], port=server.port))
        async with one.driver.connect() as session:
            (entry,) = await session.browse("")

    assert (entry.name, entry.type, entry.path, entry.tag) == ("Log", "STRING20000", "", {})


async def test_a_string_of_another_length_is_bad(make_device: MakeDevice, client: Any) -> None:
    async with LogixServer(showcase()) as server:
        tags = [("Operator", "STRING"), {"address": "Operator", "type": "STRING", "length": 20},
                {"address": "Recipe", "type": "STRING", "length": 5},
                {"address": "Recipe", "type": "STRING", "length": 82}]  # fmt: skip
        one = client(make_device(tags, port=server.port))
        (reading,) = await one.read()

    codes = status_codes(reading.status, 4).tolist()
    assert codes == [StatusCode.BAD_DECODING_ERROR, 0, StatusCode.BAD_DECODING_ERROR, 0]
    assert any(
        "of 24 bytes, not STRING; where it is a string type, say its length" in text for text in reading.violations
    )


async def test_what_moves_beside_a_tag_costs_no_closer_look(make_device: MakeDevice, client: Any) -> None:
    """Other bits of a word, and elements in a hole, are data too."""
    plc = showcase()
    async with LogixServer(plc) as server:
        one = client(make_device([("Vials.0", "BOOL"), ("Long[3]", "DINT"), ("Long[6]", "DINT")], port=server.port))
        async with one.driver.connect() as session:
            await session.read(one.plan)
            patterns = list(session._polls[one.plan]._patterns)
            plc["Vials"] = 0x7FFF0001
            plc["Long[4]"] = -1
            reading = await session.read(one.plan)

            assert session._polls[one.plan]._patterns == patterns

    assert one.values(reading) == [True, 3, 6]


async def test_a_tag_that_no_configuration_can_name_is_shown_and_offers_nothing(
    make_device: MakeDevice, client: Any
) -> None:
    plc = Controller()
    plc.tag("Two Words\x1b[2J", simulator.DINT, 1)
    plc.tag("Good", simulator.DINT, 2)
    async with LogixServer(plc) as server:
        one = client(make_device([("Good", "DINT")], port=server.port))
        async with one.driver.connect() as session:
            entries = {entry.name: entry.tag for entry in await session.browse("")}

    assert entries == {"Two Words?[2J": {}, "Good": {"address": "Good", "type": "DINT"}}


async def test_a_huge_array_is_shown_from_its_beginning(make_device: MakeDevice, client: Any) -> None:
    plc = Controller()
    plc.tag("Cube", simulator.SINT[200, 300, 10], [])
    async with LogixServer(plc) as server:
        one = client(make_device([("Cube[0,0,0]", "SINT")], port=server.port))
        async with one.driver.connect() as session:
            names = [entry.name for entry in await session.browse("Cube")]

    assert (len(names), names[0], names[-1]) == (1000, "[0,0,0]", "[0,99,9]")


async def test_browsing_on_lists_the_tags_once(make_device: MakeDevice, client: Any) -> None:
    plc = showcase()
    async with LogixServer(plc) as server:
        one = client(make_device([("Vials", "DINT")], port=server.port))
        async with one.driver.connect() as session:
            await session.browse("")
            asked = plc.services[0x55, 0x6B]
            for path in ("Line1", "Line1.Drives", "Line1.Drives[0]", "Alarms"):
                await session.browse(path)

    assert plc.services[0x55, 0x6B] == asked
