"""`tidegate export --batch`: exactly the slice as tables, as records that verify by themselves, and as B2MML."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner

from edge.cli import cli
from edge.export.b2mml import NAMESPACES, Version, xml_text
from edge.model import SampleBlock
from edge.seal import ConfigChange
from tests.edge.export.b2mml_model import problems
from tests.edge.export.conftest import read, run
from tests.edge.report.batches import DRYER, HALL, REACTOR, BatchSite
from tests.edge.report.conftest import S, ns
from tests.support.chains import BOOT_NS

SLICES = pytest.mark.requirement("REQ-BATCH-04")


@pytest.fixture
def plant(tmp_path: Path) -> BatchSite:
    """Two batches on a reactor, one on a dryer, and a hall that belongs to none."""
    plant = BatchSite(tmp_path / "archive")
    first = plant.context(0, batch="A", phase="heat", lot="L-7")
    other = plant.context(0, "d-1", batch="X<&>")
    plant.scan(range(1, 10), (first,))
    plant.scan(range(1, 30), (other,), DRYER)
    hold = plant.context(10, batch="A", phase="hold", lot="L-7")
    plant.scan([10], (first, hold))
    plant.scan(range(11, 20), (hold,))
    last = plant.context(20, batch="B")
    plant.scan([20], (hold, last))
    plant.scan(range(21, 30), (last,))
    plant.scan(range(30), (), HALL)
    plant.write()
    return plant


def rows_of(plant: BatchSite, batch: str, ending: str, *options: str) -> tuple[list[Any], list[Any]]:
    output = plant.folder.parent / f"out.{ending}"
    result = run(plant, output, "--batch", batch, "--force", *options)
    assert result.exit_code == 0, result.output
    return read(output), read(output.with_name(f"out.boundary.{ending}"))


@SLICES
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_batch_is_written_with_its_boundary_apart(plant: BatchSite, ending: str) -> None:
    rows, boundary = rows_of(plant, "A", ending)

    assert [float(row["value"]) for row in rows if row["tag"] == "temp"] == list(range(1, 20))
    assert [float(row["value"]) for row in boundary if row["tag"] == "temp"] == [20]
    assert {row["device"] for row in rows} == {"reactor"}


@SLICES
def test_all_slices_their_boundaries_and_what_is_outside_are_the_archive(plant: BatchSite) -> None:
    def places(rows: list[Any]) -> set[tuple[str, ...]]:
        return {(row["epoch"], row["seq"], row["block"], row["tag"]) for row in rows}

    parts = [places(part) for batch in ("A", "B", "X<&>") for part in rows_of(plant, batch, "csv")]
    output = plant.folder.parent / "all.csv"
    assert run(plant, output).exit_code == 0
    outside = {row["seq"] for row in read(output) if row["device"] == "hall"}

    union = set().union(*parts)
    assert union | {each for each in places(read(output)) if each[1] in outside} == places(read(output))
    assert not {each for each in union if each[1] in outside}
    assert len(union) == 2 * (19 + 1 + 9 + 29)  # The one boundary is of A and of B, and no other block is of two.


@SLICES
def test_the_records_of_a_batch_verify_by_themselves(plant: BatchSite, tmp_path: Path) -> None:
    output = tmp_path / "a.rec"

    result = run(plant, output, "--batch", "A", "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout)["records"] == 20
    verified = CliRunner().invoke(cli, ["verify", str(output), "--trust", str(plant.anchor), "--json"])
    [chain] = json.loads(verified.stdout)["epochs"]
    # EPOCH, catalogue and the two contexts, and the scans; the boundary of the next batch is not of its context.
    assert chain["types"] == {"EPOCH": 1, "CATALOG": 1, "CONTEXT": 2, "DATA": 20}
    assert chain["verdicts"] == {"AUTHENTIC": 24, "LINKED": 0, "FORK": 0}
    again = CliRunner().invoke(cli, [
        "export", str(output), "--trust", str(plant.anchor), "--batch", "A", "-o", str(tmp_path / "again.csv"),
    ])  # fmt: skip
    assert again.exit_code == 1, again.output  # Other records of the chain are not in it, and that is said.
    rows, _ = rows_of(plant, "A", "csv")
    assert read(tmp_path / "again.csv") == rows


@pytest.mark.parametrize("version", ["V0701", "V0600"])
def test_b2mml_has_values_events_and_their_evidence(plant: BatchSite, tmp_path: Path, version: Version) -> None:
    plant.seal(
        ConfigChange(account="qa\x07", role="", old_hash=b"a" * 32, new_hash=b"b" * 32, at_ns=ns(15), changes=())
    )
    plant.write()
    output = tmp_path / "a.xml"

    assert run(plant, output, "--batch", "A", "--b2mml-version", version).exit_code == 0

    root = ElementTree.parse(output).getroot()
    space = {"": NAMESPACES[version]}
    assert problems(root, NAMESPACES[version]) == []
    assert (root.findtext("BatchID", "", space), root.findtext("LotID", "", space)) == ("A", "L-7")
    slice_set, boundary = root.findall("DataSets/DataSet", space)
    assert len(slice_set.findall("OrderedData", space)) == 19
    assert len(boundary.findall("OrderedData", space)) == 1
    assert "while the batch changed" in boundary.findtext("Description", "", space)
    first = slice_set.find("OrderedData", space)
    assert first is not None
    values = [value.text for value in first.findall("DataValue/Value", space)]
    rows, _ = rows_of(plant, "A", "csv")
    assert values[0] == f"{rows[0]['epoch']}/{rows[0]['seq']}/{rows[0]['block']}"
    assert [float(each or "") for each in values[2:]] == [1, -1]
    texts = [event.findtext("MessageText", "", space) for event in root.findall("Events/Event", space)]
    assert [text.partition(" (")[0] for text in texts if "(" in text] == [
        "batch A began: lot L-7, phase heat", "lot L-7, phase hold", "batch A ended",
    ]  # fmt: skip
    assert any(text.startswith("Configuration 62626262 replaced 61616161") for text in texts)
    references = root.findall("Events/Event/ExternalReference", space)
    assert all((each.text or "").startswith("tidegate:line-4/") for each in references)


def test_what_xml_cannot_hold_is_replaced_and_seen() -> None:
    assert xml_text("a\x00<&>\ud800\tb\uffff") == "a\ufffd&lt;&amp;&gt;\ufffd&#9;b\ufffd"


def test_ids_with_anything_in_them_become_names_of_files(tmp_path: Path) -> None:
    plant = BatchSite(tmp_path / "archive")
    ids = ["../../etc/x", "-rf", "A B", "A_B", "\u202eB", "\uff22"]
    for number, batch in enumerate(ids):
        now = plant.context(10 * number, batch=batch)
        plant.scan([10 * number + second for second in range(1, 10)], (now,))
    plant.context(10 * len(ids), batch="")
    plant.write()
    (tmp_path / "out").mkdir()

    for batch in ids:
        result = run(plant, tmp_path / "out", "--batch", batch, "--format", "b2mml")
        assert result.exit_code == 0, result.output

    names = sorted(each.name for each in (tmp_path / "out").glob("*.xml"))
    assert len(names) == len(ids)
    assert "A_B.xml" in names
    assert all(name.isascii() and name[0] not in ".-" and "/" not in name for name in names)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--format", "b2mml"), "--format b2mml is of a batch: name it with --batch ID"),
        (("--batch", "A", "--format", "records", "--wide"), "--wide is for csv, parquet and json"),
        (("--unit", "r-1"), "--unit narrows a batch"),
    ],
)
def test_what_does_not_go_together_is_refused(plant: BatchSite, options: tuple[str, ...], said: str) -> None:
    refused = run(plant, plant.folder.parent / "out.csv", *options)

    assert (refused.exit_code, said in refused.output) == (2, True)


def test_ten_times_as_many_values_take_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for blocks in (1_000, 10_000):
        plant = BatchSite(tmp_path / f"archive-{blocks}")
        now = plant.context(0, batch="A")
        for begin in range(0, blocks, 500):
            values = np.array([begin, 1], np.float32)
            plant.block(begin + 1, *(SampleBlock(REACTOR, at_ns, at_ns, (values,), context=(now,)) for at_ns in
                                     range(BOOT_NS + (begin + 1) * S, BOOT_NS + (begin + 501) * S, S)))  # fmt: skip
        plant.write()
        output = tmp_path / f"{blocks}.xml"
        command = ["export", str(plant.folder), "--trust", str(plant.anchor), "--batch", "A", "-o", str(output)]
        done = subprocess.run([sys.executable, "-c", _PEAK, *command], capture_output=True, text=True, check=True,
                              timeout=120)  # fmt: skip
        assert "COMPLETE AND UNALTERED" in done.stdout
        peaks.append(int(done.stdout.split()[-1]))
    assert output.stat().st_size > 4_000_000
    assert peaks[1] - peaks[0] < 30_000  # KiB.


_PEAK = """
import resource
from edge.cli import cli
try:
    cli()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
