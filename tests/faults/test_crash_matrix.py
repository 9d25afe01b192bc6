"""The crash matrix finds nothing in the buffer, and finds every bug that is planted in it."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

import edge.buffer.cursor
import edge.buffer.frame
import edge.buffer.segment
import edge.buffer.store
from edge.buffer.cursor import CompletedNumbers, read_slots
from edge.buffer.disk import File
from edge.buffer.frame import Frame, decode
from edge.buffer.recovery import Recovery, recover
from edge.buffer.store import Store
from edge.intervals import IntervalSet
from edge.testing.disk import SimulatedDisk, SimulatedFile
from tests.support.crash_matrix import BrokenPromiseError, Gateway, Run, crash_states

Patch = pytest.MonkeyPatch
_STATES_TO_FIND_A_BUG = 60_000


@pytest.mark.requirement("REQ-BUF-01")
@pytest.mark.parametrize("seed", [0, 1_000, 2_000, 3_000])
def test_no_crash_breaks_a_promise(seed: int) -> None:
    """A hundred thousand states in all; `python -m bench.crash_matrix` checks a million."""
    assert crash_states(25_000, seed) >= 25_000


def test_a_seed_gives_the_same_states_again() -> None:
    """What the matrix finds is found again by its seed."""
    runs = [Run(5, Gateway(), has_faults=False) for _ in range(2)]

    for run in runs:
        run.play()

    assert runs[0].states == runs[1].states > 100


def no_sync(patch: Patch) -> Gateway:
    patch.setattr(SimulatedFile, "fdatasync", lambda self: None)
    return Gateway()


def no_directory_sync(patch: Patch) -> Gateway:
    patch.setattr(SimulatedDisk, "sync_dir", lambda self: None)
    return Gateway()


def no_checksum(patch: Patch) -> Gateway:
    patch.setattr(edge.buffer.frame, "checksum", lambda epoch, seq, data: 0)
    return Gateway()


def unlink_before_cursor(patch: Patch) -> Gateway:
    """The writer trusts acknowledgements that the sender has not saved yet."""
    acknowledged: list[tuple[int, int]] = []

    def add(self: Run, _: int = 0) -> None:
        last = max(self._truth.sent, default=-1)
        acknowledged[:] = [(0, last)] if last >= 0 else []

    patch.setattr(Run, "_deliver", add)
    patch.setattr(edge.buffer.cursor, "read_slots", lambda disk, name: (0, IntervalSet(acknowledged)))
    return Gateway()


def send_before_sync(patch: Patch) -> Gateway:
    return Gateway(sendable_end=lambda disk, store: store.pending.end if store is not None else 0)


def seq_from_cursor(patch: Patch) -> Gateway:
    """The chain continues after what was acknowledged instead of after what was stored."""
    return Gateway(next_seq=lambda disk, seq: min(seq, read_slots(disk, "cursor")[1].end))


def failed_sync_ignored(patch: Patch) -> Gateway:
    sync = SimulatedFile.fdatasync

    def fdatasync(self: SimulatedFile) -> None:
        with contextlib.suppress(OSError):
            sync(self)

    patch.setattr(SimulatedFile, "fdatasync", fdatasync)
    return Gateway()


def failed_sync_repeated(patch: Patch) -> Gateway:
    sync = SimulatedFile.fdatasync

    def fdatasync(self: SimulatedFile) -> None:
        try:
            sync(self)
        except OSError:
            sync(self)

    patch.setattr(SimulatedFile, "fdatasync", fdatasync)
    return Gateway()


class _SkipsSyncs(Store):
    """Omits some syncs."""

    def _skips(self, offset: int, frames: bytes) -> bool:
        raise NotImplementedError

    def _write(self, active: edge.buffer.store._Active, frames: bytes) -> None:
        if self._skips(active.offset, frames):
            active.file.write_at(active.offset, frames)
            active.offset += len(frames)
        else:
            super()._write(active, frames)


class _LeavesUnsynced(_SkipsSyncs):
    def _skips(self, offset: int, frames: bytes) -> bool:
        return edge.buffer.store.stored_bytes(self.pending.head()) > len(frames)


class _StartsUnsynced(_SkipsSyncs):
    def _skips(self, offset: int, frames: bytes) -> bool:
        return offset == 0


def rotation_without_sync_of_the_old_file(patch: Patch) -> Gateway:
    """A commit that spans two segments syncs only the second."""
    return Gateway(store=_LeavesUnsynced)


def rotation_without_sync_of_the_new_file(patch: Patch) -> Gateway:
    """The sync of the empty file counts as that of its first records."""
    return Gateway(store=_StartsUnsynced)


def recycled_frames_not_told_apart(patch: Patch) -> Gateway:
    """Any frame with a good checksum is accepted, from whichever use of the file."""

    def scan(file: File, epoch: bytes, seq: int, seq_end: int, offset: int = 0) -> Iterator[Frame]:
        image, at = file.read_at(offset, 1 << 20), 0
        while (frame := decode(image, at, epoch)) is not None:
            yield frame._replace(seq=seq, start=offset + frame.start, end=offset + frame.end)
            seq, at = seq + 1, frame.end

    patch.setattr(edge.buffer.frame, "checksum", lambda epoch, seq, data: zlib.crc32(data))
    patch.setattr(edge.buffer.segment, "scan", scan)
    return Gateway()


def killed_process_trusted(patch: Patch) -> Gateway:
    """What a killed process left in the page cache is published to readers without a sync."""

    def trusting(self: Store) -> None:
        if self._storage.segments:
            file = self._disk.open(self._storage.segments[-1].segment.name, writable=True)
            self._active = edge.buffer.store._Active(
                self._storage.segments[-1].segment, file, self.recovery.offset, self._storage.segments[-1].size_bytes
            )
        self._publish()

    patch.setattr(Store, "_continue_newest", trusting)
    return Gateway()


def page_cache_trusted(patch: Patch) -> Gateway:
    """After a failed sync and a kill, the cache shows what the disk does not have."""

    def found(disk: SimulatedDisk, completed: CompletedNumbers) -> Recovery:
        recovery = recover(disk, completed)
        recovery.unsynced_offset = recovery.offset
        return recovery

    patch.setattr(edge.buffer.store, "recover", found)
    return Gateway()


def drop_undeclared(patch: Patch) -> Gateway:
    return replace(Gateway(), declares_losses=False)


BUGS = [
    no_sync,
    no_directory_sync,
    no_checksum,
    unlink_before_cursor,
    send_before_sync,
    seq_from_cursor,
    failed_sync_ignored,
    failed_sync_repeated,
    rotation_without_sync_of_the_old_file,
    rotation_without_sync_of_the_new_file,
    recycled_frames_not_told_apart,
    killed_process_trusted,
    page_cache_trusted,
    drop_undeclared,
]

ON_FAILING_DISKS = [failed_sync_ignored, failed_sync_repeated, page_cache_trusted]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug: Callable[[Patch], Gateway], monkeypatch: Patch) -> None:
    gateway = bug(monkeypatch)

    with pytest.raises(BrokenPromiseError, match=r"was lost|was invented|would be used again"):
        crash_states(_STATES_TO_FIND_A_BUG, int(bug in ON_FAILING_DISKS), gateway, step=2)
