"""Rows of bench/RESULTS.md: one per figure, replaced when it is measured again."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
_HEAD = """# Results

Each row is the newest run of its command on the machine named in it. Timings on a shared machine are noisy: compare
rows of one run with each other, not with another machine's.

| figure | goal | measured | command | when, where |
| --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured figure: its number in the goals, the target, the result."""

    figure: str
    goal: str
    measured: str
    command: str


def machine() -> str:
    """This machine in a few words: processor, cores, kernel, Python."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"model name\s*:\s*(.+)", cpuinfo)
    name = model[1].strip() if model else platform.machine()
    return (
        f"{name}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    )


def store(rows: list[Row]) -> None:
    """Print the rows and keep them, each replacing the older one."""
    lines = dict(_stored())
    stamp = f"{datetime.now(UTC):%Y-%m-%d}, {machine()}"
    for row in rows:
        line = f"| {row.figure} | {row.goal} | {row.measured} | `{row.command}` | {stamp} |"
        print(line)
        lines[row.figure] = line
    RESULTS.write_text(_HEAD + "".join(f"{lines[figure]}\n" for figure in sorted(lines)), encoding="utf-8")


def _stored() -> list[tuple[str, str]]:
    if not RESULTS.exists():
        return []
    rows = [line for line in RESULTS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
    return [(line.split("|")[1].strip(), line) for line in rows]
