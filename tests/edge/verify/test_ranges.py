"""A report on a range of time or of places says what is true of it, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from edge.seal import Chain, Event, Gap, RecordType, Severity, encode
from edge.seal.record import Record
from edge.verify import RangeVerdict, Report, Trust, Verdict, Verifier
from edge.verify.report import SeveralChains
from edge.verify.window import Window
from tests.support.chains import BOOT_NS, TIME, UTC_NS, Plant, data, start

STEP_NS = 10**8  # From one record of `sealed` to the next.
HALF_NS = 450_000  # From the time of such a record to the middle of its scan.


def at(number: float) -> int:
    return UTC_NS + int(number * STEP_NS)


def sealed(plant: Plant, numbers: Iterable[int]) -> list[Record]:
    """One DATA record for each number, a tenth of a second apart."""
    plant.records += [plant.chain.seal(RecordType.DATA, data(number)) for number in numbers]
    return plant.records


def following(plant: Plant) -> Plant:
    """The next chain of a gateway, which names the one before it."""
    chain, epoch = Chain.start(
        plant.identity, issuer=plant.chain.issuer, time=TIME, now_boot_ns=BOOT_NS, previous=plant.chain.head
    )
    return Plant(plant.identity, chain, [epoch])


def report(trust: Trust, records: Iterable[Record], start: float | None = None, end: float | None = None) -> Report:
    window = Window(from_ns=None if start is None else at(start), to_ns=None if end is None else at(end))
    verifier = Verifier(trust, window=window)
    for record in records:
        verifier.add(record.data)
    return verifier.report()


@pytest.fixture
def plant() -> Plant:
    """An EPOCH, and 60 records of DATA: seq is the number of each."""
    plant = start()
    sealed(plant, range(1, 61))
    return plant


def without(plant: Plant, first: int, last: int) -> list[Record]:
    return [each for each in plant.records if not first <= each.seq <= last]


@pytest.mark.parametrize(
    ("start", "end"), [(15, 45), (10, 30), (30, 51), (25, 28), (None, 25), (30, None), (20.5, 20.9)]
)
def test_what_is_missing_of_a_time_is_found(plant: Plant, start: float | None, end: float | None) -> None:
    asked = report(plant.trust, without(plant, 11, 50), start, end)

    assert not asked.is_wholly_authentic()
    assert [epoch.absent for epoch in asked.epochs] == [((str(RangeVerdict.MISSING), 11, 50),)]


@pytest.mark.parametrize(("start", "end"), [(1, 9), (None, 9), (52, 60), (52, None), (55, 57)])
def test_what_is_missing_elsewhere_is_no_fault_of_a_time(plant: Plant, start: float | None, end: float | None) -> None:
    assert report(plant.trust, without(plant, 11, 50), start, end).is_wholly_authentic()


def test_a_time_beyond_the_last_record_is_held_until_then(plant: Plant) -> None:
    asked = report(plant.trust, plant.records, 50, 70)

    assert not asked.is_wholly_authentic()
    assert "is held until 2023-11-14T22:13:26.000Z" in asked.text()


@pytest.mark.parametrize(("start", "end"), [(20.1, 20.9), (70, 80), (-20, -10)])
def test_a_time_without_a_record_is_not_authentic(plant: Plant, start: float, end: float) -> None:
    asked = report(plant.trust, plant.records, start, end)

    assert not asked.is_wholly_authentic()
    assert "no record of the range is held" in asked.text()


def test_two_gateways_and_two_chains_that_are_whole_are_authentic(plant: Plant) -> None:
    other = start("line-5")
    sealed(other, range(10, 90))
    second = following(plant)
    sealed(second, range(70, 100))
    trust = plant.trust
    trust.pin(other.identity.public, other.chain.issuer)
    records = [*plant.records, *other.records, *second.records]

    both = report(trust, records, 40, 85)
    earlier = report(trust, records, 20, 50)

    assert both.is_wholly_authentic()
    assert [epoch.held for epoch in both.epochs] == [((40, 60),), ((1, 16),), ((31, 76),)]
    assert [epoch.held for epoch in earlier.epochs] == [((20, 50),), ((11, 41),)]


def test_the_end_of_a_chain_that_is_not_held_counts_where_it_may_lie(plant: Plant) -> None:
    second = following(plant)
    sealed(second, range(70, 100))
    records = [*plant.records[:41], *second.records]

    assert not report(plant.trust, records, 30, 50).is_wholly_authentic()
    assert not report(plant.trust, records, 50, 80).is_wholly_authentic()
    assert report(plant.trust, records, 20, 35).is_wholly_authentic()
    assert report(plant.trust, records, 80, 90).is_wholly_authentic()


def test_a_chain_of_which_nothing_is_held_counts_until_the_next_one_has_begun(plant: Plant) -> None:
    second = following(plant)
    sealed(second, range(70, 100))

    assert not report(plant.trust, second.records, 50, 80).is_wholly_authentic()
    assert report(plant.trust, second.records, 80, 90).is_wholly_authentic()


def test_what_is_printed_is_of_the_range(plant: Plant) -> None:
    event = Event(at_ns=at(20), kind="device.up", severity=Severity.INFO)
    gaps = [Gap(group=0, from_ns=at(low), to_ns=at(high), status=1) for low, high in ((5, 8), (12, 25), (40, 41))]
    plant.records.append(plant.chain.seal(RecordType.EVENT, encode(event)))
    plant.records += [plant.chain.seal(RecordType.GAP, encode(each)) for each in gaps]

    [epoch] = report(plant.trust, plant.records, 10, 30).epochs

    assert (epoch.first_ns, epoch.last_ns, epoch.scans) == (at(10), at(30) + HALF_NS, 21)
    assert epoch.types == {"DATA": 21, "EVENT": 1, "GAP": 1}
    assert [(gap.closed, gap.silent_ns) for gap in epoch.gaps] == [(1, 13 * STEP_NS)]


def test_a_rejected_record_counts_where_it_lies(plant: Plant) -> None:
    bad = bytearray(plant.records[20].data)
    bad[-1] ^= 1
    records = [*plant.records, Record(RecordType.DATA, b"", 20, bytes(bad), b"")]

    assert report(plant.trust, records, 10, 30).epochs[0].verdicts[Verdict.ALTERED] == 1
    assert report(plant.trust, records, 30, 50).is_wholly_authentic()


def test_places_count_in_one_chain(plant: Plant) -> None:
    second = following(plant)
    verifier = Verifier(plant.trust, window=Window(first=5))
    for record in [*plant.records, *second.records]:
        verifier.add(record.data)

    with pytest.raises(SeveralChains, match=second.chain.head.epoch.hex()):
        verifier.report()
    assert verifier.report(epoch=plant.chain.head.epoch).is_wholly_authentic()


@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_gap_that_ended_before_a_time_is_not_still_open_in_it(plant: Plant, is_reversed: bool) -> None:
    """Its first record has no end, and so reaches into every later time; the second one takes it back."""
    gaps = [Gap(group=1, from_ns=at(10), to_ns=to_ns, status=0x80310000) for to_ns in (None, at(20))]
    sealed_gaps = [plant.chain.seal(RecordType.GAP, encode(gap)) for gap in gaps]
    records = [*plant.records, *(reversed(sealed_gaps) if is_reversed else sealed_gaps)]

    def found(start: float, end: float) -> list[tuple[int, tuple[int, ...]]]:
        return [(gap.closed, gap.open_from_ns) for each in report(plant.trust, records, start, end).epochs
                for gap in each.gaps]  # fmt: skip

    assert found(30, 40) == []
    assert found(15, 40) == [(1, ())]
