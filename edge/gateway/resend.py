"""Requests to send delivered records again: files in the buffer directory, which `tidegate resend` puts there.

    resend-TIME.request     to be put on record: the role acquire seals an EVENT, then renames it
    resend-TIME.accepted    on record: the role forward sends what it names
    resend-TIME.finished    sent: the role acquire, which owns the directory, removes both

The records of a request are sent after all others, within the share of the backlog. A request is removed a resend
window after its last acknowledgement: a forwarder that is killed before begins it again, and the relay drops what it
has. Its owner says who asked: the file is one that only an account of this machine could create.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

from edge.accounts import account_name
from edge.buffer import PosixDisk
from edge.buffer.segment import end_of, list_segments
from edge.buffer.watermark import load_watermark
from edge.clock import Clock
from edge.errors import BufferFull
from edge.files import sync_directory
from edge.intervals import IntervalSet
from edge.logs import get_logger
from edge.ranges import RecordRange, ranges_from_text, ranges_to_text

POLL_S = 5.0
SIZE_LIMIT_BYTES = 1 << 20
"""Of a request: some 15,000 ranges."""

_AT_ONCE = 16
_REQUEST, _ACCEPTED, _FINISHED = ".request", ".accepted", ".finished"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResendRequest:
    """What is to be sent again; `account` is the owner of the file."""

    path: Path
    account: str
    ranges: tuple[RecordRange, ...]

    @property
    def spans(self) -> str:
        """The ranges as text."""
        return ", ".join(f"{each.epoch.hex()} {each.first} to {each.last}" for each in self.ranges)


def write_request(directory: Path, ranges: Iterable[RecordRange]) -> Path:
    """Put a request into a buffer directory. Raises OSError; ValueError where it names too many ranges."""
    content = ranges_to_text(ranges).encode()
    if len(content) > SIZE_LIMIT_BYTES:
        raise ValueError(f"these are too many ranges for one request, which has at most {SIZE_LIMIT_BYTES:,} bytes")
    path = directory / f"resend-{time.time_ns()}{_REQUEST}"
    draft = path.with_suffix(".new")
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(handle, 0o644)  # Whatever the umask: the gateway is another user.
        file.write(content)
        file.flush()
        os.fsync(handle)
    draft.rename(path)
    sync_directory(directory)
    return path


def read_request(path: Path) -> ResendRequest:
    """Read a request. Raises OSError; ValueError where it is none."""
    if path.is_symlink():
        raise ValueError("it is a link")
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        # A second name of the file of another account would put that account on record.
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size > SIZE_LIMIT_BYTES:
            raise ValueError(f"it is no file of its own with at most {SIZE_LIMIT_BYTES:,} bytes")
        ranges = tuple(ranges_from_text(file.read(SIZE_LIMIT_BYTES).decode()))
    return ResendRequest(path=path, account=account_name(status.st_uid), ranges=ranges)


def numbers_of(directory: Path, ranges: Iterable[RecordRange]) -> IntervalSet:
    """The numbers of those records of the ranges that are stored. Raises OSError."""
    disk = PosixDisk(directory)
    segments, durable_end = list_segments(disk), load_watermark(disk).durable_end
    wanted: dict[bytes, IntervalSet] = {}
    for each in ranges:
        wanted.setdefault(each.epoch, IntervalSet()).add(each.first, each.last)
    numbers = IntervalSet()
    for at, segment in enumerate(segments):
        end = min(end_of(segments, at) or durable_end, durable_end)
        for first, last in wanted.get(segment.epoch, IntervalSet()).within(segment.seq, segment.seq_of(end) - 1):
            numbers.add(segment.number_of(first), segment.number_of(last))
    return numbers


def _found(directory: Path, suffix: str) -> list[Path]:
    """The oldest requests in a directory."""
    with suppress(OSError):
        return sorted(directory.glob(f"resend-*{suffix}"))[:_AT_ONCE]
    return []


async def accept_requests(directory: Path, record: Callable[[ResendRequest, int], Awaitable[bool]]) -> NoReturn:
    """Put requests on record as they come, until cancelled; `record` says whether one is durable."""
    recorded: set[Path] = set()
    refusals = _Refusals()
    while True:
        await asyncio.sleep(POLL_S)
        await asyncio.to_thread(_remove_finished, directory)
        for path in await asyncio.to_thread(_found, directory, _REQUEST):
            try:
                if path not in recorded:
                    request = await asyncio.to_thread(read_request, path)
                    numbers = await asyncio.to_thread(numbers_of, directory, request.ranges)
                    if not await record(request, numbers.count):
                        continue
                    recorded.add(path)
                await asyncio.to_thread(path.rename, path.with_suffix(_ACCEPTED))
                recorded.discard(path)
            except ValueError as error:
                refusals.log(path, error)
                with suppress(OSError):
                    await asyncio.to_thread(path.unlink)
            except (OSError, BufferFull) as error:  # The next turn tries again.
                refusals.log(path, error)


def _remove_finished(directory: Path) -> None:
    for path in _found(directory, _FINISHED):
        with suppress(OSError):  # The next turn tries again.
            path.with_suffix(_ACCEPTED).unlink(missing_ok=True)
            path.unlink()


class _Refusals:
    """Logs once why a request is refused, or has to wait."""

    def __init__(self) -> None:
        self._last: tuple[Path, str] | None = None

    def log(self, path: Path, error: Exception) -> None:
        if self._last != (path, str(error)):
            self._last = path, str(error)
            log.error("resend refused", request=path.name, reason=str(error))


class Resender(Protocol):
    """What sends records again: the forwarder."""

    def resend(self, numbers: IntervalSet) -> None:
        """Send delivered records again, after all others."""
        ...

    def is_resending(self, numbers: IntervalSet) -> bool:
        """Whether some of them are still to be sent or acknowledged."""
        ...


@dataclass(slots=True)
class _Accepted:
    numbers: IntervalSet
    done_at_ns: int | None = None


class Resends:
    """Has the records of accepted requests sent again."""

    def __init__(self, directory: Path, resender: Resender, clock: Clock, resend_window_ns: int) -> None:
        self._directory, self._resender, self._clock = directory, resender, clock
        self._resend_window_ns = resend_window_ns
        self._accepted: dict[Path, _Accepted] = {}
        self._refusals = _Refusals()

    async def run(self) -> NoReturn:
        """Work until cancelled."""
        while True:
            for path in await asyncio.to_thread(_found, self._directory, _ACCEPTED):
                try:
                    if not await asyncio.to_thread(path.with_suffix(_FINISHED).exists):
                        await self._advance(path)
                except (OSError, ValueError) as error:  # The next turn tries again.
                    self._refusals.log(path, error)
            await asyncio.sleep(POLL_S)

    async def _advance(self, path: Path) -> None:
        accepted = self._accepted.get(path)
        if accepted is None:
            accepted = self._accepted[path] = _Accepted(await asyncio.to_thread(self._numbers, path))
            self._resender.resend(accepted.numbers)
            log.info("resend begun", request=path.name, records=accepted.numbers.count)
        elif self._resender.is_resending(accepted.numbers):
            accepted.done_at_ns = None
        elif accepted.done_at_ns is None:
            accepted.done_at_ns = self._clock.boot_ns()
        elif self._clock.boot_ns() - accepted.done_at_ns >= self._resend_window_ns:
            await asyncio.to_thread(path.with_suffix(_FINISHED).touch)
            del self._accepted[path]
            log.info("resend finished", request=path.name, records=accepted.numbers.count)

    def _numbers(self, path: Path) -> IntervalSet:
        return numbers_of(self._directory, read_request(path).ranges)
