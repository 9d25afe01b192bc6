"""`tidegate export`: which values of a range are written, with what beside them, and what is never left behind."""

from __future__ import annotations

import csv
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edge.accounts import account_name
from edge.clock import TimeState
from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType, SampleBlock, TimeKind
from edge.seal import Loss, LossReason, TimeChange
from tests.edge.export.conftest import between, export, read, run
from tests.edge.report.conftest import CATALOGUE, MIXER, S, Site, ns
from tests.support.chains import BOOT_NS, TIME, start
from tests.support.later_gateway import LaterChain

FORMS = ("csv", "json", "parquet")


def seconds(rows: list[dict[str, str]]) -> list[float]:
    """The seconds of the plant at which the first tag was read."""
    return [float(row["value"]) for row in rows if row["tag"] == "temperature"]


@pytest.mark.parametrize("form", FORMS)
def test_the_values_of_a_range_are_written_each_with_its_record(site: Site, form: str) -> None:
    site.write()

    rows = export(site, form, *between(10, 20))

    assert seconds(rows) == list(range(10, 21))
    assert len(rows) == 33
    epoch = site.plant.records[0].epoch.hex()
    assert {(row["epoch"], str(row["seq"]), str(row["block"]), str(row["row"])) for row in rows} == {
        (epoch, str(12 + n), "0", "0") for n in range(11)
    }
    assert {(row["gateway"], row["device"], row["unit"], row["quality"], row["verdict"]) for row in rows} == {
        ("line-4", "mixer", "degC", "good", "AUTHENTIC")
    }


def test_records_that_came_in_any_order_are_written_in_that_of_sealing(site: Site) -> None:
    records = [each.data for each in site.plant.records]
    site.write([*records[30:], *records[:30], *records[10:20]])

    assert seconds(export(site, "csv")) == list(range(61))


def test_a_record_that_was_altered_is_left_out_and_said(site: Site) -> None:
    records = [each.data for each in site.plant.records]
    at = records[12].index(np.float32(10).tobytes())
    records[12] = records[12][:at] + np.float32(99).tobytes() + records[12][at + 4 :]
    site.write(records)

    assert seconds(export(site, "csv", exit_code=1)) == [*range(10), *range(11, 61)]
    with (site.folder.parent / "out.csv.gaps.csv").open(newline="") as file:
        assert [(row["kind"], row["first_seq"]) for row in csv.DictReader(file)][-1:] == [("altered", "12")]
    report = json.loads((site.folder.parent / "out.csv.report.json").read_bytes())
    assert report["result"] == "altered"

    rows = export(site, "csv", "--admit", "altered", exit_code=1)
    assert seconds(rows)[10] == 99
    assert [row["verdict"] for row in rows if float(row["value"]) == 99] == ["ALTERED"]


def test_what_a_stolen_key_signed_is_not_written_although_the_key_came_later(site: Site) -> None:
    plant, old = site.plant, site.plant.chain.session
    before = [each.data for each in plant.records]
    key = plant.chain.roll(replace(TIME, as_of_ns=BOOT_NS + 60 * S), BOOT_NS + 60 * S)
    plant.chain.roll_is_durable()
    site.read(range(61, 71))
    thief = Site(site.folder, start("line-4", identity=plant.identity))
    thief.plant.chain.head, thief.plant.chain.session = key.head, old
    thief.read([66.5])
    forged = thief.plant.records[-1]
    site.write([*before, forged.data, key.data, *(each.data for each in plant.records[len(before) :])])

    result = run(site, site.folder.parent / "out.csv")

    assert "left out: 1 record, because they are UNTRUSTED" in result.output, result.output
    assert 66.5 not in seconds(read(site.folder.parent / "out.csv"))


