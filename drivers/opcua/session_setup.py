"""From an endpoint to an activated session (OPC 10000-4, 5.7): who the server is, checked; who we are, never in clear.

Importing this module imports asyncua: only what connects does.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from asyncua import ua
from asyncua.crypto import security_policies
from asyncua.crypto.security_policies import SecurityPolicyNone
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from drivers.opcua.certificates import BadCertificate, der, in_pairs, load_key, parse, sha1_fingerprint, subject
from drivers.opcua.channel import MESSAGE_BYTES, EndedByServer, swapped
from drivers.opcua.connection import (
    POLICIES,
    Connection,
    Offer,
    OperationLimits,
    ServiceRefused,
    choose,
    close,
    find_application,
    host_note,
    keep,
    offers,
    reach,
    status_name,
    token_for,
    wanted,
    where,
)
from drivers.opcua.settings import OpcuaDevice
from drivers.opcua.trust import Judge, Own, TrustList, Untrusted, utc
from edge.clock import Clock
from edge.errors import ConfigError, DeviceRefused, DeviceUnreachable, ProtocolViolation, TidegateError
from edge.tls import Certificate

_CLASSES = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
_NONCE_BYTES = 32
_SHORTEST_SESSION_MS = 300

_code = ua.StatusCodes
ABOUT_USER = frozenset({_code.BadUserAccessDenied, _code.BadIdentityTokenInvalid, _code.BadIdentityTokenRejected,
                        _code.BadUserSignatureInvalid})  # fmt: skip
ABOUT_CERTIFICATE = frozenset({
    _code.BadSecurityChecksFailed, _code.BadCertificateInvalid, _code.BadCertificateTimeInvalid,
    _code.BadCertificateIssuerTimeInvalid, _code.BadCertificateHostNameInvalid, _code.BadCertificateUriInvalid,
    _code.BadCertificateUseNotAllowed, _code.BadCertificateIssuerUseNotAllowed, _code.BadCertificateUntrusted,
    _code.BadCertificateRevocationUnknown, _code.BadCertificateIssuerRevocationUnknown, _code.BadCertificateRevoked,
    _code.BadCertificateIssuerRevoked, _code.BadCertificateChainIncomplete, _code.BadCertificatePolicyCheckFailed,
    _code.BadNoValidCertificates, _code.BadApplicationSignatureInvalid, _code.BadNonceInvalid,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a session needs from the disk, read anew for each, so that a renewed file counts from the next one on."""

    own: Own | None = None
    server: x509.Certificate | None = None
    password: bytes = field(default=b"", repr=False)
    user: x509.Certificate | None = None
    user_key: rsa.RSAPrivateKey | None = field(default=None, repr=False)

    def certificates(self) -> Iterator[Certificate]:
        """Those that expire, for whoever warns of it."""
        ours = self.own.certificate if self.own else None
        for whose, certificate in (("ours", ours), ("the device's", self.server), ("ours", self.user)):
            if certificate is not None:
                expires_at_ns = int(certificate.not_valid_after_utc.timestamp()) * 10**9
                yield Certificate(whose=whose, name=subject(certificate), expires_at_ns=expires_at_ns)


def gather(name: str, device: OpcuaDevice, offer: Offer, now: datetime) -> Secrets:
    """Read certificates and keys, and judge the server's. It reads files: call it in a thread.

    Raises:
        DeviceRefused: something is missing, or the server is not trusted.
    """
    if device.certificates is None or (device.security == "none" and device.user is None):
        return Secrets()  # Nothing is proven to anybody, and nothing confided.
    trust, user = TrustList(device.certificates), device.user
    try:
        own = trust.own(now) if device.security != "none" else None
        judge = Judge(trust, offer.application_uri, device.host, device.host_check, now)
        server = judge.judge(offer.certificate)
        if user is None:
            return Secrets(own, server)
        if user.password is not None:
            return Secrets(own, server, user.password.read().rstrip(b"\r\n"))
        assert user.certificate is not None
        assert user.key is not None
        return Secrets(own, server, b"", parse(user.certificate.read()), load_key(user.key.read()))
    except (BadCertificate, Untrusted, ConfigError, OSError) as error:
        raise DeviceRefused(f"{name}: {error}") from error


def policy_for(device: OpcuaDevice, secrets: Secrets) -> Any:
    """The library's policy for a channel to the server whose certificate was judged, and to no other."""
    if device.security == "none":
        return security_policies.SecurityPolicyNone()
    assert secrets.own is not None
    assert secrets.server is not None
    mode = ua.MessageSecurityMode[device.security.mode]
    return _CLASSES[device.security.policy](secrets.server, secrets.own.certificate, secrets.own.key, mode)


async def log_in(connection: Connection, device: OpcuaDevice, offer: Offer, secrets: Secrets) -> None:
    """Create a session and activate it. Raises as `Connection.ask`, and DeviceRefused."""
    nonce, name = os.urandom(_NONCE_BYTES), connection.name
    policy = connection.transport.policy
    asked_for = _creation(connection, device, secrets, nonce)
    created = (await connection.request(ua.CreateSessionRequest(Parameters=asked_for))).Parameters
    connection.transport.authentication_token = created.AuthenticationToken
    if device.security != "none":
        _check_server(name, created, policy, nonce)
        find_application(name, created.ServerEndpoints, offer)
    if 0 < created.RevisedSessionTimeout < connection.session_timeout_ms:
        connection.session_timeout_ms = max(_SHORTEST_SESSION_MS, created.RevisedSessionTimeout)
    proof = (b"" if secrets.server is None else der(secrets.server)) + bytes(created.ServerNonce or b"")
    asked = ua.ActivateSessionParameters()
    asked.LocaleIds = ["en"]
    if device.security != "none":
        asked.ClientSignature.Algorithm = policy.AsymmetricSignatureURI
        asked.ClientSignature.Signature = policy.asymmetric_cryptography.signature(proof)
    _introduce(name, asked, device, offer, secrets, proof)
    await connection.request(ua.ActivateSessionRequest(Parameters=asked))


