"""`tidegate verify` says what is true of an archive, and exits 0 only when all of it is authentic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from edge.buffer import BufferLimits, PosixDisk, Store
from edge.cli import cli
from edge.relay.archive import Archive, days
from edge.seal import Record, RecordType
from tests.peers.relay.conftest import Plant
from tests.support.later_gateway import grow_later, start_later

NOON_NS = 20_000 * 86_400 * 10**9


@pytest.fixture
def archive(tmp_path: Path, plant: Plant) -> Path:
    """Twenty scans in a chain that ended as it should."""
    for number in range(20):
        plant.scan(number)
    plant.stop()
    return keep(tmp_path / "archive", plant.records)


def keep(directory: Path, records: list[Record]) -> Path:
    archive = Archive(directory)
    for record in records:
        archive.append("line-4", record.epoch, record.seq, record.hash, record.data, arrived_ns=NOON_NS)
    archive.close()
    return directory


def verify(*arguments: object) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(cli, ["verify", *map(str, arguments), "--json"])
    assert result.exit_code in (0, 1), result.output
    return result.exit_code, orjson.loads(result.stdout)


@pytest.mark.requirement("REQ-ARCH-06")
def test_an_untouched_archive_is_wholly_authentic(archive: Path, plant: Plant) -> None:
    code, report = verify(archive, "--trust", plant.trust)

    assert code == 0
    [epoch] = report["epochs"]
    assert epoch["verdicts"]["AUTHENTIC"] == len(plant.records)
    assert epoch["tail"] == "CLOSED"
    assert report["is_wholly_authentic"] is True


def test_what_a_later_version_said_is_printed_and_leaves_the_exit_code(tmp_path: Path) -> None:
    plant = grow_later(start_later(2), 60)
    archive = keep(tmp_path / "archive", plant.records)
    trust = tmp_path / "line-4.pub.pem"
    trust.write_bytes(plant.identity.public_pem(plant.chain.issuer))

    result = CliRunner().invoke(cli, ["verify", str(archive), "--trust", str(trust)])
    code, report = verify(archive, "--trust", trust)

    assert (result.exit_code, code) == (0, 0)
    unknown = report["epochs"][0]["unknown"]
    assert f"{unknown} records hold things this version does not know" in result.stdout
    assert report["epochs"][0]["unknown_words"]


def test_the_report_is_for_people_by_default(archive: Path, plant: Plant) -> None:
    result = CliRunner().invoke(cli, ["verify", str(archive), "--trust", str(plant.trust)])

    assert result.exit_code == 0
    assert "Wholly authentic: yes" in result.stdout
    assert "Authenticity starts at sealing" in result.stdout


@pytest.mark.parametrize("where", ["gateway folder", "file"])
def test_a_part_of_an_archive_can_be_verified(archive: Path, plant: Plant, where: str) -> None:
    path = archive / "line-4" if where == "gateway folder" else days(archive / "line-4")[0]

    code, _ = verify(path, "--trust", plant.trust)

    assert code == 0


def test_an_altered_record_is_named_and_the_rest_is_authentic(archive: Path, plant: Plant) -> None:
    path = days(archive / "line-4")[0]
    data = bytearray(path.read_bytes())
    hit = plant.records[9]
    offset = data.index(hit.data)
    data[offset + len(hit.data) - 70] ^= 1
    path.write_bytes(data)

    code, report = verify(archive, "--trust", plant.trust)

    assert code == 1
    [epoch] = report["epochs"]
    assert epoch["verdicts"]["ALTERED"] == 1
    assert epoch["absent"] == [["MISSING", 9, 9]]
    assert epoch["verdicts"]["AUTHENTIC"] == len(plant.records) - 1
    [refused] = report["refused"]
    assert (refused["verdict"], refused["seq"], refused["file"], refused["offset"]) == ("ALTERED", 9, str(path), offset)


def test_damage_between_records_is_garbage_with_its_offset_and_the_next_record_counts(
    archive: Path, plant: Plant
) -> None:
    path = days(archive / "line-4")[0]
    data = bytearray(path.read_bytes())
    hit = plant.records[9]
    offset = data.index(hit.data)
    data[offset] ^= 0xFF
    path.write_bytes(data)

    code, report = verify(archive, "--trust", plant.trust)

    assert code == 1
    assert report["damage"] == [{"file": str(path), "offset": offset, "bytes": len(hit.data)}]
    [epoch] = report["epochs"]
    assert epoch["absent"] == [["MISSING", 9, 9]]
    assert epoch["verdicts"]["AUTHENTIC"] == len(plant.records) - 1


def test_missing_ranges_are_exact_and_a_range_beside_them_is_authentic(tmp_path: Path, plant: Plant) -> None:
    for number in range(20):
        plant.scan(number)
    directory = keep(tmp_path / "archive", [r for r in plant.records if r.seq not in (5, 6, 7, 12)])

    code, report = verify(directory, "--trust", plant.trust)
    inside, _ = verify(directory, "--trust", plant.trust, "--from", 8, "--to", 11)
    beyond, _ = verify(directory, "--trust", plant.trust, "--from", 13, "--to", 99)

    assert code == 1
    assert report["epochs"][0]["absent"] == [["MISSING", 5, 7], ["MISSING", 12, 12]]
    assert (inside, beyond) == (0, 1)


def test_a_range_that_goes_beyond_the_last_record_is_answered_in_words(archive: Path, plant: Plant) -> None:
    result = CliRunner().invoke(cli, ["verify", str(archive), "--trust", str(plant.trust), "--to", "1000"])

    assert result.exit_code == 1
    assert f"Wholly authentic: no; 1000 was asked for, and the last record held is {plant.records[-1].seq}" in (
        result.stdout
    )


def test_a_range_of_time_is_echoed_and_needs_a_zone(archive: Path, plant: Plant) -> None:
    def ask(*arguments: str) -> Any:
        return CliRunner().invoke(cli, ["verify", str(archive), "--trust", str(plant.trust), *arguments])

    whole = ask("--from", "2000-01-01T00:00:00+01:00")
    beyond = ask("--from", "2000-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z")
    nothing = ask("--from", "2100-01-01T00:00:00Z")
    bare = ask("--from", "2000-01-01T00:00:00")
    mixed = ask("--from", "5", "--to", "2100-01-01T00:00:00Z")
    backwards = ask("--from", "5", "--to", "4")

    assert (whole.exit_code, beyond.exit_code, nothing.exit_code) == (0, 1, 1)
    assert (bare.exit_code, mixed.exit_code, backwards.exit_code) == (2, 2, 2)
    assert "Range  1999-12-31T23:00:00.000Z to the last record, UTC" in whole.stdout
    assert "Wholly authentic: no; urn:tidegate:line-4 is held until" in beyond.stdout
    assert "Wholly authentic: no; no record of the range is held" in nothing.stdout
    assert "2000-01-01T00:00:00Z for UTC" in bare.output


def test_a_gateway_that_is_not_there_is_answered_with_those_that_are(archive: Path, plant: Plant) -> None:
    result = CliRunner().invoke(cli, ["verify", str(archive), "--trust", str(plant.trust), "--gateway", "line-5"])

    assert result.exit_code == 2
    assert "holds no gateway 'line-5'; there are line-4" in result.output


@pytest.mark.requirement("REQ-VERIFY-03")
def test_a_checkpoint_held_elsewhere_shows_that_the_end_was_cut_off(tmp_path: Path, plant: Plant) -> None:
    kept = [*plant.records, *(plant.scan(number) for number in range(3))]
    plant.scan(3)
    witness = tmp_path / "newest.checkpoint"
    witness.write_bytes(plant.checkpoint().data)
    directory = keep(tmp_path / "archive", kept)

    alone, _ = verify(directory, "--trust", plant.trust)
    code, report = verify(directory, "--trust", plant.trust, "--checkpoint", witness)

    assert alone == 0
    assert code == 1
    assert report["epochs"][0]["tail"] == "TRUNCATED"
    assert report["epochs"][0]["absent"] == [["TRUNCATED", kept[-1].seq + 1, kept[-1].seq + 2]]


def test_a_checkpoint_saved_with_a_line_feed_is_answered_with_what_helps(
    archive: Path, plant: Plant, tmp_path: Path
) -> None:
    witness = tmp_path / "newest.checkpoint"
    newest = next(each for each in reversed(plant.records) if each.type is RecordType.CHECKPOINT)
    witness.write_bytes(newest.data + b"\n")

    result = CliRunner().invoke(
        cli, ["verify", str(archive), "--trust", str(plant.trust), "--checkpoint", str(witness)]
    )

    assert result.exit_code == 2
    assert "a line feed follows the record; save it with `mosquitto_sub -C 1 -N`" in " ".join(result.output.split())


def test_archive_and_buffer_are_verified_together(tmp_path: Path, plant: Plant) -> None:
    """The archive holds what was delivered, the buffer what is left; some records are in both."""
    for number in range(20):
        plant.scan(number)
    plant.stop()
    archive = keep(tmp_path / "archive", plant.records[:15])
    directory = tmp_path / "buffer"
    directory.mkdir()
    store = Store(PosixDisk(directory), BufferLimits(limit_bytes=64 * 2**20))
    store.append(plant.records[10:])
    store.commit()
    store.close()

    for paths in ([archive, directory], [directory, archive]):
        code, report = verify(*paths, "--trust", plant.trust)

        [epoch] = report["epochs"]
        assert code == 0
        assert epoch["held"] == [[0, plant.records[-1].seq]]
        assert (epoch["tail"], epoch["verdicts"]["DUPLICATE"]) == ("CLOSED", 5)


def test_the_fast_mode_answers_linked_and_is_admitted_only_when_asked(archive: Path, plant: Plant) -> None:
    plain, _ = verify(archive, "--trust", plant.trust, "--fast")
    # The STOP comes after the last checkpoint: nothing fixes it, so the range ends before it.
    last = plant.records[-2].seq
    admitted, _ = verify(archive, "--trust", plant.trust, "--fast", "--admit", "linked", "--to", last)

    assert (plain, admitted) == (1, 0)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--trust", "{archive}/line-4/2024-10-04.idx"], 78),
        (["--trust", "{trust}", "--admit", "altered"], 2),
        (["--trust", "{trust}", "--from", "yesterday"], 2),
        (["--trust", "{trust}", "--epoch", "12"], 2),
    ],
)
def test_what_cannot_be_answered_is_told_apart_from_no(
    archive: Path, plant: Plant, arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge.cli import main

    given = [each.format(archive=archive, trust=plant.trust) for each in arguments]
    monkeypatch.setattr("sys.argv", ["tidegate", "verify", str(archive), *given])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == code


def test_the_buffer_of_a_gateway_is_verified_where_it_lies(tmp_path: Path, plant: Plant) -> None:
    """Before delivery, and while the gateway runs."""
    for number in range(20):
        plant.scan(number)
    directory = tmp_path / "buffer"
    directory.mkdir()
    store = Store(PosixDisk(directory), BufferLimits(limit_bytes=64 * 2**20))
    store.append(plant.records)
    store.commit()

    code, report = verify(directory, "--trust", plant.trust)
    store.close()

    assert code == 0
    assert report["epochs"][0]["held"] == [[0, plant.records[-1].seq]]
