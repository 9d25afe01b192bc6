"""The real disk and the simulated one keep the same contract."""

from __future__ import annotations

import errno

import pytest

from edge.buffer import Disk
from edge.testing.disk import Crash, SimulatedDisk


def test_what_is_written_reads_back(disk: Disk) -> None:
    file = disk.create("a")
    file.write_at(0, b"abcdef")
    file.write_at(2, b"XY")
    file.fdatasync()

    assert (file.read_at(0, 100), file.read_at(4, 1), file.size()) == (b"abXYef", b"e", 6)
    file.close()


def test_allocated_space_reads_as_zeros_and_keeps_what_was_there(disk: Disk) -> None:
    file = disk.create("a")
    file.write_at(0, b"abc")
    file.allocate(8)
    file.allocate(4)

    assert file.read_at(0, 100) == b"abc\0\0\0\0\0"
    file.truncate(2)
    assert file.read_at(0, 100) == b"ab"
    file.close()


def test_a_name_is_given_once(disk: Disk) -> None:
    disk.create("a").close()

    with pytest.raises(FileExistsError):
        disk.create("a")


@pytest.mark.parametrize("act", ["open", "unlink", "rename"])
def test_a_missing_file_is_named_so(disk: Disk, act: str) -> None:
    with pytest.raises(FileNotFoundError):
        disk.rename("a", "b") if act == "rename" else getattr(disk, act)("a")


def test_renaming_replaces_and_the_replaced_file_has_no_name(disk: Disk) -> None:
    old, new = disk.create("old"), disk.create("new")
    old.write_at(0, b"old")
    disk.rename("old", "new")
    disk.sync_dir()

    assert disk.list() == ["new"]
    assert (old.is_linked(), new.is_linked()) == (True, False)
    old.close()
    new.close()


def test_an_unlinked_file_can_still_be_read_by_who_has_it_open(disk: Disk) -> None:
    file = disk.create("a")
    file.write_at(0, b"abc")
    disk.unlink("a")

    assert (disk.list(), file.read_at(0, 3), file.is_linked()) == ([], b"abc", False)
    file.close()


def test_a_file_opened_for_reading_is_not_written(disk: Disk) -> None:
    disk.create("a").close()
    file = disk.open("a")

    with pytest.raises(OSError, match="Bad file descriptor"):
        file.write_at(0, b"x")
    file.close()


def test_free_space_and_time_of_writing_are_known(disk: Disk) -> None:
    file = disk.create("a")
    file.write_at(0, b"x")

    assert disk.free_bytes() > 0
    assert file.modified_ns() >= 0
    assert len(disk.boot_id()) == 16
    file.close()


def _crashed(disk: SimulatedDisk, crash: Crash) -> dict[str, bytes]:
    from random import Random

    found = disk.crashed(crash, Random(1))
    return {name: found.open(name).read_at(0, 100) for name in found.list()}


def test_a_power_cut_takes_what_was_not_synced(simulated: SimulatedDisk) -> None:
    file = simulated.create("a")
    file.write_at(0, b"synced")
    file.fdatasync()
    simulated.sync_dir()
    file.write_at(0, b"SYNCED")
    simulated.create("b")

    assert _crashed(simulated, Crash.LOST) == {"a": b"synced"}
    assert _crashed(simulated, Crash.KEPT) == {"a": b"SYNCED", "b": b""}
    assert _crashed(simulated, Crash.KILLED) == {"a": b"SYNCED", "b": b""}


def test_a_failed_sync_loses_what_still_reads_back(simulated: SimulatedDisk) -> None:
    """As on Linux: the pages count as clean, and the next sync reports nothing."""
    file = simulated.create("a")
    simulated.sync_dir()
    simulated.fail("fdatasync", errno.EIO, times=1)
    file.write_at(0, b"abc")

    with pytest.raises(OSError, match="Input/output error"):
        file.fdatasync()
    file.fdatasync()

    assert file.read_at(0, 3) == b"abc"
    assert _crashed(simulated, Crash.KEPT) == {"a": b""}
