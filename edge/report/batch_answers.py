"""What is true of the runs of a batch on one gateway."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property

from edge.intervals import IntervalSet
from edge.model import CatalogueGroup
from edge.report.batch import BatchSlice, GroupKey, Part, Run
from edge.report.collect import GatewayRecords
from edge.report.facts import BatchAnswer, CompleteAnswer, ContextAnswer, RunAnswer
from edge.report.gaps import DeclaredGap, GroupName, end_of
from edge.report.readings import TagReadings


class BatchAnswers:
    """The answers, once all records have come."""

    def __init__(self, batch: BatchSlice, issuer: str, records: GatewayRecords) -> None:
        self._batch, self._issuer, self._readings = batch, issuer, records.readings
        self._held_to_ns = records.held_to_ns or 0
        self._runs = [run for run in batch.runs if run.issuer == issuer]

    def answer(self) -> BatchAnswer:
        """The batch with its runs."""
        counts: defaultdict[Run, Counter[Part]] = defaultdict(Counter)
        outside = 0
        for _, run, part, count in self._batch.blocks(self._issuer):
            if run is None:
                outside += count
            else:
                counts[run][part] += count
        return BatchAnswer(
            batch=self._batch.batch, look_alikes=self._batch.look_alikes, outside_blocks=outside,
            runs=tuple(_run_answer(run, counts[run]) for run in self._runs),
        )  # fmt: skip

    @cached_property
    def _units(self) -> dict[GroupName, set[str]]:
        """The units that each scan group belonged to."""
        found: defaultdict[GroupName, set[str]] = defaultdict(set)
        for group, *_ in self._batch.blocks(self._issuer):
            if (name := self._name(group)) is not None:
                found[name] |= self._batch.units_of(group)
        return dict(found)

    @cached_property
    def groups(self) -> frozenset[GroupName]:
        """The scan groups of the units that the batch was on."""
        units = {run.unit for run in self._runs}
        return frozenset(name for name, own in self._units.items() if own & units)

    def stretches(self) -> Iterator[tuple[CatalogueGroup, int, int]]:
        """When each of these scan groups was to be read: while the unit was in the batch for certain."""
        for run in self._runs:
            until_ns = self._until_ns(run)
            for group, first, last in self._readings.groups(run.began_ns, until_ns):
                if run.unit in self._units.get((group.device, group.name), ()):
                    yield group, first, last

    def _until_ns(self, run: Run) -> int:
        return self._held_to_ns if run.ended_ns is None else run.ended_ns

    @cached_property
    def _due(self) -> dict[tuple[str, str], tuple[CatalogueGroup, IntervalSet]]:
        """The scan group of each tag, and when it was to be read."""
        found: dict[tuple[str, str], tuple[CatalogueGroup, IntervalSet]] = {}
        for group, first, last in self.stretches():
            for tag in group.tags:
                found.setdefault((group.device, tag.name), (group, IntervalSet()))[1].add(first, last)
        return found

    @cached_property
    def _not_counted(self) -> dict[tuple[GroupName, Part], int]:
        found: Counter[tuple[GroupName, Part]] = Counter()
        for group, _, part, count in self._batch.blocks(self._issuer):
            name = self._name(group)
            if name is not None and part in ("boundary", "unknown"):
                found[name, part] += count
        return found

    def missing(self, tag: TagReadings, gaps: Iterable[DeclaredGap], complete: CompleteAnswer) -> dict[str, int] | None:
        """How many readings of a tag are missing, by the cause; None where the device sends values when they change.

        Those that are in the archive are counted; others by the time that a cause lasted.
        """
        if tag.due is None or (due := self._due.get((tag.device, tag.tag.name))) is None:
            return None
        group, times = due
        name = group.device, group.name
        gone = IntervalSet((each.entry.at_ns, end_of(each)) for each in gaps
                           if (each.entry.device, each.entry.group) == name or not each.entry.device)  # fmt: skip
        lost = IntervalSet()
        for each in complete.missing:
            lost.add(each.from_ns or 0, 2**63 if each.to_ns is None else each.to_ns)
        rest, found = tag.due - tag.received, {}
        for cause, count in (
            ("boundary", self._not_counted.get((name, "boundary"), 0)),
            ("unknown", self._not_counted.get((name, "unknown"), 0)),
            ("gap", _scans(gone, times, group.interval_ns)), ("lost", _scans(lost, times, group.interval_ns)),
            ("not_explained", rest),
        ):  # fmt: skip
            if number := min(count, rest):
                found[cause] = number
                rest -= number
        return found

    def _name(self, group: GroupKey) -> GroupName | None:
        catalogue = self._readings.catalogues.get(group[1])
        if catalogue is None or group[2] >= len(catalogue.groups):
            return None
        named = catalogue.groups[group[2]]
        return named.device, named.name


def _scans(cause: IntervalSet, times: IntervalSet, interval_ns: int) -> int:
    """About how many scans were due in a cause, within times."""
    spans = (part for first, last in times for part in cause.within(first, last))
    return sum((last - first + interval_ns // 2) // interval_ns for first, last in spans)


def _run_answer(run: Run, counts: Counter[Part]) -> RunAnswer:
    return RunAnswer(
        unit=run.unit, began_from_ns=run.from_ns, began_to_ns=run.began_ns, ended_from_ns=run.ended_ns,
        ended_to_ns=run.to_ns, blocks=counts["batch"], boundary_blocks=counts["boundary"],
        unknown_blocks=counts["unknown"], contexts=tuple(
            ContextAnswer(epoch=each.epoch.hex(), seq=each.context.number, members=dict(each.context.members),
                          from_ns=each.context.from_ns, to_ns=each.context.to_ns) for each in run.contexts),
    )  # fmt: skip
