from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.model import (
    CatalogueGroup,
    CatalogueTag,
    DataType,
    Layout,
    Reading,
    SampleBlock,
    StatusCode,
    StatusRun,
    status_codes,
)
from edge.scan import Reporter

INTERVAL_NS = 100_000_000
S = 10**9
GOOD, OUT_OF_RANGE = StatusCode.GOOD, StatusCode.UNCERTAIN_OUT_OF_RANGE
BAD = StatusCode.BAD_DEVICE_FAILURE


def tag(data_type: DataType = DataType.FLOAT32, **settings: Any) -> CatalogueTag:
    return CatalogueTag(
        **{"name": "t", "data_type": data_type, "address": "0", "at_least_every_ns": 60 * S, **settings}
    )


class Scans:
    """Feeds a reporter scan by scan, and keeps what a reader of the blocks would know."""

    def __init__(self, *tags: CatalogueTag) -> None:
        group = CatalogueGroup(device="d", name="g", interval_ns=INTERVAL_NS, tags=tags)
        self.layout: Layout = group.layout
        self.reporter = Reporter(7, group)
        self.now_ns = 50 * S
        self.known: list[Any] = [None] * len(tags)
        self.known_at_ns = [-1] * len(tags)
        self.block: SampleBlock | None = None

    def vectors(self, *values: Any) -> tuple[np.ndarray[Any, Any], ...]:
        columns = zip(self.layout.vector_types, self.layout.members, strict=True)
        return tuple(np.array([values[t] for t in members], kind.numpy) for kind, members in columns)

    def scan(self, *values: Any, status: tuple[StatusRun, ...] = ()) -> list[int]:
        """The tags that are reported of one scan."""
        return self.read(Reading(self.vectors(*values), self.now_ns, self.now_ns + 1_000_000, status))

    def read(self, reading: Reading) -> list[int]:
        self.block = block = self.reporter.report(reading)
        self.now_ns += INTERVAL_NS
        assert (block.group, block.asked_at_ns, block.answered_at_ns) == (
            7,
            reading.asked_at_ns,
            reading.answered_at_ns,
        )
        reported = []
        for v, members in enumerate(self.layout.members):
            positions = range(len(members)) if block.positions is None else block.positions[v]
            for value, position in zip(block.vectors[v], positions, strict=True):
                number = int(members[position])
                reported.append(number)
                self.known[number], self.known_at_ns[number] = value, reading.asked_at_ns
        return sorted(reported)


def power_and_scale() -> Scans:
    """Two values of one scale, another value, the scale, and values enough that a change is smaller than all."""
    others = [tag(DataType.INT16, name=f"other-{number}") for number in range(9)]
    scans = Scans(
        tag(DataType.UINT32, name="energy", scale_tag="sf"), tag(DataType.INT16, name="power", scale_tag="sf"),
        tag(DataType.INT16, name="sf"), *others,
    )  # fmt: skip
    assert len(scans.scan(1, 2, -1, *range(9))) == 12
    return scans


def test_a_value_is_reported_with_its_scale() -> None:
    """A reader of the block alone knows what the value is, also when the record with the last scale was lost."""
    scans = power_and_scale()

    assert scans.scan(1, 3, -1, *range(9)) == [1, 2]
    assert scans.scan(7, 3, -1, *range(9)) == [0, 2]
    assert scans.scan(7, 3, -1, 9, *range(1, 9)) == [3]
    assert scans.scan(7, 3, -1, 9, *range(1, 9)) == []


def test_a_scale_that_moves_reports_its_values() -> None:
    scans = power_and_scale()

    assert scans.scan(1, 2, 0, *range(9)) == [0, 1, 2]


def test_of_values_with_a_moving_scale_those_that_are_bad_are_not_reported() -> None:
    scans = power_and_scale()

    assert scans.scan(1, 2, 0, *range(9), status=((1, 1, int(BAD)),)) == [0, 2]


def test_the_first_scan_is_reported_completely() -> None:
    scans = Scans(tag(), tag(DataType.BOOL))

    assert scans.scan(1.0, True) == [0, 1]
    assert scans.block is not None
    assert scans.block.positions is None


def test_an_unmoved_scan_is_on_record_without_values() -> None:
    scans = Scans(*[tag()] * 3)
    scans.scan(1, 2, 3)

    assert scans.scan(1, 2, 3) == []
    assert scans.block is not None
    assert scans.block.positions is not None


