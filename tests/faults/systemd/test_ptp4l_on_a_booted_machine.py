"""The shipped unit beside ptp4l, under systemd itself: the gateway may ask it, within its sandbox.

With linuxptp 4, which Debian 12 has not, in both ways: `.ci/debian/linuxptp trixie FOLDER`, and this file with
`PATH=FOLDER/bin:$PATH`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hil.ptp import has_read_only_socket, path_of
from tests.faults.systemd.booted_machine import UNITS, Machine
from tests.faults.systemd.test_units_on_a_booted_machine import CONFIGURATION, MONITOR, SITE

pytestmark = [pytest.mark.exclusive, pytest.mark.timeout(300)]

PTP4L = "ptp4l@eth0.service"
# free_running: the clock is that of the machine of the tests.
SLAVE = "[global]\nslaveOnly 1\ntime_stamping software\nnetwork_transport L2\nfree_running 1\n"
PROGRAM, AT = Path(path_of("ptp4l")), Path("/opt/linuxptp")
OF_PATH = f"""[Service]
ExecStart=
ExecStart={AT}/{PROGRAM.parent.name}/ptp4l -f /etc/linuxptp/ptp4l.conf -i %I
"""


class WithPtp4l(Machine):
    """The same with a cable that leads nowhere, and with the ptp4l that PATH names."""

    def arguments(self) -> Sequence[str]:
        return [*super().arguments(), f"--bind-ro={PROGRAM.parents[1]}:{AT}"]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with WithPtp4l(tmp_path) as machine:
        (machine.root / "etc/linuxptp").mkdir()
        (machine.root / "etc/linuxptp/ptp4l.conf").write_text(SLAVE)
        machine.run("ip", "link", "add", "eth0", "up", "type", "veth", "peer", "name", "eth1")
        machine.run("ip", "link", "set", "eth1", "up")
        drop_in(machine, "path", OF_PATH)
        yield machine


def drop_in(machine: Machine, name: str, text: str) -> None:
    folder = machine.root / "etc/systemd/system/ptp4l@.service.d"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.conf").write_text(text)
    machine.run("systemctl", "daemon-reload")


def start_asking(machine: Machine, address: str) -> None:
    """Start ptp4l and the gateway."""
    site = {**SITE, "clock": {"require": "any", "chrony": "off", "ptp": address, "ptp_clock": "system"}}
    (machine.root / CONFIGURATION[1:]).write_text(json.dumps(site))
    machine.run("systemctl", "start", PTP4L, "tidegate")


def wait_for_reason(machine: Machine, words: str) -> None:
    """Wait until the gateway says so of its clock."""

    def reason() -> str:
        asked = machine.try_run(*MONITOR, "status", CONFIGURATION, "--json").stdout
        return str(json.loads(asked)["clock"]["reason"]) if asked else ""

    machine.wait(lambda: words in reason(), f"the reason {words}")


def assert_nothing_is_left(machine: Machine) -> None:
    machine.run("systemctl", "stop", "tidegate")
    assert ".ptp." not in machine.run("ls", "/run/tidegate/gateway")


def test_the_gateway_reaches_the_socket_of_root_by_the_drop_in_only(machine: Machine) -> None:
    start_asking(machine, "/run/ptp4l")
    wait_for_reason(machine, "ptp4l does not answer at /run/ptp4l: Permission denied")
    drop_in(machine, "ptp4l", (UNITS / "drop-ins/ptp4l.conf").read_text())
    machine.run("systemctl", "restart", PTP4L)
    wait_for_reason(machine, "ptp4l follows no grandmaster: its port is LISTENING")
    machine.run("systemctl", "kill", "--signal=KILL", PTP4L)
    wait_for_reason(machine, "ptp4l does not answer at /run/ptp4l: Connection refused")
    machine.run("systemctl", "restart", PTP4L)
    wait_for_reason(machine, "ptp4l follows no grandmaster: its port is LISTENING")

    assert machine.run("stat", "--format=%a %U:%G", "/run/ptp4l").strip() == "660 root:tidegate"
    assert_nothing_is_left(machine)


@pytest.mark.skipif(not has_read_only_socket(), reason="linuxptp 3 has no socket where nothing can be set")
def test_the_gateway_reaches_the_socket_where_nothing_can_be_set_without_a_drop_in(machine: Machine) -> None:
    start_asking(machine, "/run/ptp4lro")
    wait_for_reason(machine, "ptp4l follows no grandmaster: its port is LISTENING")

    assert_nothing_is_left(machine)
