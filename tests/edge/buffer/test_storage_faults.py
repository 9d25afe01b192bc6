"""The disk fails in every way; the process stays up and says what was lost."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.buffer import BufferLimits, PosixDisk
from edge.buffer.store import RETRY_NS
from edge.errors import BufferFull, ConfigError
from edge.testing.disk import SimulatedDisk

MakeRecords = Callable[..., list[Any]]


def _kinds(store: Any) -> list[str]:
    return [change.kind for change in store.take_events()]


def _commit(store: Any, records: list[Any]) -> bool:
    store.append(records)
    return bool(store.commit())


@pytest.mark.parametrize("kind", ["fdatasync", "write"])
def test_after_an_error_the_records_go_into_a_fresh_segment(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords, kind: str
) -> None:
    """A file whose sync failed is never synced again."""
    store = buffers.store(simulated)
    _commit(store, make_records(0, 3))
    first = next(name for name in simulated.list() if name.endswith(".seg"))
    simulated.fail(kind, errno.EIO, name=first)

    assert _commit(store, make_records(3, 3)) is True
    assert _commit(store, make_records(6, 1)) is True

    assert _kinds(store) == ["buffer.fsync"]
    assert sorted(buffers.read_all(simulated)) == list(range(7))
    store.close()
    simulated.heal()
    again = buffers.store(simulated)
    assert (again.recovery.end, again.recovery.damages) == (7, [])


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("fdatasync", errno.EIO),
        ("write", errno.EIO),
        ("write", errno.ENOSPC),
        ("create", errno.EROFS),
        ("allocate", errno.ENOSPC),
        ("sync_dir", errno.EIO),
        ("", errno.EIO),
    ],
)
def test_while_the_disk_fails_records_wait_in_memory_and_are_sent_from_there(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords, elapsed: Any, kind: str, error: int
) -> None:
    store = buffers.store(simulated)
    _commit(store, make_records(0, 33))
    simulated.fail(kind, error)

    outcomes = [_commit(store, make_records(seq, 1)) for seq in range(33, 43)]

    assert outcomes[-1] is False
    assert store.is_in_memory
    assert max(buffers.read_all(simulated, store)) == 42
    assert buffers.reader(simulated, store).durable_end() == 43
    assert "buffer.memory" in _kinds(store)

    simulated.heal()
    assert store.commit() is False  # The disk is not tried again at once.
    elapsed.ns += RETRY_NS
    assert store.commit() is True

    assert _kinds(store) == ["buffer.memory"]
    assert not store.is_in_memory
    assert sorted(buffers.read_all(simulated)) == list(range(43))


def test_what_a_disk_never_took_is_sent_from_memory_from_the_first_record_on(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords
) -> None:
    store = buffers.store(simulated)
    simulated.fail("", errno.ENOSPC)
    _commit(store, make_records(0, 7))

    reader = buffers.reader(simulated, store)

    assert (reader.oldest(), reader.durable_end()) == (0, 7)


def test_memory_is_bounded(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords, limits: BufferLimits
) -> None:
    store = buffers.store(simulated, replace(limits, memory_bytes=10_000))
    simulated.fail("", errno.EIO)
    for seq in range(10_000 // 120):
        _commit(store, make_records(seq, 1))

    with pytest.raises(BufferFull, match="see to the disk"):
        store.append(make_records(83, 1))

    assert store.pending.size_bytes <= 10_000


def test_acknowledged_records_make_room_in_memory(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords, limits: BufferLimits, elapsed: Any
) -> None:
    """A disk that fails for days does not stop delivery."""
    store = buffers.store(simulated, replace(limits, memory_bytes=10_000))
    reader = buffers.reader(simulated, store)
    simulated.fail("", errno.EIO)
    for seq in range(500):
        _commit(store, make_records(seq, 1))
        assert [number for number, _ in reader.read(seq, 1000)] == [seq]
        reader.acknowledge(seq, seq)

    simulated.heal()
    elapsed.ns += RETRY_NS
    assert _commit(store, make_records(500, 1)) is True
    assert store.durable_end == 501


def test_a_full_disk_at_the_start_is_no_reason_not_to_start(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords, elapsed: Any
) -> None:
    simulated.capacity_bytes = 0
    store = buffers.store(simulated)

    assert _commit(store, make_records(0, 3)) is False
    simulated.capacity_bytes = 1 << 20
    elapsed.ns += RETRY_NS

    assert _commit(store, make_records(3, 1)) is True
    assert sorted(buffers.read_all(simulated)) == [0, 1, 2, 3]


def test_a_read_only_disk_at_the_start_is_read_and_waited_for(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords, elapsed: Any
) -> None:
    store = buffers.store(simulated)
    _commit(store, make_records(0, 3))
    store.close()
    for kind in ("create", "open for writing", "unlink", "rename"):
        simulated.fail(kind, errno.EROFS)

    again = buffers.store(simulated)
    assert again.is_in_memory
    assert _commit(again, make_records(3, 1)) is False
    assert sorted(buffers.read_all(simulated, again)) == [0, 1, 2, 3]

    simulated.heal()
    elapsed.ns += RETRY_NS
    assert again.commit() is True
    assert sorted(buffers.read_all(simulated)) == [0, 1, 2, 3]


def test_a_loss_is_declared_on_a_full_disk_from_the_reserve(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords, limits: BufferLimits
) -> None:
    """Another program filled the disk: the LOSS is durable before what it declares is unlinked."""
    store = buffers.store(simulated, replace(limits, reserve_bytes=2048))
    seq = 0
    while seq < 60:
        _commit(store, make_records(seq, 1))
        seq += 1
    simulated.capacity_bytes -= simulated.free_bytes()
    while _commit(store, make_records(seq, 1)):
        seq += 1

    drop = store.trim(0)
    assert drop is not None
    store.append(make_records(seq + 1, 1), urgent=True)
    assert store.commit() is True
    store.drop(drop)

    assert _commit(store, make_records(seq + 2, 1)) is True
    assert sorted(buffers.read_all(simulated)) == list(range(drop.end, seq + 3))


def test_what_waits_for_the_room_of_a_dropped_segment_is_tried_at_once(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords
) -> None:
    store = buffers.store(simulated)
    for seq in range(60):
        _commit(store, make_records(seq, 1))
    simulated.capacity_bytes -= simulated.free_bytes()
    while _commit(store, make_records(seq := seq + 1, 1)):
        pass

    drop = store.trim(0)
    assert drop is not None
    assert store.commit() is False
    store.drop(drop)

    assert store.commit() is True


def test_a_removed_directory_is_made_again_and_what_it_held_is_damage(
    tmp_path: Path, buffers: Any, make_records: MakeRecords
) -> None:
    disk = PosixDisk(tmp_path / "buffer")
    store = buffers.store(disk)
    _commit(store, make_records(0, 10))
    shutil.rmtree(disk.directory)

    assert _commit(store, make_records(10, 2)) is True

    assert [(damage.first, damage.last) for damage in store.find_vanished()] == [(0, 9)]
    assert buffers.read_all(disk) == {record.seq: record.data for record in make_records(10, 2)}


def test_a_directory_that_cannot_be_read_is_not_taken_for_an_empty_one(simulated: SimulatedDisk, buffers: Any) -> None:
    """Numbers that may be assigned are not assigned again."""
    simulated.fail("list", errno.EIO)

    with pytest.raises(ConfigError, match="the buffer cannot be read"):
        buffers.store(simulated)


def test_an_unreadable_page_costs_the_records_on_it(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords
) -> None:
    store = buffers.store(simulated)
    _commit(store, make_records(0, 30))
    store.close()
    simulated.fail("read", errno.EIO, name=".seg", times=1)

    again = buffers.store(simulated)

    assert (again.recovery.end, again.recovery.damages) == (30, [])  # Read again page by page, and found.
