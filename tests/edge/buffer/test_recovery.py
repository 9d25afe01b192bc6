from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.buffer import BufferLimits, Cursor, Damage, Disk, Reader, Store
from edge.buffer.segment import list_segments
from edge.testing.disk import Crash, SimulatedDisk

MakeRecords = Callable[..., list[Any]]
_PAGE_BYTES = 4096
_DAMAGE_LIMITS = BufferLimits(limit_bytes=1 << 20, segment_bytes=16_384, reserve_bytes=0)


def _filled(store: Store, records: list[Any], *, per_commit: int = 7) -> Store:
    for first in range(0, len(records), per_commit):
        store.append(records[first : first + per_commit])
        store.commit()
    return store


def _read_all(disk: Disk) -> dict[int, bytes]:
    reader, found, number = Reader(disk), {}, 0
    while some := reader.read(number, 1 << 16):
        found.update(some)
        number = some[-1][0] + 1
    reader.close()
    return found


def test_an_empty_directory_is_a_new_buffer(disk: Disk, buffers: Any) -> None:
    found = buffers.store(disk).recovery

    assert (found.end, found.tail, found.damages, found.is_tail_lost) == (0, [], [], False)


def test_a_restart_goes_on_where_it_stopped(disk: Disk, buffers: Any, make_records: MakeRecords) -> None:
    _filled(buffers.store(disk), make_records(0, 50)).close()

    again = buffers.store(disk)

    assert again.recovery.end == 50
    assert [(record.number, record.seq, record.data) for record in again.recovery.tail] == [
        (record.seq, record.seq, record.data) for record in make_records(48, 2)
    ]
    _filled(again, make_records(50, 5))
    assert sorted(_read_all(disk)) == list(range(55))


def test_the_last_two_records_are_found_over_segments(disk: Disk, buffers: Any, make_records: MakeRecords) -> None:
    """A head alone in its segment, or a segment that has none yet, still leaves two signatures to check."""
    store = _filled(buffers.store(disk), make_records(0, 34))
    _filled(store, make_records(0, 1, epoch=b"newepoch")).close()

    assert [record.number for record in buffers.store(disk).recovery.tail] == [33, 34]


@given(cut=st.integers(0, 60 * 120), data=st.data())
def test_after_any_truncation_of_the_newest_segment_the_whole_records_before_it_are_there(
    cut: int, data: st.DataObject
) -> None:
    disk = SimulatedDisk()
    records = [_Stored(seq, bytes([seq]) * data.draw(st.integers(1, 100))) for seq in range(60)]
    _filled(Store(disk, _DAMAGE_LIMITS), records).close()
    disk.unlink("mark")
    name = list_segments(disk)[-1].name
    file = disk.open(name, writable=True)
    file.truncate(min(cut, file.size()))

    found = Store(disk, _DAMAGE_LIMITS)

    whole = sum(1 for end in _ends(records) if end <= cut)
    assert (found.recovery.end, found.recovery.damages) == (whole, [])
    _filled(found, records[whole:])
    assert _read_all(disk) == {record.seq: record.data for record in records}


