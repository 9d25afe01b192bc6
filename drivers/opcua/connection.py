"""One connection to a server: the endpoint that was chosen, and the requests of its session.

The library's client is not used: its supervisor asks the server every second and reconnects without our knowledge.
Every step is ours, each under a timeout, and no connection is used twice.

Importing this module imports asyncua: only what connects does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit

from asyncua import ua

from drivers.opcua.channel import (
    BROKEN,
    CHUNKS,
    MESSAGE_BYTES,
    POLICY_URI,
    PendingResponse,
    SecureChannel,
)
from drivers.opcua.services import ServiceRequest
from drivers.opcua.settings import OpcuaDevice, split_url
from edge.clock import Clock
from edge.errors import (
    DeviceRefused,
    DeviceUnreachable,
    ErrorCode,
    ProtocolViolation,
    TidegateError,
    copied,
    unreachable,
)

T = TypeVar("T")

CHANNEL_LIFETIME_MS = 3_600_000
SESSION_TIMEOUT_MS = 60_000
_CLOSING_S = 2.0
_SHORTEST_RENEWAL_S = 0.1
SESSION_IS_GONE = frozenset({
    ua.StatusCodes.BadSessionIdInvalid, ua.StatusCodes.BadSessionClosed, ua.StatusCodes.BadSessionNotActivated,
})  # fmt: skip
ENDS_THE_CONNECTION = SESSION_IS_GONE | frozenset({
    ua.StatusCodes.BadSecureChannelIdInvalid, ua.StatusCodes.BadSecureChannelClosed, ua.StatusCodes.BadConnectionClosed,
    ua.StatusCodes.BadServerHalted, ua.StatusCodes.BadShutdown, ua.StatusCodes.BadSecureChannelTokenUnknown,
})  # fmt: skip
_FAILURES = (OSError, *BROKEN)


class ServiceRefused(DeviceRefused):
    """The server refused a whole service; `status` is its StatusCode."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class OperationLimits:
    """Most operations in one request (OPC 10000-5, 6.3.11); 0 where the server states no limit."""

    nodes_per_read: int = 0
    nodes_per_browse: int = 0
    monitored_items_per_call: int = 0


@dataclass(slots=True)
class KeptSession:
    """The session that the server keeps while there is no connection; the next connection continues it.

    Attributes:
        token: its authentication token; None where there is none to continue.
        nonce: the server's nonce of its last activation.
        timeout_ms: how long the server keeps it without a request.
    """

    token: Any = field(default=None, repr=False)
    nonce: bytes = field(default=b"", repr=False)
    timeout_ms: int = SESSION_TIMEOUT_MS


