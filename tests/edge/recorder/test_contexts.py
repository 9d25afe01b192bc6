"""The context of a block is the one it was sampled in, or both of a change, or not known, however reads are timed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType, Reading, SampleBlock, StatusCode
from edge.recorder.contexts import HELD_BYTES, ContextEvent, Contexts, HeldBlock, MemberSource, Unit
from edge.scan.report_by_exception import Reporter
from edge.seal import Context

MS, S = 10**6, 10**9
BATCHES, PHASES, VALUES, BOTH = range(4)
TEXTS = {"1": "HEAT", "2": "HOLD"}


def _group(device: str, *tags: tuple[str, DataType]) -> CatalogueGroup:
    named = tuple(CatalogueTag(name=name, data_type=data_type, address=name) for name, data_type in tags)
    return CatalogueGroup(device=device, name="fast", interval_ns=100 * MS, tags=named)


CATALOGUE = Catalogue(path="acme/basel", groups=(
    _group("mes", ("level", DataType.FLOAT64), ("batch", DataType.TEXT)),
    _group("plc", ("phase", DataType.INT16)),
    _group("mixer", ("speed", DataType.UINT32)),
    _group("reactor", ("batch", DataType.TEXT), ("phase", DataType.INT16), ("ph", DataType.FLOAT64)),
))  # fmt: skip
BATCH = MemberSource("batch", "mes", "batch", BATCHES, 1, {})
PHASE = MemberSource("phase", "plc", "phase", PHASES, 0, TEXTS)
SEPARATE = Unit(name="R1", sources=(BATCH, PHASE), groups=frozenset({PHASES, VALUES}), at_once=frozenset({BATCHES}))
TOGETHER = Unit(
    name="R2", sources=(MemberSource("batch", "reactor", "batch", BOTH, 0, {}),
                        MemberSource("phase", "reactor", "phase", BOTH, 1, TEXTS)),
    groups=frozenset({BOTH, VALUES}), at_once=frozenset({BOTH}),
)  # fmt: skip


@dataclass
class Seen:
    """What contexts sealed and told, and the blocks that left them."""

    unit: Unit
    sealed: list[Context] = field(default_factory=list)
    told: list[ContextEvent] = field(default_factory=list)
    blocks: list[SampleBlock] = field(default_factory=list)
    size_bytes: int = 100

    def __post_init__(self) -> None:
        self.reporters = [Reporter(number, group) for number, group in enumerate(CATALOGUE.groups)]
        self.contexts = Contexts([self.unit], CATALOGUE, self.seal, self.told.append)

    def seal(
        self, unit: str, members: Mapping[str, str | None], sources: Mapping[str, tuple[str, str]],
        from_ns: int, to_ns: int,
    ) -> Context:  # fmt: skip
        number = len(self.sealed) + 1
        self.sealed.append(Context(number=number, unit=unit, members=members, sources=sources, from_ns=from_ns,
                                   to_ns=to_ns))  # fmt: skip
        return self.sealed[-1]

    def members(self, number: int) -> Mapping[str, str | None]:
        return self.sealed[number - 1].members if number else dict.fromkeys(("batch", "phase"))

    def add(self, block: SampleBlock) -> None:
        self.blocks += [held.block for held in self.contexts.read(block)]
        self.blocks += [held.block for held in self.contexts.add(HeldBlock(block, self.size_bytes, is_urgent=False))]

    def read(self, group: int, asked_ns: int, answered_ns: int, *values: float | str, bad: bool = False) -> SampleBlock:
        layout = CATALOGUE.groups[group].layout
        by_type = defaultdict(list)
        for data_type, value in zip(layout.types, values, strict=True):
            by_type[data_type].append(value)
        vectors = tuple(np.array(by_type[each], each.numpy) for each in layout.vector_types)
        status = ((0, len(layout), int(StatusCode.BAD_DEVICE_FAILURE)),) if bad else ()
        block = self.reporters[group].report(Reading(vectors, asked_ns, answered_ns, status))
        self.add(block)
        return block

    def lose(self, group: int, since_ns: int, now_ns: int) -> None:
        self.add(self.reporters[group].lost_block(since_ns, now_ns))

    def label(self, block: SampleBlock) -> tuple[int, ...]:
        found = [each for each in self.blocks if (each.group, each.asked_at_ns) == (block.group, block.asked_at_ns)]
        assert len(found) == 1
        return found[0].context


@dataclass(frozen=True)
class Read:
    """A read of a scan group in a schedule: its value held at `sampled`; "" is blank, None a BAD one."""

    group: int
    asked: int
    sampled: int
    answered: int
    value: str | int | None = None


@dataclass(frozen=True)
class Stretch:
    """What really was from a time on."""

    since: int
    value: object


def _reads(group: int, values: st.SearchStrategy[str | int | None]) -> st.SearchStrategy[list[Read]]:
    def follow(steps: list[tuple[int, int, int, str | int | None]]) -> list[Read]:
        at, reads = 10, []
        for pause, before, after, value in steps:
            asked = at + pause
            reads.append(Read(group, asked, asked + before, asked + before + after, value))
            at = reads[-1].answered
        return reads

    few = st.integers(0, 5)
    return st.lists(st.tuples(st.integers(1, 12), few, few, values), max_size=12).map(follow)


@st.composite
def _truth(draw: st.DrawFn, reads: list[Read]) -> list[Stretch]:
    """A course of the truth that those reads saw: it stays where two reads agree, and is anything before the first."""
    known = [read for read in reads if read.value is not None]
    first = [Stretch(draw(st.integers(1, read.sampled)), read.value) for read in known[:1]]
    stretches = [Stretch(0, "before"), *first]
    for one, other in pairwise(known):
        is_watched = reads.index(other) == reads.index(one) + 1
        if one.sampled < other.sampled and (one.value != other.value or not is_watched):
            changes = sorted(draw(st.tuples(*2 * [st.integers(one.sampled + 1, other.sampled)])))
            if not is_watched:
                stretches.append(Stretch(changes[0], "unseen"))
            stretches.append(Stretch(changes[1], other.value))
    return stretches


def _was(stretches: list[Stretch], since: int, until: int) -> set[object]:
    """All that was so at any time between."""
    began = [each for each in stretches if each.since <= since][-1:]
    return {each.value for each in [*began, *(each for each in stretches if since < each.since <= until)]}


TEXT = {1: "HEAT", 2: "HOLD", 0: "0"}


def _play(seen: Seen, read: Read) -> None:
    """A read, of which half of those without a value are the loss of the device."""
    is_bad = read.value is None and read.group != VALUES
    if is_bad and read.asked % 2:
        seen.lose(read.group, read.asked, read.answered)
        return
    batch, number = read.value or "", read.value or 0
    values = {BATCHES: (1.0, batch), PHASES: (number,), VALUES: (read.asked,)}[read.group]
    seen.read(read.group, read.asked, read.answered, *values, bad=is_bad)


@pytest.mark.requirement("REQ-BATCH-01", "REQ-BATCH-02")
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_no_block_names_a_context_that_it_was_not_sampled_in(data: st.DataObject) -> None:
    batches = data.draw(_reads(BATCHES, st.sampled_from(["A", "B", "", None])))
    phases = data.draw(_reads(PHASES, st.sampled_from([0, 1, 2, None])))
    values = data.draw(_reads(VALUES, st.none()))
    truth = {"batch": data.draw(_truth(batches)), "phase": [
        replace(each, value=TEXT.get(each.value, each.value))  # type: ignore[call-overload]
        for each in data.draw(_truth(phases))
    ]}  # fmt: skip
    seen = Seen(SEPARATE)
    for read in sorted([*batches, *phases, *values], key=lambda each: each.answered):
        _play(seen, read)
    proven = len(seen.blocks)
    seen.blocks += [held.block for held in seen.contexts.give_up()]

    assert sorted((each.group, each.asked_at_ns) for each in seen.blocks) == sorted(
        (read.group, read.asked) for read in [*batches, *phases, *values]
    )
    for group in range(len(CATALOGUE.groups)):
        asked = [each.asked_at_ns for each in seen.blocks if each.group == group]
        assert asked == sorted(asked)
    for block in seen.blocks:
        assert (block.context == ()) == (block.group == BATCHES)
        if len(block.context) == 1:
            for member, text in seen.members(block.context[0]).items():
                if text is not None:
                    assert _was(truth[member], block.asked_at_ns, block.answered_at_ns) == {text}
    for block in seen.blocks[:proven]:
        if block.context:
            certain = [_certain(reads, block) for reads in (batches, phases)]
            if None not in certain:
                members = seen.members(block.context[0])
                assert len(block.context) == 1
                assert [members["batch"], members["phase"]] == [certain[0], TEXT[certain[1]]]  # type: ignore[index]


def _certain(reads: list[Read], block: SampleBlock) -> str | int | None:
    """What reads around a block agree on; None where they do not, or are not around it."""
    before = [at for at, read in enumerate(reads) if read.answered <= block.asked_at_ns][-1:]
    after = [at for at, read in enumerate(reads) if read.asked >= block.answered_at_ns][:1]
    around = {read.value for read in reads[before[0] : after[0] + 1]} if before and after else {None}
    return around.pop() if len(around) == 1 else None


def test_a_block_waits_for_the_next_read_of_its_context() -> None:
    seen = Seen(replace(SEPARATE, sources=(BATCH,)))
    seen.read(BATCHES, 10, 12, 1.0, "A")
    block = seen.read(VALUES, 20, 24, 7)
    seen.read(BATCHES, 23, 25, 2.0, "A")
    assert not [each for each in seen.blocks if each.group == VALUES]
    seen.read(BATCHES, 24, 26, 2.0, "A")
    assert seen.label(block) == (1,)


def test_what_one_request_reads_has_its_context_at_once() -> None:
    seen = Seen(TOGETHER)
    first, second = seen.read(BOTH, 10, 20, "A", 1, 7.0), seen.read(BOTH, 30, 40, "A", 2, 7.1)
    assert [seen.label(first), seen.label(second)] == [(1,), (2,)]
    assert [dict(each.members) for each in seen.sealed] == [{"batch": "A", "phase": "HEAT"},
                                                            {"batch": "A", "phase": "HOLD"}]  # fmt: skip
    assert (seen.sealed[1].from_ns, seen.sealed[1].to_ns) == (10, 40)


def test_of_several_requests_a_change_makes_both_of_its_scans_a_boundary() -> None:
    seen = Seen(replace(TOGETHER, at_once=frozenset()))
    blocks = [seen.read(BOTH, at, at + 10, "A" if at < 50 else "B", 1, 7.0) for at in range(10, 110, 20)]
    seen.read(BOTH, 200, 210, "B", 1, 7.0)
    assert [seen.label(block) for block in blocks] == [(0, 1), (1, 2), (1, 2), (2,), (2,)]


@pytest.mark.requirement("REQ-BATCH-02")
def test_a_lost_device_and_a_bad_value_are_not_known_and_never_the_last() -> None:
    seen = Seen(TOGETHER)
    for at, bad in ((10, False), (20, True), (30, False)):
        seen.read(BOTH, at, at + 1, "A", 1, 7.0, bad=bad)
    seen.lose(BOTH, 40, 45)
    block = seen.read(VALUES, 50, 51, 7)
    assert seen.label(block) == (4,)
    unknown = {"batch": None, "phase": None}
    assert [dict(each.members) for each in seen.sealed[1::2]] == [unknown, unknown]
    [status] = seen.contexts.status()
    assert status.unknown == {"batch": "reactor/batch is BAD_NO_COMMUNICATION",
                              "phase": "reactor/phase is BAD_NO_COMMUNICATION"}  # fmt: skip


def test_what_waits_too_long_or_is_too_much_says_that_its_end_is_not_known() -> None:
    seen = Seen(replace(SEPARATE, sources=(BATCH,)))
    seen.read(BATCHES, 10, 12, 1.0, "A")
    late = seen.read(VALUES, 20, 24, 7)
    assert not list(seen.contexts.overdue(24 + 300 * MS))
    seen.blocks += [held.block for held in seen.contexts.overdue(25 + 300 * MS)]
    assert seen.label(late) == (1, 0)
    seen.size_bytes = HELD_BYTES // 2 + 1
    first, second = seen.read(VALUES, 30, 34, 8), seen.read(VALUES, 40, 44, 9)
    assert seen.label(first) == (1, 0)
    seen.read(BATCHES, 44, 50, 1.0, "A")
    assert seen.label(second) == (1,)


@pytest.mark.parametrize(("raw", "text"), [
    ("  B-7\0\0", "B-7"), ("\0 \t\r\n", ""), ("B\0 7", "B\0 7"), ("\u202e7-B", "\u202e7-B"), ("e\u0301", "e\u0301"),
    ("x" * 100_000, "x" * 200), ("\ud800", "?"), ("\xa0B", "\xa0B"),
])  # fmt: skip
def test_texts_are_trimmed_and_bounded_and_otherwise_as_they_are(raw: str, text: str) -> None:
    seen = Seen(TOGETHER)
    seen.read(BOTH, 10, 20, raw, 7, 1.0)
    assert dict(seen.sealed[0].members) == {"batch": text, "phase": "7"}


@pytest.mark.requirement("REQ-BATCH-03")
def test_begin_and_end_of_batches_and_phases_are_told_with_their_windows() -> None:
    seen = Seen(TOGETHER)
    course = [("A", 1), ("A", 2), None, ("A", 2), ("B", 2), ("", 0), None, ("B", 1)]
    for at, course_at in enumerate(course):
        batch, phase = course_at or ("", 0)
        seen.read(BOTH, 10 * at, 10 * at + 2, batch, phase, 1.0, bad=course_at is None)
    told = [(each.kind, *each.data.values(), each.from_ns, each.to_ns) for each in seen.told]
    assert told == [
        ("batch.start", "A", None, 2), ("phase.start", "A", "HEAT", None, 2),
        ("phase.end", "A", "HEAT", 0, 12), ("phase.start", "A", "HOLD", 0, 12),
        ("phase.end", "A", "HOLD", 30, 42), ("batch.end", "A", 30, 42),
        ("batch.start", "B", 30, 42), ("phase.start", "B", "HOLD", 30, 42),
        ("phase.end", "B", "HOLD", 40, 52), ("batch.end", "B", 40, 52), ("phase.start", "", "0", 40, 52),
        ("phase.end", "", "0", 50, 72), ("batch.start", "B", 50, 72), ("phase.start", "B", "HEAT", 50, 72),
    ]  # fmt: skip
