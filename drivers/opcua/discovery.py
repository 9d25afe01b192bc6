"""Looking for servers at a host: what they offer and how they are secured, asked without opening a session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from asyncua import ua
from asyncua.crypto.security_policies import SecurityPolicyNone

from drivers.opcua.certificates import (
    BadCertificate,
    application_uris,
    fingerprint,
    hosts,
    in_pairs,
    parse,
    sha1_fingerprint,
    subject,
)
from drivers.opcua.connection import Connection, ServiceRefused, close, reach
from drivers.opcua.endpoints import Offer, host_of, offers
from drivers.opcua.opening import endpoints
from drivers.opcua.settings import DEFAULT_PORT
from drivers.opcua.views import text_of
from edge.driver import Discovered
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation

_TIMEOUT_S = 3.0
_SPOKEN = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
_BEST = (("Aes256_Sha256_RsaPss", "SignAndEncrypt"), ("Basic256Sha256", "SignAndEncrypt"),
         ("Aes128_Sha256_RsaOaep", "SignAndEncrypt"), *((policy, "Sign") for policy in _SPOKEN))  # fmt: skip
_SERVERS_SHOWN = 20


async def discover(
    host: str, pause: Callable[[], Awaitable[None]], ports: Sequence[int] = (DEFAULT_PORT,)
) -> list[Discovered]:
    """The servers at a host; see `edge.driver.Discoverable.discover`. Other ports are asked only when told."""
    found = []
    for port in ports:
        try:
            found.append(await _look(host, port, pause))
        except (DeviceUnreachable, DeviceRefused, ProtocolViolation):
            continue  # Nobody there, or somebody who speaks something else.
    return found


async def _look(host: str, port: int, pause: Callable[[], Awaitable[None]]) -> Discovered:
    url = f"opc.tcp://[{host}]:{port}" if ":" in host else f"opc.tcp://{host}:{port}"
    await pause()
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            connection = await reach(url, _TIMEOUT_S, SecurityPolicyNone())
    except TimeoutError as error:
        raise DeviceUnreachable(f"{url} does not answer") from error
    try:
        await pause()
        found = offers(await endpoints(connection))
        await pause()
        servers = await _servers(connection)
    finally:
        await close(connection)
    first = found[0] if found else None
    name = (first.application or first.application_uri) if first else "an OPC UA server without endpoints"
    return Discovered(
        port=port,
        what=" ".join(filter(None, (name, f"({first.product})" if first and first.product else ""))),
        details=tuple(_details(host, found, servers)),
        device=_device(url, found),
    )


async def _servers(connection: Connection) -> list[str]:
    """The application URIs that a discovery server knows, with where they are."""
    try:
        asked = ua.FindServersRequest(Parameters=ua.FindServersParameters(EndpointUrl=connection.url))
        answers = (await connection.request(asked)).Servers or ()
    except ServiceRefused:
        return []
    return [
        f"{text_of(one.ApplicationUri, 200)} at {', '.join(text_of(url, 200) for url in (one.DiscoveryUrls or ())[:4])}"
        for one in answers[:_SERVERS_SHOWN]
    ]


def _details(host: str, found: Sequence[Offer], servers: Sequence[str]) -> list[tuple[str, str]]:
    details = [("application", uri) for uri in dict.fromkeys(offer.application_uri for offer in found)]
    details += [("offers", text) for text in dict.fromkeys(map(str, found))]
    for url in dict.fromkeys(offer.url for offer in found):
        if host_of(url) != host.lower():
            details.append(("endpoint", f"{url}: it names another host; go on with the address that answers here"))
    for data in dict.fromkeys(offer.certificate for offer in found if offer.certificate):
        details += _certificate(data)
    own = {offer.application_uri for offer in found}
    details += [("knows", text) for text in servers if text.split(" at ")[0] not in own]
    return details


def _certificate(data: bytes) -> list[tuple[str, str]]:
    try:
        certificate = parse(data)
        made_for = ", ".join([*hosts(certificate), *application_uris(certificate)])
    except BadCertificate as error:
        return [("certificate", str(error))]
    return [
        ("certificate", f"{subject(certificate)}, until {certificate.not_valid_after_utc:%Y-%m-%d}, for {made_for}"),
        ("SHA-256", in_pairs(fingerprint(certificate))),
        ("SHA-1", in_pairs(sha1_fingerprint(certificate))),
    ]


def _device(url: str, found: Sequence[Offer]) -> dict[str, Any]:
    """What a configuration would say: the best security that is offered; none only where nothing else is."""
    offered = {(offer.policy, offer.mode) for offer in found}
    best = next((one for one in _BEST if one in offered), None)
    if best is None:
        return {"url": url, "security": "none"}
    return {"url": url, "security": {"policy": best[0], "mode": best[1]}, "certificates": "pki"}
