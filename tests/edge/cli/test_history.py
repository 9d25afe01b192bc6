"""`tidegate history`: what is shown of which records, in each form, and what may not be relied on."""

from __future__ import annotations

import csv
import gzip
import hashlib
from copy import deepcopy
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from edge.cli import cli
from edge.cli.history import Answer, ChangedValue, HistoryEntry
from edge.cli.history_forms import history_lines
from edge.config.written import differences
from edge.seal import ConfigChange, RecordType, encode
from edge.seal.approval import Approval
from edge.seal.payloads import KeptPart
from edge.terminal import RED
from tests.support.chains import TIME, UTC_NS, Plant, start

_S = 10**9
_SCALE = "devices[plc].scan_groups[1 s].tags[TT-101].scale"


def _configuration(scale: float, *others: str, **more: Any) -> dict[str, Any]:
    """With a tag TT-101 in a device that has others beside it."""
    tags = [{"name": "TT-101", "scale": scale}, {"name": "PT-1"}]
    devices = [{"name": "plc", "scan_groups": [{"every": "1 s", "tags": tags}]}, *({"name": each} for each in others)]
    return {"gateway": {"name": "line-4"}, "devices": devices, **more}


class _Gateway:
    """Seals what a gateway does when it takes configurations into use."""

    def __init__(self, name: str = "line-4") -> None:
        self.plant: Plant = start(name)
        self.now: Any = None
        self.digest = b""

    def take(self, new: Any, at_s: float, account: str = "anna", why: str = "CC-123", *, role: str = "start",
             listed: int = 99, parts: int = 1) -> None:  # fmt: skip
        """Record a configuration in so many parts; the record lists so many changes."""
        packed = gzip.compress(orjson.dumps(new), 6, mtime=0)
        digest = hashlib.sha256(packed).digest()
        changes = None if self.now is None else list(differences(self.now, new))
        size = -(-len(packed) // parts)
        for number in range(parts):
            part = KeptPart(number, parts, packed[number * size :][:size], None if changes is None else len(changes))
            self.seal(ConfigChange(
                at_ns=UTC_NS + int(at_s * _S), account=account, role=role, why=why, old_hash=self.digest,
                new_hash=digest, changes=() if number else tuple((changes or [])[:listed]), kept=part,
            ))  # fmt: skip
        self.now, self.digest = new, digest

    def seal(self, change: ConfigChange) -> None:
        self.plant.records.append(self.plant.chain.seal(RecordType.CONFIG, encode(change)))

    def archive(self, folder: Path, *without: int, altered: int | None = None) -> Path:
        """An archive of the records, of which some are missing, or one is altered."""
        records = {record.seq: record.data for record in self.plant.records if record.seq not in without}
        if altered is not None:
            data = bytearray(records[altered])
            data[-3] ^= 1
            records[altered] = bytes(data)
        name = self.plant.chain.issuer.rpartition(":")[2]
        path = folder / "archive" / name / "2023-11-14.rec"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(records.values()))
        (folder / f"{name}.pub.pem").write_bytes(self.plant.identity.public_pem(self.plant.chain.issuer))
        return folder / "archive"


def _typical() -> _Gateway:
    gateway = _Gateway()
    gateway.take(_configuration(0.1), 0, "tidegate", "first start")
    gateway.take(_configuration(0.5), 100, "anna", "sensor replaced, CC-123", role="apply")
    gateway.take(_configuration(0.5, "mixer"), 200, "bert", "mixer added")
    gateway.take(_configuration(0.7, "mixer"), 86_400, "bert", "calibrated again", role="of-2031")
    return gateway


def _history(*arguments: object, code: int = 0) -> Result:
    ran = CliRunner().invoke(cli, ["history", *map(str, arguments)])
    assert ran.exit_code == code, ran.output
    return ran


def _entries(*arguments: object, code: int = 0) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = orjson.loads(_history(*arguments, "--json", code=code).stdout)["entries"]
    return entries


def _whys(*arguments: object) -> list[str]:
    return [each["why"] for each in _entries(*arguments)]


