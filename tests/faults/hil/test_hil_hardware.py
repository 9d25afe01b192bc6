"""A rig of hardware without hardware: the gateway by ssh, a device on the network, and switches that are commands.

All of it is in a network of its own, where ports are free. The gateway's machine has a boot time of its own, and
another, with another boot id, each time it is switched on.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest

from edge.seal import Data
from hil.criteria import accounts
from hil.evidence import gather
from hil.namespaces import Machine
from hil.scenarios.gateway_power_cut import SCENARIO
from tests.faults.hil.conftest import ROOT

_RIG = """
rig: {{name: bench, place: a test}}
gateway:
  {{vendor: v, model: m, firmware: f, wiring: ssh, ssh: root@127.0.0.1, command: {command}, folder: {folder}/there,
   power: [./power],
   settings: {{clock: {{require: any, chrony: "off"}}}}}}
broker: {{vendor: v, model: m, firmware: f, wiring: here, address: 127.0.0.1}}
clock: {{vendor: v, model: m, firmware: f, wiring: w}}
devices:
  - vendor: v
    model: m
    firmware: f
    wiring: w
    network: [./cable]
    identity: {{product: "{product}"}}
    signals: {{count: {{wave: counter}}}}
    settings:
      name: plc
      driver: modbus
      host: 127.0.0.1
      limits: {{timeout: 500 ms}}
      scan_groups: [{{every: 100 ms, tags: [{{name: count, address: holding 0, type: uint32, word_order: big}}]}}]
"""
_CABLE = """#!/bin/sh
echo "$1" >>{folder}/turned
case $1 in on) kill -CONT "$(cat {folder}/device)" ;; off) kill -STOP "$(cat {folder}/device)" ;; esac
"""
_POWER = """#!/bin/sh
echo "$1" >>{folder}/powered
case $1 in
    off) kill -KILL "$(cat {folder}/machine)" ;;
    on)
        cat /proc/sys/kernel/random/uuid >{folder}/boot_id
        setsid unshare --pid --fork --kill-child --mount-proc --time --boottime "$(date +%N | tail -c 6)" sh -euc '
            mount --bind {folder}/boot_id /proc/sys/kernel/random/boot_id
            exec {sshd} -D -f {folder}/sshd.conf -E {folder}/sshd.log
        ' </dev/null >/dev/null 2>&1 &
        echo $! >{folder}/machine
        ;;
