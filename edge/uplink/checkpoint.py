"""Finds the newest CHECKPOINT among the stored records."""

from __future__ import annotations

from collections.abc import Callable

from edge.uplink.source import Source

SEARCHED_LIMIT = 4096
"""How far back it is looked for; one is sealed a minute while data flow."""

_STEP = 64
_PIECE_BYTES = 1024 * 1024


async def find_newest_checkpoint(
    source: Source, end: int, is_checkpoint: Callable[[bytes], bool], known: int | None
) -> tuple[int, bytes] | None:
    """(number, record), looked for from before `end` back to the one that is `known`."""
    high = end
    lowest = max(source.oldest(), high - SEARCHED_LIMIT, known or 0)
    while high > lowest:
        low = max(lowest, high - _STEP)
        found = None
        at = low
        while at < high and (records := await source.read(at, _PIECE_BYTES)):
            for number, record in records:
                if number < high and is_checkpoint(record):
                    found = number, record
            at = records[-1][0] + 1
        if found is not None:
            return found
        high = low
    return None
