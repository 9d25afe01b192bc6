"""The connection manager: connections, and unconnected requests (CIP Vol 1 3-5)."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from drivers.ethernetip.simulator import paths
from drivers.ethernetip.simulator.codes import CipError, Class, ConnectionService, Extended, Status, unknown_instance
from drivers.ethernetip.simulator.controller import Controller
from drivers.ethernetip.simulator.router import Router, refusal, reply, split

UNCONNECTED_BYTES = 504
"""Most bytes of an unconnected answer."""

_SMALL_OPEN = struct.Struct("<BBIIHHIB3xIHIHBB")
_LARGE_OPEN = struct.Struct("<BBIIHHIB3xIIIIBB")
_CLOSE = struct.Struct("<BBHHIBx")
_POINT_TO_POINT = 2
_CLASS_3 = 3
_SEQUENCE_BYTES = 2
_MESSAGE_ROUTER = bytes((0x20, Class.MESSAGE_ROUTER, 0x24, 1))
_KEY_SEGMENT = 0x34


@dataclass(eq=False)
class Connection:
    """A class 3 connection; requests have the id `ours`, answers have `theirs`."""

    ours: int
    theirs: int
    triad: tuple[int, int, int]
    answer_bytes: int
    request_bytes: int
    expires_in_s: float
    owner: ConnectionManager
    timer: asyncio.TimerHandle | None = None
    last: tuple[int, bytes] | None = field(default=None)


class ConnectionTable:
    """The open connections of a controller, from all clients."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.open: dict[int, Connection] = {}
        self._next = 0x00FE0000

    def number(self) -> int:
        """A connection identifier that was not used before."""
        self._next = (self._next + 0x00010003) & 0xFFFFFFFF
        return self._next

    def close(self, connection: Connection) -> None:
        """Remove a connection."""
        self.open.pop(connection.ours, None)
        if connection.timer is not None:
            connection.timer.cancel()

    def forget(self) -> None:
        """Remove every connection without notice to the clients."""
        for connection in list(self.open.values()):
            self.close(connection)


