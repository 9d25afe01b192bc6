"""TLS to the broker: a context from files, and its failures as sentences."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.driver import Certificate
from edge.errors import ConfigError
from edge.seal.certificates import expiries_of_pem

_MINIMUM = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
# OpenSSL's verification results (openssl-verification-options, X509_V_ERR_*).
_VERIFICATION = {
    9: "its certificate is not valid yet; check the clocks of both sides",
    10: "its certificate has expired; renew it, or check this machine's clock",
    23: "its certificate has been revoked",
    62: "its certificate is for another host name; use the name in the certificate, or renew it",
    64: "its certificate is for another address; use a name or address in the certificate, or renew it",
}
_ALERTS = {
    "CERTIFICATE_REQUIRED": "it asks for a client certificate; set uplink.mqtt.tls certificate and key",
    "UNKNOWN_CA": "it does not know the authority of our certificate; check the broker's CA file",
    "CERTIFICATE_EXPIRED": "it says our certificate has expired; renew it",
    "CERTIFICATE_REVOKED": "it says our certificate has been revoked",
    "BAD_CERTIFICATE": "it refused our certificate",
    "CERTIFICATE_UNKNOWN": "it refused our certificate",
    "HANDSHAKE_FAILURE": "it refused the handshake; it may ask for a client certificate",
    "PROTOCOL_VERSION": "it does not speak the TLS version we insist on",
    "UNSUPPORTED_PROTOCOL": "it does not speak the TLS version we insist on",
    "WRONG_VERSION_NUMBER": "it does not speak TLS on this port",
    "RECORD_LAYER_FAILURE": "it does not speak TLS on this port",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where the trust and our own certificate are; read again for every connection, so that they can be renewed."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None
    minimum: Literal["1.2", "1.3"] = "1.3"


def load_context(files: TlsFiles) -> ssl.SSLContext:
    """A context that checks the broker's certificate and name. Reads files: not for the event loop.

    Raises:
        ConfigError: a file is missing or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
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
                f"client certificate {files.certificate} with key {files.key or files.certificate} cannot be used: "
                f"{_why(error)}"
            ) from error
    return context


def own_certificates(files: TlsFiles) -> list[Certificate]:
    """Ours, with those above it in its file; none where it cannot be read, which connecting says. Reads files."""
    if files.certificate is None:
        return []
    try:
        found = expiries_of_pem(files.certificate.read_bytes())
    except (OSError, ValueError):
        return []
    return [Certificate(whose="ours", name=name, expires_at_ns=expires_at_ns) for name, expires_at_ns in found]


def explain(error: Exception) -> str:
    """What went wrong in TLS, said of the broker as "it"."""
    if isinstance(error, ssl.SSLCertVerificationError):
        code = error.verify_code
        return _VERIFICATION.get(
            code, f"its certificate is not trusted by our CA file ({error.verify_message}); check uplink.mqtt.tls.ca"
        )
    reason = (error.reason if isinstance(error, ssl.SSLError) else None) or str(error)
    return next((text for alert, text in _ALERTS.items() if alert in reason.upper()), f"TLS failed: {reason}")


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
