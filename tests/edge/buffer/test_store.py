from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from edge.buffer import BufferLimits, Cursor, Disk
from edge.errors import BufferFull
from edge.testing.disk import SimulatedDisk

MakeRecords = Callable[..., list[Any]]
_KEPT_LONG_NS = 72 * 3600 * 10**9


def test_records_are_read_back_by_number(disk: Disk, buffers: Any, make_records: MakeRecords) -> None:
    store = buffers.store(disk)

    assert store.append(make_records(0, 3)) == 0
    assert store.append(make_records(3, 2)) == 3
    assert store.commit() is True

    assert buffers.read_all(disk) == {record.seq: record.data for record in make_records(0, 5)}
    assert store.durable_end == 5


def test_a_commit_is_one_write_and_one_sync(simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords) -> None:
    store = buffers.store(simulated)
    store.append(make_records(0, 1))
    store.commit()
    seen: list[str] = []
    simulated.watch = lambda kind, name: seen.append(f"{kind} {name.rpartition('.')[2]}")

    store.append(make_records(1, 10))
    store.commit()

    assert seen == ["write seg", "fdatasync seg", "write mark"]


def test_nothing_is_durable_before_the_commit(disk: Disk, buffers: Any, make_records: MakeRecords) -> None:
    store = buffers.store(disk)
    store.append(make_records(0, 3))

    assert (store.durable_end, buffers.read_all(disk)) == (0, {})


def test_a_new_segment_is_synced_and_named_durably_before_its_first_record(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords
) -> None:
    store = buffers.store(simulated)
    seen: list[str] = []
    simulated.watch = lambda kind, name: seen.append(kind)

    store.append(make_records(0, 1))
    store.commit()

    first_write = seen.index("write")
    assert seen[seen.index("create") : first_write] == ["create", "allocate", "fdatasync", "sync_dir"]


def test_segments_follow_each_other_without_a_hole(disk: Disk, buffers: Any, make_records: MakeRecords) -> None:
    store = buffers.store(disk)
    for first in range(0, 200, 10):
        store.append(make_records(first, 10))
        store.commit()

    names = sorted(name for name in disk.list() if name.endswith(".seg"))
    assert len(names) > 4
    assert names[1] == "0000000000000022-0102030405060708-34.seg"
    assert buffers.read_all(disk) == {record.seq: record.data for record in make_records(0, 200)}


def test_numbers_go_on_over_epochs(disk: Disk, buffers: Any, make_records: MakeRecords) -> None:
    store = buffers.store(disk)
    store.append([*make_records(0, 2), *make_records(0, 2, epoch=b"newepoch")])
    store.commit()

    assert sorted(buffers.read_all(disk)) == [0, 1, 2, 3]
    assert f"{2:016x}-{b'newepoch'.hex()}-0.seg" in disk.list()


def test_a_record_that_no_frame_can_hold_is_refused(disk: Disk, buffers: Any, make_records: MakeRecords) -> None:
    with pytest.raises(ValueError, match="longer than 65535"):
        buffers.store(disk).append(make_records(0, 1, size_bytes=65_536))


# Limits


def _fill(store: Any, make_records: MakeRecords, first: int, count: int) -> None:
    for seq in range(first, first + count):
        store.append(make_records(seq, 1))
        store.commit()


def _deliver(disk: Disk, first: int, last: int) -> None:
    cursor = Cursor(disk)
    cursor.add(first, last)
    cursor.save()


def test_what_was_delivered_long_enough_ago_is_freed(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords
) -> None:
    store = buffers.store(simulated)
    _fill(store, make_records, 0, 100)
    _deliver(simulated, 0, 70)

    assert store.trim(_KEPT_LONG_NS) is None
    assert min(buffers.read_all(simulated)) == 0
    assert store.trim(_KEPT_LONG_NS + 1) is None

    assert min(buffers.read_all(simulated)) == 68  # Segments go whole, and only when all of it was delivered.
    assert store.usage().oldest == 68


