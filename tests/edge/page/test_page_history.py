"""What the page remembers: bounded, in columns, and with holes where nothing was known."""

from __future__ import annotations

from edge.health import GapStatus, RecentStatus
from edge.page.history import BAD, CELLS, DAY_NS, GAP, NUMBER, SAMPLE_NS, Counters, Trends
from edge.page.time_line import Block, TimeLine

S = 10**9


def test_a_counter_is_shown_as_its_growth_and_a_restart_is_a_hole() -> None:
    counters = Counters(("out", "waiting"), ["out"])
    for number, out in enumerate([0, 50, 100, 7, 57]):
        counters.note((number + 1) * SAMPLE_NS, {"out": out, "waiting": number})
    shown = counters.shown(5 * SAMPLE_NS, 10 * SAMPLE_NS, 10)

    assert shown["out"][-5:] == [None, 10.0, 10.0, None, 10.0]
    assert shown["waiting"] == [None] * 5 + [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_day_is_kept_and_no_more() -> None:
    counters = Counters(("waiting",), [])
    for number in range(20_000):
        counters.note(number * SAMPLE_NS, {"waiting": float(number)})
    shown = counters.shown(19_999 * SAMPLE_NS, DAY_NS, 240)["waiting"]

    assert shown[-1] == 19_999
    assert None not in shown


def test_a_trend_tells_numbers_from_bad_from_gaps_from_nothing() -> None:
    trends = Trends(3)
    trends.begin(100 * SAMPLE_NS)
    trends.note(0, [NUMBER, BAD, GAP], [36.6, 0.0, 0.0])
    trends.begin(102 * SAMPLE_NS)  # Of the cell between nothing is known.
    trends.note(0, [NUMBER] * 3, [36.7, 1.0, 2.0])

    assert [trends.last(tag, 3) for tag in range(3)] == [[36.6, None, 36.7], ["x", None, 1.0], ["g", None, 2.0]]
    trends.begin((102 + CELLS) * SAMPLE_NS)
    assert trends.last(0) == [None] * CELLS


def test_a_lane_keeps_from_when_to_when_and_marks_are_counted_together() -> None:
    line = TimeLine()
    lane = line.lane("device", "mixer", 0)
    lane.note(10 * S, "")
    lane.note(12 * S, "down", "no answer", from_ns=11 * S)
    lane.note(13 * S, "down", "no answer: unplugged")
    lane.note(15 * S, "")
    lane.mark(16 * S, "degraded", 1, "missed scan")
    lane.mark(17 * S, "degraded", 2, "missed scan")
    line.away(20 * S, "no answer")
    [shown] = line.shown(30 * S, 100 * S, 1000 * S)

    assert shown["blocks"] == [
        [1_011_000, 1_015_000, "down", "no answer: unplugged"],
        [1_016_000, 1_017_000, "degraded", "3 missed scans"],
        [1_020_000, None, "away", "no answer"],
    ]
    assert line.shown(30 * S, 14 * S, 0)[0]["blocks"] == shown_later(line)


def shown_later(line: TimeLine) -> list[list[object]]:
    return [[16_000, 17_000, "degraded", "3 missed scans"], [20_000, None, "away", "no answer"]]


def test_gaps_on_record_are_drawn_once_beside_what_was_seen() -> None:
    """Also those of before; times on record are UTC, and the line counts in boot time."""
    line, offset_ns = TimeLine(), 1000 * S
    mixer, press = line.lane("device", "mixer", 50 * S), line.lane("device", "press", 50 * S)
    seen = Block(40 * S, 45 * S, "down", "no answer")
    mixer.blocks.append(seen)

    def take(*gaps: tuple[str, float, float], is_first: bool = False) -> None:
        known = tuple(
            GapStatus(device=device, from_ns=offset_ns + int(begin * S), to_ns=offset_ns + int(end * S), text="stopped")
            for device, begin, end in gaps
        )
        recent = RecentStatus(since_ns=offset_ns, gaps_since_ns=offset_ns + 5 * S, gaps=known)
        line.take_gaps(recent, offset_ns, is_first=is_first)

    take(("", 10, 12), ("press", 20, 20.5), ("mixer", 41, 46), is_first=True)
    assert (mixer.since_ns, press.since_ns) == (5 * S, 5 * S)
    assert list(mixer.blocks) == [Block(10 * S, 12 * S, "gap", "stopped"), seen]
    assert list(press.blocks) == [Block(10 * S, 12 * S, "gap", "stopped")]

    mixer.note(60 * S, "degraded", "1 of 6 tags BAD")
    take(("", 10, 12), ("mixer", 61, 63))
    take(("", 10, 12), ("mixer", 61, 65))  # Another scan group was read again later.
    mixer.note(70 * S, "")
    assert list(mixer.blocks)[2:] == [
        Block(60 * S, 70 * S, "degraded", "1 of 6 tags BAD"), Block(61 * S, 65 * S, "gap", "stopped")
    ]  # fmt: skip
