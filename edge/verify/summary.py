"""What authentic records say, summed up for a report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

from edge.clock import TimeQuality
from edge.seal.catalogue import CataloguePart
from edge.seal.codec import Payload
from edge.seal.data import Data
from edge.seal.payloads import Checkpoint, ConfigChange, Epoch, Event, Gap, KeyChange, Stop, TimeChange
from edge.seal.record import RecordType


@dataclass(slots=True)
class SilentGroup:
    """The gaps of one scan group: how many ended, how long they lasted, and when those began that have no end yet.

    The end of a gap may arrive before its beginning: `ended_ns` are the beginnings of those.
    """

    closed: int = 0
    silent_ns: int = 0
    open_ns: set[int] = field(default_factory=set)
    ended_ns: set[int] = field(default_factory=set)

    def note(self, gap: Gap) -> None:
        """Take a GAP in."""
        here, there = self.open_ns, self.ended_ns
        if gap.to_ns is not None:
            self.closed += 1
            self.silent_ns += gap.to_ns - gap.from_ns
            here, there = there, here
        if gap.from_ns in there:
            there.remove(gap.from_ns)
        else:
            here.add(gap.from_ns)


@dataclass(slots=True)
class Facts:
    """One chain's time coverage, worst clock bound, scans and gaps."""

    types: Counter[int] = field(default_factory=Counter)
    blocks: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    tail_seq: int = -1
    tail_ns: int | None = None
    worst_bound_ns: int | None = None
    unbounded: int = 0
    stop_seq: int = -1
    gaps: dict[int | None, SilentGroup] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)  # Of the scan groups, as the newest catalogue has them.

    def note(self, kind: RecordType, seq: int, content: Payload) -> None:
        """Take an authentic record in."""
        self.types[kind] += 1
        if type(content) is Data:
            self._note_data(seq, content)
        elif isinstance(content, Gap):
            self.gaps.setdefault(content.group, SilentGroup()).note(content)
        elif isinstance(content, CataloguePart):
            self.names |= {number: f"{group.device} {group.name}" for number, group in content.groups}
        elif isinstance(content, Event | ConfigChange):
            self._cover(seq, content.at_ns, content.at_ns)
        elif isinstance(content, Epoch | KeyChange | Checkpoint | Stop):
            self._cover_time(seq, content.time)
        elif isinstance(content, TimeChange):
            self._cover_time(seq, content.after)
        if kind is RecordType.STOP:
            self.stop_seq = max(self.stop_seq, seq)

    def _note_data(self, seq: int, data: Data) -> None:
        wires = data.wire_blocks
        self.blocks += len(wires)
        self._cover(seq, data.utc_ns, data.utc_ns + max(0, wires[-1][2]) if wires else data.utc_ns)
        bound_ns = data.time.bound_at(data.boot_ns)
        if bound_ns is None:
            self.unbounded += 1
        elif self.worst_bound_ns is None or bound_ns > self.worst_bound_ns:
            self.worst_bound_ns = bound_ns

    def _cover_time(self, seq: int, time: TimeQuality) -> None:
        at_ns = time.as_of_ns + time.offset_ns
        self._cover(seq, at_ns, at_ns)

    def _cover(self, seq: int, first_ns: int, last_ns: int) -> None:
        if self.first_ns is None or first_ns < self.first_ns:
            self.first_ns = first_ns
        if self.last_ns is None or last_ns > self.last_ns:
            self.last_ns = last_ns
        if seq > self.tail_seq:
            self.tail_seq, self.tail_ns = seq, last_ns

    def snapshot(self) -> dict[str, Any]:
        """Plain values to keep."""
        kept = {each.name: getattr(self, each.name) for each in fields(self)}
        gaps = [[group, gap.closed, gap.silent_ns, list(gap.open_ns), list(gap.ended_ns)]
                for group, gap in self.gaps.items()]  # fmt: skip
        return {**kept, "types": dict(self.types), "gaps": gaps}

    @classmethod
    def restore(cls, kept: dict[str, Any]) -> Facts:
        """Take plain values back."""
        gaps = {group: SilentGroup(closed, silent_ns, set(opened), set(ended))
                for group, closed, silent_ns, opened, ended in kept["gaps"]}  # fmt: skip
        return cls(**{**kept, "types": Counter(kept["types"]), "gaps": gaps})
