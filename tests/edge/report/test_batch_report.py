"""`tidegate report --batch`: which runs an id means, and what is true of exactly their readings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.seal import Loss, LossReason
from edge.units import format_utc
from tests.edge.report.batches import DRYER, HALL, REACTOR, BatchSite
from tests.edge.report.conftest import ns

REQUIREMENT = pytest.mark.requirement("REQ-BATCH-04")


@pytest.fixture
def plant(tmp_path: Path) -> BatchSite:
    return BatchSite(tmp_path / "archive")


def three_batches(plant: BatchSite, unit: str, of: int, begin: float = 0) -> dict[str, int]:
    """Three batches of two phases back to back, each with a scan in its boundary; returns the scans of each."""
    before, counts = 0, {}
    for number, batch in enumerate(("A", "B", "C")):
        for phase in ("heat", "hold"):
            start = begin + 20 * number + 10 * (phase == "hold")
            now = plant.context(start, unit, batch=batch, phase=phase)
            plant.scan([start], (before, now), of)
            plant.scan([start + second for second in range(1, 10)], (now,), of)
            before = now
        counts[batch] = 19  # The scan at the change of phase is of the batch, that at its begin is boundary.
    end = plant.context(begin + 60, unit, batch="")
    plant.scan([begin + 60], (before, end), of)
    plant.scan([begin + 61, begin + 62], (end,), of)
    return counts


def ask(plant: BatchSite, batch: str, *options: object, exit_code: int = 0) -> dict[str, Any]:
    """The only gateway of the report on a batch."""
    report = plant.ask(None, None, "--batch", batch, *options)
    assert report["result"] == ("complete" if exit_code == 0 else report["result"])
    [gateway] = report["gateways"]
    return dict(gateway)


def held(gateway: dict[str, Any]) -> dict[str, int]:
    runs = gateway["batch"]["runs"]
    return {
        "batch": sum(run["blocks"] for run in runs), "boundary": sum(run["boundary_blocks"] for run in runs),
        "unknown": sum(run["unknown_blocks"] for run in runs), "outside": gateway["batch"]["outside_blocks"],
    }  # fmt: skip


@REQUIREMENT
def test_slices_boundaries_and_what_is_outside_add_up_to_the_archive(plant: BatchSite) -> None:
    first, second = three_batches(plant, "r-1", REACTOR), three_batches(plant, "d-1", DRYER, 5)
    plant.scan(range(70), (), HALL)
    plant.write()
    total = 2 * 63 + 70

    found = {batch: held(ask(plant, batch)) for batch in "ABC"}

    assert {batch: each["batch"] for batch, each in found.items()} == {
        each: first[each] + second[each] for each in "ABC"
    }
    assert [each["boundary"] for each in found.values()] == [4, 4, 4]
    assert all(sum(each.values()) == total for each in found.values())
    # Each boundary but those at both ends of a unit is one of two batches.
    slices = sum(each["batch"] for each in found.values())
    assert slices + (3 + 1) * 2 + 2 * 2 + 70 == total


@REQUIREMENT
def test_a_batch_is_reported_with_its_units_phases_and_tags(plant: BatchSite) -> None:
    three_batches(plant, "r-1", REACTOR)
    plant.write()

    gateway = ask(plant, "B")

    [run] = gateway["batch"]["runs"]
    assert (run["unit"], run["began_from_ns"], run["began_to_ns"]) == ("r-1", ns(19.6), ns(20))
    assert (run["ended_from_ns"], run["ended_to_ns"]) == (ns(39.6), ns(40))
    assert [each["members"]["phase"] for each in run["contexts"]] == ["heat", "hold"]
    assert [(tag["device"], tag["due"], tag["received"], tag["missing"]) for tag in gateway["tags"]] == [
        ("reactor", 19, 19, {}), ("reactor", 19, 19, {}),
    ]  # fmt: skip
    text = plant.run("--batch", "B").output
    assert "unit     r-1 began" in text
    assert "phase hold" in text
    assert "2 scans are not counted" in text


@REQUIREMENT
def test_an_unknown_context_does_not_end_a_batch_and_its_scans_are_not_counted(plant: BatchSite) -> None:
    now = plant.context(0, batch="A", phase="heat")
    plant.scan(range(1, 10), (now,))
    lost = plant.context(10, batch=None, phase=None)
    plant.scan([10], (now, lost))
    plant.scan(range(11, 15), (lost,))
    plant.scan([15], (0,))
    again = plant.context(16, batch="A", phase="heat")
    plant.scan(range(17, 20), (again,))
    end = plant.context(20, batch="B")
    plant.scan(range(21, 23), (end,))
    plant.write()

    gateway = ask(plant, "A")

    assert held(gateway) == {"batch": 12, "boundary": 1, "unknown": 5, "outside": 2}
    assert gateway["tags"][0]["missing"] == {"boundary": 1, "unknown": 5, "not_explained": 1}  # 16 was not scanned.
    assert len(gateway["batch"]["runs"]) == 1


@REQUIREMENT
def test_missing_readings_have_their_cause(plant: BatchSite) -> None:
    now = plant.context(0, batch="A")
    plant.scan(range(1, 10), (now,))
    plant.gap(REACTOR, 9.5, 19.5, "connection refused")
    plant.scan(range(20, 30), (now,))
    dropped = len(plant.plant.records)
    plant.scan(range(30, 40), (now,))
    kept = len(plant.plant.records)
    plant.scan(range(40, 50), (now,))
    end = plant.context(50, batch="")
    plant.scan([51, 52], (end,))
    records = [each.data for each in plant.plant.records]
    plant.write([*records[:dropped], *records[kept:]])

    gateway = ask(plant, "A", exit_code=1)

    assert (gateway["tags"][0]["due"], gateway["tags"][0]["received"]) == (49, 29)
    assert gateway["tags"][0]["missing"] == {"gap": 10, "lost": 10}
    [gap] = [each for each in gateway["complete"]["gaps"] if each["is_declared"]]
    assert gap["reason"] == "connection refused"


def test_what_happens_on_other_units_is_not_held_against_a_batch(plant: BatchSite) -> None:
    now = plant.context(0, batch="A")
    other = plant.context(0, "d-1", batch="X")
    plant.scan(range(1, 3), (other,), DRYER)
    plant.gap(DRYER, 2.5, 18.5, "connection refused")
    plant.scan(range(1, 20), (now,))
    plant.scan([19], (other,), DRYER)
    plant.context(20, batch="")
    plant.scan([21], (0,))
    plant.write()

    assert ask(plant, "A")["complete"]["is_complete"]
    assert ask(plant, "X", exit_code=1)["complete"]["gaps_inside"] == 1


def test_a_batch_that_has_not_ended_is_reported_until_the_last_record(plant: BatchSite) -> None:
    now = plant.context(0, batch="A")
    plant.scan(range(1, 30), (now,))
    plant.write()

    gateway = ask(plant, "A")

    [run] = gateway["batch"]["runs"]
    assert (run["ended_from_ns"], run["ended_to_ns"], run["blocks"]) == (None, None, 29)
    assert gateway["to_ns"] == ns(29)
    assert "has not ended" in plant.run("--batch", "A").output


def test_a_batch_goes_on_over_a_context_that_is_sealed_again_and_a_restart(plant: BatchSite) -> None:
    now = plant.context(0, batch="A")
    plant.scan(range(1, 10), (now,))
    plant.again(now, plant.last)
    plant.scan(range(10, 20), (now,))
    plant.write()

    [run] = ask(plant, "A")["batch"]["runs"]

    assert (run["blocks"], len(run["contexts"])) == (19, 1)


def test_two_units_with_one_batch_are_reported_together_or_one_by_one(plant: BatchSite) -> None:
    reactor, dryer = plant.context(0, batch="A"), plant.context(0, "d-1", batch="A")
    plant.scan(range(1, 10), (reactor,))
    plant.scan(range(1, 10), (dryer,), DRYER)
    plant.write()

    assert [run["unit"] for run in ask(plant, "A")["batch"]["runs"]] == ["d-1", "r-1"]
    assert held(ask(plant, "A", "--unit", "d-1")) == {"batch": 9, "boundary": 0, "unknown": 0, "outside": 9}
    wrong = plant.run("--batch", "A", "--unit", "r-2")
    assert wrong.exit_code == 2
    assert "was not on 'r-2'; there are d-1, r-1" in wrong.output


def test_an_id_that_was_used_again_is_asked_for_with_its_time(plant: BatchSite) -> None:
    for begin in (0, 20):
        now = plant.context(begin, batch="A")
        plant.scan(range(begin + 1, begin + 10), (now,))
        blank = plant.context(begin + 10, batch="")
        plant.scan(range(begin + 11, begin + 20), (blank,))
    plant.write()

    refused = plant.run("--batch", "A")
    assert refused.exit_code == 2
    assert "the id 'A' was used 2 times: on r-1 from 2023-11-14 22:13:19" in refused.output
    [run] = ask(plant, "A", "--from", format_utc(ns(20)))["batch"]["runs"]
    assert run["began_to_ns"] == ns(20)
    both = ask(plant, "A", "--from", format_utc(ns(0)), "--to", format_utc(ns(40)))
    assert held(both) == {"batch": 18, "boundary": 0, "unknown": 0, "outside": 18}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("B-2042", "did you mean B-2041?"),
        ("\uff22-2041", r"'B-2041' looks like it and is another id"),
        ("b-2041", "'B-2041' looks like it"),
        ("B-2041\u200b", "'B-2041' looks like it"),
    ],
)
def test_an_id_that_is_not_there_is_refused_with_those_that_are_near(plant: BatchSite, asked: str, said: str) -> None:
    plant.context(0, batch="B-2041")
    plant.write()

    refused = plant.run("--batch", asked)

    assert refused.exit_code == 2
    assert said in refused.output


def test_ids_are_compared_without_blanks_around_them_and_look_alikes_are_named(plant: BatchSite) -> None:
    now = plant.context(0, batch="B-1")
    plant.scan(range(1, 5), (now,))
    other = plant.context(5, batch="\uff22-1")
    plant.scan(range(6, 9), (other,))
    plant.write()

    gateway = ask(plant, " B-1\0 ")

    assert held(gateway)["batch"] == 4
    assert gateway["batch"]["look_alikes"] == ["\uff22-1"]
    assert r"'\uff22-1' is the id of another batch that looks like 'B-1'" in plant.run("--batch", "B-1").output


def test_contexts_that_nobody_signed_make_no_batch(plant: BatchSite, tmp_path: Path) -> None:
    now = plant.context(0, batch="A")
    plant.scan(range(1, 5), (now,))
    forged = BatchSite(tmp_path / "elsewhere")
    forged.context(3, batch="FORGED")
    records = [each.data for each in plant.plant.records]
    plant.write([*records, *(each.data for each in forged.plant.records)])

    assert "there is no batch 'FORGED'" in plant.run("--batch", "FORGED").output
    assert held(ask(plant, "A", exit_code=1))["batch"] == 4


def test_an_archive_without_contexts_says_so(plant: BatchSite) -> None:
    plant.scan(range(1, 5))
    plant.write()

    refused = plant.run("--batch", "A")

    assert (refused.exit_code, "no gateway of these files has sealed the id of a batch" in refused.output) == (2, True)
    assert "--unit narrows a batch" in plant.run("--unit", "r-1").output


def test_a_batch_is_its_own_number_also_where_the_clock_was_set_back(plant: BatchSite) -> None:
    now = plant.context(0, batch="A")
    plant.scan(range(100, 110), (now,))
    plant.scan(range(50, 60), (now,))
    plant.context(61, batch="")
    plant.scan([62], (0,))
    plant.write()

    assert held(ask(plant, "A", exit_code=1))["batch"] == 20


def test_a_declared_loss_in_a_batch_is_listed(plant: BatchSite) -> None:
    now = plant.context(0, batch="A")
    plant.scan(range(1, 10), (now,))
    plant.seal(Loss(first=1, last=2, from_ns=ns(4), to_ns=ns(5), records=2, readings=2, reason=LossReason.BUFFER_FULL,
                    epoch=None))  # fmt: skip
    plant.scan(range(10, 20), (now,))
    plant.context(20, batch="")
    plant.scan([21], (0,))
    plant.write()

    assert len(ask(plant, "A")["complete"]["losses"]) == 1


def test_a_unit_that_was_renamed_keeps_its_earlier_batches(plant: BatchSite) -> None:
    now = plant.context(0, batch="A")
    plant.scan(range(1, 10), (now,))
    renamed = plant.context(10, "r-one", batch="B")
    plant.context(10, batch="")
    plant.scan(range(11, 20), (renamed,))
    plant.write()

    for batch in "AB":
        assert [(tag["received"], tag["missing"]) for tag in ask(plant, batch)["tags"]] == [(9, {}), (9, {})]
