"""When each scan group was read, by the blocks themselves, and the holes in it that no GAP explains.

A hole lies between the ends of two blocks of a group that are further apart than three of its intervals, or three of
its signs of life where it is subscribed. A GAP of the group, or of all groups, explains it when no more is left of it.

Records may come in any order. Blocks wait for the catalogue that they name, GAPs for the one in force at their place.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from edge.intervals import IntervalSet
from edge.seal.catalogue import CataloguePart
from edge.seal.data import NOTIFICATION, Data
from edge.seal.payloads import Gap
from edge.verify.in_force import CataloguesInForce
from edge.verify.report import EpochReport, GroupCoverage, Report
from edge.verify.verdicts import Judgement, Verdict
from edge.verify.window import EVERYTHING, Window

_ROUNDED_NS = 2000  # The ends of blocks are kept to a microsecond.
_STEP_NS = 10**9  # UTC and boot time may drift apart this far in a hole; more is a step of the clock.
_FOLD_AT = 4096
_EARLY_BLOCKS = 100_000  # An archive that begins within a chain may hold an hour of blocks before their catalogue.
_SHOWN = 20

_Name = tuple[str, str]
"""(device, scan group): what stays the same when numbers change."""


class _Group(NamedTuple):
    """What the catalogue says of a scan group; `limit_ns` is the longest time between two blocks that is no hole."""

    name: _Name
    limit_ns: int
    has_signs_of_life: bool


class _End(NamedTuple):
    """The end of a block: its place (seq, number in the record), and its time."""

    place: tuple[int, int]
    boot_ns: int
    utc_ns: int
    boot_id: bytes


class _Block(NamedTuple):
    """What counts of a block: the number of its scan group, how it came, and when it ended."""

    group: int
    is_notification: bool
    end: _End


class _Hole(NamedTuple):
    before: _End
    after: _End
    limit_ns: int

    @property
    def length_ns(self) -> int:
        """By boot time, which no step of the clock changes; by UTC where the machine was started meanwhile."""
        before, after = self.before, self.after
        is_same_boot = before.boot_id == after.boot_id
        return after.boot_ns - before.boot_ns if is_same_boot else after.utc_ns - before.utc_ns


@dataclass(slots=True)
class _Gaps:
    """The GAPs of one scan group, or of all."""

    closed: IntervalSet = field(default_factory=IntervalSet)
    open_ns: set[int] = field(default_factory=set)
    ended_ns: set[int] = field(default_factory=set)

    def note(self, gap: Gap) -> None:
        if gap.to_ns is None:
            if gap.from_ns not in self.ended_ns:
                self.open_ns.add(gap.from_ns)
            return
        self.open_ns.discard(gap.from_ns)
        self.ended_ns.add(gap.from_ns)
        self.closed.add(gap.from_ns, gap.to_ns)


@dataclass(slots=True)
class _Track:
    """What is known of one scan group: its first and last block, and the holes between, in their order."""

    first: _End | None = None
    last: _End | None = None
    holes: list[_Hole] = field(default_factory=list)
    explained: int = 0  # Holes that are no longer kept one by one, and their length.
    explained_ns: int = 0

    def note(self, end: _End, limit_ns: int) -> None:
        """Blocks may come in any order: one that comes late splits the hole that it lies in."""
        if self.first is None or self.last is None:
            self.first = self.last = end
        elif end.place > self.last.place:
            self._put(len(self.holes), _Hole(self.last, end, limit_ns))
            self.last = end
        elif end.place < self.first.place:
            self._put(0, _Hole(end, self.first, limit_ns))
            self.first = end
        else:
            at = bisect_left(self.holes, end.place, key=lambda hole: hole.after.place)
            if at < len(self.holes) and self.holes[at].before.place < end.place:
                hole = self.holes.pop(at)
                self._put(at, hole._replace(before=end))
                self._put(at, hole._replace(after=end))

    def _put(self, at: int, hole: _Hole) -> None:
        if hole.length_ns > hole.limit_ns + _ROUNDED_NS:
            self.holes.insert(at, hole)


class _ChainCoverage:
    """The scan groups of one chain."""

    def __init__(self) -> None:
        self._catalogues: defaultdict[bytes, dict[int, _Group]] = defaultdict(dict)
        self._in_force = CataloguesInForce()
        self._early: defaultdict[bytes, list[_Block]] = defaultdict(list)
        self._unattributed: list[tuple[int, int, Gap]] = []  # Place, number of the scan group, GAP.
        self._tracks: defaultdict[_Name, _Track] = defaultdict(_Track)
        self._gaps: defaultdict[_Name | None, _Gaps] = defaultdict(_Gaps)
        self._limits_ns: dict[_Name, int] = {}
        self._unknown: set[_Name] = set()

    def note(self, seq: int, content: object) -> None:
        """Count what an authentic record says."""
        if isinstance(content, CataloguePart):
            self._note_catalogue(seq, content)
        elif isinstance(content, Data):
            self._note_data(seq, content)
        elif isinstance(content, Gap):
            if content.group is None:
                self._gaps[None].note(content)
            else:
                self._unattributed.append((seq, content.group, content))

    def _note_catalogue(self, seq: int, part: CataloguePart) -> None:
        self._in_force.note(seq, part.digest)
        groups = self._catalogues[part.digest]
        groups |= {
            number: _Group((group.device, group.name), group.hole_ns, group.sign_of_life_ns > 0)
            for number, group in part.groups
        }  # fmt: skip
        early, self._early[part.digest] = self._early[part.digest], []
        for block in early:
            self._note_block(part.digest, block)

    def _note_data(self, seq: int, data: Data) -> None:
        for number, (wire, (_, end_ns)) in enumerate(zip(data.wire_blocks, data.ends(), strict=True)):
            end = _End((seq, number), data.boot_ns + end_ns, data.utc_ns + end_ns, data.time.boot_id)
            self._note_block(data.catalogue, _Block(wire[1], wire[0] == NOTIFICATION, end))

    def _note_block(self, digest: bytes, block: _Block) -> None:
        group = self._catalogues[digest].get(block.group)
        if group is None:
            if len(self._early[digest]) < _EARLY_BLOCKS:
                self._early[digest].append(block)
            return
        if block.is_notification and not group.has_signs_of_life:
            self._unknown.add(group.name)  # Earlier gateways do not say how long such a group may be silent.
        self._limits_ns[group.name] = group.limit_ns
        track = self._tracks[group.name]
        track.note(block.end, group.limit_ns)
        if len(track.holes) > _FOLD_AT and not len(track.holes) % _FOLD_AT:
            self._attribute_gaps()
            self._fold(group.name, track)

    def _attribute_gaps(self) -> None:
        """Give each GAP the name of its scan group, by the catalogue in force at its place."""
        waiting, self._unattributed = self._unattributed, []
        for seq, number, gap in waiting:
            digest = self._in_force.at(seq)
            if digest is None or (group := self._catalogues[digest].get(number)) is None:
                self._unattributed.append((seq, number, gap))
            else:
                self._gaps[group.name].note(gap)

    def _fold(self, name: _Name, track: _Track) -> None:
        kept = []
        for hole in track.holes:
            if self._is_explained(name, hole):
                track.explained += 1
                track.explained_ns += hole.length_ns
            else:
                kept.append(hole)
        track.holes = kept

    def _is_explained(self, name: _Name, hole: _Hole) -> bool:
        first, last = sorted((hole.before.utc_ns, hole.after.utc_ns))
        gaps = IntervalSet(part for key in (name, None) for part in self._gaps[key].closed.within(first, last))
        for part in self._unended(name, first, last):
            gaps.add(*part)
        if abs(hole.after.utc_ns - hole.before.utc_ns - hole.length_ns) > _STEP_NS:
            # The clock was set meanwhile: how much of it a GAP covers cannot be compared.
            return bool(len(gaps)) or any(first <= from_ns <= last for from_ns in self._gaps[None].open_ns)
        return hole.length_ns - gaps.count <= hole.limit_ns + _ROUNDED_NS

    def _unended(self, name: _Name, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The parts of a stretch in GAPs of a group that never ended on record, as in a crash.

        They last until the GAP of all groups that the next start declares.
        """
        of_all = self._gaps[None]
        for from_ns in self._gaps[name].open_ns:
            starts = (*(low for low, _ in of_all.closed), *of_all.open_ns)
            end_ns = min((start for start in starts if start >= from_ns), default=last)
            if max(first, from_ns) <= min(last, end_ns):
                yield max(first, from_ns), min(last, end_ns)

    def report(self, epoch: EpochReport, window: Window, shown: int) -> tuple[GroupCoverage, ...]:
        """Each scan group of which blocks are held, in the order of their names."""
        self._attribute_gaps()
        absent = IntervalSet((first, last) for _, first, last in epoch.absent)
        found = []
        for name, track in sorted(self._tracks.items()):
            if name in self._unknown or track.first is None or track.last is None:
                continue
            holes = [hole for hole in track.holes
                     if not window.side(hole.after.place[0], hole.before.utc_ns, hole.after.utc_ns)]  # fmt: skip
            not_held = [hole for hole in holes
                        if any(absent.within(hole.before.place[0], hole.after.place[0]))]  # fmt: skip
            bare = [hole for hole in holes if hole not in not_held and not self._is_explained(name, hole)]
            found.append(GroupCoverage(
                name=" ".join(name), limit_ns=self._limits_ns[name], first_ns=track.first.utc_ns,
                last_ns=track.last.utc_ns,
                holes=len(holes) + track.explained, holes_ns=sum(h.length_ns for h in holes) + track.explained_ns,
                not_held=len(not_held), unexplained=len(bare), unexplained_ns=sum(h.length_ns for h in bare),
                shown=tuple((hole.before.utc_ns, hole.after.utc_ns) for hole in bare[:shown]),
            ))  # fmt: skip
        return tuple(found)


class Coverage:
    """Follows the verdicts of a verifier, and adds to its report when the scan groups were read."""

    def __init__(self, window: Window = EVERYTHING, *, shown: int = _SHOWN) -> None:
        """`shown` is how many unexplained holes of a scan group the report lists."""
        self._window, self._shown = window, shown
        self._chains: defaultdict[tuple[str, str], _ChainCoverage] = defaultdict(_ChainCoverage)

    def note(self, judgements: list[Judgement]) -> list[Judgement]:
        """Count the contents of authentic records, which may come in any order; returns the verdicts as they are."""
        for each in judgements:
            if each.verdict is Verdict.AUTHENTIC and each.content is not None:
                self._chains[each.issuer, each.epoch.hex()].note(each.seq, each.content)
        return judgements

    def add_to(self, report: Report) -> Report:
        """The report with the coverage of each chain."""
        chains: Mapping[tuple[str, str], _ChainCoverage] = self._chains
        return replace(report, epochs=tuple(
            replace(each, coverage=chains[each.issuer, each.epoch].report(each, self._window, self._shown))
            if (each.issuer, each.epoch) in chains else each
            for each in report.epochs
        ))  # fmt: skip
