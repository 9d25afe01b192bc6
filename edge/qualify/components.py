"""Checks of single parts of the installed program: verifier, timekeeper and buffer, with what they meet made here."""

from __future__ import annotations

import asyncio
import errno
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import orjson

from edge.buffer import BufferLimits, PosixDisk, Reader, Store
from edge.buffer.disk import PosixFile
from edge.clock import SystemClock
from edge.clock.quality import TimeSource, TimeState
from edge.clock.source import SourceReport
from edge.clock.timekeeper import ClockStep, Timekeeper
from edge.qualify.checks import Outcome
from edge.units import format_duration
from edge.verify import Trust, Verifier

_MIB = 1 << 20
_STEP_NS = -3600 * 10**9
_RECORDS, _RECORD_BYTES = 60, 60_000
_FULL = range(20, 40)  # While these are stored, the disk is full.


async def vectors() -> Outcome:
    """The published vectors that are shipped, by the verifier."""
    return await asyncio.to_thread(_vectors)


def _vectors() -> Outcome:
    held = orjson.loads(files(__package__).joinpath("vectors.json").read_bytes())
    wrong, lines = [], []
    for case in held["cases"]:
        trust = Trust()
        for name in case["trust"]:
            trust.add_pem(held["trust"][name].encode())
        verifier, verdicts = Verifier(trust), list[str]()
        places: dict[bytes, int] = {}
        for text in case["records"]:
            first, *changed = verifier.add(bytes.fromhex(text))
            places.setdefault(first.hash, len(verdicts))
            verdicts.append(str(first.verdict))
            for each in changed:
                verdicts[places[each.hash]] = str(each.verdict)
        lines.append(f"{case['name']}: {' '.join(verdicts)}")
        if verdicts != case["verdicts"]:
            wrong.append(case["name"])
    records = sum(len(case["records"]) for case in held["cases"])
    found = f"{len(wrong)} cases differ: {', '.join(wrong[:3])}" if wrong else "all verdicts are those of the vectors"
    return Outcome(f"{len(held['cases'])} cases with {records} records: {found}", not wrong, "\n".join(lines))


class _SetClock(SystemClock):
    """This machine's clock, as if it had been set."""

    set_by_ns = 0

    def utc_ns(self) -> int:
        """See `Clock.utc_ns`."""
        return super().utc_ns() + self.set_by_ns


class _Kept:
    """A source that keeps the clock, and has not measured it since."""

    async def ask(self) -> SourceReport:
        """See `ClockSource.ask`."""
        return SourceReport(source=TimeSource.CHRONY, state=TimeState.SYNCHRONIZED, bound_ns=10**6, update=1)


async def clock_step() -> Outcome:
    """A clock that is set back while the timekeeper looks at it."""
    clock, steps = _SetClock(), list[ClockStep]()
    keeper = Timekeeper(clock, [_Kept()], bytes(16), on_step=steps.append, on_event=lambda *_: None)
    await keeper.poll()
    before = keeper.quality
    clock.set_by_ns = _STEP_NS
    keeper.observe()
    await keeper.poll()
    after = keeper.quality
    lengths_ns = [each.step_ns for each in steps]
    is_exact = len(lengths_ns) == 1 and abs(lengths_ns[0] - _STEP_NS) < 10**6
    held = is_exact and before.bound_ns is not None and after.bound_ns is None
    told = ", ".join(f"{'-' if each < 0 else ''}{format_duration(round(abs(each), -6))}" for each in lengths_ns)
    words = f"steps reported: {told or 'none'}; state {before.state.name} before, {after.state.name} after"
    return Outcome(words, held, "\n".join(map(repr, steps)))


class _Record(NamedTuple):
    epoch: bytes
    seq: int
    data: bytes


class _Filling(PosixDisk):
    """A directory on a disk that can be full."""

    is_full = False

    def create(self, name: str) -> PosixFile:
        """See `Disk.create`."""
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().create(name)

    def free_bytes(self) -> int:
        """See `Disk.free_bytes`."""
        return 0 if self.is_full else super().free_bytes()


async def full_disk(directory: Path) -> Outcome:
    """A buffer on a disk that has no room for a while."""
    return await asyncio.to_thread(_full_disk, directory)


def _full_disk(directory: Path) -> Outcome:
    directory.mkdir()
    disk, now_ns = _Filling(directory), 0
    limits = BufferLimits(limit_bytes=64 * _MIB, segment_bytes=_MIB, reserve_bytes=256 << 10)
    in_memory, events = 0, []
    records = [_Record(bytes(8), seq, seq.to_bytes(4) * (_RECORD_BYTES // 4)) for seq in range(_RECORDS)]
    with closing(Store(disk, limits, lambda: now_ns)) as store:
        for record in records:
            now_ns += 2 * 10**9  # It tries the disk again once a second.
            disk.is_full = record.seq in _FULL
            store.append([record])
            in_memory += not store.commit()
            events += store.take_events()
    with closing(Reader(PosixDisk(directory))) as reader:
        found, number, end = [], reader.oldest(), reader.durable_end()
        while number < end and (batch := reader.read(number, _MIB)):
            found += [data for _, data in batch]
            number = batch[-1][0] + 1
    whole = found == [each.data for each in records]
    words = f"{in_memory} of {_RECORDS} commits waited in memory; afterwards {len(found)} records are on disk"
    return Outcome(words, whole and in_memory > 0, "\n".join(f"{each.kind} {each.data}" for each in events))
