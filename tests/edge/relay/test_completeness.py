"""What is said of ranges that are missing and of gateways that are silent: each change once."""

from __future__ import annotations

from structlog.testing import capture_logs

from edge.relay.completeness import Completeness, CompletenessChange, Missing
from edge.relay.relay import log_changes

BEAT_NS = 10 * 10**9


def gap(first: int, last: int, *, declared: bool = False) -> Missing:
    return Missing("urn:tidegate:line-4", "00ff", first, last, declared)


def kinds(completeness: Completeness, *missing: Missing, now_ns: int = 0) -> list[str]:
    return [change.kind for change in completeness.changes(missing, now_ns)]


def test_a_range_opens_once_shrinks_in_silence_and_closes_once() -> None:
    completeness = Completeness(BEAT_NS)

    said = [kinds(completeness, *missing) for missing in ([gap(5, 9)], [gap(5, 9)], [gap(7, 8)], [], [])]

    assert said == [["opened"], [], [], ["closed"], []]


def test_two_ranges_are_two() -> None:
    completeness = Completeness(BEAT_NS)
    kinds(completeness, gap(5, 9))

    assert kinds(completeness, gap(5, 9), gap(20, 20)) == ["opened"]
    assert kinds(completeness, gap(20, 20)) == ["closed"]


def test_a_missing_range_that_is_declared_later_says_so() -> None:
    completeness = Completeness(BEAT_NS)
    kinds(completeness, gap(5, 9))

    assert kinds(completeness, gap(5, 9, declared=True)) == ["opened", "closed"]


def test_a_gateway_is_silent_after_two_and_a_half_heartbeats_and_comes_back() -> None:
    completeness = Completeness(BEAT_NS)
    completeness.note_record("a", 0)

    assert kinds(completeness, now_ns=25 * 10**9) == []
    assert kinds(completeness, now_ns=25 * 10**9 + 1) == ["silent"]
    assert kinds(completeness, now_ns=99 * 10**9) == []
    completeness.note_record("a", 100 * 10**9)
    assert kinds(completeness, now_ns=100 * 10**9) == ["back"]


def test_a_gateway_that_stopped_is_not_silent() -> None:
    completeness = Completeness(BEAT_NS)
    completeness.note_record("a", 0, is_stop=True)

    assert kinds(completeness, now_ns=99 * 10**9) == []


def test_a_gateway_that_catches_up_does_not_flood_the_log() -> None:
    """Fresh records go before those that waited, so each of hundreds of ranges is missing for a moment."""
    gaps = [gap(10 * number, 10 * number + 1) for number in range(200)]
    silent = CompletenessChange("silent", gaps[0].issuer)

    with capture_logs() as lines:
        log_changes([silent, *(CompletenessChange("opened", each.issuer, each) for each in gaps)])

    assert [line["event"] for line in lines] == [
        "gateway silent: its tail is unknown", *["records missing"] * 3, "more records missing",
    ]  # fmt: skip
    assert (lines[-1]["ranges"], lines[-1]["records"]) == (197, 394)
