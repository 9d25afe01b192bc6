"""A gateway takes its settings over from the process that checked them, and never loads what checks."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import pytest

from edge import declare, plain
from edge.config.check import check

CONFIGS = Path(__file__).parents[3] / "configs"
GATEWAYS = sorted(path.name for path in CONFIGS.glob("*.yaml") if path.name != "relay.yaml")

TAKEN_OVER = """\
import json, sys
from pathlib import Path
from edge.config.apart import begin_check

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
    "settings": repr(site.settings.model_copy(update={"devices": ()})),
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
    assert there["settings"] == repr(settings.model_copy(update={"devices": ()}))
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
        "import sys\nfrom pathlib import Path\nfrom edge.config.apart import begin_check\n"
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
        "import edge.config.check, sys\nfrom pathlib import Path\nfrom edge.config.apart import begin_check\n"
        "def spoilt(*_): raise ZeroDivisionError('a bug')\n"
        "edge.config.check.check = spoilt\n"
        "begin_check(Path(sys.argv[1]))()\n"
    )

    result = taken_over(program, tmp_path / "site.yaml")

    assert result.returncode == 1
    assert "ZeroDivisionError: a bug" in result.stderr
    assert "RuntimeError: the process that reads the configuration died; its traceback is above" in result.stderr


def test_a_driver_may_declare_with_pydantic_itself(tmp_path: Path) -> None:
    """It is then loaded along with the driver, and its rules lie idle; the values and properties are there."""
    (tmp_path / "toy.py").write_text(
        "from typing import Annotated\nfrom pydantic import Field, PrivateAttr, field_validator\n"
        "from edge.declare import Settings\n"
        "class Toy(Settings):\n"
        "    size: Annotated[int, Field(ge=1)] = Field(default=2)\n"
        "    _seen: list[int] = PrivateAttr(default_factory=list)\n"
        "    @field_validator('size')\n"
        "    @classmethod\n"
        "    def _even(cls, size: int) -> int:\n"
        "        return size * 2\n"
        "    @property\n"
        "    def double(self) -> int:\n"
        "        return 2 * self.size + len(self._seen)\n"
    )
    make = (
        "import pickle, sys; sys.path.insert(0, sys.argv[1]); import toy\n"
        "made = toy.Toy(size=3); made._seen.append(1); sys.stdout.write(pickle.dumps(made).hex())"
    )
    take = (
        "import pickle, sys; sys.path.insert(0, sys.argv[1]); import edge.plain\n"
        "sys.modules['edge.declare'] = edge.plain\n"
        "toy = pickle.loads(bytes.fromhex(sys.argv[2])); print(toy, toy.double, type(toy).__mro__[1].__module__)"
    )

    made = taken_over(make, tmp_path).stdout

    assert taken_over(take, tmp_path, made).stdout == "Toy(size=6) 13 edge.plain\n"


def test_both_kinds_of_declaration_know_the_same_names() -> None:
    assert [name for name in declare.__all__ if not hasattr(plain, name)] == []


# Plain settings


class Base(plain.Settings):
    low: int
    high: Annotated[int, plain.Field(ge=0)] = 9

    @plain.model_validator(mode="after")
    def _ordered(self) -> Any:
        raise AssertionError("nobody checks again")


class Narrowed(Base):
    high: int = 5
    name: str
    _hidden: str = plain.PrivateAttr()

    @cached_property
    def width(self) -> int:
        return self.high - self.low


@dataclass
class Pickled:
    """As pydantic pickles a model: how it is to be made anew, and its state."""

    state: dict[str, Any]

    def __reduce__(self) -> Any:
        return Narrowed.__new__, (Narrowed,), self.state


def made(*, hidden: dict[str, Any] | None = None, **values: Any) -> Narrowed:
    state = {
        "__dict__": values,
        "__pydantic_extra__": None,
        "__pydantic_fields_set__": set(),
        "__pydantic_private__": hidden,
    }
    settings: Narrowed = pickle.loads(pickle.dumps(Pickled(state)))
    return settings


def test_plain_settings_cannot_be_changed() -> None:
    settings = made(low=1, high=4, name="a")

    with pytest.raises(AttributeError, match="high of settings cannot be changed"):
        settings.high = 7
    with pytest.raises(AttributeError, match="low of settings cannot be taken away"):
        del settings.low
    assert (settings.low, settings.high) == (1, 4)


def test_plain_settings_are_equal_by_what_was_declared() -> None:
    settings, same = made(low=1, high=4, name="a"), made(low=1, high=4, name="a", hidden={"_hidden": "x"})

    assert settings.width == 3  # Kept in the object, as a property that is worked out once is.
    assert same._hidden == "x"
    assert settings == same
    assert hash(settings) == hash(same)
    assert settings != made(low=2, high=4, name="a")
    assert settings != Base(low=1, high=4)
    assert repr(settings) == "Narrowed(low=1, high=4, name='a')"


def test_a_copy_of_plain_settings_has_other_values() -> None:
    settings = made(low=1, high=4, name="a")

    copy = settings.model_copy(update={"name": "b"})

    assert repr(copy) == "Narrowed(low=1, high=4, name='b')"
    assert repr(settings) == "Narrowed(low=1, high=4, name='a')"