esac
"""
_SERVER = """
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
PasswordAuthentication no
StrictModes no
UsePAM no
"""
_SSH = """#!/bin/sh
exec {ssh} -i {folder}/user -o StrictHostKeyChecking=no -o UserKnownHostsFile={folder}/known -o LogLevel=ERROR "$@"
"""


class Laboratory(Machine):
    """The machine with the rig: its ssh server, a device, and a network of its own."""

    def __enter__(self) -> Laboratory:
        super().__enter__()
        folder, sshd = self.folder, shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
        assert sshd, "install the package openssh-server"
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        self.write("cable", _CABLE.format(folder=folder))
        self.write("bin/ssh", _SSH.format(folder=folder, ssh=shutil.which("ssh")))
        self.write("sshd.conf", _SERVER.format(folder=folder))
        Path("/run/sshd").mkdir(exist_ok=True)
        self.write("power", _POWER.format(folder=folder, sshd=sshd))
        self.run(str(folder / "power"), "on")
        self.describe("simulated plc")
        return self

    def __exit__(self, *_: object) -> None:
        self.run(str(self.folder / "power"), "off")
        super().__exit__()

    def write(self, name: str, text: str) -> None:
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)

    def describe(self, product: str) -> None:
        """Write the rig file."""
        command = orjson.dumps([sys.executable, "-m", "edge.cli"]).decode()
        self.write("rig.yaml", _RIG.format(folder=self.folder, product=product, command=command))

    def words_of_power(self) -> list[str]:
        return (self.folder / "powered").read_text().split()

    def switch_on_device(self) -> None:
        self.write("turned", "")
        program = [sys.executable, "-m", "hil.devices", str(self.folder / "rig.yaml"), "plc", str(self.folder / "log")]
        device = self.start("env", f"PYTHONPATH={ROOT}", *program, stdout=subprocess.PIPE)
        assert device.stdout is not None
        assert device.stdout.readline() == "ready\n"
        self.write("device", str(device.pid))

    def hil(self, *words: str) -> subprocess.Popen[str]:
        environment = [f"PYTHONPATH={ROOT}", f"PATH={self.folder}/bin:{os.environ['PATH']}", "PYTHONUNBUFFERED=1"]
        return self.start("env", *environment, sys.executable, "-m", "hil", *words, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)  # fmt: skip


@pytest.fixture
def laboratory() -> Iterator[Laboratory]:
    with TemporaryDirectory(prefix="hil-") as name, Laboratory(Path(name) / "lab") as laboratory:
        laboratory.switch_on_device()
        yield laboratory


def test_a_rig_of_hardware_passes_and_is_left_as_it_was(laboratory: Laboratory) -> None:
    ran = laboratory.hil("run", "rig.yaml", "commissioning", "--seconds", "1", "--report", "report")
    said = ran.communicate()[0]

    assert ran.returncode == 0, said
    assert (laboratory.folder / "turned").read_text() == "off\non\n"
    assert list((laboratory.folder / "there").iterdir()) == []
    archive, trust = "report/commissioning/archive", "report/commissioning/gateway.pub.pem"
    laboratory.run(sys.executable, "-m", "edge.cli", "verify", archive, "--trust", trust)


def test_a_device_that_is_another_fails_and_a_broken_off_run_restores_the_switch(laboratory: Laboratory) -> None:
    laboratory.describe("another plc")
    ran = laboratory.hil("run", "rig.yaml", "commissioning", "--seconds", "1", "--report", "report")
    assert ran.stdout is not None
    while "4/4" not in (line := ran.stdout.readline()):
        assert line, "the run has ended"
    while "off" not in (laboratory.folder / "turned").read_text():
        assert ran.poll() is None

    ran.send_signal(signal.SIGINT)
    said = ran.communicate()[0]

    assert ran.returncode == 1
    assert "The same command goes on from here." in said
    assert (laboratory.folder / "turned").read_text() == "off\non\n"

    again = laboratory.hil("run", "rig.yaml", "commissioning", "--seconds", "1", "--report", "report")
    said = again.communicate()[0]

    assert again.returncode == 1
    assert "FAILS  Each device says of itself what the rig file says." in said
    assert "plc: product is 'simulated plc', and should be 'another plc'" in " ".join(said.split())


def test_a_scenario_that_can_harm_hardware_is_refused_without_a_word_of_its_owner(laboratory: Laboratory) -> None:
    ran = laboratory.hil("run", "rig.yaml", "gateway_power_cut", "--report", "report")
    said = " ".join(ran.communicate()[0].split())

    assert ran.returncode == 1
    assert "not played: it can harm what is wired, and is played with --yes-this-rig-is-mine only" in said
    assert "NOT PLAYED: 1 of 1 scenario not played: Gateway loses its power" in said
    assert laboratory.words_of_power() == ["on"]


def test_a_gateway_whose_machine_was_off_is_judged_by_the_time_of_the_rig(laboratory: Laboratory) -> None:
    """Both boots of it count from another moment than this machine's, and only the rig tells which is when."""
    ran = laboratory.hil("run", "rig.yaml", "gateway_power_cut", "--seconds", "1", "--report", "report",
                         "--yes-this-rig-is-mine")  # fmt: skip
    said = ran.communicate()[0]
    folder = laboratory.folder / "report/gateway_power_cut"
    judged = [each.judge(gather(folder)) for each in SCENARIO.criteria]
    shutil.copy(laboratory.folder / "log", folder / "devices/plc.log")
    evidence = gather(folder)
    judged += [each.judge(evidence) for each in SCENARIO.criteria]
    [account] = accounts(evidence)

    assert ran.returncode == 0, said
    assert laboratory.words_of_power() == ["on", "off", "on"]
    assert not [finding.found for finding in judged if not finding.holds]
    assert len({each.time.boot_id for each in evidence.chain if isinstance(each, Data)}) == 2
    assert "in 2 boots" in evidence.alignment.words
    assert evidence.alignment.largest_ns < 10**9
    assert account.served > 0
