"""Controllers to start from: one that has a tag of every kind, and one with as many tags as a load test wants."""

from __future__ import annotations

import math

from drivers.ethernetip.simulator import types as t
from drivers.ethernetip.simulator.controller import Controller


def showcase(name: str = "Showcase") -> Controller:
    """Every kind of tag, some of them moving."""
    plc = Controller(name)
    drive = plc.structure("Drive", {"Ready": t.BOOL, "Fault": t.BOOL, "Code": t.INT, "Speed": t.REAL})
    line = plc.structure(
        "Line",
        {"Running": t.BOOL, "Lot": t.STRING, "Drives": drive[3], "Limits": t.REAL[4], "Bits": t.BOOL[40],
         "Total": t.LINT},
    )  # fmt: skip
    plc.tag("Running", t.BOOL, True)
    plc.tag("Small", t.SINT, -5)
    plc.tag("Count", t.INT, -1234)
    plc.tag("Vials", t.DINT, 70_000)
    plc.tag("Total", t.LINT, 1 << 40)
    plc.tag("Temperature", t.REAL, lambda elapsed_s: 37.0 + 0.4 * math.sin(elapsed_s))
    plc.tag("Volume", t.LREAL, 1.5)
    plc.tag("Mask", t.UDINT, 0x80000001)
    plc.tag("Samples", t.REAL[100], [at / 4 for at in range(100)])
    plc.tag("Long", t.DINT[5000], list(range(5000)))
    plc.tag("Grid", t.INT[2, 3, 4], list(range(24)))
    plc.tag("Alarms", t.BOOL[64], [at % 3 == 0 for at in range(64)])
    plc.tag("Recipe", t.STRING, "LOT-2041-A")
    plc.tag("Operator", plc.string("STRING20", 20), "Anna")
    plc.tag("Dwell", t.TIMER, {"PRE": 5000, "ACC": 1200, "EN": True, "TT": True})
    plc.tag("Parts", t.COUNTER, {"PRE": 10, "ACC": 11, "DN": True})
    drives = [{"Ready": True, "Code": at, "Speed": 10.5 * at} for at in range(3)]
    plc.tag("Line1", line, {"Running": True, "Lot": "A-7", "Drives": drives, "Limits": [1, 2, 3, 4],
                            "Bits": [True] * 40, "Total": -9})  # fmt: skip
    plc.tag("Shortcut", t.DINT, 70_000, is_alias=True)
    plc.tag("Guarded", t.DINT, 1, access=2)
    main = plc.program("MainProgram")
    plc.tag("Step", t.DINT, 12, program=main)
    plc.tag("Lines", line[2], program=main)
    return plc


def crowd(tags: int, *, name: str = "Crowd", is_moving: bool = False) -> Controller:
    """Many plain tags: REAL, DINT and BOOL in turn."""
    plc = Controller(name)
    for at in range(tags):
        kind = (t.REAL, t.DINT, t.BOOL)[at % 3]
        base = float(at) if kind is t.REAL else at
        value = (lambda elapsed_s, at=at: int(elapsed_s * 10) + at) if is_moving else base
        plc.tag(f"Tag{at:04d}", kind, value)
    return plc