def test_the_same_vectors_again_mean_that_nothing_moved() -> None:
    scans = Scans(*[tag()] * 3)
    vectors = scans.vectors(1, 2, 3)

    assert scans.read(Reading(vectors, 1, 2)) == [0, 1, 2]
    assert scans.read(Reading(vectors, 3, 4)) == []


def test_only_what_moved_by_more_than_its_deadband_is_reported() -> None:
    scans = Scans(tag(deadband=0.5), tag(deadband=0.5), tag(), tag(), tag())
    scans.scan(1.0, 1.0, 1.0, 1.0, 1.0)

    assert scans.scan(1.4, 1.6, 1.0, 1.01, 1.0) == [1, 3]


def test_a_slow_drift_is_reported_once_it_is_wider_than_the_deadband() -> None:
    """The comparison is with what was last reported, not with what was last read."""
    scans = Scans(tag(DataType.INT16, deadband=3), *[tag()] * 4)

    reported = [0 in scans.scan(value, 0, 0, 0, 0) for value in range(8)]

    assert reported == [True, False, False, False, True, False, False, False]


def test_deadband_and_range_are_meant_in_the_engineering_unit() -> None:
    scans = Scans(tag(DataType.UINT16, scale=0.1, deadband=0.3, range=(0.0, 0.5)), *[tag()] * 4)
    scans.scan(0, 0, 0, 0, 0)

    assert scans.scan(3, 0, 0, 0, 0) == []
    assert scans.scan(4, 0, 0, 0, 0) == [0]
    assert scans.reporter.status == ()
    assert scans.scan(6, 0, 0, 0, 0) == [0]
    assert scans.reporter.status == ((0, 1, OUT_OF_RANGE),)


def test_a_falling_scale_turns_the_range_around() -> None:
    scans = Scans(tag(DataType.INT16, scale=-1.0, offset=100.0, range=(0.0, 100.0)))

    scans.scan(-1)
    assert scans.reporter.status == ((0, 1, OUT_OF_RANGE),)
    scans.scan(100)
    assert scans.reporter.status == ()


@pytest.mark.parametrize("limits", [(70_000.0, 80_000.0), (-9.0, -1.0)])
def test_a_range_beyond_the_type_makes_every_value_uncertain(limits: tuple[float, float]) -> None:
    scans = Scans(tag(DataType.UINT16, range=limits))

    for raw in (0, 1, 65_535):
        scans.scan(raw)
        assert scans.reporter.status == ((0, 1, OUT_OF_RANGE),)


@pytest.mark.requirement("REQ-TYPE-04")
def test_a_value_out_of_range_is_kept_and_marked_once_and_when_it_returns() -> None:
    scans = Scans(tag(range=(0.0, 10.0), deadband=100.0), *[tag()] * 4)
    scans.scan(5, 0, 0, 0, 0)

    assert scans.scan(11, 0, 0, 0, 0) == [0]
    assert scans.known[0] == 11
    assert scans.scan(12, 0, 0, 0, 0) == []
    assert scans.reporter.status == ((0, 1, OUT_OF_RANGE),)
    assert scans.scan(9, 0, 0, 0, 0) == [0]
    assert scans.reporter.status == ()


@pytest.mark.parametrize("limits", [None, (0.0, 10.0), (-1e308, 1e308)])
@pytest.mark.parametrize("kind", [DataType.FLOAT32, DataType.FLOAT64])
def test_not_a_number_and_infinity_are_outside_of_every_range(
    kind: DataType, limits: tuple[float, float] | None
) -> None:
    """A range is compared so that NaN fails it; what is recorded are the bits that came."""
    bits = {4: [0x7FC00000, 0x7FA00001, 0x7F800000, 0xFF800000],
            8: [0x7FF8 << 48, 0x7FF4 << 48 | 1, 0x7FF0 << 48, 0xFFF0 << 48]}[kind.numpy.itemsize]  # fmt: skip
    values = np.array([*bits, 0, 0], f"u{kind.numpy.itemsize}").view(kind.numpy)
    scans = Scans(*[tag(kind, range=limits)] * 5, tag(kind))

    assert scans.read(Reading((values,), 1, 2, ((3, 1, int(BAD)),))) == [0, 1, 2, 3, 4, 5]

    assert scans.reporter.status == ((0, 3, OUT_OF_RANGE), (3, 1, BAD))
    assert scans.block is not None
    assert scans.block.vectors[0].tobytes() == values.tobytes()
    assert scans.scan(*[1.0] * 6) == [0, 1, 2, 3, 4, 5]
    assert scans.reporter.status == ()


