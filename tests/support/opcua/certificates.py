"""Certificates of OPC UA servers with one thing wrong."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from drivers.opcua.certificates import new_key

NOW = datetime.now(UTC)
SERVER_URI = "urn:test:server"


class Maker:
    """Makes certificates with a few keys, as a key takes longest; `keys` are named by their number."""

    def __init__(self) -> None:
        self.keys = [new_key(2048) for _ in range(3)]

    def make(
        self,
        *,
        key: int = 0,
        name: str = "server",
        uri: str | None = SERVER_URI,
        hosts: tuple[str, ...] = ("127.0.0.1",),
        days: tuple[float, float] = (-1, 30),
        purposes: tuple[x509.ObjectIdentifier, ...] | None = (ExtendedKeyUsageOID.SERVER_AUTH,),
        encipher: bool = True,
        issuer: tuple[x509.Certificate, int] | None = None,
        is_authority: bool = False,
        path_length: int | None = None,
        private: rsa.RSAPrivateKey | None = None,
    ) -> x509.Certificate:
        """A good certificate of a server, except for the arguments; `days` are its validity from now."""
        own = private or self.keys[key]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names: list[x509.GeneralName] = [] if uri is None else [x509.UniformResourceIdentifier(uri)]
        for host in hosts:
            is_ip = host.replace(".", "").isdigit()
            names.append(x509.IPAddress(ipaddress.ip_address(host)) if is_ip else x509.DNSName(host))
        usage = x509.KeyUsage(
            digital_signature=True, content_commitment=True, key_encipherment=encipher, data_encipherment=encipher,
            key_agreement=False, key_cert_sign=is_authority, crl_sign=is_authority, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer[0].subject if issuer else subject)
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + timedelta(days=days[0]))
            .not_valid_after(NOW + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=path_length), critical=True)
            .add_extension(usage, critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if purposes is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        return builder.sign(self.keys[issuer[1]] if issuer else own, hashes.SHA256())

    def authority(self, name: str = "plant CA", key: int = 1) -> x509.Certificate:
        """One that issues others."""
        return self.make(key=key, name=name, uri=None, hosts=(), purposes=None, is_authority=True)

    def revocations(
        self, authority: x509.Certificate, *revoked: x509.Certificate, key: int = 1, days: float = 30
    ) -> x509.CertificateRevocationList:
        """The list of an authority, good for so many days."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.subject)
            .last_update(NOW - timedelta(days=40))
            .next_update(NOW + timedelta(days=days))
        )
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number).revocation_date(NOW).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.keys[key], hashes.SHA256())
