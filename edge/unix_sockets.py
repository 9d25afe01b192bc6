"""Sockets for commands on the same machine: who may use one is who may open its file."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from edge.errors import ConfigError

_MODE = 0o660
_PATH_BYTES_LIMIT = 107
_DOCUMENT_BYTES_LIMIT = 64 * 2**20


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
        ValueError: the answer does not end.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(timeout_s)
        asking.connect(str(path))
        if request:  # Sending nothing would fail where the other side has answered and gone.
            asking.sendall(request)
        document = bytearray()
        while part := asking.recv(1 << 16):
            _add(part, document, path)
    return bytes(document)


async def ask_async(path: Path, request: bytes, timeout_s: float) -> bytes:
    """The same as `ask`, for an event loop: to cancel it hangs up at once."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            writer.write(request)
            document = bytearray()
            while part := await reader.read(1 << 16):
                _add(part, document, path)
        finally:
            writer.transport.abort()
    return bytes(document)


def _add(part: bytes, document: bytearray, path: Path) -> None:
    document += part
    if len(document) > _DOCUMENT_BYTES_LIMIT:
        raise ValueError(f"{path} answers with more than {_DOCUMENT_BYTES_LIMIT} bytes")
