"""The operations of a file system that the buffer uses, and the lock on its directory.

`PosixDisk` is the real disk; `edge.testing.disk` has one that loses, tears and reorders what was not synced. Both pass
the same tests. Errors of the disk are raised as OSError.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

from edge.errors import ConfigError
from edge.files import make_directory, sync_directory

CURSOR = "cursor"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class File(Protocol):
    """An open file."""

    def write_at(self, offset: int, data: bytes) -> None:
        """Write all of `data`; it may be lost, torn or reordered until `fdatasync` returned."""
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer only at the end of the file."""
        ...

    def allocate(self, size_bytes: int) -> None:
        """Reserve space and extend the file to this size; new bytes read as zeros."""
        ...

    def truncate(self, size_bytes: int) -> None:
        """Set the size of the file."""
        ...

    def fdatasync(self) -> None:
        """Return once the data and the size survive a power cut."""
        ...

    def size(self) -> int:
        """Length in bytes."""
        ...

    def modified_ns(self) -> int:
        """UTC of the last write."""
        ...

    def is_linked(self) -> bool:
        """Whether the file still has a name; what is written to a file without one is lost when it is closed."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class Disk(Protocol):
    """One directory of files, without subdirectories."""

    def create(self, name: str) -> File:
        """Create an empty file, and the directory if it was removed; FileExistsError if the file exists."""
        ...

    def open(self, name: str, *, writable: bool = False) -> File:
        """An existing file."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Rename, replacing any file `new`; survives a power cut only after `sync_dir`."""
        ...

    def unlink(self, name: str) -> None:
        """Remove; survives a power cut only after `sync_dir`."""
        ...

    def sync_dir(self) -> None:
        """Return once all created, renamed and removed names survive a power cut."""
        ...

    def list(self) -> list[str]:
        """All names."""
        ...

    def free_bytes(self) -> int:
        """Free space for this process."""
        ...

    def boot_id(self) -> bytes:
        """Sixteen bytes that change whenever unsynced data may have been lost."""
        ...


class PosixFile:
    """A file descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write_at(self, offset: int, data: bytes) -> None:
        """See `File.write_at`."""
        written = os.pwrite(self._fd, data, offset)
        while written < len(data):  # A short write is legal; the next write reports the reason.
            more = os.pwrite(self._fd, memoryview(data)[written:], offset + written)
            if more == 0:
                raise OSError(errno.EIO, "the disk takes no more bytes")
            written += more

    def read_at(self, offset: int, length: int) -> bytes:
        """See `File.read_at`."""
        return os.pread(self._fd, length, offset)

    def allocate(self, size_bytes: int) -> None:
        """See `File.allocate`."""
        os.posix_fallocate(self._fd, 0, size_bytes)

    def truncate(self, size_bytes: int) -> None:
        """See `File.truncate`."""
        os.ftruncate(self._fd, size_bytes)

    def fdatasync(self) -> None:
        """See `File.fdatasync`."""
        os.fdatasync(self._fd)

    def size(self) -> int:
        """See `File.size`."""
        return os.fstat(self._fd).st_size

    def modified_ns(self) -> int:
        """See `File.modified_ns`."""
        return os.fstat(self._fd).st_mtime_ns

    def is_linked(self) -> bool:
        """See `File.is_linked`."""
        return os.fstat(self._fd).st_nlink > 0

    def close(self) -> None:
        """See `File.close`."""
        os.close(self._fd)


class PosixDisk:
    """A directory. It is opened by path each time, so that one that was removed and created again is found."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def create(self, name: str) -> PosixFile:
        """See `Disk.create`."""
        access = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        # The umask permitting, the role forward and a gateway in one process continue each other's cursor.
        mode = 0o660 if name == CURSOR else 0o640
        try:
            return PosixFile(os.open(self.directory / name, access, mode))
        except FileNotFoundError:
            _make_directory(self.directory)
            return PosixFile(os.open(self.directory / name, access, mode))

    def open(self, name: str, *, writable: bool = False) -> PosixFile:
        """See `Disk.open`."""
        access = os.O_RDWR if writable else os.O_RDONLY
        return PosixFile(os.open(self.directory / name, access | os.O_CLOEXEC))

    def rename(self, old: str, new: str) -> None:
        """See `Disk.rename`."""
        (self.directory / old).rename(self.directory / new)

    def unlink(self, name: str) -> None:
        """See `Disk.unlink`."""
        (self.directory / name).unlink()

    def sync_dir(self) -> None:
        """See `Disk.sync_dir`."""
        sync_directory(self.directory)

    def list(self) -> list[str]:
        """See `Disk.list`."""
        return [path.name for path in self.directory.iterdir()]

    def free_bytes(self) -> int:
        """See `Disk.free_bytes`."""
        space = os.statvfs(self.directory)
        return space.f_bavail * space.f_frsize

    def boot_id(self) -> bytes:
        """See `Disk.boot_id`."""
        return bytes.fromhex(_BOOT_ID.read_text(encoding="ascii").strip().replace("-", ""))


def _make_directory(directory: Path) -> None:
    # The two roles may be two users of one group, who may not remove each other's files: the sticky bit.
    make_directory(directory, 0o1770)


def _open_lock(path: Path, mode: int) -> int:
    # It may be of the other user: in a sticky directory Linux refuses O_CREAT then (fs.protected_regular).
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)


Role = Literal["acquire", "forward"]


class DirectoryLock:
    """Holds one role on a buffer directory until it is released or the process ends: one writer, one sender."""

    def __init__(self, directory: Path, role: Role) -> None:
        """Take the role.

        Raises:
            ConfigError: another process holds it, or the directory cannot be used.
        """
        self._fd: int | None = None
        try:
            _make_directory(directory)
            self._fd = _open_lock(directory / f"{role}.lock", 0o660 if role == "forward" else 0o640)
        except OSError as error:
            if error.errno == errno.EROFS:  # No other process can write here either.
                return
            reason = f"the buffer {directory} cannot be used: {error.strerror}; see to its owner and mode"
            raise ConfigError(reason) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            self.release()
            raise ConfigError(
                f"the buffer {directory} is in use by another gateway (role {role}, process {holder}); "
                "stop that one, or give this one a directory of its own"
            ) from error
        with contextlib.suppress(OSError):  # The process id is for operators; a full disk may refuse it.
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Release the role."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> DirectoryLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