class Connection:
    """One connection, with an activated session inside an `open_session` block.

    Attributes:
        url: the URL that was connected to.
        channel: its SecureChannel.
        session_timeout_ms: how long the server keeps a session without a request.
        channel_lifetime_ms: revised lifetime of the channel's keys.
        namespaces: the server's namespace URIs; their order may differ in the next session.
        operation_limits: the server's limits of one request.
        application_uri: ApplicationUri of the server.
        host_note: a sentence where the server's endpoint names another host; else empty.
        server_nonce: the server's nonce of the last activation.
        is_continued: whether the session is that of an earlier connection, with its subscriptions.
        has_ended_session: whether the server has the session no more, or should not be asked for it again.
    """

    def __init__(self, url: str, channel: SecureChannel, clock: Clock, timeout_s: float) -> None:
        self.url, self.name, self.channel = url, host_and_port(url), channel
        self.session_timeout_ms, self.channel_lifetime_ms = SESSION_TIMEOUT_MS, CHANNEL_LIFETIME_MS
        self.namespaces: tuple[str, ...] = ()
        self.operation_limits = OperationLimits()
        self.application_uri = self.host_note = ""
        self.server_nonce = b""
        self.is_continued = self.has_ended_session = False
        self._clock, self._timeout_s = clock, timeout_s

    @property
    def is_lost(self) -> bool:
        """Whether the connection has ended."""
        return self.channel.why_lost is not None

    def lost(self) -> TidegateError:
        """Why the connection has ended, as a new error to raise."""
        why = self.channel.why_lost
        return copied(why) if why is not None else DeviceUnreachable(f"{self.name} is not connected")

    def drop(self, why: TidegateError) -> None:
        """End the connection now; pending requests fail with this error."""
        self.channel.drop(copied(why))

    def end_session(self, why: TidegateError) -> None:
        """As `drop`, and the next connection makes a session of its own."""
        self.has_ended_session = True
        self.drop(why)

    @cached_property
    def token(self) -> bytes:
        """The session's authentication token as it is on the wire; there must be a session."""
        return self.channel.session_token

    def fits(self, request: ServiceRequest) -> bool:
        """Whether the server accepts a message of this size (OPC 10000-6, 7.1.2.4)."""
        return len(request) <= self.channel.sent_bytes_limit

    def send(self, request: ServiceRequest) -> tuple[int, PendingResponse]:
        """Send a request whose response has no time limit; its handle and its response.

        Raises what `lost` gives if the connection has ended.
        """
        if self.channel.why_lost is not None:
            raise self.lost()
        return self.channel.send(request, self._clock)

    async def exchange(self, request: ServiceRequest) -> tuple[int, bytes]:
        """The handle that a request got, and the bytes of its response. Raises as `ask`.

        A response that comes too late is dropped by the library's table of requests.
        """
        handle, response = self.send(request)
        # A timer of the response takes half the work of a time limit of the task, in every scan.
        expiry = asyncio.get_running_loop().call_later(self._timeout_s, response.expire)
        try:
            body = await response
        except _FAILURES as error:
            raise self._explain(error, self._timeout_s, ENDS_THE_CONNECTION) from error
        finally:
            expiry.cancel()
        return handle, body.read(len(body))

    async def request(
        self, request: Any, timeout_s: float | None = None, fatal: frozenset[int] = ENDS_THE_CONNECTION
    ) -> Any:
        """The response to a request object of the library. Raises as `ask`."""
        return await self.ask(self.channel.exchange(request), timeout_s, fatal)

    async def results(self, what: str, request: Any, count: int) -> list[Any]:
        """The results of a request, one for each of its `count` operations. Raises as `ask`."""
        response = await self.request(request)
        found = response.Results if hasattr(response, "Results") else response.Parameters.Results
        if len(found or ()) != count:
            violation = ProtocolViolation(f"{self.name}: number of {what}", count, len(found or ()))
            self.drop(violation)
            raise violation
        return list(found or ())

    async def read(self, numbers: Sequence[int]) -> list[Any]:
        """Values of nodes of namespace 0, None where there is none. Raises as `ask`."""
        nodes = [ua.ReadValueId(ua.NodeId(ua.UInt32(number)), ua.AttributeIds.Value) for number in numbers]
        parameters = ua.ReadParameters(0.0, ua.TimestampsToReturn.Neither, nodes)
        answers = await self.results("values", ua.ReadRequest(Parameters=parameters), len(nodes))
        return [answer.Value.Value if answer.Value is not None else None for answer in answers]

    async def ask(
        self, asked: Awaitable[T], timeout_s: float | None = None, fatal: frozenset[int] = ENDS_THE_CONNECTION
    ) -> T:
        """Await a response of the library, and raise its errors as ours.

        Args:
            fatal: the codes that end the connection.

        Raises:
            ServiceRefused: the server refused the service, and the session goes on.
            DeviceUnreachable: the connection or the session is gone, or the server is silent.
            ProtocolViolation: the response is no OPC UA.
        """
        wait_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(wait_s):
                return await asked
        except _FAILURES as error:
            raise self._explain(error, wait_s, fatal) from error

    def _explain(self, error: Exception, wait_s: float, fatal: frozenset[int]) -> TidegateError:
        """The error of ours for what went wrong with a response; the connection is dropped where it cannot go on."""
        if isinstance(error, OSError):
            if isinstance(error, TimeoutError) and not self.is_lost:
                silence = f"{self.name} did not answer within {wait_s:g} s"
                return DeviceUnreachable(silence, code=ErrorCode.DEVICE_SILENT)
            return self.lost()
        if isinstance(error, ua.UaStatusCodeError):
            if error.code not in fatal:
                return ServiceRefused(f"{self.name} refused: {status_name(error.code)}", error.code)
            self.has_ended_session |= error.code in SESSION_IS_GONE
            self.drop(DeviceUnreachable(f"{self.name} ended the session: {status_name(error.code)}"))
        elif not self.is_lost:
            got = f"{type(error).__name__}: {error}"
            self.drop(ProtocolViolation(f"{self.name}: answer", "what was asked for", got))
        return self.lost()


