"""The Modbus TCP driver: what the gateway asks for by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from drivers.modbus.link import Link
from drivers.modbus.plan import ModbusPlan
from drivers.modbus.session import ModbusSession, PlanMemory
from drivers.modbus.settings import ModbusDevice, ModbusTag
from edge.clock import Clock
from edge.driver import DeviceSettings


class ModbusDriver:
    """One unit; see `edge.driver.Driver`."""

    def __init__(self, device: ModbusDevice, link: Link, clock: Clock) -> None:
        self._device, self._link, self._clock = device, link, clock
        self._memories: dict[ModbusPlan, PlanMemory] = {}

    def plan(self, tags: Sequence[ModbusTag]) -> ModbusPlan:
        """See `edge.driver.Driver.plan`. Raises ValueError where a tag does not fit the device's limits."""
        return ModbusPlan(tags, self._device)

    def connect(self) -> AbstractAsyncContextManager[ModbusSession]:
        """See `edge.driver.Driver.connect`."""
        return self._connected()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[ModbusSession]:
        async with self._link.join(self._device.unit) as line:
            yield ModbusSession(line, self._device, self._clock, self._memories)


class ModbusKind:
    """Modbus TCP; see `edge.driver.DriverKind`."""

    def __init__(self) -> None:
        self._links: dict[tuple[str, int], Link] = {}

    @property
    def settings(self) -> type[DeviceSettings]:
        """See `edge.driver.DriverKind.settings`."""
        return ModbusDevice

    def driver(self, device: ModbusDevice, clock: Clock) -> ModbusDriver:
        """See `edge.driver.DriverKind.driver`."""
        where = device.host, device.port
        link = self._links.setdefault(where, Link(*where, clock))
        link.restrict(device.limits)
        return ModbusDriver(device, link, clock)
