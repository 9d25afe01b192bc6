"""`tidegate log`: what is shown of which records, and how it looks."""

from __future__ import annotations

import signal
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from edge.cli import cli
from edge.cli.log import log_lines
from edge.seal import ConfigChange, Event, Gap, RecordType, Severity, encode
from edge.sentences import utc_text
from edge.verify.logbook import Logbook, Noted, Place
from tests.support.chains import BOOT_NS, TIME, UTC_NS, Plant, start

_S = 10**9


def _seal(plant: Plant, seconds: float, kind: str = "device.down", subject: str = "plc", **data: Any) -> bytes:
    event = Event(at_ns=UTC_NS + int(seconds * _S), kind=kind, severity=Severity.WARNING, subject=subject, data=data)
    record = plant.chain.seal(RecordType.EVENT, encode(event))
    plant.records.append(record)
    return record.data


def _write(folder: Path, records: list[bytes], name: str = "line-4") -> Path:
    path = folder / "archive" / name / "2023-11-14.rec"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(records))
    return folder / "archive"


def _key(plant: Plant, folder: Path) -> Path:
    path = folder / "line-4.pub.pem"
    path.write_bytes(plant.identity.public_pem(plant.chain.issuer))
    return path


def _log(*arguments: object) -> Result:
    ran = CliRunner().invoke(cli, ["log", *map(str, arguments)])
    assert ran.exit_code == 0, ran.output
    return ran


def _kinds(*arguments: object) -> list[str]:
    return [orjson.loads(line)["kind"] for line in _log(*arguments, "--json").stdout.splitlines()]


def test_entries_are_sorted_by_time_whatever_the_order_of_arrival(tmp_path: Path) -> None:
    """Records that were sent again lie at the end of the archive."""
    plant = start()
    late, early = _seal(plant, 20, reason="late"), _seal(plant, 10, reason="early")

    lines = _log(_write(tmp_path, [plant.records[0].data, late, early])).stdout.splitlines()

    assert [line.split()[1] for line in lines[1:]] == ["22:13:20.0Z", "22:13:30.0Z", "22:13:40.0Z"]
    assert lines[2].endswith("plc does not answer: early")


def test_with_a_key_only_proven_records_speak_and_the_rest_is_counted(tmp_path: Path) -> None:
    """An altered record must not tell a story, and its absence must be seen."""
    plant = start()
    _seal(plant, 1, reason="true")
    altered = _seal(plant, 2, reason="xxxx").replace(b"xxxx", b"lies")
    _seal(plant, 3, reason="missing")
    last = _seal(plant, 4, reason="last")
    path = _write(tmp_path, [plant.records[0].data, plant.records[1].data, altered, last, b"rubbish"])

    proven, told = _log(path, "--trust", _key(plant, tmp_path)).stdout, _log(path).stdout

    assert "lies" in told
    assert "lies" not in proven
    assert proven.splitlines()[0] == (
        "3 records are proven, and what they say is shown; left out: 1 ALTERED, 1 GARBAGE, 2 missing"
    )
    assert told.splitlines()[0] == (
        "Nothing was verified: --trust KEY shows only what is proven; 1 piece cannot be read"
    )


def test_a_range_takes_what_overlaps_it_and_its_zone_is_shown(tmp_path: Path) -> None:
    """A gap that began before the range belongs to it while it lasts; one that is open lasts."""
    plant = start()
    for group, from_s, to_s in ((0, 0, 100), (1, 0, 200), (2, 50, None)):
        gap = Gap(group=group, from_ns=UTC_NS + from_s * _S, to_ns=None if to_s is None else UTC_NS + to_s * _S,
                  status=0)  # fmt: skip
        plant.records.append(plant.chain.seal(RecordType.GAP, encode(gap)))
    path = _write(tmp_path, [each.data for each in plant.records])

    ran = _log(path, "--from", "2023-11-14T23:15:30", "--to", "2023-11-15T00:00:00", "--zone", "Europe/Zurich")

    lines = ran.stdout.splitlines()[1:]
    assert [line.split()[:2] for line in lines] == [
        ["2023-11-14", "23:13:20.0+01:00"], ["2023-11-14", "23:14:10.0+01:00"]
    ]  # fmt: skip
    assert "Scan group 1 was not read for 3.33 min, until 23:16:40.0+01:00" in lines[0]
    assert "still open" in lines[1]
    assert _kinds(path, "--to", "2023-11-14T00:00:00Z") == []
    assert _log(path, "--to", "2023-11-14T00:00:00Z").stdout.splitlines()[1:] == [
        "nothing of what was asked for is on record"
    ]


