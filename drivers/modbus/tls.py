"""Modbus/TCP Security (MB-TCP-Security v21): a context from files, and every failure as a sentence."""

from __future__ import annotations

import ssl

from drivers.modbus.access import ModbusTls
from edge.errors import ConfigError, DeviceRefused

# OpenSSL's verification results (openssl-verification-options, X509_V_ERR_*).
_VERIFICATION = {
    9: "its certificate is not valid yet; check the clocks of both sides",
    10: "its certificate has expired; renew it, or check this machine's clock",
    18: "its certificate is self-signed and not in our CA file; check tls.ca",
    19: "the authority of its certificate is not in our CA file; check tls.ca",
    20: "the authority of its certificate is not in our CA file; check tls.ca",
    23: "its certificate has been revoked",
    62: "its certificate is for another host name; use the name in the certificate as host, or renew it",
    64: "its certificate is for another address; use a name or address in the certificate as host, or renew it",
}
_ALERTS = {
    "CERTIFICATE_REQUIRED": "it asks for a client certificate; say which in tls.certificate and tls.key",
    "UNKNOWN_CA": "it does not know the authority of our certificate; load our CA into the device",
    "CERTIFICATE_EXPIRED": "it says our certificate has expired; renew it, or check the device's clock",
    "CERTIFICATE_REVOKED": "it says our certificate has been revoked",
    "BAD_CERTIFICATE": "it refuses our certificate",
    "CERTIFICATE_UNKNOWN": "it refuses our certificate",
    "ACCESS_DENIED": "it knows our certificate and does not let us in",
    "HANDSHAKE_FAILURE": "it refuses the handshake; it may ask for a client certificate",
    "PROTOCOL_VERSION": "it speaks no TLS version that we accept (1.2 and newer)",
    "UNSUPPORTED_PROTOCOL": "it speaks no TLS version that we accept (1.2 and newer)",
    "WRONG_VERSION_NUMBER": "it does not speak TLS on this port",
    "RECORD_LAYER_FAILURE": "it does not speak TLS on this port",
}


def load_context(files: ModbusTls) -> ssl.SSLContext:
    """A context that checks the device's certificate and host name. Reads files: not for the event loop.

    Raises:
        DeviceRefused: a file cannot be used; they are read again for each connection, so that they can be renewed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    what = f"tls.ca {files.ca}"
    try:
        context.load_verify_locations(files.ca.path)
        if files.certificate is not None and files.key is not None:
            what = f"tls.certificate {files.certificate} with tls.key {files.key}"
            context.load_cert_chain(files.certificate.path, files.key.path, password=_refuse_to_ask)
    except ConfigError as error:
        raise DeviceRefused(str(error)) from error
    except (OSError, ValueError) as error:
        raise DeviceRefused(f"{what} cannot be used: {_why(error)}") from error
    return context


def explain(error: Exception) -> str:
    """What went wrong in TLS, said of the device as "it"."""
    if isinstance(error, ssl.SSLCertVerificationError):
        other = f"its certificate is not trusted ({error.verify_message}); check tls.ca"
        return _VERIFICATION.get(error.verify_code, other)
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
