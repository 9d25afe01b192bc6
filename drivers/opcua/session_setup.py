"""From an endpoint to an activated session (OPC 10000-4, 5.7): who the server is, checked; who we are, never in clear.

Importing this module imports asyncua: only what connects does.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from asyncua import ua

from drivers.opcua.certificates import BadCertificate, der
from drivers.opcua.channel import (
    MESSAGE_BYTES,
    NO_SECURITY,
    POLICIES,
    EndedByServer,
    certificate_changed,
)
from drivers.opcua.connection import (
    ENDS_THE_CONNECTION,
    SESSION_IS_GONE,
    Connection,
    Endpoint,
    KeptSession,
    OperationLimits,
    ServiceRefused,
    check_session_endpoints,
    choose_endpoint,
    close,
    close_session,
    discovery_urls,
    host_and_port,
    host_note,
    keep_alive,
    open_connection,
    parse_endpoints,
    status_name,
    url_at,
)
from drivers.opcua.credentials import Credentials, add_user_token, load_credentials
from drivers.opcua.refusals import ABOUT_CERTIFICATE, code_of_refusal, why_refused
from drivers.opcua.settings import OpcuaDevice
from drivers.opcua.trust import TrustList, utc
from edge.clock import Clock
from edge.errors import DeviceRefused, DeviceUnreachable, ErrorCode, ProtocolViolation, TidegateError
from edge.tls import Certificate

_NONCE_BYTES = 32
_SHORTEST_SESSION_MS = 300
_NEEDS_SECURITY = frozenset({
    ua.StatusCodes.BadSecurityPolicyRejected, ua.StatusCodes.BadSecurityModeRejected,
    ua.StatusCodes.BadSecurityChecksFailed,
})  # fmt: skip


def policy_for(device: OpcuaDevice, credentials: Credentials) -> Any:
    """The library's policy for a channel to the server with the validated certificate, and to no other."""
    if device.security == "none":
        return NO_SECURITY()
    assert credentials.own is not None
    assert credentials.server is not None
    mode = ua.MessageSecurityMode[device.security.mode]
    return POLICIES[device.security.policy](credentials.server, credentials.own.certificate, credentials.own.key, mode)


async def continue_session(
    connection: Connection, device: OpcuaDevice, endpoint: Endpoint, credentials: Credentials, kept: KeptSession
) -> bool:
    """Activate the session of an earlier connection in this one (OPC 10000-4, 6.7); False where that is refused.

    Raises as `Connection.ask`. A session is tried once: a server may end the connection over it.
    """
    token, kept.token = kept.token, None
    if token is None:
        return False
    connection.channel.authentication_token = token
    connection.session_timeout_ms, connection.server_nonce = kept.timeout_ms, kept.nonce
    try:
        await _activate(connection, device, endpoint, credentials, frozenset())
    except ServiceRefused as refused:
        if refused.status not in SESSION_IS_GONE:  # It would count as one of ours until its timeout.
            with suppress(ServiceRefused):
                await close_session(connection, with_subscriptions=False)
        connection.channel.authentication_token = ua.NodeId()
        return False
    connection.is_continued = True
    return True


async def create_session(
    connection: Connection, device: OpcuaDevice, endpoint: Endpoint, credentials: Credentials
) -> None:
    """Create a session and activate it. Raises as `Connection.ask`, and DeviceRefused."""
    nonce, name = os.urandom(_NONCE_BYTES), connection.name
    policy = connection.channel.policy
    asked_for = _create_session_parameters(connection, device, credentials, nonce)
    created = (await connection.request(ua.CreateSessionRequest(Parameters=asked_for))).Parameters
    connection.channel.authentication_token = created.AuthenticationToken
    if device.security != "none":
        _check_server(name, created, policy, nonce)
        check_session_endpoints(name, created.ServerEndpoints, endpoint)
    if 0 < created.RevisedSessionTimeout < connection.session_timeout_ms:
        connection.session_timeout_ms = max(_SHORTEST_SESSION_MS, created.RevisedSessionTimeout)
    connection.server_nonce = bytes(created.ServerNonce or b"")
    await _activate(connection, device, endpoint, credentials)


async def _activate(
    connection: Connection,
    device: OpcuaDevice,
    endpoint: Endpoint,
    credentials: Credentials,
    fatal: frozenset[int] = ENDS_THE_CONNECTION,
) -> None:
    name, policy = connection.name, connection.channel.policy
    proof = (b"" if credentials.server is None else der(credentials.server)) + connection.server_nonce
    asked = ua.ActivateSessionParameters()
    asked.LocaleIds = ["en"]
    if device.security != "none":
        asked.ClientSignature.Algorithm = policy.AsymmetricSignatureURI
        asked.ClientSignature.Signature = policy.asymmetric_cryptography.signature(proof)
    add_user_token(name, asked, device, endpoint, credentials, proof)
    activated = (await connection.request(ua.ActivateSessionRequest(Parameters=asked), None, fatal)).Parameters
    connection.server_nonce = bytes(activated.ServerNonce or b"")