def test_a_freed_segment_becomes_the_next_one(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords
) -> None:
    """Written in place: what an earlier use left in it is never read again."""
    store = buffers.store(simulated)
    _fill(store, make_records, 0, 100)
    _deliver(simulated, 0, 70)
    store.trim(_KEPT_LONG_NS + 1)
    assert "spare" in simulated.list()

    _fill(store, make_records, 100, 5)

    assert "spare" not in simulated.list()
    assert buffers.read_all(simulated) == {record.seq: record.data for record in make_records(68, 37)}
    store.close()
    again = buffers.store(simulated)
    assert (again.recovery.end, again.recovery.damages) == (105, [])


def test_at_the_limit_the_oldest_delivered_go_first(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords, limits: BufferLimits
) -> None:
    store = buffers.store(simulated, replace(limits, limit_bytes=5 * 4096))
    _fill(store, make_records, 0, 140)
    _deliver(simulated, 34, 101)

    assert store.trim(0) is None

    assert sorted(buffers.read_all(simulated)) == [*range(34), *range(68, 140)]


def test_undelivered_records_go_only_after_their_loss_was_declared(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords, limits: BufferLimits
) -> None:
    store = buffers.store(simulated, replace(limits, limit_bytes=5 * 4096))
    _fill(store, make_records, 0, 140)
    _deliver(simulated, 3, 9)

    drop = store.trim(0)

    assert drop is not None
    runs = [(run.first_seq, run.last_seq, run.records, run.hash_of_last) for run in drop.runs]
    assert runs == [
        (0, 2, 3, sha256(make_records(2, 1)[0].data).digest()),
        (10, 33, 24, sha256(make_records(33, 1)[0].data).digest()),
    ]
    doomed = {number for number, _ in store.records_to_drop(drop)}
    assert doomed == {*range(3), *range(10, 34)}
    assert min(buffers.read_all(simulated)) == 0

    store.drop(drop)

    assert min(buffers.read_all(simulated)) == 34
    assert store.trim(0) is None


def test_a_buffer_that_is_to_stop_refuses_and_drops_nothing(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords, limits: BufferLimits
) -> None:
    store = buffers.store(simulated, replace(limits, limit_bytes=3 * 4096, when_full="stop"))

    with pytest.raises(BufferFull, match="policy is to stop"):
        _fill(store, make_records, 0, 200)

    stored = store.durable_end
    assert store.trim(1 << 62) is None
    assert sorted(buffers.read_all(simulated)) == list(range(stored))
    _deliver(simulated, 0, 40)
    store.trim(0)
    _fill(store, make_records, stored, 10)
    assert store.durable_end == stored + 10


def test_space_is_left_to_others(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords, limits: BufferLimits
) -> None:
    simulated.capacity_bytes = 100_000
    store = buffers.store(simulated, replace(limits, free_space_bytes=80_000))
    seq = 0
    while store.trim(0) is None:
        _fill(store, make_records, seq, 1)
        seq += 1

    assert simulated.free_bytes() >= 80_000


def test_the_reserve_is_for_events_and_losses_on_a_full_disk(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords, limits: BufferLimits
) -> None:
    store = buffers.store(simulated, replace(limits, limit_bytes=2 * 4096 + 512, reserve_bytes=512, when_full="stop"))
    with pytest.raises(BufferFull):
        _fill(store, make_records, 0, 200)
    seq = store.durable_end

    _fill_urgent = make_records(seq, 1)
    store.append(_fill_urgent, urgent=True)

    assert store.commit() is True
    assert store.durable_end == seq + 1
    assert "reserve" not in simulated.list()


def test_undelivered_bytes_are_reported_once_per_level(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords, limits: BufferLimits
) -> None:
    store = buffers.store(simulated, replace(limits, limit_bytes=20 * 4096))
    for seq in range(0, 19 * 34, 17):
        store.append(make_records(seq, 17))
        store.commit()
        store.trim(0)

    changes = [change for change in store.take_events() if change.kind == "buffer.high"]
    assert [change.data["percent"] for change in changes] == [70, 85, 95]
    assert store.take_events() == []
