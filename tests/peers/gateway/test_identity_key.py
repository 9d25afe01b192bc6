"""The identity key from its creation to its end, with real gateways, OpenSSL's authority and the verifier."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.health import read_status
from tests.support.authority import OpensslAuthority, openssl

TIDEGATE = [sys.executable, "-c", "from edge.cli import main; main()"]
WITHIN_S = 90
_CONFIG = """
gateway: {name: line-4, path: acme/basel, state: ./state}
clock: {require: any}
identity: {}
status: {socket: ./status.sock}
devices:
  - name: mixer
    driver: simulator
    scan_groups:
      - every: 50 ms
        tags: [{name: count, signal: counter, period: 50 ms, type: uint32}]
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site.yaml").write_text(_CONFIG)
    return tmp_path


def tidegate(folder: Path, *arguments: str, code: int = 0) -> str:
    """What a command says, as by a service with the strictest umask."""
    done = subprocess.run(
        [*TIDEGATE, *arguments], cwd=folder, capture_output=True, text=True, check=False, umask=0o077, timeout=WITHIN_S
    )
    assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def identity(folder: Path, command: str, *arguments: str, code: int = 0) -> str:
    return tidegate(folder, "keys", "identity", command, *arguments, code=code)


@contextmanager
def running(folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A gateway that has sealed records."""
    process = subprocess.Popen(
        [*TIDEGATE, "run", "site.yaml"], cwd=folder, umask=0o077, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip
    try:
        wait_for_records(folder, process)
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 0
    finally:
        process.kill()
        process.wait()


def wait_for_records(folder: Path, process: subprocess.Popen[str], more: int = 5) -> None:
    """Wait until a gateway has sealed so many records more."""
    wanted = records(folder) + more
    until = time.monotonic() + WITHIN_S
    while records(folder) < wanted:
        assert process.poll() is None, "the gateway ended"
        assert time.monotonic() < until
        time.sleep(0.1)


def records(folder: Path) -> int:
    try:
        chain = read_status(folder / "status.sock").chain
    except OSError:
        return 0
    return chain.records if chain else 0


def test_create_gives_a_key_of_the_owner_and_a_public_half_for_everybody(site: Path) -> None:
    """0600 on the public half would stop the relay that it is copied to."""
    made = identity(site, "create", "site.yaml")
    again = identity(site, "create", "site.yaml", code=1)
    fingerprint = identity(site, "fingerprint", "site.yaml").strip()

    assert (site / "state/identity.pem").stat().st_mode & 0o777 == 0o600
    assert (site / "state/identity.pub.pem").stat().st_mode & 0o777 == 0o644
    assert identity(site, "public", "site.yaml") == (site / "state/identity.pub.pem").read_text()
    assert identity(site, "public", "site.yaml").startswith("Subject: urn:tidegate:line-4\n-----BEGIN PUBLIC KEY")
    assert f"fingerprint  {fingerprint}\n" in made
    assert "never overwritten" in again


def test_the_public_half_of_an_earlier_version_is_opened_for_readers(site: Path) -> None:
    identity(site, "create", "site.yaml")
    (site / "state/identity.pub.pem").chmod(0o600)

    with running(site):
        pass

    assert (site / "state/identity.pub.pem").stat().st_mode & 0o777 == 0o644


@pytest.mark.requirement("REQ-SEAL-03", "REQ-TRAIL-04")
def test_a_rotated_key_begins_a_chain_that_the_old_one_announced(site: Path) -> None:
    """Both chains are authentic, nothing is missing between them, and nothing asks for a person."""
    with running(site):
        identity(site, "create", "site.yaml", "--next")
        (site / "anchors").mkdir()
        shutil.copy(site / "state/identity.pub.pem", site / "anchors/old.pem")
        (site / "anchors/new.pem").write_text(identity(site, "public", "site.yaml", "--next"))
        busy = identity(site, "rotate", "site.yaml", code=78)
    said = identity(site, "rotate", "site.yaml")
    with running(site):
        pass
    verdict = tidegate(site, "verify", "state/buffer", "--trust", "anchors")
    log = tidegate(site, "log", "state/buffer", "--trust", "anchors")

    assert "is in use by another gateway" in busy
    assert identity(site, "fingerprint", "site.yaml").strip() in said
    assert (site / "state/identity.pub.pem").read_text() == (site / "anchors/new.pem").read_text()
    assert not list((site / "state").glob("*next*"))
    assert "Wholly authentic: yes" in verdict
    assert log.index("replaced on purpose; that of the next chain: ") < log.index("the identity key was renewed")
    assert "lost or replaced" not in log

    identity(site, "retire", "anchors/old.pem", "--at", "2000-01-01T00:00Z")
    shown = tidegate(site, "keys", "show", "anchors/old.pem")
    retired = tidegate(site, "verify", "state/buffer", "--trust", "anchors", code=1)

    assert "retired: what arrives from 2000-01-01T00:00:00Z on is refused" in shown
    assert "its key was retired since 2000-01-01T00:00:00Z, before the time that the record states" in retired
    assert tidegate(site, "verify", "state/buffer", "--trust", "anchors/new.pem", code=1)

    identity(site, "retire", "anchors/old.pem", "--at", "2100-01-01T00:00Z")
    assert "Wholly authentic: yes" in tidegate(site, "verify", "state/buffer", "--trust", "anchors")


def test_a_certificate_is_requested_installed_and_renewed_with_the_key(site: Path, tmp_path: Path) -> None:
    """The relay then trusts the authority, and a rotation changes nothing there."""
    plant = OpensslAuthority(tmp_path / "plant")
    identity(site, "create", "site.yaml")

    def certify(*options: str) -> str:
        (site / "request.pem").write_text(identity(site, "request", "site.yaml", *options))
        assert "URI:urn:tidegate:line-4" in openssl("req", "-in", site / "request.pem", "-noout", "-text")
        plant.sign_request(site / "request.pem", site / "certificate.pem", "-notext")
        return identity(site, "install", "site.yaml", "certificate.pem", "--ca", str(plant.path), *options)

    said = certify()
    config = (site / "site.yaml").read_text().replace("identity: {}", "identity: {certificate: state/identity.crt.pem}")
    (site / "site.yaml").write_text(config)
    with running(site):
        install = ("site.yaml", "certificate.pem", "--ca", str(plant.path), "--next")
        too_early = identity(site, "install", *install, code=1)
        identity(site, "create", "site.yaml", "--next")
        other = identity(site, "install", *install, code=1)
    without = identity(site, "rotate", "site.yaml", code=1)
    certify("--next")
    identity(site, "rotate", "site.yaml")
    with running(site):
        pass

    assert "Write it into site.yaml:  identity: {certificate: state/identity.crt.pem}" in said
    assert "is not there" in too_early
    assert "is not for the key of line-4" in other
    assert "is for the old key: tidegate keys identity create, request and install" in without
    assert "Wholly authentic: yes" in tidegate(site, "verify", "state/buffer", "--trust", str(plant.path))


def test_the_wrong_certificates_are_not_installed(site: Path, tmp_path: Path) -> None:
    plant, other = OpensslAuthority(tmp_path / "plant"), OpensslAuthority(tmp_path / "other")
    identity(site, "create", "site.yaml")
    (site / "request.pem").write_text(identity(site, "request", "site.yaml"))
    other.sign_request(site / "request.pem", site / "stranger.pem", "-notext")
    extensions = site / "extensions"
    extensions.write_text("extendedKeyUsage=clientAuth\n")
    plant.sign_request(site / "request.pem", site / "tls.pem", "-notext", "-extfile", extensions)
    install = ("site.yaml", "--ca", str(plant.path))

    assert "comes from no trusted authority" in identity(site, "install", *install, "stranger.pem", code=1)
    assert "for TLS connections only" in identity(site, "install", *install, "tls.pem", code=1)
    assert not (site / "state/identity.crt.pem").exists()


def test_the_public_half_of_a_credential_can_be_printed_and_the_key_rotated(site: Path) -> None:
    """Nobody but the service sees a credential; the gateway writes the public half down for the others."""
    config = (site / "site.yaml").read_text().replace("identity: {}", 'identity: {key: "credential:identity-key"}')
    (site / "site.yaml").write_text(config)
    (site / "credentials").mkdir()
    key = site / "credentials/identity-key"
    without = identity(site, "create", "site.yaml", code=2)
    identity(site, "create", "site.yaml", "--to", str(key))
    credentials = {"CREDENTIALS_DIRECTORY": str(site / "credentials")}
    (site / "state/identity.pub.pem").unlink()

    with running(site, **credentials):
        first = identity(site, "public", "site.yaml")

    assert "say with --to FILE where it is written" in without
    assert first.startswith("Subject: urn:tidegate:line-4\n")
    rotate = [*TIDEGATE, "keys", "identity", "rotate", "site.yaml", "--to", "new.pem"]
    environment = {**os.environ, **credentials}
    done = subprocess.run(rotate, cwd=site, check=True, capture_output=True, text=True, env=environment)
    (site / "new.pem").replace(key)
    with running(site, **credentials):
        second = identity(site, "public", "site.yaml")
    (site / "anchors").mkdir()
    (site / "anchors/old.pem").write_text(first)
    (site / "anchors/new.pem").write_text(second)

    assert "encrypt it as the new credential" in done.stdout
    assert second != first
    assert "Wholly authentic: yes" in tidegate(site, "verify", "state/buffer", "--trust", "anchors")


def test_a_lost_key_is_said_with_what_helps_and_reading_goes_on(site: Path) -> None:
    with running(site):
        pass
    old = (site / "state/identity.pub.pem").read_text()
    (site / "state/identity.pem").unlink()
    (site / "anchors").mkdir()

    with running(site):
        pass
    [kept] = (site / "state").glob("identity-*.pub.pem")
    shutil.copy(kept, site / "anchors/old.pem")
    shutil.copy(site / "state/identity.pub.pem", site / "anchors/new.pem")

    assert kept.read_text() == old
    log = tidegate(site, "log", "state/buffer", "--trust", "anchors")
    assert "the key was lost or replaced; give the public key of the new one to the relay" in log
    assert "Wholly authentic: yes" in tidegate(site, "verify", "state/buffer", "--trust", "anchors")


def test_a_replaced_key_is_noticed_although_file_and_counter_are_there(site: Path) -> None:
    """It is a new identity, and no restored backup."""
    with running(site):
        pass
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", site / "state/identity.pem")
    (site / "state/identity.pem").chmod(0o600)

    with running(site):
        pass

    (site / "anchors").mkdir()
    shutil.copy(site / "state/identity.pub.pem", site / "anchors/new.pem")
    [kept] = (site / "state").glob("identity-*.pub.pem")
    shutil.copy(kept, site / "anchors/old.pem")
    log = tidegate(site, "log", "state/buffer", "--trust", "anchors")
    assert "the identity key was renewed" in log
    assert "lost or replaced; give the public key of the new one to the relay" in log


def test_a_key_that_others_can_read_stops_the_start_in_one_sentence(site: Path) -> None:
    """Nothing that it signs would prove anything; what it signed before is untouched."""
    identity(site, "create", "site.yaml")
    (site / "state/identity.pem").chmod(0o644)

    said = tidegate(site, "run", "site.yaml", code=78)

    assert "identity.pem can be read by others (mode 0644): chmod 600" in said
    assert "tidegate keys identity rotate CONFIG" in said
    assert "Traceback" not in said


def test_another_user_than_the_owner_is_sent_to_it(site: Path) -> None:
    """A file of root in the state directory would stop the service at its next start."""
    identity(site, "create", "site.yaml")
    shutil.chown(site / "state", "nobody")

    said = identity(site, "create", "site.yaml", "--next", code=78)

    assert "belongs to another user; run it as its owner: sudo -u nobody tidegate keys identity" in said
