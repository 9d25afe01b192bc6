"""The two roles as two users of one group: each writes its own files, and only reads the other's."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.buffer import CURSOR, BufferLimits, Cursor, DirectoryLock, PosixDisk
from edge.buffer.cursor import DECLARED
from edge.testing.disk import SimulatedDisk

FULL = BufferLimits(limit_bytes=4 * 4096, segment_bytes=4096, reserve_bytes=0)


@pytest.fixture
def group_mask() -> Iterator[None]:
    """UMask=0007, as the units of the two roles have it."""
    before = os.umask(0o007)
    yield
    os.umask(before)


@pytest.mark.usefixtures("group_mask")
def test_the_other_user_of_the_group_may_make_files_in_the_buffer_and_remove_its_own_only(tmp_path: Path) -> None:
    directory = tmp_path / "state" / "buffer"
    with DirectoryLock(directory, "acquire"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o1770
    directory = tmp_path / "again"
    PosixDisk(directory).create("mark").close()

    assert stat.S_IMODE(directory.stat().st_mode) == 0o1770


@pytest.mark.usefixtures("group_mask")
def test_only_what_the_sender_writes_may_be_continued_by_the_other_user(tmp_path: Path) -> None:
    """One process becomes two, and two become one, without a change of owners."""
    with DirectoryLock(tmp_path, "acquire"), DirectoryLock(tmp_path, "forward"):
        Cursor(PosixDisk(tmp_path)).save()
        Cursor(PosixDisk(tmp_path), DECLARED).save()
        PosixDisk(tmp_path).create("0.seg").close()

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"cursor": 0o660, "forward.lock": 0o660, "acquire.lock": 0o640, "declared": 0o640, "0.seg": 0o640}


def test_a_lock_of_the_other_user_is_opened_as_a_sticky_directory_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux refuses O_CREAT there for a file of somebody else (fs.protected_regular=2, as Debian sets it)."""
    DirectoryLock(tmp_path, "forward").release()
    flags: list[int] = []
    really_open = os.open
    monkeypatch.setattr(os, "open", lambda path, how, *mode: flags.append(how) or really_open(path, how, *mode))

    DirectoryLock(tmp_path, "forward").release()

    assert flags
    assert not any(each & os.O_CREAT for each in flags)


def test_what_was_delivered_is_freed_although_the_cursor_is_of_another_user(
    simulated: SimulatedDisk, buffers: Any, make_records: Callable[..., Any]
) -> None:
    store = buffers.store(simulated, FULL)
    for seq in range(100):
        store.append(make_records(seq, 1, size_bytes=140))
        store.commit()
    cursor = Cursor(simulated)
    cursor.add(0, 99)
    cursor.save()
    used_bytes = store.usage().used_bytes
    simulated.fail("open for writing", errno.EACCES, name=CURSOR)

    assert store.trim(0) is None

    assert store.usage().used_bytes < used_bytes or store.make_room()
    assert store.usage().oldest > 0


def test_a_segment_that_cannot_be_removed_is_removed_later(
    simulated: SimulatedDisk, buffers: Any, make_records: Callable[..., Any]
) -> None:
    store = buffers.store(simulated, FULL)
    for seq in range(100):
        store.append(make_records(seq, 1, size_bytes=140))
        store.commit()
    drop = store.trim(0)
    assert drop is not None
    simulated.fail("rename", errno.EROFS)
    simulated.fail("unlink", errno.EROFS)

    store.drop(drop)
    assert store.trim(0) is None
    simulated.heal()
    assert store.trim(0) is None

    assert store.usage().oldest == drop.end
