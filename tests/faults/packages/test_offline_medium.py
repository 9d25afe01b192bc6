"""The offline medium on a Debian 13 without a network: the page as it is typed, and what was changed on the way."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import debian
from tests.support.booted import LIMIT_S, BootedMachine
from tests.support.typist import Typist

pytestmark = pytest.mark.timeout(600)

GATEWAY = """
gateway: {{name: line-4, path: acme/basel/upstream/line-4, state: {state}}}
devices:
  - name: press
    driver: simulator
    scan_groups: [{{every: 200 ms, tags: [{{name: temperature, signal: constant, value: R-17}}]}}]
"""
LISTED = """
import importlib.metadata, json
print(json.dumps(sorted([each.name.lower().replace("_", "-").replace(".", "-"), each.version]
                        for each in importlib.metadata.distributions())))
"""


class AtMachine(Typist):
    """A person at a machine."""

    def __init__(self, folder: Path, machine: BootedMachine) -> None:
        super().__init__(folder, limit_s=LIMIT_S)
        self._machine = machine

    def shell(self, command: str) -> list[str]:
        return self._machine.enter(*super().shell(command))


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedMachine]:
    """A clean Debian 13 with the medium in its root directory."""
    folder = tmp_path_factory.mktemp("trixie")
    debian.packages("trixie")
    environment = {**os.environ, "GNUPGHOME": str(folder / "keys")}
    (folder / "keys").mkdir(mode=0o700)
    (folder / "upper/etc").mkdir(parents=True)
    (folder / "upper/etc/hostname").write_text("gateway\n")
    (folder / "upper/etc/hosts").write_text("127.0.0.1 localhost gateway\n")
    key = ("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "packages@example.com", "rsa3072")
    subprocess.run(key, env=environment, check=True)
    subprocess.run([".ci/debian/medium", "packages@example.com", folder / "upper"], cwd=debian.ROOT, env=environment,
                   check=True)  # fmt: skip
    subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=True)
    with BootedMachine(folder, name="offline", below=debian.root("trixie")) as machine:
        machine.wait_until_up()
        yield machine


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, machine: BootedMachine) -> BootedMachine:
    """After the commands of the page."""
    AtMachine(tmp_path_factory.mktemp("person"), machine).type_page("docs/how-to/install-offline.md")
    return machine


def test_the_four_commands_of_the_page_install_it(installed: BootedMachine) -> None:
    assert installed.run("dpkg-query", "--show", "--showformat=${Version}", "tidegate") == "0.1.0-1~deb13"
    assert installed.run("tidegate", "--version").startswith("tidegate, version 0.1.0")


@pytest.mark.requirement("REQ-PACK-01")
def test_the_sbom_is_what_is_installed(installed: BootedMachine) -> None:
    """With OPC UA too, without which nothing under the LGPL is there."""

    def listed(*names: str) -> list[list[str]]:
        texts = [installed.run("cat", f"/usr/share/doc/{name}/sbom.cdx.json") for name in names]
        found = [[each["name"], each["version"]] for text in texts for each in json.loads(text)["components"]
                 if each["type"] == "library"]  # fmt: skip
        return sorted([*found, ["tidegate", "0.1.0"]])

    def there() -> object:
        return json.loads(installed.run("/opt/tidegate/bin/python3", "-c", LISTED))

    assert there() == listed("tidegate")
    assert "Lesser" not in installed.run("cat", "/usr/share/doc/tidegate/sbom.cdx.json")
    checked = installed.try_run("tidegate", "check", "/usr/share/doc/tidegate/examples/opc-ua.yaml")
    assert (checked.returncode, "install the Debian package tidegate-opcua" in checked.stdout + checked.stderr) == (
        78,
        True,
    )
    installed.run("apt-get", "install", "--yes", "tidegate-opcua", "tidegate-relay", "tidegate-lake")
    assert there() == listed("tidegate", "tidegate-opcua", "tidegate-relay", "tidegate-lake")
    assert "Lesser General Public" in installed.run("cat", "/usr/share/doc/tidegate-opcua/copyright")


def test_what_an_older_python_wrote_is_read_and_goes_on(installed: BootedMachine, tmp_path: Path) -> None:
    """As after the machine was upgraded from Debian 12 to 13. On another machine it goes on with a new chain."""
    (tmp_path / "gateway.yaml").write_text(GATEWAY.format(state=tmp_path / "state"))
    with (tmp_path / "log").open("wb") as log:
        run = subprocess.Popen([sys.executable, "-m", "edge.cli", "run", tmp_path / "gateway.yaml"], stderr=log)
        end = time.monotonic() + 60
        while b'"device.up"' not in (tmp_path / "log").read_bytes() and time.monotonic() < end:
            time.sleep(0.1)
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 0, (tmp_path / "log").read_text()
    before = verified(tmp_path / "state")
    root = Path(f"/proc/{installed._leader}/root")
    shutil.copytree(tmp_path / "state", root / "var/lib/tidegate", dirs_exist_ok=True)
    installed.run("chown", "--recursive", "tidegate:tidegate", "/var/lib/tidegate")
    (root / "etc/tidegate/gateway.yaml").write_text(GATEWAY.format(state="/var/lib/tidegate"))

    installed.run("systemctl", "start", "tidegate")
    installed.run("systemctl", "stop", "tidegate")

    after = verified(root / "var/lib/tidegate")
    assert [each["epoch"] for each in after[:-1]] == [each["epoch"] for each in before]
    assert after[0]["verdicts"] == before[0]["verdicts"]
    assert [each["tail"] for each in after] == ["CLOSED", "CLOSED"]


@pytest.mark.requirement("REQ-PACK-02", "REQ-PACK-03")
def test_a_fresh_machine_qualifies_itself_and_an_edited_unit_turns_exactly_its_check_red(
    installed: BootedMachine, tmp_path: Path
) -> None:
    """With nothing but what the packages bring."""
    root = Path(f"/proc/{installed._leader}/root")
    (root / "etc/tidegate/gateway.yaml").write_text(GATEWAY.format(state="/var/lib/tidegate"))
    installed.run("openssl", "genpkey", "-algorithm", "ed25519", "-out", "/root/qa.pem")
    installed.run("openssl", "pkey", "-in", "/root/qa.pem", "-pubout", "-out", "/root/qa.pub.pem")
    installed.run("systemctl", "start", "tidegate")

    before = qualified(installed, "/root/pack", "--sign", "/root/qa.pem")
    signed = installed.try_run("tidegate", "verify", "/root/pack", "--trust", "/root/qa.pub.pem")
    unit = "/usr/lib/systemd/system/tidegate.service"
    installed.run("bash", "-c", f"cp {unit} /tmp/unit && echo '# edited' >>{unit} && systemctl daemon-reload")
    edited = qualified(installed, "/root/edited", "--part", "iq")
    installed.run("bash", "-c", f"cp /tmp/unit {unit} && systemctl daemon-reload && systemctl stop tidegate")

    red = {name for name, each in before.items() if each["verdict"] == "failed"}
    assert red <= {"IQ-06", "IQ-08", "IQ-13"}, before  # It is not enabled, and has no time server.
    assert {before[f"IQ-{number:02}"]["verdict"] for number in (2, 3, 4, 5, 7, 10, 11, 12)} == {"held"}, before
    assert sum(name.startswith("OQ") for name in before) >= 16
    assert (signed.returncode, "every file is as it was signed" in signed.stdout) == (0, True), signed
    assert {name for name, each in edited.items() if each["verdict"] == "failed"} - red == {"IQ-05"}
    assert f"{unit} was changed" in edited["IQ-05"]["found"]


def qualified(machine: BootedMachine, pack: str, *options: str) -> dict[str, Any]:
    """The checks, by their ids."""
    ran = machine.try_run("tidegate", "qualify", "--out", pack, *options, "--json")
    assert ran.returncode in (0, 1), ran
    return {each["id"]: each for each in json.loads(ran.stdout)["checks"]}


def verified(state: Path) -> list[dict[str, Any]]:
    """The chains of a stopped gateway, wholly authentic."""
    public = state / "identity.pub.pem"
    subprocess.run(["openssl", "pkey", "-in", state / "identity.pem", "-pubout", "-out", public], check=True)
    verify = (sys.executable, "-m", "edge.cli", "verify", state / "buffer", "--trust", f"line-4={public}", "--json")
    answer = json.loads(subprocess.run(verify, check=False, stdout=subprocess.PIPE, text=True).stdout)
    assert answer["is_wholly_authentic"], answer
    epochs: list[dict[str, Any]] = answer["epochs"]
    return epochs


@pytest.mark.requirement("REQ-PACK-01")
@pytest.mark.parametrize(("changed", "said"), [
    ("pool/trixie-amd64/tidegate-relay_0.1.0-1~deb13_amd64.deb", "Hash Sum mismatch|unexpected size"),
    ("dists/trixie/main/binary-amd64/Packages", "Hash Sum mismatch|unexpected size|Hash mismatch"),
    ("dists/trixie/InRelease", "is not signed|BADSIG|invalid|[Bb]ad|signature"),
])  # fmt: skip
def test_what_was_changed_on_the_way_is_not_installed(installed: BootedMachine, changed: str, said: str) -> None:
    path = f"/srv/tidegate/apt/{changed}"
    installed.run("cp", path, "/tmp/as-it-was")
    installed.run("bash", "-c", f"sed -i 's/tidegate/tidegale/; $ a changed' '{path}'")
    installed.run("rm", "-rf", "/var/lib/apt/lists")
    installed.run("apt-get", "remove", "--yes", "tidegate-relay")  # Where a test before had it installed.

    updated = installed.try_run("apt-get", "update", "-o", "APT::Update::Error-Mode=any")
    got = installed.try_run("apt-get", "install", "--yes", "tidegate-relay")
    ran = updated.stdout + updated.stderr + got.stdout + got.stderr

    installed.run("cp", "/tmp/as-it-was", path)
    assert got.returncode != 0, ran
    assert re.search(said, ran), ran
