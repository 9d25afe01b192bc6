"""Which context (ISA-88) a block was sampled in: batch, phase and the like of its unit, which other tags say.

Two things are known of a read: when it was asked, and when it was answered. The value held somewhere between. So a
context that was asked for last at `a` with its old value, and answered first at `z` with its new one, changed somewhere
in the window (a, z). What was sampled in the window belongs to the one or the other; nobody can say to which, and the
block says both. Windows that overlap are one: between its ends no context is certain.

That a block lies in no window is known once every scan group that the context is read from was asked again, at or after
the end of the block, and said the same. Until then the block is held; latency is one interval of that scan group. Two
blocks need not wait:

- The block of the only scan group that the context is read from, where one request reads all of it: what is answered
  together was so together.
- One of a unit whose context is not known: nothing that is read later can make that wrong.

A value that is not GOOD, and a device that is lost, make a member unknown at once, never the one known last. What waits
for longer than three intervals, or takes too much memory, and what waits when the clock is set, when the catalogue
changes and at the end, goes on record with the context it began in and 0, not known, for the one it ended in. What a
context was for less than the time between two reads is not seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from edge.model import Catalogue, Quality, SampleBlock, StatusCode, StatusRun, name_of, quality_of
from edge.seal import Context

HELD_BYTES = 4 << 20
"""Most bytes of blocks that wait for their contexts, of all units together."""
TEXT_LIMIT = 200
"""Most characters of a member."""
_KEPT = 64  # Changes of a unit, for blocks that began long ago, and their contexts, for readers that lost them.
_BLANKS = "\0 \t\r\n\v\f"


@dataclass(frozen=True, slots=True)
class MemberSource:
    """The tag that says one member: `number` in its scan group, which has the number `group`."""

    member: str
    device: str
    tag: str
    group: int
    number: int
    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit: where its context is read, and which scan groups belong to it.

    Attributes:
        at_once: scan groups that one request reads, so that all of their values are of one moment.
    """

    name: str
    sources: Sequence[MemberSource]
    groups: frozenset[int]
    at_once: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextEvent:
    """A batch or phase began or ended, in boot time; `from_ns` is None where it was so when it was read first."""

    kind: str
    unit: str
    data: Mapping[str, str]
    from_ns: int | None
    to_ns: int


class HeldBlock(NamedTuple):
    """A block, its encoded size, and whether it is urgent."""

    block: SampleBlock
    size_bytes: int
    is_urgent: bool


class UnitContext(NamedTuple):
    """The context of a unit now: its number, its members, and of those that are not known, why."""

    unit: str
    number: int
    members: Mapping[str, str | None]
    unknown: Mapping[str, str]


@dataclass(slots=True)
class _Member:
    source: MemberSource
    vector: int
    position: int
    text: str | None = None
    code: int = StatusCode.BAD_WAITING_FOR_INITIAL_DATA

    def read(self, block: SampleBlock) -> None:
        """Take what a block says: the last value of it, or that it has not changed."""
        at: int | None = self.position
        if block.positions is not None:
            hits = np.flatnonzero(block.positions[self.vector] == self.position)
            at = int(hits[-1]) if len(hits) else None
        if block.is_notification and at is None:
            return
        place = self.source.number
        if block.is_notification and at is not None:
            place = at + sum(map(len, block.vectors[: self.vector]))
        self.code = _code_at(block.status, place)
        if quality_of(self.code) is not Quality.GOOD:
            self.text = None
        elif at is not None:
            self.text = self._text(block.vectors[self.vector][at])

    def _text(self, raw: object) -> str:
        if not isinstance(raw, str):
            number = str(int(raw))  # type: ignore[call-overload]
            raw = self.source.texts.get(number, number)
        return raw.strip(_BLANKS)[:TEXT_LIMIT].encode("utf-8", "replace").decode()


def _code_at(runs: Sequence[StatusRun], place: int) -> int:
    return next((code for first, count, code in runs if first <= place < first + count), StatusCode.GOOD)


@dataclass(slots=True)
class _Source:
    """A scan group that members are read from, and when it was asked last."""

    members: list[_Member]
    hole_ns: int
    asked_ns: int = 0

    @property
    def is_known(self) -> bool:
        return any(member.text is not None for member in self.members)


class _Change(NamedTuple):
    """The context changed after `from_ns` and not after `to_ns`; `before` and `after` are numbers."""

    from_ns: int
    to_ns: int
    before: int
    after: int


class _Told(NamedTuple):
    """The batch or phase that events are about, and when it was asked for last while it was so."""

    text: str | None = None
    asked_ns: int | None = None


