"""Opening, keeping and closing a secured session with one server.

The library's own `connect()` is not used: its supervisor asks the server every second and reconnects behind our back.
Every step is ours, each under a timeout, and a client is never used twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicy, SecurityPolicyNone

from drivers.opcua.endpoints import Offer, choose, host_note, offers
from drivers.opcua.login import ABOUT_CERTIFICATE, Secrets, gather, log_in, policy_for, why_refused
from drivers.opcua.settings import OpcuaDevice, split_url
from drivers.opcua.transport import BROKEN, CHUNKS, MESSAGE_BYTES, EndedByServer, Transport, swapped
from drivers.opcua.trust import utc
from edge.clock import Clock
from edge.driver import Certificate
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation, TidegateError, unreachable

T = TypeVar("T")

CHANNEL_LIFETIME_MS = 3_600_000
SESSION_TIMEOUT_MS = 60_000
_CLOSING_S = 2.0
_SHORTEST_RENEWAL_S = 0.1
_ENDS_THE_SESSION = frozenset({
    ua.StatusCodes.BadSessionIdInvalid, ua.StatusCodes.BadSessionClosed, ua.StatusCodes.BadSessionNotActivated,
    ua.StatusCodes.BadSecureChannelIdInvalid, ua.StatusCodes.BadSecureChannelClosed, ua.StatusCodes.BadConnectionClosed,
    ua.StatusCodes.BadServerHalted, ua.StatusCodes.BadShutdown, ua.StatusCodes.BadSecureChannelTokenUnknown,
})  # fmt: skip


class ServiceRefused(DeviceRefused):
    """The server refused a whole service; `code` is its StatusCode."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class OperationLimits:
    """How much the server takes in one request (OPC 10000-5 6.3.11); 0 where it does not say."""

    nodes_per_read: int = 0
    nodes_per_browse: int = 0
    monitored_items_per_call: int = 0


class Connection:
    """One activated session; it lives as long as its `connected` block.

    Attributes:
        client: the library's client, for its services.
        transport: the bytes below it.
        namespaces: the server's namespace URIs; their order can be another in the next session.
        operation_limits: what fits into one request.
        application_uri: what the server's application calls itself.
        host_note: a sentence where the server calls itself by another name; else empty.
    """

    def __init__(self, name: str, client: Client, transport: Transport, timeout_s: float) -> None:
        self.name, self.client, self.transport = name, client, transport
        self.namespaces: tuple[str, ...] = ()
        self.operation_limits = OperationLimits()
        self.application_uri = self.host_note = ""
        self._timeout_s = timeout_s

    @property
    def is_lost(self) -> bool:
        """Whether nothing more can be asked here."""
        return self.transport.why_lost is not None

    def lost(self) -> TidegateError:
        """Why nothing more can be asked, as a new error to raise."""
        why = self.transport.why_lost
        if isinstance(why, ProtocolViolation):
            return ProtocolViolation(why.field, why.expected, why.got, why.data)
        if isinstance(why, EndedByServer):
            return EndedByServer(str(why), why.code)
        return type(why)(str(why)) if why is not None else DeviceUnreachable(f"{self.name} is not connected")

    def drop(self, why: TidegateError) -> None:
        """End the connection now; whoever waits on it is told why."""
        self.transport.drop(why)

    async def ask(self, asked: Awaitable[T], timeout_s: float | None = None) -> T:
        """Await an answer that the library asks for; what goes wrong is raised as ours.

        Raises:
            ServiceRefused: the server refused the service, and the session goes on.
            DeviceUnreachable: the connection or the session is gone, or the server is silent.
            ProtocolViolation: what it sent is no OPC UA.
        """
        wait_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(wait_s):
                return await asked
        except TimeoutError as error:
            if self.is_lost:
                raise self.lost() from error
            raise DeviceUnreachable(f"{self.name} did not answer within {wait_s:g} s") from error
        except OSError as error:
            raise self.lost() from error
        except ua.UaStatusCodeError as error:
            if error.code in _ENDS_THE_SESSION:
                self.drop(DeviceUnreachable(f"{self.name} ended the session: {status_name(error.code)}"))
                raise self.lost() from error
            raise ServiceRefused(f"{self.name} refused: {status_name(error.code)}", error.code) from error
        except BROKEN as error:
            if self.is_lost:
                raise self.lost() from error
            why = ProtocolViolation(f"{self.name}: answer", "what was asked for", f"{type(error).__name__}: {error}")
            self.drop(why)
            raise self.lost() from error


def status_name(code: int) -> str:
    """A StatusCode as people look it up, such as BadUserAccessDenied."""
    return str(ua.StatusCode(ua.UInt32(code)).name)


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
        keeper = asyncio.create_task(_keep(connection), name=f"keep {connection.name}")
        yield connection
    finally:
        if connection is not None:
            await close(connection, keeper)


