"""Discovery: the servers at a host."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from asyncua import ua

from drivers.opcua.address_space import printable
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
from drivers.opcua.channel import NO_SECURITY, EndedByServer
from drivers.opcua.connection import (
    Connection,
    Endpoint,
    ServiceRefused,
    close,
    discovery_urls,
    host_and_port,
    host_of,
    open_connection,
    parse_endpoints,
    url_at,
)
from drivers.opcua.session_setup import endpoints
from drivers.opcua.settings import DEFAULT_PORT, split_url
from edge.clock import SystemClock
from edge.driver import Discovered, Target, found_at
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation

Pause = Callable[[], Awaitable[None]]

_PORTS = (DEFAULT_PORT, 49320, 62541, 4862, 53530)
"""The registered port, and those that Kepware, Ignition, WinCC and Prosys have by default."""
_TIMEOUT_S, _SILENT_TIMEOUT_S = 3.0, 1.0  # The second for the other ports of a host that gave no sign at one.
_SPOKEN = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
_BEST = (("Aes256_Sha256_RsaPss", "SignAndEncrypt"), ("Basic256Sha256", "SignAndEncrypt"),
         ("Aes128_Sha256_RsaOaep", "SignAndEncrypt"), *((policy, "Sign") for policy in _SPOKEN))  # fmt: skip
_SERVERS_SHOWN = 20


async def discover(target: Target, pause: Pause) -> list[Discovered]:
    """The servers at a host; see `edge.driver.Discoverable.discover`."""
    if target.url and urlsplit(target.url).scheme != "opc.tcp":
        return []
    host = f"[{target.host}]" if ":" in target.host else target.host
    timeout_s = _TIMEOUT_S

    async def look(url: str) -> list[Discovered]:
        nonlocal timeout_s
        try:
            found = await _look(url, pause, timeout_s)
        except TimeoutError as error:
            why = f"did not answer within {timeout_s:g} s; is the address right, and is it switched on?"
            timeout_s = _SILENT_TIMEOUT_S
            raise DeviceUnreachable(f"{host_and_port(url)} {why}") from error
        except DeviceRefused as error:
            raise DeviceUnreachable(str(error)) from error
        except ProtocolViolation as error:
            why = "takes the connection, but what answers does not speak OPC UA"
            raise DeviceUnreachable(f"{host_and_port(url)} {why}") from error
        unneeded = {"certificates"} if dict(target.known).get("security") == "none" else set()
        return [replace(found, device={key: value for key, value in found.device.items() if key not in unneeded})]

    urls = [f"opc.tcp://{host}:{port}" for port in target.ports or _PORTS]
    return await found_at([target.url] if target.url else urls, look)


async def _look(url: str, pause: Pause, timeout_s: float) -> Discovered:
    """The server at a URL. Raises TimeoutError where nothing answers at all, and as `open_connection`."""
    try:
        found, servers = await _ask(url, pause, timeout_s)
    except (EndedByServer, ServiceRefused) as refused:
        if refused.status != ua.StatusCodes.BadTcpEndpointUrlInvalid:
            raise
        return await _look_for_path(url, pause)
    return _discovered(url, found, servers)


async def _look_for_path(url: str, pause: Pause) -> Discovered:
    """A server that does not know a URL: what it offers at those where a server may be asked."""
    for other in discovery_urls(url):
        with suppress(TimeoutError, DeviceUnreachable, DeviceRefused, ProtocolViolation):
            found, servers = await _ask(other, pause, _TIMEOUT_S)
            if found:
                return _discovered(url, found, servers, refused=url)
    why = f"the server does not know {url}: its path is missing or another; it is in the server's own settings"
    return Discovered(port=split_url(url)[1], what="an OPC UA server", details=(("path", why),), device={"url": url})


async def _ask(url: str, pause: Pause, timeout_s: float) -> tuple[list[Endpoint], list[str]]:
    await pause()
    async with asyncio.timeout(timeout_s):
        connection = await open_connection(url, SystemClock(), timeout_s, NO_SECURITY())
    try:
        await pause()
        found = parse_endpoints(await endpoints(connection))
        await pause()
        return found, await _servers(connection)
    finally:
        await close(connection)


def _discovered(url: str, found: Sequence[Endpoint], servers: Sequence[str], refused: str = "") -> Discovered:
    host, port = split_url(url)
    first = found[0] if found else None
    name = (first.application or first.application_uri) if first else "an OPC UA server without endpoints"
    device = _device(url, found)
    path = [("path", f"the server does not know {refused}; it offers {device['url']}")] if refused else []
    return Discovered(
        port=port,
        what=" ".join(filter(None, (name, f"({first.product})" if first and first.product else ""))),
        details=(*path, *_details(host, found, servers)),
        device=device,
    )


async def _servers(connection: Connection) -> list[str]:
    """The application URIs that a discovery server knows, with their URLs."""
    try:
        asked = ua.FindServersRequest(Parameters=ua.FindServersParameters(EndpointUrl=connection.url))
        answers = (await connection.request(asked)).Servers or ()
    except ServiceRefused:
        return []
    return [
        f"{printable(one.ApplicationUri, 200)} at "
        + ", ".join(printable(url, 200) for url in (one.DiscoveryUrls or ())[:4])
        for one in answers[:_SERVERS_SHOWN]
    ]


def _details(host: str, found: Sequence[Endpoint], servers: Sequence[str]) -> list[tuple[str, str]]:
    details = [("application", uri) for uri in dict.fromkeys(endpoint.application_uri for endpoint in found)]
    details += [("offers", text) for text in dict.fromkeys(map(str, found))]
    for url in dict.fromkeys(endpoint.url for endpoint in found):
        if host_of(url) != host.lower():
            details.append(("endpoint", f"{url}: it names another host; go on with the address that answers here"))
    for data in dict.fromkeys(endpoint.certificate for endpoint in found if endpoint.certificate):
        details += _certificate(data)
    own = {endpoint.application_uri for endpoint in found}
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


def _device(url: str, found: Sequence[Endpoint]) -> dict[str, Any]:
    """Settings with the best security that is offered; none only where nothing else is."""
    by_security = {(endpoint.policy, endpoint.mode): endpoint for endpoint in reversed(found)}
    best = next((one for one in _BEST if one in by_security), None)
    if best is None:
        return {"url": url_at(url, found[0].url) if found else url, "security": "none"}
    security = {"policy": best[0], "mode": best[1]}
    return {"url": url_at(url, by_security[best].url), "security": security, "certificates": "pki"}
