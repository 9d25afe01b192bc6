"""Accepted records of a chain as runs joined by their hashes, and the hashes themselves in 32 bytes each."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

HASH_BYTES = 32
_PAGE_RECORDS = 256
UNKNOWN = bytes(HASH_BYTES)


class Hashes:
    """The hash of each accepted record; where `elsewhere` can give them, only the last pages are kept in memory."""

    def __init__(self, elsewhere: Callable[[int], bytes | None] | None, pages_kept: int) -> None:
        self._pages: dict[int, bytearray] = {}
        self._elsewhere = elsewhere
        self._pages_kept = pages_kept

    def __setitem__(self, seq: int, digest: bytes) -> None:
        number, at = divmod(seq, _PAGE_RECORDS)
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = bytearray(_PAGE_RECORDS * HASH_BYTES)
            if self._elsewhere is not None and len(self._pages) > self._pages_kept:
                del self._pages[min(self._pages)]
                if number not in self._pages:
                    return
        page[at * HASH_BYTES : (at + 1) * HASH_BYTES] = digest

    def get(self, seq: int) -> bytes | None:
        """The hash of a record, or None where it is no longer known."""
        digest = self._in_memory(seq)
        return digest if digest or self._elsewhere is None else self._elsewhere(seq)

    def _in_memory(self, seq: int) -> bytes | None:
        number, at = divmod(seq, _PAGE_RECORDS)
        page = self._pages.get(number)
        digest = UNKNOWN if page is None else bytes(page[at * HASH_BYTES : (at + 1) * HASH_BYTES])
        return None if digest == UNKNOWN else digest

    def forget(self, seq: int) -> None:
        """Drop the hash of a record that is no longer accepted."""
        number, at = divmod(seq, _PAGE_RECORDS)
        if number in self._pages:
            self._pages[number][at * HASH_BYTES : (at + 1) * HASH_BYTES] = UNKNOWN

    def snapshot(self) -> dict[int, bytes]:
        """The pages, for the snapshot of the verifier."""
        return {number: bytes(page) for number, page in self._pages.items()}

    def restore(self, pages: dict[int, bytes]) -> None:
        """Restore the pages of `snapshot`."""
        self._pages = {number: bytearray(page) for number, page in pages.items()}

    def recent(self, last: int, count: int) -> list[bytes]:
        """The hashes of so many places up to one, as far as they are in memory, for another verifier."""
        found = (self._in_memory(seq) for seq in range(max(0, last - count + 1), last + 1))
        return [digest or UNKNOWN for digest in found]

    def restore_recent(self, last: int, hashes: list[bytes]) -> None:
        """Know what `recent` gave."""
        for seq, digest in enumerate(hashes, last - len(hashes) + 1):
            self[seq] = digest


@dataclass(slots=True)
class Run:
    """Consecutive records, each with the hash that its successor names; `prev` is the hash that the first one names."""

    first: int
    last: int
    prev: bytes
    last_hash: bytes


class Runs:
    """All runs of a chain, ascending."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._runs: list[Run] = []

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def last(self) -> int:
        """The greatest seq, -1 when empty."""
        return self._runs[-1].last if self._runs else -1

    def at(self, seq: int) -> Run | None:
        """The run that contains a place."""
        at = bisect_right(self._firsts, seq) - 1
        return self._runs[at] if at >= 0 and seq <= self._runs[at].last else None

    def insert(self, seq: int, prev: bytes, digest: bytes) -> Run:
        """Add a record that no run contains; runs that it joins become one."""
        at = bisect_right(self._firsts, seq)
        below = self._runs[at - 1] if at else None
        above = self._runs[at] if at < len(self._runs) else None
        joins_below = below is not None and below.last == seq - 1 and below.last_hash == prev
        joins_above = above is not None and above.first == seq + 1 and above.prev == digest
        if below is not None and joins_below:
            below.last, below.last_hash = seq, digest
            if above is not None and joins_above:
                below.last, below.last_hash = above.last, above.last_hash
                del self._firsts[at], self._runs[at]
            return below
        if above is not None and joins_above:
            above.first, above.prev = seq, prev
            self._firsts[at] = seq
            return above
        run = Run(seq, seq, prev, digest)
        self._firsts.insert(at, seq)
        self._runs.insert(at, run)
        return run

    def cut(self, seq: int, hash_of: Callable[[int], bytes | None], digest: bytes) -> None:
        """Remove a record: its run ends before it, and another one begins after it."""
        at = bisect_right(self._firsts, seq) - 1
        run = self._runs[at]
        parts = []
        if run.first < seq:
            parts.append(Run(run.first, seq - 1, run.prev, hash_of(seq - 1) or UNKNOWN))
        if seq < run.last:
            parts.append(Run(seq + 1, run.last, digest, run.last_hash))
        self._runs[at : at + 1] = parts
        self._firsts[at : at + 1] = [part.first for part in parts]

    def snapshot(self) -> list[list[int | bytes]]:
        """Plain values for the snapshot of the verifier."""
        return [[run.first, run.last, run.prev, run.last_hash] for run in self._runs]

    def restore(self, kept: list[tuple[int, int, bytes, bytes]]) -> None:
        """Restore from the values of `snapshot`."""
        self._runs = [Run(*each) for each in kept]
        self._firsts = [run.first for run in self._runs]
