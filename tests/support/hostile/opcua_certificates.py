"""Certificates that OPC UA servers show, with one thing wrong, and trust lists of the gateway."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from drivers.opcua.certificates import Application, der, key_pem, new_key, self_signed
from drivers.opcua.trust import TrustList
from tests.support.hostile.opcua_parameters import OWN_URI
from tests.support.hostile.opcua_parameters import endpoint as plain_endpoint
from tests.support.opcua.certificates import NOW, Maker
from tests.support.opcua.sealing import POLICY

_SIGN_AND_ENCRYPT = 3


@dataclass(frozen=True, slots=True)
class Certificates:
    """The certificates that a server shows, and the gateway's trust list.

    Attributes:
        certificate: of its endpoints and its sessions, with its key.
        announced: what its endpoints show instead, in DER.
        channel: what its channel shows instead, with the key that signs there.
        trusted: certificates that the gateway trusts.
        revoked: revocation lists that it has.
        uri: of the application in its endpoints.
        nonce: of its channel; random if there is none.
    """

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey
    announced: bytes | None = None
    channel: tuple[x509.Certificate, rsa.RSAPrivateKey] | None = None
    trusted: tuple[x509.Certificate, ...] = ()
    revoked: tuple[x509.CertificateRevocationList, ...] = ()
    uri: str = OWN_URI
    nonce: bytes | None = None

    def endpoint(self, *, policy: str = POLICY, mode: int = _SIGN_AND_ENCRYPT) -> bytes:
        """The endpoint that is offered."""
        shown = der(self.certificate) if self.announced is None else self.announced
        return plain_endpoint(policy=policy, mode=mode, certificate=shown, uri=self.uri)


@cache
def maker() -> Maker:
    """The maker whose keys are shared by all."""
    return Maker()


@cache
def _our_key() -> rsa.RSAPrivateKey:
    return new_key(2048)


def _make(**wrong: Any) -> x509.Certificate:
    return maker().make(**({"uri": OWN_URI} | wrong))


@cache
def good() -> Certificates:
    """Certificates with nothing wrong."""
    certificate = _make()
    return Certificates(certificate, maker().keys[0], trusted=(certificate,))


def with_(**wrong: Any) -> Callable[[], Certificates]:
    """A server whose certificate is trusted, and has one thing wrong."""

    def shown() -> Certificates:
        certificate = _make(**wrong)
        return Certificates(
            certificate, wrong.get("private") or maker().keys[wrong.get("key", 0)], trusted=(certificate,)
        )

    return shown


def unknown() -> Certificates:
    """A self-signed certificate that is not trusted."""
    return replace(with_(key=2)(), trusted=())


def issued(*, is_trusted: bool, is_revoked: bool = False, **wrong: Any) -> Callable[[], Certificates]:
    """Issued by an authority."""

    def shown() -> Certificates:
        authority = maker().authority()
        certificate = _make(issuer=(authority, 1), **wrong)
        revoked = (maker().revocations(authority, *[certificate] * is_revoked),) if is_trusted else ()
        return Certificates(
            certificate,
            maker().keys[0],
            trusted=(authority,) if is_trusted else (),
            revoked=revoked,
        )

    return shown


def weak() -> Certificates:
    """With a key of 1024 bits."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    return with_(private=key)()


def swapped() -> Certificates:
    """Another certificate in the channel than in the endpoints."""
    other = _make(key=2)
    return replace(good(), channel=(other, maker().keys[2]))


def signed_by_another() -> Certificates:
    """In a channel that was signed with another key."""
    return replace(good(), channel=(good().certificate, maker().keys[2]))


def fill(directory: Path, shown: Certificates) -> None:
    """Fill a trust list with our own certificate and those that the gateway trusts."""
    trust = TrustList(directory)
    application = Application("hostile", "gateway", ("gateway",))
    (directory / "own").mkdir(parents=True)
    key = _our_key()
    (directory / "own" / "key.pem").write_bytes(key_pem(key))
    (directory / "own" / "key.pem").chmod(0o600)

    (directory / "own" / "cert.der").write_bytes(der(self_signed(application, key, NOW, 30)))
    for certificate in (*good().trusted, *shown.trusted):
        trust.trust(certificate)
    for number, revoked in enumerate(shown.revoked):
        (directory / "crl" / f"{number}.crl").write_bytes(revoked.public_bytes(serialization.Encoding.DER))
