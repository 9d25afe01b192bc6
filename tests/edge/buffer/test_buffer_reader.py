from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.buffer import Cursor, Disk, PosixDisk
from edge.buffer.segment import list_segments
from edge.testing.disk import SimulatedDisk

MakeRecords = Callable[..., list[Any]]

_READ = """
import sys
from pathlib import Path
from edge.buffer import PosixDisk, Reader
reader, number = Reader(PosixDisk(Path(sys.argv[1]))), 0
for line in sys.stdin:
    found = reader.read(number, 1 << 20)
    print(reader.durable_end(), *(number for number, _ in found), flush=True)
    number = found[-1][0] + 1 if found else number
"""


def _filled(store: Any, make_records: MakeRecords, count: int, first: int = 0) -> Any:
    for seq in range(first, first + count, 10):
        store.append(make_records(seq, min(10, first + count - seq)))
        store.commit()
    return store


def test_another_process_reads_what_is_durable_and_nothing_else(
    tmp_path: Path, buffers: Any, make_records: MakeRecords
) -> None:
    store = buffers.store(PosixDisk(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", _READ, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:

        def asked() -> list[int]:
            assert other.stdin is not None
            assert other.stdout is not None
            other.stdin.write("\n")
            other.stdin.flush()
            return [int(number) for number in other.stdout.readline().split()]

        before = asked()
        store.append(make_records(0, 3))
        appended = asked()
        store.commit()
        committed = asked()
        _filled(store, make_records, 40, 3)
        later = asked()
        assert other.stdin is not None
        other.stdin.close()
        other.wait()

    assert (before, appended, committed) == ([0], [0], [3, 0, 1, 2])
    assert later[:3] == [43, 3, 4]


@pytest.mark.parametrize("max_bytes", [1, 150, 1000, 1 << 20])
def test_reads_are_bounded_and_never_empty_before_the_end(
    disk: Disk, buffers: Any, make_records: MakeRecords, max_bytes: int
) -> None:
    _filled(buffers.store(disk), make_records, 100)
    reader, number = buffers.reader(disk), 0
    while number < 100:
        found = reader.read(number, max_bytes)
        assert found
        assert found[0][0] == number
        assert len(found) == 1 or sum(len(data) for _, data in found) <= max_bytes
        number = found[-1][0] + 1

    assert reader.read(100, max_bytes) == []


def test_reading_on_is_one_call_for_many_records(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords
) -> None:
    _filled(buffers.store(simulated), make_records, 30)
    reader = buffers.reader(simulated)
    reader.read(0, 1000)
    seen: list[str] = []
    simulated.watch = lambda kind, name: seen.append(f"{kind} {name.rpartition('.')[2]}")

    assert len(reader.read(10, 1000)) == 10

    assert seen == ["read mark", "read seg"]


def test_live_and_backlog_do_not_disturb_each_other(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords
) -> None:
    store = _filled(buffers.store(simulated), make_records, 100)
    reader = buffers.reader(simulated)
    reader.read(0, 500)
    reader.read(95, 5000)
    _filled(store, make_records, 10, 100)
    seen: list[str] = []
    simulated.watch = lambda kind, _: seen.append(kind)

    assert reader.read(5, 500)[0][0] == 5
    assert reader.read(100, 500)[0][0] == 100
    assert "list" not in seen


def test_a_segment_that_vanishes_is_skipped(simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords) -> None:
    _filled(buffers.store(simulated), make_records, 100)
    reader = buffers.reader(simulated)
    last = reader.read(0, 1000)[-1][0]
    simulated.unlink(list_segments(simulated)[1].name)

    found = reader.read(last + 1, 1 << 16)
    assert found[-1][0] == 33
    assert reader.read(34, 1000)[0][0] == 68


def test_a_segment_reused_meanwhile_is_recognised_by_its_frames(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords
) -> None:
    store = _filled(buffers.store(simulated), make_records, 100)
    reader = buffers.reader(simulated)
    assert reader.read(0, 500)[-1][0] == 4
    cursor = Cursor(simulated)
    cursor.add(0, 70)
    cursor.save()
    store.trim(1 << 62)
    _filled(store, make_records, 40, 100)

    assert reader.read(5, 500)[0][0] == reader.oldest() == 68


def test_damage_is_skipped(simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords) -> None:
    _filled(buffers.store(simulated), make_records, 100)
    simulated.overwrite(list_segments(simulated)[1].name, 5 * 120, bytes(130))

    numbers = list(buffers.read_all(simulated))

    assert numbers == [number for number in range(100) if number not in (39, 40)]


def test_an_empty_directory_has_nothing_to_read(disk: Disk, buffers: Any) -> None:
    reader = buffers.reader(disk)

    assert (reader.durable_end(), reader.oldest(), reader.read(0, 1000)) == (0, 0, [])


def test_a_directory_made_again_is_followed(simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords) -> None:
    store = _filled(buffers.store(simulated), make_records, 10)
    reader = buffers.reader(simulated)
    assert reader.durable_end() == 10
    simulated.remove_all()
    _filled(store, make_records, 10, 10)

    reader.durable_end()
    assert [number for number, _ in reader.read(10, 1 << 16)] == list(range(10, 20))