@pytest.mark.requirement("REQ-CONF-02")
def test_who_changed_what_when_and_why_is_a_line_each_and_proven_with_a_key(tmp_path: Path) -> None:
    path = _typical().archive(tmp_path)

    lines = _history(path, "--trust", tmp_path / "line-4.pub.pem").stdout.splitlines()

    assert lines[0] == "5 records are proven, and what they say is shown; nothing is left out"
    assert lines[1].startswith("2023-11-14 22:13:20.0Z  AUTHENTIC  Configuration ")
    assert lines[1].endswith(
        " is the first on record, by account tidegate, as which the gateway was started: first start"
    )
    assert lines[2].endswith(", by account anna, with tidegate apply: sensor replaced, CC-123")
    assert lines[3].strip() == f"{_SCALE} from 0.1 to 0.5"
    assert lines[5].strip() == "devices[mixer] added: {name: mixer}"
    assert lines[6].endswith(", by account bert, role of-2031: calibrated again")
    assert "not verified" not in "".join(lines)


def test_a_return_to_a_configuration_that_ran_before_is_called_that(tmp_path: Path) -> None:
    """Also where what ran before is not asked for; and not what is on record twice in a row."""
    gateway = _typical()
    gateway.take(_configuration(0.5), 90_000, "anna", "taken back, CC-124", role="apply")
    gateway.seal(ConfigChange(at_ns=UTC_NS + 95_000 * _S, account="anna", role="apply", why="once more",
                              old_hash=gateway.digest, new_hash=gateway.digest))  # fmt: skip
    path = gateway.archive(tmp_path)

    *_, returned, again = orjson.loads(_history(path, "--who", "anna", "--json").stdout)["entries"]

    assert [each["ran_before"] for each in (returned, again)] == [True, False]
    assert " returned in place of " in returned["text"]
    page = _history(path, "--format", "html").stdout
    assert page.count("which ran before") == 1


def test_without_a_key_nothing_is_called_proven(tmp_path: Path) -> None:
    path = _typical().archive(tmp_path)

    told, answer = _history(path).stdout, orjson.loads(_history(path, "--format", "json").stdout)

    assert told.startswith("Nothing was verified: ")
    assert told.count("  not verified  ") == 4
    assert (answer["is_sound"], answer["is_proven"]) == (True, False)
    assert {each["verdict"] for each in answer["entries"]} == {None}
    assert orjson.loads(_history(path, "--json", "--trust", tmp_path / "line-4.pub.pem").stdout)["is_proven"] is True


@pytest.mark.requirement("REQ-TRAIL-02")
def test_an_altered_record_says_nothing_and_ends_with_exit_code_1(tmp_path: Path) -> None:
    """Its configuration is named by the next one, which says that it replaced it."""
    gateway = _typical()
    path = gateway.archive(tmp_path, altered=2)

    first, altered, missing, after, last = _entries(path, "--trust", tmp_path / "line-4.pub.pem", code=1)

    assert [each["kind"] for each in (first, altered, missing, after, last)] == [
        "change", "not_proven", "no_record", "change", "change"
    ]  # fmt: skip
    assert (altered["verdict"], altered["seq"], altered["at_ns"]) == ("ALTERED", 2, None)
    assert (altered["account"], altered["why"], altered["changes"]) == ("", "", [])
    assert "the signature is not that of the key it names" in altered["text"]
    assert missing["new_hash"] == after["old_hash"] != ""
    for only in (("--who", "anna"), ("--path", "*TT-101*"), ("--to", "2023-11-14T00:00Z")):
        kinds = [each["kind"] for each in _entries(path, "--trust", tmp_path / "line-4.pub.pem", *only, code=1)]
        assert "not_proven" in kinds  # It may be what is looked for.


def test_a_record_that_a_fork_takes_back_is_not_proven(tmp_path: Path) -> None:
    """Two histories at one place, both signed: neither is shown."""

    gateway = _Gateway()
    gateway.take(_configuration(0.1), 0)
    other = _Gateway()
    other.plant = Plant(gateway.plant.identity, deepcopy(gateway.plant.chain), [])
    other.now, other.digest = gateway.now, gateway.digest
    gateway.take(_configuration(0.5), 10, "anna")
    other.take(_configuration(0.6), 10, "bert")
    path = gateway.archive(tmp_path)
    with (path / "line-4/2023-11-14.rec").open("ab") as file:
        file.write(other.plant.records[0].data)

    entries = _entries(path, "--trust", tmp_path / "line-4.pub.pem", code=1)

    assert [(each["kind"], each["verdict"]) for each in entries] == [
        ("change", "AUTHENTIC"), ("not_proven", "FORK"), ("not_proven", "FORK")
    ]  # fmt: skip


