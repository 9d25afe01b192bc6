"""The lake: authentic values as Parquet files, by gateway, day and hour, for whoever reads files."""

# Theory of operation
#
# A file holds an hour of a chain, by the time of its records, or the first million rows of what is left of it; of long
# texts fewer. Until it is cut its records wait in memory, and the mark stays in front of the oldest of them: after a
# crash they come again. What is in files already is known by its place: a repeat leaves it out, and cuts as before.
#
# An hour is cut once the chain is two minutes past its end and past the last record that still came for it, so that a
# backlog which arrives among live records makes few files; without new records of the gateway a clock does it. Where
# too much waits, the hour that was added to longest ago is cut early. What comes after the cut is a further file.
#
# A record that falls gets its verdict into the rows that it has: the file is written anew under its name. A record that
# counts again is removed from its file and written with others that are late.

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ParamSpec, TypeVar

import duckdb
import numpy as np

from edge.files import replace_file
from edge.intervals import IntervalSet
from edge.logs import get_logger
from edge.model import Catalogue
from edge.relay.sinks.lake_files import Hour as Key
from edge.relay.sinks.lake_files import LakeFiles
from edge.relay.sinks.lake_rows import EVENTS, Held, event_rows, held, reading_rows
from edge.relay.sinks.sink import Parcel, SinkRecord, SinkUnreachable
from edge.seal import Malformed

log = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_S = 10**9
_DAY_NS, _HOUR_NS = 86_400 * _S, 3600 * _S
_QUIET_NS = 120 * _S
_SILENT_S, _SILENT_S_LIMIT = 600.0, 3600.0
_LOOK_EVERY_S = 60.0
_HELD_BYTES = 64 * 2**20
_FILE_BYTES = 40 * 2**20
_REMEDIES = {
    errno.ENOENT: "there is no such directory: make it, or mount the disk that it is on",
    errno.ENOTDIR: "it is not a directory",
    errno.ENOSPC: "the disk is full: free or add space, or set `keep`",
    errno.EDQUOT: "the disk is full for this account: raise its quota",
    errno.EFBIG: "the disk is full for this account: raise its limit",
    errno.EROFS: "its file system is read-only: look why, and mount it for writing",
    errno.EACCES: "this account may not write there: change the owner of the directory",
    errno.EPERM: "this account may not write there: change the owner of the directory",
}
"""What a person can do; trying each second is of no use before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LakePlan:
    """Where the lake is.

    Attributes:
        rows: of how many rows a file is cut before its hour ends.
        keep_days: how many days stay; None for all.
    """

    name: str
    directory: Path
    rows: int = 1_000_000
    keep_days: int | None = None


class Lake:
    """The sink: see `edge.relay.sinks.sink.Sink`."""

    def __init__(self, plan: LakePlan) -> None:
        self._plan = plan
        self.name = plan.name

    @property
    def address(self) -> str:
        """Where it is."""
        return str(self._plan.directory)

    def certificates(self) -> tuple[()]:
        """None."""
        return ()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[LakeSession]:
        """Open the directory, which no other relay may use meanwhile. Raises SinkUnreachable."""
        thread = ThreadPoolExecutor(1, f"sink {self.name} files")
        loop = asyncio.get_running_loop()
        session: LakeSession | None = None
        look: asyncio.Task[None] | None = None
        try:
            session = await loop.run_in_executor(thread, LakeSession, self._plan, thread)
            look = asyncio.create_task(session.look())
            yield session
        finally:
            if look is not None:
                look.cancel()
            await asyncio.to_thread(thread.shutdown)  # What it has begun ends before another may begin.
            if session is not None:
                await asyncio.to_thread(session.close)


@dataclass(slots=True)
class _Bucket:
    """Records that go into one file of each kind.

    Attributes:
        parcel: number of the parcel that the first of them came with.
        end_ns: when its hour ends.
        seen_ns: the newest time of the gateway when the last of them came, and `touched_s` the time of this machine.
    """

    parcel: int
    end_ns: int
    records: list[Held] = field(default_factory=list)
    rows: int = 0
    size: int = 0
    seen_ns: int = 0
    touched_s: float = 0.0
    is_due: bool = False


class LakeSession:
    """An open lake: see `edge.relay.sinks.sink.SinkSession`. What reads and writes files runs in its thread."""

    def __init__(self, plan: LakePlan, thread: ThreadPoolExecutor) -> None:
        self._plan, self._thread = plan, thread
        self._turn = asyncio.Lock()
        self._open: dict[Key, _Bucket] = {}  # The one that was added to last is the last.
        self._cut: deque[tuple[Key, _Bucket]] = deque()
        self._size = 0
        self._written: dict[Key, IntervalSet] = {}  # In files, or waiting.
        self._newest: dict[str, int] = {}
        self._catalogues: dict[tuple[str, bytes], Catalogue] = {}
        self._number = 0
        self._marks: dict[int, str] = {}
        self._removed_before, self._kept_s, self._has_written = "", time.monotonic(), False
        with failures(plan.directory):
            self._lock = _locked(plan.directory)
            self._identity = _identity(plan.directory)
            try:
                self._files = LakeFiles(plan.directory)
                self._files.clean()
                path = plan.directory / ".mark"
                self.mark = self._marks[0] = path.read_text() if path.exists() else ""
            except BaseException:
                os.close(self._lock)
                raise

    def close(self) -> None:
        """Let go of the directory. What waits comes again."""
        self._files.close()
        os.close(self._lock)

    async def write(self, parcel: Parcel) -> int:
        """See `SinkSession.write`: a parcel is durable once `mark` is its mark or a later one."""
        async with self._turn:
            refused = await self._run(self._take, parcel)
            await self._write_due()
            return refused

    async def look(self) -> None:
        """Write hours that are over where no records come that would say so."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            async with self._turn:
                with suppress(SinkUnreachable):  # The next parcel says so.
                    await self._write_due()

    async def _write_due(self) -> None:
        await self._run(self._find_due)
        while self._cut:
            await self._run(self._write_one)
        await self._run(self._keep_mark)
        await self._run(self._remove_days)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        def call() -> T:
            with failures(self._plan.directory):
                if _identity(self._plan.directory) != self._identity:
                    raise SinkUnreachable(f"{self._plan.directory}: another directory is there now")
                return function(*args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    # What waits

    def _take(self, parcel: Parcel) -> int:
        self._number += 1
        self._marks[self._number] = parcel.mark
        self._change(parcel)
        refused = 0
        for record in parcel.records:
            place = record.place
            try:
                self._add(record, is_again=place in parcel.anew)
            except Malformed as error:
                refused += 1
                log.error("record refused by a sink", sink=self._plan.name, gateway=place.gateway,  # noqa: TRY400
                          epoch=place.epoch.hex(), seq=place.seq, reason=str(error))  # fmt: skip
        return refused

    def _add(self, record: SinkRecord, *, is_again: bool) -> None:
        gateway, epoch, seq = record.place
        if record.catalogue is not None:
            self._catalogues[gateway, epoch] = record.catalogue
        new = held(record, self._catalogues.get((gateway, epoch)))
        if new.at_ns is not None:
            self._newest[gateway] = max(self._newest.get(gateway, 0), new.at_ns)
        hour = None if new.at_ns is None else new.at_ns // _HOUR_NS
        rows, key = new.rows, Key(gateway, *_day_and_hour(hour), epoch.hex())
        if not rows or (key.day and key.day < self._removed_before):
            return
        written = self._written.get(key)
        if written is None:
            written = self._written[key] = self._files.places(key)
        if seq in written:
            return
        written.add(seq, seq)
        bucket = self._open.pop(key, None) or _Bucket(self._number, ((hour or 0) + 1) * _HOUR_NS)
        bucket.records.append(new)
        bucket.rows, bucket.size, self._size = bucket.rows + rows, bucket.size + new.size, self._size + new.size
        bucket.seen_ns, bucket.touched_s = self._newest.get(gateway, 0), time.monotonic()
        bucket.is_due |= is_again
        self._open[key] = bucket
        if bucket.rows >= self._plan.rows or bucket.size >= _FILE_BYTES:
            self._cut_at(key)
        while self._size > _HELD_BYTES:
            self._cut_at(next(iter(self._open)))

    def _cut_at(self, key: Key) -> None:
        bucket = self._open.pop(key)
        self._size -= bucket.size
        self._cut.append((key, bucket))

    def _find_due(self) -> None:
        now_s, now_ns = time.monotonic(), time.time_ns()
        for key, bucket in [*self._open.items()]:
            newest_ns = self._newest.get(key.gateway, 0)
            is_passed = newest_ns >= bucket.end_ns and newest_ns - bucket.seen_ns >= _QUIET_NS
            silent_s = now_s - bucket.touched_s
            is_over = silent_s >= _SILENT_S_LIMIT or (silent_s >= _SILENT_S and now_ns >= bucket.end_ns)
            if bucket.is_due or is_passed or is_over:
                self._cut_at(key)

    # Files

    def _write_one(self) -> None:
        """Write the records that were cut first."""
        key, bucket = self._cut[0]
        records = sorted(bucket.records, key=lambda each: each.seq)
        readings, events = reading_rows(records), event_rows(records)
        if readings is not None:
            self._files.write("readings", key, _places(each for each in records if each.blocks), *readings)
        if events is not None:
            places = _places(each for each in records if each.events)
            self._files.write("events", key, places, EVENTS, {}, {"events": events})
        self._cut.popleft()
        self._has_written = True
        if key not in self._open and all(key != each for each, _ in self._cut):
            del self._written[key]

    def _change(self, parcel: Parcel) -> None:
        """Mark what has fallen, and take out what comes anew; what only waits is no longer of interest."""
        chains: dict[tuple[str, bytes], tuple[dict[int, str], set[int]]] = {}
        for (gateway, epoch, seq), verdict in parcel.fallen:
            chains.setdefault((gateway, epoch), ({}, set()))[0][seq] = verdict.value
        for gateway, epoch, seq in parcel.anew:
            chains.setdefault((gateway, epoch), ({}, set()))[1].add(seq)
        for (gateway, epoch), (fallen, removed) in chains.items():
            self._files.mark(gateway, epoch.hex(), fallen, removed)
            for key in [key for key in self._written if (key.gateway, key.epoch) == (gateway, epoch.hex())]:
                for seq in removed:
                    self._written[key].discard(seq, seq)
                bucket = self._open.get(key)
                if bucket is not None:
                    bucket.records = [each for each in bucket.records if each.seq not in {*fallen, *removed}]
                    bucket.rows = sum(each.rows for each in bucket.records)
                    if not bucket.records:
                        self._size -= self._open.pop(key).size

    def _keep_mark(self) -> None:
        """Make the newest mark durable in front of which nothing waits."""
        waiting = [bucket.parcel - 1 for bucket in (*self._open.values(), *(each for _, each in self._cut))]
        number, now_s = min(waiting, default=self._number), time.monotonic()
        mark = self._marks[number]
        if mark != self.mark and (self._has_written or now_s - self._kept_s >= _LOOK_EVERY_S):
            replace_file(self._plan.directory / ".mark", mark.encode(), 0o640)
            self.mark, self._kept_s, self._has_written = mark, now_s, False
        needed = {number, self._number, *waiting}
        self._marks = {each: mark for each, mark in self._marks.items() if each in needed}

    def _remove_days(self) -> None:
        """Remove what is older than is kept: by the newest record, and no later than by the clock of this machine."""
        if self._plan.keep_days is None or not self._newest:
            return
        newest_ns = min(max(self._newest.values()), time.time_ns())
        before, _ = _day_and_hour((newest_ns - self._plan.keep_days * _DAY_NS) // _HOUR_NS)
        if before > self._removed_before:
            for day in self._files.remove_before(before):
                log.info("day removed from a sink", sink=self._plan.name, day=day)
            self._removed_before = before


def _places(records: Iterator[Held]) -> IntervalSet:
    return IntervalSet((each.seq, each.seq) for each in records)


@lru_cache
def _day_and_hour(hour: int | None) -> tuple[str, str]:
    """The day and the hour of it, of hours since 1970."""
    if hour is None:
        return "", "00"
    day, of_day = str(np.datetime64(hour, "h")).split("T")
    return day, of_day[:2]


def _identity(directory: Path) -> tuple[int, int]:
    about = directory.stat()
    return about.st_dev, about.st_ino


def _locked(directory: Path) -> int:
    handle = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise SinkUnreachable(f"{directory}: another relay writes there; give each a directory of its own") from None
    return handle


@contextmanager
def failures(directory: Path) -> Iterator[None]:
    """Whatever keeps a lake from being written, as a sentence. Raises SinkUnreachable."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        raise SinkUnreachable(f"{directory}: {remedy or error.strerror or error}", is_for_long=bool(remedy)) from error
    except duckdb.Error as error:
        said = str(error).strip().splitlines()[0]
        remedy = next((words for code, words in _REMEDIES.items() if os.strerror(code) in said), None)
        raise SinkUnreachable(f"{directory}: {remedy or said}", is_for_long=bool(remedy)) from error
