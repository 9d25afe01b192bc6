"""Controllers and devices with dates, times and durations."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from drivers.ethernetip.simulator import Controller, LogixServer
from drivers.ethernetip.simulator.types import Atomic
from tests.support.field.case import FieldCase

DAY_NS = 86_400 * 10**9
NOW_NS = 1_767_323_045_678_901_000
"""2026-01-02 03:04:05.678901."""
_DAYS = NOW_NS // DAY_NS - 730  # From 1972 on.
_MS_OF_DAY = NOW_NS % DAY_NS // 10**6

TYPES: Mapping[str, Atomic] = {
    "TIME32": Atomic("TIME32", 0xD6, "i", 4, 4),
    "TIME": Atomic("TIME", 0xD7, "q", 8, 8),
    "LTIME": Atomic("LTIME", 0xDF, "q", 8, 8),
    "DT": Atomic("DT", 0xC0, "Q", 8, 8),
    "LDT": Atomic("LDT", 0xCC, "q", 8, 8),
}
"""Those of a Logix from version 34 on."""
LOGIX: Mapping[str, tuple[str, int, int]] = {
    "Short": ("TIME32", -2_000_001, -2_000_001_000),
    "Medium": ("TIME", 3_600_000_000, 3_600_000_000_000),
    "Long": ("LTIME", -7, -7),
    "Moment": ("DT", NOW_NS // 1000, NOW_NS),
    "Exact": ("LDT", NOW_NS + 1, NOW_NS + 1),
}
"""For each tag its type, the number in the controller, and the nanoseconds."""
ATTRIBUTES: Mapping[str, tuple[str, bytes, int]] = {
    "cip 100/1/1": ("TIME", struct.pack("<i", -1500), -1_500_000_000),
    "cip 100/1/2": ("LTIME", struct.pack("<q", 5), 5000),
    "cip 100/1/3": ("DATE", struct.pack("<H", _DAYS), NOW_NS // DAY_NS * DAY_NS),
    "cip 100/1/4": ("TIME_OF_DAY", struct.pack("<I", _MS_OF_DAY), _MS_OF_DAY * 10**6),
    "cip 100/1/5": ("DATE_AND_TIME", struct.pack("<IH", _MS_OF_DAY, _DAYS), NOW_NS // 10**6 * 10**6),
    "cip 100/1/6 +2": ("DATE_AND_TIME", struct.pack("<HIHH", 7, _MS_OF_DAY, _DAYS, 9), NOW_NS // 10**6 * 10**6),
}


def controller() -> Controller:
    """A controller with tags of these types, a structure of them, and a device's attributes."""
    plc = Controller("Times")
    for name, (kind, raw, _) in LOGIX.items():
        plc.tag(name, TYPES[kind], raw)
    plc.tag("Log", TYPES["LDT"][3], [NOW_NS, 0, 1])
    batch = plc.structure("Batch", {name: TYPES[kind] for name, (kind, _, _) in LOGIX.items()})
    plc.tag("Batch", batch, {name: raw for name, (_, raw, _) in LOGIX.items()})
    for address, (_, data, _) in ATTRIBUTES.items():
        class_id, instance, attribute = (int(number) for number in address.split()[1].split("/"))
        plc.attribute(class_id, instance, attribute, data)
    return plc


VALUES: Mapping[str, int] = {
    **{name: value for name, (_, _, value) in LOGIX.items()},
    **{f"Batch.{name}": value for name, (_, _, value) in LOGIX.items()},
    "Log[0]": NOW_NS,
    "Log[1]": 0,
    "Log[2]": 1,
    **{address: value for address, (_, _, value) in ATTRIBUTES.items()},
}
KINDS: Mapping[str, str] = {
    **{name: kind for name, (kind, _, _) in LOGIX.items()},
    **{f"Batch.{name}": kind for name, (kind, _, _) in LOGIX.items()},
    **dict.fromkeys(("Log[0]", "Log[1]", "Log[2]"), "LDT"),
    **{address: kind for address, (kind, _, _) in ATTRIBUTES.items()},
}


def _named(address: str) -> str:
    return address.replace("/", "-").replace(" +", " from ")


@asynccontextmanager
async def _started(_: Path) -> AsyncIterator[Mapping[str, Any]]:
    async with LogixServer(controller()) as server:
        rows = [{"name": _named(address), "address": address, "type": kind} for address, kind in KINDS.items()]
        yield {
            "driver": "ethernetip", "host": server.host, "port": server.port,
            "scan_groups": [{"every": "500 ms", "tags": rows}],
        }  # fmt: skip


CASES = (
    FieldCase(
        id="ethernetip-times",
        device="Controllers and devices with dates, times and durations (TIME, LDT, DATE_AND_TIME, ...)",
        does="Takes the encoding from the answer, and gives dates and times as such, durations in seconds.",
        start=_started,
        values=dict.fromkeys(map(_named, VALUES)),
    ),
)