@dataclass(slots=True)
class _State:
    """One unit: what its context was, and the blocks that wait to know theirs."""

    unit: Unit
    sources: dict[int, _Source]
    number: int = 0
    changes: deque[_Change] = field(default_factory=deque)
    begin_ns: int = 0  # What was before is forgotten.
    held: deque[HeldBlock] = field(default_factory=deque)
    recent: deque[Context] = field(default_factory=lambda: deque(maxlen=_KEPT))
    batch: _Told = field(default_factory=_Told)
    phase: _Told = field(default_factory=_Told)

    @property
    def members(self) -> dict[str, str | None]:
        known = {member.source.member: member.text for source in self.sources.values() for member in source.members}
        return {each.member: known[each.member] for each in self.unit.sources}

    def read(self, block: SampleBlock) -> int | None:
        """Take a read of the context; where it changed, since which boot time it may have."""
        source = self.sources[block.group]
        before = [member.text for member in source.members]
        for member in source.members:
            member.read(block)
        # What was not known began to be with this read: before it, not known stays true.
        since_ns = [
            block.asked_at_ns if old is None else source.asked_ns
            for old, member in zip(before, source.members, strict=True)
            if member.text != old
        ]
        source.asked_ns = block.asked_at_ns
        return min(since_ns, default=None)

    def change(self, from_ns: int, to_ns: int, number: int) -> None:
        before, self.number = self.number, number
        while self.changes and self.changes[-1].to_ns > from_ns:
            last = self.changes.pop()
            from_ns, to_ns, before = min(from_ns, last.from_ns), max(to_ns, last.to_ns), last.before
        self.changes.append(_Change(from_ns, to_ns, before, number))
        if len(self.changes) > _KEPT:
            self.begin_ns = self.changes.popleft().to_ns

    def label(self, block: SampleBlock) -> tuple[int, ...]:
        """The contexts that a block may have been sampled in, by what is known now."""
        asked_ns, answered_ns = block.asked_at_ns, block.answered_at_ns
        before = after = self.changes[0].before if self.changes else self.number
        if asked_ns < self.begin_ns:
            before = 0
        for change in self.changes:
            if change.to_ns <= asked_ns:
                before = after = change.after
            elif change.from_ns < answered_ns:
                after = change.after
        return (before,) if before == after else (before, after)

    def is_certain(self, block: SampleBlock) -> bool:
        """Whether nothing that is read later can change the label of a block."""
        answered_ns = block.answered_at_ns
        return all(source.asked_ns >= answered_ns for source in self.sources.values() if source.is_known)

    def is_at_once(self, group: int) -> bool:
        return group in self.sources and len(self.sources) == 1 and group in self.unit.at_once

    def events(self, block: SampleBlock) -> Iterator[ContextEvent]:
        """The begins and ends that a read tells; none while the batch is not known."""
        members, asked_ns, to_ns = self.members, block.asked_at_ns, block.answered_at_ns
        batch, phase = members.get("batch", ""), members.get("phase", "")
        read = {member.source.member for member in self.sources[block.group].members}
        if batch is None:
            return
        if batch != self.batch.text:
            was, from_ns = self.batch
            if self.phase.text is not None:
                yield from self._event("phase.end", {"batch": was, "phase": self.phase.text}, from_ns, to_ns)
                self.phase = _Told("", from_ns)
            yield from self._event("batch.end", {"batch": was}, from_ns, to_ns)
            yield from self._event("batch.start", {"batch": batch}, from_ns, to_ns)
            self.batch = _Told(batch, asked_ns)
        elif "batch" in read:
            self.batch = _Told(batch, asked_ns)
        if phase is None:
            return
        if phase != self.phase.text:
            from_ns = self.phase.asked_ns
            yield from self._event("phase.end", {"batch": batch, "phase": self.phase.text}, from_ns, to_ns)
            yield from self._event("phase.start", {"batch": batch, "phase": phase}, from_ns, to_ns)
            self.phase = _Told(phase, asked_ns)
        elif "phase" in read:
            self.phase = _Told(phase, asked_ns)

    def _event(
        self, kind: str, data: Mapping[str, str | None], from_ns: int | None, to_ns: int
    ) -> Iterator[ContextEvent]:
        if data[kind.partition(".")[0]]:  # A blank one does not begin or end.
            texts = {name: text or "" for name, text in data.items()}
            yield ContextEvent(kind=kind, unit=self.unit.name, data=texts, from_ns=from_ns, to_ns=to_ns)


