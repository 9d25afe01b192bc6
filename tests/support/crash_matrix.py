"""Crash a gateway's buffer before every operation on its disk, in every way, and check what the next start finds.

A writer and a sender work on a simulated disk: the writer appends, commits and trims, the sender sends what the
watermark allows and acknowledges. Before each of their operations the disk is crashed in each way and started again.
What must hold: no start fails, no durable record is lost, no record is invented, no sent seq is assigned again, and
no undelivered record is unlinked before its loss is declared.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from random import Random

from edge.buffer.cursor import Cursor, read_slots
from edge.buffer.disk import Disk
from edge.buffer.reader import Reader
from edge.buffer.space import BufferLimits, Drop
from edge.buffer.store import Store
from edge.buffer.watermark import load_watermark
from edge.testing.disk import Crash, SimulatedDisk

LIMITS = BufferLimits(limit_bytes=5 * 256, segment_bytes=256, reserve_bytes=0, keep_delivered_ns=40)
_STEPS = 40
_CHANGING = frozenset(
    {"create", "write", "allocate", "truncate", "fdatasync", "rename", "unlink", "sync_dir", "open for writing"}
)


class BrokenPromiseError(AssertionError):
    """A state of the disk after which the buffer breaks a guarantee."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A small record."""

    epoch: bytes
    seq: int
    data: bytes


