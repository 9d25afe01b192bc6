"""TLS towards a broker or a device: a context from files, failures as sentences, and when certificates expire."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edge.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509Certificate

_MINIMUM = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
# OpenSSL's verification results (openssl-verification-options, X509_V_ERR_*). "{settings}" is where the files are set.
_VERIFICATION = {
    9: "its certificate is not valid yet; check the clocks of both sides",
    10: "its certificate has expired; renew it, or check this machine's clock",
    18: "its certificate is self-signed and not in our CA file; check {settings}.ca",
    19: "the authority of its certificate is not in our CA file; check {settings}.ca",
    20: "the authority of its certificate is not in our CA file; check {settings}.ca",
    23: "its certificate has been revoked",
    62: "its certificate is for another host name; use the name in the certificate as host, or renew it",
    64: "its certificate is for another address; use a name or address in the certificate as host, or renew it",
}
_ALERTS = {
    "CERTIFICATE_REQUIRED": "it asks for a client certificate; set {settings}.certificate and {settings}.key",
    "UNKNOWN_CA": "it does not know the authority of our certificate; load our CA into it",
    "CERTIFICATE_EXPIRED": "it says our certificate has expired; renew it, or check its clock",
    "CERTIFICATE_REVOKED": "it says our certificate has been revoked",
    "BAD_CERTIFICATE": "it refuses our certificate",
    "CERTIFICATE_UNKNOWN": "it refuses our certificate",
    "ACCESS_DENIED": "it knows our certificate and does not let us in",
    "HANDSHAKE_FAILURE": "it refuses the handshake; it may ask for a client certificate",
    "PROTOCOL_VERSION": "it speaks no TLS version that we accept ({minimum} and newer)",
    "UNSUPPORTED_PROTOCOL": "it speaks no TLS version that we accept ({minimum} and newer)",
    "WRONG_VERSION_NUMBER": "it does not speak TLS on this port",
    "RECORD_LAYER_FAILURE": "it does not speak TLS on this port",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where the trust and our own certificate are; read again for every connection, so that they can be renewed.

    Attributes:
        settings: the key of the configuration under which ca, certificate and key are set, for messages.
    """

    ca: Path
    certificate: Path | None = None
    key: Path | None = None
    minimum: Literal["1.2", "1.3"] = "1.3"
    settings: str = "tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate that a connection depends on.

    Attributes:
        whose: "ours" or "the device's", for a person.
        name: its subject, or the file it is in.
        expires_at_ns: UTC of the end of its validity.
        exception: what was accepted of it only because the settings say so; else empty.
    """

    whose: str
    name: str
    expires_at_ns: int
    exception: str = ""


def load_context(files: TlsFiles) -> ssl.SSLContext:
    """A context for a client that checks the certificate and name of its peer. Reads files: not for the event loop.

    Raises:
        ConfigError: a file is missing or is not what it should be.
    """
    return _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files)


def _load(context: ssl.SSLContext, files: TlsFiles) -> ssl.SSLContext:
    context.minimum_version = _MINIMUM[files.minimum]
    try:
        context.load_verify_locations(files.ca)
    except (OSError, ValueError) as error:
        raise ConfigError(f"CA file {files.ca} cannot be used: {_why(error)}; it must hold PEM certificates") from error
    if files.certificate is not None:
        try:
            context.load_cert_chain(files.certificate, files.key, password=_refuse_to_ask)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"certificate {files.certificate} with key {files.key or files.certificate} cannot be used: "
                f"{_why(error)}"
            ) from error
    return context


def load_server_context(files: TlsFiles) -> ssl.SSLContext:
    """As `load_context`, for a server that admits only clients with a certificate of its authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return _load(context, files)


def explain(error: Exception, files: TlsFiles | None = None) -> str:
    """What went wrong in TLS, said of the peer as "it"; `files` are those of the connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        other = f"its certificate is not trusted by our CA file ({error.verify_message}); check {{settings}}.ca"
        text = _VERIFICATION.get(error.verify_code, other)
    else:
        reason = (error.reason if isinstance(error, ssl.SSLError) else None) or str(error)
        text = next((text for alert, text in _ALERTS.items() if alert in reason.upper()), f"TLS failed: {reason}")
    settings, minimum = (files.settings, files.minimum) if files else ("tls", "1.2")
    return text.replace("{settings}", settings).replace("{minimum}", minimum)


def expiries(certificates: Iterable[bytes]) -> list[tuple[str, int]]:
    """(subject, UTC of the end in ns) of certificates in DER; ValueError for anything else."""
    from cryptography import x509  # Takes a while to import.

    return [_expiry(x509.load_der_x509_certificate(certificate)) for certificate in certificates]


def expiries_of_pem(pem: bytes) -> list[tuple[str, int]]:
    """As `expiries`, of all certificates of a PEM file; keys in it are passed over."""
    from cryptography import x509

    return [_expiry(certificate) for certificate in x509.load_pem_x509_certificates(pem)]


def own_certificates(files: TlsFiles) -> list[Certificate]:
    """Ours, with those above it in its file; empty where it cannot be read, which connecting says. Reads files."""
    if files.certificate is None:
        return []
    try:
        found = expiries_of_pem(files.certificate.read_bytes())
    except (OSError, ValueError):
        return []
    return [Certificate(whose="ours", name=name, expires_at_ns=expires_at_ns) for name, expires_at_ns in found]


def _expiry(certificate: X509Certificate) -> tuple[str, int]:
    name = certificate.subject.rfc4514_string() or "(without a name)"
    return name, int(certificate.not_valid_after_utc.timestamp()) * 10**9


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, PermissionError):
        return "it may not be read by this user"
    reason = error.reason if isinstance(error, ssl.SSLError) else str(error)
    if reason == "KEY_VALUES_MISMATCH":
        return "the key belongs to another certificate"
    return "it is not PEM" if reason in {"NO_START_LINE", "PEM lib", None} else str(reason)


def _refuse_to_ask() -> str:
    raise ValueError("the key is encrypted; hand it in through a credential instead")
