"""The scan groups of a device, polled and subscribed: counts, gaps, and the sample blocks made of what is answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.model import (
    NO_TIME,
    CatalogueGroup,
    Notification,
    Reading,
    SampleBlock,
    StatusCode,
    StatusRun,
    Times,
    Vector,
    status_runs,
)
from edge.scan.report_by_exception import Inside, Reporter, inside_of
from edge.scan.schedule import Grid
from edge.scan.stalls import HoleWatch

_PIECE_BYTES = 24_000  # Of a notification in one block: a record holds 60,000 and may carry other blocks too.
_VALUE_BYTES = 2 + 8 + 14  # Position, source time and a status of its own.
_CHARACTER_BYTES = 4


@dataclass(slots=True)
class ScanCounts:
    """Scans since the start: due = done + skipped + failed, plus one while a scan is under way.

    Skipped are due times that passed while the device was still answering; failed are scans without an answer.
    """

    due: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0

    def __add__(self, other: ScanCounts) -> ScanCounts:
        return ScanCounts(
            self.due + other.due, self.done + other.done, self.skipped + other.skipped, self.failed + other.failed
        )


@dataclass(frozen=True, slots=True)
class OpenGap:
    """A stretch without answers that has not ended, from the first failed request."""

    from_ns: int
    status: int
    detail: str


class ScanGroup:
    """A scan group of one device, polled or subscribed.

    Attributes:
        number: index of the group in the catalogue.
        reading: the latest values and times; None until there are any.
        violations: answers that were refused last, in the session that lasts.
        gap: the stretch without answers that lasts; None while the device answers.
        holes: records what was not read in time while the device answered.
    """

    holes: HoleWatch

    def __init__(self, number: int, catalogue: CatalogueGroup, plan: Any, *, urgent: bool = False) -> None:
        self.number = number
        self.name = catalogue.name
        self.catalogue = catalogue
        self.plan = plan
        self.urgent = urgent
        self.interval_ns = catalogue.interval_ns
        self.counts = ScanCounts()
        self.reading: Reading | None = None
        self.violations: tuple[str, ...] = ()
        self.gap: OpenGap | None = None

    def renumber(self, number: int) -> None:
        """Take another number: the one that the group has in the next catalogue."""
        self.number = number

    @property
    def status(self) -> tuple[StatusRun, ...]:
        """The tags whose last reported status is not GOOD."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Report every tag with the next answer."""
        raise NotImplementedError

    def lost_block(self, since_ns: int, now_ns: int) -> SampleBlock:
        """The block that marks every tag BAD because the device is lost."""
        raise NotImplementedError

    def open_gap(self, from_ns: int, detail: str) -> OpenGap:
        """Begin a gap: the device has not answered since `from_ns`."""
        self.gap = OpenGap(from_ns, int(StatusCode.BAD_NO_COMMUNICATION), detail)
        return self.gap

    def close_gap(self) -> OpenGap | None:
        """End the gap, and return it; None where there was none."""
        gap, self.gap = self.gap, None
        return gap


class PolledGroup(ScanGroup):
    """A group that is polled: once in its interval, `phase_ns` into it.

    Attributes:
        due_ns: boot time of the next scan.
    """

    def __init__(
        self, number: int, catalogue: CatalogueGroup, plan: Any, *, urgent: bool = False, phase_ns: int = 0
    ) -> None:
        super().__init__(number, catalogue, plan, urgent=urgent)
        self.due_ns = 0
        self._reporter = Reporter(number, catalogue)
        self._grid = Grid(catalogue.interval_ns, phase_ns)
        self._counted = 0  # Number of the last due time that is in the counts.
        self._is_overrun = False

    def renumber(self, number: int) -> None:
        """See `ScanGroup.renumber`."""
        self.number = self._reporter.number = number

    @property
    def status(self) -> tuple[StatusRun, ...]:
        """See `ScanGroup.status`."""
        return self._reporter.status

    def refresh(self) -> None:
        """See `ScanGroup.refresh`."""
        self._reporter.refresh()

    def lost_block(self, since_ns: int, now_ns: int) -> SampleBlock:
        """See `ScanGroup.lost_block`."""
        return self._reporter.lost_block(since_ns, now_ns)

    def start(self, now_ns: int) -> None:
        """Count due times from `now_ns` on."""
        self._counted = self._grid.index(now_ns)

    def begin(self, now_ns: int) -> int:
        """Count the scan that begins; returns its delay where it is the first to skip due times, else 0.

        Missed due times are skipped and never caught up on: a slow device is asked less often.
        """
        index = self._grid.index(now_ns)
        passed = index - self._counted
        late_ns = now_ns - self._grid.due_ns(self._counted + 1)
        self._counted = index
        self.counts.due += max(passed, 1)  # 0 have passed where a new session scans at once, off the grid.
        self.counts.skipped += max(passed - 1, 0)
        was_overrun, self._is_overrun = self._is_overrun, passed > 1
        return late_ns if self._is_overrun and not was_overrun else 0

    def finish(self, reading: Reading, now_ns: int) -> SampleBlock:
        """Count the answered scan; returns the block to seal."""
        self.counts.done += 1
        self.reading = reading
        self.due_ns = self._grid.due_ns(self._grid.index(now_ns) + 1)
        return self._reporter.report(reading)

    def fail(self) -> None:
        """Count the scan that began as failed."""
        self.counts.failed += 1

    def count_failed(self, now_ns: int) -> None:
        """Count the due times that passed without a session as failed."""
        index = self._grid.index(now_ns)
        self.counts.due += index - self._counted
        self.counts.failed += index - self._counted
        self._counted = index


