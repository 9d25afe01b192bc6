"""Keeps the buffer within its limits: undelivered records are dropped only after a durable LOSS declares them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NoReturn

from edge.buffer import BufferWriter, Damage, Drop, RecordRun, Store, WriteResult
from edge.clock import Clock
from edge.errors import BufferFull
from edge.model import Catalogue, SampleBlock
from edge.recorder.recorder import Recorder
from edge.recorder.resume import time_of
from edge.seal import (
    Checkpoint,
    Data,
    Epoch,
    Garbage,
    KeyChange,
    Loss,
    LossReason,
    Malformed,
    RecordType,
    decode_frame,
    parse,
)

EVERY_S = 1.0
FIND_VANISHED_EVERY = 5
_REPEATED_LIMIT = 64  # Losses stay apart where records between them were delivered.


@dataclass(slots=True)
class _Contents:
    """What the records of a loss held, as far as they can be read.

    `losses` are LOSS records among them. They are declared again, and so are the catalogue and the session key sealed
    again: without them what is left could not be verified or understood.
    """

    readings: int = 0
    from_ns: int | None = None
    to_ns: int | None = None
    has_catalogue: bool = False
    has_key: bool = False
    losses: list[Loss] = field(default_factory=list)

    def count(self, data: bytes, tags_of: Callable[[bytes], Sequence[int]]) -> None:
        try:
            frame = parse(data)
            payload = decode_frame(frame)
        except (Garbage, Malformed):
            return
        if isinstance(payload, Data):
            tags = tags_of(payload.catalogue)
            self.readings += sum(_readings(block, tags) for block in payload.blocks())
        elif isinstance(payload, Loss):
            self.losses.append(payload if payload.epoch else replace(payload, epoch=frame.epoch))
        self.has_catalogue |= frame.type in (RecordType.CATALOG, RecordType.CONTEXT)
        self.has_key |= isinstance(payload, Epoch | KeyChange | Checkpoint)
        if isinstance(payload, Data):
            self._note_time(payload.since_ns, payload.until_ns)
        elif (at_ns := time_of(frame)) is not None:
            self._note_time(at_ns, at_ns)

    def _note_time(self, from_ns: int, to_ns: int) -> None:
        self.from_ns = from_ns if self.from_ns is None else min(self.from_ns, from_ns)
        self.to_ns = to_ns if self.to_ns is None else max(self.to_ns, to_ns)


def _readings(block: SampleBlock, tags: Sequence[int]) -> int:
    """How many values a block stands for: a scan for all tags of its group, reported or not."""
    if block.is_notification:
        return sum(map(len, block.vectors))
    return tags[block.group] if block.group < len(tags) else 0


class LossDeclarer:
    """Frees segments delivered long enough ago, drops the oldest when the buffer is full, and declares every loss."""

    def __init__(self, writer: BufferWriter, recorder: Recorder, clock: Clock, catalogue: Catalogue) -> None:
        self.dropped_records = 0
        self.corrupt_records = 0
        self._writer, self._recorder, self._clock = writer, recorder, clock
        self._tags: dict[bytes, Sequence[int]] = {}
        self.note_catalogue(recorder.catalogue_digest, catalogue)
        self._dropped: list[
            Loss
        ] = []  # Since the start. They are declared again with each drop, and few, as they join.
        self._undeclared: list[Damage] = []

    def note_catalogue(self, digest: bytes, catalogue: Catalogue) -> None:
        """What records of this catalogue stand for can be counted from now on."""
        self._newest = self._tags[digest] = [len(group.tags) for group in catalogue.groups]

    async def run(self) -> NoReturn:
        """Trim and check the buffer each second, until cancelled; raises at once what ended its writer."""
        turn = 0
        while True:
            await self.trim()
            await self.declare(await self._writer.run(Store.check_next))
            if turn % FIND_VANISHED_EVERY == 0:
                await self.declare(await self._writer.run(Store.find_vanished))
            turn += 1
            await self._writer.sleep(EVERY_S)

    async def trim(self) -> None:
        """Free what is due; where undelivered records must go, declare them, then drop them."""
        while drop := await self._writer.run(lambda store: store.trim(self._clock.utc_ns())):
            if not await self._declare_drop(drop):
                return
            self.dropped_records += sum(run.records for run in drop.runs)
            await self._writer.run(lambda store, drop=drop: store.drop(drop))  # type: ignore[misc]

    async def _declare_drop(self, drop: Drop) -> bool:
        """Declare what a drop would lose; whether it may go."""
        contents = await self._writer.run(lambda store: self._contents(store, drop))
        losses = [self._loss_of(run, contents[run.first]) for run in drop.runs]
        losses += [loss for held in contents.values() for loss in held.losses]
        if any(held.has_key for held in contents.values()):
            await self._recorder.checkpoint()
        if any(held.has_catalogue for held in contents.values()):
            self._recorder.repeat_catalogue(is_lost=True)
        self._dropped = joined([*self._dropped, *losses])
        wanted = [*self._dropped[-_REPEATED_LIMIT:], *(loss for loss in losses if loss not in self._dropped)]
        stored = await asyncio.gather(*(self._seal(loss) for loss in wanted))
        # On a full disk the declaration waits in memory, for the very space that this drop frees.
        is_out_of_room = await self._writer.run(lambda store: store.is_out_of_room)
        return all(each is not None and (each.is_durable or is_out_of_room) for each in stored)

    def _contents(self, store: Store, drop: Drop) -> dict[int, _Contents]:
        contents = {run.first: _Contents() for run in drop.runs}
        with suppress(OSError):  # Unreadable records are lost all the same, and declared by their numbers.
            for number, data in store.records_to_drop(drop):
                run = next(run for run in drop.runs if run.first <= number <= run.last)
                contents[run.first].count(data, self._tags_of)
        return contents

    def _tags_of(self, catalogue: bytes) -> Sequence[int]:
        """How many tags each scan group has; records of an earlier run are taken for such of this one."""
        return self._tags.get(catalogue, self._newest)

    def _loss_of(self, run: RecordRun, contents: _Contents) -> Loss:
        return Loss(
            first=run.first_seq, last=run.last_seq, from_ns=contents.from_ns, to_ns=contents.to_ns,
            records=run.records, readings=contents.readings, reason=LossReason.BUFFER_FULL,
            hash_of_last=run.hash_of_last or b"", epoch=run.epoch,
        )  # fmt: skip

    async def declare(self, damages: Sequence[Damage]) -> None:
        """Declare what was found damaged or removed; what a full buffer refuses is declared later."""
        pending, self._undeclared = [*self._undeclared, *damages], []
        self.corrupt_records += sum(damage.last - damage.first + 1 for damage in damages)
        for damage in pending:
            loss = Loss(
                first=damage.first_seq, last=damage.last_seq, from_ns=_time_of(damage.before),
                to_ns=_time_of(damage.after), records=damage.last_seq - damage.first_seq + 1, readings=None,
                reason=LossReason.CORRUPT, hash_of_last=_previous_hash(damage.after),
                epoch=damage.epoch,
            )  # fmt: skip
            stored = None if self._recorder.is_refusing else await self._seal(loss)
            if stored is None:
                self._undeclared.append(damage)
            elif stored.is_durable:
                await self._writer.run(lambda store, damage=damage: store.declare(damage))  # type: ignore[misc]

    async def _seal(self, loss: Loss) -> WriteResult | None:
        """Where the LOSS was stored; None where the buffer refused it."""
        try:
            return await self._recorder.record(self._in_chain(loss))
        except BufferFull:
            return None

    def _in_chain(self, loss: Loss) -> Loss:
        """The loss without its epoch where that is the epoch of the chain that declares it."""
        return replace(loss, epoch=None) if loss.epoch == self._recorder.chain.head.epoch else loss


def joined(losses: Iterable[Loss]) -> list[Loss]:
    """The same losses, with adjacent ones of the same epoch and reason joined."""
    found: list[Loss] = []
    for loss in sorted(losses, key=lambda each: (each.epoch or b"", each.first, -each.last)):
        last = found[-1] if found else None
        if last is None or (last.epoch, last.reason) != (loss.epoch, loss.reason) or loss.first > last.last + 1:
            found.append(loss)
        elif loss.last > last.last:
            readings = None if last.readings is None or loss.readings is None else last.readings + loss.readings
            found[-1] = replace(
                last, last=loss.last, to_ns=loss.to_ns, records=last.records + loss.records, readings=readings,
                hash_of_last=loss.hash_of_last,
            )  # fmt: skip
    return found


def _time_of(data: bytes | None) -> int | None:
    try:
        return None if data is None else time_of(parse(data))
    except Garbage:
        return None


def _previous_hash(data: bytes | None) -> bytes:
    """The hash of the last lost record, as the record after it states it."""
    try:
        return b"" if data is None else parse(data).prev
    except Garbage:
        return b""
