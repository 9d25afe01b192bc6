"""Sockets for commands on the same machine: who may use one is who may open its file.

Who asks looks at who listens before it says or believes anything: somebody may have put a socket where that of a
gateway would be. Asked is root, this account, the owner of the directory, and who is in the group that the owner lets
make files there; that everybody may do so vouches for nobody.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge.errors import ConfigError, ForeignSocket

_MODE = 0o660
_PATH_BYTES_LIMIT = 107
_DOCUMENT_BYTES_LIMIT = 64 * 2**20
_PEER_GROUPS = 59  # SO_PEERGROUPS, which Python does not name.
_GROUPS_LIMIT = 256  # The largest answer that Python takes.


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection, or began to listen there, as the kernel says.

    In a unit with users of its own, accounts besides root and that of the unit are one, "nobody", and so are groups.
    """

    user: int
    groups: frozenset[int]

    @classmethod
    def of(cls, descriptor: int) -> Peer:
        """The peer of a connected socket."""
        with socket.socket(fileno=os.dup(descriptor)) as connected:
            _, user, group = struct.unpack("iII", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            groups = b""
            with suppress(OSError):  # It is in more groups: then its first decides.
                groups = connected.getsockopt(socket.SOL_SOCKET, _PEER_GROUPS, 4 * _GROUPS_LIMIT)
        return cls(user, frozenset((group, *struct.unpack(f"{len(groups) // 4}I", groups))))

    @property
    def is_owner(self) -> bool:
        """Whether it is root, or this process's own account."""
        return self.user in (0, os.geteuid())


def bind(path: Path, what: str) -> socket.socket:
    """A socket for owner and group, bound and not listening yet; `what` names it in errors.

    Raises:
        ConfigError: the socket cannot be made there, or another process answers on it.
    """
    if len(bytes(path)) > _PATH_BYTES_LIMIT:
        raise ConfigError(f"{what} {path}: the path is longer than {_PATH_BYTES_LIMIT} bytes; choose a shorter")
    if _is_answered(path):
        raise ConfigError(f"{what} {path}: another process answers there; stop it or choose another path")
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            path.unlink()
        bound.bind(str(path))
        # It does not listen yet, so a connection before this line is not possible.
        path.chmod(_MODE)
    except OSError as error:
        bound.close()
        raise ConfigError(f"{what} {path}: {error.strerror}") from error
    return bound


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def ask(path: Path, request: bytes = b"", timeout_s: float = 5.0) -> bytes:
    """Everything that is answered to a request.

    Raises:
        OSError: no process answers there.
        ForeignSocket: another account listens there; nothing was sent.
        ValueError: the answer does not end.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(timeout_s)
        asking.connect(str(path))
        _require_ours(path, Peer.of(asking.fileno()))
        if request:  # Sending nothing would fail where the other side has answered and gone.
            asking.sendall(request)
        document = bytearray()
        while part := asking.recv(1 << 16):
            _add(part, document, path)
    return bytes(document)


async def ask_async(path: Path, request: bytes, timeout_s: float) -> bytes:
    """The same as `ask`, for an event loop: to cancel it hangs up at once. TimeoutError is an OSError."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            peer = Peer.of(writer.get_extra_info("socket").fileno())
            await asyncio.to_thread(_require_ours, path, peer)
            writer.write(request)
            document = bytearray()
            while part := await reader.read(1 << 18):
                _add(part, document, path)
        finally:
            writer.transport.abort()
    return bytes(document)


def _require_ours(path: Path, listening: Peer) -> None:
    directory = Path(os.path.realpath(path)).parent
    owned = directory.stat()
    is_by_leave = stat.S_IMODE(owned.st_mode) & stat.S_IWGRP and owned.st_gid in listening.groups
    if not (listening.is_owner or listening.user == owned.st_uid or is_by_leave):
        raise ForeignSocket(f"at {path} listens a process of the account {listening.user}, which is neither root nor "
                            f"that of {directory}: it was asked nothing, and nothing is believed of it")  # fmt: skip


def _add(part: bytes, document: bytearray, path: Path) -> None:
    document += part
    if len(document) > _DOCUMENT_BYTES_LIMIT:
        raise ValueError(f"{path} answers with more than {_DOCUMENT_BYTES_LIMIT} bytes")