@pytest.mark.requirement("REQ-TIME-04")
def test_times_that_were_corrected_later_stand_beside_the_original(site: Site) -> None:
    wrong = replace(TIME, state=TimeState.HOLDOVER, bound_ns=None, offset_ns=TIME.offset_ns - 5000 * S)
    site.read(range(61, 64), time=wrong)
    after = replace(TIME, as_of_ns=BOOT_NS + 64 * S)
    span = BOOT_NS + 61 * S, BOOT_NS + 63 * S
    site.seal(TimeChange(before=wrong, after=after, step_ns=5000 * S, corrected_boot_ns=span, correction_ns=5000 * S,
                         bound_after_ns=7000))  # fmt: skip
    site.read(range(64, 66))
    site.write()

    rows = export(site, "csv", *between(60, 65))

    assert seconds(rows) == [60, 61, 62, 63, 64, 65]
    corrected = [row for row in rows if "corrected_time" in row]
    assert {float(row["value"]) for row in corrected} == {61, 62, 63}
    assert {row["corrected_bound_ns"] for row in corrected} == {"7000"}
    assert [np.datetime64(row["corrected_time"][:-1], "ns").astype(int) for row in corrected[::3]] == [
        ns(61), ns(62), ns(63)]  # fmt: skip
    assert np.datetime64(corrected[0]["time"][:-1], "ns").astype(int) == ns(61) - 5000 * S
    assert "bound_ns" not in corrected[0]


