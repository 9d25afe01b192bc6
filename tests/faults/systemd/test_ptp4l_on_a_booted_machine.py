"""The shipped unit beside ptp4l, under systemd itself: the gateway may ask it, within its sandbox.

That of linuxptp 4, which Debian 12 has not, comes from Debian 13.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil.ptp import has_read_only_socket, path_of
from tests.faults.systemd.booted_machine import UNITS, Machine
from tests.faults.systemd.test_units_on_a_booted_machine import CONFIGURATION, MONITOR, SITE

pytestmark = pytest.mark.timeout(300)

PTP4L = "ptp4l@eth0.service"
# free_running: the clock is that of the machine of the tests.
SLAVE = "[global]\nslaveOnly 1\ntime_stamping software\nnetwork_transport L2\nfree_running 1\n"
AT = Path("/opt/linuxptp")
OF_PATH = """[Service]
ExecStart=
ExecStart={program} -f /etc/linuxptp/ptp4l.conf -i %I
"""
LINUXPTP_4 = Path(__file__).parents[3] / ".ci/debian/linuxptp"


class WithPtp4l(Machine):
    """The same with a cable that leads nowhere, and with this ptp4l."""

    def __init__(self, folder: Path, program: Path) -> None:
        super().__init__(folder)
        self.program = program

    def arguments(self) -> Sequence[str]:
        return [*super().arguments(), f"--bind-ro={self.program.parents[1]}:{AT}"]


@contextmanager
def machine_with(program: Path, folder: Path) -> Iterator[Machine]:
    with WithPtp4l(folder, program) as machine:
        (machine.root / "etc/linuxptp").mkdir()
        (machine.root / "etc/linuxptp/ptp4l.conf").write_text(SLAVE)
        machine.run("ip", "link", "add", "eth0", "up", "type", "veth", "peer", "name", "eth1")
        machine.run("ip", "link", "set", "eth1", "up")
        drop_in(machine, "path", OF_PATH.format(program=AT / program.parent.name / program.name))
        yield machine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """With the ptp4l that PATH names."""
    with machine_with(Path(path_of("ptp4l")), tmp_path) as machine:
        yield machine


@pytest.fixture
def machine_of_linuxptp_4(tmp_path: Path) -> Iterator[Machine]:
    program = Path(path_of("ptp4l"))
    if not has_read_only_socket():
        subprocess.run([LINUXPTP_4, "trixie", tmp_path / "linuxptp"], check=True)
        program = tmp_path / "linuxptp/bin/ptp4l"
    with machine_with(program, tmp_path) as machine:
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


def test_the_gateway_reaches_the_socket_where_nothing_can_be_set_without_a_drop_in(
    machine_of_linuxptp_4: Machine,
) -> None:
    machine = machine_of_linuxptp_4
    start_asking(machine, "/run/ptp4lro")
    wait_for_reason(machine, "ptp4l follows no grandmaster: its port is LISTENING")

    assert_nothing_is_left(machine)