def _creation(connection: Connection, device: OpcuaDevice, secrets: Secrets, nonce: bytes) -> Any:
    about_us = ua.ApplicationDescription()
    about_us.ApplicationUri = secrets.own.uri if secrets.own else f"urn:{socket.gethostname()}:tidegate"
    about_us.ProductUri = "urn:tidegate"
    about_us.ApplicationName = ua.LocalizedText("Tidegate")
    about_us.ApplicationType = ua.ApplicationType.Client
    asked = ua.CreateSessionParameters()
    asked.ClientDescription = about_us
    asked.EndpointUrl = device.url
    asked.SessionName = f"tidegate {device.name}"
    asked.ClientNonce = nonce
    asked.ClientCertificate = der(secrets.own.certificate) if secrets.own else None
    asked.RequestedSessionTimeout = connection.session_timeout_ms
    asked.MaxResponseMessageSize = MESSAGE_BYTES
    return asked


def _check_server(name: str, created: Any, policy: Any, nonce: bytes) -> None:
    """Whoever answered holds the key of the certificate that was judged (OPC 10000-4 5.7.2.2)."""
    if not bytes(created.ServerCertificate or b"").startswith(policy.peer_certificate):
        raise DeviceRefused(swapped(name))
    try:
        policy.asymmetric_cryptography.verify(policy.host_certificate + nonce, created.ServerSignature.Signature)
    except Exception as error:  # Whatever it is: the proof is none.
        raise ProtocolViolation(f"{name}: signature of the session", "one by the server's key", repr(error)) from error
    if len(created.ServerNonce or b"") < _NONCE_BYTES:
        raise ProtocolViolation(f"{name}: nonce", f">= {_NONCE_BYTES} bytes", len(created.ServerNonce or b""))


def _introduce(name: str, asked: Any, device: OpcuaDevice, offer: Offer, secrets: Secrets, proof: bytes) -> None:
    """Say who we are."""
    token = token_for(offer, wanted(device)[2])
    user, policy = device.user, token.policy or offer.policy
    if user is None:
        asked.UserIdentityToken = ua.AnonymousIdentityToken()
    elif user.name is not None:
        asked.UserIdentityToken = ua.UserNameIdentityToken()
        asked.UserIdentityToken.UserName = user.name
        _give_password(name, asked.UserIdentityToken, policy, device, secrets, proof)
    else:
        _check_token_policy(name, policy, "a signature of the user's certificate")
        assert secrets.user is not None
        asked.UserIdentityToken = ua.X509IdentityToken()
        asked.UserIdentityToken.CertificateData = der(secrets.user)
        signed = security_policies.sign_asymmetric(secrets.user_key, proof, POLICIES + policy)
        asked.UserTokenSignature.Signature, asked.UserTokenSignature.Algorithm = signed
    asked.UserIdentityToken.PolicyId = token.id


def _give_password(name: str, identity: Any, policy: str, device: OpcuaDevice, secrets: Secrets, proof: bytes) -> None:
    """Put the password into the token, encrypted for the server alone unless the whole channel is (7.41.4)."""
    if policy == "None" and device.security != "none" and device.security.mode == "SignAndEncrypt":
        identity.Password = secrets.password
        return
    _check_token_policy(name, policy, "the password")
    assert secrets.server is not None
    nonce = proof[len(der(secrets.server)) :]
    secret = struct.pack("<I", len(secrets.password) + len(nonce)) + secrets.password + nonce
    try:
        made = security_policies.encrypt_asymmetric(secrets.server.public_key(), secret, POLICIES + policy)
    except ValueError as error:
        raise DeviceRefused(f"{name}: the password is too long for the server's key") from error
    identity.Password, identity.EncryptionAlgorithm = made


def _check_token_policy(name: str, policy: str, what: str) -> None:
    if policy == "None":
        raise DeviceRefused(
            f"{name} takes {what} unprotected only, and so it is not sent: set security to SignAndEncrypt, or have the "
            "server ask for a security policy for users"
        )
    if policy not in _CLASSES:
        raise DeviceRefused(
            f"{name} wants {what} protected with {policy}, which is not safe any more, or not known here"
        )


def why_refused(name: str, code: int, code_name: str, device: OpcuaDevice, secrets: Secrets, note: str) -> str | None:
    """A sentence on why a server will not have us, with what to do; None where the code says nothing about that."""
    after = f"; {note}" if note else ""
    if code in ABOUT_USER:
        user = device.user
        who = "anonymous users" if user is None else f"the user {user.name}" if user.name else "the user's certificate"
        return f"{name} refuses {who} ({code_name}): check `user`, and the rights it has on the server{after}"
    if code in ABOUT_CERTIFICATE and secrets.own is not None:
        print_ = in_pairs(sha1_fingerprint(secrets.own.certificate))
        return (
            f"{name} refuses our certificate ({code_name}): trust it on the server, among whose rejected ones it is "
            f"with the thumbprint {print_} (SHA-1), application {secrets.own.uri}{after}"
        )
    if code == _code.BadTcpEndpointUrlInvalid:
        return f"{name} does not know {device.url}: check the path in url{after}"
    return None


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