def test_what_is_not_there_is_in_a_file_of_its_own(site: Site) -> None:
    site.gap(0, 61, 70, "connection closed")
    site.seal(Loss(first=20, last=24, from_ns=ns(18), to_ns=ns(22), records=5, readings=15,
                   reason=LossReason.BUFFER_FULL))  # fmt: skip
    site.read(range(70, 80))
    records = [each.data for each in site.plant.records]
    site.write(records[:20] + records[25:30] + records[40:])

    export(site, "csv", *between(10, 79), exit_code=1)

    with (site.folder.parent / "out.csv.gaps.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    by_kind = {row["kind"]: row for row in rows}
    assert (by_kind["declared lost"]["first_seq"], by_kind["declared lost"]["last_seq"]) == ("20", "24")
    assert (by_kind["missing"]["first_seq"], by_kind["missing"]["last_seq"], by_kind["missing"]["records"]) == (
        "30", "39", "10")  # fmt: skip
    assert (by_kind["gap"]["device"], by_kind["gap"]["reason"]) == ("mixer", "connection closed")
    assert by_kind["gap"]["from"].startswith("2023-11-14T22:14:21")
    assert "5 records (seq 20 to 24) with 15 readings" in by_kind["loss"]["reason"]


@pytest.mark.requirement("REQ-TYPE-03")
@pytest.mark.parametrize("form", FORMS)
def test_each_value_has_the_name_and_the_unit_of_its_time(site: Site, form: str) -> None:
    tags = (replace(MIXER.tags[0], unit="K", scale=2.0), replace(MIXER.tags[1], name="height"), MIXER.tags[2])
    later = Site(site.folder, site.plant, replace(CATALOGUE, groups=(replace(MIXER, tags=tags),)))
    later.read(range(61, 63))
    site.write()

    rows = export(site, form, *between(60, 62))

    assert [(row["tag"], row["unit"], float(row["value"])) for row in rows] == [
        ("temperature", "degC", 60), ("level", "degC", 60), ("speed", "degC", 60),
        ("temperature", "K", 122), ("height", "degC", 61), ("speed", "degC", 61),
        ("temperature", "K", 124), ("height", "degC", 62), ("speed", "degC", 62),
    ]  # fmt: skip
    assert [row.get("unit") for row in export(site, form, "--raw", "--tags", "temperature", *between(60, 62))] == [
        "degC", None, None]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_wide_has_a_column_for_each_tag_under_each_of_its_units(site: Site, form: str) -> None:
    tags = (replace(MIXER.tags[0], unit="K"), *MIXER.tags[1:])
    later = Site(site.folder, site.plant, replace(CATALOGUE, groups=(replace(MIXER, tags=tags),)))
    later.read([61], ((1, 1, 0x80310000), (2, 1, 0x40940000)))
    site.write()

    rows = export(site, form, "--wide", "--tags", "mixer/[tls]*", *between(60, 61))

    about = [
        {name: float(value) for name, value in row.items() if name.startswith("mixer/")}
        for row in rows
    ]  # fmt: skip
    assert about == [
        {"mixer/temperature (degC)": 60, "mixer/level (degC)": 60, "mixer/speed (degC)": 60},
        {"mixer/temperature (K)": 61, "mixer/speed (degC)": 61},
    ]
    assert [row.get("not_good") for row in rows] == [
        None, "mixer/level (degC)=BAD_NO_COMMUNICATION; mixer/speed (degC)=UNCERTAIN_OUT_OF_RANGE"]  # fmt: skip
    assert [str(row["seq"]) for row in rows] == ["62", "64"]


@pytest.mark.parametrize("form", FORMS)
def test_wide_takes_any_name_and_any_text(another: Callable[..., Site], form: str) -> None:
    odd, text = 'it\'s "x", {y}', 'a"b\n\0,'
    tags = (
        CatalogueTag(name=odd, data_type=DataType.FLOAT32, address="1", unit="m"),
        CatalogueTag(name="text", data_type=DataType.TEXT, address="1"),
        CatalogueTag(name="count", data_type=DataType.UINT64, address="1"),
    )
    site = another(catalogue=Catalogue(path="p", groups=(
        CatalogueGroup(device="d", name="g", interval_ns=S, tags=tags),)))  # fmt: skip
    vectors = np.array([2**53], np.uint64), np.array([1.5], np.float32), np.array([text], object)
    site.block(0, SampleBlock(0, BOOT_NS, BOOT_NS, vectors))
    site.write()

    [row] = export(site, form, "--wide")

    assert (float(row[f"d/{odd} (m)"]), row["d/text"], float(row["d/count"])) == (1.5, text, 2**53)


def test_a_tag_that_was_bad_has_no_value_and_its_status(site: Site) -> None:
    site.read([61], ((1, 1, 0x80340000),))
    site.write()

    [row] = export(site, "csv", "--tags", "level", *between(60.5, 61))

    assert ("value" not in row, row["quality"], row["status"]) == (True, "bad", "BAD_ADDRESS")


def test_dates_enumerations_and_later_types_are_told_apart(another: Callable[..., Site]) -> None:
    tags = (
        CatalogueTag(name="state", data_type=DataType.UINT8, address="1", texts=((0, "stopped"), (1, "running"))),
        CatalogueTag(name="began", data_type=DataType.INT64, address="1", time_kind=TimeKind.UTC),
        CatalogueTag(name="novel", data_type=DataType.from_code(77), address="1"),
    )
    site = another(catalogue=Catalogue(path="p", groups=(
        CatalogueGroup(device="d", name="g", interval_ns=S, tags=tags),)))  # fmt: skip
    vectors = np.array([1], np.uint8), np.array([1_700_000_000 * S + 1], np.int64), np.array([5], np.uint8)
    site.block(0, SampleBlock(0, BOOT_NS, BOOT_NS, vectors))
    site.write()

    state, began, novel = export(site, "csv")

    assert (state["value"], state["label"]) == ("1", "running")
    assert ("value" not in began, began["value_text"]) == (True, "2023-11-14T22:13:20.000000001Z")
    assert ("value" not in novel, novel["unknown"], novel["type"]) == (True, "true", "type 77")
    assert "unknown" not in state
    [raw] = export(site, "csv", "--raw", "--tags", "began")
    assert raw["value"] == raw["value_text"] == "1700000000000000001"


def test_records_with_additions_of_a_later_version_are_marked(another: Callable[..., Site]) -> None:
    site = another()
    site.plant.chain.__class__ = type("Sealing", (LaterChain,), {})
    LaterChain.dice.seed(3)
    site.read(range(20))
    site.write()

    marked = [row.get("unknown") for row in export(site, "csv")]

    assert len(marked) == 60
    assert set(marked) == {"true", None}


def test_a_subscribed_tag_has_each_value_that_was_sent(site: Site) -> None:
    site.sent(61, [1, 0, 1], ((2, 1, 0x40000000),))
    site.write()

    rows = export(site, "csv", "--tags", "press/*")

    assert [(row["tag"], row["row"], row["status"]) for row in rows] == [
        ("strokes", "0", "GOOD"), ("force", "0", "GOOD"), ("strokes", "1", "UNCERTAIN")]  # fmt: skip


def test_a_name_that_no_tag_has_is_said_with_one_that_is_meant(site: Site) -> None:
    site.write()
    result = run(site, site.folder.parent / "out.csv", "--tags", "mixer/temprature")
    assert result.exit_code == 2
    assert "no tag of the range is called 'mixer/temprature'" in result.output
    assert "did you mean mixer/temperature?" in result.output
    assert not list(site.folder.parent.glob("out*"))


@pytest.mark.parametrize("form", FORMS)
def test_a_range_with_nothing_in_it_gives_a_file_without_rows(site: Site, form: str) -> None:
    site.write()
    assert export(site, form, *between(1000, 2000), exit_code=1) == []
    assert seconds(export(site, form, *between(50, 10**9), exit_code=1)) == list(range(50, 61))


def test_a_file_that_is_there_is_replaced_only_when_told_so(site: Site) -> None:
    site.write()
    output = site.folder.parent / "out.csv"
    for there in (output, output.with_name("out.csv.report.json")):
        there.write_text("mine")
        result = run(site, output)
        assert (result.exit_code, there.read_text()) == (2, "mine")
        assert f"{there} is there already; --force replaces it" in " ".join(result.output.split())
        there.unlink()
    output.write_text("mine")
    assert run(site, output, "--force").exit_code == 0
    assert read(output)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_disk_that_takes_no_more_leaves_no_half_file(site: Site, form: str) -> None:
    site.write()
    before = sorted(site.folder.parent.iterdir())
    output = site.folder.parent / f"out.{form}"
    done = subprocess.run(
        [sys.executable, "-m", "edge.cli", "export", site.folder, "--trust", site.anchor, "-o", output], timeout=60,
        capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )  # fmt: skip
    assert done.returncode == 1
    assert f"{output} cannot be written: " in done.stderr
    assert done.stderr.strip().endswith("nothing was written")
    assert sorted(site.folder.parent.iterdir()) == before


@pytest.mark.parametrize("options", [(), ("--wide",)])
def test_a_folder_whose_name_is_a_pattern_is_that_folder(site: Site, options: tuple[str, ...]) -> None:
    site.write()
    for each in ("spool", "[s]p*"):
        (site.folder.parent / each).mkdir()
    output = site.folder.parent / "[s]p*" / "out.parquet"

    result = run(site, output, *options)

    assert result.exit_code == 0, result.output
    assert len(read(output.rename(site.folder.parent / "out.parquet"))) == (61 if options else 183)
    assert not list((site.folder.parent / "spool").iterdir())


def test_a_name_that_duckdb_cannot_read_is_refused_where_it_has_to(site: Site) -> None:
    site.write()
    output = site.folder.parent / "a\\[b].parquet"
    assert run(site, output).exit_code == 0

    result = run(site, output, "--wide", "--force")

    assert result.exit_code == 1
    assert "has a backslash and one of [*? in its name" in " ".join(result.output.split())


@pytest.mark.parametrize("options", [["--format", "json"], ["--format=json"], ["--format", "json", "--json"]])
def test_an_export_that_fails_says_so_as_json_only_where_its_answer_is_json(site: Site, options: list[str]) -> None:
    output = site.folder.parent / "out.txt"
    done = subprocess.run(
        [sys.executable, "-m", "edge.cli", "export", site.folder / "absent", "--trust", site.anchor, "-o", output,
         *options],
        timeout=60, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "absent" in done.stderr
    assert [json.loads(line)["error"]["kind"] for line in done.stdout.splitlines()] == ["usage"] * ("--json" in options)


def test_parquet_without_duckdb_names_what_is_missing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write()
    monkeypatch.setitem(sys.modules, "duckdb", None)
    result = run(site, site.folder.parent / "out.parquet")
    assert result.exit_code == 2
    assert "Parquet needs duckdb: install the Debian package tidegate-lake" in " ".join(result.output.split())
    assert run(site, site.folder.parent / "out.csv").exit_code == 0


def test_gateways_of_one_archive_are_told_apart(another: Callable[..., Site]) -> None:
    for name in ("line-4", "line-5"):
        site = another(plant=start(name))
        site.read(range(3))
        site.write()
    anchors = [each for name in ("line-4", "line-5") for each in ("--trust", site.anchor.with_name(f"{name}.pub.pem"))]
    assert [row["gateway"] for row in export(site, "csv", *anchors)] == ["line-4"] * 9 + ["line-5"] * 9
    assert {row["gateway"] for row in export(site, "csv", "--gateway", "line-5")} == {"line-5"}


@pytest.mark.requirement("REQ-TRAIL-04")
def test_an_export_is_a_security_event_with_the_account(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write()
    output, log = site.folder.parent / "out.csv", site.folder.parent / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(log))
        syslog.settimeout(10)
        monkeypatch.setattr("edge.cli.export._SYSLOG", log)
        assert run(site, output).exit_code == 0

        line = syslog.recv(4096).decode()

    assert "TG-S18" in line
    assert f'account="{account_name(os.getuid())}' in line
    assert f'file="{output}"' in line
