"""The example of pandas answers from files what the report says from the records."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
from click.testing import CliRunner

from edge.cli import cli
from tests.edge.report.conftest import Site, utc

EXAMPLE = Path(__file__).parents[3] / "docs/examples/in_range.py"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A mixer whose tags have the second as their value."""
    (tmp_path / "archive").mkdir()
    return Site(tmp_path / "archive")


def asked(site: Site, first: float, last: float, low: float, high: float) -> dict[str, Any]:
    """What the example answers of an export of a range."""
    site.write()
    file = site.folder.parent / "shift.parquet"
    command = ["export", str(site.folder), "--trust", str(site.anchor), "--from", utc(first), "--to", utc(last)]
    CliRunner().invoke(cli, [*command, "-o", str(file)], catch_exceptions=False)
    result = subprocess.run([sys.executable, EXAMPLE, file, "mixer", "temperature", str(low), str(high)],
                            capture_output=True, text=True, check=False, timeout=60)  # fmt: skip
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_hours_in_range_without_anything_missing_are_a_yes(site: Site) -> None:
    site.read(range(61))

    answer = asked(site, 10, 20, 10, 20)

    assert (answer["answer"], answer["values"], answer["missing"]) == ("yes", 11, [])
    assert site.gateway(10, 20)["complete"]["is_complete"]


def test_what_is_outside_is_named_with_its_record(site: Site) -> None:
    site.read(range(61))

    answer = asked(site, 10, 20, 10, 18.5)

    epoch = site.plant.records[0].epoch.hex()
    assert answer["answer"] == "no"
    assert [(each["value"], each["record"]) for each in answer["outside"]] == [
        (19.0, f"{epoch}/21"), (20.0, f"{epoch}/22"),
    ]  # fmt: skip


def test_what_is_missing_is_what_the_report_says(site: Site) -> None:
    site.read(range(20))
    site.gap(0, 20, 30, "pulled")
    site.read(range(30, 40), status=((0, 1, 0x80310000),))
    site.read(range(50, 60))  # Nothing says why nothing was read before.
    del site.plant.records[38:41]

    answer = asked(site, 0, 59, 0, 100)
    gateway = site.gateway(0, 59, "--tags")

    complete = gateway["complete"]
    reported = {(each["from_ns"], each["to_ns"], each["reason"]) for each in complete["gaps"] if each["is_inside"]}
    found = {(pandas.Timestamp(each["from"]).value, pandas.Timestamp(each["to"]).value, each["reason"] or "")
             for each in answer["missing"] if each["kind"] in ("gap", "hole")}  # fmt: skip
    [tag] = [each for each in gateway["tags"] if (each["device"], each["tag"]) == ("mixer", "temperature")]
    assert answer["answer"] == "as far as it is known"
    assert found == reported
    assert len(reported) >= 2
    assert sum(int(each["records"]) for each in answer["missing"] if each["kind"] == "missing") == (
        complete["missing_records"]
    ) == 3  # fmt: skip
    assert (answer["values"], answer["not_good"]) == (tag["received"], tag["bad"] + tag["uncertain"])
