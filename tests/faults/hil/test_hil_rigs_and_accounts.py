"""Rig files are read strictly, and counters are settled to the unit."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError
from hil import scenarios
from hil.criteria import account
from hil.devices import Served
from hil.evidence import Archived, Declared
from hil.requirements import REQUIREMENTS
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
    assert scenario.title
    assert len({criterion.text for criterion in scenario.criteria}) == len(scenario.criteria) > 0
    assert all(step.text for step in scenario.steps)
    assert set(scenario.requirements) <= set(REQUIREMENTS)
    assert scenario.requirements


def test_every_mistake_in_a_rig_is_said_with_its_line(tmp_path: Path) -> None:
    lines = (ROOT / "hil/rigs/simulated.yaml").read_text().splitlines()

    def change(text: str, new: str) -> int:
        at = next(at for at, line in enumerate(lines) if text in line)
        lines[at] = lines[at].replace(text, new)
        return at + 1

    bound = change("    wiring: Modbus TCP", "    wirng: Modbus TCP")
    signal = change("      cycles: {wave: counter}", "      cycle: {wave: counter}")
    wave = change("wave: sine, low: 36", "wave: sinus, low: 36")
    uplink = change("    clock: {require: any", "    uplink: {}\n    clock: {require: any")
    switch = change("  vendor: chrony", "  power: switch-it\n  vendor: chrony")
    file = tmp_path / "rig.yaml"
    file.write_text("\n".join(lines))

    with pytest.raises(ConfigError) as error:
        load_rig(file)

    said = str(error.value)
    assert f"{file}:{uplink}:5: gateway.settings.uplink: unknown key" in said
    assert f"{file}:{switch + 1}:10: clock.power:" in said
    assert f"{file}:{bound + 2}:5: devices[0].wirng: unknown key; did you mean wiring?" in said
    assert f"{file}:{signal + 2}:7: devices[0].signals.cycle: no tag of the device is called 'cycle'" in said
    assert f"{file}:{wave + 2}:27: devices[0].signals.temperature.wave:" in said
    assert len(error.value.problems) == 5


def test_a_rig_that_cannot_be_used_ends_with_78(tmp_path: Path) -> None:
    file = tmp_path / "rig.yaml"
    file.write_text("rig: [\n")

    ran = hil("run", file, "broker_outage")

    assert ran.returncode == 78
    assert f"{file}:2:1" in ran.stderr


def test_a_report_folder_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("of yesterday")

    ran = hil("run", ROOT / "hil/rigs/simulated.yaml", "broker_outage", "--report", tmp_path)

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

    settled = account("plc/cycles", [Served(100 * value, "cycles", value) for value in values], archived, stretches)

    assert set(settled.unaccounted) == lost - declared
    assert settled.declared == len(lost & declared)
    assert (settled.served, settled.archived) == (count, count - len(lost))
    assert (settled.invented, settled.repeated, settled.mistimed) == ((), (), ())