@pytest.mark.requirement("REQ-TRAIL-02")
def test_a_missing_record_is_seen_with_and_without_a_key(tmp_path: Path) -> None:
    path = _typical().archive(tmp_path, 2)

    without = _entries(path, code=1)
    told = _history(path, "--trust", tmp_path / "line-4.pub.pem", code=1).stdout

    assert [each["kind"] for each in without] == ["change", "no_record", "change", "change"]
    assert "1 missing" in told.splitlines()[0]
    assert f"NO RECORD  Configuration {without[1]['new_hash'][:8]} ran, and no record that is held says" in told
    assert _entries(path, "--from", "2023-11-15T00:00Z")[0]["why"] == "calibrated again"  # The break lies before it.


def test_damaged_bytes_and_missing_values_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    """A CONFIG record may have been there."""
    gateway = _typical()
    gateway.plant.records.append(gateway.plant.chain.checkpoint(TIME))
    path = gateway.archive(tmp_path, 5)
    with (path / "line-4/2023-11-14.rec").open("ab") as file:
        file.write(b"rubbish")

    assert "1 piece cannot be read" in _history(path, code=1).stdout
    remark = orjson.loads(_history(path, "--json", "--trust", tmp_path / "line-4.pub.pem", code=1).stdout)["remark"]
    assert remark.endswith("left out: 1 GARBAGE")


def test_changes_that_found_no_room_come_from_the_configurations(tmp_path: Path) -> None:
    """Where both are held; else their number is said, as far as it is known."""
    gateway = _Gateway()
    gateway.take({"tags": {f"t{each}": 1 for each in range(40)}}, 0, parts=3)
    gateway.take({"tags": {f"t{each}": 2 for each in range(40)}}, 10, listed=5, parts=2)

    [_, whole] = _entries(gateway.archive(tmp_path))
    [cut] = _entries(gateway.archive(tmp_path / "cut", 1, 2, 3))
    [_, half] = _entries(gateway.archive(tmp_path / "half", 5))

    assert [each["path"] for each in whole["changes"]] == [f"tags.t{each}" for each in range(40)]
    assert (whole["listed"], whole["unknown"]) == (5, 0)
    for each in (cut, half):
        assert (len(each["changes"]), each["unknown"]) == (5, 35)
    lines = _history(gateway.archive(tmp_path)).stdout.splitlines()
    assert lines[-1].strip() == "and 20 more, which --format csv has"
    assert "35 more changes not shown" in _history(gateway.archive(tmp_path / "half", 5)).stdout


def test_a_change_since_a_configuration_that_was_not_kept_is_not_called_none(tmp_path: Path) -> None:
    """As after an update from a version that kept the digest only."""
    gateway = _Gateway()
    gateway.take(_configuration(0.1), 0)
    gateway.seal(ConfigChange(at_ns=UTC_NS + _S, account="anna", old_hash=gateway.digest, new_hash=bytes(32)))

    last = _entries(gateway.archive(tmp_path))[-1]

    assert (last["changes"], last["unknown"]) == ([], None)
    assert "what changed is not shown" in _history(gateway.archive(tmp_path)).stdout
    assert "no reason is on record" in last["text"]


@pytest.mark.parametrize(("only", "whys"), [
    (("--who", "bert"), ["mixer added", "calibrated again"]),
    (("--who", "b*", "--who", "tide????"), ["first start", "mixer added", "calibrated again"]),
    (("--who", "BERT"), []),
    (("--path", "*[TT-101].scale"), ["first start", "sensor replaced, CC-123", "calibrated again"]),
    (("--path", "devices[plc].*"), ["first start", "sensor replaced, CC-123", "calibrated again"]),
    (("--path", "devices[mixer].name"), ["mixer added"]),
    (("--path", "devices[mixer]"), ["mixer added"]),
    (("--path", "devices[p]*"), []),
    (("--path", _SCALE, "--who", "anna"), ["sensor replaced, CC-123"]),
    (("--from", "2023-11-14T22:15:00Z", "--to", "2023-11-15T00:00:00Z"), ["sensor replaced, CC-123", "mixer added"]),
    (("--from", "2023-11-15T00:00", "--zone", "Europe/Zurich"), ["calibrated again"]),
    (("--gateway", "line-4", "--who", "anna"), ["sensor replaced, CC-123"]),
])  # fmt: skip
def test_path_account_and_time_find(tmp_path: Path, only: tuple[str, ...], whys: list[str]) -> None:
    """Brackets are part of a path; what adds a device changes what is in it."""
    assert _whys(_typical().archive(tmp_path), *only) == whys


