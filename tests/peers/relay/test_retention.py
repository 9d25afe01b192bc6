"""Retention by a real relay: what it removes it states and signs, and every command says removed, not missing."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from edge.cli import cli
from edge.health import read_status
from edge.relay.archive import Archive
from edge.relay.retention import RetentionPlan, due
from edge.seal.signed_file import FileSigner
from tests.peers.relay.conftest import Plant
from tests.peers.relay.test_relay_process import relay_process

DAY_NS = 86_400 * 10**9
AGES_D = (60, 50, 40, 0)
SCANS = 60


def openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def keys(tmp_path: Path, plant: Plant) -> Path:
    """Trust anchors: the gateway's key, and the relay's, as the page makes it."""
    openssl("genpkey", "-algorithm", "ed25519", "-out", str(tmp_path / "relay.key"))
    anchors = tmp_path / "anchors"
    anchors.mkdir()
    shutil.copy(plant.trust, anchors / "line-4.pem")
    public = openssl("pkey", "-in", str(tmp_path / "relay.key"), "-pubout")
    (anchors / "relay.pem").write_text(f"Subject: urn:tidegate-relay:it\n{public}")
    return anchors


@pytest.fixture
def archive(tmp_path: Path, plant: Plant) -> Path:
    """An archive whose records arrived on four days; each with a change of the session key, and checkpoints."""
    now_ns = time.time_ns()
    archive, first = Archive(tmp_path / "archive"), 0
    for age in AGES_D:
        for number in range(SCANS):
            plant.scan(number, now_ns - age * DAY_NS + number * 10**9)
            if number in (20, 40):
                plant.checkpoint()
            if number == 30:
                plant.roll()
        for record in plant.records[first:]:
            archive.append(
                "line-4", record.epoch, record.seq, record.hash, record.data, arrived_ns=now_ns - age * DAY_NS
            )
        archive.sync()
        first = len(plant.records)
    archive.close()
    return tmp_path / "archive"


def day_file(archive: Path, age: int) -> Path:
    """The file of the records of that age."""
    return sorted((archive / "line-4").glob("????-??-??.rec"))[AGES_D.index(age)]


def configured(tmp_path: Path, plant: Plant, port: int, keep: str) -> Path:
    path = tmp_path / "relay.yaml"
    path.write_text(
        f"relay:\n  name: it\n  archive: {tmp_path}/archive\n  trust: [{plant.trust}]\n"
        f"  archive_keep: {{key: 'file:{tmp_path}/relay.key', {keep}}}\n"
        f"  mqtt: {{host: 127.0.0.1, port: {port}, tls: off}}\n  status: {{socket: {tmp_path}/s}}\n"
    )
    return path


def wait_for(paths: list[Path]) -> None:
    """Until retention is done with these day files: the index is replaced last."""
    pause = Event()
    while not all(path.with_suffix(".removed.json").exists() and _is_replaced(path) for path in paths):
        assert not pause.wait(0.02)


def _is_replaced(path: Path) -> bool:
    said = json.loads(path.with_suffix(".removed.json").read_bytes())
    return bool(path.with_suffix(".idx").stat().st_size == 64 * said["kept"])


def run(command: str, archive: Path, keys: Path, *more: str) -> Result:
    return CliRunner().invoke(cli, [command, str(archive), "--trust", str(keys), *more])


def verified(archive: Path, keys: Path, *more: str) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(run("verify", archive, keys, "--json", *more).stdout)
    return found


@pytest.fixture
def removed(tmp_path: Path, archive: Path, keys: Path, plant: Plant, mosquitto_port: int) -> Path:
    """The archive after a relay that keeps 45 days."""
    before = verified(archive, keys)
    assert before["is_wholly_authentic"]
    with relay_process(configured(tmp_path, plant, mosquitto_port, "age: 45 d")):
        wait_for([day_file(archive, 60), day_file(archive, 50)])
        relay = read_status(tmp_path / "s").relay
        assert relay is not None
        assert [each.missing for each in relay.issuers] == [0]
    return archive


@pytest.mark.requirement("REQ-ARCH-05")
def test_what_was_removed_is_said_to_be_removed(removed: Path, keys: Path, plant: Plant) -> None:
    assert sorted(path.name for path in removed.glob("*/*.removed.json")) == [
        day_file(removed, age).with_suffix(".removed.json").name for age in (60, 50)
    ]
    report = verified(removed, keys, "--admit", "removed")
    assert (report["is_admitted"], report["is_wholly_authentic"]) == (True, False)
    [epoch] = report["epochs"]
    assert {verdict for verdict, _, _ in epoch["absent"]} == {"REMOVED"}
    held = {seq for first, last in epoch["held"] for seq in range(first, last + 1)}
    absent = {seq for _, first, last in epoch["absent"] for seq in range(first, last + 1)}
    assert held | absent == set(range(len(plant.records)))
    assert len(absent) == sum(each["records"] for each in report["removed"]) > 100
    assert epoch["counter_gaps"] == epoch["forks"] == []
    assert "REMOVED" in run("verify", removed, keys).output
    assert "stated by relay it" in run("verify", removed, keys).output
    assert f"{len(absent):,} removed by retention" in run("log", removed, keys).output
    assert "missing" not in run("log", removed, keys).output
    shown = run("report", removed, keys).output
    assert "removed by retention, as the relay states" in shown
    assert "missing" not in shown.lower()


@pytest.mark.requirement("REQ-ARCH-05")
def test_the_statement_can_be_checked_with_openssl_and_names_the_file_that_was(removed: Path, keys: Path) -> None:
    said = day_file(removed, 60).with_suffix(".removed.json")
    signature = said.with_name(said.name + ".sig")
    public = keys / "relay.pem"

    openssl(
        "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", str(public), "-in", str(said), "-sigfile", str(signature)
    )

    statement = json.loads(said.read_bytes())
    assert (statement["relay"], statement["gateway"], statement["rule"]) == ("it", "line-4", "older than 45 d")
    assert statement["file"] == day_file(removed, 60).name


def test_without_the_key_of_the_relay_they_are_missing(removed: Path, plant: Plant) -> None:
    report = verified(removed, plant.trust, "--admit", "removed")

    assert not report["is_admitted"]
    assert {verdict for verdict, _, _ in report["epochs"][0]["absent"]} == {"MISSING"}
    assert "no key of relay it is among the trust anchors" in report["refused_statements"][0]["reason"]


def forge(said: Path, keys: Path) -> str:
    said.write_bytes(said.read_bytes().replace(b"older than 45 d", b"older than 44 d"))
    return "its signature is not one of relay it"


def unsign(said: Path, keys: Path) -> str:
    said.with_name(said.name + ".sig").unlink()
    return "it is not signed"


def sign_by_another(said: Path, keys: Path) -> str:
    key = keys.parent / "other.key"
    openssl("genpkey", "-algorithm", "ed25519", "-out", str(key))
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", str(key), "-in", str(said), "-out", f"{said}.sig")
    return "its signature is not one of relay it"


def contradict(said: Path, keys: Path) -> str:
    """Signed by the relay itself, about records that were never there."""
    statement = json.loads(said.read_bytes())
    statement["ranges"][-1]["hash"] = "00" * 32
    said.write_text(json.dumps(statement))
    key = keys.parent / "relay.key"
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", str(key), "-in", str(said), "-out", f"{said}.sig")
    return "names another one than it says"


def move_to_another_gateway(said: Path, keys: Path) -> str:
    folder = said.parent.parent / "line-5"
    folder.mkdir()
    for path in (said, said.with_name(said.name + ".sig")):
        path.rename(folder / path.name)
    return "lies in the folder of line-5"


def garble(said: Path, keys: Path) -> str:
    said.write_text("[]")
    return "it is no statement of removal that this version knows"


@pytest.mark.parametrize("harm", [forge, unsign, sign_by_another, contradict, move_to_another_gateway, garble])
def test_a_statement_that_is_not_the_relays_is_refused(removed: Path, keys: Path, harm: Any) -> None:
    said = day_file(removed, 50).with_suffix(".removed.json")
    words = harm(said, keys)

    result = run("verify", removed, keys, "--admit", "removed")

    assert result.exit_code == 1
    assert "REFUSED" in result.output
    assert words in result.output
    assert "MISSING" in result.output
    if harm is not move_to_another_gateway:  # A report reads only folders that have records.
        assert words in " ".join(run("report", removed, keys).output.split())


def test_a_relay_that_begins_anew_with_that_archive_misses_nothing(
    removed: Path, tmp_path: Path, keys: Path, plant: Plant, mosquitto_port: int
) -> None:
    """Without its snapshot it knows only what is in the files, and then the statements say the rest."""
    (removed / "relay.snapshot").unlink(missing_ok=True)
    config = configured(tmp_path, plant, mosquitto_port, "age: 45 d")
    config.write_text(config.read_text().replace(f"[{plant.trust}]", f"[{keys}]"))

    with relay_process(config) as process:
        Event().wait(1.5)  # It looks each second.
        relay = read_status(tmp_path / "s").relay
        assert process.poll() is None

    assert relay is not None
    assert [each.missing for each in relay.issuers] == [0]


def test_what_is_not_as_it_was_verified_stays(
    archive: Path, tmp_path: Path, keys: Path, plant: Plant, mosquitto_port: int
) -> None:
    """A bit that turned: an auditor has to see it, and retention must not hide it."""
    path = day_file(archive, 60)
    image = bytearray(path.read_bytes())
    image[-10] ^= 1
    path.write_bytes(image)

    before: list[str] = []
    with relay_process(configured(tmp_path, plant, mosquitto_port, "age: 45 d"), before) as relay:
        assert relay.stderr is not None
        said = next(line for line in chain(before, relay.stderr) if "not removed by retention" in line)
        wait_for([day_file(archive, 50)])

    assert "is not the one that was verified when it arrived" in said
    assert path.read_bytes() == image


@pytest.mark.usefixtures("keys")
def test_by_size_the_oldest_days_go_and_never_the_newest(
    archive: Path, tmp_path: Path, plant: Plant, mosquitto_port: int
) -> None:
    """The newest file alone is larger than the archive may be."""
    newest, now_ns = Archive(archive), time.time_ns()
    first = len(plant.records)
    for number in range(4_000):
        plant.scan(number, now_ns + number * 10**6)
    for record in plant.records[first:]:
        newest.append("line-4", record.epoch, record.seq, record.hash, record.data, arrived_ns=now_ns)
    newest.close()
    assert day_file(archive, 0).stat().st_size > 2**20
    before = day_file(archive, 0).read_bytes()

    with relay_process(configured(tmp_path, plant, mosquitto_port, "size: 1 MiB")):
        wait_for([day_file(archive, age) for age in (60, 50, 40)])

    assert day_file(archive, 0).read_bytes() == before
    said = json.loads(day_file(archive, 40).with_suffix(".removed.json").read_bytes())
    assert said["rule"] == "the archive was larger than 1.05 MB"


@pytest.mark.requirement("REQ-ARCH-05")
@pytest.mark.parametrize("where", ["archive", "gateway"])
def test_a_hold_keeps_everything(
    archive: Path, tmp_path: Path, keys: Path, plant: Plant, mosquitto_port: int, where: str
) -> None:
    (archive / ("hold" if where == "archive" else "line-4/hold")).touch()
    signer = FileSigner.load(tmp_path / "relay.key")

    plan = RetentionPlan(relay="it", signer=signer, age_ns=DAY_NS)

    assert due(archive, plan, time.time_ns()) == []
    (archive / ("hold" if where == "archive" else "line-4/hold")).unlink()
    assert len(due(archive, plan, time.time_ns())) == 3


def test_what_a_crash_left_half_done_is_done_by_the_next_round(removed: Path, keys: Path) -> None:
    """The statement is there, and the file still as it was."""
    path = day_file(removed, 60)
    plan = RetentionPlan(relay="it", signer=FileSigner.load(removed.parent / "relay.key"), age_ns=45 * DAY_NS)
    whole = path.with_suffix(".removed.json").read_bytes()
    path.with_suffix(".removed.json").write_bytes(
        whole.replace(str(json.loads(whole)["size_bytes"]).encode(), str(path.stat().st_size).encode())
    )

    assert [each.path for each in due(removed, plan, time.time_ns())] == [path]
