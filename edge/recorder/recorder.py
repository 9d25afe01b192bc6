"""The recorder: seals what is acquired into one chain, in order, and hands the records to the buffer.

No call that hands something in waits for the disk. Blocks gather for a commit; everything else is sealed at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NoReturn

from edge.buffer import BufferWriter, Usage, WriteResult
from edge.clock import Clock, TimeQuality
from edge.clock.timekeeper import ClockStep, Require, Timekeeper
from edge.errors import BufferFull
from edge.logs import get_logger
from edge.model import Catalogue, SampleBlock, StatusCode
from edge.recorder.backpressure import PENDING_BYTES_LIMIT, Backpressure, refused_loss, sealed_blocks
from edge.recorder.commit_window import CommitWindow, coarser, encoded_bytes, uncertain
from edge.recorder.contexts import ContextEvent, Contexts, HeldBlock, Unit
from edge.seal import (
    BufferState,
    Chain,
    ConfigChange,
    Context,
    EncodedCatalogue,
    Event,
    Gap,
    KnownDevice,
    Loss,
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
log = get_logger(__name__)

TEXT_LIMIT = 2_000
"""Most characters of one text in an EVENT or GAP, so that a device that answers nonsense does not fill a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderSettings:
    """How long blocks gather, how long the chain may be silent, and what is required of the clock."""

    commit_window_ns: int = 20 * 10**6
    heartbeat_ns: int = 10 * 10**9
    checkpoint_ns: int = 60 * 10**9
    require: Require = Require.BOUNDED


Told = Event | Gap | Loss | ConfigChange
"""What happened, as it goes on record."""


def _ignore(*_: object) -> None:
    """Default callback: does nothing."""


@dataclass(slots=True)
class RecorderCounts:
    """What was sealed since the start."""

    records: int = 0
    record_bytes: int = 0
    scans: int = 0
    refused_scans: int = 0
    lost_records: int = 0
    commits: int = 0
    steps: int = 0


