"""Who we are to a server, and who it is: certificates, keys, passwords, and the tokens that are made of them.

Importing this module imports asyncua: only what connects does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from asyncua import ua
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from drivers.opcua.certificates import BadCertificate, der, load_key, parse, subject
from drivers.opcua.channel import encrypt, sign
from drivers.opcua.connection import Endpoint, Token, requested_security
from drivers.opcua.settings import OpcuaDevice
from drivers.opcua.trust import CertificateValidator, OwnCertificate, TrustList, Untrusted
from edge.errors import ConfigError, DeviceRefused, ErrorCode
from edge.tls import Certificate

_SAFE = ("Aes256_Sha256_RsaPss", "Basic256Sha256", "Aes128_Sha256_RsaOaep")
"""Policies for users without SHA-1 or PKCS#1 v1.5 encryption, the best first. Basic256 encrypts as Basic256Sha256."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Certificates, keys and password, read from the disk for each session, so that renewed files take effect.

    Attributes:
        exception: what was accepted of the server's certificate only because the settings say so; else empty.
    """

    own: OwnCertificate | None = None
    server: x509.Certificate | None = None
    password: bytes = field(default=b"", repr=False)
    user: x509.Certificate | None = None
    user_key: rsa.RSAPrivateKey | None = field(default=None, repr=False)
    exception: str = ""

    def certificates(self) -> Iterator[Certificate]:
        """The certificates whose expiry is monitored."""
        ours = self.own.certificate if self.own else None
        for whose, certificate in (("ours", ours), ("the device's", self.server), ("ours", self.user)):
            if certificate is not None:
                expires_at_ns = int(certificate.not_valid_after_utc.timestamp()) * 10**9
                exception = self.exception if certificate is self.server else ""
                yield Certificate(
                    whose=whose, name=subject(certificate), expires_at_ns=expires_at_ns, exception=exception
                )


def load_credentials(name: str, device: OpcuaDevice, endpoint: Endpoint, now: datetime) -> Credentials:
    """Read certificates and keys, and validate the server's. Reads files: call it in a thread.

    Raises:
        DeviceRefused: something is missing, or the server is not trusted.
    """
    if device.certificates is None or (device.security == "none" and device.user is None):
        return Credentials()  # Neither side authenticates, and there is no password to protect.
    trust, user = TrustList(device.certificates), device.user
    try:
        own = trust.own(now) if device.security != "none" else None
        expected_uri = device.certificate_uri or endpoint.application_uri
        validate = CertificateValidator(trust, expected_uri, device.host, device.host_check, now)
        server, exception = validate.validate(endpoint.certificate), ""
        if expected_uri != endpoint.application_uri:
            exception = (
                f"its certificate is for {expected_uri}, while it calls itself {endpoint.application_uri}: accepted by "
                "`certificate_uri`"
            )
        if user is None:
            return Credentials(own, server, exception=exception)
        if user.password is not None:
            return Credentials(own, server, user.password.read().rstrip(b"\r\n"), exception=exception)
        assert user.certificate is not None
        assert user.key is not None
        keys = parse(user.certificate.read()), load_key(user.key.read())
        return Credentials(own, server, b"", *keys, exception=exception)
    except (BadCertificate, Untrusted, ConfigError, OSError) as error:
        raise DeviceRefused(f"{name}: {error}", code=ErrorCode.DEVICE_NOT_TRUSTED) from error


def add_user_token(
    name: str, asked: Any, device: OpcuaDevice, endpoint: Endpoint, credentials: Credentials, proof: bytes
) -> None:
    """Set the UserIdentityToken, with its signature. Raises DeviceRefused where none can be sent safely."""
    user = device.user
    token, policy = _best_token(name, endpoint, device)
    if user is None:
        asked.UserIdentityToken = ua.AnonymousIdentityToken()
    elif user.name is not None:
        asked.UserIdentityToken = ua.UserNameIdentityToken()
        asked.UserIdentityToken.UserName = user.name
        _add_password(name, asked.UserIdentityToken, policy, credentials, proof)
    else:
        assert credentials.user is not None
        assert credentials.user_key is not None
        asked.UserIdentityToken = ua.X509IdentityToken()
        asked.UserIdentityToken.CertificateData = der(credentials.user)
        signed = sign(credentials.user_key, proof, policy)
        asked.UserTokenSignature.Signature, asked.UserTokenSignature.Algorithm = signed
    asked.UserIdentityToken.PolicyId = token.id


def _best_token(name: str, endpoint: Endpoint, device: OpcuaDevice) -> tuple[Token, str]:
    """The endpoint's token with the best security policy that may be used, and that policy."""
    kind, user = requested_security(device)[2], device.user
    offered = {token.policy or endpoint.policy: token for token in endpoint.tokens[::-1] if token.kind == kind}
    if user is None:
        return next((token, "None") for token in offered.values())
    is_encrypted = device.security != "none" and device.security.mode == "SignAndEncrypt"
    if user.name is not None:
        usable = (*_SAFE, "Basic256", *(("None", "Basic128Rsa15") if is_encrypted else ()))
    else:
        usable = (*_SAFE, *(("Basic256", "Basic128Rsa15") if user.signature == "sha1" else ()))
    for policy in usable:
        if policy in offered:
            return offered[policy], policy
    if user.name is None:
        remedy = "let it sign with SHA-1 too (`user: {signature: sha1}`), or have"
        what = "a signature of the user's certificate"
    else:
        what, remedy = "the password", "set security to SignAndEncrypt, or have"
    how = "unprotected only" if set(offered) == {"None"} else f"with {' or '.join(offered)} only, which is not safe"
    raise DeviceRefused(f"{name} takes {what} {how}, and so it is not sent: {remedy} the server ask for a better one",
                        code=ErrorCode.DEVICE_LOGIN)  # fmt: skip


def _add_password(name: str, identity: Any, policy: str, credentials: Credentials, proof: bytes) -> None:
    """Set the password, encrypted with the server's key unless the channel is to do that (OPC 10000-4, 7.41.4)."""
    if policy == "None":
        identity.Password = credentials.password
        return
    assert credentials.server is not None
    nonce = proof[len(der(credentials.server)) :]
    secret = struct.pack("<I", len(credentials.password) + len(nonce)) + credentials.password + nonce
    try:
        made = encrypt(credentials.server, secret, policy)
    except ValueError as error:
        why = f"{name}: the password is too long for the server's key"
        raise DeviceRefused(why, code=ErrorCode.DEVICE_LOGIN) from error
    identity.Password, identity.EncryptionAlgorithm = made
