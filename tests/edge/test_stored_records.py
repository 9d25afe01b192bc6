"""The buffer as the uplink sees it: the loop never searches a file, and a full disk does not forget what was sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from edge.buffer import CURSOR, BufferLimits, Disk, Store
from edge.buffer import reader as reader_module
from edge.gateway.forward import StoredRecords
from edge.testing.clock import ManualClock
from edge.testing.disk import SimulatedDisk

EPOCH = bytes(8)


@dataclass(frozen=True, slots=True)
class Stored:
    epoch: bytes
    seq: int
    data: bytes


@pytest.fixture
def disk() -> Disk:
    return SimulatedDisk()


@pytest.fixture
def store(disk: Disk) -> Iterator[Store]:
    store = Store(disk, BufferLimits(limit_bytes=1 << 24, segment_bytes=1 << 20, reserve_bytes=0))
    store.append([Stored(EPOCH, seq, bytes(1000)) for seq in range(600)])
    store.commit()
    yield store
    store.close()


async def test_a_file_is_searched_in_a_thread_and_read_on_in_the_loop(
    disk: Disk, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = StoredRecords(disk, store.pending, ManualClock(), 0)
    real, searched, read = reader_module.Segment.frames, [], []
    monkeypatch.setattr(
        reader_module.Segment, "frames", lambda *a: (searched.append(threading.current_thread()), real(*a))[1]
    )
    position_read = reader_module._Position.read
    monkeypatch.setattr(
        reader_module._Position, "read", lambda *a: (read.append(threading.current_thread()), position_read(*a))[1]
    )

    first = await source.read(500, 2_000)
    more = await source.read(502, 2_000)
    source.close()

    assert [number for number, _ in first + more] == [500, 501, 502, 503]
    assert searched
    assert threading.main_thread() not in searched
    assert read[-1] is threading.main_thread()


async def test_what_was_just_stored_is_sent_from_memory_and_the_rest_from_the_disk(disk: Disk, store: Store) -> None:
    """Each record read back would cost more than everything else that the uplink does with it."""
    source = StoredRecords(disk, store.pending, ManualClock(), 0)
    store.append([Stored(EPOCH, 600, b"newest")])
    store.commit()
    touched: list[str] = []
    disk.watch = lambda kind, _: touched.append(kind)  # type: ignore[attr-defined]

    newest = [await source.read(600, 2_000), await source.read(source.durable_end() - 1, 1)]
    untouched = [*touched]
    older = await source.read(0, 1)
    source.close()

    assert newest == [[(600, b"newest")]] * 2
    assert untouched == []
    assert older == [(0, bytes(1000))]
    assert "read" in touched


async def test_a_record_is_not_sent_before_it_is_durable(disk: Disk, store: Store) -> None:
    source = StoredRecords(disk, store.pending, ManualClock(), 0)
    before = source.durable_end()
    store.append([Stored(EPOCH, 600, b"newest")])

    appended = source.durable_end(), await source.read(600, 2_000)
    store.commit()
    source.close()

    assert before == 600
    assert appended == (600, [])
    assert source.durable_end() == 601


async def test_the_cursor_has_its_space_before_the_disk_is_full(disk: Disk, store: Store) -> None:
    """Created only when it is needed, it would not fit a disk full of delivered records."""
    source = StoredRecords(disk, store.pending, ManualClock(), 0)
    await source.reserve()
    source.close()

    file = disk.open(CURSOR)
    assert file.size() >= 8192
    file.close()