class Recorder:
    """Seals blocks, events, gaps and time changes into one chain, and hands the records to the buffer.

    A call raises what ended the buffer's writer, if anything did; `run` raises it at once.

    Attributes:
        on_told: called with what goes on record as having happened, and the device of a GAP.
        on_context_event: called with the (boot time, kind, unit, data) of a batch or phase that begins or ends.
        on_stored: called after each commit of the buffer, with records durable or readable from memory.
        on_backpressure_end: called when readings are accepted again after they were refused.
        usage: how full the buffer was at the last tick.
        sealed_at_ns: boot time of the last record.
    """

    def __init__(
        self, chain: Chain, writer: BufferWriter, timekeeper: Timekeeper, clock: Clock, catalogue: Catalogue,
        settings: RecorderSettings = RecorderSettings(), devices: Iterable[KnownDevice] = (),
        calibrations: Sequence[bytes] = (),
    ) -> None:  # fmt: skip
        """`calibrations` are payloads that go on record before each catalogue."""
        self.chain = chain
        self.counts = RecorderCounts()
        self.on_told: Callable[[Told, str], None] = _ignore
        self.on_context_event: Callable[[int, str, str, Mapping[str, str | int | None]], None] = _ignore
        self.on_stored: Callable[[], None] = _ignore
        self.on_backpressure_end: Callable[[], None] = _ignore
        self.usage: Usage | None = None
        self.sealed_at_ns: int | None = None
        self._writer, self._timekeeper, self._clock, self._settings = writer, timekeeper, clock, settings
        self._catalogue = EncodedCatalogue.of(catalogue)
        self._devices = {known.device: known for known in devices}
        self._calibrations = calibrations
        self._window = CommitWindow(settings.commit_window_ns, self.commit, asyncio.get_running_loop())
        self._backpressure = Backpressure()
        self._checkpoint_at_ns = self._catalogue_at_ns = clock.boot_ns()
        self._is_closed = False
        self._counter_failure = ""
        self._open_gaps: dict[tuple[int | None, int], int] = {}  # (group, boot time of the beginning): the same in UTC.
        self._count_tags(catalogue)
        self.contexts = Contexts((), catalogue, self._seal_context, self._tell_context)

    @property
    def catalogue_digest(self) -> bytes:
        """The digest of the catalogue that blocks refer to now."""
        return self._catalogue.digest

    # Readings

    def begin_scan(self, device: str) -> None:
        """A scan of a device is under way: a commit waits for it a while."""
        self._window.begin_scan(device)

    def end_scan(self, device: str) -> None:
        """The scan of a device has ended, with its block or without."""
        self._window.end_scan(device)

    def add_block(self, block: SampleBlock, *, urgent: bool = False) -> None:
        """Take one scan. It is sealed at the end of its commit, see `CommitWindow`; an urgent one at once."""
        self._timekeeper.observe_suspension()
        is_of_unit = self._are_of_units[block.group]
        if is_of_unit:
            for held in self.contexts.read(block):
                self._gather(*held)
        backpressure = self._backpressure
        if backpressure.pending_bytes > PENDING_BYTES_LIMIT:
            self._refuse(block.asked_at_ns)
        if backpressure.refused_from_ns is not None:
            self.counts.refused_scans += 1
            return
        if not self._timekeeper.is_met(self._settings.require):
            is_part = block.is_notification
            block = uncertain(block, sum(map(len, block.vectors)) if is_part else self._tag_counts[block.group])
        self.counts.scans += 1
        if not is_of_unit:
            self._gather(block, encoded_bytes(block), urgent)
            return
        for held in self.contexts.add(HeldBlock(block, encoded_bytes(block), urgent)):
            self._gather(*held)

    def _gather(self, block: SampleBlock, size_bytes: int, urgent: bool) -> None:
        self._window.add(
            block, size_bytes, interval_ns=self._intervals_ns[block.group], urgent=urgent,
            is_idle=not self._backpressure.pending_bytes,
        )  # fmt: skip

    def _end_waiting(self) -> None:
        """Put the blocks that wait for their contexts to those that are sealed next."""
        for held in self.contexts.give_up():
            self._window.put(held.block, held.size_bytes)

    def commit(self) -> None:
        """Seal the blocks that have gathered."""
        self._timekeeper.observe()  # If the clock was set, `record_step` seals them here with the time before it.
        if records := self._gathered_records(self._timekeeper.quality):
            self._store(records)

    def _gathered_records(self, time: TimeQuality) -> list[Record]:
        return [record for blocks in self._window.take() for record in self._data_records(blocks, time)]

    def _data_records(self, blocks: Sequence[SampleBlock], time: TimeQuality) -> list[Record]:
        at_ns = blocks[0].sampled_at_ns if blocks else self._clock.boot_ns()
        payload = encode_data(
            utc_ns=at_ns + time.offset_ns, boot_ns=at_ns, time=time, catalogue=self._catalogue.digest, blocks=blocks
        )
        try:
            return [self._seal(RecordType.DATA, payload)]
        except RecordTooLarge:
            if len(blocks) == 1:
                return self._data_records([coarser(blocks[0])], time)
            half = len(blocks) // 2
            return self._data_records(blocks[:half], time) + self._data_records(blocks[half:], time)

    # Events of the chain

    def record_event(
        self, at_ns: int, kind: str, severity: int, subject: str, data: Mapping[str, str | int | None]
    ) -> None:
        """Seal an EVENT of a boot time at once; after STOP nothing is sealed."""
        if self._is_closed:
            return
        exact = {name: _exact(value) for name, value in data.items()}
        event = Event(
            at_ns=self._timekeeper.utc_of(at_ns),
            kind=kind,
            severity=Severity(severity + 1),
            subject=subject,
            data=exact,
        )
        self.record(event)

    def record(self, content: Told) -> asyncio.Future[WriteResult]:
        """Seal something that happened at once; see `seal`."""
        self._tell(content)
        return self.seal(content.type, encode(content))

    def _tell(self, content: Told) -> None:
        groups = self._groups[content.group :][:1] if isinstance(content, Gap) and content.group is not None else ()
        self.on_told(content, "".join(group.device for group in groups))

    def record_gap(self, group: int | None, from_ns: int, to_ns: int | None, status: int, detail: str = "") -> None:
        """Seal a GAP in boot time, of one scan group or of all.

        Called when the gap begins, with `to_ns` None, and again with the same `from_ns` when it ends.
        """
        self._timekeeper.observe_suspension()
        utc_of = self._timekeeper.utc_of
        if to_ns is None:
            began_ns = self._open_gaps[group, from_ns] = utc_of(from_ns)
            ended_ns = None
        else:
            # The same beginning as in the first record, even if the clock was set meanwhile: they are one gap.
            began_ns = self._open_gaps.pop((group, from_ns), utc_of(from_ns))
            ended_ns = max(began_ns, utc_of(to_ns))
        detail = detail[:TEXT_LIMIT]
        self.record_gap_in_utc(Gap(group=group, from_ns=began_ns, to_ns=ended_ns, status=status, detail=detail))

    def record_gap_in_utc(self, gap: Gap) -> None:
        """Seal a GAP whose ends are known in UTC, such as the time the gateway was off."""
        self.record(gap)

    def record_step(self, step: ClockStep) -> None:
        """Seal a change of the clock, after the blocks read before it with the time they were read under."""
        self.counts.steps += step.step_ns != 0
        self._end_waiting()
        records = self._gathered_records(step.before)
        change = TimeChange(
            before=step.before, after=step.after, step_ns=step.step_ns, corrected_boot_ns=(step.from_ns, step.to_ns),
            correction_ns=step.correction_ns, bound_after_ns=step.bound_ns,
        )  # fmt: skip
        records.append(self._seal(RecordType.TIME, encode(change)))
        self._store(records)

    def record_identity(self, known: KnownDevice) -> None:
        """Seal what a device says it is, now and whenever the catalogue is sealed."""
        self._devices[known.device] = known
        self._store(self._identity_records([known]))

    def seal(self, kind: RecordType, payload: bytes) -> asyncio.Future[WriteResult]:
        """Seal another payload; the future is done when it is stored, or raises BufferFull."""
        return self._store([self._seal(kind, payload)], urgent=True)

    def store_first(self, record: Record, gaps: Iterable[Gap] = ()) -> asyncio.Future[WriteResult]:
        """Store the EPOCH or CHECKPOINT that begins this run, then the catalogue.

        `gaps` name scan groups by their numbers in the catalogue before, and so come before the new one.
        """
        self._count(record)
        ended = [self._seal(RecordType.GAP, encode(gap)) for gap in gaps]
        return self._store([record, *ended, *self._catalogue_records()])

    async def checkpoint(self) -> None:
        """Seal the identity's signature over everything so far and over the session key."""
        # A counter ahead of the chain would claim a signature that no record shows.
        if await self.wait_stored(self._store([self._checkpoint_record()], urgent=True)):
            await self.save_counter()

    def repeat_catalogue(self, *, is_lost: bool = False) -> None:
        """Seal the catalogue and the contexts again, for readers that came later or lost them."""
        self._store(self._catalogue_records(is_lost=is_lost))

    def change_catalogue(self, catalogue: EncodedCatalogue) -> None:
        """Seal a catalogue that says more of the same tags; blocks from now on refer to it."""
        self._end_waiting()
        self.commit()
        self._catalogue = catalogue
        self.repeat_catalogue()

    def change_configuration(
        self, encoded: EncodedCatalogue, catalogue: Catalogue, devices: Iterable[KnownDevice],
        calibrations: Sequence[bytes] = (),
    ) -> None:  # fmt: skip
        """Seal the catalogue of another configuration, of these known devices; blocks from now on refer to it."""
        self._end_waiting()
        self.commit()
        self._calibrations = calibrations
        self._devices = {known.device: known for known in devices}
        self._count_tags(catalogue)
        self.change_catalogue(encoded)

    def _count_tags(self, catalogue: Catalogue) -> None:
        self._groups = catalogue.groups
        self._tag_counts = [len(group.tags) for group in catalogue.groups]
        self._intervals_ns = [group.interval_ns for group in catalogue.groups]
        self._are_of_units = [False] * len(catalogue.groups)

    # Contexts

    def set_units(self, units: Sequence[Unit], catalogue: Catalogue) -> None:
        """Blocks of these units name their contexts from now on, none of which is known until it is read."""
        self.contexts = Contexts(units, catalogue, self._seal_context, self._tell_context, self.contexts)
        groups = self.contexts.groups
        self._are_of_units = [number in groups for number in range(len(catalogue.groups))]

    def _seal_context(
        self, unit: str, members: Mapping[str, str | None], sources: Mapping[str, tuple[str, str]],
        from_ns: int, to_ns: int,
    ) -> Context:  # fmt: skip
        utc_of = self._timekeeper.utc_of
        context = Context(number=self.chain.head.seq + 1, unit=unit, members=members, sources=sources,
                          from_ns=utc_of(from_ns), to_ns=utc_of(to_ns))  # fmt: skip
        self._store([self._seal(RecordType.CONTEXT, encode(context))])
        return context

    def _tell_context(self, event: ContextEvent) -> None:
        from_ns, to_ns = event.from_ns, event.to_ns
        at_ns = to_ns if from_ns is None else (from_ns + to_ns) // 2
        off_ns = self._timekeeper.quality.bound_at(at_ns)
        utc_of = self._timekeeper.utc_of
        self.on_context_event(at_ns, event.kind, event.unit, {
            **event.data, "from_ns": None if from_ns is None else utc_of(from_ns), "to_ns": utc_of(to_ns),
            "bound_ns": None if from_ns is None or off_ns is None else -((from_ns - to_ns) // 2) + off_ns,
        })  # fmt: skip

    # Sealing and storing

    def _seal(self, kind: RecordType, payload: bytes) -> Record:
        record = self.chain.seal(kind, payload)
        self._count(record)
        return record

    def _count(self, record: Record) -> None:
        self.sealed_at_ns = self._clock.boot_ns()
        self.counts.records += 1
        self.counts.record_bytes += len(record.data)

    def _store(self, records: Sequence[Record], *, urgent: bool = False) -> asyncio.Future[WriteResult]:
        size_bytes = sum(len(record.data) for record in records)
        stored = self._writer.store(records, urgent=urgent)
        self._backpressure.pending_bytes += size_bytes
        stored.add_done_callback(lambda future: self._on_write_done(future, records, size_bytes))
        return stored

    def _on_write_done(self, stored: asyncio.Future[WriteResult], records: Sequence[Record], size_bytes: int) -> None:
        self._backpressure.pending_bytes -= size_bytes
        if stored.cancelled():
            return
        error = stored.exception()
        if isinstance(error, BufferFull):
            self.counts.lost_records += len(records)
            self._backpressure.add_lost(records)
            self._refuse(self._clock.boot_ns(), sealed_blocks(records))
        elif error is None:  # Any other error has ended the writer, and `run` raises it.
            self.counts.commits += 1
            self.on_stored()
            if not self.is_refusing:
                self._window.commit_next()

    async def wait_stored(self, stored: asyncio.Future[WriteResult]) -> bool:
        """Whether records were stored; False where the buffer refused them. Raises what ended the writer."""
        await asyncio.wait([stored])
        error = stored.exception()
        if error is not None and not isinstance(error, BufferFull):
            raise error
        return error is None

    def _checkpoint_record(self) -> Record:
        self._checkpoint_at_ns = self._clock.boot_ns()
        record = self.chain.checkpoint(self._time_now(), self._buffer_state())
        self._count(record)
        return record

    def _catalogue_records(self, *, is_lost: bool = False) -> list[Record]:
        self._catalogue_at_ns = self._clock.boot_ns()
        # Calibrations travel with a catalogue of no group: the one that GAPs name scan groups by is the last.
        payloads = (*self._calibrations, *self._catalogue.payloads)
        records = [self._seal(RecordType.CATALOG, part) for part in payloads]
        records += self._identity_records(self._devices.values())
        contexts = self.contexts.in_force(with_recent=is_lost)
        return records + [self._seal(RecordType.CONTEXT, encode(context)) for context in contexts]

    def _identity_records(self, devices: Iterable[KnownDevice]) -> list[Record]:
        payloads = encode_identities(self._catalogue.digest, self._catalogue.path, devices)
        return [self._seal(RecordType.CATALOG, payload) for payload in payloads]

    async def save_counter(self) -> None:
        """Save how often the identity key has signed; a disk that refuses is tried again next time."""
        try:
            await asyncio.to_thread(self.chain.identity.counter.save)
        except OSError as error:
            if str(error) != self._counter_failure:  # Once, not each minute.
                log.warning("identity counter not saved", reason=str(error))
            self._counter_failure = str(error)
        else:
            self._counter_failure = ""

    def _buffer_state(self) -> BufferState:
        usage = self.usage
        if usage is None:
            return BufferState()
        # A buffer that still holds an earlier chain holds this one from its first record.
        oldest = usage.oldest_seq if usage.oldest_epoch == self.chain.head.epoch else 0
        return BufferState(oldest=oldest, size_bytes=usage.used_bytes, undelivered=usage.undelivered_records)

    def _time_now(self) -> TimeQuality:
        # Its time is the current one, not that of the last poll: it is the last sign of life a restart finds.
        return self._timekeeper.quality.at(self._clock.boot_ns())

    # Backpressure

    @property
    def is_refusing(self) -> bool:
        """Whether readings are refused because the buffer cannot take them."""
        return self._backpressure.refused_from_ns is not None

    def _refuse(self, from_ns: int, sealed: Iterable[SampleBlock] = ()) -> None:
        self._end_waiting()
        refused = [*sealed, *(block for blocks in self._window.take() for block in blocks)]
        self._backpressure.refuse(from_ns, refused)
        self.counts.scans -= len(refused)
        self.counts.refused_scans += len(refused)

    async def _end_backpressure(self) -> None:
        """Once there is room: declare what was lost, record the gap and accept readings again."""
        backpressure = self._backpressure
        if not self.is_refusing or not backpressure.is_relieved:
            return
        if not await self._writer.run(lambda store: store.make_room()):
            return
        # The checkpoint goes first, in the same write: the session key may be among what was lost, and the record
        # that declares the loss must be verifiable.
        if not await self.wait_stored(self._declare(backpressure.take_lost(), [self._checkpoint_record()])):
            return
        await self.save_counter()
        if backpressure.is_catalogue_lost:
            backpressure.is_catalogue_lost = False
            self.repeat_catalogue(is_lost=True)
        from_ns, now_ns = backpressure.end(), self._clock.boot_ns()
        self.record_gap(None, from_ns, now_ns, StatusCode.BAD_RESOURCE_UNAVAILABLE, "the buffer was full")
        self.on_backpressure_end()

    def declare_lost(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Declare records of this chain, (first, last) seq each, that were sealed and never stored."""
        if ranges:
            self._declare(ranges)

    def _declare(self, ranges: Sequence[tuple[int, int]], first: Sequence[Record] = ()) -> asyncio.Future[WriteResult]:
        """Store the LOSS records; if they are refused too, the ranges are declared again later."""
        lost = [refused_loss(low, high) for low, high in ranges]
        for loss in lost:
            self._tell(loss)
        losses = [self._seal(RecordType.LOSS, encode(loss)) for loss in lost]

        def on_done(stored: asyncio.Future[WriteResult]) -> None:
            if not stored.cancelled() and stored.exception() is not None:
                self._backpressure.lost += ranges

        stored = self._store([*first, *losses], urgent=True)
        stored.add_done_callback(on_done)
        return stored

    # Periodic work

    async def run(self) -> NoReturn:
        """Heartbeats, checkpoints, key changes, catalogues and the end of backpressure, until cancelled.

        Raises at once what ended the buffer's writer.
        """
        while True:
            await self._writer.sleep(TICK_S)
            await self.tick()

    async def tick(self) -> None:
        """Do what is due now."""
        self.usage = await self._writer.run(lambda store: store.usage())
        await self._end_backpressure()
        now_ns = self._clock.boot_ns()
        self._timekeeper.observe()
        for held in self.contexts.overdue(now_ns):
            self._gather(*held)
        if not self.is_refusing:
            if self.chain.is_roll_due(now_ns):
                self._roll(now_ns)
            if now_ns - self._checkpoint_at_ns >= self._settings.checkpoint_ns:
                await self.checkpoint()
            if now_ns - self._catalogue_at_ns >= CATALOGUE_EVERY_NS:
                self.repeat_catalogue()
        if self.sealed_at_ns is None or now_ns - self.sealed_at_ns >= self._settings.heartbeat_ns - TICK_S * 1e9:
            self._store(self._data_records((), self._timekeeper.quality))

    def _roll(self, now_ns: int) -> None:
        """Change the session key."""
        record = self.chain.roll(self._time_now(), now_ns)
        self._count(record)
        # Also when it is refused: then the CHECKPOINT that follows carries the key.
        self._store([record]).add_done_callback(lambda _: self.chain.roll_is_durable())

    async def close(self, stopped_at_ns: int | None = None, reason: StopReason = StopReason.OPERATOR) -> None:
        """Seal the blocks that have gathered, then CHECKPOINT and STOP, and wait until they are stored.

        `stopped_at_ns` is the boot time that STOP says, where that is not now.
        """
        self._end_waiting()
        self.commit()
        await self._end_backpressure()
        now_ns = self._clock.boot_ns() if stopped_at_ns is None else stopped_at_ns
        records = self.chain.stop(self._timekeeper.quality.at(now_ns), self._buffer_state(), reason)
        for record in records:
            self._count(record)
        self._is_closed = True
        if await self.wait_stored(self._store(records, urgent=True)):
            await self.save_counter()


def _exact(value: str | int | None) -> str | int | None:
    if isinstance(value, str):
        return value[:TEXT_LIMIT]
    return int(value) if isinstance(value, IntEnum) else value
