"""The blocks that are committed together: when to seal them, and how many fit one record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from math import inf

from edge.model import SampleBlock, StatusCode, status_codes, status_runs
from edge.seal import RecordTooLarge

HARD_BYTES = 60_000
"""The limit of the blocks in one record: the record around them must stay below 65,535 bytes."""
COMMIT_BYTES = 4 * HARD_BYTES
"""A commit of this size is sealed at once: sealing more in one go would delay the scans that are due meanwhile."""

_BLOCK_BYTES = 32
_RUN_BYTES = 14
_SHARE_OF_INTERVAL = 20


class CommitWindow:
    """Gathers the blocks of a commit, and calls `commit` when they should be sealed. `commit` empties it with `take`.

    That is `window_ns` after its first block, or once the scans that are under way then have answered; at the latest
    after a twentieth of the shortest interval in it. A scan that has taken longer than that is not waited for.
    """

    def __init__(self, window_ns: int, commit: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        """With a `window_ns` of 0 blocks gather only while an earlier commit is on its way to the disk."""
        self._window_s, self._commit, self._loop = window_ns / 1e9, commit, loop
        self._scans: dict[str, float] = {}  # Device, and when its scan began: the latest is the last.
        self._records: list[list[SampleBlock]] = []
        self._record_bytes = self._size_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._began_s, self._limit_s = 0.0, inf
        self._is_over = False

    def begin_scan(self, device: str) -> None:
        """A scan is under way, whose block may join the commit."""
        self._scans[device] = self._loop.time()

    def end_scan(self, device: str) -> None:
        """The scan has ended, whether it was answered or not."""
        del self._scans[device]
        if self._is_over:
            self._commit_or_wait()

    def add(self, block: SampleBlock, size_bytes: int, *, interval_ns: int, urgent: bool, is_idle: bool) -> None:
        """Add a block of this encoded size; `is_idle` says that no earlier commit is on its way to the disk."""
        self.put(block, size_bytes)
        self._limit_s = min(self._limit_s, interval_ns / 1e9 / _SHARE_OF_INTERVAL)
        if urgent or self._size_bytes >= COMMIT_BYTES or (not self._window_s and is_idle):
            self._commit()
        elif self._is_over:
            self._commit_or_wait()  # Its interval may be the shortest.
        elif self._window_s and self._timer is None:
            self._began_s = self._loop.time()
            self._timer = self._loop.call_later(self._window_s, self._end_window)

    def put(self, block: SampleBlock, size_bytes: int) -> None:
        """Add a block right before `take`."""
        if not self._records or self._record_bytes + size_bytes > HARD_BYTES:
            self._records.append([])
            self._record_bytes = 0
        self._records[-1].append(block)
        self._record_bytes += size_bytes
        self._size_bytes += size_bytes

    def _end_window(self) -> None:
        self._is_over = True
        self._commit_or_wait()

    def _commit_or_wait(self) -> None:
        now_s = self._loop.time()
        left_s = self._began_s + self._limit_s - now_s
        youngest_s = next(reversed(self._scans.values()), -inf)
        if left_s <= 0 or now_s - youngest_s >= self._limit_s:
            self._commit()
        else:
            assert self._timer is not None
            self._timer.cancel()
            self._timer = self._loop.call_later(left_s, self._commit)

    def commit_next(self) -> None:
        """An earlier commit is durable: without a window, the next one begins now."""
        if self._records and not self._window_s:
            self._commit()

    def take(self) -> list[list[SampleBlock]]:
        """Remove and return the blocks gathered, record by record, and stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        records, self._records, self._size_bytes = self._records, [], 0
        self._limit_s, self._is_over = inf, False
        return records


def encoded_bytes(block: SampleBlock) -> int:
    """An upper estimate of what a block adds to a record."""
    size = _BLOCK_BYTES + _RUN_BYTES * len(block.status)
    for vector in block.vectors:
        size += vector.nbytes + 8 if vector.dtype.kind != "O" else sum(4 * len(text) + 5 for text in vector)
    if block.positions is not None:
        for positions in block.positions:
            size += positions.nbytes + 8
    if block.source_times is not None:
        size += sum(times.nbytes + 8 for times in block.source_times)
    return size


def coarser(block: SampleBlock) -> SampleBlock:
    """The same scan with each two neighbouring status runs joined under the worse code.

    For a scan whose values fit a record but whose status, different for every tag, does not.

    Raises:
        RecordTooLarge: there are no runs left to join.
    """
    runs = block.status
    pairs = (runs[at : at + 2] for at in range(0, len(runs), 2))
    joined = tuple((p[0][0], p[-1][0] + p[-1][1] - p[0][0], max(code for _, _, code in p)) for p in pairs)
    if joined == runs:
        raise RecordTooLarge(f"a scan of group {block.group} holds more values than a record")
    return replace(block, status=joined)


def uncertain(block: SampleBlock, count: int) -> SampleBlock:
    """The same block of `count` values with UNCERTAIN in place of GOOD: the clock is not as good as required."""
    if not count:
        return block
    if not block.status:
        return replace(block, status=((0, count, int(StatusCode.UNCERTAIN)),))
    codes = status_codes(block.status, count)
    codes[codes == StatusCode.GOOD] = StatusCode.UNCERTAIN
    return replace(block, status=status_runs(codes))