def status_name(code: int) -> str:
    """The symbolic name of a StatusCode, such as BadUserAccessDenied."""
    return str(ua.StatusCode(ua.UInt32(code)).name)


def host_and_port(url: str) -> str:
    """Host and port of an endpoint, for people."""
    host, port = split_url(url)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url_at(url: str, endpoint_url: str) -> str:
    """The URL of an endpoint at the host and port of another URL: a server may call itself what nobody else does."""
    return f"opc.tcp://{host_and_port(url)}{urlsplit(endpoint_url).path.rstrip('/')}"


def discovery_urls(url: str) -> list[str]:
    """Where a server may say what it offers, though it does not know a URL (OPC 10000-12, 4.3.2)."""
    root = f"opc.tcp://{host_and_port(url)}"
    return [other for other in (f"{root}/discovery", root) if other != url]


async def open_connection(url: str, clock: Clock, timeout_s: float, policy: Any) -> Connection:
    """Open a TCP connection and its SecureChannel, without a session yet. Raises as `Connection.ask`."""
    (host, port), name = split_url(url), host_and_port(url)
    try:
        _, channel = await asyncio.get_running_loop().create_connection(
            lambda: SecureChannel(name, timeout_s, policy), host, port
        )
    except OSError as error:
        raise unreachable(name, error) from error
    connection = Connection(url, channel, clock, timeout_s)
    try:
        await connection.ask(channel.send_hello(url, MESSAGE_BYTES, CHUNKS))
        connection.channel_lifetime_ms = await connection.ask(channel.open_channel(CHANNEL_LIFETIME_MS))
    except BaseException:
        await close(connection)
        raise
    return connection


async def keep_alive(connection: Connection) -> None:
    """Renew the channel's keys in time, and send a request when there was none for long: an idle session times out."""
    loop, channel = asyncio.get_running_loop(), connection.channel
    look_every_s = connection.session_timeout_ms / 1000 / 3
    renew_at_s = loop.time() + _renewal_s(connection)
    try:
        while not connection.is_lost:
            sent = channel.requests_sent
            await asyncio.sleep(max(0.0, min(look_every_s, renew_at_s - loop.time())))
            if loop.time() >= renew_at_s:
                renewed = channel.open_channel(CHANNEL_LIFETIME_MS, is_renewal=True)
                connection.channel_lifetime_ms = await connection.ask(renewed)
                channel.revolve_security_token()
                renew_at_s = loop.time() + _renewal_s(connection)
            elif sent == channel.requests_sent:
                await connection.read([ua.ObjectIds.Server_ServerStatus_State])
    except TidegateError as error:
        connection.drop(DeviceUnreachable(str(error), code=error.code))


def _renewal_s(connection: Connection) -> float:
    """Seconds until the channel's keys are renewed: 75 % of their lifetime (OPC 10000-4, 5.6.2.1), with a minimum."""
    return max(_SHORTEST_RENEWAL_S, connection.channel_lifetime_ms / 1000 * 0.75)


async def close(
    connection: Connection, keeper: asyncio.Task[None] | None = None, *, keeps_session: bool = False
) -> None:
    """Close session and channel in bounded time where the connection is open; then abort it, and wait until it is."""
    channel = connection.channel
    try:
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        if not connection.is_lost and not channel.authentication_token.is_null() and not keeps_session:
            with suppress(TidegateError):
                await close_session(connection)
                connection.has_ended_session = True
        if not connection.is_lost:
            with suppress(TidegateError):
                await connection.ask(channel.close_secure_channel(), _CLOSING_S)
    finally:
        channel.drop(DeviceUnreachable(f"{connection.name}: the connection was closed by us"))
        await asyncio.shield(channel.closed)


async def close_session(connection: Connection, *, with_subscriptions: bool = True) -> None:
    """Close the session of the channel's authentication token in bounded time. Raises as `Connection.ask`."""
    await connection.request(ua.CloseSessionRequest(DeleteSubscriptions=with_subscriptions), _CLOSING_S)


_BINARY = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"
_MODES = {1: "None", 2: "Sign", 3: "SignAndEncrypt"}
_USERS = {0: "anonymous", 1: "user name", 2: "certificate", 3: "issued token"}
_ENDPOINTS = 200


