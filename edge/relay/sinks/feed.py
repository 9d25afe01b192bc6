"""Feeds a sink from the archive: connects, goes on from the sink's mark, and says how far behind it is.

The archive never waits for a sink. The feed asks it what is durable and what counts, and reads the rest by itself, in a
thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import SystemRandom
from typing import NoReturn, ParamSpec, Protocol, TypeVar

from edge.backoff import Backoff
from edge.clock import Clock
from edge.errors import ErrorCode
from edge.health import SinkStatus
from edge.logs import get_logger
from edge.relay.sinks.reader import Reader, bytes_after
from edge.relay.sinks.sink import Sink, SinkSession, SinkUnreachable
from edge.tasks import end_if_cancelled
from edge.verify import Verdict

log = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_RETRY_LIMIT_NS = 30 * 10**9
_GATHER_S = 0.2  # What is archived meanwhile is written together.
_MEASURE_EVERY_S = 60.0


class ArchiveState(Protocol):
    """What only the archive's thread knows."""

    def durable_ends(self) -> dict[str, tuple[str, int]]:
        """For each gateway its newest day, and how much of that file is durable."""

    def standing(self, places: Iterable[tuple[str, bytes, int]]) -> list[Verdict]:
        """The verdict on what is archived at each place."""


class InArchive(Protocol):
    """Calls a function in the archive's thread."""

    def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...  # noqa: D102


@dataclass(slots=True)
class _Counts:
    records: int = 0
    refused: int = 0
    skipped: int = 0


class SinkFeed:
    """One sink of a relay, fed until `run` is cancelled; `on_session` is called at each session."""

    def __init__(
        self, sink: Sink, directory: Path, archive: ArchiveState, in_archive: InArchive, clock: Clock,
        on_session: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._sink, self._directory, self._archive, self._in_archive = sink, directory, archive, in_archive
        self._clock, self._on_session = clock, on_session
        self._thread = ThreadPoolExecutor(1, f"sink {sink.name}")
        self._due = asyncio.Event()
        self._counts = _Counts()
        self._is_up, self._reason, self._code = False, "not connected yet", ErrorCode.SINK_BEHIND.id
        self._whole_ns = clock.utc_ns()  # UTC up to which everything archived is in the sink.
        self._mark: str | None = None
        self._waiting_bytes, self._has_all = 0, False

    def wake(self) -> None:
        """Something was archived."""
        self._due.set()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False)

    def status(self) -> SinkStatus:
        """How far the sink is."""
        is_behind = not self._is_up or not self._has_all
        return SinkStatus(
            name=self._sink.name, address=self._sink.address, state="up" if self._is_up else "down",
            reason=self._reason, code=self._code, records=self._counts.records, refused=self._counts.refused,
            skipped=self._counts.skipped, waiting_bytes=self._waiting_bytes,
            lag_ns=max(0, self._clock.utc_ns() - self._whole_ns) if is_behind else 0,
        )  # fmt: skip

    async def run(self) -> NoReturn:
        """Feed it until cancelled."""
        backoff = Backoff(SystemRandom(), limit_ns=_RETRY_LIMIT_NS)
        while True:
            try:
                async with self._sink.session() as session:
                    self._on_session()
                    self._mark = session.mark
                    reader = await self._in_thread(Reader, self._directory, session.mark)
                    await self._follow(session, reader, backoff)
            except SinkUnreachable as error:
                self._lost(str(error), str(error.code))
                delay_ns = backoff.next_ns(at_limit=error.is_for_long)
            except OSError as error:
                self._lost(f"the archive cannot be read: {error.strerror or error}", ErrorCode.ARCHIVE_DISK.id)
                delay_ns = backoff.next_ns()
            except Exception as error:
                # A fault of one sink must not stop the archive, or the other sinks.
                log.exception("sink failed; please report it", sink=self._sink.name)
                self._lost(f"it failed: {error!r}", ErrorCode.SINK_BEHIND.id)
                delay_ns = backoff.next_ns(at_limit=True)
            end_if_cancelled()
            with suppress(OSError):
                await self._measure()
            await asyncio.sleep(delay_ns / 1e9)

    async def _follow(self, session: SinkSession, reader: Reader, backoff: Backoff) -> NoReturn:
        while True:
            self._due.clear()
            asked_ns = self._clock.utc_ns()
            ends = await self._in_archive(self._archive.durable_ends)
            skipped = reader.skipped
            while found := await self._in_thread(reader.read, ends):
                self._has_all = False
                verdicts = await self._in_archive(self._archive.standing, [each.place for each in found])
                parcel = await self._in_thread(reader.parcel, found, verdicts)
                refused = await session.write(parcel)
                self._mark = session.mark
                backoff.reset()
                self._counts.records += len(parcel.records) - refused
                self._counts.refused += refused
                await self._measure()  # Before it is up, which without more to write it would be without a lag.
                self._connected()
            self._counts.skipped += reader.skipped - skipped
            self._connected()
            self._has_all, self._whole_ns = True, asked_ns
            await self._measure()
            while not self._due.is_set():  # What the sink has may wait in its memory, and be written meanwhile.
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._due.wait(), _MEASURE_EVERY_S)
                self._mark = session.mark
                await self._measure()
            await asyncio.sleep(_GATHER_S)

    async def _measure(self) -> None:
        """How much the archive has that the sink has not; nothing where its mark was not read yet."""
        if self._mark is not None:
            ends = await self._in_archive(self._archive.durable_ends)
            self._waiting_bytes = await self._in_thread(bytes_after, self._directory, self._mark, ends)

    def _connected(self) -> None:
        if not self._is_up:
            log.info("sink connected", sink=self._sink.name, address=self._sink.address)
        self._is_up, self._reason, self._code = True, "", ""

    def _lost(self, reason: str, code: str) -> None:
        if self._is_up or reason != self._reason:  # Once, not on every attempt.
            log.warning("sink lost", sink=self._sink.name, reason=reason, code=code)
        self._is_up, self._has_all, self._reason, self._code = False, False, reason, code

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **kwargs))
