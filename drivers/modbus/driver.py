"""The Modbus driver: one for each unit, on connections that units share, and the search for units at a host."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from drivers.modbus.codec import GATEWAY_FAILURES, identification_request
from drivers.modbus.connect import Connector, DialInConnector, Listener, TcpConnector
from drivers.modbus.imports import import_tag
from drivers.modbus.plan import ModbusPlan
from drivers.modbus.pool import ConnectionPool
from drivers.modbus.serial_port import SerialConnector
from drivers.modbus.session import ModbusSession, PlanState, read_identity, state_of
from drivers.modbus.settings import ModbusDevice, ModbusTag
from drivers.modbus.tcp import TcpTransport, TransactionIds, TransactionMatcher
from drivers.modbus.transport import Fault, RequestBatch, Transport
from edge.clock import Clock, SystemClock
from edge.driver import DeviceSettings, Discovered, SimulatedDevice, Simulation, SourceTag, Target, found_at
from edge.errors import ConfigError, DeviceUnreachable, ProtocolViolation
from edge.model import Identity
from edge.tls import Certificate

_DATA_BITS = {"rtu": 8, "ascii": 7}
PORT = 502
TIMEOUT_S = 1.0
_BASIC = 1
_USUAL_UNITS = (1, 255, 0)  # A device that is not a gateway answers to them.
_UNITS_BEHIND = tuple(range(2, 11))
_UNIT_MAX = 255


class ModbusDriver:
    """One unit. See `edge.driver.Driver` and `UsesCertificates`."""

    def __init__(self, device: ModbusDevice, pool: ConnectionPool, clock: Clock) -> None:
        self._device, self._pool, self._clock = device, pool, clock
        self._states: dict[ModbusPlan, PlanState] = {}

    def plan(self, tags: Sequence[ModbusTag]) -> ModbusPlan:
        """See `edge.driver.Driver.plan`."""
        first = self._pool.first
        if difference := self._device.differs_from(first):
            raise ConfigError(
                f"{self._pool.name} is shared with {first.name}, which says otherwise: {difference}; "
                "say the same in both, or name another place"
            )
        plan = ModbusPlan(tags, self._device)
        state_of(plan, self._states)  # A unit may answer the tags of one plan only: which, is asked of all.
        return plan

    def certificates(self) -> Sequence[Certificate]:
        """See `edge.driver.UsesCertificates.certificates`: those of the last connection, opened or refused."""
        return self._pool.certificates

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[ModbusSession]:
        """See `edge.driver.Driver.connect`."""
        async with self._pool.join(self._device.unit) as (connection, transport):
            session = ModbusSession(connection, transport, self._device, self._clock, self._states)
            if connection.is_silent(self._device.unit):
                await session.probe()
            yield session


class ModbusKind:
    """Modbus. See `edge.driver.DriverKind`, `SharesConnection`, `Discoverable` and `Simulates`."""

    def __init__(self) -> None:
        self._pools: dict[Hashable, ConnectionPool] = {}
        self._listeners: dict[tuple[str, int], Listener] = {}

    @property
    def settings(self) -> type[DeviceSettings]:
        """See `edge.driver.DriverKind.settings`."""
        return ModbusDevice

    def import_tag(self, tag: SourceTag) -> Mapping[str, Mapping[str, Any]]:
        """See `edge.driver.ImportsTags`."""
        return import_tag(tag)

    def driver(self, device: ModbusDevice, clock: Clock) -> ModbusDriver:
        """See `edge.driver.DriverKind.driver`."""
        pool = self._pools.get(device.endpoint)
        if pool is None:
            pool = self._pools[device.endpoint] = ConnectionPool(self._connector_to(device), device, clock)
        pool.restrict(device.unit, device.limits)
        return ModbusDriver(device, pool, clock)

    def connection(self, device: ModbusDevice) -> Hashable:
        """See `edge.driver.SharesConnection.connection`."""
        return device.endpoint

    async def discover(self, target: Target, pause: Callable[[], Awaitable[None]]) -> Sequence[Discovered]:
        """See `edge.driver.Discoverable.discover`."""
        ports = () if target.url else target.ports or (PORT,)
        unit = dict(target.known).get("unit")
        units = (unit,) if isinstance(unit, int) and 0 <= unit <= _UNIT_MAX else ()
        return await found_at(ports, lambda port: discover(target.host, pause, port, units=units))

    def simulate(
        self, devices: Sequence[ModbusDevice], how: Simulation
    ) -> AbstractAsyncContextManager[Sequence[SimulatedDevice]]:
        """See `edge.driver.Simulates.simulate`."""
        from drivers.modbus.simulator.configured import simulate  # A gateway never loads it.

        return simulate(devices, how)

    def _connector_to(self, device: ModbusDevice) -> Connector:
        if device.serial is not None:
            return SerialConnector(device.serial, _DATA_BITS[device.effective_framing])
        if (at := device.listen) is not None:
            listener = self._listeners.setdefault((at.address, at.port), Listener(at.address, at.port))
            return DialInConnector(listener, at.peers, device.retry_limit / 1e9)
        assert device.host is not None
        return TcpConnector(device.host, device.tcp_port, device.tls)


async def discover(
    host: str,
    pause: Callable[[], Awaitable[None]],
    port: int = PORT,
    timeout_s: float = TIMEOUT_S,
    units: Sequence[int] = (),
) -> Sequence[Discovered]:
    """The units that answer at a host, by one connection and one request at a time; see `edge.driver.Discoverable`.

    A device that gives the same answers for every unit is one device. Other units are asked only where one of the usual
    units answers: old devices may fail when they are searched. Where `units` are given, these are asked and no others.
    """  # fmt: skip
    await pause()
    clock = SystemClock()
    name = f"{host}:{port}"
    matcher = TransactionMatcher(name, TransactionIds(clock.boot_ns() // 1000))
    transport = await TcpConnector(host, port).open(
        lambda: TcpTransport(name, clock, matcher, in_flight=1, gap_s=0.0, check_every_s=timeout_s), 3 * timeout_s
    )
    found: dict[int, Identity] = {}
    asked = f"unit {units[0]} does not answer" if units else "none of the units 0, 1 and 255 answers"
    why = f"{asked}; has the device another unit?"
    try:
        await _ask_all(transport, found, pause, timeout_s, units)
    except (DeviceUnreachable, ProtocolViolation):  # The answers so far are kept.
        why = "what answers does not speak Modbus TCP"
    finally:
        await transport.close()
    if not found:
        raise DeviceUnreachable(f"{name} takes the connection, but {why}")
    return [_discovered(host, port, unit, identity) for unit, identity in sorted(found.items())]


async def _ask_all(
    transport: Transport, found: dict[int, Identity], pause: Callable[[], Awaitable[None]], timeout_s: float,
    units: Sequence[int],
) -> None:  # fmt: skip
    for unit in units or (*_USUAL_UNITS, *_UNITS_BEHIND):
        if not units and unit == _UNITS_BEHIND[0] and (not found or _is_one_device(found)):
            break
        await pause()
        if await _answers(transport, unit, timeout_s):
            found[unit] = await read_identity(transport, unit, timeout_s) or Identity()
    if _is_one_device(found):
        for unit in _USUAL_UNITS[1:]:
            del found[unit]


def _is_one_device(found: dict[int, Identity]) -> bool:
    return found.keys() >= set(_USUAL_UNITS) and len({found[unit] for unit in _USUAL_UNITS}) == 1


async def _answers(transport: Transport, unit: int, timeout_s: float) -> bool:
    """Whether a unit answers; a refusal of function 43 is an answer."""
    request = identification_request(unit, _BASIC, 0)
    batch = RequestBatch([request], bytearray(), timeout_s)
    await transport.transact(batch)
    fault = batch.faults.get(request)
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
        device={"host": host, **({"port": port} if port != PORT else {}), "unit": unit},
    )
