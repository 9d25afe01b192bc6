"""What a report and `tidegate impact` say of instruments and their calibrations, on archives on disk."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge.cli import cli
from edge.model import SampleBlock
from edge.seal import Calibration, Calibrations, Context, RecordType, encode_calibrations
from tests.edge.report.conftest import NAMES, S, Site, ns, utc
from tests.support.chains import BOOT_NS

TODAY = ns(0) // (86_400 * 10**9)
FIRST = Calibration("mixer", "level", "LT-7", "S-1", "C-1", TODAY - 400, TODAY - 35, "1 %", ns(-1000))
RENEWED = FIRST._replace(certificate="C-2", calibrated=TODAY, due=TODAY + 365, since_ns=ns(30.5))
SENT = Calibration("press", "force", "FT-1", certificate="C-9", due=TODAY, since_ns=ns(-1000))
UNKNOWN_DUE = Calibration("mixer", "speed", instrument="ST-1", since_ns=ns(-1000))


def say(site: Site, *calibrations: Calibration) -> None:
    for payload in encode_calibrations(Calibrations(site.catalogue.path, calibrations)):
        site.plant.records.append(site.plant.chain.seal(RecordType.CATALOG, payload))


def impact(site: Site, *options: object) -> Result:
    command = ["impact", str(site.folder), "--trust", str(site.anchor), *map(str, options)]
    return CliRunner().invoke(cli, command)


def touched(site: Site, instrument: str, first: float, last: float) -> dict[str, Any]:
    ran = impact(site, "--instrument", instrument, "--from", utc(first), "--to", utc(last), "--json")
    answer: dict[str, Any] = json.loads(ran.stdout)
    assert ran.exit_code == (0 if answer["result"] == "complete" else 1)
    return answer


@pytest.mark.requirement("REQ-CALIB-01", "REQ-CALIB-02")
def test_each_reading_has_the_calibration_of_its_time_and_overdue_ones_are_said(site: Site) -> None:
    say(site, RENEWED)  # It comes before the one that it replaced, and after all readings.
    say(site, FIRST, SENT, UNKNOWN_DUE)
    site.write()

    gateway = site.gateway(0, 60)

    said = {(each["instrument"], each["certificate"]): each for each in gateway["instruments"]}
    assert list(said) == [("LT-7", "C-1"), ("LT-7", "C-2"), ("ST-1", "")]  # The press has sent nothing.
    first, renewed = said["LT-7", "C-1"], said["LT-7", "C-2"]
    assert (first["from_ns"], first["overdue_from_ns"]) == (ns(0), ns(0))
    assert (renewed["to_ns"], renewed["overdue_from_ns"]) == (ns(60), None)
    assert gateway["result"] == "complete"  # Overdue is not a bad value.
    assert gateway["quality"]["good"] == 61 * len(NAMES)


def test_the_report_has_a_row_and_a_table_of_instruments_where_there_are_any(site: Site) -> None:
    site.write()
    assert "instruments" not in site.run("--from", utc(0), "--to", utc(60)).output
    say(site, FIRST, RENEWED)
    site.write()
    page = site.folder.parent / "report.html"

    text = site.run("--from", utc(0), "--to", utc(60), "--html", page).output

    row = text.partition("  instruments ")[2].partition("  changes")[0]
    assert row.split()[:2] == ["NO", "overdue"]
    assert "LT-7 (mixer/level), certificate C-1, due" in row
    assert "LT-7 (mixer/level), certificate C-2, due" in " ".join(row.split())
    assert "<h3>Instruments</h3>" in page.read_text()
    assert "within its calibration" in page.read_text()
    later = site.run("--from", utc(40), "--to", utc(60)).output
    assert later.partition("  instruments ")[2].split()[0] == "yes"


def test_a_calibration_of_a_record_that_is_not_authentic_does_not_count(site: Site) -> None:
    say(site, FIRST)
    records = [each.data for each in site.plant.records]
    records[-1] = records[-1].replace(b"C-1", b"C-3")
    site.write(records)

    assert site.gateway(0, 60)["instruments"] == []


@pytest.mark.requirement("REQ-CALIB-03")
def test_the_impact_of_an_instrument_is_every_reading_taken_with_it(site: Site) -> None:
    say(site, FIRST, RENEWED, SENT)
    for second in (10, 11, 12):
        site.sent(second, [0, 1])
    site.sent(13, [1])
    site.write()

    level, force = touched(site, "LT-7", 20, 40), touched(site, "FT-1", 0, 60)

    assert [(each["certificate"], each["readings"], each["overdue"]) for each in level["tags"]] == [
        ("C-1", 11, 11), ("C-2", 10, 0)
    ]  # fmt: skip
    assert (level["readings"], level["tags"][0]["first_ns"], level["tags"][1]["last_ns"]) == (21, ns(20), ns(40))
    assert [(each["device"], each["tag"], each["readings"], each["overdue"]) for each in force["tags"]] == [
        ("press", "force", 3, 0)
    ]  # fmt: skip
    text = impact(site, "--instrument", "LT-7", "--from", utc(20), "--to", utc(40)).output
    assert text.startswith("LT-7: 21 readings of 1 tag were taken with it. COMPLETE AND UNALTERED")
    assert "line-4 mixer/level: 11 readings" in text
    assert "certificate C-1, calibrated" in text


def test_an_instrument_that_was_moved_touches_each_tag_while_it_was_there(site: Site) -> None:
    moved = FIRST._replace(tag="speed", since_ns=ns(30.5))
    say(site, FIRST, moved, Calibration("mixer", "level", since_ns=ns(30.5)))
    site.write()

    answer = touched(site, "LT-7", 0, 60)

    assert [(each["tag"], each["readings"]) for each in answer["tags"]] == [("level", 31), ("speed", 30)]


@pytest.mark.requirement("REQ-CALIB-03")
def test_the_batches_touched_are_those_of_the_contexts_that_the_readings_carry(site: Site) -> None:
    say(site, FIRST)

    def context(number: int, batch: str | None) -> None:
        site.seal(Context(number=number, unit="reactor-1", members={"batch": batch}, from_ns=0, to_ns=0))

    for second, named in ((70, (7,)), (71, (7, 9)), (72, (9,)), (73, (0,)), (74, (8,)), (75, (5,)), (76, ())):
        at_ns = BOOT_NS + second * S
        values = np.zeros(len(NAMES), np.float32)
        site.block(second, SampleBlock(0, at_ns, at_ns, (values,), context=named))
    context(7, "B-1")  # They may come later than the blocks.
    context(9, "B-2")
    context(5, "")
    context(8, None)
    site.write()

    answer = touched(site, "LT-7", 70, 76)

    assert [(each["unit"], each["batch"], each["first_ns"], each["last_ns"]) for each in answer["batches"]] == [
        ("reactor-1", "B-1", ns(70), ns(71)), ("reactor-1", "B-2", ns(71), ns(72))
    ]  # fmt: skip
    assert answer["batch_unknown"] == 2  # Not known, and of a unit whose batch was not known; 5 is no batch.
    assert "7 readings of 1 tag were taken with it, in 2 batches." in answer["text"]
    text = impact(site, "--instrument", "LT-7", "--from", utc(70), "--to", utc(76)).output
    assert "batch B-1 on reactor-1 (line-4): " in text
    assert "batch not known: 2 scans" in text


def test_records_that_are_missing_may_hold_more_and_the_answer_says_so(site: Site) -> None:
    say(site, FIRST)
    records = [each.data for each in site.plant.records]
    del records[20]
    site.write(records)

    answer = touched(site, "LT-7", 0, 60)

    assert (answer["result"], answer["readings"]) == ("not_complete", 60)
    assert "1 record is missing" in answer["text"]


def test_an_unknown_instrument_is_refused_with_names_that_are_near(site: Site) -> None:
    site.write()
    nothing = impact(site, "--instrument", "LT-7")
    say(site, FIRST, SENT)
    site.write()
    unknown = impact(site, "--instrument", "LT-77")

    assert (nothing.exit_code, unknown.exit_code) == (2, 2)
    assert "no instrument is on record here" in nothing.output
    assert "none on record is called 'LT-77'; there are FT-1, LT-7; did you mean LT-7?" in " ".join(
        unknown.output.split()
    )
