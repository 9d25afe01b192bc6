"""Fixtures: both disks, and small records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.buffer import BufferLimits, Disk, PosixDisk, Reader, Store
from edge.testing.disk import SimulatedDisk

EPOCH = b"\x01\x02\x03\x04\x05\x06\x07\x08"
LIMITS = BufferLimits(limit_bytes=1 << 20, segment_bytes=4096, reserve_bytes=0)


@dataclass(frozen=True, slots=True)
class Stored:
    epoch: bytes
    seq: int
    data: bytes


def records(first: int, count: int, *, epoch: bytes = EPOCH, size_bytes: int = 100) -> list[Stored]:
    """Records whose bytes contain their seq."""
    return [Stored(epoch, seq, seq.to_bytes(8, "big").ljust(size_bytes, b".")) for seq in range(first, first + count)]


@pytest.fixture
def make_records() -> Callable[..., list[Stored]]:
    return records


class Elapsed:
    """A monotonic clock that the test sets."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def elapsed() -> Elapsed:
    return Elapsed()


@pytest.fixture(params=["posix", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return PosixDisk(tmp_path) if request.param == "posix" else SimulatedDisk()


@pytest.fixture
def simulated() -> SimulatedDisk:
    return SimulatedDisk()


class Buffers:
    """Opens stores and readers, and closes them all."""

    def __init__(self, elapsed: Elapsed) -> None:
        self._elapsed = elapsed
        self._open: list[Store | Reader] = []

    def store(self, disk: Disk, limits: BufferLimits = LIMITS) -> Store:
        store = Store(disk, limits, self._elapsed)
        self._open.append(store)
        return store

    def reader(self, disk: Disk, store: Store | None = None) -> Reader:
        reader = Reader(disk, store.pending if store else None)
        self._open.append(reader)
        return reader

    def read_all(self, disk: Disk, store: Store | None = None, *, max_bytes: int = 1 << 16) -> dict[int, bytes]:
        """All records that a reader finds, by number."""
        reader, found, number = self.reader(disk, store), {}, 0
        while some := reader.read(number, max_bytes):
            found.update(some)
            number = some[-1][0] + 1
        return found

    def close(self) -> None:
        for opened in self._open:
            opened.close()


@pytest.fixture
def buffers(elapsed: Elapsed) -> Iterator[Buffers]:
    buffers = Buffers(elapsed)
    yield buffers
    buffers.close()


@pytest.fixture
def limits() -> BufferLimits:
    return LIMITS
