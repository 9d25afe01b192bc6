"""The gateway's record keeper: it seals what is acquired, in order, and sees that it becomes durable.

Nothing that hands something in ever waits. Readings gather for the commit window; everything else is sealed at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import IntEnum

from edge.buffer import BufferWriter, Usage, WriteResult
from edge.clock import Clock, TimeQuality
from edge.clock.timekeeper import Require, Step, Timekeeper
from edge.errors import BufferFull
from edge.model import Catalogue, SampleBlock, StatusCode, status_codes, status_runs
from edge.recorder.commit_window import Batch, coarser, encoded_bytes
from edge.seal import (
    BufferState,
    Chain,
    EncodedCatalogue,
    Event,
    Gap,
    KnownDevice,
    Loss,
    LossReason,
    Record,
    RecordTooLarge,
    RecordType,
    Severity,
    StopReason,
    TimeChange,
    encode,
    encode_data,
    encode_identities,
)

TICK_S = 1.0
CATALOGUE_EVERY_NS = 3600 * 10**9
WAITING_BYTES_LIMIT = 64 << 20
"""Most bytes handed to the disk and not yet durable; beyond it readings are refused and a GAP says so."""
TEXT_LIMIT = 2_000
"""Most characters of one text in an EVENT or GAP: a device that answers nonsense must not fill a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderSettings:
    """How long readings gather, how long silence may last, and what is asked of the clock."""

    commit_window_ns: int = 20 * 10**6
    heartbeat_ns: int = 10 * 10**9
    checkpoint_ns: int = 60 * 10**9
    require: Require = Require.BOUNDED


def _nobody() -> None:
    """Told of nothing."""


@dataclass(slots=True)
class LedgerCounts:
    """What was sealed since the start."""

    records: int = 0
    record_bytes: int = 0
    scans: int = 0
    refused_scans: int = 0
    lost_records: int = 0
    commits: int = 0
    steps: int = 0


