"""The connections to one endpoint, a host and port or a serial line: its units share them, and the strictest limits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from drivers.modbus.connect import Connector
from drivers.modbus.framing import Ascii, Framing, Rtu, TolerantTcp, line_timing
from drivers.modbus.late_answers import OutstandingRequests
from drivers.modbus.serial_line import LineMaster, SerialLine
from drivers.modbus.settings import ModbusDevice, ModbusLimits
from drivers.modbus.tcp import TcpTransport, TransactionIds, TransactionMatcher
from drivers.modbus.transport import RequestBatch, Transport
from edge.clock import Clock
from edge.errors import DeviceUnreachable, ErrorCode, ProtocolViolation, TidegateError
from edge.tls import Certificate

_RETRY_SHARE = 10  # Silent units together get a tenth of the time of the others.
_FRAMINGS: dict[str, type[Framing]] = {"rtu": Rtu, "ascii": Ascii}


class ConnectionPool:
    """The connections to one endpoint. What `first`, the first device there, says about the endpoint holds for all."""

    def __init__(self, connector: Connector, first: ModbusDevice, clock: Clock) -> None:
        self.name, self.first = connector.name, first
        self._connector, self.clock = connector, clock
        self._limits = first.limits
        self._units: dict[int, ModbusLimits] = {}
        self._outstanding = OutstandingRequests(self._units)
        self._connections: list[PooledConnection] = []

    def restrict(self, unit: int, limits: ModbusLimits) -> None:
        """Respect one more device's limits, from the next connection on."""
        self._limits = _strictest(self._limits, limits)
        self._units[unit] = _strictest(self._units.get(unit, limits), limits)

    @property
    def certificates(self) -> Sequence[Certificate]:
        """Those that the connections depend on, as far as known."""
        return self._connector.certificates

    @asynccontextmanager
    async def join(self, unit: int) -> AsyncIterator[tuple[PooledConnection, SessionTransport]]:
        """A connection for one unit, shared with others, and its transport; it is closed when the last unit leaves.

        Raises:
            DeviceUnreachable: there is no answer, or it is too early to ask a silent unit again.
            DeviceRefused: the device, or this machine, does not let us connect.
        """
        async with self._connector.in_use():
            connection = self._least_used()
            connection.units[unit] += 1
            try:
                connection.check_retry(unit)
                yield connection, SessionTransport(connection, await connection.open())
            finally:
                connection.units[unit] -= 1
                if not connection.units.total():
                    self._connections.remove(connection)
                    await connection.close()

    @property
    def connect_delay_s(self) -> float:
        """How long a new connection is left alone."""
        return self._limits.connect_delay / 1e9

    async def connect(self, ids: TransactionIds) -> Transport:
        """A new transport, within the limits."""
        timeout_s = self._limits.connect_timeout / 1e9
        if self.first.effective_framing == "tcp" and not self.first.tolerate:
            return await self._connector.open(lambda: self._tcp_transport(ids), timeout_s)
        return await self._connector.open(self._serial_line, timeout_s)

    def _tcp_transport(self, ids: TransactionIds) -> TcpTransport:
        has_modem, in_flight = self.first.listen is not None, self._limits.in_flight
        matcher = TransactionMatcher(self.name, ids, has_modem=has_modem, in_flight=in_flight)
        gap_s, timeout_s = self._limits.gap / 1e9, self._limits.timeout / 1e9
        return TcpTransport(self.name, self.clock, matcher, in_flight=in_flight, gap_s=gap_s, check_every_s=timeout_s)

    def _serial_line(self) -> SerialLine:
        is_tolerant, timing = bool(self.first.tolerate), line_timing(self.first)
        framing = TolerantTcp(self.first.tolerate) if is_tolerant else _FRAMINGS[self.first.effective_framing]()
        return SerialLine(self.name, self.clock, LineMaster(self.name, framing, timing, self._outstanding))

    def _least_used(self) -> PooledConnection:
        if len(self._connections) < self._limits.connections:
            self._connections.append(PooledConnection(self, TransactionIds(self.clock.boot_ns() // 1000)))
        return min(self._connections, key=lambda connection: connection.units.total())


class PooledConnection:
    """One connection of a pool, opened again as often as needed.

    Attributes:
        units: how many sessions of each unit use it.
    """

    def __init__(self, pool: ConnectionPool, ids: TransactionIds) -> None:
        self.units: Counter[int] = Counter()
        self.clock = pool.clock
        self._pool, self._ids = pool, ids
        self._lock = asyncio.Lock()
        self._transport: Transport | None = None
        self._has_answered = False
        self._quiet_until_s = 0.0
        self._silent_since_answer: set[int] = set()
        self._silent: set[int] = set()
        self._retry_at_s = 0.0

    async def open(self) -> Transport:
        """The transport, which is not lost; a new one is left alone for a while where the device wants that."""
        async with self._lock:
            if self._transport is not None and self._transport.is_lost:
                await self.close()  # A device with room for one client must see the old connection closed first.
            now_s = asyncio.get_running_loop().time
            if self._transport is None:
                self._transport = await self._pool.connect(self._ids)
                self._quiet_until_s = now_s() + self._pool.connect_delay_s
                self._silent_since_answer.clear()
            if (wait_s := self._quiet_until_s - now_s()) > 0:
                await asyncio.sleep(wait_s)
            return self._transport

    async def close(self) -> None:
        """Close the transport, if there is one."""
        transport, self._transport = self._transport, None
        if transport is not None:
            self._has_answered |= transport.has_answered
            await transport.close()

    def mark_answered(self, unit: int) -> None:
        """Note that a unit answered: the connection works."""
        if self._silent_since_answer:
            self._silent_since_answer.clear()
        if self._silent and unit in self._silent:
            self._silent.remove(unit)
            self._retry_at_s = 0.0  # What silenced it may be over for the others too.

    def mark_silent(self, unit: int, timeout_s: float) -> None:
        """Note that a unit did not answer."""
        self._silent.add(unit)
        self._retry_at_s = asyncio.get_running_loop().time() + _RETRY_SHARE * timeout_s
        self._silent_since_answer.add(unit)

    def is_silent(self, unit: int) -> bool:
        """Whether a unit did not answer when it was asked last."""
        return unit in self._silent

    def hint(self, unit: int) -> str:
        """What may help where the device takes connections, or has the line, and never answered; else empty."""
        has_answered = self._has_answered or (self._transport is not None and self._transport.has_answered)
        if has_answered:
            return ""
        if self._pool.first.serial is not None:
            return (
                f"nothing was heard on this line yet: is unit {unit} right, are speed and parity those of the device, "
                "and are its two wires the right way round?"
            )
        return (
            f"it takes the connection and has never answered: is unit {unit} right, or does it want to be left alone "
            "after the connect? then say limits.connect_delay: 5 s"
        )

    @property
    def is_dead(self) -> bool:
        """Whether every unit that uses the connection was silent since the last answer on it."""
        return self._silent_since_answer >= self._present

    def check_retry(self, unit: int) -> None:
        """Raise DeviceUnreachable while asking a silent unit would take too much of the others' time."""
        wait_s = self._retry_at_s - asyncio.get_running_loop().time()
        if unit in self._silent and wait_s > 0 and not self._silent >= self._present:
            late = self._transport.late.get(unit, "") if self._transport is not None else ""
            raise DeviceUnreachable(
                f"{self._pool.name}: unit {unit} did not answer; it is asked again in {wait_s:.1f} s, to leave the "
                "line to the others" + (f"; {late}" if late else ""),
                code=ErrorCode.DEVICE_SILENT,
            )

    @property
    def _present(self) -> set[int]:
        return {unit for unit, users in self.units.items() if users}


class SessionTransport:
    """The transport of one session. A device that closes its connections when they are idle, or after a few answers, is
    no outage: what is unanswered is asked on a new connection, once.

    Attributes:
        is_doubtful: the device was asked what may have made it deaf on this connection, and has answered nothing since.
    """

    def __init__(self, connection: PooledConnection, transport: Transport) -> None:
        self.is_doubtful = False
        self._connection, self._transport = connection, transport
        self._renewed_at_ns = 0
        self._is_renewed = asyncio.Event()

    @property
    def late(self) -> dict[int, str]:
        """See `Transport.late`."""
        return self._transport.late

    def tells_apart(self, unit: int) -> bool:
        """See `Transport.tells_apart`."""
        return self._transport.tells_apart(unit)

    def drop(self, why: TidegateError) -> None:
        """See `Transport.drop`."""
        self._transport.drop(why)

    async def forgive(self, violation: str) -> None:
        """Report what happened; where it cost the connection, use a new one."""
        self._transport.may_renew = True
        if self._transport.is_lost:
            await self._renew()
        self._transport.report_violation(violation)

    async def reconnected(self, since_ns: int) -> int:
        """See `edge.driver.Reconnecting.reconnected`."""
        while self._renewed_at_ns <= since_ns:
            self._is_renewed.clear()
            await self._is_renewed.wait()
        return self._renewed_at_ns

    async def transact(self, batch: RequestBatch) -> None:
        """See `Transport.transact`."""
        is_asked_again = False
        while True:
            if self._transport.is_lost and self._transport.may_renew:
                await self._renew()
            remaining = batch.remaining
            try:
                await self._transport.transact(batch)
            except (DeviceUnreachable, ProtocolViolation):
                if not self._transport.may_renew or (is_asked_again and batch.remaining == remaining):
                    raise
            else:
                if not self.is_doubtful:
                    return
                self.is_doubtful = False
                if not batch.is_unanswered:
                    return
                batch.begin_again()
                self._transport.may_renew = True
                self._transport.drop(DeviceUnreachable("the device is deaf after it was asked what it is"))
            is_asked_again = True

    async def _renew(self) -> None:
        self._transport = await self._connection.open()
        self._renewed_at_ns = self._connection.clock.boot_ns()
        self._is_renewed.set()


def _strictest(one: ModbusLimits, other: ModbusLimits) -> ModbusLimits:
    gap = max(one.gap, other.gap)
    return replace(
        one,
        registers=min(one.registers, other.registers),
        bits=min(one.bits, other.bits),
        hole=min(one.hole, other.hole),
        forbidden=tuple(dict.fromkeys((*one.forbidden, *other.forbidden))),
        gap=gap,
        in_flight=1 if gap else min(one.in_flight, other.in_flight),
        connections=min(one.connections, other.connections),
        timeout=min(one.timeout, other.timeout),
        connect_timeout=max(one.connect_timeout, other.connect_timeout),
        connect_delay=max(one.connect_delay, other.connect_delay),
        retry_refused=max(one.retry_refused, other.retry_refused),
    )
