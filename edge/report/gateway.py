"""What is true of the range of one gateway: the answer to each question, and the result."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from edge.intervals import Interval, IntervalSet
from edge.model import Quality, name_of
from edge.report.batch_answers import BatchAnswers
from edge.report.collect import Collector, GatewayRecords
from edge.report.facts import (
    ChangeAnswer,
    ClockAnswer,
    CompleteAnswer,
    ContinuesAnswer,
    DeviceAnswer,
    GapAnswer,
    GatewayAnswer,
    InstrumentAnswer,
    MissingAnswer,
    QualityAnswer,
    RefusedAnswer,
    Result,
    TagAnswer,
    UnalteredAnswer,
    WorstTag,
)
from edge.report.gaps import DeclaredGap, GroupName, Spans, declared, end_of
from edge.report.readings import TagReadings
from edge.seal import ConfigChange, Epoch, Event, Gap, Loss, Stop, TimeChange, day_text
from edge.seal.cbor import I64
from edge.seal.record import ISSUER_PREFIX
from edge.sentences import correction_text, stretch_of
from edge.units import counted, format_duration
from edge.verify import EpochReport, RangeVerdict, Report, Verdict
from edge.verify.calibrations import CalibrationSpan
from edge.verify.logbook import Noted
from edge.verify.window import EVERYTHING

HEADINGS: dict[Result, str] = {
    "complete": "COMPLETE AND UNALTERED", "not_complete": "NOT COMPLETE", "altered": "ALTERED",
    "untrusted": "UNTRUSTED", "nothing_held": "NOTHING HELD",
}  # fmt: skip
_WORST_SHOWN = 100
_DEVICES_NAMED = 3
_NEAR_NS = 3600 * 10**9
_FINE = (Verdict.AUTHENTIC, Verdict.LINKED)
_ALTERED = (Verdict.ALTERED, Verdict.FORK, Verdict.GARBAGE)


def are(number: int, what: str) -> str:
    """A number of things with its verb: "1 record is", "39 records are"."""
    return counted(number, what) + (" is" if number == 1 else " are")


def of(number: int, records: int) -> str:
    """Some of the records with their verb: "1 of 21 records is"."""
    return f"{number:,} of {counted(records, 'record')} {'is' if number == 1 else 'are'}"


class GatewayAnswers:
    """The answers for one gateway."""

    def __init__(
        self, issuer: str, collector: Collector, report: Report, refused: Sequence[RefusedAnswer],
        with_tags: Callable[[str, str], bool] | None,
    ) -> None:  # fmt: skip
        self._name = issuer.removeprefix(ISSUER_PREFIX)
        self._window = collector.window
        self._logbook = collector.logbook
        self._time_text = collector.time_text
        self._first_verdicts = collector.first_verdicts[issuer]
        self._records = collector.gateways.get(issuer) or GatewayRecords(collector.window)
        self._refused_statements = [
            each for each in collector.refused_statements if Path(each.file).parent.name == self._name
        ]
        self._with_tags = with_tags
        batch = collector.batch
        self._batch = None if batch is None else BatchAnswers(batch, issuer, self._records)
        self._chains = frozenset(self._records.places)  # Those of which a record is accepted.
        self._epochs = [each for each in report.epochs if each.issuer == issuer and issuer in collector.gateways]
        self._refused = [each for each in refused if each.is_inside and each.gateway in (self._name, "")]

    def answer(self) -> GatewayAnswer:
        """All of them."""
        unaltered, complete = self._unaltered(), self._complete()
        result, text = self._result(unaltered, complete)
        return GatewayAnswer(
            gateway=self._name, result=result, text=f"{HEADINGS[result]}: {text}",
            from_ns=self._from_ns, to_ns=self._to_ns,
            held_from_ns=self._records.held_from_ns, held_to_ns=self._records.held_to_ns,
            unaltered=unaltered, complete=complete, clock=self._clock(), quality=self._quality(),
            changes=tuple(self._changes()), key_changes=self._records.key_changes, continues=self._continues(),
            devices=tuple(self._devices(complete)), tags=self._tag_answers(complete), instruments=self._instruments(),
            batch=None if self._batch is None else self._batch.answer(),
        )  # fmt: skip

    @cached_property
    def _from_ns(self) -> int | None:
        """The begin of the range; that of what is held where it was left open."""
        return self._records.held_from_ns if self._window.from_ns is None else self._window.from_ns

    @cached_property
    def _to_ns(self) -> int | None:
        return self._records.held_to_ns if self._window.to_ns is None else self._window.to_ns

    @cached_property
    def _span(self) -> tuple[int, int]:
        """The range; empty where nothing is held."""
        return self._from_ns or 0, self._to_ns or 0

    def _noted(self, *kinds: type) -> list[Noted]:
        return [each for each in self._records.inside if isinstance(each.content, kinds)]

    # Unaltered

    def _unaltered(self) -> UnalteredAnswer:
        verdicts = Counter({str(each): number for each, number in self._first_verdicts.items()})
        if self._chains:
            verdicts = Counter(each.verdict for each in self._refused if each.epoch not in self._chains)
            for epoch in self._epochs:
                verdicts.update(epoch.verdicts if epoch.epoch in self._chains else {})
        held = {name: number for name, number in verdicts.items() if number and name != Verdict.DUPLICATE}
        return UnalteredAnswer(
            is_unaltered=all(name in _FINE for name in held), records=sum(held.values()),
            valid=held.get(Verdict.AUTHENTIC, 0), verdicts=held,
            fingerprints=tuple(dict.fromkeys(each.identity for each in self._epochs if each.identity and each.held)),
        )  # fmt: skip

    # Complete

    def _complete(self) -> CompleteAnswer:
        missing = [each for epoch in self._epochs for each in self._missing(epoch)]
        inside, near = self._gaps()
        holes = list(self._holes(missing))
        shortfalls = list(self._shortfalls(missing))
        return CompleteAnswer(
            is_complete=not (missing or inside or holes or shortfalls or self._records.not_kept),
            missing_records=sum(each.records for each in missing), missing=tuple(missing),
            gaps=tuple(sorted([*inside, *holes, *near], key=lambda gap: (gap.from_ns, gap.device))),
            gaps_inside=len(inside) + len(holes) + self._records.not_kept,
            losses=tuple(self._logbook.entry(each).text for each in self._noted(Loss)), shortfalls=tuple(shortfalls),
        )  # fmt: skip

    def _missing(self, epoch: EpochReport) -> Iterator[MissingAnswer]:
        places = self._records.places[epoch.epoch]
        from_ns, to_ns = self._span
        refused = IntervalSet((each.seq, each.seq) for each in self._refused
                              if each.seq is not None and each.epoch == epoch.epoch)  # fmt: skip
        around = places.times_around((low, high) for _, low, high in epoch.absent)
        for (verdict, low, high), (before, after) in zip(epoch.absent, around, strict=True):
            for first, last in refused.missing(low, high):
                yield MissingAnswer(
                    epoch=epoch.epoch, first_seq=first, last_seq=last, records=last - first + 1,
                    from_ns=None if before is None else max(before, from_ns),
                    to_ns=None if after is None else min(after, to_ns),
                    is_declared=verdict == RangeVerdict.DECLARED_LOST, is_removed=verdict == RangeVerdict.REMOVED,
                )  # fmt: skip

    def _shortfalls(self, missing: Sequence[MissingAnswer]) -> Iterator[str]:
        records, window = self._records, self._window
        until_ns = max((each.until_ns for each in records.places.values()), default=0)
        if self._batch is not None:
            window = EVERYTHING  # Contexts say when it began and ended, though no device was read around it.
        if window.to_ns is not None and 0 < until_ns < window.to_ns:
            yield f"nothing is held after {self._time_text(until_ns)}"
        begin_ns = records.held_from_ns
        if window.from_ns is not None and begin_ns is not None and window.from_ns < begin_ns:
            is_first = not any(each.from_ns is None for each in missing)
            why = ", when the record of this gateway begins" if is_first else ""
            yield f"nothing is held before {self._time_text(begin_ns)}{why}"
        for epoch in self._epochs:
            for before, after in epoch.counter_gaps:
                yield (f"the identity key signed {counted(max(1, after - before - 1), 'record')} that never arrived "
                       f"(signature {before + 1} to {max(after - 1, before + 1)})")  # fmt: skip
        if any(not (each.is_declared or each.is_removed) for each in missing):
            yield from (f"a statement of removal does not count: {each.file}: {each.reason}"
                        for each in self._refused_statements)  # fmt: skip
        replaced = sum(each.seq is not None and each.epoch in self._chains for each in self._refused)
        if replaced:
            stand = "stands" if replaced == 1 else "stand"
            yield f"{counted(replaced, 'refused record')} {stand} in the place of what was sealed"

    def _gaps(self) -> tuple[list[GapAnswer], list[GapAnswer]]:
        """Those in the range, and the nearest outside of it."""
        from_ns, to_ns = self._span
        reach_ns = min(_NEAR_NS, max(to_ns - from_ns, 60 * 10**9))
        near = [each for each in self._gaps_of(each for _, each in sorted(self._records.near.items()))
                if from_ns - reach_ns <= end_of(each) and each.entry.at_ns <= to_ns + reach_ns]  # fmt: skip
        # A range that was left open begins with the first reading: what ended before it lies outside.
        inside: list[DeclaredGap] = []
        for each in self._declared:
            (inside if from_ns < end_of(each) and each.entry.at_ns < to_ns else near).append(each)
        sizes = Counter(device for device, _ in self._group_names.values())
        return declared(inside, sizes, is_inside=True), declared(near, sizes, is_inside=False)

    @cached_property
    def _declared(self) -> list[DeclaredGap]:
        return list(self._gaps_of(self._records.inside))

    def _gaps_of(self, noted: Iterable[Noted]) -> Iterator[DeclaredGap]:
        for each in noted:
            if isinstance(each.content, Gap):
                entry = self._logbook.entry(each)
                if self._batch is None or not entry.device or (entry.device, entry.group) in self._batch.groups:
                    yield DeclaredGap(entry, each.content.detail)

    @cached_property
    def _group_names(self) -> dict[str, GroupName]:
        """Device and scan group by the name that coverage uses."""
        groups = [group for each in self._records.readings.catalogues.values() for group in each.groups]
        return {f"{group.device} {group.name}": (group.device, group.name) for group in groups}

    def _holes(self, missing: Sequence[MissingAnswer]) -> Iterator[GapAnswer]:
        """Stretches without readings that neither a GAP explains nor records that are missing."""
        found = defaultdict[GroupName, list[Interval]](list)
        spans = self._spans(found)
        for each in missing:
            spans.gaps[None].add(each.from_ns or 0, I64[1] if each.to_ns is None else each.to_ns)
        readings, records = self._records.readings, self._records
        from_ns, to_ns = self._span
        held = max(from_ns, records.held_from_ns or 0), min(to_ns, records.held_to_ns or 0)
        measured, read = set(spans.read), readings.read_groups()
        due = readings.groups(*held) if self._batch is None else self._batch.stretches()
        for name, hole in spans.holes(due):
            # A subscribed group of an earlier gateway has blocks, and states no signs of life: it is not measured.
            if name in measured or name not in read:
                found[name].append(hole)
        by_device: defaultdict[str, IntervalSet] = defaultdict(IntervalSet)
        for (device, _), holes in found.items():
            for hole in holes:
                by_device[device].add(*hole)
        by_group = {name: IntervalSet(holes) for name, holes in found.items()}
        for device, stretches in by_device.items():
            of_device = [(name[1], holes) for name, holes in by_group.items() if name[0] == device]
            for first, last in stretches:
                groups = [group for group, holes in of_device if any(holes.within(first, last))]
                yield GapAnswer(
                    device=device, scan_groups=tuple(sorted(groups)), from_ns=first, to_ns=last, is_declared=False,
                    is_inside=True, reason="",
                )  # fmt: skip

    def _spans(self, found: defaultdict[GroupName, list[Interval]]) -> Spans:
        """When each scan group was read, and when by a GAP it was not; the holes between go to `found`."""
        spans = Spans()
        for each in (each for epoch in self._epochs for each in epoch.coverage or ()):
            name = self._group_names.get(each.name)
            if name is not None and (self._batch is None or name in self._batch.groups):
                spans.read[name].append((each.first_ns, each.last_ns))
                found[name] += each.shown
        for gap in self._declared:
            key = (gap.entry.device, gap.entry.group) if gap.entry.group else None
            spans.gaps[key].add(gap.entry.at_ns, end_of(gap))
        return spans

    # Clock

    def _clock(self) -> ClockAnswer:
        stretches, plot = self._records.clock.close()
        bounds = [each.worst_bound_ns for each in stretches]
        events = [self._logbook.entry(each) for each in self._noted(TimeChange, Event)
                  if (each.content.step_ns if isinstance(each.content, TimeChange)
                      else isinstance(each.content, Event) and each.content.kind.startswith("time."))]  # fmt: skip
        events.sort(key=lambda entry: entry.at_ns)
        learned = [stretch_of(each.content) for each in self._noted(TimeChange) if isinstance(each.content, TimeChange)]
        corrections = sorted((each for each in learned if each is not None), key=lambda each: each.from_ns)
        return ClockAnswer(
            is_known=bool(stretches) and None not in bounds and not events,
            worst_bound_ns=max((each for each in bounds if each is not None), default=None),
            stretches=stretches, bounds=plot,
            corrections=tuple(correction_text(each, self._time_text) for each in corrections),
            events=tuple(f"{self._time_text(each.at_ns)}: {each.text}" for each in events),
        )  # fmt: skip

    # Quality

    @cached_property
    def _tags(self) -> dict[tuple[str, str], TagReadings]:
        readings = self._records.readings
        return readings.tags(readings.groups(*self._span) if self._batch is None else self._batch.stretches())

    def _quality(self) -> QualityAnswer:
        tags = self._tags.values()
        affected = [each for each in tags if each.codes]
        affected.sort(key=lambda each: (-each.of(Quality.BAD), -each.of(Quality.UNCERTAIN), each.device, each.tag.name))
        return QualityAnswer(
            tags=len(tags), good=sum(each.of(Quality.GOOD) for each in tags),
            uncertain=sum(each.of(Quality.UNCERTAIN) for each in tags), bad=sum(each.of(Quality.BAD) for each in tags),
            not_counted_records=self._records.readings.not_counted, withdrawn_records=self._records.withdrawn,
            affected_tags=len(affected),
            worst=tuple(WorstTag(device=each.device, tag=each.tag.name, uncertain=each.of(Quality.UNCERTAIN),
                                 bad=each.of(Quality.BAD), reason=name_of(each.reason))
                        for each in affected[:_WORST_SHOWN]),
        )  # fmt: skip

    def _tag_answers(self, complete: CompleteAnswer) -> tuple[TagAnswer, ...] | None:
        if self._with_tags is None:
            return None
        return tuple(
            TagAnswer(device=each.device, tag=each.tag.name, unit=each.tag.unit, due=each.due, received=each.received,
                      good=each.of(Quality.GOOD), uncertain=each.of(Quality.UNCERTAIN), bad=each.of(Quality.BAD),
                      first_ns=each.first_ns, last_ns=each.last_ns,
                      missing=None if self._batch is None else self._batch.missing(each, self._declared, complete))
            for each in self._tags.values() if self._with_tags(each.device, each.tag.name)
        )  # fmt: skip

    # Instruments

    def _instruments(self) -> tuple[InstrumentAnswer, ...]:
        history = self._records.calibrations
        named = [(tag, span) for key, tag in self._tags.items() for span in history.of(*key)]
        found = [each for tag, span in named if (each := _instrument(tag, span)) is not None]
        found.sort(key=lambda each: (each.overdue_from_ns is None, each.name, each.device, each.tag, each.from_ns))
        return tuple(found)

    # Changes, and what is before and after

    def _changes(self) -> Iterator[ChangeAnswer]:
        inside = [each for each in self._noted(ConfigChange, Epoch, Stop, Event)
                  if not (isinstance(each.content, Event) and each.content.kind.startswith("time."))]  # fmt: skip
        near = [each for each in self._records.near.values() if isinstance(each.content, ConfigChange)]
        found = [(each, True) for each in inside] + [(each, False) for each in near]
        for each, is_inside in sorted(found, key=lambda pair: pair[0].at_ns):
            entry = self._logbook.entry(each)
            yield ChangeAnswer(at_ns=entry.at_ns, kind=entry.kind, text=entry.text, is_inside=is_inside)

    def _continues(self) -> ContinuesAnswer:
        if not self._epochs:
            return ContinuesAnswer(is_before=False, before="nothing is held", is_after=False, after="nothing is held")
        is_before, before = self._before(self._epochs[0])
        is_after, after = self._after(self._epochs[-1])
        return ContinuesAnswer(is_before=is_before, before=before, is_after=is_after, after=after)

    def _before(self, epoch: EpochReport) -> tuple[bool, str]:
        first, places = epoch.places[0], self._records.places[epoch.epoch]
        if first > 0:
            is_held = first - 1 in places.held
            return is_held, f"seq {first - 1} {'' if is_held else 'is not '}held"
        if 0 not in places.held:
            return False, "the begin of the chain is not held"
        previous = None if places.epoch is None else places.epoch.previous
        if previous is None:
            return True, "the record of this gateway begins in the range"
        is_held = previous.seq in self._records.places[previous.epoch.hex()].held
        return is_held, f"seq {previous.seq} of chain {previous.epoch.hex()} {'' if is_held else 'is not '}held"

    def _after(self, epoch: EpochReport) -> tuple[bool, str]:
        places = self._records.places[epoch.epoch]
        if epoch.places[1] + 1 in places.held:
            return True, f"seq {epoch.places[1] + 1} held"
        last = places.held.end - 1
        followed = any(
            each.epoch is not None
            and each.epoch.previous is not None
            and each.epoch.previous.epoch.hex() == epoch.epoch
            for each in self._records.places.values()
        )
        if places.stop_seq == last:
            return True, f"the gateway stopped in order (seq {last})"
        if followed:
            return True, f"the next chain follows seq {last}"
        return False, f"seq {last} is the last one held"

    # Devices

    def _devices(self, complete: CompleteAnswer) -> Iterator[DeviceAnswer]:
        from_ns, to_ns = self._span
        for device in dict.fromkeys(each.device for each in self._tags.values()):
            tags = [each for each in self._tags.values() if each.device == device]
            spans = [(each.from_ns, to_ns if each.to_ns is None else each.to_ns,
                      "declared" if each.is_declared else "undeclared")
                     for each in complete.gaps if each.is_inside and each.device in (device, "")]  # fmt: skip
            spans += [(from_ns if each.from_ns is None else each.from_ns, to_ns if each.to_ns is None else each.to_ns,
                       "missing") for each in complete.missing]  # fmt: skip
            yield DeviceAnswer(
                device=device, tags=len(tags), due=sum(each.due or 0 for each in tags),
                received=sum(each.received for each in tags if each.due is not None),
                not_read=tuple(sorted((max(first, from_ns), min(last, to_ns), kind) for first, last, kind in spans)),
            )  # fmt: skip

    # The result

    def _result(self, unaltered: UnalteredAnswer, complete: CompleteAnswer) -> tuple[Result, str]:
        altered = sum(unaltered.verdicts.get(each, 0) for each in _ALTERED)
        untrusted = sum(number for name, number in unaltered.verdicts.items() if name not in (*_FINE, *_ALTERED))
        why = self._why_not(complete)
        if altered:
            text = f"{of(altered, unaltered.records)} not what the gateway signed."
            return "altered", " ".join([text, *why])
        if not self._chains:
            number = are(sum(self._first_verdicts.values()), "record")
            return "untrusted", (f"{number} here in the name of {self._name}, and none is signed by a key that "
                                 "--trust vouches for. None of them was used.")  # fmt: skip
        if untrusted:
            text = f"{of(untrusted, unaltered.records)} not signed by a key that --trust vouches for."
            return "untrusted", " ".join([text, *why])
        if not any(each.held for each in self._epochs):
            held = (f"{self._name} is held from {self._time_text(self._records.held_from_ns or 0)} to "
                    f"{self._time_text(self._records.held_to_ns or 0)}.")  # fmt: skip
            missing = f" {are(complete.missing_records, 'record')} known to be missing." if complete.missing else ""
            return "nothing_held", f"there is no record of this range.{missing} {held}"
        if not complete.is_complete:
            return "not_complete", " ".join([*why, "What is here is unaltered."])
        records = "the only record" if unaltered.records == 1 else f"all {unaltered.records:,} records"
        return "complete", f"{records} of the range are here, with valid signatures; all devices were read."

    def _why_not(self, complete: CompleteAnswer) -> list[str]:
        found = []
        if complete.missing_records:
            removed = sum(each.records for each in complete.missing if each.is_removed)
            missing = complete.missing_records - removed
            is_declared = all(each.is_declared or each.is_removed for each in complete.missing)
            if missing:
                found.append(f"{are(missing, 'record')} missing{', as declared' * is_declared}.")
            if removed:
                found.append(f"{are(removed, 'record')} removed by retention.")
        not_read: Counter[str] = Counter()
        from_ns, to_ns = self._span
        for each in complete.gaps:
            if each.is_inside:
                end_ns = to_ns if each.to_ns is None else min(each.to_ns, to_ns)
                not_read[each.device] += end_ns - max(each.from_ns, from_ns)
        if not_read:
            named = [f"{f'{device} was not' if device else 'no device was'} read for {format_duration(length_ns)}"
                     for device, length_ns in not_read.most_common(_DEVICES_NAMED)]  # fmt: skip
            more = len(not_read) - len(named)
            text = ", ".join(named) + (f", and {counted(more, 'more device')}" if more else "")
            found.append(f"{text[0].upper()}{text[1:]}." if text.startswith("no device") else f"{text}.")
        found += [f"{each[0].upper()}{each[1:]}." for each in complete.shortfalls]
        return found


def _instrument(tag: TagReadings, span: CalibrationSpan) -> InstrumentAnswer | None:
    """The calibration, where the tag was read with it."""
    read = tag.read_between(span.from_ns, span.to_ns)
    if read is None:
        return None
    overdue = None if span.overdue_ns is None else tag.read_between(*span.overdue_ns)
    had = span.calibration
    return InstrumentAnswer(
        device=had.device, tag=had.tag, instrument=had.instrument, serial=had.serial, certificate=had.certificate,
        calibrated=day_or_none(had.calibrated), due=day_or_none(had.due), tolerance=had.tolerance,
        from_ns=read[0], to_ns=read[1], overdue_from_ns=None if overdue is None else overdue[0],
    )  # fmt: skip


def day_or_none(day: int | None) -> str | None:
    """A day as people write it, where it is said."""
    return None if day is None else day_text(day)