def _create_session_parameters(
    connection: Connection, device: OpcuaDevice, credentials: Credentials, nonce: bytes
) -> Any:
    about_us = ua.ApplicationDescription()
    about_us.ApplicationUri = credentials.own.uri if credentials.own else f"urn:{socket.gethostname()}:tidegate"
    about_us.ProductUri = "urn:tidegate"
    about_us.ApplicationName = ua.LocalizedText("Tidegate")
    about_us.ApplicationType = ua.ApplicationType.Client
    asked = ua.CreateSessionParameters()
    asked.ClientDescription = about_us
    asked.EndpointUrl = device.url
    asked.SessionName = f"tidegate {device.name}"
    asked.ClientNonce = nonce
    asked.ClientCertificate = der(credentials.own.certificate) if credentials.own else None
    asked.RequestedSessionTimeout = connection.session_timeout_ms
    asked.MaxResponseMessageSize = MESSAGE_BYTES
    return asked


def _check_server(name: str, created: Any, policy: Any, nonce: bytes) -> None:
    """Raise unless the server proves that it has the validated certificate's key (OPC 10000-4, 5.7.2.2)."""
    if not bytes(created.ServerCertificate or b"").startswith(policy.peer_certificate):
        raise DeviceRefused(certificate_changed(name), code=ErrorCode.DEVICE_NOT_TRUSTED)
    try:
        policy.asymmetric_cryptography.verify(policy.host_certificate + nonce, created.ServerSignature.Signature)
    except Exception as error:  # Any error means that the signature is not valid.
        raise ProtocolViolation(f"{name}: signature of the session", "one by the server's key", repr(error)) from error
    if len(created.ServerNonce or b"") < _NONCE_BYTES:
        raise ProtocolViolation(f"{name}: nonce", f">= {_NONCE_BYTES} bytes", len(created.ServerNonce or b""))


@asynccontextmanager
async def open_session(
    device: OpcuaDevice,
    clock: Clock,
    on_certificates: Callable[[Sequence[Certificate]], None] | None = None,
    kept: KeptSession | None = None,
) -> AsyncIterator[Connection]:
    """A session with the device's server, closed however the block ends.

    `on_certificates` gets the certificates that it depends on as soon as they are known, also where it then fails.
    With `kept`, the session outlives a lost connection: the next block with the same `kept` continues it.

    Raises:
        DeviceUnreachable: there is no answer.
        DeviceRefused: the server refuses us, or its certificate is not trusted.
    """
    opening_s = device.limits.connect_timeout / 1e9
    keeper: asyncio.Task[None] | None = None
    connection: Connection | None = None
    outlives, kept = kept is not None, kept or KeptSession()
    is_interrupted = False
    try:
        try:
            async with asyncio.timeout(opening_s):
                connection = await _open(device, clock, on_certificates, kept)
                await _read_limits(connection)
        except TimeoutError as error:
            raise DeviceUnreachable(
                f"{host_and_port(device.url)} did not open a session within {opening_s:g} s"
            ) from error
        keeper = asyncio.create_task(keep_alive(connection), name=f"keep {connection.name}")
        try:
            yield connection
        except DeviceUnreachable:
            is_interrupted = outlives
            raise
        finally:
            kept.token, kept.nonce = connection.channel.authentication_token, connection.server_nonce
            kept.timeout_ms = connection.session_timeout_ms
    finally:
        if connection is not None:
            await close(connection, keeper, keeps_session=is_interrupted)
            if connection.has_ended_session:
                kept.token = None


async def _open(
    device: OpcuaDevice,
    clock: Clock,
    on_certificates: Callable[[Sequence[Certificate]], None] | None,
    kept: KeptSession,
) -> Connection:
    """Choose the endpoint, validate the server and activate a session; closes the connection where that fails."""
    name, credentials = host_and_port(device.url), Credentials()
    endpoint: Endpoint | None = None
    connection: Connection | None = None
    try:
        connection, is_secured = await _connect(device, clock)
        found = parse_endpoints(await endpoints(connection))
        endpoint = choose_endpoint(name, found, device)
        credentials = await asyncio.to_thread(load_credentials, name, device, endpoint, utc(clock.utc_ns()))
        if on_certificates is not None:
            on_certificates(tuple(credentials.certificates()))
        if device.security != "none" and not is_secured:
            await close(connection)
            connection = await open_connection(
                device.url, clock, device.limits.timeout / 1e9, policy_for(device, credentials)
            )
        if not await continue_session(connection, device, endpoint, credentials, kept):
            await create_session(connection, device, endpoint, credentials)
    except BaseException as error:
        if connection is not None:
            await close(connection)
        if isinstance(error, ServiceRefused | EndedByServer):
            await _explain(error, name, device, clock, endpoint, credentials)
        raise
    connection.application_uri, connection.host_note = endpoint.application_uri, host_note(endpoint, device)
    return connection