def where(url: str) -> str:
    """Host and port of an endpoint, for people."""
    host, port = split_url(url)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _open(device: OpcuaDevice, clock: Clock, told: Callable[[Sequence[Certificate]], None] | None) -> Connection:
    """Find the endpoint that is wanted, judge the server, and log in; what was opened is closed where that fails."""
    connection = await reach(device.url, device.limits.timeout / 1e9, SecurityPolicyNone())
    name, secrets = connection.name, Secrets()
    offer: Offer | None = None
    try:
        found = offers(await connection.ask(connection.client.get_endpoints()))
        offer = choose(name, found, device)
        secrets = await asyncio.to_thread(gather, name, device, offer, utc(clock.utc_ns()))
        if told is not None:
            told(tuple(secrets.certificates()))
        if device.security != "none":
            await close(connection)
            connection = await reach(device.url, device.limits.timeout / 1e9, policy_for(device, secrets))
        await log_in(connection.ask, name, connection.client, device, offer, secrets)
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
        return offers(await connection.ask(connection.client.get_endpoints()))
    finally:
        await close(connection)


async def reach(url: str, timeout_s: float, policy: SecurityPolicy) -> Connection:
    """Open a socket and a secure channel, with no session in it yet."""
    (host, port), name = split_url(url), where(url)
    client = Client(url, timeout=timeout_s)
    client.security_policy = client.uaclient.security_policy = policy
    client.secure_channel_timeout, client.session_timeout = CHANNEL_LIFETIME_MS, SESSION_TIMEOUT_MS
    client.uaclient.pre_request_hook = None
    try:
        _, transport = await asyncio.get_running_loop().create_connection(
            lambda: Transport(name, timeout_s, policy), host, port
        )
    except OSError as error:
        raise unreachable(name, error) from error
    client.uaclient.protocol = transport
    connection = Connection(name, client, transport, timeout_s)
    try:
        await connection.ask(transport.send_hello(url, MESSAGE_BYTES, CHUNKS))
        await connection.ask(client.open_secure_channel())
    except BaseException:
        await close(connection)
        raise
    return connection


async def _learn(connection: Connection) -> None:
    """Read what every plan needs to know: namespaces and limits, in one request."""
    names = ua.ObjectIds
    wanted = (
        names.Server_NamespaceArray,
        names.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
        names.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
        names.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
    )
    session = connection.client.uaclient.session
    nodes = [ua.NodeId(ua.UInt32(number)) for number in wanted]
    answers = await connection.ask(session.read_attributes(nodes, ua.AttributeIds.Value))
    if len(answers) != len(wanted):
        raise ProtocolViolation(f"{connection.name}: values", len(wanted), len(answers))
    values = [answer.Value.Value if answer.Value is not None else None for answer in answers]
    uris = values[0]
    if not isinstance(uris, list) or not all(isinstance(uri, str) for uri in uris):
        raise ProtocolViolation(f"{connection.name}: namespaces", "an array of texts", type(uris).__name__)
    connection.namespaces = tuple(uris)
    limits = (value if isinstance(value, int) and value > 0 else 0 for value in values[1:])
    connection.operation_limits = OperationLimits(*limits)


async def _keep(connection: Connection) -> None:
    """Renew the channel's keys in time, and ask something when nobody did for long: an idle session ends."""
    loop, client, transport = asyncio.get_running_loop(), connection.client, connection.transport
    look_every_s = client.session_timeout / 1000 / 3
    renew_at_s = loop.time() + _renewal_s(client)
    try:
        while not connection.is_lost:
            sent = transport.requests_sent
            await asyncio.sleep(max(0.0, min(look_every_s, renew_at_s - loop.time())))
            if loop.time() >= renew_at_s:
                await connection.ask(client.open_secure_channel(renew=True))
                transport.revolve_security_token()
                renew_at_s = loop.time() + _renewal_s(client)
            elif sent == transport.requests_sent:
                await connection.ask(client.nodes.server_state.read_value())
    except TidegateError as error:
        connection.drop(DeviceUnreachable(str(error)))


def _renewal_s(client: Client) -> float:
    """When to renew the channel's keys (OPC 10000-4 5.6.2.1), however short the server wants them."""
    return max(_SHORTEST_RENEWAL_S, float(client.secure_channel_timeout) / 1000 * 0.75)


async def close(connection: Connection, keeper: asyncio.Task[None] | None = None) -> None:
    """Say goodbye where somebody listens, in bounded time; then close hard, and wait until it is."""
    transport, session = connection.transport, connection.client.uaclient.session
    try:
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        if not connection.is_lost:
            with suppress(TidegateError):
                await connection.ask(session.close_session(True), _CLOSING_S)
        if not connection.is_lost:
            with suppress(TidegateError):
                await connection.ask(transport.close_secure_channel(), _CLOSING_S)
    finally:
        transport.drop(DeviceUnreachable(f"{connection.name}: the connection was closed by us"))
        await asyncio.shield(transport.closed)
