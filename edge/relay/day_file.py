"""One gateway's records of one day: a CBOR sequence that only grows, and its index."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge.relay.index import ENTRY_BYTES, Entry, intact
from edge.relay.sequence import split
from edge.seal.frame import parse
from edge.seal.record import Garbage


class Recovered(NamedTuple):
    """What opening a day file put right: bytes moved out of a torn tail, and records indexed again."""

    torn_bytes: int = 0
    indexed: int = 0


class DayFile:
    """Appends are held until `sync`, which may be called again when the disk refused.

    Nothing is asked of the disk before `open` or the first `sync`: a day that cannot begin must not lose what was
    judged already.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recovered = Recovered()
        self.end = 0
        self._handles: tuple[int, int] | None = None
        self._durable_bytes = self._index_bytes = 0
        self._waiting: list[bytes] = []
        self._entries: list[Entry] = []

    def open(self) -> None:
        """Continue what is there. Raises OSError."""
        folder = self.path.parent
        if not folder.exists():
            folder.mkdir()
            sync_directory(folder.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        records = os.open(self.path, flags, 0o640)
        try:
            index_file = os.open(self.path.with_suffix(".idx"), flags, 0o640)
        except OSError:
            os.close(records)
            raise
        try:
            self._continue(records, index_file)
            sync_directory(folder)
        except OSError:
            os.close(records)
            os.close(index_file)
            raise
        self._handles = records, index_file

    def _continue(self, records: int, index_file: int) -> None:
        if self._waiting and os.fstat(records).st_size:
            raise FileExistsError(errno.EEXIST, "somebody else writes to it", str(self.path))
        self.recovered = self._recover(records, index_file)
        self._durable_bytes = os.fstat(records).st_size
        self._index_bytes = os.fstat(index_file).st_size
        self.end = max(self.end, self._durable_bytes)

    def append(self, epoch: bytes, seq: int, digest: bytes, data: bytes) -> int:
        """Hold a record for the next sync; the answer is the offset it will have."""
        offset = self.end
        self._waiting.append(data)
        self._entries.append(Entry(epoch, seq, offset, len(data), digest))
        self.end += len(data)
        return offset

    def sync(self) -> None:
        """Make everything appended durable, with one write and one sync.

        Raises:
            OSError: the disk refused; everything is still held, and the call may be repeated.
        """
        if not self._waiting:
            return
        if self._handles is None:
            self.open()
        assert self._handles is not None
        records, index_file = self._handles
        _write(records, b"".join(self._waiting), self._durable_bytes)
        os.fdatasync(records)
        self._durable_bytes = self.end
        self._waiting.clear()
        # The index needs no sync of its own while it grows: what it lacks is found in the records.
        entries = b"".join(entry.pack() for entry in self._entries)
        _write(index_file, entries, self._index_bytes)
        self._index_bytes += len(entries)
        self._entries.clear()

    def finish(self) -> None:
        """Sync everything and give the files back: the day is over, or the relay stops."""
        self.sync()
        if self._handles is not None:
            os.fdatasync(self._handles[1])
        self.abandon()

    def abandon(self) -> None:
        """Give the files back; what was not synced is gone."""
        for handle in self._handles or ():
            os.close(handle)
        self._handles = None

    def _recover(self, records: int, index_file: int) -> Recovered:
        size = os.fstat(records).st_size
        index_bytes = os.fstat(index_file).st_size
        entries = [entry for entry in intact(os.pread(index_file, index_bytes, 0)) if entry.end <= size]
        end = entries[-1].end if entries else 0
        if end == size and len(entries) * ENTRY_BYTES == index_bytes:
            return Recovered()
        found = list(index(self.path, end))
        end = found[-1].end if found else end
        _write(index_file, b"".join(entry.pack() for entry in found), len(entries) * ENTRY_BYTES)
        os.ftruncate(index_file, (len(entries) + len(found)) * ENTRY_BYTES)
        os.fdatasync(index_file)
        if end < size:
            self._move_torn_tail(records, end, size)
        return Recovered(size - end, len(found))

    def _move_torn_tail(self, records: int, end: int, size: int) -> None:
        # A torn tail was never acknowledged, but a damaged last record looks the same: nothing is thrown away.
        self.path.with_suffix(f".torn-{end}").write_bytes(os.pread(records, size - end, end))
        os.ftruncate(records, end)
        os.fdatasync(records)


def index(path: Path, offset: int = 0) -> Iterator[Entry]:
    """An entry for every well-formed record of a day file from `offset` on; damage is passed over."""
    with path.open("rb") as file:
        for piece in split(file, offset):
            if piece.data is None:
                continue
            try:
                frame = parse(piece.data)
            except Garbage:
                continue
            yield Entry(frame.epoch, frame.seq, piece.offset, piece.length, hashlib.sha256(piece.data).digest())


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(handle: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written