async def _explain(
    error: ServiceRefused | EndedByServer,
    name: str,
    device: OpcuaDevice,
    clock: Clock,
    endpoint: Endpoint | None,
    credentials: Credentials,
) -> None:
    """Raise DeviceRefused with a sentence, where the error code explains the refusal."""
    if endpoint is not None and error.status in ABOUT_CERTIFICATE and credentials.server is not None:
        # A server that changed its certificate cannot decrypt for the old one, and answers with one of these codes.
        shown = {endpoint.certificate}
        with suppress(TidegateError):
            shown = {one.certificate for one in await _current_endpoints(device.url, device, clock)}
        if endpoint.certificate not in shown:
            raise DeviceRefused(certificate_changed(name), code=ErrorCode.DEVICE_NOT_TRUSTED) from error
    if error.status == ua.StatusCodes.BadTcpEndpointUrlInvalid:
        raise DeviceRefused(await _wrong_path(name, device, clock)) from error
    note = host_note(endpoint, device) if endpoint else ""
    if why := why_refused(name, error.status, status_name(error.status), device, credentials, note):
        raise DeviceRefused(why, code=code_of_refusal(error.status)) from error


async def _connect(device: OpcuaDevice, clock: Clock) -> tuple[Connection, bool]:
    """A connection that may ask for the endpoints, and whether it is secured.

    Without security, for which no certificate is needed; where the server refuses that, with those trusted beforehand.
    """
    timeout_s = device.limits.timeout / 1e9
    try:
        return await open_connection(device.url, clock, timeout_s, NO_SECURITY()), False
    except (ServiceRefused, EndedByServer) as refused:
        if device.security == "none" or device.certificates is None or refused.status not in _NEEDS_SECURITY:
            raise
    name, trust = host_and_port(device.url), TrustList(device.certificates)
    try:
        own = await asyncio.to_thread(trust.own, utc(clock.utc_ns()))
    except BadCertificate as error:
        raise DeviceRefused(f"{name}: {error}", code=ErrorCode.DEVICE_NOT_TRUSTED) from error
    last = ""
    for certificate in await asyncio.to_thread(trust.servers, device.host):
        try:
            policy = policy_for(device, Credentials(own, certificate))
            return await open_connection(device.url, clock, timeout_s, policy), True
        except TidegateError as error:
            last = f" ({error})"
    raise DeviceRefused(
        f"{name} answers nothing without security, and no certificate in {device.certificates}/trusted opens it{last}: "
        f"have the server's own sent to you as a file, then: tidegate keys opcua trust {device.certificates} FILE; and "
        "see that the server trusts ours",
        code=ErrorCode.DEVICE_NOT_TRUSTED,
    )


async def _wrong_path(name: str, device: OpcuaDevice, clock: Clock) -> str:
    """What to write in `url`, as the server says it where it may be asked."""
    is_here = f"an OPC UA server is at {name}, and does not know {device.url} (BadTcpEndpointUrlInvalid)"
    for url in discovery_urls(device.url):
        with suppress(TidegateError):
            if offered := {url_at(url, one.url): one for one in await _current_endpoints(url, device, clock)}:
                return f"{is_here}; write in `url` what it offers: {' or '.join(offered)}"
    return f"{is_here}: its path is missing in `url`, or another; it is in the server's own settings"


async def _current_endpoints(url: str, device: OpcuaDevice, clock: Clock) -> list[Endpoint]:
    connection = await open_connection(url, clock, device.limits.timeout / 1e9, NO_SECURITY())
    try:
        return parse_endpoints(await endpoints(connection))
    finally:
        await close(connection)


async def endpoints(connection: Connection) -> Sequence[ua.EndpointDescription]:
    """The server's endpoints. Raises as `Connection.ask`."""
    asked = ua.GetEndpointsRequest(Parameters=ua.GetEndpointsParameters(EndpointUrl=connection.url))
    return (await connection.request(asked)).Endpoints or ()


async def _read_limits(connection: Connection) -> None:
    """Read the server's namespaces and operation limits, in one request."""
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