def test_the_status_of_the_device_outranks_the_range() -> None:
    scans = Scans(tag(range=(0.0, 10.0)), tag(range=(0.0, 10.0)))

    scans.scan(99, 99, status=((0, 1, int(BAD)),))

    assert scans.reporter.status == ((0, 1, BAD), (1, 1, OUT_OF_RANGE))


def test_a_bad_tag_reports_its_status_and_no_value_until_it_is_good_again() -> None:
    scans = Scans(*[tag()] * 5)
    scans.scan(1, 1, 1, 1, 1)

    assert scans.scan(9, 1, 1, 1, 1, status=((0, 1, int(BAD)),)) == []
    assert scans.block is not None
    assert scans.block.status == ((0, 1, BAD),)
    assert scans.scan(8, 2, 1, 1, 1, status=((0, 1, int(BAD)),)) == [1]
    assert scans.scan(1, 2, 1, 1, 1) == [0]
    assert scans.block.status == ()


def test_at_most_every_holds_a_move_back_and_forgets_nothing() -> None:
    scans = Scans(tag(at_most_every_ns=3 * INTERVAL_NS), *[tag()] * 4)

    reported = [0 in scans.scan(value, 0, 0, 0, 0) for value in (0, 1, 2, 3, 4, 4, 4, 4)]

    assert reported == [True, False, False, True, False, False, True, False]
    assert scans.known[0] == 4


def test_a_change_of_status_does_not_wait_for_at_most_every() -> None:
    scans = Scans(tag(at_most_every_ns=10 * S), *[tag()] * 4)
    scans.scan(0, 0, 0, 0, 0)
    scans.scan(0, 0, 0, 0, 0, status=((0, 1, int(BAD)),))

    assert scans.scan(5, 0, 0, 0, 0) == [0]


def test_at_least_every_reports_an_unmoved_value() -> None:
    scans = Scans(tag(at_least_every_ns=3 * INTERVAL_NS), *[tag()] * 4)

    reported = [scans.scan(0, 0, 0, 0, 0) for _ in range(7)]

    assert reported == [[0, 1, 2, 3, 4], [], [], [0], [], [], [0]]


def test_at_least_every_zero_reports_each_scan() -> None:
    scans = Scans(tag(at_least_every_ns=0), *[tag()] * 4)
    vectors = scans.vectors(0, 0, 0, 0, 0)

    assert [scans.read(Reading(vectors, n, n)) for n in range(3)] == [[0, 1, 2, 3, 4], [0], [0]]


def test_not_a_number_is_no_move_from_itself_and_a_move_from_a_number() -> None:
    for deadband in (0.0, 5.0):
        scans = Scans(tag(deadband=deadband), *[tag()] * 4)
        values = [1.0, math.nan, math.nan, 2.0, math.inf, math.inf, -math.inf]

        reported = [0 in scans.scan(value, 0, 0, 0, 0) for value in values]

        assert reported == [True, True, False, True, True, False, True], deadband


def test_integers_are_compared_exactly_at_64_bits() -> None:
    scans = Scans(tag(DataType.INT64, deadband=1), tag(DataType.UINT64, deadband=1), *[tag()] * 9)
    low, high = -(2**63), 2**63 - 1
    scans.scan(low, 2**64 - 3, *[0] * 9)

    assert scans.scan(low + 1, 2**64 - 2, *[0] * 9) == []
    assert scans.scan(low + 2, 2**64 - 1, *[0] * 9) == [0, 1]
    assert scans.scan(high, 0, *[0] * 9) == [0, 1]


def test_text_is_reported_when_it_differs() -> None:
    scans = Scans(tag(DataType.TEXT), *[tag(DataType.BOOL)] * 40)
    scans.scan("idle", *[False] * 40)

    assert scans.scan("idle", *[False] * 39, True) == [40]
    assert scans.scan("busy", *[False] * 39, True) == [0]


def test_a_changes_block_is_made_only_when_it_is_smaller() -> None:
    scans = Scans(*[tag()] * 6)
    scans.scan(*[0] * 6)

    assert scans.scan(1, 1, 1, 0, 0, 0) == [0, 1, 2]
    assert scans.scan(2, 2, 2, 2, 0, 0) == [0, 1, 2, 3, 4, 5]
    assert scans.block is not None
    assert scans.block.positions is None


def test_a_lost_device_is_wholly_bad_and_then_reported_completely() -> None:
    scans = Scans(*[tag()] * 3)
    scans.scan(1, 1, 1)

    block = scans.reporter.lost_block(5, 9)

    assert block.status == ((0, 3, StatusCode.BAD_NO_COMMUNICATION),)
    assert block.positions is not None
    assert all(len(positions) == 0 for positions in block.positions)
    assert scans.scan(1, 1, 1) == [0, 1, 2]
    assert scans.reporter.status == ()


