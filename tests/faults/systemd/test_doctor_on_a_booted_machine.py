"""`tidegate doctor` and `tidegate support` beside the shipped unit, under systemd itself and its journal."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.systemd import plant_inside as plant
from tests.faults.systemd.booted_machine import Machine
from tests.faults.systemd.test_units_on_a_booted_machine import CONFIGURATION, MONITOR, OTHERS, PROGRAM, READ, SITE

pytestmark = pytest.mark.timeout(300)

DOCTOR = ("doctor", CONFIGURATION, "--json")
LOOSE = """[Service]
IPAddressDeny=
PrivateUsers=no
ProtectSystem=no
NoNewPrivileges=no
SystemCallFilter=
RestrictNamespaces=no
Environment=LINE_PASSWORD=env-s3cret \\
  "OTHER=two words"
SetCredential=inline:cred-s3cret
ExecStartPre=/bin/echo a harmless line
ExecStartPre=/bin/echo trying ${LINE_PASSWORD} and cred-s3cret with mqtt://line-4:url-s3cret@broker
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    with machine:
        (machine.root / CONFIGURATION[1:]).write_text(json.dumps(SITE))
        machine.run("systemctl", "start", "broker", "tidegate")
        machine.wait_for("tidegate", "device.up", READ)
        yield machine


def found(machine: Machine, *command: str) -> list[dict[str, Any]]:
    ran = machine.try_run(*command)
    assert ran.returncode in (0, 1), ran
    findings: list[dict[str, Any]] = json.loads(ran.stdout)["findings"]
    return findings


def of(findings: list[dict[str, Any]], area: str, *severities: str) -> list[str]:
    return [each["text"] for each in findings if each["area"] == area and each["severity"] in severities]


def assert_no_secret_is_packed(machine: Machine) -> None:
    """Of unit, journal and credentials."""
    secrets = ("env-s3cret", "cred-s3cret", "url-s3cret")
    told = machine.log("tidegate")

    machine.run(PROGRAM, "support", CONFIGURATION, "--to", "/root/out.tar.gz")

    with tarfile.open(machine.root / "root/out.tar.gz") as archive:
        held = {each.name.partition("/")[2]: archive.extractfile(each) for each in archive.getmembers()}
        packed = {name: file.read().decode() for name, file in held.items() if file is not None}
    assert all(secret in str(told) for secret in secrets)
    assert [(name, secret) for name, text in packed.items() for secret in secrets if secret in text] == []
    assert "a harmless line" in packed["log/tidegate.service.log"]
    assert "Environment=(not kept)" in packed["unit/tidegate.service.txt"]
    assert "IPAddressDeny=any" in packed["unit/tidegate.service.txt"]


def test_doctor_knows_the_unit_and_what_it_lets_the_service_reach_and_support_packs_no_secret(
    machine: Machine,
) -> None:
    """As root, as a user who may ask, and again after each thing that goes wrong with units."""
    seen = found(machine, PROGRAM, *DOCTOR)
    as_user = found(machine, *MONITOR, *DOCTOR)
    machine.run("chmod", "640", CONFIGURATION)
    as_other = found(machine, *OTHERS, *DOCTOR)
    machine.run("chmod", "644", CONFIGURATION)
    (machine.root / "etc/systemd/system/tidegate.service.d/loose.conf").write_text(LOOSE)
    changed = found(machine, PROGRAM, *DOCTOR)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "tidegate")
    loose = found(machine, PROGRAM, *DOCTOR)
    assert_no_secret_is_packed(machine)
    machine.run("systemctl", "stop", "tidegate")
    stopped = found(machine, PROGRAM, *DOCTOR)
    (machine.root / CONFIGURATION[1:]).write_text("gateway: {}\n")
    machine.try_run("systemctl", "start", "tidegate")
    failed = found(machine, PROGRAM, *DOCTOR)

    assert of(seen, "unit", "critical") == [f"tidegate.service may not speak to {plant.NOT_LISTED} (not-listed)"]
    assert of(seen, "unit", "warning") == ["tidegate.service does not start with the machine"]
    assert any(text.startswith("tidegate.service: exposure ") for text in of(seen, "unit", "ok"))
    assert any("the gateway line-4 runs: 3 of 4 devices answer" in text for text in of(seen, "running", "ok"))
    assert of(seen, "files", "critical", "warning") == []
    assert of(seen, "firewall", "warning") == []  # The unit keeps it to named addresses.
    assert of(as_user, "running", "ok") == of(seen, "running", "ok")
    assert of(as_user, "unit", "critical") == of(seen, "unit", "critical")
    assert any("only root may read them" in text for text in of(as_user, "firewall", "unseen"))
    assert any("identity.pem: Permission denied" in text for text in of(as_user, "files", "unseen"))
    assert of(as_other, "configuration", "unseen") == [f"{CONFIGURATION} may not be read by this user"]
    assert of(as_other, "running", "critical") == []
    assert of(as_other, "unit", "ok") == of(seen, "unit", "ok")
    assert "tidegate.service was changed on disk, and runs as it was" in of(changed, "unit", "warning")
    assert "tidegate.service may speak to every address" in of(loose, "unit", "warning")
    assert any("tidegate.service may do more than it needs: exposure" in text for text in of(loose, "unit", "warning"))
    assert of(stopped, "unit", "critical") == ["tidegate.service is stopped"]
    assert any(
        text.startswith("tidegate.service has failed: its configuration") for text in of(failed, "unit", "critical")
    )
