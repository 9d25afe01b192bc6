"""What an instrument touched that is found out of tolerance: the readings of a range that were taken with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from edge.relay.reading_columns import BlockReadings, SourcedBlock
from edge.report.facts import Result
from edge.report.gateway import day_or_none
from edge.seal import Context
from edge.seal.record import ISSUER_PREFIX
from edge.verify import Judgement, Verdict
from edge.verify.calibrations import CalibrationHistory, CalibrationSpan


@dataclass(frozen=True, slots=True, kw_only=True)
class TouchedTag:
    """Readings of one tag that had one calibration of the instrument. Times are UTC in nanoseconds."""

    gateway: str
    device: str
    tag: str
    serial: str
    certificate: str
    calibrated: str | None
    """Day of the calibration, such as 2026-03-31."""
    due: str | None
    """The last day for which it is valid."""
    tolerance: str
    readings: int
    overdue: int
    """How many of them were taken after that day."""
    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TouchedBatch:
    """A batch in which readings were taken with the instrument. Times are UTC in nanoseconds."""

    gateway: str
    unit: str
    batch: str
    first_ns: int
    """Of the first reading that was taken with it in the batch, or while the batch changed."""
    last_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpactAnswer:
    """What an instrument touched in a range."""

    instrument: str
    from_ns: int | None
    to_ns: int | None
    result: Result
    """Of the report on the range: where records are missing, more may be touched than is listed."""
    text: str
    """Sentences for people; their words may change with each version."""
    readings: int
    tags: tuple[TouchedTag, ...]
    batches: tuple[TouchedBatch, ...]
    batch_unknown: int
    """Scans with such readings in a unit of which the batch is not known."""
    left_out: dict[str, int]
    """Records that may hold readings of the instrument and were left out, by the reason."""


class _Place(NamedTuple):
    """A tag in a scan group, and a calibration of the instrument that it had."""

    number: int
    span: CalibrationSpan


@dataclass(slots=True)
class _Count:
    readings: int = 0
    overdue: int = 0
    first_ns: int = 2**63
    last_ns: int = -(2**63)


class Batches:
    """The batches of blocks, by the contexts that they name; a context is sealed again each hour."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str, int], Context] = {}  # By the place of the record.
        self._touched: dict[tuple[str, str, str], tuple[int, int]] = {}
        self.unknown = 0

    def note(self, judgements: Iterable[Judgement]) -> None:
        """Take verdicts: of authentic records what they say of a context."""
        for each in judgements:
            place = each.issuer.removeprefix(ISSUER_PREFIX), each.epoch.hex(), each.seq
            if each.verdict is Verdict.AUTHENTIC and isinstance(each.content, Context):
                self._said[place] = each.content
            elif each.type is None:  # It had been accepted.
                self._said.pop(place, None)

    @cached_property
    def _contexts(self) -> dict[tuple[str, str, int], Context]:
        """By the number that blocks name, once every record has come."""
        return {(gateway, epoch, each.number): each for (gateway, epoch, _), each in self._said.items()}

    def touch(self, block: SourcedBlock) -> None:
        """Readings of a block were taken with the instrument."""
        utc_ns, is_known = block.readings.time.utc_ns, True
        for number in block.readings.block.context:
            context = self._contexts.get((block.gateway, block.epoch, number))
            batch = None if context is None else context.members.get("batch")
            is_known &= batch is not None
            if context is not None and batch:
                key = block.gateway, context.unit, batch
                first, last = self._touched.get(key, (utc_ns, utc_ns))
                self._touched[key] = min(first, utc_ns), max(last, utc_ns)
        self.unknown += not is_known

    def touched(self) -> tuple[TouchedBatch, ...]:
        """The batches, in the order of their begin."""
        held = sorted(self._touched.items(), key=lambda each: (each[1][0], each[0]))
        return tuple(TouchedBatch(gateway=gateway, unit=unit, batch=batch, first_ns=first, last_ns=last)
                     for (gateway, unit, batch), (first, last) in held)  # fmt: skip


class Touched:
    """Counts the readings that were taken with an instrument; blocks may come in any order.

    Args:
        instrument: its id, as the configuration had it.
        histories: the calibrations of each gateway.
    """

    def __init__(self, instrument: str, histories: Mapping[str, CalibrationHistory]) -> None:
        self._instrument, self._histories = instrument, histories
        self._places: dict[tuple[str, bytes, int], list[_Place]] = {}
        self._counts: defaultdict[tuple[str, CalibrationSpan], _Count] = defaultdict(_Count)

    def count(self, blocks: Iterable[SourcedBlock]) -> Iterator[SourcedBlock]:
        """Count the readings of these blocks; gives those that hold any."""
        for block in blocks:
            is_touched = False
            for place in self._of(block):
                if number := _readings_of(block.readings, place):
                    self._add(self._counts[block.gateway, place.span], place.span, block.readings.time.utc_ns, number)
                    is_touched = True
            if is_touched:
                yield block

    @staticmethod
    def _add(count: _Count, span: CalibrationSpan, utc_ns: int, number: int) -> None:
        count.readings += number
        count.overdue += number * span.calibration.is_overdue(utc_ns)
        count.first_ns, count.last_ns = min(count.first_ns, utc_ns), max(count.last_ns, utc_ns)

    def _of(self, block: SourcedBlock) -> list[_Place]:
        key = block.gateway, block.catalogue, block.readings.block.group
        if key not in self._places:
            history, group = self._histories[block.gateway], block.readings.group
            self._places[key] = [
                _Place(number, span)
                for number, tag in enumerate(group.tags)
                for span in history.of(group.device, tag.name)
                if span.calibration.instrument == self._instrument
            ]
        return self._places[key]

    def tags(self) -> tuple[TouchedTag, ...]:
        """The readings, by tag and calibration."""
        return tuple(
            TouchedTag(
                gateway=gateway, device=had.device, tag=had.tag, serial=had.serial, certificate=had.certificate,
                calibrated=day_or_none(had.calibrated), due=day_or_none(had.due), tolerance=had.tolerance,
                readings=each.readings, overdue=each.overdue, first_ns=each.first_ns, last_ns=each.last_ns,
            )
            for (gateway, (had, *_)), each in sorted(self._counts.items(), key=lambda item: _order(item[0]))
        )  # fmt: skip


def instruments(histories: Iterable[CalibrationHistory]) -> list[str]:
    """The ids of all instruments on record."""
    found = {span.calibration.instrument for each in histories for key in each.tags() for span in each.of(*key)}
    return sorted(found - {""})


def _order(key: tuple[str, CalibrationSpan]) -> tuple[str, str, str, int]:
    gateway, span = key
    return gateway, span.calibration.device, span.calibration.tag, span.from_ns


def _readings_of(block: BlockReadings, place: _Place) -> int:
    """How often a tag was read in a block: once in each scan, or as often as its device sent it."""
    if not place.span.from_ns <= block.time.utc_ns < place.span.to_ns:
        return 0
    if not block.block.is_notification:
        return 1
    return sum(int(np.count_nonzero(column.tags == place.number)) for column in block.columns)