def test_a_refresh_reports_every_tag_once() -> None:
    scans = Scans(*[tag()] * 3)
    scans.scan(1, 1, 1)
    scans.reporter.refresh()

    assert [scans.scan(1, 1, 1), scans.scan(1, 1, 1)] == [[0, 1, 2], []]


def test_a_sealed_block_never_changes_afterwards() -> None:
    scans = Scans(*[tag()] * 5)
    scans.scan(1, 1, 1, 1, 1)
    first = scans.block
    assert first is not None

    scans.scan(2, 1, 1, 1, 1)
    second = scans.block
    scans.scan(3, 1, 1, 1, 1)

    assert first.vectors[0].tolist() == [1, 1, 1, 1, 1]
    assert second is not None
    assert second.vectors[0].tolist() == [2]


NUMBERS = [kind for kind in DataType if kind.is_number]


@st.composite
def _tags(draw: st.DrawFn) -> CatalogueTag:
    low = draw(st.floats(-1e4, 1e4))
    return tag(
        draw(st.sampled_from(NUMBERS)),
        scale=draw(st.sampled_from([1.0, 0.1, -0.5, 3.0, 1e-3])),
        offset=draw(st.sampled_from([0.0, -40.0, 1e3])),
        deadband=draw(st.sampled_from([0.0, 0.05, 0.3, 1.0, 250.0])),
        range=draw(st.sampled_from([None, (low, low + draw(st.floats(0.1, 1e4)))])),
        at_least_every_ns=draw(st.sampled_from([0, 2, 5, 600])) * INTERVAL_NS,
    )


def _raw_values(kind: DataType) -> st.SearchStrategy[Any]:
    if kind.numpy.kind == "f":
        return st.sampled_from([0.0, 0.04, 0.05, 1.0, -7.25, 99.5, 1e30, math.nan, math.inf]) | st.floats(-200, 200)
    info = np.iinfo(kind.numpy)
    return st.integers(max(int(info.min), -300), 100) | st.sampled_from([0, 1, int(info.min), int(info.max)])


@pytest.mark.requirement("REQ-READ-05")
@given(data=st.data(), tags=st.lists(_tags(), min_size=1, max_size=6))
@settings(max_examples=150)
def test_the_last_report_is_within_the_deadband(data: st.DataObject, tags: list[CatalogueTag]) -> None:
    """And has nothing older than asked for, and every status."""
    scans = Scans(*tags)
    for _ in range(data.draw(st.integers(1, 8))):
        values = [data.draw(_raw_values(t.data_type)) for t in tags]
        values = [np.array([v], t.data_type.numpy)[0] for v, t in zip(values, tags, strict=True)]
        bad = data.draw(st.sets(st.integers(0, len(tags) - 1), max_size=2))
        now_ns = scans.now_ns

        scans.scan(*values, status=tuple((number, 1, int(BAD)) for number in sorted(bad)))

        codes = status_codes(scans.reporter.status, len(tags))
        for number, (t, value) in enumerate(zip(tags, values, strict=True)):
            if number in bad:
                assert codes[number] == BAD
                continue
            assert codes[number] == (OUT_OF_RANGE if _is_outside(t, value) else GOOD)
            assert _distance(t, value, scans.known[number]) <= t.deadband * (1 + 1e-9)
            assert now_ns - scans.known_at_ns[number] <= max(t.at_least_every_ns, 0)


def _in_unit(t: CatalogueTag, raw: Any) -> float:
    return float(raw) * t.scale + t.offset


def _is_outside(t: CatalogueTag, raw: Any) -> bool:
    if t.data_type.numpy.kind == "f" and not math.isfinite(raw):
        return True
    if t.range is None:
        return False
    low, high = sorted((bound - t.offset) / t.scale for bound in t.range)
    if t.data_type.numpy.kind == "f":
        kind = t.data_type.numpy.type
        return bool(raw < kind(low) or raw > kind(high))
    return bool(int(raw) < low - abs(low) * 1e-12 or int(raw) > high + abs(high) * 1e-12)


def _distance(t: CatalogueTag, raw: Any, known: Any) -> float:
    if raw == known or (raw != raw and known != known):
        return 0.0
    if t.data_type.numpy.kind == "f":
        return (
            abs(float(raw) - float(known)) * abs(t.scale) if math.isfinite(raw) and math.isfinite(known) else math.inf
        )
    return abs(int(raw) - int(known)) * abs(t.scale)
