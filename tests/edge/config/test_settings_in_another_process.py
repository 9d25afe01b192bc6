"""A gateway takes its settings over from the process that checked them, and never loads what checks."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from drivers.modbus.settings import ModbusTag
from edge.config.check import check
from edge.config.fields import fields_of
from edge.driver import TagSettings, load

CONFIGS = Path(__file__).parents[3] / "configs"
GATEWAYS = sorted(path.name for path in CONFIGS.glob("*.yaml") if path.name != "relay.yaml")

TAKEN_OVER = """\
import json, sys
from dataclasses import replace
from pathlib import Path
from edge.config.check_process import begin_check

checked = begin_check(Path(sys.argv[1]))
import edge.gateway.daemon
from edge.clock import SystemClock
from edge.config.catalogue import catalogue_groups
from edge.driver import load, plan_group

site = checked()
loaded = sorted(sys.modules)
devices = list(site.settings.devices)
kinds = {device.driver: load(device.driver) for device in devices}
drivers = [kinds[device.driver].driver(device, SystemClock()) for device in devices]
json.dump({
    "settings": repr(replace(site.settings, devices=())),
    "devices": list(map(repr, devices)),
    "catalogue": [repr(catalogue_groups(device)) for device in devices],
    "plans": [list(plan_group(driver, group).describe())
              for driver, device in zip(drivers, devices) for group in device.scan_groups],
    "warnings": list(map(str, site.warnings)),
    "digest": site.digest.hex(),
    "loaded": loaded,
    "loaded_in_the_end": sorted(sys.modules),
}, sys.stdout)
"""


def taken_over(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], check=False, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", GATEWAYS)
def test_what_is_taken_over_is_what_was_checked(name: str) -> None:
    """Every example, of every driver: the same values, the same catalogue, the same requests."""
    from edge.config.catalogue import catalogue_groups

    here = check(CONFIGS / name)
    settings = here.gateway()

    result = taken_over(TAKEN_OVER, CONFIGS / name)

    assert result.returncode == 0, result.stderr
    there = json.loads(result.stdout)
    assert there["settings"] == repr(replace(settings, devices=()))
    assert there["devices"] == list(map(repr, settings.devices))
    assert there["catalogue"] == [repr(catalogue_groups(device)) for device in settings.devices]
    assert there["plans"] == [list(plan.requests) for plan in here.plans]
    assert there["warnings"] == list(map(str, here.warnings))
    assert there["digest"] == here.digest.hex()
    assert there["loaded"] == there["loaded_in_the_end"]
    assert {module.partition(".")[0] for module in there["loaded"]} & {"pydantic", "pydantic_core", "ruamel"} == set()


def test_every_problem_is_told_with_its_place(tmp_path: Path) -> None:
    written = tmp_path / "site.yaml"
    written.write_text(
        "gateway: {name: line-4, path: acme/basel}\n"
        "devices:\n"
        "  - {name: a, driver: modbuss, host: 127.0.0.1, scan_groups: [{every: 1 s, tags: []}]}\n"
        "  - {name: b, driver: modbus, host: 127.0.0.1, scan_groups: [{every: 0 s, tags: [{name: t}]}]}\n"
    )
    program = (
        "import sys\nfrom pathlib import Path\nfrom edge.config.check_process import begin_check\n"
        "from edge.errors import ConfigError\n"
        "try:\n    begin_check(Path(sys.argv[1]))()\n"
        "except ConfigError as error:\n    print(error)\n"
    )

    result = taken_over(program, written)

    assert result.stdout.splitlines() == list(map(str, check(written).errors))
    assert len(result.stdout.splitlines()) > 3


def test_a_check_that_dies_is_noticed(tmp_path: Path) -> None:
    """A bug in it has its traceback, and no gateway starts."""
    program = (
        "import edge.config.check, sys\nfrom pathlib import Path\nfrom edge.config.check_process import begin_check\n"
        "def spoilt(*_, **__): raise ZeroDivisionError('a bug')\n"
        "edge.config.check.check = spoilt\n"
        "begin_check(Path(sys.argv[1]))()\n"
    )

    result = taken_over(program, tmp_path / "site.yaml")

    assert result.returncode == 1
    assert "ZeroDivisionError: a bug" in result.stderr
    assert "RuntimeError: the process that reads the configuration died; its traceback is above" in result.stderr


def test_settings_come_over_as_they_were_checked() -> None:
    """A driver gets in `run` what `check`, `read` and the conformance suite give it: of its own class, and equal."""
    for name in GATEWAYS:
        for device in check(CONFIGS / name).gateway().devices:
            taken = pickle.loads(pickle.dumps(device))

            assert type(taken) is type(device) is load(device.driver).settings
            assert taken == device


def test_settings_cannot_be_changed() -> None:
    tag = ModbusTag(name="level", address="coil 1")

    with pytest.raises(FrozenInstanceError):
        tag.name = "other"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del tag.name  # type: ignore[misc]


def test_a_copy_with_other_values_keeps_the_rules() -> None:
    tag = ModbusTag(name="level", address="holding 1", type="int16")

    assert replace(tag, name="other") == ModbusTag(name="other", address="holding 1", type="int16")
    with pytest.raises(ValueError, match="needs a type"):
        replace(tag, type=None)


def test_settings_that_were_not_made_a_dataclass_say_so() -> None:
    """Else its keys would be unknown, and nothing would say why."""

    class Forgotten(TagSettings):
        address: str

    with pytest.raises(TypeError, match="Forgotten is no dataclass"):
        fields_of(Forgotten)
