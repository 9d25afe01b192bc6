"""Which exit code a status has for monitoring, and its line."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.health import BufferStatus, CertificateStatus, RelayStatus, StatusSnapshot
from edge.health.monitoring import FIGURES, Code, Range, check_line, limited
from edge.health.problems import StatusAnswer

DAY = 86_400 * 10**9


@pytest.fixture
def well(snapshot: StatusSnapshot) -> StatusSnapshot:
    assert snapshot.uplink is not None
    uplink = replace(snapshot.uplink, state="up", reason="", waiting=0)
    return replace(snapshot, uplink=uplink, relay=None, certificates=(), devices=())


def checked(snapshot: StatusSnapshot) -> tuple[Code, str]:
    return check_line(StatusAnswer.of(snapshot))


@pytest.mark.parametrize(
    ("buffer", "code"),
    [
        (BufferStatus(limit_bytes=100, undelivered_bytes=69), Code.OK),
        (BufferStatus(limit_bytes=100, undelivered_bytes=71), Code.WARNING),
        (BufferStatus(limit_bytes=100, undelivered_bytes=91), Code.CRITICAL),
        (BufferStatus(state="memory", reason="no room"), Code.CRITICAL),
        (BufferStatus(state="full"), Code.CRITICAL),
        (BufferStatus(dropped_last_hour=1), Code.CRITICAL),
        (BufferStatus(dropped_records=1), Code.OK),
    ],
)
def test_what_loses_data_or_soon_will_is_critical(well: StatusSnapshot, buffer: BufferStatus, code: Code) -> None:
    assert checked(replace(well, buffer=buffer))[0] is code


@pytest.mark.parametrize(("days", "code"), [(31, Code.OK), (29, Code.WARNING), (6, Code.CRITICAL), (-1, Code.CRITICAL)])
def test_a_certificate_warns_before_it_ends(well: StatusSnapshot, days: int, code: Code) -> None:
    ends = time.time_ns() + days * DAY
    certificate = CertificateStatus(whose="ours", name="CN=line-4", expires_at_ns=ends)

    assert checked(replace(well, certificates=(certificate,)))[0] is code


def test_an_archive_that_is_full_tomorrow_is_critical(well: StatusSnapshot) -> None:
    relay = RelayStatus(state="up", bytes_per_day=10**9, free_bytes=9 * 10**8)
    whole = replace(well, relay=relay, buffer=None, uplink=None, gateway=replace(well.gateway, role="relay"))

    assert checked(whole)[0] is Code.CRITICAL


def test_a_warning_outweighs_what_is_not_known_yet() -> None:
    assert sorted(Code, key=lambda code: code.rank) == [Code.OK, Code.UNKNOWN, Code.WARNING, Code.CRITICAL]


def test_the_line_is_one_line_with_one_bar_whatever_a_device_says(snapshot: StatusSnapshot) -> None:
    devices = tuple(
        replace(snapshot.devices[1], name=f"pump-{number}", reason=f"|it says\n{'x' * 900}") for number in range(9)
    )

    code, line = checked(replace(snapshot, devices=devices))

    assert code is Code.CRITICAL
    assert (line.count("|"), line.count("\n")) == (1, 0)
    assert "more" in line
    assert len(line) < 4096


@given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(-1000, 1000))
def test_a_range_is_that_of_the_guidelines(one: int, other: int, value: int) -> None:
    low, high = sorted((one, other))

    assert Range.parse(f"{high}").is_met(value) == (0 <= value <= high) if high >= 0 else True
    assert Range.parse(f"{low}:").is_met(value) == (value >= low)
    assert Range.parse(f"~:{high}").is_met(value) == (value <= high)
    assert Range.parse(f"{low}:{high}").is_met(value) == (low <= value <= high)
    assert Range.parse(f"@{low}:{high}").is_met(value) != (low <= value <= high)


@pytest.mark.parametrize("text", ["", ":", "@", "x", "5:1", "1;2", "-1"])
def test_what_is_no_range_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="is no range"):
        Range.parse(text)


def test_a_name_that_no_figure_has_is_said_with_those_there_are() -> None:
    with pytest.raises(LookupError, match="no figure is called 'disk'; there are archive_days"):
        limited({"disk": Range()}, {})


def test_no_figure_has_the_name_of_another() -> None:
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)


def test_the_page_has_each_figure_with_its_limits() -> None:
    page = (Path(__file__).parents[3] / "docs/how-to/monitor.md").read_text()
    units = {"s": ", in s", "%": ", in %", "": ""}

    assert [
        f"| `{each.name}` | {each.meaning}{units[each.unit]} | {each.warning.text} | {each.critical.text} |".replace(
            "  ", " "
        )
        for each in FIGURES
    ] == [line for line in page.splitlines() if re.match(r"\| `\w+` \|", line)]
