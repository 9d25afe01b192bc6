"""From nothing to a conversation and back: TCP, session, connection (CIP Vol 2, 2-4; Vol 1, 3-5.5)."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from drivers.ethernetip import codec
from drivers.ethernetip.codec import Opening, Question, Routed, Sendable
from drivers.ethernetip.connection import Connection, Exchange
from drivers.ethernetip.replies import NOT_SUPPORTED, SUCCESS, Reply, reply_of, status_text
from drivers.ethernetip.settings import EtherNetIpDevice
from edge.clock import Clock
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation, TidegateError, unreachable

_VENDOR = 0x5447  # Of nobody: what we say we are.
_LARGE_FROM_BYTES = 512
_INTERVAL_S_MIN = 2
_INTERVALS_PER_SCAN = 8  # The device waits 32 intervals: four scans.
_INTERVAL_S_MAX = 4000
_OPENED = struct.Struct("<IIHHI")
_CONNECTION_FAILURE = 0x01
_NOBODY_THERE = (0x0204, 0x0312)
_WHATEVER_SIZE = (0x0106, 0x0113, 0x0118, 0x0301, *_NOBODY_THERE)
"""What keeps a smaller connection from being opened too; modules on the way refuse large ones in many words."""
_WHY = {
    0x0100: "the connection is in use",
    0x0106: "another has the only connection of this kind (ownership conflict)",
    0x0107: "it does not know the connection",
    0x0111: "it does not take the interval",
    0x0113: "it has no connection left; close another client's, or raise its limit",
    0x0117: "there is no such object at the end of the route",
    0x0118: "it has no connection left for this kind of client",
    0x0203: "the connection timed out",
    0x0204: "nothing answers at the end of the route; is the slot right?",
    0x0205: "the route is wrong",
    0x0301: "it has no memory left",
    0x0311: "there is no such port on the route",
    0x0312: "there is no such slot or node on the route; is the slot right?",
    0x0315: "it does not understand the route",
}

_serials = itertools.count(secrets.randbits(16))


class Link:
    """One open conversation with one device.

    Attributes:
        message_bytes: most bytes of a message, a sequence count included.
    """

    def __init__(self, connection: Connection, device: EtherNetIpDevice) -> None:
        self.connection = connection
        self._device = device
        self._route = codec.route_path(device.way)
        self.message_bytes = Routed.question_bytes(self._route)
        self._opening: Opening | None = None

    def wrapped(self, question: Question) -> Sendable:
        """A question as it is sent: on its route, where there is one and no connection that goes it."""
        if self.connection.is_connected or not self._route:
            return question
        return Routed.through(question, self._route)

    async def ask(self, question: Question) -> bytes:
        """The answer to one question. Raises as `carry`."""
        exchange = Exchange((self.wrapped(question),))
        await self.carry(exchange)
        return exchange.answers[0]

    async def carry(self, exchange: Exchange) -> None:
        """Ask everything in an exchange. Raises as `Connection.carry`, also where the route breaks on the way."""
        await self.connection.carry(exchange)
        for message, body in zip(exchange.messages, exchange.answers, strict=True):
            if isinstance(message, Routed) and message.is_lost(body):
                why = _why(reply_of(body, codec.UNCONNECTED_SEND))
                raise DeviceUnreachable(f"{self.connection.name} cannot reach the device on the route: {why}")

    async def open(self) -> None:
        """Open a session, and a connection as large as the device takes.

        Raises:
            DeviceRefused: it will not talk to us.
            DeviceUnreachable: it does not answer.
        """
        await self.connection.register()
        if not self._device.is_connected:
            return
        wanted = self._device.limits.connection_bytes
        sizes = (wanted, codec.UNCONNECTED_BYTES) if wanted >= _LARGE_FROM_BYTES else (min(wanted, 511),)
        reply = Reply(NOT_SUPPORTED, None, 0, 0)
        for size in sizes:
            reply = await self._open(size)
            if reply.status == SUCCESS:
                return
            if reply.status == _CONNECTION_FAILURE and reply.extended in _WHATEVER_SIZE:
                break
        if reply.status == NOT_SUPPORTED and self._device.messaging is None:
            return  # A simple device: it is asked without a connection.
        raise self._refusal(reply)

    async def close(self) -> None:
        """Give back what was opened, as far as the device still listens."""
        opening, self._opening = self._opening, None
        if opening is not None and not self.connection.is_lost:
            with suppress(TidegateError):  # Its own time limit closes it.
                await self.connection.ask(codec.forward_close(opening, self._route), alone=True)

    async def _open(self, size: int) -> Reply:
        opening = Opening(target_id=secrets.randbits(31) | 1, serial=next(_serials) & 0xFFFF, vendor=_VENDOR,
                          originator=secrets.randbits(32))  # fmt: skip
        longest_s = max(group.every for group in self._device.scan_groups) / 1e9
        interval_s = min(max(_INTERVAL_S_MIN, longest_s / _INTERVALS_PER_SCAN), _INTERVAL_S_MAX)
        request = codec.forward_open(opening, self._route, size, int(interval_s * 1e6))
        self._opening = opening  # From now on the device may have it, whatever we hear.
        body = await self.connection.ask(request, alone=True)
        reply = reply_of(body, request.data[0])
        if reply.status != SUCCESS:
            self._opening = None
            return reply
        size_bytes, name = reply.end - reply.start, self.connection.name
        if size_bytes < _OPENED.size:
            raise ProtocolViolation(f"{name}: answer to Forward Open", f"{_OPENED.size} bytes", size_bytes, body)
        theirs, ours, *whose = _OPENED.unpack_from(body, reply.start)
        if not theirs or (ours, *whose) != (opening.target_id, opening.serial, _VENDOR, opening.originator):
            raise ProtocolViolation(f"{name}: connection", "the one that we asked for", "another one", body)
        self.connection.use(ours, theirs)
        self.message_bytes = size
        return reply

    def _refusal(self, reply: Reply) -> TidegateError:
        text = f"{self.connection.name} refused a connection: {_why(reply)}"
        is_absent = reply.extended in _NOBODY_THERE
        return DeviceUnreachable(text) if is_absent else DeviceRefused(text)


def _why(reply: Reply) -> str:
    return _WHY.get(reply.extended or 0) or status_text(reply.status, reply.extended)


async def connect(host: str, port: int, clock: Clock, *, timeout_s: float, gap_s: float = 0) -> Connection:
    """A TCP connection, without a session.

    Raises:
        DeviceUnreachable: nobody answers there.
    """
    name = f"{host}:{port}"
    try:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(name, clock, timeout_s=timeout_s, gap_s=gap_s), host, port
        )
    except OSError as error:
        raise unreachable(name, error) from error
    return connection


@asynccontextmanager
async def opened(device: EtherNetIpDevice, clock: Clock) -> AsyncIterator[Link]:
    """A conversation with a device, given back however the block ends.

    Raises:
        DeviceUnreachable: nobody answers there.
        DeviceRefused: somebody answers, and will not talk to us.
    """
    limits = device.limits
    connection: Connection | None = None
    try:
        try:
            async with asyncio.timeout(limits.connect_timeout / 1e9):
                connection = await connect(
                    device.host, device.port, clock, timeout_s=limits.timeout / 1e9, gap_s=limits.gap / 1e9
                )
                link = Link(connection, device)
                await link.open()
        except TimeoutError as error:
            raise DeviceUnreachable(
                f"{device.host}:{device.port} opened no session within {limits.connect_timeout / 1e9:g} s"
            ) from error
        try:
            yield link
        finally:
            await link.close()
    finally:
        if connection is not None:
            await connection.close()