@pytest.mark.requirement("REQ-BUF-04")
@given(st.integers(0, 3), st.integers(0, 16_384 // 512 - 1), st.integers(0, 1 << 32))
def test_four_kibibytes_overwritten_anywhere_are_declared_exactly(segment: int, sector: int, seed: int) -> None:
    """R7: every record is either read back or in a damage, and none is in both."""
    disk, random = SimulatedDisk(), Random(seed)
    records = [_Stored(seq, random.randbytes(random.randrange(20, 400))) for seq in range(250)]
    _filled(Store(disk, _DAMAGE_LIMITS), records).close()
    segments = list_segments(disk)
    name = segments[segment % len(segments)].name
    noise = random.choice([bytes(_PAGE_BYTES), b"REC1" * (_PAGE_BYTES // 4), random.randbytes(_PAGE_BYTES)])
    disk.overwrite(name, sector * 512, noise)

    store = Store(disk, _DAMAGE_LIMITS)
    damages = list(store.recovery.damages)
    for _ in store.recovery.unread:
        damages += store.check_next()

    lost = [number for damage in damages for number in range(damage.first, damage.last + 1)]
    held = _read_all(disk)
    assert sorted([*lost, *held]) == list(range(250))
    assert all(held[number] == records[number].data for number in held)
    assert store.recovery.end == 250
    assert store.recovery.is_tail_lost == (249 in lost)


@pytest.mark.parametrize("name", ["mark", "cursor", "declared"])
def test_damage_to_a_file_beside_the_segments_loses_no_record(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords, name: str
) -> None:
    store = _filled(buffers.store(simulated), make_records(0, 50))
    cursor = Cursor(simulated)
    cursor.add(0, 10)
    cursor.save()
    segment = list_segments(simulated)[-1]
    simulated.overwrite(segment.name, (49 - segment.number) * 120, bytes(120))
    store.declare(Damage(segment, 49, 49))
    store.close()
    simulated.overwrite(name, 0, b"\xff" * 2 * _PAGE_BYTES)

    again = buffers.store(simulated)

    assert again.recovery.end == 50
    assert sorted(_read_all(simulated)) == list(range(49))


def test_a_lost_tail_that_was_sent_is_damage_and_its_seq_is_not_assigned_again(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords
) -> None:
    """The watermark and the cursor know of records that the segment no longer shows."""
    _filled(buffers.store(simulated), make_records(0, 20)).close()
    simulated.overwrite(list_segments(simulated)[-1].name, 18 * 120, bytes(_PAGE_BYTES))

    found = buffers.store(simulated).recovery

    assert (found.end, found.is_tail_lost) == (20, True)
    assert [(damage.first_seq, damage.last_seq) for damage in found.damages] == [(18, 19)]


def test_damage_names_the_records_around_it(simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords) -> None:
    _filled(buffers.store(simulated), make_records(0, 20)).close()
    simulated.overwrite(list_segments(simulated)[-1].name, 5 * 120 + 30, b"\xff")

    store = buffers.store(simulated)

    (damage,) = store.recovery.damages
    assert (damage.first, damage.last, damage.epoch) == (5, 5, make_records(0, 1)[0].epoch)
    assert (damage.before, damage.after) == (make_records(4, 1)[0].data, make_records(6, 1)[0].data)
    assert [change.kind for change in store.take_events()] == ["buffer.corrupt"]


def test_damage_is_declared_once(simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords) -> None:
    _filled(buffers.store(simulated), make_records(0, 20)).close()
    simulated.overwrite(list_segments(simulated)[-1].name, 5 * 120 + 30, b"\xff")
    store = buffers.store(simulated)
    store.declare(store.recovery.damages[0])
    store.close()

    assert buffers.store(simulated).recovery.damages == []


def test_damage_to_what_was_delivered_needs_no_declaration(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords
) -> None:
    _filled(buffers.store(simulated), make_records(0, 20)).close()
    simulated.overwrite(list_segments(simulated)[-1].name, 5 * 120 + 30, bytes(240))
    cursor = Cursor(simulated)
    cursor.add(0, 5)
    cursor.save()

    (damage,) = buffers.store(simulated).recovery.damages

    assert (damage.first, damage.last, damage.before) == (6, 7, None)


def test_a_vanished_segment_is_damage(simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords) -> None:
    store = _filled(buffers.store(simulated), make_records(0, 100))
    simulated.unlink(list_segments(simulated)[1].name)

    found = [(damage.first, damage.last) for damage in store.find_vanished()]

    assert found == [(34, 67)]
    assert store.find_vanished() == []


def test_only_the_newest_segments_are_read_at_the_start(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords
) -> None:
    """Ten gigabytes of older segments do not delay the first scan."""
    _filled(buffers.store(simulated), make_records(0, 1000)).close()
    read: list[str] = []
    simulated.watch = lambda kind, name: read.append(name) if kind == "read" and name.endswith(".seg") else None

    store = buffers.store(simulated)

    assert set(read) == {list_segments(simulated)[-1].name}
    assert len(store.recovery.unread) == len(list_segments(simulated)) - 1 > 20


@pytest.mark.parametrize("crash", [Crash.KEPT, Crash.KILLED])
def test_what_a_killed_process_left_unsynced_is_synced_before_it_is_published(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords, crash: Crash
) -> None:
    store = _filled(buffers.store(simulated), make_records(0, 5))
    store.append(make_records(5, 1))
    sync = simulated.watch
    found: list[SimulatedDisk] = []
    simulated.watch = lambda kind, _: found.append(simulated.crashed(crash, Random(1))) if kind == "fdatasync" else None
    store.commit()
    simulated.watch = sync

    assert buffers.store(found[0]).recovery.end == 6
    assert buffers.store(found[0].crashed(Crash.LOST, Random(1))).recovery.end == 6


class _Stored:
    epoch = b"01234567"

    def __init__(self, seq: int, data: bytes) -> None:
        self.seq, self.data = seq, data


def _ends(records: list[_Stored]) -> list[int]:
    ends, end = [], 0
    for record in records:
        end += 20 + len(record.data)
        ends.append(end)
    return ends
