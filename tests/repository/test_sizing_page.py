"""The page on sizing shows what was measured, and what follows from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.sizing import CHANGING, INDEX_BYTES, INTERVALS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/sizing.md").read_text()
RESULTS = (ROOT / "bench/RESULTS.md").read_text()
BUFFER_GB = 20


def cells(line: str) -> list[str]:
    return [cell.strip().replace(",", "") for cell in line.strip("|").split("|")]


ROWS = [cells(line) for line in PAGE.splitlines() if re.match(r"\| \d+ m?s \|", line)]


def test_every_measured_case_has_a_row() -> None:
    assert [(row[0], row[1]) for row in ROWS] == [(interval, what) for interval in INTERVALS for what in CHANGING]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]}")
def test_a_row_is_what_was_measured_and_what_follows(row: list[str]) -> None:
    interval, what, day, records, lasts, year, kbit = row
    (measured,) = [
        line for line in RESULTS.splitlines() if line.startswith(f"| Size of 1,000 tags at {interval}, {what} |")
    ]
    found = re.search(
        r"\| ([\d.]+) GB a day, ([\d.]+) records/s, ([\d.]+%) of a core \| `python -m bench.sizing` \|", measured
    )

    assert found is not None, measured
    assert (float(day), float(records)) == (float(found[1]), pytest.approx(float(found[2]), rel=0.05))
    assert float(lasts.removesuffix(" d")) == pytest.approx(BUFFER_GB / float(day), rel=0.02)
    assert float(year) == pytest.approx(float(day) * 365, rel=0.01)
    assert float(kbit) == pytest.approx(float(day) * 8e6 / 86_400, rel=0.03)


def test_what_the_page_says_of_the_cpu_was_measured() -> None:
    for interval in INTERVALS:
        (share,) = re.findall(rf"at {interval}, simulated device, all change \| ([\d.]+) % of one core", PAGE)
        assert re.search(rf"at {interval}, all change .* {share}% of a core", RESULTS)


def test_the_index_of_the_archive_is_as_large_as_the_page_says() -> None:
    assert f"{INDEX_BYTES} bytes of index a record: {INDEX_BYTES * 86_400 / 1e6:.1f} MB a day" in PAGE
