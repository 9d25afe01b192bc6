"""The history of a gateway that ran with several configurations, from its buffer and from the archive of a relay."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
from click.testing import CliRunner, Result

from edge.cli import cli
from edge.seal import RecordType, parse
from tests.faults.gateway.site_under_test import NAME, Site

_DEADBAND = "devices[mixer].scan_groups[20 ms].tags[count].deadband"


def _history(path: Path, *options: object, code: int = 0) -> Result:
    ran = CliRunner().invoke(cli, ["history", str(path), *map(str, options)])
    assert ran.exit_code == code, ran.output
    return ran


def _answer(path: Path, *options: object, code: int = 0) -> dict[str, Any]:
    answer: dict[str, Any] = orjson.loads(_history(path, *options, "--json", code=code).stdout)
    return answer


def _change_to(site: Site, deadband: float) -> None:
    [mixer] = site.settings["devices"]
    [group] = mixer["scan_groups"]
    group["tags"] = [{**each, "deadband": deadband} for each in group["tags"]]


def _run_with(site: Site, deadband: float, *, is_archived: bool) -> None:
    _change_to(site, deadband)
    gateway = site.gateway()
    site.wait_for_scans(3)
    if is_archived:
        site.stop_and_archive(gateway)
    else:
        assert gateway.stop() == 0


def test_who_changed_a_tag_is_found_in_the_archive_and_what_was_done_to_it_shows(site: Site) -> None:
    """Three configurations; then a copy in which a CONFIG record is altered, and one in which it is missing."""
    site.add_counter("mixer")
    site.mosquitto()
    site.relay()
    for deadband in (1.0, 2.0, 3.0):
        _run_with(site, deadband, is_archived=True)

    answer = _answer(site.archive, "--trust", site.trust, "--path", "*[count].deadband")

    first, second, third = answer["entries"]
    assert (answer["is_sound"], answer["is_proven"]) == (True, True)
    assert {each["verdict"] for each in answer["entries"]} == {"AUTHENTIC"}
    assert [(each["why"], each["role"]) for each in answer["entries"]] == [
        ("first start", "start"), ("found at the start", "start"), ("found at the start", "start")
    ]  # fmt: skip
    assert second["changes"] == [{"path": _DEADBAND, "old": "1.0", "new": "2.0"}]
    assert third["changes"] == [{"path": _DEADBAND, "old": "2.0", "new": "3.0"}]
    assert first["at_ns"] < second["at_ns"] < third["at_ns"]
    assert second["new_hash"] == third["old_hash"]
    from_buffer = _answer(site.buffer, "--trust", site.trust, "--path", "*[count].deadband")
    assert from_buffer["entries"] == answer["entries"]
    table = _history(site.archive, "--trust", site.trust, "--format", "csv").stdout.removeprefix("\ufeff")
    assert [row["new"] for row in csv.DictReader(StringIO(table)) if row["path"] == _DEADBAND] == ["2.0", "3.0"]

    records = site.archived()
    [at] = [number for number, each in enumerate(records) if _is_change(each, second)]
    altered = bytearray(records[at])
    altered[-3] ^= 1
    for name, there, kinds in (
        ("altered", [bytes(altered)], ["change", "not_proven", "no_record", "change"]),
        ("missing", [], ["change", "no_record", "change"]),
    ):
        copy = site.directory / name / NAME / "2026-01-31.rec"
        copy.parent.mkdir(parents=True)
        copy.write_bytes(b"".join([*records[:at], *there, *records[at + 1 :]]))
        told = _answer(site.directory / name, "--trust", site.trust, code=1)
        assert [each["kind"] for each in told["entries"]] == kinds
        [unrecorded] = [each for each in told["entries"] if each["kind"] == "no_record"]
        assert unrecorded["new_hash"] == second["new_hash"]
        assert abs(unrecorded["at_ns"] - second["at_ns"]) < 5 * 10**9  # The event of the start names it.


def _is_change(record: bytes, entry: dict[str, Any]) -> bool:
    frame = parse(record)
    place = frame.epoch.hex(), frame.seq
    return frame.type is RecordType.CONFIG and place == (entry["epoch"], entry["seq"])


def test_thousands_of_changes_are_all_listed_from_a_buffer_while_the_gateway_runs(site: Site) -> None:
    """A record has room for some of them; the configurations on record have them all."""
    table = site.directory / "tags.csv"
    header, row = "name,signal,period,type,scale\n", "T{0},counter,1 h,uint16,{1}\n"
    site.settings["devices"].append({
        "name": "plc", "driver": "simulator", "scan_groups": [{"every": "1 h", "tags_from": "tags.csv"}],
    })  # fmt: skip
    del site.settings["uplink"]
    for scale in (0.1, 0.5):
        table.write_text(header + "".join(row.format(tag, scale) for tag in range(2000)))
        gateway = site.gateway()
        if scale == 0.1:
            assert gateway.stop() == 0

    site.wait(lambda: len(_answer(site.buffer)["entries"]) == 2, "the change to be on record")
    [_, change] = _answer(site.buffer, "--trust", site.trust)["entries"]

    paths = [each["path"] for each in change["changes"]]
    assert 0 < change["listed"] < 2000
    assert (len(set(paths)), change["unknown"]) == (2000, 0)
    [_, one] = _answer(site.buffer, "--path", "*[T1999].scale")["entries"]
    assert one["changes"] == [
        {"path": "devices[plc].scan_groups[1 h].tags[T1999].scale", "old": "0.1", "new": "0.5"}
    ]  # fmt: skip
    assert one["others"] == 1999
    assert gateway.stop() == 0