def test_changes_of_other_paths_are_counted(tmp_path: Path) -> None:
    """Who looks for one tag must see that the same change did more."""
    gateway = _typical()
    gateway.take(_configuration(0.9, "mixer", "pump", log={"level": "debug"}), 90_000)

    last = _entries(gateway.archive(tmp_path), "--path", _SCALE)[-1]

    assert last["changes"] == [{"path": _SCALE, "old": "0.7", "new": "0.9"}]
    assert last["others"] == 2
    assert _history(tmp_path / "archive", "--path", _SCALE).stdout.endswith("  2 changes of other paths\n")


def test_gateways_are_named_where_there_are_several(tmp_path: Path) -> None:
    _typical().archive(tmp_path)
    other = _Gateway("line-5")
    other.take(_configuration(3), 50, "carl")
    path = other.archive(tmp_path)

    lines = [line for line in _history(path).stdout.splitlines() if "by account" in line]

    assert [": Configuration" in line for line in lines] == [True] * 5
    assert "line-5: Configuration" in lines[1]
    assert "line-5:" not in _history(path, "--gateway", "line-4").stdout


@pytest.mark.parametrize("width", [40, 80, 120])
def test_lines_fit_the_terminal_and_only_trouble_has_a_colour(tmp_path: Path, width: int) -> None:
    """A path is longer than a narrow terminal is wide, and has no place where it may be broken."""
    gateway = _typical()
    gateway.take(_configuration(0.8), 90_000, "tidegate", "mixer did not come up within 60 s", role="roll back")
    path = gateway.archive(tmp_path, altered=3)
    answer = _answer_of(path, "--trust", tmp_path / "line-4.pub.pem", code=1)

    lines = list(history_lines(answer, None, width))

    assert max(len(each) for each in lines) <= max(width, len(_SCALE) + 2)
    assert {each.plain[span.start : span.end] for each in lines for span in each.spans if span.style == RED} == {
        "ALTERED", "NO RECORD"
    }  # fmt: skip
    assert "as which the gateway went back by itself" in " ".join(" ".join(each.plain for each in lines).split())
    assert "returned in place of" in " ".join(" ".join(each.plain for each in lines).split())


def _answer_of(*arguments: object, code: int = 0) -> Answer:
    answer = orjson.loads(_history(*arguments, "--json", code=code).stdout)
    entries = tuple(
        HistoryEntry(**{**each, "changes": tuple(ChangedValue(**change) for change in each["changes"])})
        for each in answer["entries"]
    )
    return Answer(is_sound=answer["is_sound"], is_proven=answer["is_proven"], remark=answer["remark"], entries=entries)


def test_nothing_found_is_said(tmp_path: Path) -> None:
    path = _typical().archive(tmp_path)

    assert _history(path, "--who", "nobody").stdout.endswith("nothing of what was asked for is on record\n")
    assert "Nothing of what was asked for is on record." in _history(path, "--who", "x", "--format", "html").stdout


_HOSTILE = ["=cmd|'/c calc'!A1", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\N{FULLWIDTH EQUALS SIGN}1", "a\nb", "a\u202eb",
            "<script>alert(1)</script>", "\x1b]0;x\x07"]  # fmt: skip


@pytest.fixture(params=_HOSTILE)
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    gateway = _Gateway()
    words = request.param
    approval = Approval(name=words, role=words, meaning=words, fingerprint=words, proposed_by=words, proposed_at=words,
                        digest=b"", signature=b"")  # fmt: skip
    gateway.seal(ConfigChange(at_ns=UTC_NS, account=words, role=words, why=words, old_hash=b"", new_hash=b"a",
                              changes=((words, words, words),), approval=approval.to_bytes()))  # fmt: skip
    return gateway.archive(tmp_path)


