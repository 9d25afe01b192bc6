"""Finished messages over the secure channel of the library: its keys, its sequence numbers, its table of requests.

This is the one place that reaches below the library's surface: it does what its `_send_request` does, without turning
a thousand objects into bytes first. Only requests of reading services can be made, see `services`.

Importing this module imports asyncua: only a session does.
"""

from __future__ import annotations

import asyncio
from typing import Any

from asyncua.ua.ua_binary import nodeid_to_binary

from drivers.opcua.connection import Connection
from drivers.opcua.services import ServiceRequest
from edge.clock import Clock

# ruff: noqa: SLF001

_NUMBERS = 2**32 - 1  # Requests are numbered from 1 again after so many, in a year or two.


class Arrival(asyncio.Future[Any]):
    """An answer to come, and the boot time at which it came: whoever waits for it may run later."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._boot_ns = clock.boot_ns
        self.arrived_at_ns = 0

    def _arrive(self, result: Any, /) -> None:
        self.arrived_at_ns = self._boot_ns()
        super().set_result(result)

    set_result = _arrive  # The library's table of requests knows it by this name.


class Channel:
    """Carries requests of one session, and their answers."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection, self._clock = connection, clock

    @property
    def token(self) -> bytes:
        """The session's authentication token as it is on the wire."""
        return bytes(nodeid_to_binary(self._connection.transport.authentication_token))

    def fits(self, request: ServiceRequest) -> bool:
        """Whether the server takes a message as long as this (OPC 10000-6, 7.1.2.4)."""
        return len(request) <= self._connection.transport.sent_bytes_limit

    async def carry(self, request: ServiceRequest) -> tuple[int, bytes]:
        """The handle a request got, and the bytes of its answer. Raises as `Connection.ask`.

        An answer that comes after its time is met by the library's table, which knows that nobody waits for it.
        """
        handle, answer = self.start(request)
        body = await self._connection.ask(answer)
        return handle, body.read(len(body))

    def start(self, request: ServiceRequest) -> tuple[int, Arrival]:
        """Send a request whose answer may take as long as it likes; its handle and its answer.

        Raises as `Connection.lost` says where nothing can be sent any more.
        """
        if self._connection.is_lost:
            raise self._connection.lost()
        protocol = self._connection.transport
        protocol.revolve_security_token()
        request_id, handle = protocol._request_id % _NUMBERS + 1, protocol._request_handle % _NUMBERS + 1
        body = request.body(handle, self._clock.utc_ns())
        message = protocol._connection.message_to_binary(body, request_id=request_id)
        protocol._request_id, protocol._request_handle = request_id, handle
        protocol._callbackmap[request_id] = answer = Arrival(self._clock)
        protocol.transport.write(message)
        return handle, answer
