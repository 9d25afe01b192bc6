"""A scan group whose device tells by itself what changed: its notifications become sample blocks, value by value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.model import (
    NO_TIME,
    CatalogueGroup,
    DataType,
    Notification,
    Reading,
    SampleBlock,
    StatusCode,
    StatusRun,
    Times,
    Vector,
    status_runs,
)
from edge.scan.column import raw_ranges
from edge.scan.group import Group

_PIECE_BYTES = 24_000  # Of a notification in one block: records hold 60,000, and share them with others.
_VALUE_BYTES = 2 + 8 + 14  # Position, source time and a status of its own.
_CHARACTER_BYTES = 4


class SubscribedGroup(Group):
    """A group of which every change is told.

    All values of a group are reported again once in the shortest `at_least_every` of its tags: what is not told has
    not moved, by the device's word.

    Attributes:
        heard_at_ns: boot time of the last notification; None before the first.
    """

    def __init__(self, number: int, catalogue: CatalogueGroup, plan: Any, *, urgent: bool = False) -> None:
        super().__init__(number, catalogue, plan, urgent=urgent)
        self.heard_at_ns: int | None = None
        self._layout = layout = catalogue.layout
        self._ranges = tuple(
            _ranges(data_type, [catalogue.tags[tag] for tag in members])
            for data_type, members in zip(layout.vector_types, layout.members, strict=True)
        )
        self._again_ns = min((tag.at_least_every_ns for tag in catalogue.tags if tag.at_least_every_ns), default=0)
        self._vectors = layout.empty()
        self._times: tuple[Times, ...] | None = None
        self._codes = np.full(len(layout), StatusCode.BAD_NO_COMMUNICATION, np.uint32)
        self._complete_at_ns: int | None = None
        self._needs_all = False

    @property
    def status(self) -> tuple[StatusRun, ...]:
        """See `Group.status`."""
        return status_runs(self._codes)

    def refresh(self) -> None:
        """See `Group.refresh`."""
        self._needs_all = True

    def lost(self, since_ns: int, now_ns: int) -> SampleBlock:
        """See `Group.lost`."""
        self._codes[:] = StatusCode.BAD_NO_COMMUNICATION
        nothing = tuple(vector[:0].copy() for vector in self._vectors)
        nowhere = (np.empty(0, np.uint16),) * len(nothing)
        return SampleBlock(self.number, since_ns, now_ns, nothing, nowhere, self.status)

    def take(self, changes: Notification) -> list[SampleBlock]:
        """What is to be sealed of a notification; of an empty one, that it came."""
        self.counts.due += 1
        self.counts.done += 1
        self.heard_at_ns = changes.answered_at_ns
        codes = tuple(map(self._judged, changes.vectors, changes.positions, changes.codes, self._ranges))
        self._keep(changes, codes)
        blocks = list(_blocks(self.number, changes, codes))
        if self._complete_at_ns is None:
            self._complete_at_ns = changes.answered_at_ns  # The values of now are told first.
        if self._needs_all or 0 < self._again_ns <= changes.answered_at_ns - self._complete_at_ns:
            blocks.append(self._complete(changes))
            self._complete_at_ns, self._needs_all = changes.answered_at_ns, False
        return blocks

    def _judged(
        self, values: Vector, positions: NDArray[np.uint16], codes: NDArray[np.uint32], ranges: _Ranges | None
    ) -> NDArray[np.uint32]:
        if ranges is None or not len(values):
            return codes
        low, high = ranges
        outside = ((values < low[positions]) | (values > high[positions])) & (codes == StatusCode.GOOD)
        return np.where(outside, np.uint32(StatusCode.UNCERTAIN_OUT_OF_RANGE), codes) if outside.any() else codes

    def _keep(self, changes: Notification, codes: tuple[NDArray[np.uint32], ...]) -> None:
        """Bring what is known of every tag up to date: of several values of one tag the last stays."""
        if changes.source_times is not None and self._times is None:
            self._times = tuple(np.full(len(vector), NO_TIME, np.int64) for vector in self._vectors)
        for v, (positions, members) in enumerate(zip(changes.positions, self._layout.members, strict=True)):
            if not len(positions):
                continue
            self._vectors[v][positions] = changes.vectors[v]
            self._codes[members[positions]] = codes[v]
            if changes.source_times is not None and self._times is not None:
                self._times[v][positions] = changes.source_times[v]
        self.reading = Reading(
            self._vectors, changes.asked_at_ns, changes.answered_at_ns, self.status, (), self._times,
            changes.device_time_ns,
        )  # fmt: skip

    def _complete(self, changes: Notification) -> SampleBlock:
        vectors = tuple(vector.copy() for vector in self._vectors)
        times = None if self._times is None else tuple(each.copy() for each in self._times)
        return SampleBlock(self.number, changes.asked_at_ns, changes.answered_at_ns, vectors, None, self.status, times)


_Ranges = tuple[NDArray[Any], NDArray[Any]]


def _ranges(data_type: DataType, tags: list[Any]) -> _Ranges | None:
    return raw_ranges(data_type, tags) if data_type.is_number and any(tag.range for tag in tags) else None


def _blocks(number: int, changes: Notification, codes: tuple[NDArray[np.uint32], ...]) -> Iterator[SampleBlock]:
    """The notification in blocks that fit a record with others."""
    for piece in _pieces(changes.vectors):
        told = [code[part] for code, part in zip(codes, piece, strict=True)]
        yield SampleBlock(
            number, changes.asked_at_ns, changes.answered_at_ns,
            tuple(vector[part] for vector, part in zip(changes.vectors, piece, strict=True)),
            tuple(positions[part] for positions, part in zip(changes.positions, piece, strict=True)),
            status_runs(np.concatenate(told)) if any(code.any() for code in told) else (),
            None if changes.source_times is None
            else tuple(times[part] for times, part in zip(changes.source_times, piece, strict=True)),
            is_notification=True,
        )  # fmt: skip


def _pieces(vectors: tuple[Vector, ...]) -> Iterator[list[slice]]:
    """Parts of all vectors that are small enough together; one, empty, where there are no values."""
    sizes = [_value_bytes(vector) for vector in vectors]
    begins = [0] * len(vectors)
    while True:
        left, piece = _PIECE_BYTES, []
        for v, size in enumerate(sizes):
            fit = int(np.searchsorted(np.cumsum(size[begins[v] :]), left, "right"))
            end = begins[v] + max(fit, 1 if left == _PIECE_BYTES and len(size) > begins[v] else 0)
            left -= int(size[begins[v] : end].sum())
            piece.append(slice(begins[v], end))
            begins[v] = end
        yield piece
        if all(begin == len(size) for begin, size in zip(begins, sizes, strict=True)):
            return


def _value_bytes(vector: Vector) -> NDArray[np.int64]:
    if vector.dtype.kind == "O":
        return np.array([_VALUE_BYTES + 5 + _CHARACTER_BYTES * len(text) for text in vector], np.int64)
    return np.full(len(vector), _VALUE_BYTES + vector.dtype.itemsize, np.int64)
