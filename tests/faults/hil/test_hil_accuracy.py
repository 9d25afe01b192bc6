"""Known signals and a witness beside the gateway: the scenario holds, and it would not if something were wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from hil import scenarios
from hil.evidence import gather
from hil.load import MEASURED, Measured
from hil.scenario import Scenario
from hil.scenarios.capacity import capacity_is_known
from hil.watch import WITNESS
from tests.faults.hil.conftest import hil

ACCURACY, BYTE_ORDERS = scenarios.find("accuracy"), scenarios.find("byte_orders")
AGREES = ACCURACY.criteria[0].text


pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def accuracy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evidence of the scenario."""
    report = tmp_path_factory.mktemp("accuracy") / "report"
    ran = hil("run", "hil/rigs/simulated.yaml", "accuracy", "--seconds", "1", "--report", report)
    assert "NOT PLAYED" not in ran.stdout, ran.stdout + ran.stderr
    return Path(report / "accuracy")


def failing(folder: Path, scenario: Scenario = ACCURACY) -> dict[str, str]:
    """The criteria that do not hold, with what was found."""
    evidence = gather(folder)
    judged = {criterion.text: criterion.judge(evidence) for criterion in scenario.criteria}
    return {text: finding.found for text, finding in judged.items() if not finding.holds}


def test_what_is_archived_is_what_the_signals_were(accuracy: Path) -> None:
    """For all three protocols and the serial line, with every type and order of bytes that the rig has."""
    assert failing(accuracy) == {}
    assert failing(accuracy, BYTE_ORDERS) == {}


def test_the_report_names_the_versions_of_witnesses_gateway_and_programs(accuracy: Path) -> None:
    document = json.loads((accuracy.parent / "report.json").read_bytes())
    named = {each["name"]: each["version"] for each in document["versions"]}

    for library in ("pymodbus", "pycomm3", "asyncua"):
        assert named[f"{library}, a witness"] == version(library)
    assert named["Tidegate, as the gateway under test says"] == version("tidegate")
    assert re.fullmatch(r"2\.\d+\.\d+", named["mosquitto"])


@pytest.mark.parametrize(
    ("device", "tag", "change"),
    [
        ("bioreactor-1", "uint32-lb", lambda value: value ^ 1),
        ("bioreactor-1", "float32-bl", lambda value: value * (1 + 1e-6)),
        ("dryer-1", "int64", lambda value: value + 1),
        ("filler-1", "level", lambda value: 100 - value + 1),
    ],
)
def test_a_witness_that_says_something_else_is_noticed(
    accuracy: Path, tmp_path: Path, device: str, tag: str, change: Callable[[Any], Any]
) -> None:
    """As it would if the gateway decoded wrongly."""
    folder = Path(shutil.copytree(accuracy, tmp_path / "accuracy"))
    log = folder / WITNESS / f"{device}.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    changed = [[row[0], change(row[1]) if row[0] == tag and row[1] is not None else row[1], *row[2:]] for row in rows]
    log.write_text("".join(json.dumps(row) + "\n" for row in changed))

    broken = failing(folder)

    assert set(broken) == {AGREES}
    assert f"{device}/{tag}:" in broken[AGREES]


def measured(**more: Any) -> Measured:
    counts = {"due": 1000, "done": 700, "failed": 10, "skipped": 290, "requests": 1420, "expected_requests": 1420,
              "slack": 8, "others_cpu_s": 2.0, **more}  # fmt: skip
    return Measured(devices=4, tags=400, every_ms=40.0, seconds=10.0, readings=70_000, cpu_s=1.0, processors=2,
                    resident_bytes=1, written_bytes=None, record_bytes=1, temperature_c=None, throttled=None,
                    **counts)  # fmt: skip


@pytest.mark.parametrize(
    ("others_cpu_s", "skipped", "holds", "says"),
    [
        (2.0, 290, False, "0 values a second without skipped scans; scans were skipped at 10,000"),
        (18.5, 290, True, "0 values a second without skipped scans; it may carry more, but other programs used"),
        (18.5, 0, True, "10,000 values a second without skipped scans; more was not tried"),
    ],
)
def test_scans_skipped_for_want_of_a_processor_are_no_limit_of_the_gateway(
    accuracy: Path, tmp_path: Path, others_cpu_s: float, skipped: int, holds: bool, says: str
) -> None:
    folder = Path(shutil.copytree(accuracy, tmp_path / "capacity"))
    (folder / MEASURED).write_text(json.dumps([asdict(measured(others_cpu_s=others_cpu_s, skipped=skipped))]))

    finding = capacity_is_known(gather(folder))

    assert finding.holds == holds
    assert finding.found.startswith(says)


@pytest.mark.parametrize("wrong", [{"skipped": 280}, {"done": 710}, {"due": 1009}, {"requests": 1500}])
def test_a_scan_that_is_not_counted_is_noticed(wrong: dict[str, int]) -> None:
    assert measured().is_accounted
    assert not measured(**wrong).is_accounted
