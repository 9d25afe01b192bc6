"""Installation qualification: what is planted turns exactly its check red, and is named."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from edge.qualify.requirements import requirements
from tests.edge.qualify.conftest import FREE_RUNNING, InstalledMachine, Plant, red


def alter_a_file(machine: InstalledMachine) -> None:
    path = machine.site / "edge/seal/chain.py"
    path.write_bytes(path.read_bytes() + b"\n")


def add_a_file(machine: InstalledMachine) -> None:
    (machine.site / "drivers/modbus/backdoor.py").write_text("")


def remove_a_file(machine: InstalledMachine) -> None:
    (machine.site / "edge/seal/cose.py").unlink()


def edit_the_unit(machine: InstalledMachine) -> None:
    machine.unit.write_text(machine.unit.read_text().replace("NoNewPrivileges=yes", "NoNewPrivileges=no") + "\n")


def upgrade_a_library(machine: InstalledMachine) -> None:
    (machine.site / "numpy-2.0.1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 2.0.2\n")


def let_the_clock_run_free(machine: InstalledMachine) -> None:
    machine.clock = FREE_RUNNING


@pytest.mark.requirement("REQ-PACK-03")
@pytest.mark.parametrize(
    ("plant", "check", "named"),
    [
        (alter_a_file, "IQ-03", "edge/seal/chain.py was changed"),
        (add_a_file, "IQ-03", "drivers/modbus/backdoor.py was added"),
        (remove_a_file, "IQ-03", "edge/seal/cose.py is missing"),
        (upgrade_a_library, "IQ-04", "numpy is 2.0.2, the SBOM says 2.0.1"),
        (edit_the_unit, "IQ-05", "/usr/lib/systemd/system/tidegate.service was changed"),
        (let_the_clock_run_free, "IQ-08", "free running, how far it is off is not known"),
    ],
)
def test_a_planted_failure_turns_exactly_its_check_red(
    machine: InstalledMachine, tmp_path: Path, plant: Plant, check: str, named: str
) -> None:
    before = machine.qualify(tmp_path / "before")

    plant(machine)
    after = machine.qualify(tmp_path / "after")

    assert before[check].verdict == "held"
    assert red(after) - red(before) == {check}
    assert red(before) <= red(after)
    assert named in after[check].found


@pytest.mark.requirement("REQ-PACK-02")
def test_on_a_machine_where_all_is_well_no_check_is_red(machine: InstalledMachine, tmp_path: Path) -> None:
    checks = machine.qualify(tmp_path / "pack")

    assert red(checks) == set(), [each.found for each in checks.values() if each.verdict == "failed"]
    assert all((tmp_path / "pack" / each.record).is_file() for each in checks.values() if each.record)
    assert checks["IQ-03"].record == "raw/IQ-03.txt"


def test_a_socket_that_the_configuration_does_not_name_is_found(machine: InstalledMachine, tmp_path: Path) -> None:
    with socket.socket() as open_to_all:
        open_to_all.bind(("0.0.0.0", 0))
        open_to_all.listen()
        port = open_to_all.getsockname()[1]
        checks = machine.qualify(tmp_path / "pack")

    assert red(checks) == {"IQ-10"}
    assert f"not in the configuration: tcp 0.0.0.0:{port}" in checks["IQ-10"].found


def test_each_check_names_requirements_that_exist(machine: InstalledMachine, tmp_path: Path) -> None:
    named = {each for check in machine.qualify(tmp_path / "pack").values() for each in check.requirements}

    assert named
    assert named <= set(requirements())
