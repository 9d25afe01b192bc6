"""The shipped units under systemd itself: what they allow works, what they forbid does not, and they end well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.buffer import CURSOR, PosixDisk
from edge.buffer.cursor import read_slots
from tests.faults.systemd import plant_inside as plant
from tests.faults.systemd.booted_machine import Machine

pytestmark = pytest.mark.timeout(900)

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
    "uplink": {
        "mqtt": {"host": plant.BROKER, "port": 1883, "tls": "off", "no_subscriber": "delivered", "resend_window": "0 s"}
    },
    "devices": [
        {"name": name, "driver": "modbus", "retry": "200 ms", "retry_limit": "1 s", "scan_groups": [_TAGS], **more}
        for name, more in _DEVICES.items()
    ],
}
AS_THE_SERVICE = ("setpriv", "--reuid=tidegate", "--regid=tidegate", "--clear-groups")
PROGRAM = "/opt/tidegate/bin/tidegate"
CONFIGURATION = "/etc/tidegate/gateway.yaml"
CONTROL = "/run/tidegate/control/line-4.control.sock"
SEEN = ("/run/tidegate/gateway/line-4.status.sock", "/run/tidegate/gateway/line-4.live.sock")
ENGINEER = ("setpriv", "--reuid=nobody", "--regid=tidegate-engineer", "--clear-groups", PROGRAM)
MONITOR = ("setpriv", "--reuid=nobody", "--regid=tidegate-monitor", "--clear-groups", PROGRAM)
OTHERS = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", PROGRAM)
BUFFER = "/var/lib/tidegate/buffer"
AS_THE_PAGE = ("setpriv", "--reuid=tidegate-page", "--regid=tidegate-page", "--groups=tidegate-monitor")
ASKING = """
import errno, json, socket, sys
for path in sys.argv[1:]:
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect(path)
            if "status" not in path:
                asking.sendall(b'{"ask": "values", "device": "listed"}\\n')
            print(json.loads(asking.makefile("rb").read())["devices"][0]["name"])
        except OSError as error:
            print(errno.errorcode[error.errno])
