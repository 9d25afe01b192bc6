"""One TCP connection to one device: one question at a time, and is this its answer?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from drivers.ethernetip import encapsulation as frames
from drivers.ethernetip.codec import Sendable
from edge.clock import Clock
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation, TidegateError

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
