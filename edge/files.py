"""Files that are replaced whole, names that are made durable, who owns them, and what tells them from a copy."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_AT_EMPTY_PATH, _STATX_BTIME = 0x1000, 0x800
_STATX_BYTES, _BTIME_AT = 256, 80
_SERIAL_NUMBERS = ("dm/uuid", "wwid", "serial", "device/wwid", "device/serial", "device/cid")


def replace_file(path: Path, data: bytes | Callable[[int], bytes], mode: int) -> None:
    """Make a file durable whole: after a crash there is the old one or the new one. Raises OSError.

    `data` may depend on the file that it goes into: it is then asked with its handle.
    """
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data if isinstance(data, bytes) else data(handle))
            file.flush()
            os.fsync(handle)
        draft.rename(path)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def replace_like(path: Path, data: bytes, like: Path) -> None:
    """The same with mode and owner of another file or directory; a symbolic link stays one. Raises OSError."""
    path = path.resolve()
    about = like.stat()
    replace_file(path, data, about.st_mode & (0o777 if like.is_file() else 0o666))
    with suppress(PermissionError):
        os.chown(path, about.st_uid, about.st_gid)


def make_directory(path: Path, mode: int = 0o777) -> None:
    """Make a directory and those it is in, so that a power cut takes none with what was synced in it. Raises OSError.

    Syncing a file does not make the name of its directory durable, and one that was killed may have made that only.
    """
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(mode=mode, exist_ok=True)
    with suppress(PermissionError):  # Where one may make directories and not list them.
        sync_directory(path.parent)


def exchange(one: Path, other: Path) -> None:
    """Let two names on one file system change places, at once for whoever opens them. Raises OSError."""
    if _LIBC.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(other))


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Name the file in errors of reading it, which have no name where it could be opened."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def file_identity(handle: int) -> list[int]:
    """What an open file keeps for as long as it exists, and no copy of it has: its inode and when that was made.

    The second is 0 where the file system does not say.
    """
    answer = ctypes.create_string_buffer(_STATX_BYTES)
    if _LIBC.statx(handle, b"", _AT_EMPTY_PATH, _STATX_BTIME, answer):
        return [os.fstat(handle).st_ino, 0]
    [mask], (born_s, born_ns) = struct.unpack_from("=I", answer), struct.unpack_from("=qI", answer, _BTIME_AT)
    return [os.fstat(handle).st_ino, born_s * 10**9 + born_ns if mask & _STATX_BTIME else 0]


def disk_numbers(path: Path) -> list[str]:
    """The serial numbers of the disks that a path is on, with those of the volumes between; those that say one."""
    device = path.stat().st_dev
    block = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    return list(_numbers_of(block.parent if (block / "partition").exists() else block))


def _numbers_of(block: Path) -> Iterator[str]:
    for name in _SERIAL_NUMBERS:
        with suppress(OSError):
            if text := " ".join((block / name).read_text("ascii", "replace").split()):
                yield text
    for slave in sorted(block.glob("slaves/*")):
        disk = slave.resolve()
        yield from _numbers_of(disk.parent if (disk / "partition").exists() else disk)


def network_addresses() -> list[str]:
    """The addresses that the network adapters of this machine were made with."""
    found = []
    for adapter in sorted(Path("/sys/class/net").glob("*/device")):
        with suppress(OSError):
            if (adapter.parent / "addr_assign_type").read_text().strip() == "0":
                found.append((adapter.parent / "address").read_text().strip())
    return found
