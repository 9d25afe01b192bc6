"""Opening a secured session with one server: what it offers, whether it is trusted, who we are.

Importing this module imports asyncua: only what connects does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from asyncua import ua
from asyncua.crypto.security_policies import SecurityPolicyNone

from drivers.opcua.connection import Connection, OperationLimits, ServiceRefused, close, keep, reach, status_name, where
from drivers.opcua.endpoints import Offer, choose, host_note, offers
from drivers.opcua.login import ABOUT_CERTIFICATE, Secrets, gather, log_in, policy_for, why_refused
from drivers.opcua.settings import OpcuaDevice
from drivers.opcua.transport import EndedByServer, swapped
from drivers.opcua.trust import utc
from edge.clock import Clock
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation, TidegateError
from edge.tls import Certificate


@asynccontextmanager
async def connected(
    device: OpcuaDevice, clock: Clock, told: Callable[[Sequence[Certificate]], None] | None = None
) -> AsyncIterator[Connection]:
    """A session with the device's server, closed however the block ends.

    `told` gets the certificates that it depends on as soon as they are known, also when the session then fails.

    Raises:
        DeviceUnreachable: nobody answers there.
        DeviceRefused: somebody answers, and will not talk to us, or we not to it.
    """
    opening_s = device.limits.connect_timeout / 1e9
    keeper: asyncio.Task[None] | None = None
    connection: Connection | None = None
    try:
        try:
            async with asyncio.timeout(opening_s):
                connection = await _open(device, clock, told)
                await _learn(connection)
        except TimeoutError as error:
            raise DeviceUnreachable(f"{where(device.url)} did not open a session within {opening_s:g} s") from error
        keeper = asyncio.create_task(keep(connection), name=f"keep {connection.name}")
        yield connection
    finally:
        if connection is not None:
            await close(connection, keeper)


async def _open(device: OpcuaDevice, clock: Clock, told: Callable[[Sequence[Certificate]], None] | None) -> Connection:
    """Find the endpoint that is wanted, judge the server, and log in; what was opened is closed where that fails."""
    connection = await reach(device.url, device.limits.timeout / 1e9, SecurityPolicyNone())
    name, secrets = connection.name, Secrets()
    offer: Offer | None = None
    try:
        found = offers(await endpoints(connection))
        offer = choose(name, found, device)
        secrets = await asyncio.to_thread(gather, name, device, offer, utc(clock.utc_ns()))
        if told is not None:
            told(tuple(secrets.certificates()))
        if device.security != "none":
            await close(connection)
            connection = await reach(device.url, device.limits.timeout / 1e9, policy_for(device, secrets))
        await log_in(connection, device, offer, secrets)
    except BaseException as error:
        await close(connection)
        if isinstance(error, ServiceRefused | EndedByServer):
            await _explain(error, name, device, offer, secrets)
        raise
    connection.application_uri, connection.host_note = offer.application_uri, host_note(offer, device)
    return connection


async def _explain(
    error: ServiceRefused | EndedByServer, name: str, device: OpcuaDevice, offer: Offer | None, secrets: Secrets
) -> None:
    """Raise DeviceRefused with a sentence, where the server said why it will not have us."""
    if offer is not None and error.code in ABOUT_CERTIFICATE and secrets.server is not None:
        # A server that changed its certificate cannot read what was meant for the old one, and says just that.
        shown = {offer.certificate}
        with suppress(TidegateError):
            shown = {one.certificate for one in await _offers_now(device)}
        if offer.certificate not in shown:
            raise DeviceRefused(swapped(name)) from error
    note = host_note(offer, device) if offer else ""
    if why := why_refused(name, error.code, status_name(error.code), device, secrets, note):
        raise DeviceRefused(why) from error


async def _offers_now(device: OpcuaDevice) -> list[Offer]:
    connection = await reach(device.url, device.limits.timeout / 1e9, SecurityPolicyNone())
    try:
        return offers(await endpoints(connection))
    finally:
        await close(connection)


async def endpoints(connection: Connection) -> Sequence[ua.EndpointDescription]:
    """What the server says it offers. Raises as `Connection.ask`."""
    asked = ua.GetEndpointsRequest(Parameters=ua.GetEndpointsParameters(EndpointUrl=connection.url))
    return (await connection.request(asked)).Endpoints or ()


async def _learn(connection: Connection) -> None:
    """Read what every plan needs to know: namespaces and limits, in one request."""
    names = ua.ObjectIds
    uris, *limits = await connection.read(
        (
            names.Server_NamespaceArray,
            names.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
            names.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
            names.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
        )
    )
    if not isinstance(uris, list) or not all(isinstance(uri, str) for uri in uris):
        raise ProtocolViolation(f"{connection.name}: namespaces", "an array of texts", type(uris).__name__)
    connection.namespaces = tuple(uris)
    said = (value if isinstance(value, int) and value > 0 else 0 for value in limits)
    connection.operation_limits = OperationLimits(*said)
