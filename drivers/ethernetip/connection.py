"""One TCP connection to one device: one question at a time, and is this its answer?"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import cast

from drivers.ethernetip import cip
from drivers.ethernetip import encapsulation as frames
from drivers.ethernetip.cip import Opening, Question, Routed, Sendable
from drivers.ethernetip.decode import NOT_SUPPORTED, SUCCESS, Reply, reply_of, status_text
from drivers.ethernetip.settings import EtherNetIpDevice
from edge.clock import Clock
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation, TidegateError, unreachable

_BUFFER_BYTES = 8192
_LATE_MAX = 16
_SEQUENCES = 0x10000


class Exchange:
    """Questions on their way through a connection, one after the other, and their answers."""

    __slots__ = ("answered_at_ns", "answers", "asked_at_ns", "done", "messages")

    def __init__(self, messages: Sequence[Sendable]) -> None:
        self.messages = messages
        self.answers: list[bytes] = []
        self.asked_at_ns = 0
        self.answered_at_ns = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Connection(asyncio.BufferedProtocol):
    """Carries exchanges one after the other; an answer counts only if its whole header is the one awaited."""

    def __init__(self, name: str, clock: Clock, *, timeout_s: float, gap_s: float = 0) -> None:
        self.name = name
        self.session = 0
        self._clock, self._timeout_s, self._gap_s = clock, timeout_s, gap_s
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._have = 0
        self._turn = asyncio.Lock()
        self._exchange: Exchange | None = None
        self._command: int | None = None
        self._context = self._first_context = clock.boot_ns()
        self._sequence = self._issued = 0
        self._ours = self._theirs = 0
        self._late = 0
        self._deadline_s = self._free_at_s = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._why_lost: TidegateError | None = None
        self._closed = self._loop.create_future()

    @property
    def is_lost(self) -> bool:
        """Whether nothing more can be asked here."""
        return self._why_lost is not None

    @property
    def is_connected(self) -> bool:
        """Whether a connection to the message router is open."""
        return self._theirs != 0

    @property
    def _is_waiting(self) -> bool:
        """Whether an answer is awaited: none is any more when it came, or when nobody asks on."""
        return self._exchange is not None and not self._exchange.done.done()

    def use(self, ours: int, theirs: int) -> None:
        """Ask on a connection that was opened, by its two ids; 0 and 0 to ask without one."""
        self._ours, self._theirs = ours, theirs

    async def register(self) -> None:
        """Open a session.

        Raises:
            DeviceRefused: the device does not give us one.
        """
        async with self._turn:
            await self._carry(Exchange(()), frames.REGISTER)

    async def list_identity(self) -> bytes:
        """What the device says of itself without a session."""
        async with self._turn:
            exchange = Exchange(())
            await self._carry(exchange, frames.LIST_IDENTITY)
        return exchange.answers[0]

    async def carry(self, exchange: Exchange) -> None:
        """Ask everything in an exchange, on the connection if there is one.

        Raises:
            DeviceUnreachable: the device is silent, or the connection is gone.
            ProtocolViolation: the device sent what cannot be the answer.
        """
        async with self._turn:
            await self._carry(exchange, frames.SEND_UNIT if self._theirs else frames.SEND_RR)

    async def ask(self, message: Sendable, *, alone: bool = False) -> bytes:
        """The answer to one question; `alone` outside of the connection."""
        exchange = Exchange((message,))
        async with self._turn:
            await self._carry(exchange, frames.SEND_UNIT if self._theirs and not alone else frames.SEND_RR)
        return exchange.answers[0]

    async def close(self) -> None:
        """Give the session back and close the connection, and wait until it is."""
        if self._why_lost is None:
            if self.session:
                self._transport.write(frames.unregister_frame(self.session))
            self._transport.close()
            self._end(DeviceUnreachable(f"{self.name}: the connection was closed by us"))
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.shield(self._closed)
        except TimeoutError:
            pass  # It takes nothing any more, not even our farewell.
        finally:
            self._transport.abort()
        await asyncio.shield(self._closed)

    def drop(self, why: TidegateError) -> None:
        """End the connection now; whoever waits on it is told why."""
        if self._why_lost is None:
            self._transport.abort()
            self._end(why)

    # Asking.

    async def _carry(self, exchange: Exchange, command: int) -> None:
        if self._why_lost is not None:
            raise self._lost()
        self._exchange, self._command = exchange, command
        exchange.asked_at_ns = self._clock.boot_ns()
        self._ask_on()
        try:
            await exchange.done
        finally:
            self._exchange = None

    def _ask_on(self) -> None:
        """Send the next question of the exchange, after the pause if one is due."""
        exchange, now_s = self._exchange, self._loop.time()
        if exchange is None or self._why_lost is not None:
            return
        self._deadline_s = max(now_s, self._free_at_s) + self._timeout_s
        if self._watch is None:
            self._watch = self._loop.call_at(self._deadline_s, self._look)
        if self._pause is not None:
            return
        if now_s < self._free_at_s:
            self._pause = self._loop.call_at(self._free_at_s, self._after_pause)
            return
        self._transport.write(self._next_frame(exchange))

    def _after_pause(self) -> None:
        self._pause = None
        self._ask_on()

    def _next_frame(self, exchange: Exchange) -> bytes:
        if self._command == frames.SEND_UNIT:
            self._sequence = (self._sequence + 1) % _SEQUENCES
            self._issued += 1
            data = exchange.messages[len(exchange.answers)].data
            return frames.connected_frame(self.session, self._theirs, self._sequence, data)
        if self._command == frames.REGISTER:
            return frames.register_frame()
        self._context += 1
        context = self._context.to_bytes(8, "little")
        if self._command == frames.LIST_IDENTITY:
            return frames.list_identity_frame(context)
        return frames.unconnected_frame(self.session, context, exchange.messages[len(exchange.answers)])

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is none by inheritance.

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        if self._why_lost is None:
            how = f"broke the connection ({exc})" if exc else "closed the connection"
            self._end(DeviceUnreachable(f"{self.name} {how}"))
        if not self._closed.done():
            self._closed.set_result(None)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """The free part of the one receive buffer: what a device sends never takes more memory than this."""
        return self._view[self._have :] if self._have else self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Take the answers that are whole, and ask on."""
        have, buffer, at = self._have + nbytes, self._buffer, 0
        while have - at >= frames.HEADER_BYTES and self._why_lost is None:
            end = at + frames.HEADER_BYTES + (buffer[at + 2] | buffer[at + 3] << 8)
            if end - at > _BUFFER_BYTES:
                self._break("length of a frame", f"up to {_BUFFER_BYTES}", end - at, at, have)
                return
            if end > have:
                break
            self._take(at, end)
            at = end
        if at < have:
            buffer[: have - at] = buffer[at:have]
        self._have = have - at

    def _take(self, at: int, end: int) -> None:
        exchange = self._exchange
        if exchange is None or not self._is_waiting:
            self._judge(at, end)
            return
        if self._command == frames.SEND_UNIT:
            is_right = self._is_connected_answer(at, end)
            start = at + frames.UNIT_ANSWER.size
        elif self._command == frames.SEND_RR:
            is_right = end - at > frames.RR_ANSWER.size and frames.RR_ANSWER.unpack_from(
                self._buffer, at
            ) == frames.unconnected_fields(end - at, self.session, self._context.to_bytes(8, "little"))
            start = at + frames.RR_ANSWER.size
        else:
            is_right = self._is_command_answered(at, end)
            start = at + frames.HEADER_BYTES
        if not is_right:
            self._judge(at, end)
            return
        exchange.answers.append(bytes(self._view[start:end]))
        if self._gap_s:
            self._free_at_s = self._loop.time() + self._gap_s
        if len(exchange.answers) < len(exchange.messages):
            self._ask_on()
        else:
            self._late = 0
            exchange.answered_at_ns = self._clock.boot_ns()
            exchange.done.set_result(None)

    def _is_connected_answer(self, at: int, end: int) -> bool:
        if end - at <= frames.UNIT_ANSWER.size:
            return False
        found = frames.UNIT_ANSWER.unpack_from(self._buffer, at)
        if found == frames.connected_fields(end - at, self.session, self._ours, self._sequence):
            return True
        if found != frames.connected_fields(end - at, self.session, self._theirs, self._sequence):
            return False
        self._ours = self._theirs  # Some answer with the id they were asked with, and always so.
        return True

    def _is_command_answered(self, at: int, end: int) -> bool:
        command, length, session, status, context, _ = frames.HEADER.unpack_from(self._buffer, at)
        if command != self._command or status != 0:
            return False
        if command == frames.REGISTER:
            self.session = session
            is_whole: bool = length == end - at - frames.HEADER_BYTES == 4
            return session != 0 and is_whole
        return bool(context == self._context.to_bytes(8, "little"))

    # What is not the answer.

    def _judge(self, at: int, end: int) -> None:
        """Pass over an answer that comes late, and end the conversation over anything else."""
        command, _, session, status, context, _ = frames.HEADER.unpack_from(self._buffer, at)
        if command == frames.NOP:
            return  # Either side may send it, and it means nothing (CIP Vol 2, 2-4.1).
        if status != 0 and command == self._command and self._is_waiting:
            why = f"{self.name} does not answer: {frames.status_text(status)}"
            self.drop(DeviceRefused(why) if command == frames.REGISTER else DeviceUnreachable(why))
            return
        if self._is_late(command, session, context, at, end):
            self._late += 1
            if self._late <= _LATE_MAX:
                return
        expected = f"the answer to command 0x{self._command:02X}" if self._is_waiting else "nothing"
        self._break("frame", expected, f"one that does not fit, of command 0x{command:02X}", at, end)

    def _is_late(self, command: int, session: int, context: bytes, at: int, end: int) -> bool:
        """Whether it answers a question that was given up."""
        if session != self.session:
            return False
        if command == frames.SEND_RR:
            is_awaited = self._is_waiting and self._command == command
            return self._first_context < int.from_bytes(context, "little") <= self._context - is_awaited
        if command != frames.SEND_UNIT or end - at <= frames.UNIT_ANSWER.size:
            return False
        *found, sequence = frames.UNIT_ANSWER.unpack_from(self._buffer, at)
        *right, _ = frames.connected_fields(end - at, self.session, self._ours, sequence)
        age = (self._sequence - sequence) % _SEQUENCES
        is_issued: bool = age < min(self._issued, _SEQUENCES // 2)
        return found == right and is_issued

    def _break(self, field: str, expected: str, got: object, at: int, end: int) -> None:
        self.drop(ProtocolViolation(f"{self.name}: {field}", expected, got, bytes(self._buffer[at:end][:260])))

    # Silence, and the end.

    def _look(self) -> None:
        """Look whether an answer is overdue; one timer serves all questions, and rests when nothing is asked."""
        self._watch = None
        if not self._is_waiting or self._why_lost is not None:
            return
        if self._loop.time() >= self._deadline_s:
            # Never asked again on this connection: what comes now could pass for the next answer.
            self.drop(DeviceUnreachable(f"{self.name} did not answer within {self._timeout_s:g} s"))
        else:
            self._watch = self._loop.call_at(self._deadline_s, self._look)

    def _lost(self) -> TidegateError:
        why = self._why_lost
        if isinstance(why, ProtocolViolation):
            return ProtocolViolation(why.field, why.expected, why.got, why.data)
        return type(why)(str(why)) if why is not None else DeviceUnreachable(f"{self.name} is not connected")

    def _end(self, why: TidegateError) -> None:
        self._why_lost = why
        for timer in (self._watch, self._pause):
            if timer is not None:
                timer.cancel()
        self._watch = self._pause = None
        if self._exchange is not None and not self._exchange.done.done():
            self._exchange.done.set_exception(self._lost())


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
        self._route = cip.route_path(device.way)
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
                why = _why(reply_of(body, cip.UNCONNECTED_SEND))
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
        sizes = (wanted, cip.UNCONNECTED_BYTES) if wanted >= _LARGE_FROM_BYTES else (min(wanted, 511),)
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
                await self.connection.ask(cip.forward_close(opening, self._route), alone=True)

    async def _open(self, size: int) -> Reply:
        opening = Opening(target_id=secrets.randbits(31) | 1, serial=next(_serials) & 0xFFFF, vendor=_VENDOR,
                          originator=secrets.randbits(32))  # fmt: skip
        longest_s = max(group.every for group in self._device.scan_groups) / 1e9
        interval_s = min(max(_INTERVAL_S_MIN, longest_s / _INTERVALS_PER_SCAN), _INTERVAL_S_MAX)
        request = cip.forward_open(opening, self._route, size, int(interval_s * 1e6))
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
