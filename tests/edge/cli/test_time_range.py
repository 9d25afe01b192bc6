"""The range that a command is asked about, as people write it."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import click
import pytest
from click.testing import CliRunner

from edge.cli.time_range import range_options, window_of
from edge.units import format_utc
from edge.verify.window import EVERYTHING, Window

ZURICH = ZoneInfo("Europe/Zurich")
SIX_NS = int(datetime(2026, 1, 31, 6, tzinfo=UTC).timestamp()) * 10**9
HOUR_NS = 3600 * 10**9


@pytest.mark.parametrize("start", ["2026-01-31T06:00:00Z", "2026-01-31 07:00+01:00", "2026-01-31T07:00"])
def test_a_time_is_the_same_however_it_is_written(start: str) -> None:
    """With a zone, with an offset, or as the clock on the wall of the plant shows it."""
    assert window_of(start, None, ZURICH) == Window(from_ns=SIX_NS)


def test_a_day_without_a_time_begins_at_midnight_of_the_zone() -> None:
    """A day of the plant is not a day of UTC."""
    window = window_of("2026-01-31", "2026-02-01", ZURICH)

    assert window == Window(from_ns=SIX_NS - 7 * HOUR_NS, to_ns=SIX_NS + 17 * HOUR_NS)


def test_the_day_on_which_clocks_are_put_back_has_25_hours() -> None:
    """The length of a range follows the zone."""
    window = window_of("2026-10-25", "2026-10-26", ZURICH)

    assert (window.to_ns or 0) - (window.from_ns or 0) == 25 * HOUR_NS


@pytest.mark.parametrize(("start", "end", "zone", "why"), [
    ("2026-03-29T02:30", None, ZURICH, "does not exist in Europe/Zurich"),
    ("2026-10-25T02:30", None, ZURICH, "2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00"),
    ("2026-01-31T06:00", None, None, "2026-01-31T06:00Z for UTC"),
    ("2026-01-31T07:00", "2026-01-31T06:00", UTC, "--to lies before --from"),
    ("2026-01-31T07:00", "2026-01-31T07:00Z", UTC, "the range is empty"),
    ("yesterday", None, UTC, "--from is a time such as 2026-01-31T06:00:00Z, got 'yesterday'"),
    ("12", None, UTC, "--from is a time"),
])  # fmt: skip
def test_a_range_that_cannot_be_meant_is_refused_with_what_would_help(
    start: str, end: str | None, zone: ZoneInfo | None, why: str
) -> None:
    """A local time that does not exist or is there twice is never guessed."""
    with pytest.raises(click.UsageError) as refused:
        window_of(start, end, zone)
    assert why in refused.value.message


def test_places_of_a_chain_are_a_range_where_the_command_takes_them() -> None:
    """Both ends are included, so that one record is a range."""
    assert window_of("7", "7", takes_seqs=True) == Window(7, 7)
    assert window_of("0", None, takes_seqs=True) is window_of(None, None) is EVERYTHING


@pytest.mark.parametrize(("first", "last"), [("8", "7"), ("2026-01-31T06:00Z", "7")])
def test_places_and_times_do_not_mix_and_do_not_run_backwards(first: str, last: str) -> None:
    """A seq is not a time."""
    with pytest.raises(click.UsageError):
        window_of(first, last, takes_seqs=True)


@pytest.mark.parametrize("name", ["Europe/Zürich", "Middle/Earth", "../etc/passwd", ""])
def test_a_zone_that_is_unknown_is_a_usage_error(name: str) -> None:
    """The names are those of the tz database."""

    @click.command()
    @range_options()
    def asked(start: str | None, end: str | None, zone: ZoneInfo | None) -> None:
        window_of(start, end, zone)

    refused = CliRunner().invoke(asked, ["--from", "2026-01-31", "--zone", name])

    assert refused.exit_code == 2
    assert repr(name) in refused.output


def test_utc_is_written_with_as_many_decimals_as_asked() -> None:
    """Truncated, as clocks show it; what no calendar has is said in nanoseconds."""
    ns = SIX_NS + 123_456_789

    assert [format_utc(ns, decimals=each) for each in (0, 3, 6)] == [
        "2026-01-31T06:00:00Z", "2026-01-31T06:00:00.123Z", "2026-01-31T06:00:00.123456Z"]  # fmt: skip
    assert format_utc(-1, decimals=3) == "1969-12-31T23:59:59.999Z"
    assert format_utc(2**63) == "2262-04-11T23:47:16Z"
    assert format_utc(10**21) == f"{10**21} ns"