class Recorder:
    """Seals blocks, events, gaps and time changes into one chain, and hands the records to the buffer."""

    def __init__(
        self, chain: Chain, writer: BufferWriter, timekeeper: Timekeeper, clock: Clock, catalogue: Catalogue,
        rules: RecorderSettings = RecorderSettings(), devices: Iterable[KnownDevice] = (),
    ) -> None:  # fmt: skip
        self.chain = chain
        self.counts = LedgerCounts()
        self.on_stored: Callable[[], None] = _nobody
        self.on_backpressure_end: Callable[[], None] = _nobody
        self.usage: Usage | None = None
        self.sealed_at_ns: int | None = None
        self._writer, self._timekeeper, self._clock, self._rules = writer, timekeeper, clock, rules
        self._catalogue = EncodedCatalogue.of(catalogue)
        self._devices = {known.device: known for known in devices}
        self._batch = Batch()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting_bytes = 0
        self._checkpoint_at_ns = self._catalogue_at_ns = clock.boot_ns()
        self._refused_from_ns: int | None = None
        self._losses: list[tuple[int, int]] = []
        self._is_catalogue_lost = self._is_closed = False
        self._gaps: dict[tuple[int | None, int], int] = {}  # Those without an end: where and when, and that in UTC.
        self._tag_counts = [len(group.tags) for group in catalogue.groups]

    # What is handed in

    def add_block(self, block: SampleBlock, *, urgent: bool = False) -> None:
        """Take one scan; it is sealed with the commit window, an urgent one at once."""
        if self._waiting_bytes > WAITING_BYTES_LIMIT:
            self._refuse(block.asked_at_ns)
        if self._refused_from_ns is not None:
            self.counts.refused_scans += 1
            return
        if not self._timekeeper.is_met(self._rules.require):
            block = self._marked_uncertain(block)
        self.counts.scans += 1
        size_bytes = encoded_bytes(block)
        if not self._batch.has_room_for(size_bytes):
            self.commit()
        self._batch.add(block, size_bytes)
        if urgent or self._batch.is_full:
            self.commit()
        elif self._timer is None:
            self._start_window()

    def record_event(self, kind: str, severity: int, subject: str, data: Mapping[str, str | int | None]) -> None:
        """Put something on record: it is sealed at once. After STOP nothing is."""
        if self._is_closed:
            return
        exact = {name: _exact(value) for name, value in data.items()}
        event = Event(at_ns=self._utc_ns(), kind=kind, severity=Severity(severity + 1), subject=subject, data=exact)
        self._keep([self._sealed(RecordType.EVENT, encode(event))], urgent=True)

    def record_gap(self, group: int | None, from_ns: int, to_ns: int | None, status: int, detail: str = "") -> None:
        """A stretch of boot time without readings, of one scan group or of all; told at its begin and its end."""
        utc_of = self._timekeeper.utc_of
        if to_ns is None:
            began_ns = self._gaps[group, from_ns] = utc_of(from_ns)
            ended_ns = None
        else:
            # The same beginning as was told then, also where the clock was set meanwhile: they are one gap.
            began_ns = self._gaps.pop((group, from_ns), utc_of(from_ns))
            ended_ns = max(began_ns, utc_of(to_ns))
        detail = detail[:TEXT_LIMIT]
        self.record_gap_in_utc(Gap(group=group, from_ns=began_ns, to_ns=ended_ns, status=status, detail=detail))

    def record_gap_in_utc(self, gap: Gap) -> None:
        """A stretch whose ends are known in UTC, such as the time the gateway was off."""
        self._keep([self._sealed(RecordType.GAP, encode(gap))], urgent=True)

    def record_step(self, step: Step) -> None:
        """The clock was set, or an earlier stretch can be corrected: readings until then keep the time they had."""
        self.counts.steps += step.step_ns != 0
        records = self._batch_records(step.before)
        change = TimeChange(
            before=step.before, after=step.after, step_ns=step.step_ns, corrected_boot_ns=(step.from_ns, step.to_ns),
            correction_ns=step.correction_ns, bound_after_ns=step.bound_ns,
        )  # fmt: skip
        records.append(self._sealed(RecordType.TIME, encode(change)))
        self._keep(records)

    def seal(self, kind: RecordType, payload: bytes) -> asyncio.Future[WriteResult]:
        """Seal and keep something else; done when it is durable."""
        return self._keep([self._sealed(kind, payload)], urgent=True)

    def store_first(self, record: Record) -> asyncio.Future[WriteResult]:
        """The EPOCH or CHECKPOINT that began this run, then the catalogue; done when they are durable."""
        self._note(record)
        return self._keep([record, *self._catalogue_records()])

    async def checkpoint(self) -> None:
        """Seal the identity's word for everything so far, and for the session key."""
        # A counter ahead of the chain would speak of a signature that nobody can show.
        await asyncio.wait([self._keep([self._checkpoint_record()], urgent=True)])
        await self.save_counter()

    def _checkpoint_record(self) -> Record:
        self._checkpoint_at_ns = self._clock.boot_ns()
        record = self.chain.checkpoint(self._time_now(), self._buffer_state())
        self._note(record)
        return record

    def repeat_catalogue(self) -> None:
        """Seal the catalogue again: a reader may have come late, or lost it."""
        self._keep(self._catalogue_records())

    def change_catalogue(self, catalogue: EncodedCatalogue) -> None:
        """More is known of the same tags: what is read from now on refers to this catalogue."""
        self.commit()
        self._catalogue = catalogue
        self.repeat_catalogue()

    def record_identity(self, known: KnownDevice) -> None:
        """Put on record what a device says it is, and again whenever the catalogue is."""
        self._devices[known.device] = known
        self._keep(self._identity_records([known]))

    # The commit window

    def _start_window(self) -> None:
        loop = asyncio.get_running_loop()
        if self._rules.commit_window_ns:
            self._timer = loop.call_later(self._rules.commit_window_ns / 1e9, self.commit)
        elif not self._waiting_bytes:
            self.commit()
        # With no window and a commit on its way to the disk, the next one begins when that is durable.

    def commit(self) -> None:
        """Seal what has gathered."""
        self._timekeeper.observe()  # A step hands out the batch itself, with the time it was read under.
        records = self._batch_records(self._timekeeper.quality)
        if records:
            self._keep(records)

    def _batch_records(self, time: TimeQuality) -> list[Record]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        blocks = self._batch.take()
        return self._data_records(blocks, time) if blocks else []

    def _data_records(self, blocks: Sequence[SampleBlock], time: TimeQuality) -> list[Record]:
        at_ns = blocks[0].sampled_at_ns if blocks else self._clock.boot_ns()
        payload = encode_data(
            utc_ns=at_ns + time.offset_ns, boot_ns=at_ns, time=time, catalogue=self._catalogue.digest, blocks=blocks
        )
        try:
            return [self._sealed(RecordType.DATA, payload)]
        except RecordTooLarge:
            if len(blocks) == 1:
                return self._data_records([coarser(blocks[0])], time)
            half = len(blocks) // 2
            return self._data_records(blocks[:half], time) + self._data_records(blocks[half:], time)

    def _marked_uncertain(self, block: SampleBlock) -> SampleBlock:
        """Readings under a clock that is not what the plant asks for."""
        count = sum(map(len, block.vectors)) if block.is_notification else self._tag_counts[block.group]
        if not count:
            return block
        if not block.status:
            return replace(block, status=((0, count, int(StatusCode.UNCERTAIN)),))
        codes = status_codes(block.status, count)
        codes[codes == StatusCode.GOOD] = StatusCode.UNCERTAIN
        return replace(block, status=status_runs(codes))

    # Sealing

    def _sealed(self, kind: RecordType, payload: bytes) -> Record:
        record = self.chain.seal(kind, payload)
        self._note(record)
        return record

    def _note(self, record: Record) -> None:
        self.sealed_at_ns = self._clock.boot_ns()
        self.counts.records += 1
        self.counts.record_bytes += len(record.data)

    def _keep(self, records: Sequence[Record], *, urgent: bool = False) -> asyncio.Future[WriteResult]:
        size_bytes = sum(len(record.data) for record in records)
        self._waiting_bytes += size_bytes
        kept = self._writer.store(records, urgent=urgent)
        kept.add_done_callback(lambda future: self._was_kept(future, records, size_bytes))
        return kept

    def _was_kept(self, kept: asyncio.Future[WriteResult], records: Sequence[Record], size_bytes: int) -> None:
        self._waiting_bytes -= size_bytes
        if kept.cancelled():
            return
        error = kept.exception()
        if isinstance(error, BufferFull):
            self._not_kept(records)
            return
        if error is not None:
            raise error
        self.counts.commits += 1
        self.on_stored()
        if self._batch and not self._rules.commit_window_ns and self._refused_from_ns is None:
            self.commit()

    # A buffer that takes nothing

    @property
    def is_refusing(self) -> bool:
        """Whether readings are turned away because nothing can be kept."""
        return self._refused_from_ns is not None

    def _not_kept(self, records: Sequence[Record]) -> None:
        self.counts.lost_records += len(records)
        self._is_catalogue_lost |= any(record.type is RecordType.CATALOG for record in records)
        first, last = records[0].seq, records[-1].seq
        if self._losses and self._losses[-1][1] == first - 1:
            first = self._losses.pop()[0]
        self._losses.append((first, last))
        self._refuse(self._clock.boot_ns())

    def _refuse(self, from_ns: int) -> None:
        """Take no more readings; those that have gathered go too, and the gap begins with the first of them."""
        if self._refused_from_ns is None:
            gathered = self._batch.take()
            self._refused_from_ns = min([from_ns, *(block.asked_at_ns for block in gathered)])
            self.counts.scans -= len(gathered)
            self.counts.refused_scans += len(gathered)

    async def _accept_again(self) -> None:
        """Once there is room: say what was lost, and that there was a gap."""
        if self._refused_from_ns is None or self._waiting_bytes > WAITING_BYTES_LIMIT // 2:
            return
        if not await self._writer.run(lambda store: store.has_room()):
            return
        losses, self._losses = self._losses, []
        # In one piece, the key first: it may have been among the lost, and what declares them must be beyond doubt.
        kept = self._declare(losses, [self._checkpoint_record()])
        await asyncio.wait([kept])
        if kept.exception() is not None:
            return
        await self.save_counter()
        if self._is_catalogue_lost:
            self._is_catalogue_lost = False
            self.repeat_catalogue()
        from_ns, self._refused_from_ns = self._refused_from_ns, None
        status = StatusCode.BAD_RESOURCE_UNAVAILABLE
        self.record_gap(None, from_ns, self._clock.boot_ns(), status, "the buffer was full")
        self.on_backpressure_end()

    def declare_lost(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Records of this chain, (first, last) each, that were sealed and never came to the disk."""
        if ranges:
            self._declare(ranges)

    def _declare(self, ranges: Sequence[tuple[int, int]], first: Sequence[Record] = ()) -> asyncio.Future[WriteResult]:
        """Keep what declares them; where that is refused too, they are declared again."""
        losses = [self._sealed(RecordType.LOSS, encode(_refused(low, high))) for low, high in ranges]

        def look(kept: asyncio.Future[WriteResult]) -> None:
            if not kept.cancelled() and kept.exception() is not None:
                self._losses += ranges

        kept = self._keep([*first, *losses], urgent=True)
        kept.add_done_callback(look)
        return kept

    # What time brings

    async def run(self) -> None:
        """Heartbeats, checkpoints, key changes, catalogues and the buffer's bounds, until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            await self.tick()

    async def tick(self) -> None:
        """Do what is due now."""
        self.usage = await self._writer.run(lambda store: store.usage())
        await self._accept_again()
        now_ns = self._clock.boot_ns()
        self._timekeeper.observe()
        if not self.is_refusing:
            if self.chain.is_roll_due(now_ns):
                self._roll(now_ns)
            if now_ns - self._checkpoint_at_ns >= self._rules.checkpoint_ns:
                await self.checkpoint()
            if now_ns - self._catalogue_at_ns >= CATALOGUE_EVERY_NS:
                self.repeat_catalogue()
        if self.sealed_at_ns is None or now_ns - self.sealed_at_ns >= self._rules.heartbeat_ns - TICK_S * 1e9:
            self._keep(self._data_records((), self._timekeeper.quality))

    def _roll(self, now_ns: int) -> None:
        record = self.chain.roll(self._time_now(), now_ns)
        self._note(record)
        self._keep([record]).add_done_callback(self._rolled)

    def _rolled(self, _kept: asyncio.Future[WriteResult]) -> None:
        # Also where it was refused: then the CHECKPOINT that follows carries the key.
        self.chain.roll_is_durable()

    def _catalogue_records(self) -> list[Record]:
        self._catalogue_at_ns = self._clock.boot_ns()
        records = [self._sealed(RecordType.CATALOG, part) for part in self._catalogue.payloads]
        return records + self._identity_records(self._devices.values())

    def _identity_records(self, devices: Iterable[KnownDevice]) -> list[Record]:
        told = encode_identities(self._catalogue.digest, self._catalogue.path, devices)
        return [self._sealed(RecordType.CATALOG, payload) for payload in told]

    async def save_counter(self) -> None:
        """Remember beside the chain how often the identity key has signed; a disk that refuses is asked next time."""
        with suppress(OSError):
            await asyncio.to_thread(self.chain.identity.counter.save)

    def _buffer_state(self) -> BufferState:
        usage = self.usage
        if usage is None:
            return BufferState()
        # A buffer that still holds an earlier chain holds this one from its first record.
        oldest = usage.oldest_seq if usage.oldest_epoch == self.chain.head.epoch else 0
        return BufferState(oldest=oldest, size_bytes=usage.used_bytes, undelivered=usage.undelivered_records)

    async def close(self, reason: StopReason = StopReason.OPERATOR) -> None:
        """Seal what has gathered, then CHECKPOINT and STOP, and wait until they are durable."""
        self.commit()
        await self._accept_again()
        records = self.chain.stop(self._time_now(), self._buffer_state(), reason)
        for record in records:
            self._note(record)
        self._is_closed = True
        await asyncio.wait([self._keep(records, urgent=True)])
        await self.save_counter()

    def _time_now(self) -> TimeQuality:
        # As of now, not of when the source was last asked: a record's own time is the last sign of life.
        return self._timekeeper.quality.at(self._clock.boot_ns())

    def _utc_ns(self) -> int:
        return self._timekeeper.utc_of(self._clock.boot_ns())


def _refused(first: int, last: int) -> Loss:
    """What a buffer that takes nothing has cost."""
    return Loss(
        first=first, last=last, from_ns=None, to_ns=None, records=last - first + 1, readings=None,
        reason=LossReason.BUFFER_FULL,
    )  # fmt: skip


def _exact(value: str | int | None) -> str | int | None:
    if isinstance(value, str):
        return value[:TEXT_LIMIT]
    return int(value) if isinstance(value, IntEnum) else value
