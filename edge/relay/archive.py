"""The archive: the exact bytes of every record, per gateway and day, durable before they are acknowledged.

A day file is a CBOR sequence (RFC 8742) of records that only grows. Beside it lies an index of 64 bytes a record, which
finds a place of a chain without reading the records, and is made again from them when in doubt.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import struct
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge.errors import ArchiveRemoved, ConfigError
from edge.files import make_directory, sync_directory
from edge.references import GATEWAY_NAME
from edge.relay.changes import Changes
from edge.relay.record_stream import Piece, split
from edge.seal import Garbage, parse

ENTRY_BYTES = 64

_DAY_NS = 86_400 * 10**9

_OWN_NAMES = frozenset({
    "aside", "hold", "quarantine.cbor", "quarantine.older", "relay.snapshot", "relay.snapshot.new", "status.sock",
    "waiting.cbor", "waiting.cbor.new",
})  # fmt: skip

_BODY = struct.Struct("<8sQQI32s")
INDEX = np.dtype([
    ("epoch", "<u8"), ("seq", "<u8"), ("offset", "<u8"), ("length", "<u4"), ("hash", "V32"), ("crc", "<u4"),
])  # fmt: skip
_CRC = struct.Struct("<I")


class RecordLocation(NamedTuple):
    """Where a record lies in the archive."""

    gateway: str
    day: str
    offset: int
    length: int


class Archive:
    """Append-only day files under one directory, written by one relay.

    Raises:
        ConfigError: the directory cannot be used, or another relay writes to it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = _lock(directory)
        self._open: dict[str, DayFile] = {}
        self._finished_days: list[DayFile] = []  # Until the next sync.
        self.changes = Changes(directory)
        self.recovered: dict[Path, Recovered] = {}
        try:
            for gateway in gateways(directory):
                self._continue(gateway)
        except OSError as error:
            os.close(self._lock)
            raise ConfigError(f"archive {error.filename or directory} cannot be used: {error.strerror}") from error

    def append(
        self, gateway: str, epoch: bytes, seq: int, digest: bytes, data: bytes, *, arrived_ns: int
    ) -> RecordLocation:
        """Hold a record for the next sync, in the file of the day it arrived."""
        day = _day(arrived_ns // _DAY_NS)
        offset = self._file(gateway, day).append(epoch, seq, digest, data)
        return RecordLocation(gateway, day, offset, len(data))

    def sync(self) -> None:
        """Make everything appended durable; after an OSError it may be repeated.

        Raises:
            ArchiveRemoved: a file was removed while it was written; what is written to it is lost when it is closed.
        """
        while self._finished_days:
            self._finished_days[0].finish()
            del self._finished_days[0]
        for file in self._open.values():
            file.sync()
        self.changes.sync()
        if not os.fstat(self._lock).st_nlink or not all(file.is_linked() for file in self._open.values()):
            raise ArchiveRemoved(
                f"archive {self.directory} was removed while the relay wrote to it: it must start anew, and what the "
                "broker has no more comes back with tidegate resend on the gateway"
            )

    def read(self, location: RecordLocation) -> bytes:
        """The bytes of a durable record."""
        with (self.directory / location.gateway / f"{location.day}.rec").open("rb") as file:
            return os.pread(file.fileno(), location.length, location.offset)

    def hash_of(self, gateway: str, epoch: bytes, seq: int) -> bytes | None:
        """The SHA-256 of the only record at this place of a gateway's chain; None where there are none or several."""
        # A record that waits for the next sync may come again before it.
        waiting = [*self._finished_days, *filter(None, [self._open.get(gateway)])]
        found = {
            each for file in waiting if file.path.parent.name == gateway for each in file.waiting_hashes(epoch, seq)
        }  # fmt: skip
        for path in days(self.directory / gateway):
            found |= find_hashes(path.with_suffix(".idx"), epoch, seq)
        return found.pop() if len(found) == 1 else None

    def ends(self) -> dict[str, tuple[str, int]]:
        """For each gateway its newest day and the end of that file: where reading would continue."""
        return {gateway: (file.path.stem, file.end) for gateway, file in self._open.items()}

    def durable_ends(self) -> dict[str, tuple[str, int]]:
        """The same of what is durable."""
        files = {file.path.parent.name: file for file in [*self._open.values(), *reversed(self._finished_days)]}
        return {gateway: (file.path.stem, file.durable_bytes) for gateway, file in files.items()}

    def since(self, gateway: str, day: str = "", offset: int = 0) -> Iterator[tuple[RecordLocation, bytes]]:
        """The records of a gateway from an offset in a day on, in the order in which they arrived."""
        for path in days(self.directory / gateway):
            if path.stem < day:
                continue
            for piece in pieces(path, offset if path.stem == day else 0):
                if piece.data is not None:
                    yield RecordLocation(gateway, path.stem, piece.offset, piece.length), piece.data

    def close(self) -> None:
        """Sync and close every file."""
        try:
            for file in [*self._finished_days, *self._open.values()]:
                file.finish()
        finally:
            os.close(self._lock)

    def _file(self, gateway: str, day: str) -> DayFile:
        file = self._open.get(gateway)
        # A clock that goes back does not reopen a day: arrival order is the order in the files.
        if file is not None and file.day >= day:
            return file
        if file is not None:
            self._finished_days.append(file)
        file = self._open[gateway] = DayFile(self.directory / gateway / f"{day}.rec")
        return file

    def _continue(self, gateway: str) -> None:
        """Continue the newest day file of a gateway."""
        path = days(self.directory / gateway)[-1]
        file = self._open[gateway] = DayFile(path)
        file.open()
        if file.recovered != Recovered():
            self.recovered[path] = file.recovered


@lru_cache(1024)  # Asked for every record.
def is_gateway_name(name: str) -> bool:
    """Whether a name can be that of a gateway's folder: a gateway's name, and not that of a file of the relay."""
    return re.fullmatch(GATEWAY_NAME, name) is not None and name not in _OWN_NAMES


@lru_cache(8)
def _day(number: int) -> str:
    """The day with this number since 1970, in UTC."""
    return datetime.fromtimestamp(number * 86_400, UTC).strftime("%Y-%m-%d")


def day_ns(day: str) -> int:
    """UTC at which a day begins; what is in its file arrived since."""
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 10**9


def gateways(directory: Path) -> list[str]:
    """Names of the gateways in an archive."""
    return sorted(path.name for path in directory.iterdir() if path.is_dir() and days(path))


def days(folder: Path) -> list[Path]:
    """The day files of one gateway, oldest first."""
    return sorted(folder.glob("????-??-??.rec"))


def pieces(path: Path, offset: int = 0) -> Iterator[Piece]:
    """The records of one file, and the stretches between them that are not records; it is streamed."""
    with path.open("rb") as file:
        yield from split(file, offset)


class FileRecord(NamedTuple):
    """Bytes of a file: one record, or None for a stretch that is not one."""

    file: Path
    offset: int
    length: int
    data: bytes | None


def record_files(path: Path, gateway: str | None = None) -> list[Path]:
    """The record files behind a path: itself, those of one gateway, or those of a whole archive, oldest first."""
    if path.is_file():
        return [path]
    if own := days(path):
        return own
    names = gateways(path)
    return [file for name in names if gateway in (None, name) for file in days(path / name)]


def records_of(file: Path) -> Iterator[FileRecord]:
    """The content of a record file, in order; it is streamed."""
    for piece in pieces(file):
        yield FileRecord(file, piece.offset, piece.length, piece.data)


def _lock(directory: Path) -> int:
    try:
        make_directory(directory)
        handle = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise ConfigError(f"archive {directory} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise ConfigError(
            f"archive {directory} is in use by another relay; stop it, or give this one its own"
        ) from error
    return handle


class Recovered(NamedTuple):
    """What opening a day file repaired: bytes moved out of a torn tail, and records indexed again."""

    torn_bytes: int = 0
    indexed: int = 0


class DayFile:
    """One day of one gateway. Appends are held until `sync`, which may be repeated after an OSError.

    The disk is not used before `open` or the first `sync`: a day file that cannot be created must not lose records that
    the verifier already knows.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.day = path, path.stem
        self.recovered = Recovered()
        self.end = 0
        self._handles: tuple[int, int] | None = None
        self.durable_bytes = self._index_bytes = 0
        self._pending: list[bytes] = []
        self._entries: list[IndexEntry] = []

    def open(self) -> None:
        """Continue what is there. Raises OSError."""
        folder = self.path.parent
        if not days(folder):  # The first day file is made only once the name of its folder is durable.
            make_directory(folder)
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
        if self._pending and os.fstat(records).st_size:
            raise FileExistsError(errno.EEXIST, "somebody else writes to it", str(self.path))
        self.recovered = self._recover(records, index_file)
        self.durable_bytes = os.fstat(records).st_size
        self._index_bytes = os.fstat(index_file).st_size
        self.end = max(self.end, self.durable_bytes)

    def append(self, epoch: bytes, seq: int, digest: bytes, data: bytes) -> int:
        """Hold a record for the next sync; returns the offset it will have."""
        offset = self.end
        self._pending.append(data)
        self._entries.append(IndexEntry(epoch, seq, offset, len(data), digest))
        self.end += len(data)
        return offset

    def waiting_hashes(self, epoch: bytes, seq: int) -> Iterator[bytes]:
        """The hashes of records at a place of a chain that are not in the index yet."""
        return (entry.hash for entry in self._entries if entry.seq == seq and entry.epoch == epoch)

    def sync(self) -> None:
        """Make everything appended durable, with one write and one sync.

        Raises:
            OSError: everything is still held, and the call may be repeated.
        """
        if not self._pending:
            return
        if self._handles is None:
            self.open()
        assert self._handles is not None
        records, index_file = self._handles
        _write(records, b"".join(self._pending), self.durable_bytes)
        os.fdatasync(records)
        self.durable_bytes = self.end
        self._pending.clear()
        # The index needs no sync of its own while it grows: missing entries are made again from the records.
        entries = b"".join(entry.pack() for entry in self._entries)
        _write(index_file, entries, self._index_bytes)
        self._index_bytes += len(entries)
        self._entries.clear()

    def is_linked(self) -> bool:
        """Whether the files still have names, where they are open."""
        return all(os.fstat(handle).st_nlink for handle in self._handles or ())

    def finish(self) -> None:
        """Sync and close: the day is over, or the relay stops."""
        self.sync()
        if self._handles is not None:
            os.fdatasync(self._handles[1])
        self.abandon()

    def abandon(self) -> None:
        """Close without a sync; what was not synced is gone."""
        for handle in self._handles or ():
            os.close(handle)
        self._handles = None

    def _recover(self, records: int, index_file: int) -> Recovered:
        size = os.fstat(records).st_size
        index_bytes = os.fstat(index_file).st_size
        entries = [entry for entry in intact_entries(os.pread(index_file, index_bytes, 0)) if entry.end <= size]
        end = entries[-1].end if entries else 0
        if end == size and len(entries) * ENTRY_BYTES == index_bytes:
            return Recovered()
        found = list(make_index(self.path, end))
        if found:  # A killed process leaves records that no disk has, or whose sync failed: they are written again.
            _write(records, os.pread(records, size - end, end), end)
            os.fdatasync(records)
            end = found[-1].end
        _write(index_file, b"".join(entry.pack() for entry in found), len(entries) * ENTRY_BYTES)
        os.ftruncate(index_file, (len(entries) + len(found)) * ENTRY_BYTES)
        os.fdatasync(index_file)
        if end < size:
            self._move_torn_tail(records, end, size)
        return Recovered(size - end, len(found))

    def _move_torn_tail(self, records: int, end: int, size: int) -> None:
        # A torn tail was never acknowledged, but a damaged last record looks the same: its bytes are kept.
        self.path.with_suffix(f".torn-{end}").write_bytes(os.pread(records, size - end, end))
        os.ftruncate(records, end)
        os.fdatasync(records)


def make_index(path: Path, offset: int = 0) -> Iterator[IndexEntry]:
    """An entry for every well-formed record of a day file from `offset` on; damage is skipped."""
    with path.open("rb") as file:
        for piece in split(file, offset):
            if piece.data is None:
                continue
            try:
                frame = parse(piece.data)
            except Garbage:
                continue
            yield IndexEntry(frame.epoch, frame.seq, piece.offset, piece.length, hashlib.sha256(piece.data).digest())


def _write(handle: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written


class IndexEntry(NamedTuple):
    """Where a record lies in the day file, and its SHA-256."""

    epoch: bytes
    seq: int
    offset: int
    length: int
    hash: bytes

    @property
    def end(self) -> int:
        """Offset of the first byte behind the record."""
        return self.offset + self.length

    def pack(self) -> bytes:
        """The entry as it is stored, little endian, with its CRC-32."""
        body = _BODY.pack(*self)
        return body + _CRC.pack(zlib.crc32(body))


def _unpack(data: bytes) -> IndexEntry | None:
    """The entry in these 64 bytes; None when they are damaged."""
    body = data[: _BODY.size]
    if len(data) != ENTRY_BYTES or _CRC.unpack_from(data, _BODY.size)[0] != zlib.crc32(body):
        return None
    return IndexEntry(*_BODY.unpack(body))


def intact_entries(data: bytes) -> list[IndexEntry]:
    """The entries up to the first that is damaged or does not follow on the one before."""
    entries: list[IndexEntry] = []
    end = 0
    for at in range(0, len(data), ENTRY_BYTES):
        entry = _unpack(data[at : at + ENTRY_BYTES])
        if entry is None or entry.offset < end:
            break
        entries.append(entry)
        end = entry.end
    return entries


def find_hashes(path: Path, epoch: bytes, seq: int) -> set[bytes]:
    """The hashes that an index has for one place of a chain."""
    count = path.stat().st_size // ENTRY_BYTES if path.exists() else 0
    if not count:
        return set()
    entries = np.memmap(path, INDEX, "r", shape=(count,))
    at = np.flatnonzero((entries["seq"] == seq) & (entries["epoch"] == int.from_bytes(epoch, "little")))
    found = [_unpack(entries[row].tobytes()) for row in at.tolist()]
    return {entry.hash for entry in found if entry}
