from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.config.check import Checked, check
from edge.config.check_process import Role
from edge.driver import DriverKind
from edge.errors import ConfigError
from edge.references import Reference

Check = Callable[..., Checked]

SITE = """\
gateway: {name: g, path: a/b, state: state}
identity: {key: %s}
uplink: {mqtt: {host: localhost, username: u, password: %s, tls: off}}
devices: [{name: one, driver: toy, host: h, scan_groups: [{every: 1 s, tags: [{name: a, address: 1}]}]}]
"""


def test_paths_are_meant_beside_the_file_they_are_written_in(checked: Check, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"hush\n")

    settings = checked(SITE % ("file:id.pem", "file:secret")).gateway()

    assert str(settings.identity_key) == "file:id.pem"
    assert settings.uplink is not None
    assert settings.uplink.mqtt.password is not None  # type: ignore[union-attr]
    assert settings.uplink.mqtt.password.read() == b"hush\n"  # type: ignore[union-attr]
    assert settings.status_socket == Path("state/status.sock")


def test_a_secret_file_that_is_not_there_is_a_problem_and_a_new_identity_key_is_not(checked: Check) -> None:
    (problem,) = checked(SITE % ("file:id.pem", "file:secret")).problems

    assert (problem.line, problem.path, problem.message) == (3, "uplink.mqtt.password", "secret does not exist")


@pytest.mark.parametrize("secret", ["hunter2", "12345678", "{a: b}", "FILE:x", "credential:", "file:"])
def test_a_secret_in_the_file_is_refused_and_never_repeated(checked: Check, secret: str) -> None:
    (problem,) = checked(SITE % ("file:id.pem", secret)).problems

    assert problem.message == "must be credential:NAME or file:PATH, never the value itself"


def test_a_credential_is_looked_for_where_systemd_put_it(
    checked: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    (problem,) = checked(SITE % ("credential:id", "credential:password")).problems
    (tmp_path / "password").write_bytes(b"hush")
    settings = checked(SITE % ("credential:id", "credential:password")).gateway()

    assert problem.message.startswith("credential:password was not handed in by systemd: put its file where LoadCred")
    assert settings.uplink is not None
    assert settings.uplink.mqtt.password.read() == b"hush"  # type: ignore[union-attr]


def test_without_systemd_a_credential_is_taken_on_trust_until_it_is_read(
    checked: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engineer checks the file on a machine that has no credentials."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)

    assert checked(SITE % ("credential:id", "credential:password")).problems == ()
    with pytest.raises(ConfigError, match="LoadCredential=password:PATH"):
        Reference("credential", "password").read()


def test_a_certificate_may_be_a_plain_path_and_must_come_with_its_key(checked: Check, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    text = (SITE % ("file:id.pem", "credential:p")).replace("tls: off", "tls: {ca: ca.pem, certificate: ca.pem}")

    (problem,) = checked(text).problems

    assert problem.path == "uplink.mqtt.tls.certificate"
    assert "and key come together" in problem.message


def test_half_a_gateway_does_not_miss_the_credentials_of_the_other(
    find: Callable[[str], DriverKind], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each role is handed its own by systemd; both read the same file."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    path = tmp_path / "site.yaml"
    path.write_text(SITE % ("credential:id", "credential:password"))

    roles: tuple[Role, Role] = ("all", "acquire")
    whole, half = (check(path, find, role) for role in roles)

    assert [problem.path for problem in whole.problems] == ["uplink.mqtt.password"]
    assert half.problems == ()
