"""Blocks that travel together, and when they have waited long enough."""

from __future__ import annotations

from dataclasses import replace

from edge.model import SampleBlock
from edge.seal import RecordTooLarge

SOFT_BYTES = 48_000
"""A batch this large closes at once."""
HARD_BYTES = 60_000
"""A batch never grows beyond this: the record around it must stay below 65,535 bytes."""

_BLOCK_BYTES = 32
_RUN_BYTES = 14


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
    """The same scan with neighbouring stretches of its status as one, worst code first: never better than it was.

    For a scan whose values fit a record and whose status, another for every tag, does not.
    """
    runs = block.status
    pairs = (runs[at : at + 2] for at in range(0, len(runs), 2))
    joined = tuple((p[0][0], p[-1][0] + p[-1][1] - p[0][0], max(code for _, _, code in p)) for p in pairs)
    if joined == runs:
        raise RecordTooLarge(f"a scan of group {block.group} holds more values than a record")
    return replace(block, status=joined)


class Batch:
    """The blocks sealed together in the next record."""

    def __init__(self) -> None:
        self.blocks: list[SampleBlock] = []
        self.size_bytes = 0

    def __bool__(self) -> bool:
        return bool(self.blocks)

    def has_room_for(self, size_bytes: int) -> bool:
        """Whether a block of this size may still join."""
        return not self.blocks or self.size_bytes + size_bytes <= HARD_BYTES

    def add(self, block: SampleBlock, size_bytes: int) -> None:
        """Let a block join."""
        self.blocks.append(block)
        self.size_bytes += size_bytes

    @property
    def is_full(self) -> bool:
        """Whether it should close at once."""
        return self.size_bytes >= SOFT_BYTES

    def take(self) -> list[SampleBlock]:
        """Its blocks; the batch is empty again."""
        blocks, self.blocks, self.size_bytes = self.blocks, [], 0
        return blocks