@dataclass(slots=True)
class Truth:
    """What was stored, sent and declared, as only the test knows it."""

    records: dict[int, Stored] = field(default_factory=dict)
    durable_end: int = 0
    sent: dict[int, Stored] = field(default_factory=dict)
    declared: set[int] = field(default_factory=set)

    def copy(self) -> Truth:
        """A copy for one branch of the future."""
        return Truth(dict(self.records), self.durable_end, self.sent, set(self.declared))

    def forget_unsynced(self, store: Store, held: Container[int]) -> None:
        """Remove records that were appended and not found: they were never guaranteed."""
        self.records = {
            number: record for number, record in self.records.items() if number < self.durable_end or number in held
        }
        self.durable_end = min(self.durable_end, store.durable_end)


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of a gateway that touch its buffer; a planted bug replaces one."""

    store: Callable[[Disk, BufferLimits, Callable[[], int]], Store] = Store
    sendable_end: Callable[[Disk, Store | None], int] = lambda disk, _: load_watermark(disk).durable_end
    next_seq: Callable[[Disk, int], int] = lambda _, seq: seq
    declares_losses: bool = True
    disk: Callable[[], SimulatedDisk] = SimulatedDisk


class Run:
    """The life of one gateway, determined by a seed."""

    def __init__(self, seed: int, gateway: Gateway, *, has_faults: bool) -> None:
        self._seed, self._random, self._gateway = seed, Random(seed), gateway
        self._has_faults = has_faults
        self.states = 0
        self._truth = Truth()
        self._disk = gateway.disk()
        self._store: Store | None = None
        self._start(self._disk)

    def play(self) -> None:
        """Live through all steps, and crash before every operation."""
        for _ in range(_STEPS):
            self._disk.utc_ns += 1
            self._random.choices(
                (self._commit, self._deliver, self._trim, self._restart, self._new_epoch, self._break_disk),
                (24, 6, 4, 2, 1, 6 if self._has_faults else 0),
            )[0]()
            self._send()

    # The gateway

    def _start(self, disk: SimulatedDisk) -> None:
        disk.watch = self._crash_before
        self._disk = disk
        self._store = None
        self._store = self._gateway.store(disk, LIMITS, lambda: disk.utc_ns * 10**9)
        self._cursor = Cursor(disk)
        self._epoch, self._seq = self._head(self._store)

    def _head(self, store: Store) -> tuple[bytes, int]:
        """Where the chain continues: after the recovered tail, or in a new epoch if that is lost."""
        found = store.recovery
        if not found.tail or found.is_tail_lost:
            return self._random.randbytes(8), 0
        return found.tail[-1].epoch, self._gateway.next_seq(self._disk, found.tail[-1].seq + 1)

    def _append(self, count: int, *, size_limit: int = 40) -> None:
        store = self._running()
        for _ in range(count):
            record = Stored(self._epoch, self._seq, self._random.randbytes(self._random.randrange(1, size_limit)))
            self._truth.records[store.append([record])] = record
            self._seq += 1

    def _commit(self) -> None:
        store = self._running()
        self._append(self._random.randrange(1, 6))
        if store.commit():
            self._truth.durable_end = store.durable_end

    def _send(self) -> None:
        for number in range(self._gateway.sendable_end(self._disk, self._store)):
            if number in self._truth.records:
                self._truth.sent.setdefault(number, self._truth.records[number])

    def _deliver(self) -> None:
        """The broker acknowledges a range of what was sent; the cursor is saved at times."""
        if self._truth.sent:
            first = self._random.choice(sorted(self._truth.sent))
            last = min(first + self._random.randrange(12), max(self._truth.sent))
            self._cursor.add(first, last)
        if self._random.random() < 0.5:
            self._save_cursor()

    def _save_cursor(self) -> None:
        try:
            self._cursor.save()
        except OSError:
            if not self._has_faults:
                raise

    def _trim(self) -> None:
        store = self._running()
        drop = store.trim(self._disk.utc_ns)
        if drop is not None and (not self._gateway.declares_losses or self._declare(drop)):
            store.drop(drop)

    def _declare(self, drop: Drop) -> bool:
        """Make a record that declares the loss durable before anything is removed."""
        store = self._running()
        self._append(1, size_limit=8)
        if not store.commit():
            return False
        self._truth.durable_end = store.durable_end
        self._truth.declared.update(number for run in drop.runs for number in range(run.first, run.last + 1))
        return True

    def _restart(self) -> None:
        self._running().close()
        truth, disk = self._truth, self._disk
        crash = Crash.KILLED if self._has_faults else self._random.choice(list(Crash))
        disk.heal()
        found = disk.crashed(crash, self._random)
        self._start(found)
        truth.forget_unsynced(self._running(), dict(_read_all(found, self._running())))
        truth.durable_end = self._running().durable_end

    def _new_epoch(self) -> None:
        self._epoch, self._seq = self._random.randbytes(8), 0

    def _break_disk(self) -> None:
        """One operation fails, or all do until the disk is healed."""
        kind = self._random.choice(("fdatasync", "write", "allocate", "sync_dir", "fdatasync"))
        self._disk.fail(kind, errno.EIO, times=self._random.choice((1, 1, 2, 5)))
        self._commit()
        self._disk.heal()
        self._disk.utc_ns += 2

    def _running(self) -> Store:
        assert self._store is not None
        return self._store

    # The crash

    def _crash_before(self, kind: str, name: str) -> None:
        if kind not in _CHANGING:
            return
        disk, self._disk.watch = self._disk, lambda _kind, _name: None
        self._send()
        for crash in Crash:
            self.states += 1
            try:
                self._check_start(disk.crashed(crash, self._random), self._truth)
            except BrokenPromiseError as broken:
                raise BrokenPromiseError(f"seed {self._seed}, {crash.value} before {kind} {name}: {broken}") from None
        disk.watch = self._crash_before

    def _check_start(self, found: SimulatedDisk, truth: Truth) -> None:
        store = _started(self._gateway, found)
        try:
            held = self._check_records(store, found, truth)
            if self.states % 3 == 0:
                self._check_second_start(store, found, truth.copy(), held)
        finally:
            store.close()

    def _check_records(self, store: Store, found: SimulatedDisk, truth: Truth) -> Container[int]:
        held = dict(_read_all(found, store))
        for number, data in held.items():
            if number not in truth.records or truth.records[number].data != data:
                raise BrokenPromiseError(f"record {number} was invented")
        delivered = read_slots(found, "cursor")[1]
        for number in truth.records:
            is_promised = number < truth.durable_end or number in truth.sent
            if is_promised and number not in held and number not in delivered and number not in truth.declared:
                raise BrokenPromiseError(f"durable record {number} was lost")
        epoch, seq = self._head(store)
        if any(record.epoch == epoch and record.seq >= seq for record in truth.sent.values()):
            raise BrokenPromiseError(f"seq {seq} would be used again")
        return held

    def _check_second_start(self, store: Store, found: SimulatedDisk, truth: Truth, held: Container[int]) -> None:
        """Go on from what was found, lose power at once, and start a second time."""
        epoch, seq = self._head(store)
        truth.forget_unsynced(store, held)
        record = Stored(epoch, seq, self._random.randbytes(self._random.randrange(1, 40)))
        truth.records[store.append([record])] = record
        if store.commit():
            truth.durable_end = store.durable_end
        after = found.crashed(Crash.LOST, self._random)
        again = _started(self._gateway, after)
        try:
            self._check_records(again, after, truth)
        finally:
            again.close()


def _started(gateway: Gateway, disk: SimulatedDisk) -> Store:
    try:
        return gateway.store(disk, LIMITS, lambda: 0)
    except Exception as error:
        raise BrokenPromiseError(f"the start failed: {error!r}") from error


def _read_all(disk: SimulatedDisk, store: Store) -> Iterator[tuple[int, bytes]]:
    reader = Reader(disk, store.pending)
    number = 0
    try:
        while found := reader.read(number, 1 << 16):
            yield from found
            number = found[-1][0] + 1
    finally:
        reader.close()


def crash_states(states: int, seed: int = 0, gateway: Gateway = Gateway(), *, step: int = 1) -> int:
    """Check at least this many states; BrokenPromiseError names the first bad one.

    The lives of odd seeds have disks that fail; `step` 2 looks at those, or at the others, only.
    """
    checked = 0
    while checked < states:
        run = Run(seed, gateway, has_faults=seed % 2 == 1)
        run.play()
        checked += run.states
        seed += step
    return checked
