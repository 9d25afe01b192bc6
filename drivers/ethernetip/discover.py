"""Finding devices: who answers ListIdentity at a host, and which controllers are in its chassis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from drivers.ethernetip import codec
from drivers.ethernetip.codec import Routed
from drivers.ethernetip.connection import Connection
from drivers.ethernetip.encapsulation import PORT
from drivers.ethernetip.identity import ADAPTER, CONTROLLER, Facts, facts_in, parse_facts
from drivers.ethernetip.link import connect
from edge.clock import SystemClock
from edge.driver import Discovered
from edge.errors import TidegateError

ANSWER_WITHIN_S = 1.0
_SLOTS = 17
_ITEM_BYTES = 24  # Count, type and length of the item, protocol version, socket address.
_BACKPLANE = 1

Pause = Callable[[], Awaitable[None]]


async def discover(host: str, pause: Pause, port: int = PORT) -> Sequence[Discovered]:
    """What answers at one host; nothing is an empty answer. A communications adapter is asked for its slots."""
    await pause()
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            connection = await connect(host, port, SystemClock(), timeout_s=ANSWER_WITHIN_S)
    except (TimeoutError, TidegateError):
        return []
    found: list[Discovered] = []
    try:
        await pause()
        facts = parse_facts((await connection.list_identity())[_ITEM_BYTES:])
        if facts is not None:
            found.append(_described(facts, host, port, None))
            if facts.device_type == ADAPTER:
                async for one in _slots(connection, host, port, pause):
                    found.append(one)  # noqa: PERF401 - what was found until it is lost counts
    except TidegateError:
        pass  # Whoever it is, it does not speak EtherNet/IP, or not this command.
    finally:
        await connection.close()
    return found


async def _slots(connection: Connection, host: str, port: int, pause: Pause) -> AsyncIterator[Discovered]:
    """The controllers in the chassis of a communications adapter."""
    await connection.register()
    for slot in range(_SLOTS):
        await pause()
        question = Routed.through(codec.get_all(codec.IDENTITY, 1), codec.route_path([(_BACKPLANE, slot)]))
        body = await connection.ask(question)
        facts = None if question.is_lost(body) else facts_in(body)
        if facts is not None and facts.device_type == CONTROLLER:
            yield _described(facts, host, port, slot)


def _described(facts: Facts, host: str, port: int, slot: int | None) -> Discovered:
    device: dict[str, object] = {"host": host, **({"port": port} if port != PORT else {})}
    if slot is not None:
        device["slot"] = slot
    if facts.product.startswith("2080"):
        device["family"] = "micro800"
    elif facts.device_type not in (CONTROLLER, ADAPTER):
        device["family"] = "generic"
    where = f" in slot {slot}" if slot is not None else ""
    identity = facts.identity()
    details = (
        ("vendor", identity.vendor),
        ("product", identity.product),
        ("revision", identity.firmware),
        ("serial", identity.serial),
        *identity.more,
    )
    return Discovered(port=port, what=f"{facts.product}, {facts.type_name}{where}", details=details, device=device)
