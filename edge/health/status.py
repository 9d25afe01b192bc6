"""The status socket: each connection gets one JSON document, and nothing that it sends is read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from edge.errors import ConfigError
from edge.health.snapshot import StatusSnapshot

READERS_LIMIT = 16
READ_WITHIN_S = 5.0
_MODE = 0o660
_PATH_BYTES_LIMIT = 107
_DOCUMENT_BYTES_LIMIT = 64 * 2**20


class StatusServer:
    """Answers on a unix socket while its block is open."""

    def __init__(self, path: Path, snapshot: Callable[[], StatusSnapshot]) -> None:
        self._path = path
        self._snapshot = snapshot
        self._readers: set[asyncio.BaseTransport] = set()

    async def __aenter__(self) -> Self:
        """Start to listen.

        Raises:
            ConfigError: the socket cannot be made there, or another process answers on it.
        """
        listening = await asyncio.to_thread(_bind, self._path)
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(self._answer, sock=listening)
        except BaseException:
            listening.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for reader in tuple(self._readers):
            reader.close()
        await self._server.wait_closed()
        await asyncio.to_thread(self._path.unlink, missing_ok=True)

    def _answer(self) -> asyncio.BaseProtocol:
        return _Answer(self._snapshot, self._readers)


class _Answer(asyncio.Protocol):
    """One connection: a document, then the end."""

    def __init__(self, snapshot: Callable[[], StatusSnapshot], readers: set[asyncio.BaseTransport]) -> None:
        self._snapshot = snapshot
        self._readers = readers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.WriteTransport", transport)
        self._transport = transport
        if len(self._readers) >= READERS_LIMIT:
            transport.abort()
            return
        self._readers.add(transport)
        # A reader that stops reading must not hold memory here without end.
        self._limit = asyncio.get_running_loop().call_later(READ_WITHIN_S, transport.abort)
        transport.write(self._snapshot().to_json() + b"\n")
        transport.close()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        if self._transport in self._readers:
            self._readers.remove(self._transport)
            self._limit.cancel()


def _bind(path: Path) -> socket.socket:
    if len(bytes(path)) > _PATH_BYTES_LIMIT:
        raise ConfigError(f"status socket {path}: the path is longer than {_PATH_BYTES_LIMIT} bytes; choose a shorter")
    if _is_answered(path):
        raise ConfigError(f"status socket {path}: another process answers there; stop it or choose another path")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            path.unlink()
        listening.bind(str(path))
        # It does not listen yet, so a connection before this line is not possible.
        path.chmod(_MODE)
    except OSError as error:
        listening.close()
        raise ConfigError(f"status socket {path}: {error.strerror}") from error
    return listening


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def read_status(path: Path, timeout_s: float = 5.0) -> StatusSnapshot:
    """Ask a running gateway or relay.

    Raises:
        OSError: no process answers there.
        ValueError: the answer is not a status.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(timeout_s)
        asking.connect(str(path))
        document = bytearray()
        while part := asking.recv(1 << 16):
            document += part
            if len(document) > _DOCUMENT_BYTES_LIMIT:
                raise ValueError(f"{path} answers with more than {_DOCUMENT_BYTES_LIMIT} bytes")
    return StatusSnapshot.from_json(bytes(document))