SealContext = Callable[[str, Mapping[str, str | None], Mapping[str, tuple[str, str]], int, int], Context]
"""Seals the (unit, members, sources, from and to in boot time) of a change."""


class Contexts:
    """The contexts of all units, and the blocks that wait for them."""

    def __init__(
        self, units: Sequence[Unit], catalogue: Catalogue, seal: SealContext, tell: Callable[[ContextEvent], None],
        before: Contexts | None = None,
    ) -> None:  # fmt: skip
        """`before` are those of the configuration before: what events told of a unit they do not tell again."""
        self._seal, self._tell = seal, tell
        self._states = [_State(unit, _sources(unit, catalogue)) for unit in units]
        self.told: dict[str, tuple[_Told, _Told]] = {} if before is None else before.told
        for state in self._states:
            state.batch, state.phase = self.told.get(state.unit.name, (_Told(), _Told()))
        self._owners = {group: state for state in self._states for group in state.unit.groups}
        self._readers = {group: [each for each in self._states if group in each.sources]
                         for state in self._states for group in state.sources}  # fmt: skip
        self._held_bytes = 0

    @property
    def groups(self) -> frozenset[int]:
        """The scan groups that belong to a unit, or that a context is read from."""
        return frozenset(self._owners) | frozenset(self._readers)

    @property
    def sources(self) -> frozenset[int]:
        """The scan groups that a context is read from."""
        return frozenset(self._readers)

    def read(self, block: SampleBlock) -> Iterator[HeldBlock]:
        """Take what a block says of contexts: seal those that changed, and give the blocks that need wait no longer."""
        for state in self._readers.get(block.group, ()):
            if (from_ns := state.read(block)) is not None:
                places = {each.member: (each.device, each.tag) for each in state.unit.sources}
                to_ns = block.answered_at_ns
                context = self._seal(state.unit.name, state.members, places, from_ns, to_ns)
                state.change(from_ns, to_ns, context.number)
                state.recent.append(context)
            for event in state.events(block):
                self._tell(event)
            self.told[state.unit.name] = state.batch, state.phase
            while state.held and state.is_certain(state.held[0].block):
                yield self._labelled(state)

    def add(self, held: HeldBlock) -> Iterator[HeldBlock]:
        """The block with its context, where that is certain; else it is held, and others may have to go."""
        block = held.block
        if (state := self._owners.get(block.group)) is None:
            yield held
        elif state.is_at_once(block.group):
            yield held._replace(block=replace(block, context=(state.number,)))
        elif not state.held and state.is_certain(block):
            yield held._replace(block=replace(block, context=state.label(block)))
        else:
            state.held.append(held)
            self._held_bytes += held.size_bytes
            while self._held_bytes > HELD_BYTES and state.held:
                yield self._labelled(state, is_certain=False)

    def overdue(self, now_ns: int) -> Iterator[HeldBlock]:
        """The blocks that have waited for three intervals."""
        for state in self._states:
            limit_ns = max((source.hole_ns for source in state.sources.values()), default=0)
            while state.held and now_ns - state.held[0].block.answered_at_ns > limit_ns:
                yield self._labelled(state, is_certain=False)

    def give_up(self) -> Iterator[HeldBlock]:
        """All blocks that wait."""
        for state in self._states:
            while state.held:
                yield self._labelled(state, is_certain=False)

    def _labelled(self, state: _State, *, is_certain: bool = True) -> HeldBlock:
        held = state.held.popleft()
        self._held_bytes -= held.size_bytes
        context = state.label(held.block)
        if not is_certain:
            context = (context[0], 0) if context[0] else (0,)
        return held._replace(block=replace(held.block, context=context))

    def in_force(self, *, with_recent: bool) -> Iterator[Context]:
        """The context of each unit, to be sealed again; the last ones before too, for readers that lost some."""
        for state in self._states:
            yield from state.recent if with_recent else list(state.recent)[-1:]

    def status(self) -> list[UnitContext]:
        """The context of each unit now."""
        return [
            UnitContext(state.unit.name, state.number, state.members, {
                member.source.member: f"{member.source.device}/{member.source.tag} is {name_of(member.code)}"
                for source in state.sources.values() for member in source.members if member.text is None
            })
            for state in self._states
        ]  # fmt: skip


def _sources(unit: Unit, catalogue: Catalogue) -> dict[int, _Source]:
    found: dict[int, _Source] = {}
    for each in unit.sources:
        group = catalogue.groups[each.group]
        vector, position = group.layout.slots[each.number]
        found.setdefault(each.group, _Source([], group.hole_ns)).members.append(_Member(each, vector, position))
    return found