@dataclass(frozen=True, slots=True)
class Token:
    """A UserTokenPolicy; `policy` is empty where it is the channel's."""

    kind: str
    policy: str
    id: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An EndpointDescription, as plain values."""

    url: str
    policy: str
    mode: str
    tokens: tuple[Token, ...]
    certificate: bytes
    application: str
    product: str
    application_uri: str

    def __str__(self) -> str:
        users = ", ".join(dict.fromkeys(token.kind for token in self.tokens)) or "nobody"
        security = "none" if self.mode == "None" else f"{self.policy} {self.mode}"
        return f"{security} for {users}"


def parse_endpoints(descriptions: Sequence[Any] | None) -> list[Endpoint]:
    """The endpoints with OPC UA binary over TCP."""
    return [
        Endpoint(
            url=_text(one.EndpointUrl),
            policy=_policy(one.SecurityPolicyUri),
            mode=_MODES.get(int(one.SecurityMode), "unknown"),
            tokens=tuple(
                Token(_USERS.get(int(token.TokenType), "unknown"), _policy(token.SecurityPolicyUri), token.PolicyId)
                for token in one.UserIdentityTokens or ()
            ),
            certificate=bytes(one.ServerCertificate or b""),
            application=_text(one.Server.ApplicationName.Text if one.Server.ApplicationName else ""),
            product=_text(one.Server.ProductUri),
            application_uri=_text(one.Server.ApplicationUri),
        )
        for one in (descriptions or ())[:_ENDPOINTS]
        if one.TransportProfileUri in (None, "", _BINARY) and _text(one.EndpointUrl).startswith("opc.tcp")
    ]


def requested_security(device: OpcuaDevice) -> tuple[str, str, str]:
    """Security policy, mode and kind of user token in the settings."""
    policy, mode = ("None", "None") if device.security == "none" else (device.security.policy, device.security.mode)
    if device.user is None:
        return policy, mode, "anonymous"
    return policy, mode, "user name" if device.user.name is not None else "certificate"


def choose_endpoint(name: str, found: Iterable[Endpoint], device: OpcuaDevice) -> Endpoint:
    """The endpoint with the security in the settings. Raises DeviceRefused with what is offered instead."""
    found = list(found)
    policy, mode, user = requested_security(device)
    fitting = [endpoint for endpoint in found if (endpoint.policy, endpoint.mode) == (policy, mode)]
    for endpoint in sorted(fitting, key=lambda endpoint: host_of(endpoint.url) != device.host):
        if any(token.kind == user for token in endpoint.tokens):
            return endpoint
    security = "no security" if policy == "None" else f"{policy} {mode}"
    offered = "; ".join(dict.fromkeys(map(str, found))) or "nothing"
    raise DeviceRefused(
        f"{name} does not offer {security} for {user}; it offers {offered}: change `security` "
        "and `user`, or the server's settings",
        code=ErrorCode.DEVICE_LOGIN,
    )


def host_note(endpoint: Endpoint, device: OpcuaDevice) -> str:
    """A sentence where the endpoint names another host than the settings; else empty."""
    if not endpoint.url or host_of(endpoint.url) == device.host.lower():
        return ""
    return (
        f"the server calls its endpoint {endpoint.url[:200]}; we go on connecting to {device.url}, as configured "
        "(behind address translation that is as it should be)"
    )


def host_of(url: str) -> str:
    """The host in an endpoint's URL."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _policy(uri: str | None) -> str:
    return _text(uri).removeprefix(POLICY_URI)


def _text(value: object) -> str:
    return "".join(letter for letter in value[:500] if letter.isprintable()) if isinstance(value, str) else ""


def check_session_endpoints(name: str, descriptions: Sequence[Any] | None, endpoint: Endpoint) -> None:
    """Compare the endpoints in the session's response with those offered before (OPC 10000-4, 5.7.2.2).

    Raises:
        DeviceRefused: they differ, so that the unprotected offer may have been changed on its way.
    """
    now = parse_endpoints(descriptions)
    same = (endpoint.policy, endpoint.mode, endpoint.application_uri)
    # Not the certificate: servers leave it out here by the standard, and it is checked by itself.
    if now and not any((one.policy, one.mode, one.application_uri) == same for one in now):
        raise DeviceRefused(
            f"{name} offers another security in its session than before it: something between us and the server "
            f"may be changing messages; it was {endpoint}, it is {'; '.join(dict.fromkeys(map(str, now)))}"
        )
