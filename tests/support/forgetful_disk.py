"""A mounted disk that forgets at a power cut what was not synced, and fails on order.

Theory of operation.

A FUSE file system in a process of its own holds every file twice: as readers see it, and as the last sync left it, with
the changes between. Names are held the same way: one that was made, moved or removed is durable once its directory was
synced, as POSIX has it, which is less than most file systems give. What a power cut makes of the changes is decided by
the code of the crash matrix (`edge.testing.disk`), so that both mean the same by lost, torn, zeroed and reordered.

A power cut has three steps. At an operation counted in advance, or at once, the processes of the machine are killed
and every operation is refused from then on, so that nothing a dying thread still asks for is seen. When they are
reaped, `come_back` turns all files into what survived. The mount stays, as the disk does: inode numbers and links are
those of before.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Listener
from pathlib import Path
from random import Random
from typing import Any

import mfusepy

from edge.testing.disk import (
    Crash,
    Inode,
    NameChange,
    Resize,
    Write,
    apply,
    change_name,
    content_after,
    names_after,
    synced_content,
)

BLOCK_BYTES = 4096
_CHANGES = ("create", "write", "allocate", "truncate", "sync", "rename", "unlink", "mkdir", "sync_dir")


@dataclass(slots=True, eq=False)
class _Node(Inode):
    """A file, a directory (`names` is not None) or a socket."""

    number: int = 0
    mode: int = 0
    names: dict[str, Inode] | None = None
    synced_names: dict[str, Inode] = field(default_factory=dict)
    unsynced_names: list[NameChange] = field(default_factory=list)


@dataclass(slots=True)
class _Fault:
    kinds: Sequence[str]
    error: int
    name: str


class _FileSystem(mfusepy.Operations):  # type: ignore[misc]
    """The callbacks of FUSE, one at a time, and what a test asks for."""

    use_ns = True
    flag_nopath = flag_nullpath_ok = True

    def __init__(self, capacity_bytes: int) -> None:
        self._lock = threading.Lock()
        self._capacity_bytes = self._whole_bytes = capacity_bytes
        self._refused = 0
        self._numbers = 1
        self._root = self._node(stat.S_IFDIR | 0o755)
        self._open: dict[int, _Node] = {}
        self._handles = 0
        self._faults: list[_Fault] = []
        self._is_off = False
        self._cut_in: int | None = None
        self._cut_name = ""
        self._ignored_syncs: str | None = None
        self._pids: Sequence[int] = ()
        self._log: list[tuple[str, str]] = []
        self.written_bytes = 0

    # What a test asks for

    def ask(self, question: str, *arguments: Any) -> Any:
        """Answer one of the methods of `ForgetfulDisk`."""
        with self._lock:
            return getattr(self, f"do_{question}")(*arguments)

    def do_arm(self, operations: int, pids: Sequence[int], name: str) -> None:
        self._cut_in, self._pids, self._cut_name = operations, pids, name

    def do_cut(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._cut()

    def do_is_off(self) -> bool:
        return self._is_off

    def do_ignore_syncs(self, name: str) -> None:
        self._ignored_syncs = name

    def do_durable(self) -> dict[str, bytes]:
        return dict(_durable(self._root, ""))

    def do_come_back(self, crash: Crash, seed: int) -> None:
        if crash is not Crash.KILLED:
            _survive(self._root, crash, Random(seed))
        self._is_off, self._cut_in = False, None
        self._open.clear()

    def do_fail(self, kinds: Sequence[str], error: int, name: str) -> None:
        self._faults.append(_Fault(kinds, error, name))

    def do_heal(self) -> None:
        self._faults.clear()
        self._capacity_bytes = self._whole_bytes

    def do_refused(self) -> int:
        found, self._refused = self._refused, 0
        return found

    def do_fill(self, free_bytes: int) -> None:
        self._capacity_bytes = _used(self._root) + free_bytes

    def do_operations(self) -> list[tuple[str, str]]:
        found, self._log = self._log, []
        return found

    def do_written_bytes(self) -> int:
        return self.written_bytes

    def _cut(self) -> None:
        for pid in self._pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._is_off, self._cut_in = True, None

    # Callbacks

    def init_with_config(self, conn_info: Any, config_3: Any) -> None:
        config_3.use_ino = config_3.hard_remove = config_3.direct_io = config_3.nullpath_ok = 1
        config_3.entry_timeout = config_3.attr_timeout = config_3.negative_timeout = 0.0
        print("mounted", flush=True)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        with self._asked():
            node = self._node_of(path, fh)
            return {
                "st_ino": node.number, "st_mode": node.mode, "st_nlink": node.links, "st_size": len(node.seen),
                "st_blocks": -(-len(node.seen) // 512), "st_uid": 0, "st_gid": 0, "st_mtime": node.modified_ns,
                "st_ctime": node.modified_ns, "st_atime": node.modified_ns,
            }  # fmt: skip

    def readdir(self, path: str, fh: int) -> list[tuple[str, dict[str, int], int]]:
        with self._asked():
            node = self._node_of(path, fh)
            held = {".": node, "..": node, **_names_of(node)}
            return [(name, {"st_ino": _as_node(each).number, "st_mode": _as_node(each).mode}, 0)
                    for name, each in held.items()]  # fmt: skip

    def opendir(self, path: str) -> int:
        with self._asked():
            return self._handle_of(self._find(path))

    def open(self, path: str, flags: int) -> int:
        with self._asked():
            if flags & os.O_ACCMODE != os.O_RDONLY:
                self._refuse("open for writing", path)
            return self._handle_of(self._find(path))

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        with self._asked():
            node = self._open[fh]
            self._refuse("read", path or "")
            return bytes(node.seen[offset : offset + size])

    def release(self, path: str, fh: int) -> int:
        with self._lock:
            self._open.pop(fh, None)
        return 0

    releasedir = release

    def statfs(self, path: str) -> dict[str, int]:
        with self._asked():
            free = max(0, self._capacity_bytes - _used(self._root)) // BLOCK_BYTES
            return {"f_bsize": BLOCK_BYTES, "f_frsize": BLOCK_BYTES, "f_blocks": self._capacity_bytes // BLOCK_BYTES,
                    "f_bfree": free, "f_bavail": free, "f_files": 1 << 20, "f_ffree": 1 << 20, "f_favail": 1 << 20,
                    "f_namemax": 255}  # fmt: skip

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        with self._changing("create", path):
            node = self._node(stat.S_IFREG | stat.S_IMODE(mode))
            self._change(path, NameChange(None, Path(path).name, node))
            return self._handle_of(node)

    def mknod(self, path: str, mode: int, dev: int) -> int:
        with self._changing("create", path):
            self._change(path, NameChange(None, Path(path).name, self._node(mode)))
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        with self._changing("mkdir", path):
            self._change(path, NameChange(None, Path(path).name, self._node(stat.S_IFDIR | stat.S_IMODE(mode))))
        return 0

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        with self._changing("write", self._path(path, fh)):
            node = self._open[fh]
            if any("short write" in fault.kinds for fault in self._faults):
                self._refused += 1
                data = data[: len(data) // 2]
                if not data:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._reserve(node, offset + len(data))
            self._change_content(node, Write(offset, bytes(data)))
            self.written_bytes += len(data)
            return len(data)

    def fallocate(self, path: str, mode: int, offset: int, size: int, fh: int) -> int:
        with self._changing("allocate", self._path(path, fh)):
            node = self._open[fh]
            if offset + size > len(node.seen):
                self._reserve(node, offset + size)
                self._change_content(node, Resize(offset + size))
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        with self._changing("truncate", self._path(path, fh)):
            node = self._node_of(path, fh)
            self._reserve(node, length)
            self._change_content(node, Resize(length))
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        node = self._open.get(fh)
        try:
            with self._changing("sync", self._path(path, fh)):
                node = self._open[fh]
                if self._ignored_syncs is not None and self._ignored_syncs in self._path(path, fh):
                    return 0
                node.synced = synced_content(node)
                node.unsynced.clear()
        except OSError:  # The writes are lost although they can still be read, as on Linux.
            if node is not None and not self._is_off:
                node.unsynced.clear()
            raise
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        with self._changing("sync_dir", self._path(path, fh)):
            node = self._open[fh]
            node.synced_names = dict(_names_of(node))
            node.unsynced_names.clear()
        return 0

    def rename(self, old: str, new: str) -> int:
        with self._changing("rename", f"{old} {new}"):
            if Path(old).parent != Path(new).parent:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            self._change(old, NameChange(Path(old).name, Path(new).name, self._find(old)))
        return 0

    def unlink(self, path: str) -> int:
        with self._changing("unlink", path):
            self._change(path, NameChange(Path(path).name, None, self._find(path)))
        return 0

    def rmdir(self, path: str) -> int:
        with self._changing("unlink", path):
            node = self._find(path)
            if _names_of(node):
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
            self._change(path, NameChange(Path(path).name, None, node))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        with self._asked():
            node = self._find(path)
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        return 0

    # Inside

    @contextmanager
    def _asked(self) -> Iterator[None]:
        with self._lock:
            if self._is_off:
                raise OSError(errno.EIO, "the power is off")
            yield

    @contextmanager
    def _changing(self, kind: str, path: str) -> Iterator[None]:
        with self._asked():
            if self._cut_in is not None and self._cut_name in f"{kind} {path}":
                self._cut_in -= 1
                if self._cut_in < 0:
                    self._cut()
                    raise OSError(errno.EIO, "the power is off")
            self._log.append((kind, path))
            self._refuse(kind, path)
            yield

    def _refuse(self, kind: str, path: str) -> None:
        for fault in self._faults:
            if kind in fault.kinds and fault.name in path:
                self._refused += 1
                raise OSError(fault.error, os.strerror(fault.error))

    def _node(self, mode: int) -> _Node:
        self._numbers += 1
        return _Node(number=self._numbers, mode=mode, names={} if stat.S_ISDIR(mode) else None,
                     modified_ns=time.time_ns())  # fmt: skip

    def _handle_of(self, node: _Node) -> int:
        self._handles += 1
        self._open[self._handles] = node
        return self._handles

    def _find(self, path: str) -> _Node:
        node = self._root
        for name in Path(path).parts[1:]:
            if name not in _names_of(node):
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            node = _as_node(_names_of(node)[name])
        return node

    def _node_of(self, path: str | None, fh: int | None) -> _Node:
        if fh is not None and fh in self._open:
            return self._open[fh]
        if path is None:
            raise OSError(errno.EIO, "a handle of before the power cut")
        return self._find(path)

    def _path(self, path: str | None, fh: int | None) -> str:
        """A name for faults: of a handle alone it is looked up."""
        if path is not None or fh not in self._open:
            return path or ""
        wanted = self._open[fh]
        return next((found for found, node in _walk(self._root, "") if node is wanted), "")

    def _change(self, path: str, change: NameChange) -> None:
        parent = self._find(str(Path(path).parent))
        names = _names_of(parent)
        replaced = names.get(change.new) if change.new is not None else None
        if replaced is not None and replaced is not change.inode:
            replaced.links = 0
        if change.new is None:
            change.inode.links = 0
        change_name(names, change)
        parent.unsynced_names.append(change)

    def _change_content(self, node: _Node, change: Write | Resize) -> None:
        apply(node.seen, change)
        node.unsynced.append(change)
        node.modified_ns = time.time_ns()

    def _reserve(self, node: _Node, size_bytes: int) -> None:
        more_bytes = size_bytes - len(node.seen)
        if more_bytes > 0 and more_bytes > self._capacity_bytes - _used(self._root):
            self._refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _Mount(mfusepy.FUSE):  # type: ignore[misc]
    """The library loses the handle of a truncation, by which alone a file is known here."""

    def truncate_fuse_3(self, path: bytes | None, length: int, fip: Any) -> int:
        return int(self.ftruncate(path, length, fip))


def _as_node(inode: Inode) -> _Node:
    assert isinstance(inode, _Node)
    return inode


def _names_of(node: _Node) -> dict[str, Inode]:
    if node.names is None:
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return node.names


def _walk(node: _Node, path: str) -> Iterator[tuple[str, _Node]]:
    yield path or "/", node
    for name, child in (node.names or {}).items():
        yield from _walk(_as_node(child), f"{path}/{name}")


def _used(root: _Node) -> int:
    return sum(len(node.seen) for _, node in _walk(root, ""))


def _durable(node: _Node, path: str) -> Iterator[tuple[str, bytes]]:
    """Path and content of the files that no power cut can take."""
    for name, inode in node.synced_names.items():
        child = _as_node(inode)
        if child.names is None:
            yield f"{path}/{name}", child.synced
        else:
            yield from _durable(child, f"{path}/{name}")


def _survive(directory: _Node, crash: Crash, random: Random) -> None:
    """Make of everything below a directory what a power cut leaves of it."""
    names = names_after(directory.synced_names, directory.unsynced_names, crash, random)
    directory.names, directory.synced_names, directory.unsynced_names = names, dict(names), []
    for child in map(_as_node, names.values()):
        child.links = 1
        if child.names is not None:
            _survive(child, crash, random)
        else:
            child.synced = content_after(child, crash, random)
            child.seen, child.unsynced = bytearray(child.synced), []


class ForgetfulDisk:
    """A mounted disk, from the side of the test. Kinds of operations: those of `edge.testing.disk`, and "short write".

    Attributes:
        path: where it is mounted.
    """

    def __init__(self, path: Path, ask: Callable[..., Any]) -> None:
        self.path, self._ask = path, ask

    def arm(self, operations: int, pids: Sequence[int], name: str = "") -> None:
        """Cut the power before the operation after so many more, and kill the processes.

        Those count that change something and whose kind and path, as "unlink /a", contain `name`.
        """
        self._ask("arm", operations, pids, name)

    def cut(self, pids: Sequence[int]) -> None:
        """Cut the power now."""
        self._ask("cut", pids)

    def is_off(self) -> bool:
        """Whether the power was cut."""
        return bool(self._ask("is_off"))

    def ignore_syncs(self, name: str) -> None:
        """Be a disk that says it has synced paths that contain `name`, and has not."""
        self._ask("ignore_syncs", name)

    def durable(self) -> dict[str, bytes]:
        """Path and content of each file as no power cut can take it."""
        found: dict[str, bytes] = self._ask("durable")
        return found

    def come_back(self, crash: Crash, seed: int) -> None:
        """Restore the power, with what survived."""
        self._ask("come_back", crash, seed)

    def fail(self, *kinds: str, error: int, name: str = "") -> None:
        """Refuse operations of these kinds on paths that contain `name`."""
        self._ask("fail", kinds, error, name)

    def make_read_only(self) -> None:
        """Refuse every change."""
        self._ask("fail", (*_CHANGES, "open for writing"), errno.EROFS, "")

    def refused(self) -> int:
        """How many operations were refused or cut short since the last call."""
        return int(self._ask("refused"))

    def heal(self) -> None:
        """Refuse nothing any more, and be as large as at the start."""
        self._ask("heal")

    def fill(self, free_bytes: int = 0) -> None:
        """Leave this much room."""
        self._ask("fill", free_bytes)

    def operations(self) -> list[tuple[str, str]]:
        """Kind and path of every change since the last call."""
        found: list[tuple[str, str]] = self._ask("operations")
        return found

    def written_bytes(self) -> int:
        """The sum of all writes."""
        return int(self._ask("written_bytes"))


@contextmanager
def forgetful_disk(directory: Path, capacity_bytes: int = 1 << 30) -> Iterator[ForgetfulDisk]:
    """A disk mounted at `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    address = f"{directory}.control"
    command = [sys.executable, "-m", "tests.support.forgetful_disk", str(directory), address, str(capacity_bytes)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        with closing(Client(address, "AF_UNIX")) as line:

            def ask(*question: Any) -> Any:
                line.send(question)
                return line.recv()

            yield ForgetfulDisk(directory, ask)
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=False)
        with process.stdout:
            process.kill()
            process.wait()
        Path(address).unlink(missing_ok=True)


def main(directory: str, address: str, capacity_bytes: int) -> None:
    """Serve the file system until it is unmounted, and one test that asks."""
    file_system = _FileSystem(capacity_bytes)

    listener = Listener(address, "AF_UNIX")

    def answer() -> None:
        with suppress(EOFError, OSError), listener.accept() as line:
            while True:
                line.send(file_system.ask(*line.recv()))

    threading.Thread(target=answer, daemon=True).start()
    _Mount(file_system, directory, foreground=True, nothreads=True, fsname="forgetful", allow_other=True)  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
