from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis.strategies import composite, integers, lists

from drivers.modbus.plan import ModbusPlan, Span, coalesce


def plan_of(device: Any) -> ModbusPlan:
    return ModbusPlan(device.scan_groups[0].tags, device)


@composite
def spans(draw: Any, *, reach: int, most: int, longest: int) -> list[Span]:
    starts = draw(lists(integers(0, reach), min_size=1, max_size=most))
    return [Span(tag, first, first + draw(integers(0, longest - 1))) for tag, first in enumerate(starts)]


def is_allowed(group: Sequence[Span], limit: int, hole: int, forbidden: Sequence[tuple[int, int]]) -> bool:
    first, last = min(span.first for span in group), max(span.last for span in group)
    covered = {address for span in group for address in range(span.first, span.last + 1)}
    read = sorted(covered)
    return (
        last - first < limit
        and all(after - before - 1 <= hole for before, after in pairwise(read))
        and not any(low <= last and first <= high for low, high in forbidden)
    )


def fewest(tags: Sequence[Span], limit: int, hole: int, forbidden: Sequence[tuple[int, int]]) -> int:
    """The fewest requests, by trying every partition."""
    best = len(tags)

    def place(at: int, groups: list[list[Span]]) -> None:
        nonlocal best
        if at == len(tags):
            if all(is_allowed(group, limit, hole, forbidden) for group in groups):
                best = min(best, len(groups))
            return
        for group in groups:
            group.append(tags[at])
            place(at + 1, groups)
            group.pop()
        if len(groups) < best:
            place(at + 1, [*groups, [tags[at]]])

    place(0, [])
    return best


def apart_from(tags: Sequence[Span], forbidden: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [gone for gone in forbidden if not any(gone[0] <= tag.last and tag.first <= gone[1] for tag in tags)]


@given(tags=spans(reach=400, most=60, longest=8), limit=integers(8, 125), hole=integers(0, 40), low=integers(0, 400))
def test_every_tag_is_in_one_request_and_every_request_is_allowed(
    tags: list[Span], limit: int, hole: int, low: int
) -> None:
    forbidden = apart_from(tags, [(low, low + 3)])

    groups = coalesce(tags, limit=limit, hole=hole, forbidden=forbidden)

    assert sorted(span.tag for group in groups for span in group) == list(range(len(tags)))
    assert all(is_allowed(group, limit, hole, forbidden) for group in groups)


@given(tags=spans(reach=24, most=6, longest=4), limit=integers(4, 12), hole=integers(0, 6), low=integers(0, 24))
def test_no_fewer_requests_would_do(tags: list[Span], limit: int, hole: int, low: int) -> None:
    forbidden = apart_from(tags, [(low, low)])

    groups = coalesce(tags, limit=limit, hole=hole, forbidden=forbidden)

    assert len(groups) == fewest(tags, limit, hole, forbidden)


def test_neighbours_are_read_together_through_a_small_hole(make_device: Any) -> None:
    device = make_device([("holding 0", "float32"), ("holding 10", "uint16"), ("holding 30", "uint16")])

    assert plan_of(device).describe() == ["holding 0-10 (11 registers, 2 tags)", "holding 30 (1 register, 1 tag)"]


def test_a_forbidden_range_parts_a_request(make_device: Any) -> None:
    device = make_device(
        [("holding 0", "uint16"), ("holding 4", "uint16")], limits={"forbidden": ["holding 2", "input 0-9"]}
    )

    assert len(plan_of(device).requests) == 2


def test_a_tag_of_several_registers_is_never_split(make_device: Any) -> None:
    device = make_device([(f"holding {2 * i}", "float32") for i in range(500)])

    blocks = plan_of(device).blocks

    assert [block.count for block in blocks] == [124] * 8 + [8]


def test_the_tables_are_read_apart(make_device: Any) -> None:
    device = make_device(
        [("input 0", "uint16"), ("coil 0", None), ("holding 0", "uint16"), ("discrete 0", None), ("coil 100", None)]
    )

    assert plan_of(device).describe() == [
        "coil 0-100 (101 bits, 2 tags)",
        "discrete 0 (1 bit, 1 tag)",
        "holding 0 (1 register, 1 tag)",
        "input 0 (1 register, 1 tag)",
    ]


def test_the_cost_is_what_the_wire_will_carry(make_device: Any) -> None:
    device = make_device([("holding 0", "float32"), ("holding 50", "float32")], limits={"gap": "20 ms"})

    cost = plan_of(device).cost()

    assert (cost.tags, cost.requests, cost.request_bytes, cost.answer_bytes) == (2, 2, 24, 26)
    assert cost.took_ns == 2 * 5_000_000 + 20_000_000


def test_only_frames_without_a_header_cost_silence(make_device: Any) -> None:
    tags = [("holding 0", "uint16"), ("holding 900", "uint16")]
    plain, line = (plan_of(make_device(tags, framing=framing)).cost().took_ns for framing in ("tcp", "rtu"))

    assert (plain, line - plain) == (2 * 5_000_000, 1_750_000)


def test_a_plan_without_tags_asks_for_nothing(make_device: Any) -> None:
    plan = plan_of(make_device([]))

    assert plan.requests == ()
    assert plan.cost().took_ns == 0
