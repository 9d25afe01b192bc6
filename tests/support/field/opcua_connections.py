"""OPC UA servers that are limited or strict in sessions, subscriptions, certificates and users."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.peers.opcua.plant import running, tag_of
from tests.support.field.case import FieldCase

POINTS = range(10)


def node_opcua(*options: str, **more: Any) -> Callable[[Path], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """The `start` of a case with the server on node-opcua."""

    @asynccontextmanager
    async def start(folder: Path) -> AsyncIterator[Mapping[str, Any]]:
        running_server = running("node-opcua", folder, *options)
        server = await asyncio.to_thread(running_server.__enter__)
        try:
            group = {"every": "200 ms", "tags": [tag_of(f"Point{n}", "float64") for n in POINTS], **more}
            yield {
                "driver": "opcua", "url": f"opc.tcp://127.0.0.1:{server.port}/plant", "security": "none",
                "scan_groups": [group],
            }  # fmt: skip
        finally:
            await asyncio.to_thread(running_server.__exit__, None, None, None)

    return start


CASES = (
    FieldCase(
        id="opcua-few-items",
        device="A server that watches few nodes for each subscription (BadTooManyMonitoredItems)",
        does="Splits the scan group over several subscriptions; and names the tags to poll if need be.",
        start=node_opcua("--max-per-subscription", "4", subscribe={}),
        values={f"Point{n}": float(n) for n in POINTS},
    ),
)
