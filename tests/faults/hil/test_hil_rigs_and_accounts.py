"""Rig files are read strictly, and counters are settled to the unit."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError
from hil import scenarios
from hil.claims import account
from hil.evidence import Archived, Declared
from hil.rig import load_rig
from tests.faults.hil.conftest import ROOT, hil

RIGS = sorted((ROOT / "hil/rigs").glob("*.yaml"))


@pytest.mark.parametrize("file", RIGS, ids=lambda file: file.stem)
def test_the_rigs_we_ship_are_right(file: Path) -> None:
    assert load_rig(file).wired.rig.name == file.stem


@pytest.mark.parametrize("name", scenarios.names())
def test_a_scenario_says_what_it_does_and_proves(name: str) -> None:
    scenario = scenarios.find(name)

    assert scenario.purpose
    assert len({claim.text for claim in scenario.claims}) == len(scenario.claims) > 0
    assert all(step.text for step in scenario.steps)


def test_every_mistake_in_a_rig_is_told_with_its_line(tmp_path: Path) -> None:
    lines = RIGS[0].read_text().splitlines()
    firmware = next(at for at, line in enumerate(lines) if "firmware: that of the clone" in line)
    lines[firmware] = lines[firmware].replace("firmware", "firmwre")
    waves = next(at for at, line in enumerate(lines) if "waves:" in line)
    lines[waves] = "    waves: {cycle: sine}"
    driver = next(at for at, line in enumerate(lines) if "driver: modbus" in line)
    lines[driver] += "\n      port: 502"
    file = tmp_path / "rig.yaml"
    file.write_text("\n".join(lines))

    with pytest.raises(ConfigError) as error:
        load_rig(file)

    told = str(error.value)
    assert f"{file}:{firmware + 1}:5: devices[0].firmwre: unknown key; did you mean firmware?" in told
    assert f"{file}:{waves + 1}:20: devices[0].waves.cycle: no tag of the device is called 'cycle'" in told
    assert f"{file}:{waves + 1}:12: devices[0].waves: needs a counter" in told
    assert "devices[0].settings.port: is chosen by the simulation" in told
    assert len(error.value.problems) == 4


def test_a_scan_of_several_requests_is_refused(tmp_path: Path) -> None:
    """With two, the second one waiting would not prove that the answer to the first was used."""
    file = tmp_path / "rig.yaml"
    file.write_text(RIGS[0].read_text().replace("holding 100", "holding 300"))

    with pytest.raises(ConfigError, match="one scan takes 2 requests; a simulated device is read with one"):
        load_rig(file)


def test_a_rig_that_cannot_be_used_ends_with_78(tmp_path: Path) -> None:
    file = tmp_path / "rig.yaml"
    file.write_text("rig: [\n")

    ran = hil("run", file, "broker_outage")

    assert ran.returncode == 78
    assert f"{file}:2:1" in ran.stderr


def test_a_report_folder_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("of yesterday")

    ran = hil("run", RIGS[0], "broker_outage", "--report", tmp_path)

    assert ran.returncode == 78
    assert (tmp_path / "report.json").read_text() == "of yesterday"


@given(st.integers(1, 60), st.data())
def test_what_is_neither_archived_nor_declared_is_named(count: int, data: st.DataObject) -> None:
    """Whatever was lost, whatever was declared: what remains is exactly the difference."""
    values = range(1, count + 1)
    lost = data.draw(st.sets(st.sampled_from(values)))
    declared = data.draw(st.sets(st.sampled_from(values)))
    others = data.draw(st.sets(st.sampled_from(values)))
    archived = [Archived(100 * value - 5, 100 * value + 5, value) for value in values if value not in lost]
    stretches = [Declared("plc", 100 * value - 9, 100 * value + 9) for value in declared]
    stretches += [Declared("another", 100 * value - 9, 100 * value + 9) for value in others]

    settled = account("plc/cycles", [(100 * value, value) for value in values], archived, stretches)

    assert set(settled.unaccounted) == lost - declared
    assert settled.declared == len(lost & declared)
    assert (settled.served, settled.archived) == (count, count - len(lost))
    assert (settled.invented, settled.repeated, settled.mistimed) == ((), (), ())
