"""A disk in memory without guarantees for unsynced data.

Before a sync returns, a power cut may lose, tear, zero or reorder writes, and lose names: `crashed` returns the disk
after the power cut. `fail` makes operations fail.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from random import Random

SECTOR_BYTES = 32


class Crash(Enum):
    """The effect of a crash on unsynced data."""

    LOST = "lost"
    KEPT = "kept"
    TORN = "torn"
    ZEROED = "zeroed"
    REORDERED = "reordered"
    NAMES_LOST = "names lost"
    KILLED = "killed"  # Only the process died: all data is intact, and still unsynced.


@dataclass(slots=True)
class Write:
    """Bytes written at an offset."""

    offset: int
    data: bytes


@dataclass(slots=True)
class Resize:
    """A size that was set; what is added reads as zeros."""

    size_bytes: int


@dataclass(slots=True, eq=False)
class Inode:
    """A file: what a power cut cannot take, what a reader sees, and the changes between them."""

    synced: bytes = b""
    seen: bytearray = field(default_factory=bytearray)
    unsynced: list[Write | Resize] = field(default_factory=list)
    modified_ns: int = 0
    links: int = 1


@dataclass(slots=True)
class NameChange:
    """A name that was made (old is None), moved, or removed (new is None)."""

    old: str | None
    new: str | None
    inode: Inode


class SimulatedFile:
    """An open file of a `SimulatedDisk`."""

    def __init__(self, disk: SimulatedDisk, name: str, inode: Inode, *, writable: bool) -> None:
        self._disk, self._name, self._inode, self._writable = disk, name, inode, writable

    def write_at(self, offset: int, data: bytes) -> None:
        """See `File.write_at`."""
        self._check("write")
        self._disk.reserve(max(0, offset + len(data) - len(self._inode.seen)))
        apply(self._inode.seen, Write(offset, data))
        self._inode.unsynced.append(Write(offset, data))
        self._inode.modified_ns = self._disk.utc_ns

    def read_at(self, offset: int, length: int) -> bytes:
        """See `File.read_at`."""
        self._disk.before("read", self._name)
        return bytes(self._inode.seen[offset : offset + length])

    def allocate(self, size_bytes: int) -> None:
        """See `File.allocate`."""
        self._check("allocate")
        if size_bytes > len(self._inode.seen):
            self._disk.reserve(size_bytes - len(self._inode.seen))
            self._resize(size_bytes)

    def truncate(self, size_bytes: int) -> None:
        """See `File.truncate`."""
        self._check("truncate")
        self._resize(size_bytes)

    def fdatasync(self) -> None:
        """See `File.fdatasync`; after an error the writes are lost although they can still be read, as on Linux."""
        try:
            self._disk.before("fdatasync", self._name)
        except OSError:
            self._inode.unsynced.clear()
            raise
        self._inode.synced = synced_content(self._inode)
        self._inode.unsynced.clear()

    def size(self) -> int:
        """See `File.size`."""
        return len(self._inode.seen)

    def modified_ns(self) -> int:
        """See `File.modified_ns`."""
        return self._inode.modified_ns

    def is_linked(self) -> bool:
        """See `File.is_linked`."""
        return self._inode.links > 0

    def close(self) -> None:
        """See `File.close`."""

    def _check(self, kind: str) -> None:
        if not self._writable:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._disk.before(kind, self._name)

    def _resize(self, size_bytes: int) -> None:
        apply(self._inode.seen, Resize(size_bytes))
        self._inode.unsynced.append(Resize(size_bytes))


class SimulatedDisk:
    """One directory; see `Disk`."""

    def __init__(self, capacity_bytes: int = 1 << 40) -> None:
        self.capacity_bytes = capacity_bytes
        self.utc_ns = 0
        self.boots = 0
        self.watch: Callable[[str, str], None] = lambda _kind, _name: None
        """Callback before each operation, with its kind and file name; a test can raise a crash in it."""
        self._names: dict[str, Inode] = {}
        self._synced_names: dict[str, Inode] = {}
        self._unsynced_names: list[NameChange] = []
        self._faults: list[tuple[str, str, int, int]] = []

    def create(self, name: str) -> SimulatedFile:
        """See `Disk.create`."""
        self.before("create", name)
        if name in self._names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        inode = Inode(modified_ns=self.utc_ns)
        self._change(NameChange(None, name, inode))
        return SimulatedFile(self, name, inode, writable=True)

    def open(self, name: str, *, writable: bool = False) -> SimulatedFile:
        """See `Disk.open`."""
        self.before("open for writing" if writable else "open", name)
        return SimulatedFile(self, name, self._inode(name), writable=writable)

    def rename(self, old: str, new: str) -> None:
        """See `Disk.rename`."""
        self.before("rename", old)
        self._change(NameChange(old, new, self._inode(old)))

    def unlink(self, name: str) -> None:
        """See `Disk.unlink`."""
        self.before("unlink", name)
        self._change(NameChange(name, None, self._inode(name)))

    def sync_dir(self) -> None:
        """See `Disk.sync_dir`."""
        self.before("sync_dir", "")
        self._synced_names = dict(self._names)
        self._unsynced_names.clear()

    def list(self) -> list[str]:
        """See `Disk.list`."""
        self.before("list", "")
        return list(self._names)

    def free_bytes(self) -> int:
        """See `Disk.free_bytes`."""
        return self.capacity_bytes - sum(len(inode.seen) for inode in self._names.values())

    def boot_id(self) -> bytes:
        """See `Disk.boot_id`."""
        return self.boots.to_bytes(16, "big")

    # Faults

    def fail(self, kind: str, error: int, *, name: str = "", times: int = 1 << 30) -> None:
        """Make operations of this kind ("" is any) on names that contain `name` fail with an errno, `times` times."""
        self._faults.append((kind, name, error, times))

    def heal(self) -> None:
        """Remove all faults."""
        self._faults.clear()

    def remove_all(self) -> None:
        """Unlink all files, as `rm -r` of the directory does while they are open."""
        for name in list(self._names):
            self._change(NameChange(name, None, self._names[name]))

    def overwrite(self, name: str, offset: int, data: bytes) -> None:
        """Damage a file, as if the damage was synced."""
        inode = self._inode(name)
        apply(inode.seen, Write(offset, data))
        synced = bytearray(inode.synced)
        apply(synced, Write(offset, data))
        inode.synced = bytes(synced)

    def crashed(self, crash: Crash, random: Random) -> SimulatedDisk:
        """A copy of the disk after a crash."""
        copy = SimulatedDisk(self.capacity_bytes)
        copy.utc_ns = self.utc_ns
        copy.boots = self.boots + (crash is not Crash.KILLED)
        if crash is Crash.KILLED:
            return self._killed(copy)
        for name, inode in names_after(self._synced_names, self._unsynced_names, crash, random).items():
            after = content_after(inode, crash, random)
            copy._names[name] = Inode(after, bytearray(after), modified_ns=inode.modified_ns)
        copy._synced_names = dict(copy._names)
        return copy

    def _killed(self, copy: SimulatedDisk) -> SimulatedDisk:
        copies = {
            id(inode): Inode(inode.synced, bytearray(inode.seen), list(inode.unsynced), inode.modified_ns, inode.links)
            for inode in [*self._names.values(), *self._synced_names.values()]
            + [change.inode for change in self._unsynced_names]
        }
        copy._names = {name: copies[id(inode)] for name, inode in self._names.items()}
        copy._synced_names = {name: copies[id(inode)] for name, inode in self._synced_names.items()}
        copy._unsynced_names = [
            NameChange(change.old, change.new, copies[id(change.inode)]) for change in self._unsynced_names
        ]
        return copy

    # For the files

    def before(self, kind: str, name: str) -> None:
        """Call the watcher, then raise the fault for this operation, if any."""
        self.watch(kind, name)
        for at, (fault_kind, fault_name, error, times) in enumerate(self._faults):
            if fault_kind in ("", kind) and fault_name in name:
                self._faults[at : at + 1] = [(fault_kind, fault_name, error, times - 1)] if times > 1 else []
                raise OSError(error, os.strerror(error), name)

    def reserve(self, more_bytes: int) -> None:
        """Raise ENOSPC if there is no space for these bytes."""
        if more_bytes and more_bytes > self.free_bytes():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _inode(self, name: str) -> Inode:
        if name not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return self._names[name]

    def _change(self, change: NameChange) -> None:
        replaced = self._names.get(change.new) if change.new is not None else None
        if replaced is not None:
            replaced.links = 0
        if change.new is None:
            change.inode.links = 0
        change_name(self._names, change)
        self._unsynced_names.append(change)


def change_name(names: dict[str, Inode], change: NameChange) -> None:
    """Do a change of a name."""
    if change.old is not None and names.get(change.old) is change.inode:
        del names[change.old]
    if change.new is not None:
        names[change.new] = change.inode


def names_after(
    synced: Mapping[str, Inode], unsynced: Sequence[NameChange], crash: Crash, random: Random
) -> dict[str, Inode]:
    """The names in a directory after a power cut."""
    names = dict(synced)
    for change in unsynced:
        if crash is Crash.KEPT or (crash not in (Crash.LOST, Crash.NAMES_LOST) and random.random() < 0.5):
            change_name(names, change)
    return names


def apply(content: bytearray, change: Write | Resize) -> None:
    """Do a change of a content."""
    if isinstance(change, Write):
        end = change.offset + len(change.data)
        if end > len(content):
            content.extend(bytes(end - len(content)))
        content[change.offset : end] = change.data
    elif change.size_bytes < len(content):
        del content[change.size_bytes :]
    else:
        content.extend(bytes(change.size_bytes - len(content)))


def synced_content(inode: Inode) -> bytes:
    """The content once all changes are synced."""
    content = bytearray(inode.synced)
    for change in inode.unsynced:
        apply(content, change)
    return bytes(content)


def content_after(inode: Inode, crash: Crash, random: Random) -> bytes:
    """The content of a file after a power cut."""
    if crash is Crash.NAMES_LOST:
        return bytes(inode.seen)
    if crash is Crash.LOST or not inode.unsynced:
        return inode.synced
    content = bytearray(inode.synced)
    for at, change in enumerate(inode.unsynced):
        if isinstance(change, Resize) or crash is Crash.KEPT:
            apply(content, change)
        elif crash is Crash.TORN:
            is_last = at == len(inode.unsynced) - 1
            apply(content, Write(change.offset, change.data[: random.randrange(len(change.data))])
                   if is_last else change)  # fmt: skip
        elif crash is Crash.ZEROED:
            apply(content, Write(change.offset, bytes(len(change.data))) if random.random() < 0.5 else change)
        else:
            for start in range(0, len(change.data), SECTOR_BYTES):
                if random.random() < 0.5:
                    apply(content, Write(change.offset + start, change.data[start : start + SECTOR_BYTES]))
    return bytes(content)
