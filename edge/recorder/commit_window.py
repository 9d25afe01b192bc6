"""The blocks that are committed together: how many fit one record, and when to seal them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from edge.model import SampleBlock, StatusCode, status_codes, status_runs
from edge.seal import RecordTooLarge

SOFT_BYTES = 48_000
"""A commit of this size is sealed at once."""
HARD_BYTES = 60_000
"""The limit of a commit of several blocks: the record around it must stay below 65,535 bytes."""

_BLOCK_BYTES = 32
_RUN_BYTES = 14


class CommitWindow:
    """Gathers blocks, and calls `commit` when they should be sealed. `commit` empties it with `take`."""

    def __init__(self, window_ns: int, commit: Callable[[], None]) -> None:
        """With a `window_ns` of 0 blocks gather only while an earlier commit is on its way to the disk."""
        self._window_ns, self._commit = window_ns, commit
        self._blocks: list[SampleBlock] = []
        self._timer: asyncio.TimerHandle | None = None
        self.size_bytes = 0

    def add(self, block: SampleBlock, size_bytes: int, *, urgent: bool, is_idle: bool) -> None:
        """Add a block of this encoded size; `is_idle` says that no earlier commit is on its way to the disk."""
        if self._blocks and self.size_bytes + size_bytes > HARD_BYTES:
            self._commit()
        self._blocks.append(block)
        self.size_bytes += size_bytes
        if urgent or self.size_bytes >= SOFT_BYTES:
            self._commit()
        elif self._window_ns:
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._window_ns / 1e9, self._commit)
        elif is_idle:
            self._commit()

    def commit_next(self) -> None:
        """An earlier commit is durable: without a window, the next one begins now."""
        if self._blocks and not self._window_ns:
            self._commit()

    def take(self) -> list[SampleBlock]:
        """Remove and return the blocks gathered, and stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        blocks, self._blocks, self.size_bytes = self._blocks, [], 0
        return blocks


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