class ConnectionManager:
    """The connection manager for one TCP connection; CIP connections end with it."""

    def __init__(self, table: ConnectionTable, router: Router) -> None:
        self._table = table
        self._router = router
        self._services: dict[int, Callable[[int, bytes], bytes]] = {
            ConnectionService.FORWARD_OPEN: self._forward_open,
            ConnectionService.LARGE_FORWARD_OPEN: self._forward_open,
            ConnectionService.FORWARD_CLOSE: self._forward_close,
            ConnectionService.UNCONNECTED_SEND: self._unconnected_send,
        }

    def close(self) -> None:
        """Close the connections of this TCP connection, which ended."""
        for connection in [one for one in self._table.open.values() if one.owner is self]:
            self._table.close(connection)

    def unconnected(self, message: bytes) -> bytes:
        """The answer to a request without a connection."""
        service = message[0] if message else 0
        try:
            service, route, data = split(message)
            path = paths.parse(route)
            ask = self._services.get(service)
            if path.class_ != Class.CONNECTION_MANAGER or ask is None:
                return self._router.answer(message, UNCONNECTED_BYTES)
            if path.instance != 1:
                raise unknown_instance()
            self._table.controller.services[service, path.class_] += 1
            return ask(service, data)
        except CipError as error:
            return refusal(service, error)

    def connected(self, number: int, sequence: int, message: bytes) -> tuple[int, bytes] | None:
        """(identifier, answer) to a request on a connection; None if there is no such connection."""
        connection = self._table.open.get(number)
        if connection is None or connection.owner is not self:
            return None
        self._restart_timer(connection)
        if connection.last is not None and connection.last[0] == sequence:
            return connection.theirs, connection.last[1]  # A repeated request gets the same answer (CIP Vol 1 3-4.4).
        if len(message) + _SEQUENCE_BYTES > connection.request_bytes:
            answer = reply(message[0], Status.TOO_MUCH_DATA)
        else:
            answer = self._router.answer(message, connection.answer_bytes - _SEQUENCE_BYTES)
        connection.last = sequence, answer
        return connection.theirs, answer

    # Services.

    def _forward_open(self, service: int, data: bytes) -> bytes:
        controller, is_large = self._table.controller, service == ConnectionService.LARGE_FORWARD_OPEN
        if is_large and controller.is_large_refused:
            raise CipError(Status.SERVICE_NOT_SUPPORTED)
        layout = _LARGE_OPEN if is_large else _SMALL_OPEN
        if len(data) < layout.size:
            raise CipError(Status.NOT_ENOUGH_DATA)
        (_, _, _, theirs, serial, vendor, originator, multiplier, rpi, to_us, to_them_rpi, to_them, transport,
         words) = layout.unpack_from(data)  # fmt: skip
        triad = serial, vendor, originator
        try:
            self._check_request(data[layout.size :], words, triad, transport)
            request_bytes, answer_bytes = (self._granted(parameters, is_large) for parameters in (to_us, to_them))
        except CipError as error:
            error.data = struct.pack("<HHIBx", *triad, 0)
            raise
        ours = self._table.number()
        expires_in_s = rpi / 1e6 * (4 << min(multiplier, 7))
        connection = Connection(ours, theirs, triad, answer_bytes, request_bytes, expires_in_s, self)
        self._table.open[ours] = connection
        self._restart_timer(connection)
        return reply(service, Status.SUCCESS, struct.pack("<IIHHIIIBx", ours, theirs, *triad, rpi, to_them_rpi, 0))

    def _check_request(self, route: bytes, words: int, triad: tuple[int, int, int], transport: int) -> None:
        if len(route) != 2 * words:
            raise CipError(Status.NOT_ENOUGH_DATA if len(route) < 2 * words else Status.TOO_MUCH_DATA)
        if self._follow(route) != _MESSAGE_ROUTER:
            raise CipError(Status.CONNECTION_FAILURE, Extended.SEGMENT_NOT_VALID)
        if transport & 0x0F != _CLASS_3:
            raise CipError(Status.CONNECTION_FAILURE, Extended.TRANSPORT_CLASS_NOT_SUPPORTED)
        if any(one.triad == triad for one in self._table.open.values()):
            raise CipError(Status.CONNECTION_FAILURE, Extended.CONNECTION_IN_USE)
        if len(self._table.open) >= self._table.controller.connections_limit:
            raise CipError(Status.CONNECTION_FAILURE, Extended.OUT_OF_CONNECTIONS)

    def _granted(self, parameters: int, is_large: bool) -> int:
        size = parameters & (0xFFFF if is_large else 0x01FF)
        kind = parameters >> (29 if is_large else 13) & 3
        if kind != _POINT_TO_POINT:
            raise CipError(Status.CONNECTION_FAILURE, Extended.INVALID_CONNECTION_TYPE)
        most = self._table.controller.connection_bytes_most
        if not _SEQUENCE_BYTES < size <= most:
            raise CipError(Status.CONNECTION_FAILURE, Extended.INVALID_CONNECTION_SIZE, most)
        return size

    def _forward_close(self, service: int, data: bytes) -> bytes:
        if len(data) < _CLOSE.size:
            raise CipError(Status.NOT_ENOUGH_DATA)
        _, _, serial, vendor, originator, _ = _CLOSE.unpack_from(data)
        triad = serial, vendor, originator
        for connection in list(self._table.open.values()):
            if connection.triad == triad:
                self._table.close(connection)
                return reply(service, Status.SUCCESS, struct.pack("<HHIBx", *triad, 0))
        raise CipError(Status.CONNECTION_FAILURE, Extended.CONNECTION_NOT_FOUND, data=struct.pack("<HHIBx", *triad, 0))

    def _unconnected_send(self, service: int, data: bytes) -> bytes:  # noqa: ARG002
        if len(data) < 4:
            raise CipError(Status.NOT_ENOUGH_DATA)
        size = int.from_bytes(data[2:4], "little")
        message, rest = data[4 : 4 + size], data[4 + size + size % 2 :]
        if len(message) < size or len(rest) < 2 or len(rest) != 2 + 2 * rest[0]:
            raise CipError(Status.NOT_ENOUGH_DATA)
        if self._follow(rest[2:]):
            raise CipError(Status.CONNECTION_FAILURE, Extended.SEGMENT_NOT_VALID)
        return self._router.answer(message, UNCONNECTED_BYTES)

    def _follow(self, route: bytes) -> bytes:
        """The rest of a route behind this controller."""
        controller = self._table.controller
        if route and route[0] < 0x20:
            if not controller.personality.has_backplane or route[0] != 1 or len(route) < 2:
                raise CipError(Status.CONNECTION_FAILURE, Extended.PORT_NOT_AVAILABLE)
            if route[1] != controller.slot:
                raise CipError(Status.CONNECTION_FAILURE, Extended.LINK_ADDRESS_NOT_VALID)
            route = route[2:]
        if route and route[0] == _KEY_SEGMENT:
            route = route[10:]
        return route

    def _restart_timer(self, connection: Connection) -> None:
        """Close the connection after its time limit without a request."""
        if connection.timer is not None:
            connection.timer.cancel()
        loop = asyncio.get_running_loop()
        connection.timer = loop.call_later(connection.expires_in_s, self._table.close, connection)
