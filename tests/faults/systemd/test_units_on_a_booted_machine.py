"""The shipped units under systemd itself: what they allow works, what they forbid does not, and they end well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.systemd import plant_inside as plant
from tests.faults.systemd.booted_machine import Machine

pytestmark = [pytest.mark.exclusive, pytest.mark.timeout(900)]

READ = ("listed", "on-a-line", "dialled-in")
_TAGS = {"every": "200 ms", "tags": [{"name": "n", "address": "holding 0", "type": "uint32", "word_order": "big"}]}
_DEVICES = {
    "listed": {"host": plant.LISTED, "port": plant.TCP_PORT},
    "not-listed": {"host": plant.NOT_LISTED, "port": plant.TCP_PORT},
    "on-a-line": {"serial": {"port": plant.LINE}},
    "dialled-in": {
        "listen": {"address": plant.CALLED, "port": plant.DIAL_IN_PORT, "peers": [plant.CALLER]}, "framing": "rtu"
    },
}  # fmt: skip
SITE = {
    "gateway": {"name": "line-4", "path": "acme/line-4", "state": "/var/lib/tidegate"},
    "clock": {"require": "any"},
    # Nobody is there: at a stop the gateway waits for it, up to a limit.
    "uplink": {"mqtt": {"host": "198.51.100.10", "port": 1883, "tls": "off"}},
    "devices": [
        {"name": name, "driver": "modbus", "retry": "200 ms", "retry_limit": "1 s", "scan_groups": [_TAGS], **more}
        for name, more in _DEVICES.items()
    ],
}
AS_THE_SERVICE = ("setpriv", "--reuid=tidegate", "--regid=tidegate", "--clear-groups")
PROGRAM = "/opt/tidegate/bin/tidegate"
CONFIGURATION = "/etc/tidegate/gateway.yaml"
SOCKETS = ("/run/tidegate/gateway/line-4.status.sock", "/run/tidegate/gateway/line-4.control.sock")
OPC_UA = "/var/lib/tidegate/opcua"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    with machine:
        (machine.root / CONFIGURATION[1:]).write_text(json.dumps(SITE))
        yield machine


def owners(machine: Machine, *paths: str) -> set[str]:
    return set(machine.run("stat", "--format=%U", *paths).split())


def assert_stopped_cleanly(machine: Machine, *units: str) -> None:
    machine.run("systemctl", "stop", *units)
    for unit in units:
        assert (machine.show(unit, "Result"), machine.show(unit, "ExecMainStatus")) == ("success", "0")
    machine.run("cp", "--recursive", "/var/lib/tidegate/buffer", "/tmp/buffer")
    public = "/var/lib/tidegate/identity.pub.pem"
    report = json.loads(machine.run(PROGRAM, "verify", "/tmp/buffer", "--trust", public, "--json"))
    assert report["epochs"][0]["tail"] == "CLOSED"


def test_one_process_reads_what_it_may_and_comes_back_from_anything(machine: Machine) -> None:
    # Fed with every sealed record: while devices answer, 3 s without one is a gateway that hangs.
    (machine.root / "etc/systemd/system/tidegate.service.d/watchdog.conf").write_text("[Service]\nWatchdogSec=3\n")
    machine.run("systemctl", "daemon-reload")
    machine.run(*AS_THE_SERVICE, PROGRAM, "keys", "opcua", "create", OPC_UA, "--name", "line-4")

    machine.run("systemctl", "start", "tidegate")
    machine.wait_for("tidegate", "device.up", READ)
    machine.wait_for("tidegate", "device.down", ["not-listed"])
    reached_outside = machine.try_run("bash", "-c", f"exec 3<>/dev/tcp/{plant.NOT_LISTED}/{plant.TCP_PORT}").returncode
    machine.run("kill", "-KILL", machine.show("tidegate", "MainPID"))
    machine.wait_for("tidegate", "device.up", READ, times=2)
    machine.run("kill", "-STOP", machine.show("tidegate", "MainPID"))
    machine.wait_for("tidegate", "device.up", READ, times=3)

    assert reached_outside == 0
    assert "not-listed" not in [event["subject"] for event in machine.events("tidegate", "device.up")]
    assert "tidegate.service: Failed with result 'watchdog'." in machine.log("tidegate")
    assert machine.show("tidegate", "NRestarts") == "2"
    assert owners(machine, f"{OPC_UA}/own/key.pem", "/var/lib/tidegate/identity.pem") == {"tidegate"}
    assert machine.run("stat", "--format=%a %U:%G", *SOCKETS).split("\n")[:2] == ["660 tidegate:tidegate-monitor"] * 2
    assert_stopped_cleanly(machine, "tidegate")


def test_two_processes_leave_each_other_their_files(machine: Machine) -> None:
    halves = ("tidegate-acquire", "tidegate-forward")
    machine.run("systemctl", "start", *halves)
    machine.wait_for("tidegate-acquire", "device.up", READ)
    machine.run("systemctl", "restart", "tidegate-forward")
    machine.run("systemctl", "restart", "tidegate-acquire")
    machine.wait_for("tidegate-acquire", "device.up", READ, times=2)

    buffer = "/var/lib/tidegate/buffer"
    assert owners(machine, f"{buffer}/acquire.lock", f"{buffer}/mark") == {"tidegate"}
    assert owners(machine, f"{buffer}/forward.lock", f"{buffer}/cursor") == {"tidegate-forward"}
    assert_stopped_cleanly(machine, *halves)
