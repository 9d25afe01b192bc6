"""The certification authority of a rig: it issues the certificates of broker, gateway, relay and view."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = timedelta(days=1)


class Authority:
    """An authority with a folder: `ca.pem`, and for each name that it issued NAME.pem and NAME.key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("rig authority")
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = self._builder(self._name, self._key, 3650 * _DAY).add_extension(x509.BasicConstraints(True, None), True)
        self._write("ca.pem", made.add_extension(usage, True).sign(self._key, hashes.SHA256()))

    def issue(self, name: str, hosts: Sequence[str] = (), lifetime: timedelta = 825 * _DAY) -> None:
        """Issue a certificate with a new key: of a server with its hosts or addresses, without them of a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        made = self._builder(_name(name), key, lifetime).add_extension(x509.ExtendedKeyUsage([usage]), False)
        made = made.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts or (name,)]), False)
        self._write(f"{name}.pem", made.sign(self._key, hashes.SHA256()))
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file = self.folder / f"{name}.key"
        file.touch(mode=0o600)
        file.write_bytes(pem)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, lifetime: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + lifetime)
        )

    def _write(self, name: str, certificate: x509.Certificate) -> None:
        (self.folder / name).write_bytes(certificate.public_bytes(Encoding.PEM))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)
