from __future__ import annotations

import errno
from random import Random

import pytest

from edge.buffer import CURSOR, Cursor, Disk
from edge.testing.disk import Crash, SimulatedDisk


def test_what_was_saved_is_found_again(disk: Disk) -> None:
    cursor = Cursor(disk)
    cursor.add(0, 9)
    cursor.add(20, 29)
    cursor.save()

    assert list(Cursor(disk).intervals) == [(0, 9), (20, 29)]


@pytest.mark.parametrize("slot", [0, 1])
def test_one_damaged_slot_costs_at_most_the_last_save(simulated: SimulatedDisk, slot: int) -> None:
    cursor = Cursor(simulated)
    for number in range(3):
        cursor.add(number, number)
        cursor.save()
    simulated.overwrite(CURSOR, slot * 4096, b"\xff" * 4096)

    assert list(Cursor(simulated).intervals) in ([(0, 1)], [(0, 2)])


@pytest.mark.parametrize("crash", list(Crash))
def test_a_crash_while_saving_leaves_the_old_or_the_new_one(simulated: SimulatedDisk, crash: Crash) -> None:
    cursor = Cursor(simulated)
    cursor.add(0, 9)
    cursor.save()
    cursor.add(10, 19)
    found: list[list[tuple[int, int]]] = []

    def look(kind: str, name: str) -> None:
        simulated.watch = lambda *_: None
        found.append(list(Cursor(simulated.crashed(crash, Random(len(found)))).intervals))
        simulated.watch = look

    simulated.watch = look
    cursor.save()

    assert len(found) >= 3
    assert all(intervals in ([(0, 9)], [(0, 19)]) for intervals in found)


def test_more_intervals_than_fit_are_remembered_in_part(disk: Disk) -> None:
    """What is forgotten is sent again: a cursor says too little, never too much."""
    cursor = Cursor(disk)
    for number in range(0, 2000, 2):
        cursor.add(number, number)
    cursor.save()

    found = Cursor(disk).intervals
    assert 200 < len(found) < 300
    assert all(first in cursor.intervals and first == last for first, last in found)


def test_a_save_that_failed_can_be_repeated(simulated: SimulatedDisk) -> None:
    cursor = Cursor(simulated)
    cursor.add(0, 0)
    simulated.fail("fdatasync", errno.EIO, times=1)

    with pytest.raises(OSError, match="Input/output"):
        cursor.save()
    cursor.save()

    assert list(Cursor(simulated).intervals) == [(0, 0)]
