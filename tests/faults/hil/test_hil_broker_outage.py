"""The broker goes away and comes back: the scenario holds, and it would not if something were wrong."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from edge.relay.archive import record_files, records_of
from edge.seal import RecordType, parse
from hil import scenarios
from hil.devices import Served, served_in
from hil.evidence import Observed, gather
from hil.scenarios.broker_outage import SCENARIO
from tests.faults.hil.conftest import Played, hil

pytestmark = pytest.mark.timeout(400)

ACCOUNTED, ONCE, TIMES, AUTHENTIC = (
    "Every counter value that a device served is archived, or a GAP or LOSS declares it.",
    "Every archived value was served, and is archived once.",
    "Each value was served between the request and the answer that the archive names for it.",
    "The archive is wholly authentic, its chain is closed, and no record is in it twice.",
)


@pytest.fixture
def scenario(played: Played, tmp_path: Path) -> Path:
    """A copy of the evidence to do harm to."""
    return Path(shutil.copytree(played.report / "broker_outage", tmp_path / "broker_outage"))


def failing(scenario: Path) -> dict[str, str]:
    """The criteria that do not hold, with what was found."""
    evidence = gather(scenario)
    judged = {criterion.text: criterion.judge(evidence) for criterion in SCENARIO.criteria}
    return {text: finding.found for text, finding in judged.items() if not finding.holds}


def kept(scenario: Path) -> tuple[Path, list[bytes]]:
    (file,) = record_files(scenario / "archive")
    return file, [found.data for found in records_of(file) if found.data is not None]


def one_with_readings(held: list[bytes]) -> bytes:
    return max((data for data in held if parse(data).type is RecordType.DATA), key=len)


def test_the_simulated_rig_passes(played: Played) -> None:
    report = orjson.loads((played.report / "report.json").read_bytes())

    assert played.code == 0, played.output
    assert [each["verdict"] for each in report["scenarios"]] == ["PASSED", "PASSED"]
    assert [each["requirements"] for each in report["scenarios"]] == [
        list(scenarios.find(name).requirements) for name in ("commissioning", "broker_outage")
    ]


def test_the_report_is_intact_and_names_a_way_to_verify_the_archive(played: Played) -> None:
    checked = hil("verify", played.report, "--trust", played.trust)
    *_, command = checked.stdout.splitlines()
    verified = subprocess.run(["python", "-m", "edge.cli", *command.split()[1:]], check=False, capture_output=True)

    assert checked.returncode == 0, checked.stdout
    assert verified.returncode == 0, verified.stdout


def test_a_scenario_that_has_a_result_is_not_played_again(played: Played, tmp_path: Path) -> None:
    report = Path(shutil.copytree(played.report, tmp_path / "report"))
    record = report / "broker_outage/archive"
    before = [(file, file.stat().st_mtime_ns) for file in record.rglob("*.rec")]

    again = hil("run", "hil/rigs/simulated.yaml", "broker_outage", "--report", report)

    assert again.returncode == 0, again.stdout + again.stderr
    assert "played before" in again.stdout
    assert [(file, file.stat().st_mtime_ns) for file in record.rglob("*.rec")] == before


def test_the_evidence_can_be_judged_again(scenario: Path) -> None:
    assert failing(scenario) == {}


def test_a_record_taken_from_the_archive_is_noticed(scenario: Path) -> None:
    file, held = kept(scenario)
    victim = one_with_readings(held)
    file.write_bytes(b"".join(data for data in held if data != victim))

    broken = failing(scenario)

    assert set(broken) == {ACCOUNTED, AUTHENTIC}
    assert f"MISSING {parse(victim).seq}-{parse(victim).seq}" in broken[AUTHENTIC]


def test_a_record_that_is_there_twice_is_noticed(scenario: Path) -> None:
    file, held = kept(scenario)
    file.write_bytes(b"".join([*held, one_with_readings(held)]))

    assert set(failing(scenario)) == {ONCE, AUTHENTIC}


def with_log(scenario: Path, change: Callable[[list[Served]], list[Served]]) -> None:
    """Change what the first device says that its counter served."""
    log = scenario / "devices/bioreactor-1.log"
    counted = change([each for each in served_in(log) if each.tag == "cycles"])
    log.write_text("".join(f"{each.boot_ns}\t{each.tag}\t{each.value}\n" for each in counted))


def test_an_answer_that_is_not_archived_is_missed_to_the_unit(scenario: Path) -> None:
    def one_more(served: list[Served]) -> list[Served]:
        middle = served[len(served) // 2]
        return [*served, Served(middle.boot_ns, middle.tag, 10**6)]

    with_log(scenario, one_more)
    broken = failing(scenario)

    assert set(broken) == {ACCOUNTED}
    assert " 1 (1000000) unaccounted" in broken[ACCOUNTED]


def test_a_value_that_no_device_served_is_noticed(scenario: Path) -> None:
    with_log(scenario, lambda served: served[1:])

    assert set(failing(scenario)) == {ONCE}


def test_a_time_that_does_not_hold_the_answer_is_noticed(scenario: Path) -> None:
    """A stamp made when a value was sealed or published, not when it was answered, would look like this."""
    with_log(scenario, lambda served: [each._replace(boot_ns=each.boot_ns - 30 * 10**9) for each in served])

    assert TIMES in failing(scenario)


def test_an_outage_without_a_backlog_proves_nothing(scenario: Path) -> None:
    observed = Observed.from_json((scenario / "observed.json").read_bytes())
    observed.samples["records waiting"] = [(at_ns, 0.0) for at_ns, _ in observed.samples["records waiting"]]
    (scenario / "observed.json").write_bytes(observed.to_json())

    assert set(failing(scenario)) == {"While the broker was away, records waited on the gateway's disk."}
