"""Which units answer at a host, and what they say they are: one connection, one request at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from drivers.modbus.codec import GATEWAY_FAILURES, identification_request
from drivers.modbus.connection import Connection
from drivers.modbus.conversation import Conversation
from drivers.modbus.exchange import Exchange, Fault
from drivers.modbus.host import Host
from drivers.modbus.identity import read_identity
from drivers.modbus.transactions import TransactionIds
from edge.clock import SystemClock
from edge.driver import Discovered
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation
from edge.model import Identity

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
