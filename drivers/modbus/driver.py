"""The Modbus driver: what the gateway asks for by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from drivers.modbus.codec import GATEWAY_FAILURES, identification_request
from drivers.modbus.connect import DialIn, Host, Listener
from drivers.modbus.plan import ModbusPlan
from drivers.modbus.pool import Link, Way
from drivers.modbus.serial_port import SerialLine
from drivers.modbus.session import ModbusSession, PlanMemory, read_identity
from drivers.modbus.settings import ModbusDevice, ModbusTag
from drivers.modbus.tcp import Connection, TransactionIds
from drivers.modbus.transport import Conversation, Exchange, Fault
from edge.clock import Clock, SystemClock
from edge.driver import DeviceSettings, Discovered
from edge.errors import ConfigError, DeviceRefused, DeviceUnreachable, ProtocolViolation
from edge.model import Identity
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
        return await discover(host, pause)

    def _way_to(self, device: ModbusDevice) -> Way:
        if device.serial is not None:
            return SerialLine(device.serial, _DATA_BITS[device.way])
        if (at := device.listen) is not None:
            listener = self._listeners.setdefault((at.address, at.port), Listener(at.address, at.port))
            return DialIn(listener, at.peers, device.retry_limit / 1e9)
        assert device.host is not None
        return Host(device.host, device.tcp_port, device.tls)


PORT = 502
TIMEOUT_S = 1.0
_BASIC = 1
_ITSELF = (1, 255, 0)  # What a device answers to that is not a gateway.
_BEHIND_IT = tuple(range(2, 11))


async def discover(
    host: str, pause: Callable[[], Awaitable[None]], port: int = PORT, timeout_s: float = TIMEOUT_S
) -> Sequence[Discovered]:
    """The units that answer at one host; see `edge.driver.Discoverable`.

    A device that answers alike to every unit number is one device. One that answers to none of the usual is not asked
    for more: old devices do not bear being searched.
    """
    await pause()
    clock = SystemClock()
    ids = TransactionIds(clock.boot_ns() // 1000)
    name = f"{host}:{port}"
    try:
        connection = await Host(host, port).open(
            lambda: Connection(name, clock, ids, in_flight=1, gap_s=0.0, look_every_s=timeout_s), 3 * timeout_s
        )
    except (DeviceUnreachable, DeviceRefused):
        return ()
    found: dict[int, Identity] = {}
    try:
        await _ask_all(connection, found, pause, timeout_s)
    except (DeviceUnreachable, ProtocolViolation):
        pass  # It had enough of us, or is no Modbus device: what it said until then counts.
    finally:
        await connection.close()
    return [_discovered(host, port, unit, identity) for unit, identity in sorted(found.items())]


async def _ask_all(
    connection: Conversation, found: dict[int, Identity], pause: Callable[[], Awaitable[None]], timeout_s: float
) -> None:
    for unit in (*_ITSELF, *_BEHIND_IT):
        if unit == _BEHIND_IT[0] and (not found or _is_one_device(found)):
            break
        await pause()
        if await _is_there(connection, unit, timeout_s):
            found[unit] = await read_identity(connection, unit, timeout_s)
    if _is_one_device(found):
        for unit in _ITSELF[1:]:
            del found[unit]


def _is_one_device(found: dict[int, Identity]) -> bool:
    return found.keys() >= set(_ITSELF) and len({found[unit] for unit in _ITSELF}) == 1


async def _is_there(connection: Conversation, unit: int, timeout_s: float) -> bool:
    """Whether a unit answers at all; that it does not know function 43 is an answer too."""
    request = identification_request(unit, _BASIC, 0)
    exchange = Exchange([request], bytearray(), timeout_s)
    await connection.carry(exchange)
    fault = exchange.faults.get(request)
    return fault is None or (not isinstance(fault, Fault) and fault not in GATEWAY_FAILURES)


def _discovered(host: str, port: int, unit: int, identity: Identity) -> Discovered:
    words = [text for text in (identity.vendor, identity.product, identity.firmware) if text]
    what = " ".join(words) or "a Modbus device that does not say what it is"
    details = (("unit", str(unit)), ("vendor", identity.vendor), ("product", identity.product),
               ("firmware", identity.firmware), *identity.more)  # fmt: skip
    return Discovered(
        port=port,
        what=f"{what}, unit {unit}",
        details=tuple((label, text) for label, text in details if text),
        device={"host": host, "port": port, "unit": unit},
    )