def test_entries_of_several_gateways_name_theirs(tmp_path: Path) -> None:
    """An archive holds many gateways, and devices of two lines may have the same name."""
    for name in ("line-4", "line-5"):
        plant = start(name)
        _seal(plant, 1, reason="gone")
        path = _write(tmp_path, [each.data for each in plant.records], name)

    assert [line.count(": plc does") for line in _log(path, "--kind", "device.").stdout.splitlines()] == [0, 1, 1]
    assert _log(path, "--kind", "device.", "--gateway", "line-5").stdout.count("plc does") == 1


def test_a_session_key_that_changed_as_always_is_shown_where_it_is_asked_for(tmp_path: Path) -> None:
    """96 of them a day would hide what happened."""
    plant = start()
    plant.records.append(plant.chain.roll(TIME, BOOT_NS))
    path = _write(tmp_path, [each.data for each in plant.records])

    assert (_kinds(path), _kinds(path, "--kind", "key")) == (["epoch"], ["key"])


def test_what_a_fork_takes_back_is_not_shown(tmp_path: Path) -> None:
    """Two histories at one place: neither is proven."""
    plant = start()
    head = plant.records[0].data
    one, other = (Plant(plant.identity, deepcopy(plant.chain), []) for _ in range(2))
    records = [head, _seal(one, 1, reason="one"), _seal(other, 1, reason="other")]
    path = _write(tmp_path, records)

    told = _log(path, "--trust", _key(plant, tmp_path)).stdout

    assert "plc does not answer" not in told
    assert "2 FORK" in told.splitlines()[0]


@pytest.mark.parametrize("width", [40, 120, None])
def test_no_record_can_move_the_cursor(width: int | None) -> None:
    """Whoever forges a record may name gateway, kind and setting as they like."""
    event = Event(at_ns=UTC_NS, kind="later\x1b[2J", subject="\x07", data={"reason": "\x1b]0;"})
    changes = (("path\x1b[2J", "a", "b"),) * 5
    change = ConfigChange(at_ns=UTC_NS, account="\x1b", old_hash=b"a", new_hash=b"b", changes=changes)
    logbook = Logbook()
    place = Place("urn:tidegate:line-4\x1b[2J", b"", 1)
    entries = [logbook.entry(Noted(UTC_NS, place, each)) for each in (event, change)]

    lines = list(log_lines("remark", iter(entries), utc_text, width, has_several=True))

    assert len(lines) >= 5
    assert all(line.plain.isprintable() for line in lines)


def test_a_reader_that_leaves_early_ends_the_log_without_a_word(tmp_path: Path) -> None:
    """As `tidegate log ... | head` does."""
    plant = start()
    for number in range(2000):
        _seal(plant, number, reason="x" * 100)
    path = _write(tmp_path, [each.data for each in plant.records])

    for option in ((), ("--json",)):
        command = [sys.executable, "-m", "edge.cli", "log", str(path), *option]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as log:
            assert log.stdout is not None
            log.stdout.readline()
            log.stdout.close()
            assert log.stderr is not None
            assert log.stderr.read() in (b"", b"Nothing was verified: --trust KEY shows only what is proven\n")
        assert log.returncode == -signal.SIGPIPE


@pytest.mark.parametrize("width", [40, 80, 100, 160])
def test_lines_fit_the_terminal_and_are_whole_in_a_pipe(width: int) -> None:
    """A name of 60 characters and a long reason wrap between words; a quantity stays with its unit."""
    gap = Gap(group=None, from_ns=UTC_NS, to_ns=UTC_NS + 750 * _S, status=0, detail="the line " * 20)
    event = Event(at_ns=UTC_NS, kind="device.down", subject="d" * 60, data={"reason": "no answer for 12 min " * 9})
    logbook = Logbook()
    entries = [logbook.entry(Noted(UTC_NS, Place("urn:tidegate:line-4", b"", 1), each)) for each in (gap, event)]

    lines = [each.plain for each in log_lines("remark", iter(entries), utc_text, width, has_several=False)]
    piped = [each.plain for each in log_lines("remark", iter(entries), utc_text, None, has_several=False)]

    assert max(map(len, lines)) <= max(width, 64)
    assert not any(line.endswith(" 12") or line.strip().startswith("min") for line in lines)
    assert len(piped) == 3
    assert ("device.down" in "".join(lines)) == (width >= 110)
