"""Replay of CSV files: values, and problems with line and column."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from drivers.simulator import SimulatorKind
from drivers.simulator.settings import SimulatorDevice
from edge.config.check import check
from edge.errors import ConfigError
from edge.testing.clock import ManualClock

S = 10**9
RUN = "time,uv,step,on\n0,1.5,load,true\n2,2.5,elute,false\n3,,clean,0\n"
SITE = """
gateway: {name: g, path: a/b/c/g, state: ./state}
devices:
  - name: d
    driver: simulator
    replay: {file: run.csv, at_end: loop}
    scan_groups:
      - every: 1 s
        tags:
          - {name: uv, signal: replay, column: uv, type: float32}
          - {name: step, signal: replay, column: step, type: text}
          - {name: "on", signal: replay, column: "on", type: bool}
"""


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("run.csv").write_text(RUN)
    Path("site.yaml").write_text(SITE)
    return Path("site.yaml")


def put(name: str, text: str) -> None:
    Path(name).write_text(text)


def values_at(*moments_s: float) -> list[list[object]]:
    (device,) = check("site.yaml").gateway().devices
    clock = ManualClock()
    driver = SimulatorKind().driver(cast("SimulatorDevice", device), clock)
    plan = driver.plan(device.scan_groups[0].tags)

    async def read() -> list[list[object]]:
        found = []
        last = 0.0
        async with driver.connect() as session:
            for moment_s in moments_s:
                clock.advance_ns(round((moment_s - last) * S))
                last = moment_s
                reading = await session.read(plan)
                found.append([*(vector[0] for vector in reading.vectors), reading.status])
        return found

    return asyncio.run(read())


BAD_UV = ((0, 1, 0x80040000),)


def test_a_row_holds_until_the_next_and_the_last_as_long_as_the_one_before() -> None:
    rows = values_at(0, 1.9, 2, 3, 3.9, 4, 6)

    assert rows == [
        [True, 1.5, "load", ()],
        [True, 1.5, "load", ()],
        [False, 2.5, "elute", ()],
        [False, 0, "clean", BAD_UV],
        [False, 0, "clean", BAD_UV],
        [True, 1.5, "load", ()],
        [False, 2.5, "elute", ()],
    ]


def test_a_recording_can_hold_its_last_values() -> None:
    put("site.yaml", SITE.replace("loop", "hold"))

    assert [row[2] for row in values_at(0, 3, 100)] == ["load", "clean", "clean"]


def test_times_can_be_dates() -> None:
    put(
        "run.csv",
        "step,uv,on,at\na,1,1,2026-01-01T00:00:00Z\nb,2,0,2026-01-01T00:00:01.5Z\nc,3,1,2026-01-01T02:00:02+02:00\n",
    )
    put("site.yaml", SITE.replace("at_end: loop", "at_end: hold, time: at"))

    assert [row[2] for row in values_at(0, 1.4, 1.5, 2)] == ["a", "a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "where", "sentence"),
    [
        ("time,uv,step,on\n0,1,a,1\n0,2,b,1\n", "6:13", "run.csv:3:1: the time '0' is not later than the one before"),
        ("time,uv,step,on\n0,1,a,1\n1,2,b\n", "6:13", "run.csv:3:4: 3 cells under 4 headings"),
        ("time,uv,step,on\nx,1,a,1\n", "6:13", "run.csv:2:1: 'x' is not a date and time as in ISO 8601"),
        ("time,uv,step,on\n0,1,a,1\nx,1,a,1\n", "6:13", "run.csv:3:1: 'x' is not a number of seconds"),
        ("time,uv,uv\n0,1,1\n", "6:13", "run.csv:1:3: the column 'uv' is there twice"),
        ("time,,uv\n0,1,1\n", "6:13", "run.csv:1:2: this column has no name"),
        ("time,uv,step,on\n", "6:13", "run.csv: holds no rows"),
        ('time,uv,step,on\n0,"1"x,a,1\n', "6:13", "run.csv:2:1: this is not CSV"),
        ("time,uv,step,on\n0,1,a,1\n1,hot,b,1\n", "10:13", "run.csv:3:2: 'hot' is not of the type float32"),
        ("time,uv,step,on\n0,1,a,yes\n", "12:13", "run.csv:2:4: 'yes' is not of the type bool"),
        ("time,step,on\n0,a,1\n", "10:13", "run.csv:1:1: no column is called 'uv'; there are time, step, on"),
    ],
)
def test_a_problem_has_its_file_line_and_column(site: Path, text: str, where: str, sentence: str) -> None:
    Path("run.csv").write_text(text)

    problems = [str(problem) for problem in check(site).errors]

    assert len(problems) == 1
    assert problems[0].startswith(f"site.yaml:{where}: ")
    assert sentence in problems[0]


def test_a_missing_file_is_a_problem(site: Path) -> None:
    Path("run.csv").unlink()

    with pytest.raises(ConfigError, match=r"run\.csv: cannot be read: No such file"):
        check(site).gateway()


def test_replaying_needs_a_recording() -> None:
    put("site.yaml", SITE.replace("    replay: {file: run.csv, at_end: loop}\n", ""))

    errors = check("site.yaml").errors

    assert [str(error) for error in errors] == [
        "site.yaml:4:5: devices[0]: replay is missing: uv shows a column of a recording, and none is named"
    ]
