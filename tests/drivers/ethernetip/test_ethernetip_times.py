"""Dates, times and durations, in all encodings, in tags, structures and attributes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from drivers.ethernetip.settings import EtherNetIpDevice
from drivers.ethernetip.simulator import LINT, Controller, LogixServer
from drivers.ethernetip.simulator.types import Atomic
from drivers.ethernetip.times import ENCODINGS, encoding_of
from edge.model import StatusCode, TimeKind
from tests.support.field.ethernetip_omron import NOW_NS as OMRON_NS
from tests.support.field.ethernetip_omron import omron_server
from tests.support.field.ethernetip_omron import plant as omron
from tests.support.field.ethernetip_times import DAY_NS, KINDS, NOW_NS, VALUES, controller

MakeDevice = Callable[..., EtherNetIpDevice]
WRONG = StatusCode.BAD_DECODING_ERROR


@pytest.mark.parametrize("structures", ["auto", "members"])
async def test_every_encoding_is_nanoseconds(make_device: MakeDevice, client: Any, structures: str) -> None:
    limits = {"structures": structures, "check_changes": "1 ms"}
    async with LogixServer(controller()) as server:
        one = client(make_device(list(KINDS.items()), port=server.port, limits=limits))
        async with one.driver.connect() as session:
            readings = [await session.read(one.plan) for _ in range(12)]
            is_whole = any(read.is_structure_read for read in session._polls[one.plan]._reads)

    assert [one.values(reading) for reading in readings] == [list(VALUES.values())] * 12
    assert is_whole == (structures == "auto")


async def test_an_omron_gives_nanoseconds_by_its_own_clock(make_device: MakeDevice, client: Any) -> None:
    rows = [("Elapsed", "TIME"), ("Elapsed", "LTIME"), ("Clock[0]", "DATE_AND_TIME"), ("Clock", "DATE_AND_TIME")]
    async with omron_server(omron()) as server:
        one = client(make_device(rows, port=server.port, family="omron"))
        (reading,) = await one.read()

    assert one.values(reading) == [-1_500_000_000, -1_500_000_000, OMRON_NS, OMRON_NS]


async def test_what_is_no_time_is_bad_alone(make_device: MakeDevice, client: Any) -> None:
    """Integers of 64 bits beside them are what they are, also the largest."""
    plc = Controller("Wrong")
    plc.tag("Noon", Atomic("TIME_OF_DAY", 0xCE, "I", 4, 4), 43_200_000)
    plc.tag("Late", Atomic("TIME_OF_DAY", 0xCE, "I", 4, 4), 86_400_000)
    plc.tag("Far", Atomic("DT", 0xC0, "Q", 8, 8), 2**63 - 1)
    plc.tag("Both", Atomic("DATE_AND_TIME", 0xCF, "6s", 6, 4), b"")
    plc["Both"].memory[:] = struct.pack("<IH", 86_399_999, 65_535)
    plc.tag("Count", LINT, -(2**63))
    plc.tag("Other", Atomic("DATE", 0xCD, "H", 2, 2), 1)
    rows = [("Noon", "TIME_OF_DAY"), ("Late", "TIME_OF_DAY"), ("Far", "DT"), ("Both", "DATE_AND_TIME"),
            ("Count", "LINT"), ("Other", "TIME"), ("Count", "LDT")]  # fmt: skip
    async with LogixServer(plc) as server:
        one = client(make_device(rows, port=server.port))
        (reading,) = await one.read()

    last = (65_535 + 731) * DAY_NS - 10**6
    assert one.values(reading) == [43_200 * 10**9, WRONG, WRONG, last, -(2**63), WRONG, WRONG]
    assert any("Other is DATE on the controller, not TIME" in text for text in reading.violations)
    assert any("Count is LINT on the controller, not LDT" in text for text in reading.violations)


def test_the_catalogue_says_what_the_nanoseconds_are(make_device: MakeDevice) -> None:
    kinds = {
        "TIME": TimeKind.DURATION, "TIME32": TimeKind.DURATION, "LTIME": TimeKind.DURATION, "DATE": TimeKind.DATE,
        "TIME_OF_DAY": TimeKind.TIME_OF_DAY, "DATE_AND_TIME": TimeKind.LOCAL, "DT": TimeKind.UTC, "LDT": TimeKind.UTC,
        "LINT": None,
    }  # fmt: skip
    device = make_device([("A", kind) for kind in kinds])

    assert [tag.time_kind for tag in device.scan_groups[0].tags] == list(kinds.values())


def test_every_code_is_of_one_kind_and_1972_is_where_a_date_begins() -> None:
    for encodings in ENCODINGS.values():
        assert len({encoding.kind for encoding in encodings}) == 1
    date = encoding_of(0xCD, 2)
    assert date is not None
    assert TimeKind.DATE.text(date.start_ns) == "1972-01-01"
    assert TimeKind.UTC.text(NOW_NS) == "2026-01-02T03:04:05.678901Z"
