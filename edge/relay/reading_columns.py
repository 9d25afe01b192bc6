"""The readings of a sample block in columns: what a consumer gets of a record, without a step per value.

A block says everything about its readings: which value each tag had, with which status, when, and how far that time may
be off. Nothing is carried over from the block before, so that the same record always gives the same readings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.clock import TimeQuality
from edge.model import NO_TIME, Catalogue, CatalogueGroup, DataType, SampleBlock, Times, Vector, status_codes
from edge.seal import Data
from edge.verify import Verdict

BAD = 0x8000_0000


class Column(NamedTuple):
    """Values of tags of one data type.

    Attributes:
        tags: their numbers in the scan group, each once.
        raw: their values.
        codes: their status codes.
        times: the times that the device gave them; None where it gives none.
        is_known: whether there is a value.
    """

    data_type: DataType
    tags: NDArray[np.intp]
    raw: Vector
    codes: NDArray[np.uint32]
    times: Times | None
    is_known: NDArray[np.bool_]

    def kept(self, keep: NDArray[np.bool_]) -> Column:
        """Those of the values that are to stay."""
        if keep.all():
            return self
        times = None if self.times is None else self.times[keep]
        return Column(self.data_type, self.tags[keep], self.raw[keep], self.codes[keep], times, self.is_known[keep])


class BlockTime(NamedTuple):
    """When the values of a block were read.

    Attributes:
        utc_ns: UTC, by the clock as it was.
        boot_ns: boot time of the same instant.
        half_width_ns: how far before or after it a value may have been sampled.
        bound_ns: how far that clock may have been off; None where that is not known.
    """

    utc_ns: int
    boot_ns: int
    half_width_ns: int
    bound_ns: int | None

    @property
    def uncertainty_ns(self) -> int | None:
        """How far the time of a value may be off, the width of the reading included; None where it is not known."""
        return None if self.bound_ns is None else self.half_width_ns + self.bound_ns


@dataclass(frozen=True, slots=True)
class BlockReadings:
    """Readings that share their time: those of a scan, or of a notification with each tag once.

    Attributes:
        number: place of the block in its record.
        row: how many values of the same tag come before these in the block; 0 for a scan.
        group: the scan group; `number` of its catalogue is `block.group`.
    """

    number: int
    row: int
    block: SampleBlock
    group: CatalogueGroup
    time: BlockTime
    columns: tuple[Column, ...]


class Corrected(NamedTuple):
    """The time of a block as the gateway learned later that it was, and how far that may be off."""

    utc_ns: int
    uncertainty_ns: int | None


class SourcedBlock(NamedTuple):
    """Readings with the record that they come from.

    Attributes:
        epoch: of its chain, in hexadecimal.
        verdict: on the record.
        catalogue: digest of the catalogue that names its tags.
        is_unknown: the record holds something that only a later version knows.
        corrected: its right time, where the clock is known to have been wrong.
    """

    gateway: str
    epoch: str
    seq: int
    verdict: Verdict
    catalogue: bytes
    is_unknown: bool
    readings: BlockReadings
    corrected: Corrected | None = None


def block_time(block: SampleBlock, utc_ns: int, boot_ns: int, quality: TimeQuality) -> BlockTime:
    """The time of a block in a record that has `utc_ns` for `boot_ns`, by a clock of this quality."""
    at_ns = block.sampled_at_ns
    half_width_ns = -((block.asked_at_ns - block.answered_at_ns) // 2)
    return BlockTime(utc_ns + at_ns - boot_ns, at_ns, half_width_ns, quality.bound_at(at_ns))


def contexts_of(block: SampleBlock) -> tuple[int | None, int | None]:
    """The number of the context that a block ended in, and of the one before where it changed, or may have, meanwhile.

    0 is a context that is not known; None is none.
    """
    return (None, None) if not block.context else (block.context[-1], [None, *block.context][-2])


def readings_of(data: Data, catalogue: Catalogue) -> Iterator[BlockReadings]:
    """The readings of a record, block by block; `catalogue` is the one that it names. Raises Malformed.

    A scan gives the values that it reports, and each tag that was BAD without a value, also where it was BAD before. A
    tag that it does not give has not moved by more than its deadband, and its status is the one before.
    """
    for number, block in zip(data.numbers, data.blocks(catalogue), strict=True):
        group = catalogue.groups[block.group]
        time = block_time(block, data.utc_ns, data.boot_ns, data.time)
        if not block.is_notification:
            yield BlockReadings(number, 0, block, group, time, tuple(_scanned(block, group)))
            continue
        for row, columns in enumerate(_notified(block, group)):
            yield BlockReadings(number, row, block, group, time, columns)


def _scanned(block: SampleBlock, group: CatalogueGroup) -> Iterator[Column]:
    layout = group.layout
    codes = status_codes(block.status, len(layout))
    for vector, (data_type, members, raw) in enumerate(
        zip(layout.vector_types, layout.members, block.vectors, strict=True)
    ):
        times = None if block.source_times is None else block.source_times[vector]
        tags = members
        if block.positions is not None:
            positions = block.positions[vector]
            tags = members[positions]
            if block.status:
                is_silent = codes[members] >= BAD
                is_silent[positions] = False
                silent = members[is_silent]
                if len(silent):
                    tags = np.concatenate((tags, silent))
                    raw = np.concatenate((raw, np.full(len(silent), "" if raw.dtype == object else 0, raw.dtype)))
                    times = None if times is None else np.append(times, np.full(len(silent), NO_TIME, np.int64))
        if len(tags):
            yield _column(data_type, tags, raw, codes[tags], times)


def _notified(block: SampleBlock, group: CatalogueGroup) -> Iterator[tuple[Column, ...]]:
    """The first value of each tag, then the second of those that have one, and so on."""
    layout = group.layout
    positions = [np.asarray(each, np.intp) for each in block.positions or ()]
    ends = np.cumsum([0, *map(len, positions)])
    codes = status_codes(block.status, int(ends[-1]))  # They count the values, vector after vector.
    turns = [turns_of(each) for each in positions]
    for turn in range(1 + max((int(each.max(initial=-1)) for each in turns), default=-1)):
        columns = []
        for vector, (data_type, members) in enumerate(zip(layout.vector_types, layout.members, strict=True)):
            now = np.flatnonzero(turns[vector] == turn)
            if len(now):
                times = None if block.source_times is None else block.source_times[vector][now]
                tags, raw = members[positions[vector][now]], block.vectors[vector][now]
                columns.append(_column(data_type, tags, raw, codes[ends[vector] + now], times))
        yield tuple(columns)


def _column(
    data_type: DataType, tags: NDArray[np.intp], raw: Vector, codes: NDArray[np.uint32], times: Times | None
) -> Column:
    is_known = codes < BAD if data_type.is_known else np.zeros(len(tags), np.bool_)
    return Column(data_type, tags, raw, codes, times, is_known)


def turns_of(places: NDArray[np.intp]) -> NDArray[np.intp]:
    """How many of the same number come before each."""
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    turns = np.empty(len(places), np.intp)
    turns[order] = np.arange(len(places)) - np.searchsorted(ordered, ordered)
    return turns
