"""Everything behind one host and port or on one serial line: its units share connections and the strictest limits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from drivers.modbus.framing import Ascii, Framing, Rtu, pace_of
from drivers.modbus.late_answers import OpenQuestions
from drivers.modbus.serial_line import Bus
from drivers.modbus.settings import ModbusDevice, ModbusLimits
from drivers.modbus.tcp import Connection, TransactionIds
from drivers.modbus.transport import Conversation, ConversationT
from edge.clock import Clock
from edge.errors import DeviceUnreachable
from edge.tls import Certificate

_PROBE_SHARE = 10  # Silent units together get a tenth of the time of the others.
_FRAMINGS: dict[str, type[Framing]] = {"rtu": Rtu, "ascii": Ascii}


class Way(Protocol):
    """How a connection comes about.

    Attributes:
        certificates: what the last one depended on, or the last attempt.
    """

    name: str
    certificates: tuple[Certificate, ...]

    def used(self) -> AbstractAsyncContextManager[None]:
        """For as long as a connection may be wanted."""
        ...

    async def open(self, make: Callable[[], ConversationT], timeout_s: float) -> ConversationT:
        """A new connection for the conversation that `make` makes.

        Raises:
            DeviceUnreachable: nobody is there.
            DeviceRefused: somebody is, and will not have us.
        """
        ...


class Link:
    """One place. `first` is the device that named it first: what it says about the place holds for all."""

    def __init__(self, way: Way, first: ModbusDevice, clock: Clock) -> None:
        self.name, self.first = way.name, first
        self._way, self._clock = way, clock
        self._limits = first.limits
        self._units: dict[int, ModbusLimits] = {}
        self._open_questions = OpenQuestions(self._units)
        self._lines: list[Line] = []

    def restrict(self, unit: int, limits: ModbusLimits) -> None:
        """Respect one more device's limits, from the next connection on."""
        self._limits = _strictest(self._limits, limits)
        self._units[unit] = _strictest(self._units.get(unit, limits), limits)

    @property
    def certificates(self) -> Sequence[Certificate]:
        """Those that its connections depend on, as far as known."""
        return self._way.certificates

    @asynccontextmanager
    async def join(self, unit: int) -> AsyncIterator[Line]:
        """A connection for one unit, shared with the others; the last to leave closes it.

        Raises:
            DeviceUnreachable: nobody answers there, or it is too early to ask a silent unit again.
            DeviceRefused: somebody is there, and will not talk to us.
        """
        async with self._way.used():
            line = self._least_used()
            line.units[unit] += 1
            try:
                line.spare_others(unit)
                await line.open()
                yield line
            finally:
                line.units[unit] -= 1
                if not line.units.total():
                    self._lines.remove(line)
                    await line.close()

    async def connect(self, ids: TransactionIds) -> Conversation:
        """A new connection, within the limits."""
        timeout_s = self._limits.connect_timeout / 1e9
        if self.first.way == "tcp":
            return await self._way.open(lambda: self._connection(ids), timeout_s)
        return await self._way.open(self._bus, timeout_s)

    def _connection(self, ids: TransactionIds) -> Connection:
        limits = self._limits
        return Connection(
            self.name,
            self._clock,
            ids,
            in_flight=limits.in_flight,
            gap_s=limits.gap / 1e9,
            look_every_s=limits.timeout / 1e9,
            has_modem=self.first.listen is not None,
        )

    def _bus(self) -> Bus:
        framing = _FRAMINGS[self.first.way]()
        return Bus(self.name, self._clock, framing, pace_of(self.first), self._units, self._open_questions)

    def _least_used(self) -> Line:
        if len(self._lines) < self._limits.connections:
            self._lines.append(Line(self, TransactionIds(self._clock.boot_ns() // 1000)))
        return min(self._lines, key=lambda line: line.units.total())


class Line:
    """One connection of a link, opened again as often as needed, and the units that use it."""

    def __init__(self, link: Link, ids: TransactionIds) -> None:
        self.units: Counter[int] = Counter()
        self._link, self._ids = link, ids
        self._lock = asyncio.Lock()
        self._conversation: Conversation | None = None
        self._silent_since_heard: set[int] = set()
        self._silent: set[int] = set()
        self._probe_at_s = 0.0

    @property
    def conversation(self) -> Conversation:
        """The connection, as of now."""
        assert self._conversation is not None
        return self._conversation

    async def open(self) -> None:
        """Make sure that there is a connection which is not lost."""
        async with self._lock:
            if self._conversation is not None and self._conversation.is_lost:
                await self.close()  # A device with room for one client must see the old one go first.
            if self._conversation is None:
                self._conversation = await self._link.connect(self._ids)
                self._silent_since_heard.clear()

    async def close(self) -> None:
        """Close the connection, if there is one."""
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            await conversation.close()

    def heard(self, unit: int) -> None:
        """Note that a unit answered: the connection works."""
        if self._silent_since_heard:
            self._silent_since_heard.clear()
        if self._silent and unit in self._silent:
            self._silent.remove(unit)
            self._probe_at_s = 0.0  # Whatever silenced it may be over for the others too.

    def is_silent(self, unit: int) -> bool:
        """Whether a unit did not answer when it was asked last."""
        return unit in self._silent

    def is_dead_without(self, unit: int, timeout_s: float) -> bool:
        """Note that a unit did not answer; whether none of the others did since: then the connection is dead."""
        self._silent.add(unit)
        self._probe_at_s = asyncio.get_running_loop().time() + _PROBE_SHARE * timeout_s
        self._silent_since_heard.add(unit)
        return self._silent_since_heard >= self._present

    def spare_others(self, unit: int) -> None:
        """Raise DeviceUnreachable while asking a silent unit would take too much of the others' time."""
        wait_s = self._probe_at_s - asyncio.get_running_loop().time()
        if unit in self._silent and wait_s > 0 and not self._silent >= self._present:
            raise DeviceUnreachable(
                f"{self._link.name}: unit {unit} did not answer; it is asked again in {wait_s:.1f} s, to leave the "
                "line to the others"
            )

    @property
    def _present(self) -> set[int]:
        return {unit for unit, users in self.units.items() if users}


def _strictest(one: ModbusLimits, other: ModbusLimits) -> ModbusLimits:
    gap = max(one.gap, other.gap)
    return one.model_copy(
        update={
            "registers": min(one.registers, other.registers),
            "bits": min(one.bits, other.bits),
            "hole": min(one.hole, other.hole),
            "forbidden": tuple(dict.fromkeys((*one.forbidden, *other.forbidden))),
            "forbidden_ranges": tuple(dict.fromkeys((*one.forbidden_ranges, *other.forbidden_ranges))),  # Cached.
            "gap": gap,
            "in_flight": 1 if gap else min(one.in_flight, other.in_flight),
            "connections": min(one.connections, other.connections),
            "timeout": min(one.timeout, other.timeout),
            "connect_timeout": max(one.connect_timeout, other.connect_timeout),
            "retry_refused": max(one.retry_refused, other.retry_refused),
        }
    )
