"""When devices were not read: the GAPs on record, and the holes that no GAP explains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from edge.intervals import Interval, IntervalSet
from edge.model import CatalogueGroup
from edge.report.facts import GapAnswer
from edge.seal.cbor import I64
from edge.verify.logbook import Entry

_ROUNDED_NS = 2000

GroupName = tuple[str, str]
"""(device, scan group)."""


@dataclass(slots=True)
class Spans:
    """The stretches of time in which a gateway read its scan groups, and in which it says that it did not."""

    read: defaultdict[GroupName, list[Interval]] = field(default_factory=lambda: defaultdict(list))
    gaps: defaultdict[GroupName | None, IntervalSet] = field(default_factory=lambda: defaultdict(IntervalSet))

    def holes(self, groups: Iterable[tuple[CatalogueGroup, int, int]]) -> Iterator[tuple[GroupName, Interval]]:
        """Stretches before the first and after the last block of each chain that no GAP explains.

        Holes between two blocks of a chain are found with the chain. A group is there from its catalogue on.
        """
        asked: dict[GroupName, tuple[int, IntervalSet]] = {}
        for group, first, last in groups:
            asked.setdefault((group.device, group.name), (group.hole_ns, IntervalSet()))[1].add(first, last)
        for name, (limit_ns, times) in asked.items():
            read = IntervalSet(self.read[name])
            for first, last in times:
                for after, before in read.missing(first, last):
                    # The whole numbers that are missing lie between those of the readings on both sides.
                    hole = max(first, after - 1), min(last, before + 1)
                    if hole[1] - hole[0] - self._explained(name, *hole) > limit_ns + _ROUNDED_NS:
                        yield name, hole

    def _explained(self, name: GroupName, first: int, last: int) -> int:
        return IntervalSet(part for key in (name, None) for part in self.gaps[key].within(first, last)).count


class DeclaredGap(NamedTuple):
    """A GAP, and why the scan group was not read."""

    entry: Entry
    reason: str


def declared(gaps: Iterable[DeclaredGap], sizes: Mapping[str, int], *, is_inside: bool) -> list[GapAnswer]:
    """GAPs as people see them: those of one device that touch are one, and a gap of all scan groups names none.

    Args:
        gaps: in any order.
        sizes: how many scan groups each device has.
        is_inside: whether they touch the range.
    """
    by_device: defaultdict[str, list[DeclaredGap]] = defaultdict(list)
    for each in gaps:
        # Where no catalogue is held, a scan group has no name.
        unnamed = f"scan group {each.entry.group}" if each.entry.group else ""
        by_device[each.entry.device or unnamed].append(each)
    found: list[GapAnswer] = []
    for device, of_device in by_device.items():
        together: list[DeclaredGap] = []
        end_ns = 0
        for each in sorted(of_device, key=lambda gap: (gap.entry.at_ns, gap.entry.group)):
            if together and each.entry.at_ns > end_ns:
                found.append(_joined(device, together, sizes, is_inside=is_inside))
                together, end_ns = [], 0
            together.append(each)
            end_ns = max(end_ns, end_of(each))
        found.append(_joined(device, together, sizes, is_inside=is_inside))
    return sorted(found, key=lambda gap: (gap.from_ns, gap.device))


def end_of(gap: DeclaredGap) -> int:
    """UTC at which it ended; the end of time where no end is on record."""
    return I64[1] if gap.entry.to_ns is None else gap.entry.to_ns


def _joined(device: str, gaps: Sequence[DeclaredGap], sizes: Mapping[str, int], *, is_inside: bool) -> GapAnswer:
    groups = tuple(sorted({each.entry.group for each in gaps if each.entry.group and each.entry.device}))
    end_ns = max(map(end_of, gaps))
    return GapAnswer(
        device=device, scan_groups=() if len(groups) == sizes.get(device) else groups,
        from_ns=min(each.entry.at_ns for each in gaps), to_ns=None if end_ns == I64[1] else end_ns,
        is_declared=True, is_inside=is_inside,
        reason="; ".join(list(dict.fromkeys(each.reason for each in gaps if each.reason))[:3]),
    )  # fmt: skip
