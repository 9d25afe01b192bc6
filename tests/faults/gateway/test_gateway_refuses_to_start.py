"""What cannot work is refused before anything is read: exit code 78, and a sentence that says what would help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.faults.gateway.site_under_test import Site


def test_a_second_gateway_on_one_buffer_is_refused_and_the_first_goes_on(site: Site) -> None:
    site.add_counter("mixer")
    first = site.gateway()
    site.wait_for_scans()

    site.settings["gateway"]["state"] = str(site.directory / "other")
    second = site.gateway(is_awaited=False)
    code = second.wait()
    site.wait_for_scans()

    assert code == 78
    assert second.log().strip() == (
        f"the buffer {site.buffer} is in use by another gateway (role acquire, process {first.pid}); "
        "stop that one, or give this one a directory of its own"
    )
    assert first.stop() == 0
    told = site.told(site.buffered())
    site.assert_accounted_for(told, "mixer")
    assert not told.outages("mixer")


@pytest.mark.parametrize("role", ["acquire", "forward"])
def test_a_second_process_of_a_role_is_refused(site: Site, role: str) -> None:
    site.add_counter("mixer")
    first = site.gateway(role)

    second = site.gateway(role, is_awaited=False)

    assert second.wait() == 78
    assert f"role {role}, process {first.pid}" in second.log()
    assert first.stop() == 0


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def readable_by_others(path: Path) -> None:
    path.write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    path.chmod(0o644)


def not_a_key(path: Path) -> None:
    path.write_text("certainly not\n")
    path.chmod(0o600)


def of_another_kind(path: Path) -> None:
    path.write_bytes(pem(rsa.generate_private_key(65537, 2048)))
    path.chmod(0o600)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (readable_by_others, "identity key {key} can be read by others (mode 0644): chmod 600 {key}"),
        (not_a_key, "identity key {key} is not a PEM private key; make one with: openssl genpkey"),
        (of_another_kind, "identity key {key} holds an RSA key, a P-256 key is needed; make one with: openssl genpkey"),
    ],
    ids=["readable by others", "not a key", "of another kind"],
)
def test_an_identity_key_that_cannot_be_used_is_refused(
    site: Site, make: Callable[[Path], None], sentence: str
) -> None:
    device = site.add_counter("mixer")
    key = site.directory / "key.pem"
    make(key)
    site.settings["identity"] = {"key": f"file:{key}"}

    gateway = site.gateway(is_awaited=False)

    assert gateway.wait() == 78
    assert sentence.format(key=key) in gateway.log()
    assert len(gateway.log().splitlines()) == 1
    assert device.received == 0


@pytest.mark.parametrize("directory", [None, "credentials"], ids=["without systemd", "not among those given"])
def test_a_missing_credential_is_refused(site: Site, directory: str | None) -> None:
    site.add_counter("mixer")
    site.settings["identity"] = {"key": "credential:identity"}
    environment = {}
    if directory is not None:
        (site.directory / directory).mkdir()
        environment = {"CREDENTIALS_DIRECTORY": str(site.directory / directory)}

    gateway = site.gateway(is_awaited=False, environment=environment)

    assert gateway.wait() == 78
    assert "credential:identity" in gateway.log()
    assert "LoadCredential=" in gateway.log()
    assert "Traceback" not in gateway.log()
    assert not site.buffer.exists() or not list(site.buffer.glob("*.seg"))
