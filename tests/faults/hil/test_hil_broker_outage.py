"""The broker goes away and comes back: the scenario holds, and it would not if something were wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from edge.relay.archive import record_files, records_of
from edge.seal import RecordType, parse
from hil.evidence import gather
from hil.scenarios.broker_outage import SCENARIO
from hil.simulation import Witness
from tests.faults.hil.conftest import Played, hil

ACCOUNTED, ONCE, TIMES, AUTHENTIC = (
    "Every counter value that a device served is archived, or a GAP or LOSS declares it.",
    "Every archived value was served, and is archived once.",
    "Each value was served between the request and the answer that the archive names for it.",
    "The archive is wholly authentic, its chain is closed, and no record is in it twice.",
)


@pytest.fixture
def witness(played: Played) -> Witness:
    return Witness.from_json((played.report / "witness.json").read_bytes())


@pytest.fixture
def archive(played: Played, tmp_path: Path) -> Path:
    """A copy to do harm to."""
    return Path(shutil.copytree(played.report / "archive", tmp_path / "archive"))


def failing(played: Played, witness: Witness, archive: Path) -> dict[str, str]:
    """The claims that do not hold, with what was found."""
    evidence = gather(witness, archive, played.report / "gateway.pub.pem")
    return {claim.text: finding.found for claim, finding in SCENARIO.judge(evidence) if not finding.holds}


def kept(archive: Path) -> tuple[Path, list[bytes]]:
    (file,) = record_files(archive)
    return file, [found.data for found in records_of(file) if found.data is not None]


def one_with_readings(held: list[bytes]) -> bytes:
    readings = [data for data in held if parse(data).type is RecordType.DATA]
    return readings[len(readings) // 2]


def test_nothing_is_lost_when_the_broker_goes_and_comes_back(played: Played) -> None:
    report = orjson.loads((played.report / "report.json").read_bytes())

    assert played.code == 0, played.output
    assert report["verdict"] == "PASSED"
    assert [claim["holds"] for claim in report["claims"]] == [True] * len(SCENARIO.claims)
    assert report["figures"]["records_waiting_most"] > 0


def test_the_report_says_who_signed_it(played: Played) -> None:
    checked = hil("verify", played.report, "--trust", played.trust)

    assert checked.returncode == 0, checked.stdout
    assert "broker_outage on rig simulated: PASSED, signed by" in checked.stdout


def test_the_signature_is_one_that_any_tool_checks(played: Played) -> None:
    """ECDSA with SHA-256 over the file as it is, in DER: what `openssl dgst -sha256 -verify` expects."""
    key = load_pem_public_key(played.trust.read_bytes())
    signature, document = ((played.report / name).read_bytes() for name in ("report.sig", "report.json"))

    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature, document, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("name", ["report.json", "report.md", "report.sig"])
def test_a_report_that_was_changed_is_refused(played: Played, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(played.report, tmp_path / "copy"))
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[:-3] + bytes((data[-3] ^ 1,)) + data[-2:])

    assert hil("verify", copy, "--trust", played.trust).returncode == 1


def test_the_evidence_can_be_judged_again_by_anybody(played: Played, witness: Witness, archive: Path) -> None:
    assert failing(played, witness, archive) == {}


def test_a_record_taken_from_the_archive_is_noticed(played: Played, witness: Witness, archive: Path) -> None:
    file, held = kept(archive)
    victim = one_with_readings(held)
    file.write_bytes(b"".join(data for data in held if data != victim))

    broken = failing(played, witness, archive)

    assert set(broken) == {ACCOUNTED, AUTHENTIC}
    assert f"MISSING {parse(victim).seq}-{parse(victim).seq}" in broken[AUTHENTIC]


def test_a_record_that_is_there_twice_is_noticed(played: Played, witness: Witness, archive: Path) -> None:
    file, held = kept(archive)
    file.write_bytes(b"".join([*held, one_with_readings(held)]))

    assert set(failing(played, witness, archive)) == {ONCE, AUTHENTIC}


def with_first(witness: Witness, change: Callable[[list[Any]], list[Any]]) -> Witness:
    name, served = next(iter(witness.served.items()))
    return replace(witness, served={**witness.served, name: change(list(served))})


def test_an_answer_that_nobody_archived_is_missed_to_the_unit(played: Played, witness: Witness, archive: Path) -> None:
    def one_more(served: list[Any]) -> list[Any]:
        boot_ns, value = served[-1]
        return [*served, (boot_ns + 1, value + 1)]

    broken = failing(played, with_first(witness, one_more), archive)

    assert set(broken) == {ACCOUNTED}
    assert " 1 (" in broken[ACCOUNTED]


def test_a_value_that_no_device_served_is_noticed(played: Played, witness: Witness, archive: Path) -> None:
    assert set(failing(played, with_first(witness, lambda served: served[1:]), archive)) == {ONCE}


def test_a_time_that_does_not_hold_the_answer_is_noticed(played: Played, witness: Witness, archive: Path) -> None:
    """A stamp made when a value was sealed or published, not when it was answered, would look like this."""

    def earlier(served: list[Any]) -> list[Any]:
        return [(boot_ns - 20_000_000, value) for boot_ns, value in served]

    assert set(failing(played, with_first(witness, earlier), archive)) == {TIMES}


def test_a_step_that_waited_in_vain_fails_the_run(played: Played, witness: Witness, archive: Path) -> None:
    broken = failing(played, replace(witness, troubles=["waited in vain"]), archive)

    assert broken == {"Every step came to its end in time.": "waited in vain"}


def test_an_outage_without_a_backlog_proves_nothing(played: Played, witness: Witness, archive: Path) -> None:
    broken = failing(played, replace(witness, figures={**witness.figures, "records_waiting_most": 0}), archive)

    assert set(broken) == {"While the broker was away, records waited on the gateway's disk."}