def test_no_cell_is_a_formula_and_no_character_hides(hostile: Path) -> None:
    """Whoever may write a reason must not run a program on the machine of the auditor."""
    [_, row] = csv.reader(StringIO(_history(hostile, "--format", "csv").stdout.removeprefix("\ufeff")))

    assert len(row) == 19
    for cell in row:
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d"))
        assert cell.isprintable()
    assert _history(hostile).stdout.replace("\n", "").isprintable()


def test_a_page_holds_no_element_of_a_record(hostile: Path) -> None:
    """Nothing acts, nothing is loaded, and nothing is turned around."""
    page = _history(hostile, "--format", "html").stdout

    seen = _Elements()
    seen.feed(page)
    assert seen.names == seen.known
    assert page.replace("\n", "").isprintable()
    assert "default-src 'none'" in page


class _Elements(HTMLParser):
    known = frozenset({
        "html", "head", "meta", "title", "style", "body", "svg", "defs", "pattern", "rect", "path", "header", "p", "h1",
        "h2", "table", "thead", "tbody", "tr", "th", "td", "span", "br", "ul", "li", "section", "dl", "dt", "dd", "div",
    })  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.names = self.known

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names |= {tag}
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)


def test_the_table_for_a_spreadsheet_has_a_line_for_each_value(tmp_path: Path) -> None:
    """Excel takes it for UTF-8 by its mark; a negative number stays a number."""
    gateway = _Gateway()
    gateway.take(_configuration(0.1), 0, why="first start")
    gateway.take({**_configuration(-2), "unit": "°C"}, 10, "anna", "µ")

    text = _history(gateway.archive(tmp_path), "--format", "csv", "--zone", "Europe/Zurich").stdout
    rows = list(csv.DictReader(StringIO(text.removeprefix("\ufeff"))))

    assert text.startswith("\ufefftime,gateway,verdict,account,")
    assert [(row["path"], row["old"], row["new"]) for row in rows] == [
        ("", "", ""), (_SCALE, "0.1", "-2"), ("unit", "", '"°C"')
    ]  # fmt: skip
    assert rows[1]["time"] == "2023-11-14 23:13:30.0+01:00"
    assert rows[1]["new_hash"] == gateway.digest.hex()
    assert rows[1]["why"] == "µ"


def test_the_page_says_on_top_what_is_proven_and_names_key_and_command(tmp_path: Path) -> None:
    path, key = _typical().archive(tmp_path), tmp_path / "line-4.pub.pem"

    proven = _history(path, "--trust", key, "--format", "html").stdout
    unproven = _history(path, "--format", "html").stdout
    broken = _history(_typical().archive(tmp_path / "b", 2), "--format", "html", code=1).stdout

    assert "Every record that was read is authentic, and every configuration has its record." in proven
    assert hashlib.sha256(key.read_bytes()).hexdigest() in proven
    assert f"{_SCALE} from 0.1 to 0.5" in proven
    assert "Nothing was verified: this shows what the records say." in unproven
    assert "Not everything is proven." in broken
    assert "NO RECORD" in broken


def test_a_failure_is_json_where_json_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also by --format, which the program that starts commands has to know."""
    from edge.cli import main

    for options in (["--json"], ["--format", "json"], ["--format=json"]):
        monkeypatch.setattr("sys.argv", ["tidegate", "history", str(tmp_path / "absent"), *options])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert orjson.loads(capsys.readouterr().out)["error"]["kind"] == "usage"


def test_a_forged_configuration_ends_no_history(tmp_path: Path) -> None:
    """Without a key anyone may have written the records: no gzip, no JSON, or items a thousand deep."""
    deep = [b'{"a":' * 1000 + leaf + b"}" * 1000 for leaf in (b"1", b"2")]
    for number, texts in enumerate(([b"", b""], [b"{", b"["], deep)):
        gateway = _Gateway()
        for old, new, text in ((b"", b"a", texts[0]), (b"a", b"b", texts[1])):
            gateway.seal(ConfigChange(at_ns=UTC_NS, account="x", old_hash=old, new_hash=new,
                                      kept=KeptPart(0, 1, gzip.compress(text) if text else b"x", 7)))  # fmt: skip
        path = gateway.archive(tmp_path / str(number))
        assert [each["unknown"] for each in _entries(path)] == [0, 7]
        assert [each["unknown"] for each in _entries(path, "--path", "*z*")] == [0, 7]