class SubscribedGroup(ScanGroup):
    """A group whose device sends a notification of every change: each of its values is reported.

    A value that is not notified is unchanged, so all values are reported again once in the shortest `at_least_every`
    of the tags.

    Attributes:
        notified_at_ns: boot time of the last notification; None before the first.
    """

    def __init__(self, number: int, catalogue: CatalogueGroup, plan: Any, *, urgent: bool = False) -> None:
        super().__init__(number, catalogue, plan, urgent=urgent)
        self.notified_at_ns: int | None = None
        self._layout = layout = catalogue.layout
        self._inside = tuple(
            inside_of(data_type, [catalogue.tags[tag] for tag in members])
            for data_type, members in zip(layout.vector_types, layout.members, strict=True)
        )
        at_least_ns = [tag.at_least_every_ns for tag in catalogue.tags if tag.at_least_every_ns]
        self._complete_every_ns = min(at_least_ns, default=0)
        self._vectors = layout.empty()
        self._times: tuple[Times, ...] | None = None
        self._codes = np.full(len(layout), StatusCode.BAD_NO_COMMUNICATION, np.uint32)
        self._codes_before_loss: NDArray[np.uint32] | None = None
        self._complete_at_ns: int | None = None
        self._needs_all = False

    @property
    def status(self) -> tuple[StatusRun, ...]:
        """See `ScanGroup.status`."""
        return status_runs(self._codes)

    def refresh(self) -> None:
        """See `ScanGroup.refresh`."""
        self._needs_all = True

    def lost_block(self, since_ns: int, now_ns: int) -> SampleBlock:
        """See `ScanGroup.lost_block`."""
        self._codes_before_loss = self._codes.copy()
        self._codes[:] = StatusCode.BAD_NO_COMMUNICATION
        nothing = tuple(vector[:0].copy() for vector in self._vectors)
        nowhere = (np.empty(0, np.uint16),) * len(nothing)
        return SampleBlock(self.number, since_ns, now_ns, nothing, nowhere, self.status)

    def apply(self, notification: Notification) -> list[SampleBlock]:
        """Update the group; returns the blocks to seal, for an empty notification one block without values."""
        self.counts.due += 1
        self.counts.done += 1
        self.notified_at_ns = notification.answered_at_ns
        if notification.is_continued and self._codes_before_loss is not None:
            self._codes, self._codes_before_loss = self._codes_before_loss, None
            self._needs_all = True
        codes = tuple(
            map(_with_range_status, notification.vectors, notification.positions, notification.codes, self._inside)
        )
        self._update(notification, codes)
        blocks = list(_blocks(self.number, notification, codes))
        if self._complete_at_ns is None:
            self._complete_at_ns = notification.answered_at_ns  # The first notification holds the current values.
        if self._needs_all or 0 < self._complete_every_ns <= notification.answered_at_ns - self._complete_at_ns:
            blocks.append(self._complete(notification))
            self._complete_at_ns, self._needs_all = notification.answered_at_ns, False
        return blocks

    def _update(self, notification: Notification, codes: tuple[NDArray[np.uint32], ...]) -> None:
        """Update the latest value, status and time of each tag; of several values of one tag the last stays."""
        if notification.source_times is not None and self._times is None:
            self._times = tuple(np.full(len(vector), NO_TIME, np.int64) for vector in self._vectors)
        for v, (positions, members) in enumerate(zip(notification.positions, self._layout.members, strict=True)):
            if not len(positions):
                continue
            self._vectors[v][positions] = notification.vectors[v]
            self._codes[members[positions]] = codes[v]
            if notification.source_times is not None and self._times is not None:
                self._times[v][positions] = notification.source_times[v]
        self.reading = Reading(
            self._vectors, notification.asked_at_ns, notification.answered_at_ns, self.status, (), self._times,
            notification.device_time_ns,
        )  # fmt: skip

    def _complete(self, notification: Notification) -> SampleBlock:
        vectors = tuple(vector.copy() for vector in self._vectors)
        times = None if self._times is None else tuple(each.copy() for each in self._times)
        return SampleBlock(
            self.number, notification.asked_at_ns, notification.answered_at_ns, vectors, None, self.status, times
        )


def _with_range_status(
    values: Vector, positions: NDArray[np.uint16], codes: NDArray[np.uint32], inside: Inside | None
) -> NDArray[np.uint32]:
    if inside is None or not len(values):
        return codes
    outside = ~inside(values, positions) & (codes == StatusCode.GOOD)
    return np.where(outside, np.uint32(StatusCode.UNCERTAIN_OUT_OF_RANGE), codes) if outside.any() else codes


def _blocks(number: int, notification: Notification, codes: tuple[NDArray[np.uint32], ...]) -> Iterator[SampleBlock]:
    """The notification, split into blocks that fit a record together with others."""
    for piece in _pieces(notification.vectors):
        kept = [code[part] for code, part in zip(codes, piece, strict=True)]
        yield SampleBlock(
            number, notification.asked_at_ns, notification.answered_at_ns,
            tuple(vector[part] for vector, part in zip(notification.vectors, piece, strict=True)),
            tuple(positions[part] for positions, part in zip(notification.positions, piece, strict=True)),
            status_runs(np.concatenate(kept)) if any(code.any() for code in kept) else (),
            None if notification.source_times is None
            else tuple(times[part] for times, part in zip(notification.source_times, piece, strict=True)),
            is_notification=True,
        )  # fmt: skip


def _pieces(vectors: tuple[Vector, ...]) -> Iterator[list[slice]]:
    """Slices of all vectors, each piece small enough for a block; one empty piece where there are no values."""
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
