"""OPC UA servers that are limited or strict in sessions, subscriptions, certificates and users."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drivers.opcua.certificates import Application, parse
from drivers.opcua.trust import TrustList
from tests.drivers.opcua.security.conftest import Peer, running_peer
from tests.peers.opcua.plant import running, tag_of
from tests.support.field.case import FieldCase
from tests.support.opcua.certificates import Maker

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


@asynccontextmanager
async def secured_only(folder: Path) -> AsyncIterator[Mapping[str, Any]]:
    """The server on node-opcua without an endpoint without security; its certificate is trusted beforehand."""
    async with node_opcua("--secured-only")(folder) as device:
        path = folder / "node-opcua/server/own/certs/certificate.pem"
        trust = _trust_list(folder)
        trust.trust(parse(path.read_bytes()))
        security = {"policy": "Basic256Sha256", "mode": "SignAndEncrypt"}
        yield {**device, "security": security, "certificates": str(trust.directory)}


def asyncua(
    be: Callable[[Peer, Maker], Any], **keys: Any
) -> Callable[[Path], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """The `start` of a case with the server on asyncua, whose certificate is trusted."""

    @asynccontextmanager
    async def start(folder: Path) -> AsyncIterator[Mapping[str, Any]]:
        maker, trust = Maker(), _trust_list(folder)
        starting = running_peer(folder, maker)
        peer = await asyncio.to_thread(starting.__enter__)
        try:
            trust.trust(await asyncio.to_thread(be, peer, maker))
            (folder / "password").write_text("a secret")
            tag = {"name": "temperature", "address": "nsu=urn:test:plant;s=Temp", "type": "float64"}
            user = {"name": "reader", "password": f"file:{folder / 'password'}"}
            yield {
                "driver": "opcua", "url": peer.url, "security": {"policy": "Basic256Sha256"}, "user": user,
                "certificates": str(trust.directory), "scan_groups": [{"every": "200 ms", "tags": [tag]}], **keys,
            }  # fmt: skip
        finally:
            await asyncio.to_thread(starting.__exit__, None, None, None)

    return start


def _trust_list(folder: Path) -> TrustList:
    trust = TrustList(folder / "pki")
    trust.create(Application("field", "gateway", ("gateway",)), datetime.now(UTC), days=30, bits=2048)
    return trust


CASES = (
    FieldCase(
        id="opcua-few-items",
        device="A server that watches few nodes for each subscription (BadTooManyMonitoredItems)",
        does="Splits the scan group over several subscriptions; and names the tags to poll if need be.",
        start=node_opcua("--max-per-subscription", "4", subscribe={}),
        values={f"Point{n}": float(n) for n in POINTS},
    ),
    FieldCase(
        id="opcua-secured-only",
        device="A server without an endpoint without security, which does not even tell its certificate",
        does="Opens the channel with a certificate that was trusted beforehand, from a file.",
        start=secured_only,
        values={f"Point{n}": float(n) for n in POINTS},
        helps="`tidegate keys opcua trust DIR FILE`",
    ),
    FieldCase(
        id="opcua-renamed",
        device="A server that was renamed after its certificate was made",
        does="Refuses it, unless the device says which application its certificate is for; `status` shows that.",
        start=asyncua(lambda peer, maker: peer.be(maker.make(uri="urn:old"), users=["name"])),
        values={"temperature": 37.5},
        needs={"certificate_uri": "urn:old"},
        says="certificate_uri",
    ),
    FieldCase(
        id="opcua-old-user-tokens",
        device="A server without security that lists old security policies for passwords first",
        does="Takes the best one of the list: Basic256 encrypts as Basic256Sha256 does.",
        start=asyncua(lambda peer, _: peer.be(users=["name"], tokens=["Basic128Rsa15", "Basic256"]), security="none"),
        values={"temperature": 37.5},
    ),
)
