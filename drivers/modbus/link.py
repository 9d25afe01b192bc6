"""Everything behind one host and port: units share its connections and the strictest of their limits."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from drivers.modbus.connection import Connection
from drivers.modbus.settings import ModbusLimits
from drivers.modbus.transactions import TransactionIds
from edge.clock import Clock
from edge.errors import DeviceUnreachable


class Link:
    """One host and port."""

    def __init__(self, host: str, port: int, clock: Clock) -> None:
        self.name = f"{host}:{port}"
        self._host, self._port, self._clock = host, port, clock
        self._limits: ModbusLimits | None = None
        self._lines: list[Line] = []

    def restrict(self, limits: ModbusLimits) -> None:
        """Respect one more device's limits, from the next connection on."""
        known = self._limits or limits
        gap = max(known.gap, limits.gap)
        self._limits = known.model_copy(
            update={
                "gap": gap,
                "in_flight": 1 if gap else min(known.in_flight, limits.in_flight),
                "connections": min(known.connections, limits.connections),
                "timeout": min(known.timeout, limits.timeout),
                "connect_timeout": max(known.connect_timeout, limits.connect_timeout),
            }
        )

    @asynccontextmanager
    async def join(self, unit: int) -> AsyncIterator[Line]:
        """A connection for one unit, shared with the others; the last to leave closes it.

        Raises:
            DeviceUnreachable: nobody answers there.
        """
        line = self._least_used()
        line.units[unit] += 1
        try:
            await line.open()
            yield line
        finally:
            line.units[unit] -= 1
            if not line.units.total():
                self._lines.remove(line)
                await line.close()

    async def connect(self, ids: TransactionIds) -> Connection:
        """A new connection, within the limits."""
        assert self._limits is not None
        limits = self._limits
        try:
            async with asyncio.timeout(limits.connect_timeout / 1e9):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(
                        self.name,
                        self._clock,
                        ids,
                        in_flight=limits.in_flight,
                        gap_s=limits.gap / 1e9,
                        look_every_s=limits.timeout / 1e9,
                    ),
                    self._host,
                    self._port,
                )
        except TimeoutError as error:
            raise DeviceUnreachable(
                f"{self.name} did not accept a connection within {limits.connect_timeout / 1e9:g} s"
            ) from error
        except OSError as error:
            raise DeviceUnreachable(f"{self.name} cannot be reached: {_reason(error)}") from error
        return connection

    def _least_used(self) -> Line:
        assert self._limits is not None
        if len(self._lines) < self._limits.connections:
            self._lines.append(Line(self, TransactionIds(self._clock.boot_ns() // 1000)))
        return min(self._lines, key=lambda line: line.units.total())


class Line:
    """One connection of a link, opened again as often as needed, and the units that use it."""

    def __init__(self, link: Link, ids: TransactionIds) -> None:
        self.units: Counter[int] = Counter()
        self._link, self._ids = link, ids
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None
        self._silent: set[int] = set()

    @property
    def connection(self) -> Connection:
        """The connection, as of now."""
        assert self._connection is not None
        return self._connection

    async def open(self) -> None:
        """Make sure that there is a connection which is not lost."""
        async with self._lock:
            if self._connection is not None and self._connection.is_lost:
                await self.close()  # A device with room for one client must see the old one go first.
            if self._connection is None:
                self._connection = await self._link.connect(self._ids)
                self._silent.clear()

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def heard(self) -> None:
        """Note that somebody answered: the connection works."""
        if self._silent:
            self._silent.clear()

    def is_dead_without(self, unit: int) -> bool:
        """Note that a unit did not answer; whether none of the others did since: then the connection is dead."""
        self._silent.add(unit)
        return self._silent >= {unit for unit, users in self.units.items() if users}


def _reason(error: OSError) -> str:
    # asyncio calls every refusal "Connect call failed"; the kernel's number says which. Names that are not found have
    # numbers below 0, and words of their own.
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror or str(error)
