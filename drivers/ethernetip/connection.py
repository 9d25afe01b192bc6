"""The connection to one device: TCP transport, and the CIP session on it."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import cast

from drivers.ethernetip import cip
from drivers.ethernetip.cip import (
    NOT_SUPPORTED,
    SUCCESS,
    ForwardOpen,
    Question,
    Reply,
    Routed,
    Sendable,
    reply_of,
    status_text,
)
from drivers.ethernetip.controller_queries import identity_object_in
from drivers.ethernetip.encapsulation import EncapsulationClient, Request, State
from drivers.ethernetip.settings import EtherNetIpDevice
from edge.clock import Clock
from edge.driver.timeouts import check_at_s
from edge.errors import DeviceRefused, DeviceUnreachable, ErrorCode, TidegateError, copied, ended, unreachable

_VENDOR = 0x5447  # Assigned to no vendor.
_LARGE_FROM_BYTES = 512
_INTERVAL_S_MIN = 2
_INTERVALS_PER_SCAN = 8  # The device waits 32 intervals: four scans.
_INTERVAL_S_MAX = 4000
_CONNECTION_FAILURE = 0x01
_UNREACHABLE = (0x0204, 0x0312)
_FOR_ANY_SIZE = (0x0106, 0x0113, 0x0118, 0x0301)
"""Refusals that a smaller connection would get too; modules on the route refuse large ones with many other codes."""
_WRONG_ROUTE = (0x0117, 0x0205, 0x0311, 0x0315)
"""Refusals that an unconnected message would get too."""
_OCCUPIED = (0x0100, 0x0106, 0x0113, 0x0118, 0x011A, 0x0301)
_WRONG_SIZE = 0x0109
_CONNECTION_BYTES_MIN = 100
_NO_CONNECTION = 0
_WHY = {
    0x0100: "the connection is in use", 0x0103: "it does not know the transport class",
    0x0106: "another has the only connection of this kind (ownership conflict)",
    0x0107: "it does not know the connection", 0x0108: "it does not take the type of the connection",
    0x0109: "it does not take the size of the connection", 0x0110: "it is not configured",
    0x0111: "it does not take the interval", 0x0112: "it does not take the interval",
    0x0113: "it has no connection left; close another client's, or raise its limit",
    0x0117: "there is no such object at the end of the route",
    0x0118: "it has no connection left for this kind of client",
    0x011A: "its object has no connection left; close another client's, or raise its limit",
    0x0127: "it does not take the size of our messages", 0x0128: "it does not take the size of its answers",
    0x0203: "the connection timed out", 0x0204: "nothing answers at the end of the route; is the slot right?",
    0x0205: "the route is wrong", 0x0206: "the message is too large for the route", 0x0301: "it has no memory left",
    0x0302: "its network has no bandwidth left", 0x0311: "there is no such port on the route",
    0x0312: "there is no such slot or node on the route; is the slot right?",
    0x0315: "it does not understand the route", 0x0316: "it closes no connection on this route",
    0x0318: "the route leads back to where it comes from",
}  # fmt: skip


def _code_of_refusal(extended: int | None) -> ErrorCode:
    if extended in _OCCUPIED:
        return ErrorCode.DEVICE_OCCUPIED
    return ErrorCode.DEVICE_BEHIND_GATEWAY if extended in _WRONG_ROUTE else ErrorCode.DEVICE_REFUSED


_serials = itertools.count(secrets.randbits(16))


class RequestBatch:
    """Requests of one kind that are sent one after the other, and their answers."""

    __slots__ = ("answered_at_ns", "answers", "asked_at_ns", "done", "messages", "request")

    def __init__(self, messages: Sequence[Sendable], request: Request = Request.QUESTION) -> None:
        """A request without a message, such as REGISTER, has no messages and one answer."""
        self.messages = messages
        self.request = request
        self.answers: list[bytes] = []
        self.asked_at_ns = 0
        self.answered_at_ns = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Connection(asyncio.BufferedProtocol):
    """The TCP connection to one device: sends one request at a time, and limits how long its answer may take.

    Which bytes are sent and which are the answer is decided by `EncapsulationClient`.
    """

    def __init__(self, name: str, clock: Clock, *, timeout_s: float, gap_s: float = 0) -> None:
        self.name = name
        self.client = EncapsulationClient(name, first_context=clock.boot_ns())
        self._clock, self._timeout_s, self._gap_s = clock, timeout_s, gap_s
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._batch: RequestBatch | None = None
        self._deadline_s = self._free_at_s = 0.0
        self._watchdog: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._why_lost: TidegateError | None = None
        self._closed = self._loop.create_future()

    @property
    def is_lost(self) -> bool:
        """Whether no more requests are possible."""
        return self._why_lost is not None

    async def run(self, batch: RequestBatch) -> None:
        """Send every request of a batch, each once the one before is answered.

        Raises:
            DeviceRefused: the device gives no session.
            DeviceUnreachable: the device is silent, or the connection is lost.
            ProtocolViolation: the device sent what cannot be the answer.
        """
        async with self._turn:
            if self._why_lost is not None:
                raise self._lost()
            self._batch = batch
            batch.asked_at_ns = self._clock.boot_ns()
            self._send_next()
            try:
                await batch.done
            finally:
                self._batch = None
                self.client.give_up()

    async def ask(self, request: Request, *messages: Sendable) -> bytes:
        """The answer to one request. Raises as `run`."""
        batch = RequestBatch(messages, request)
        await self.run(batch)
        return batch.answers[0]

    async def close(self) -> None:
        """Give the session back and close the connection, and wait until it is closed."""
        if self._why_lost is None:
            if unregister := self.client.close():
                self._transport.write(unregister)
            self._transport.close()
            self._end(DeviceUnreachable(f"{self.name}: the connection was closed by us"))
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.shield(self._closed)
        except TimeoutError:
            pass  # The device accepts no more bytes.
        finally:
            self._transport.abort()
        await asyncio.shield(self._closed)

    def drop(self, why: TidegateError) -> None:
        """End the connection now; a pending request raises `why`."""
        if self._why_lost is None:
            self._transport.abort()
            self._end(why)

    def _send_next(self) -> None:
        """Send the next request of the batch, after the pause if one is due."""
        batch, now_s = self._batch, self._loop.time()
        if batch is None or self._why_lost is not None:
            return
        self._deadline_s = max(now_s, self._free_at_s) + self._timeout_s
        if self._watchdog is None:
            self._check_at_deadline()
        if self._pause is not None:
            return
        if now_s < self._free_at_s:
            self._pause = self._loop.call_at(self._free_at_s, self._after_pause)
            return
        message = batch.messages[len(batch.answers)] if batch.messages else None
        self._transport.write(self.client.request(batch.request, message))

    def _after_pause(self) -> None:
        self._pause = None
        self._send_next()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's does not inherit from it.

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        if self._why_lost is None:
            self._end(ended(self.name, exc, has_answered=self.client.state is not State.UNREGISTERED))
        if not self._closed.done():
            self._closed.set_result(None)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """See `asyncio.BufferedProtocol`."""
        return self.client.free_space()

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        event = self.client.next_event(nbytes)
        while event is not None:
            if isinstance(event, bytes):
                self._on_answer(event)
            else:
                self.drop(event)
            event = self.client.next_event()

    def _on_answer(self, data: bytes) -> None:
        batch = self._batch
        if batch is None or batch.done.done():
            return  # Cancelled, and not cleaned up yet.
        batch.answers.append(data)
        if self._gap_s:
            self._free_at_s = self._loop.time() + self._gap_s
        if len(batch.answers) < len(batch.messages):
            self._send_next()
        else:
            self.client.late_frames = 0
            batch.answered_at_ns = self._clock.boot_ns()
            batch.done.set_result(None)

    def _check_deadline(self) -> None:
        """Drop the connection if an answer is overdue; one timer serves all requests, and stops with the last."""
        self._watchdog = None
        if self._batch is None or self._batch.done.done() or self._why_lost is not None:
            return
        if self._loop.time() >= self._deadline_s:
            # No more requests on this connection: a late answer could pass for the next one.
            why = f"{self.name} did not answer within {self._timeout_s:g} s"
            self.drop(DeviceUnreachable(why, code=ErrorCode.DEVICE_SILENT))
        else:
            self._check_at_deadline()

    def _check_at_deadline(self) -> None:
        at_s = check_at_s(self._deadline_s, self._timeout_s)
        self._watchdog = self._loop.call_at(at_s, self._check_deadline)

    def _lost(self) -> TidegateError:
        why = self._why_lost
        return DeviceUnreachable(f"{self.name} is not connected") if why is None else copied(why)

    def _end(self, why: TidegateError) -> None:
        self._why_lost = why
        self.client.close()
        for timer in (self._watchdog, self._pause):
            if timer is not None:
                timer.cancel()
        self._watchdog = self._pause = None
        if self._batch is not None and not self._batch.done.done():
            self._batch.done.set_exception(self._lost())


class CipSession:
    """One conversation with a device: encapsulation session, CIP connection where it grants one, and the route.

    Attributes:
        message_bytes: most bytes of a message, sequence count included.
        connection: what carries it, from the first attempt to open it on.
        notes: what the device refused on the way, as sentences; the reader takes them.
    """

    connection: Connection

    def __init__(self, device: EtherNetIpDevice, clock: Clock) -> None:
        self.notes: list[str] = []
        self._device, self._clock = device, clock
        self._route = cip.route_path(device.parsed_route)
        self._forward_open: ForwardOpen | None = None
        wanted = device.connection_bytes
        sizes = [wanted, cip.UNCONNECTED_BYTES] if wanted >= _LARGE_FROM_BYTES else [min(wanted, 511)]
        if not device.is_connected:
            sizes = [_NO_CONNECTION]
        elif device.messaging is None:
            sizes.append(_NO_CONNECTION)
        self._sizes = sizes

    def routed(self, question: Question) -> Sendable:
        """A question as it is sent: with its route, unless it travels on a connection, which knows the route."""
        if not self._route or self.connection.client.state is State.CONNECTED:
            return question
        return Routed.through(question, self._route)

    async def ask(self, question: Question) -> bytes:
        """The answer to one question. Raises as `run`."""
        batch = RequestBatch((self.routed(question),))
        await self.run(batch)
        return batch.answers[0]

    async def run(self, batch: RequestBatch) -> None:
        """Send every question of a batch. Raises as `Connection.run`, also where the route is interrupted."""
        await self.connection.run(batch)
        for message, body in zip(batch.messages, batch.answers, strict=True):
            if isinstance(message, Routed) and message.is_lost(body):
                why = _refusal_text(reply_of(body, cip.UNCONNECTED_SEND))
                text = f"{self.connection.name} cannot reach the device on the route: {why}"
                raise DeviceUnreachable(text, code=ErrorCode.DEVICE_BEHIND_GATEWAY)

    async def reopen(self) -> None:
        """Open another session in place of the one that was lost. Raises as `opened`."""
        await self.connection.close()
        await self.open()

    async def open(self) -> None:
        """Open a session, and a connection as large as the device accepts; without one where it accepts none.

        Raises:
            DeviceRefused: it gives no session, or no connection.
            DeviceUnreachable: it does not answer.
        """
        device, limit_s = self._device, self._device.limits.connect_timeout / 1e9
        try:
            async with asyncio.timeout(limit_s):
                while not await self._open_once():
                    await self.connection.close()
        except TimeoutError as error:
            why = f"{device.host}:{device.port} opened no session within {limit_s:g} s"
            raise DeviceUnreachable(why, code=ErrorCode.DEVICE_SILENT) from error

    async def _open_once(self) -> bool:
        """Open a session; False where the device ended it at the request for a connection, and others are possible."""
        device, limits = self._device, self._device.limits
        self._forward_open, self.message_bytes = None, Routed.question_bytes(self._route)
        self.connection = await connect(
            device.host, device.port, self._clock, timeout_s=limits.timeout / 1e9, gap_s=limits.gap / 1e9
        )
        await self.connection.ask(Request.REGISTER)
        reply = Reply(NOT_SUPPORTED, None, 0, 0)
        while (size := self._sizes[0]) != _NO_CONNECTION:
            try:
                reply = await self._open_connection(size)
            except DeviceUnreachable as error:
                if len(self._sizes) == 1:
                    raise
                self._refuse(size, str(error))
                return False
            if reply.status == SUCCESS:
                return True
            text = f"{self.connection.name} refused a connection: {_refusal_text(reply)}"
            if reply.extended in _UNREACHABLE:
                raise DeviceUnreachable(text + await self._hint(), code=ErrorCode.DEVICE_BEHIND_GATEWAY)
            if reply.status == _CONNECTION_FAILURE and reply.extended in _FOR_ANY_SIZE:
                self._sizes = [size, *(one for one in self._sizes if one == _NO_CONNECTION)]
            others = [one for one in self._sizes[1:] if one != _NO_CONNECTION or reply.extended not in _WRONG_ROUTE]
            if not others:
                raise DeviceRefused(text + await self._hint(), code=_code_of_refusal(reply.extended))
            self._refuse(size, "" if reply.status == NOT_SUPPORTED else _refusal_text(reply))
        return True

    async def _hint(self) -> str:
        """Which family to write, where the device that refuses a route is of another one."""
        with suppress(TidegateError):
            body = await self.connection.ask(Request.QUESTION, cip.get_all(cip.IDENTITY, 1))
            found = identity_object_in(body)
            if self._device.family == "logix" and found is not None and found.family != "logix":
                return f"; it is {found.product}, which has no slots: write family: {found.family}"
        return ""

    def _refuse(self, size: int, why: str) -> None:
        """Do not ask for a connection of this size again; `why` is told where that leaves none."""
        self._sizes.remove(size)
        if self._sizes == [_NO_CONNECTION] and why:
            self.notes.append(f"{self.connection.name} gives no connection and is read without one: {why}")

    async def close(self) -> None:
        """Give everything back, as far as the device still answers."""
        forward_open, self._forward_open = self._forward_open, None
        try:
            if forward_open is not None and not self.connection.is_lost:
                with suppress(TidegateError):  # Its own time limit closes it.
                    await self.connection.ask(Request.FORWARD_CLOSE, forward_open.close_request())
        finally:
            await self.connection.close()

    async def _open_connection(self, size: int) -> Reply:
        longest_s = max(group.every for group in self._device.scan_groups) / 1e9
        interval_s = min(max(_INTERVAL_S_MIN, longest_s / _INTERVALS_PER_SCAN), _INTERVAL_S_MAX)
        forward_open = ForwardOpen(
            target_id=secrets.randbits(31) | 1, serial=next(_serials) & 0xFFFF, vendor=_VENDOR,
            originator=secrets.randbits(32), route=self._route, size=size, interval_us=int(interval_s * 1e6),
        )  # fmt: skip
        body = await self.connection.ask(Request.FORWARD_OPEN, forward_open.open_request())
        reply = self.connection.client.open_connection(forward_open, body)
        if reply.status == SUCCESS:
            self._forward_open, self.message_bytes = forward_open, size
        elif reply.extended == _WRONG_SIZE and reply.start > 6:
            most = int.from_bytes(body[6:8], "little")  # CIP Vol 1, 3-5.6: the largest that is supported.
            if _CONNECTION_BYTES_MIN <= most < size:
                self._sizes.insert(1, most)
        return reply


def _refusal_text(reply: Reply) -> str:
    return _WHY.get(reply.extended or 0) or status_text(reply.status, reply.extended)


async def connect(host: str, port: int, clock: Clock, *, timeout_s: float, gap_s: float = 0) -> Connection:
    """A TCP connection, without a session.

    Raises:
        DeviceUnreachable: nothing answers there.
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
async def opened(device: EtherNetIpDevice, clock: Clock) -> AsyncIterator[CipSession]:
    """An open session with a device, closed however the block ends.

    Raises:
        DeviceUnreachable: nothing answers there.
        DeviceRefused: the device gives no session, or no connection.
    """
    session = CipSession(device, clock)
    try:
        await session.open()
        yield session
    finally:
        if hasattr(session, "connection"):
            await session.close()