"""
PAGE = "http://127.0.0.1:9480/tags"
TAMPERING = (
    "rm -f $segment", "mv $segment moved", "echo x >>$segment", "echo x >$segment", "rm -f mark",
    "echo x >>acquire.lock", "cat ../identity.pem", "rm -f ../identity.pem", "echo x >../learned.json",
    "chmod g+w $segment", "mv . ../elsewhere", "touch /run/tidegate/gateway/line-4.status.sock",
)  # fmt: skip
OPC_UA = "/var/lib/tidegate/opcua"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    with machine:
        (machine.root / CONFIGURATION[1:]).write_text(json.dumps(SITE))
        yield machine


def kinds(machine: Machine, unit: str) -> set[str]:
    return {json.loads(line)["event"] for line in machine.log(unit) if line.startswith("{")}


def list_buffer(machine: Machine, pattern: str) -> list[Path]:
    return [*(machine.root / BUFFER[1:]).glob(pattern)]


def wait_until_the_cursor_is_written(machine: Machine, *command: str) -> None:
    """Run a command, and wait until who sends then has written the cursor, which each start does."""
    disk = PosixDisk(machine.root / BUFFER[1:])
    before, _ = read_slots(disk, CURSOR)
    machine.run(*command)
    machine.wait(lambda: read_slots(disk, CURSOR)[0] > before, "the cursor to be written")


def as_the_network_side(machine: Machine, command: str) -> str:
    """Why the user of tidegate-forward may not do it; empty where it may."""
    user = ("setpriv", "--reuid=tidegate-forward", "--regid=tidegate", "--clear-groups")
    return machine.try_run(*user, "sh", "-euc", f"cd {BUFFER}; segment=$(ls *.seg | head -n 1); {command}").stderr


def owners(machine: Machine, *paths: str) -> set[str]:
    return set(machine.run("stat", "--format=%U", *paths).split())


def assert_stopped_cleanly(machine: Machine, *units: str) -> None:
    machine.run("systemctl", "stop", *units)
    for unit in units:
        assert (machine.show(unit, "Result"), machine.show(unit, "ExecMainStatus")) == ("success", "0")
    machine.run("cp", "--recursive", "/var/lib/tidegate/buffer", "/tmp/buffer")
    public = "/var/lib/tidegate/identity.pub.pem"
    report = json.loads(machine.run(PROGRAM, "verify", "/tmp/buffer", "--trust", public, "--json"))
    assert report["epochs"][-1]["tail"] == "CLOSED"
    assert report["is_wholly_authentic"]


def test_one_process_reads_what_it_may_and_comes_back_from_anything(machine: Machine) -> None:
    # Fed with every sealed record: while devices answer, 3 s without one is a gateway that hangs.
    (machine.root / "etc/systemd/system/tidegate.service.d/watchdog.conf").write_text("[Service]\nWatchdogSec=3\n")
    machine.run("systemctl", "daemon-reload")
    machine.run(*AS_THE_SERVICE, PROGRAM, "keys", "opcua", "create", OPC_UA, "--name", "line-4")

    machine.run("systemctl", "start", "tidegate")
    machine.wait_for("tidegate", "device.up", READ)
    machine.wait_for("tidegate", "device.down", ["not-listed"])
    security = machine.run("journalctl", "SYSLOG_FACILITY=10", "--identifier=tidegate", "--output=cat")
    asked = json.loads(machine.run(*MONITOR, "status", CONFIGURATION, "--tags", "listed", "--json"))
    refused = machine.try_run(*OTHERS, "status", CONFIGURATION).stderr
    reached_outside = machine.try_run("bash", "-c", f"exec 3<>/dev/tcp/{plant.NOT_LISTED}/{plant.TCP_PORT}").returncode
    machine.run("kill", "-KILL", machine.show("tidegate", "MainPID"))
    machine.wait_for("tidegate", "device.up", READ, times=2)
    machine.run("kill", "-STOP", machine.show("tidegate", "MainPID"))
    machine.wait_for("tidegate", "device.up", READ, times=3)

    assert 'TG-S15 [tidegate gateway="line-4" event="start"' in security
    assert asked["devices"][0]["name"] == "listed"
    assert "this user may not ask; ask as root, or as a member of the group tidegate-monitor" in refused
    assert reached_outside == 0
    assert "not-listed" not in [event["subject"] for event in machine.events("tidegate", "device.up")]
    assert "tidegate.service: Failed with result 'watchdog'." in machine.log("tidegate")
    assert machine.show("tidegate", "NRestarts") == "2"
    assert owners(machine, f"{OPC_UA}/own/key.pem", "/var/lib/tidegate/identity.pem") == {"tidegate"}
    assert machine.run("stat", "--format=%a %U:%G", *SEEN).split("\n")[:2] == ["660 tidegate:tidegate-monitor"] * 2
    assert machine.run("stat", "--format=%a %U:%G", CONTROL) == "660 tidegate:tidegate-engineer\n"
    assert_stopped_cleanly(machine, "tidegate")


def test_the_page_sees_status_and_values_and_has_no_way_to_a_device(machine: Machine) -> None:
    machine.run("systemctl", "start", "tidegate", "tidegate-page")
    machine.wait_for("tidegate", "device.up", READ)
    asking = ("/opt/tidegate/bin/python3", "-c", ASKING, *SEEN, CONTROL)
    inside = ("nsenter", "--mount", "--target", machine.show("tidegate-page", "MainPID"))

    engineer = json.loads(machine.try_run(*ENGINEER, "test", CONFIGURATION, "listed", "--json").stdout)
    monitor = machine.try_run(*MONITOR, "test", CONFIGURATION, "listed").stderr
    its_account = machine.run(*AS_THE_PAGE, *asking).split()
    in_its_unit = machine.run(*inside, *AS_THE_PAGE, *asking).split()
    even_as_root = machine.run(*inside, *asking).split()
    machine.wait(lambda: '"listed"' in machine.try_run("curl", "-s", PAGE).stdout, "the page to have tags")

    assert engineer["answered_by"] == "gateway"
    assert f"this account may not ask at {CONTROL}" in monitor
    assert its_account == in_its_unit == ["listed", "listed", "EACCES"]
    assert even_as_root == ["listed", "listed", "ENOENT"]


def test_one_process_becomes_two_and_one_again_with_its_buffer_and_chain(machine: Machine) -> None:
    halves = "tidegate-acquire tidegate-forward"
    machine.run("systemctl", "start", "broker")
    machine.run("systemctl", "enable", "--now", "tidegate")
    machine.wait_for("tidegate", "device.up", READ)

    wait_until_the_cursor_is_written(
        machine, "sh", "-c", f"systemctl disable --now tidegate && systemctl enable --now {halves}"
    )
    machine.wait_for("tidegate-acquire", "device.up", READ)
    asked = json.loads(machine.run(*MONITOR, "status", CONFIGURATION, "--json"))
    refused = [as_the_network_side(machine, command) for command in TAMPERING]
    machine.run(PROGRAM, "resend", BUFFER, "--from", "2000-01-01T00:00:00Z")
    machine.wait(lambda: "resend finished" in kinds(machine, "tidegate-forward"), "the records to be sent again")
    machine.wait(lambda: not list_buffer(machine, "resend-*"), "the request to be removed")
    made_first = owners(machine, f"{BUFFER}/cursor", f"{BUFFER}/forward.lock", f"{BUFFER}/mark")
    machine.run("systemctl", "stop", "tidegate-forward")
    machine.run("rm", f"{BUFFER}/cursor", f"{BUFFER}/forward.lock")  # Now the pair makes them.
    wait_until_the_cursor_is_written(machine, "systemctl", "start", "tidegate-forward")
    made_by_the_pair = owners(machine, f"{BUFFER}/cursor", f"{BUFFER}/forward.lock")

    wait_until_the_cursor_is_written(
        machine, "sh", "-c", f"systemctl disable --now {halves} && systemctl enable --now tidegate"
    )

    assert asked["uplink"]["state"] == "up"
    assert all(refused), dict(zip(TAMPERING, refused, strict=True))
    assert (made_first, made_by_the_pair) == ({"tidegate"}, {"tidegate-forward"})
    assert_stopped_cleanly(machine, "tidegate")
