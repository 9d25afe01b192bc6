"""The archive: the exact bytes of every record, per gateway and day, kept before they are acknowledged."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from edge.errors import ConfigError
from edge.relay.day_file import DayFile, Recovered
from edge.relay.index import find
from edge.relay.sequence import Piece, split


class Place(NamedTuple):
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
        self._over: list[DayFile] = []  # Of days that have passed, until the next sync.
        self.recovered: dict[Path, Recovered] = {}
        try:
            for gateway in gateways(directory):
                self._continue(gateway)
        except OSError as error:
            os.close(self._lock)
            raise ConfigError(f"archive {error.filename or directory} cannot be used: {error.strerror}") from error

    def append(self, gateway: str, epoch: bytes, seq: int, digest: bytes, data: bytes, *, arrived_ns: int) -> Place:
        """Hold a record for the next sync, in the file of the day it arrived."""
        day = datetime.fromtimestamp(arrived_ns // 10**9, UTC).strftime("%Y-%m-%d")
        offset = self._file(gateway, day).append(epoch, seq, digest, data)
        return Place(gateway, day, offset, len(data))

    def sync(self) -> None:
        """Make everything appended durable; after an OSError it may be repeated."""
        while self._over:
            self._over[0].finish()
            del self._over[0]
        for file in self._open.values():
            file.sync()

    def read(self, place: Place) -> bytes:
        """The bytes of a durable record."""
        with (self.directory / place.gateway / f"{place.day}.rec").open("rb") as file:
            return os.pread(file.fileno(), place.length, place.offset)

    def hash_of(self, epoch: bytes, seq: int) -> bytes | None:
        """The SHA-256 of the only record at this place of a chain; None where there is none, or more than one."""
        found: set[bytes] = set()
        for gateway in self._open:
            for path in days(self.directory / gateway):
                found |= find(path.with_suffix(".idx"), epoch, seq)
        return found.pop() if len(found) == 1 else None

    def ends(self) -> dict[str, tuple[str, int]]:
        """For each gateway its newest day and where that file ends: where reading on would start."""
        return {gateway: (file.path.stem, file.end) for gateway, file in self._open.items()}

    def since(self, gateway: str, day: str = "", offset: int = 0) -> Iterator[tuple[Place, bytes]]:
        """The records of a gateway from there on, in the order in which they arrived."""
        for path in days(self.directory / gateway):
            if path.stem < day:
                continue
            for piece in pieces(path, offset if path.stem == day else 0):
                if piece.data is not None:
                    yield Place(gateway, path.stem, piece.offset, piece.length), piece.data

    def close(self) -> None:
        """Sync and give everything back."""
        try:
            for file in [*self._over, *self._open.values()]:
                file.finish()
        finally:
            os.close(self._lock)

    def _file(self, gateway: str, day: str) -> DayFile:
        file = self._open.get(gateway)
        # A clock that goes back does not reopen a day: arrival order is the order in the files.
        if file is not None and file.path.stem >= day:
            return file
        if file is not None:
            self._over.append(file)
        file = self._open[gateway] = DayFile(self.directory / gateway / f"{day}.rec")
        return file

    def _continue(self, gateway: str) -> None:
        """Go on with the newest day of a gateway."""
        path = days(self.directory / gateway)[-1]
        file = self._open[gateway] = DayFile(path)
        file.open()
        if file.recovered != Recovered():
            self.recovered[path] = file.recovered


def gateways(directory: Path) -> list[str]:
    """Names of the gateways in an archive."""
    return sorted(path.name for path in directory.iterdir() if path.is_dir() and days(path))


def days(folder: Path) -> list[Path]:
    """The day files of one gateway, oldest first."""
    return sorted(folder.glob("????-??-??.rec"))


def pieces(path: Path, offset: int = 0) -> Iterator[Piece]:
    """The records of one file, and what lies between them."""
    with path.open("rb") as file:
        yield from split(file, offset)


def _lock(directory: Path) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True)
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
