"""Who may read secrets and change files, on real files; and until when certificates are valid."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge.config.check import check
from edge.doctor.files import certificates, permissions
from edge.doctor.findings import Finding
from tests.support.certificates import PEM, certificate

NOW = datetime.now(UTC)
GATEWAY = """\
gateway: {name: line-4, path: acme/basel, state: state}
uplink:
  mqtt:
    host: 127.0.0.1
    username: line-4
    password: file:password
    tls: {ca: ca.pem, certificate: own.pem, key: "file:own.key"}
devices:
  - name: mixer
    driver: simulator
    scan_groups: [{every: 1 s, tags: [{name: count, signal: counter, period: 1 s, type: uint32}]}]
"""

RELAY = """\
relay:
  name: dmz
  archive: state
  trust: [ca.pem]
  mqtt: {host: 127.0.0.1, tls: off}
  sinks:
    historian:
      host: 192.0.2.1
      password: file:password
      tls: {ca: ca.pem, certificate: own.pem, key: "file:own.key"}
"""


@pytest.fixture
def site(tmp_path: Path) -> Callable[..., Path]:
    """Writes a gateway's files, by default as they should be; `days` are left of its certificate."""

    def write(days: int = 90, other_key: bool = False) -> Path:
        key, ca = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        end = NOW + timedelta(days=days)
        (tmp_path / "gateway.yaml").write_text(GATEWAY)
        (tmp_path / "password").write_text("hunter2")
        root = certificate("Plant CA", ca, "Plant CA", ca, is_authority=True, until=NOW + timedelta(days=900))
        (tmp_path / "ca.pem").write_bytes(root.public_bytes(PEM))
        own = certificate("line-4", key, "Plant CA", ca, until=end)
        (tmp_path / "own.pem").write_bytes(own.public_bytes(PEM))
        private = (ca if other_key else key).private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (tmp_path / "own.key").write_bytes(private)
        (tmp_path / "state").mkdir(mode=0o700)
        (tmp_path / "state/identity.pem").write_bytes(private)
        for name, mode in {"password": 0o600, "own.key": 0o640, "state/identity.pem": 0o600, ".": 0o755}.items():
            (tmp_path / name).chmod(mode)
        return tmp_path / "gateway.yaml"

    return write


def severe(findings: list[Finding]) -> list[str]:
    return [
        f"{each.severity}: {each.text} > {each.remedy}" for each in findings if each.severity in ("critical", "warning")
    ]


def test_of_files_as_they_should_be_nothing_is_said(site: Callable[..., Path]) -> None:
    config = site()
    checked = check(config)
    assert checked.settings is not None

    assert severe(list(permissions(str(config), checked))) == []
    assert severe(list(certificates(checked.settings, set()))) == []


@pytest.mark.parametrize(
    ("name", "mode", "said"),
    [
        ("password", 0o644, "critical: {}/password (uplink.mqtt.password) is a secret, and everybody may read it"),
        ("own.key", 0o664, "critical: {}/own.key (uplink.mqtt.tls.key) is a secret, and everybody may read it"),
        ("own.key", 0o660, "warning: {}/own.key (uplink.mqtt.tls.key) is a secret that the group root may change"),
        ("state/identity.pem", 0o640, "critical: {}/state/identity.pem signs the records, and the group root may"),
        ("state", 0o755, "warning: everybody may look into {}/state"),
        ("state", 0o777, "critical: everybody may change {}/state"),
        ("ca.pem", 0o666, "critical: everybody may change {}/ca.pem"),
        ("gateway.yaml", 0o646, "critical: everybody may change {}/gateway.yaml"),
        (".", 0o777, "critical: everybody may replace what is in {}"),
    ],
)
def test_a_mode_that_is_too_wide_is_said_with_what_to_do(
    site: Callable[..., Path], name: str, mode: int, said: str
) -> None:
    config = site()
    (config.parent / name).chmod(mode)

    found = severe(list(permissions(str(config), check(config))))

    assert any(each.startswith(said.format(config.parent)) and f"{mode:04o}" in each for each in found), found
    assert all("> chmod" in each for each in found)


@pytest.mark.parametrize(("days", "said"), [(29, "warning: CN=line-4 in "), (-1, "critical: CN=line-4 in ")])
def test_a_certificate_that_ends_is_said(site: Callable[..., Path], days: int, said: str) -> None:
    settings = check(site(days)).settings
    assert settings is not None

    [found] = severe(list(certificates(settings, set())))

    assert found.startswith(said)
    assert "(uplink.mqtt.tls.certificate)" in found
    assert severe(list(certificates(settings, {"CN=line-4"}))) == []  # The running gateway says it.


def test_a_key_of_another_certificate_is_said(site: Callable[..., Path]) -> None:
    settings = check(site(other_key=True)).settings
    assert settings is not None

    [found] = severe(list(certificates(settings, set())))

    assert "the key belongs to another certificate" in found


def test_what_a_relay_needs_for_its_database_is_looked_at_too(site: Callable[..., Path]) -> None:
    config = site(days=5, other_key=True).with_name("relay.yaml")
    config.write_text(RELAY)
    (config.parent / "password").chmod(0o644)
    checked = check(config)
    assert checked.settings is not None

    [password] = severe(list(permissions(str(config), checked)))
    [expiring, unfit] = severe(list(certificates(checked.settings, set())))

    assert "(relay.sinks.historian.password) is a secret, and everybody may read it" in password
    assert "(relay.sinks.historian.tls.certificate) expires in" in expiring
    assert "the key belongs to another certificate" in unfit


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_another_user_may_not_see_is_said_and_not_guessed(site: Callable[..., Path]) -> None:
    config = site()
    checked = check(config)
    assert checked.settings is not None
    config.parent.chmod(0o711)
    (config.parent / "own.key").chmod(0o600)
    folders = [each for each in config.parents if each.is_relative_to("/tmp/")]
    modes = [each.stat().st_mode for each in folders]
    try:
        for each in folders:
            each.chmod(0o711)
        os.seteuid(65534)
        found = [*permissions(str(config), checked), *certificates(checked.settings, set())]
    finally:
        os.seteuid(0)
        for each, mode in zip(folders, modes, strict=True):
            each.chmod(mode)

    unseen = [each.text for each in found if each.severity == "unseen"]
    assert any("identity.pem: Permission denied" in text for text in unseen), found
    assert any("own.key cannot be used" in text for text in unseen), found
    assert severe(found) == []
