"""The Modbus driver: what the gateway asks for by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from drivers.modbus.dial_in import DialIn, Listener
from drivers.modbus.host import Host
from drivers.modbus.link import Link, Way
from drivers.modbus.plan import ModbusPlan
from drivers.modbus.serial_port import SerialLine
from drivers.modbus.session import ModbusSession, PlanMemory
from drivers.modbus.settings import ModbusDevice, ModbusTag
from edge.clock import Clock
from edge.driver import DeviceSettings, Discovered
from edge.errors import ConfigError
from edge.tls import Certificate

_DATA_BITS = {"rtu": 8, "ascii": 7}


class ModbusDriver:
    """One unit; see `edge.driver.Driver` and `Certified`."""

    def __init__(self, device: ModbusDevice, link: Link, clock: Clock) -> None:
        self._device, self._link, self._clock = device, link, clock
        self._memories: dict[ModbusPlan, PlanMemory] = {}

    def plan(self, tags: Sequence[ModbusTag]) -> ModbusPlan:
        """See `edge.driver.Driver.plan`."""
        first = self._link.first
        if difference := self._device.differs_from(first):
            raise ConfigError(
                f"{self._link.name} is shared with {first.name}, which says otherwise: {difference}; "
                "say the same in both, or name another place"
            )
        return ModbusPlan(tags, self._device)

    def connect(self) -> AbstractAsyncContextManager[ModbusSession]:
        """See `edge.driver.Driver.connect`."""
        return self._connected()

    def certificates(self) -> Sequence[Certificate]:
        """See `edge.driver.Certified.certificates`: those of the last connection, opened or refused."""
        return self._link.certificates

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[ModbusSession]:
        async with self._link.join(self._device.unit) as line:
            session = ModbusSession(line, self._device, self._clock, self._memories)
            if line.is_silent(self._device.unit):
                await session.probe()
            yield session


class ModbusKind:
    """Modbus; see `edge.driver.DriverKind`, `Sharing` and `Discoverable`."""

    def __init__(self) -> None:
        self._links: dict[Hashable, Link] = {}
        self._listeners: dict[tuple[str, int], Listener] = {}

    @property
    def settings(self) -> type[DeviceSettings]:
        """See `edge.driver.DriverKind.settings`."""
        return ModbusDevice

    def driver(self, device: ModbusDevice, clock: Clock) -> ModbusDriver:
        """See `edge.driver.DriverKind.driver`."""
        link = self._links.get(device.place)
        if link is None:
            link = self._links[device.place] = Link(self._way_to(device), device, clock)
        link.restrict(device.unit, device.limits)
        return ModbusDriver(device, link, clock)

    def connection(self, device: ModbusDevice) -> Hashable:
        """See `edge.driver.Sharing.connection`."""
        return device.place

    async def discover(self, host: str, pause: Callable[[], Awaitable[None]]) -> Sequence[Discovered]:
        """See `edge.driver.Discoverable.discover`."""
        from drivers.modbus.discovery import discover

        return await discover(host, pause)

    def _way_to(self, device: ModbusDevice) -> Way:
        if device.serial is not None:
            return SerialLine(device.serial, _DATA_BITS[device.way])
        if (at := device.listen) is not None:
            listener = self._listeners.setdefault((at.address, at.port), Listener(at.address, at.port))
            return DialIn(listener, at.peers, device.retry_limit / 1e9)
        assert device.host is not None
        return Host(device.host, device.tcp_port, device.tls)
