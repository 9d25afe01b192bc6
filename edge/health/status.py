"""The status socket: each connection gets one JSON document, and nothing that it sends is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from edge import unix_sockets
from edge.health.snapshot import StatusSnapshot

READERS_LIMIT = 16
READ_WITHIN_S = 5.0


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
        listening = await asyncio.to_thread(unix_sockets.bind, self._path, "status socket")
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


def read_status(path: Path, timeout_s: float = 5.0) -> StatusSnapshot:
    """Ask a running gateway or relay.

    Raises:
        OSError: no process answers there.
        ForeignSocket: another account listens there.
        ValueError: the answer is not a status.
    """
    return StatusSnapshot.from_json(unix_sockets.ask(path, timeout_s=timeout_s))
