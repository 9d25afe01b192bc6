"""When the uplink's own certificate ends: for the metric and the event."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.clock import SystemClock
from edge.config.check import check
from edge.gateway.forward import Forwarding
from edge.tls import TlsFiles, in_use

NOW = datetime.now(UTC).replace(microsecond=0)


def certificate(name: str, days: int) -> bytes:
    """Key and certificate in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder(
        subject, subject, key.public_key(), x509.random_serial_number(), NOW - timedelta(90), NOW + timedelta(days)
    ).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + made.public_bytes(serialization.Encoding.PEM)


def test_each_certificate_of_the_file_has_its_name_and_end(tmp_path: Path) -> None:
    path = tmp_path / "own.pem"
    path.write_bytes(certificate("line-4", 5) + certificate("plant authority", 500))

    leaf, authority = in_use(TlsFiles(ca=path, certificate=path))

    assert (leaf.whose, leaf.name) == ("ours", "CN=line-4")
    assert (authority.whose, authority.name) == ("our authority's", "CN=plant authority")
    assert leaf.expires_at_ns == int((NOW + timedelta(5)).timestamp()) * 10**9


@pytest.mark.parametrize(
    "content", [None, b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_that_cannot_be_used_is_left_to_the_connection_to_tell(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "own.pem"
    if content is not None:
        path.write_bytes(content)

    assert in_use(TlsFiles(ca=path, certificate=path)) == []
    assert in_use(TlsFiles(ca=path)) == []


@pytest.mark.parametrize(("days", "kind", "severity"), [(5, "cert.expiring", "warning"), (-5, "cert.expired", "error")])
def test_the_uplink_tells_it_when_it_starts(tmp_path: Path, days: int, kind: str, severity: str) -> None:
    (tmp_path / "own.pem").write_bytes(certificate("line-4", days))
    (tmp_path / "site.yaml").write_text(
        "gateway: {name: line-4, path: acme/basel, state: .}\n"
        "uplink: {mqtt: {host: 127.0.0.1, port: 1, tls: {ca: own.pem, certificate: own.pem, key: 'file:own.pem'}}}\n"
        "devices: [{name: d, driver: simulator, scan_groups: [{every: 1 s, tags: [{name: t, signal: sine, "
        "low: 0.0, high: 1.0, period: 1 s, type: float32}]}]}]\n"
    )
    settings = check(tmp_path / "site.yaml").gateway()
    settings.buffer_directory.mkdir()

    async def first_event() -> tuple[str, str, Mapping[str, str | int]]:
        found: asyncio.Queue[tuple[str, str, Mapping[str, str | int]]] = asyncio.Queue()
        forwarding = Forwarding(settings, SystemClock(), lambda *event: found.put_nowait(event))
        task = asyncio.create_task(forwarding.run())
        try:
            while not (event := await found.get())[0].startswith("cert."):
                pass
            return event
        finally:
            task.cancel()
            await asyncio.wait([task])

    found, how, data = asyncio.run(asyncio.wait_for(first_event(), 20))

    assert (found, how, data["name"], data["whose"]) == (kind, severity, "CN=line-4", "ours")
