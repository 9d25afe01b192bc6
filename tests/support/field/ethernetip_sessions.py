"""Controllers that are touchy about connections, and about the question what they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from drivers.ethernetip.simulator.codes import Service
from tests.support.field.case import FieldCase
from tests.support.field.ethernetip_refusals import VALUES, closing, odd_server, plant, tags

IDLE_S = 2.0
IDENTITY = bytes((Service.GET_ATTRIBUTES_ALL, 2, 0x20, 1))


def _settings(port: int, every: str) -> Mapping[str, Any]:
    return {
        "driver": "ethernetip", "host": "127.0.0.1", "port": port, "scan_groups": [{"every": every, "tags": tags()}],
    }  # fmt: skip


@asynccontextmanager
async def _closes_when_idle(_: Path) -> AsyncIterator[Mapping[str, Any]]:
    plc = plant()
    async with odd_server(plc, {}) as (server, router):

        async def watch() -> None:
            asked = 0
            while True:
                await asyncio.sleep(IDLE_S)
                if asked == len(router.asked):
                    plc.cut()
                asked = len(router.asked)

        watching = asyncio.create_task(watch())
        yield _settings(server.port, "5 s")
        watching.cancel()


@asynccontextmanager
async def _closes_at_identity(_: Path) -> AsyncIterator[Mapping[str, Any]]:
    async with odd_server(plant(), {IDENTITY: closing}) as (server, _router):
        yield _settings(server.port, "500 ms")


CASES = (
    FieldCase(
        id="ethernetip-closes-when-idle",
        device="A controller that closes a connection which is idle for 2 s, scanned every 5 s",
        does="Opens another session and reads in the same scan; no outage is on record.",
        start=_closes_when_idle,
        values=VALUES,
    ),
    FieldCase(
        id="ethernetip-closes-at-the-identity",
        device="A controller that closes the connection when it is asked what it is",
        does="Reads first and asks afterwards, reads on in another session, and does not ask that again.",
        start=_closes_at_identity,
        values=VALUES,
        helps="`ask_identity: never`",
    ),
)
