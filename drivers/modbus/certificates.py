"""When the certificates that a Modbus/TLS session depends on expire.

cryptography takes a while to import: a thread does it, and only where there is TLS.
"""

from __future__ import annotations

from typing import Literal

from cryptography import x509

from edge.tls import Certificate


def of_pem(whose: Literal["ours", "the device's"], pem: bytes) -> tuple[Certificate, ...]:
    """The first certificate of a file that OpenSSL has taken; none where it cannot be read here."""
    try:
        return (_certificate(whose, x509.load_pem_x509_certificates(pem)[0]),)
    except ValueError:
        return ()


def of_der(whose: Literal["ours", "the device's"], der: bytes) -> tuple[Certificate, ...]:
    """As `of_pem`, of one that was shown to us."""
    try:
        return (_certificate(whose, x509.load_der_x509_certificate(der)),)
    except ValueError:
        return ()


def _certificate(whose: str, certificate: x509.Certificate) -> Certificate:
    name = certificate.subject.rfc4514_string() or "(without a name)"
    expires_at_ns = int(certificate.not_valid_after_utc.timestamp()) * 10**9
    return Certificate(whose=whose, name=name, expires_at_ns=expires_at_ns)
