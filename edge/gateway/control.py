"""The control socket: what commands on this machine ask the running gateway, so that they do not compete with it.

One connection is one question: a line of JSON, {"ask": "values", "device": "mixer"}, or "" for all devices; the answer
is one JSON document, or {"error": "..."} with a sentence. Nothing that can be asked writes to a device.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from edge import unix_sockets
from edge.health import StatusSnapshot

ANSWER_WITHIN_S = 5.0
_CONNECTIONS_LIMIT = 16
_REQUEST_BYTES_LIMIT = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A question about one device, or about all where it is empty."""

    ask: str
    device: str


class ControlServer:
    """Answers on a unix socket while its block is open; an answer raises LookupError where there is none."""

    def __init__(self, path: Path, answers: Mapping[str, Callable[[Request], Awaitable[bytes]]]) -> None:
        self._path = path
        self._answers = answers
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        """Start to listen. Raises ConfigError where the socket cannot be made there."""
        listening = await asyncio.to_thread(unix_sockets.bind, self._path, "control socket")
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=_REQUEST_BYTES_LIMIT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in tuple(self._open):
            writer.transport.abort()
        await self._server.wait_closed()
        await asyncio.to_thread(self._path.unlink, missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if len(self._open) <= _CONNECTIONS_LIMIT:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    writer.write(await self._answer(await reader.readline()))
                    writer.close()
                    await writer.wait_closed()
        except (TimeoutError, ConnectionError, ValueError):
            pass  # It asked too late or too much, read too slowly, or went away.
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _answer(self, line: bytes) -> bytes:
        try:
            request = Request(**orjson.loads(line))
            answer = self._answers.get(request.ask)
        except (TypeError, ValueError):
            answer = None
        if answer is None:
            return orjson.dumps({"error": "this is not a question that a gateway of this version understands"})
        try:
            return await answer(request)
        except LookupError as error:
            return orjson.dumps({"error": str(error)})


def ask_values(path: Path, device: str) -> StatusSnapshot | None:
    """The device, or all, with all current values, from the gateway that answers at `path`; None where none answers.

    Raises:
        LookupError: the gateway does not read that device.
    """
    try:
        document = unix_sockets.ask(path, orjson.dumps(asdict(Request(ask="values", device=device))) + b"\n")
        answer = orjson.loads(document)
    except (OSError, ValueError):
        return None
    if "error" in answer:
        raise LookupError(answer["error"])
    return StatusSnapshot.from_json(document)
