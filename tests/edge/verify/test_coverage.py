"""The verifier finds by itself when a scan group was not read, and names what no GAP says; in any order of arrival."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from edge.clock import TimeQuality
from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType, SampleBlock
from edge.seal import EncodedCatalogue, Gap, Record, RecordType, encode, encode_data
from edge.verify import Coverage, Report, Verifier
from edge.verify.report import GroupCoverage
from edge.verify.window import EVERYTHING, Window
from tests.support.chains import BOOT_NS, TIME, UTC_NS, Plant, start

S = 10**9
TAGS = (CatalogueTag(name="t", data_type=DataType.UINT32, address="1"),)
MIXER = CatalogueGroup(device="mixer", name="fast", interval_ns=S, tags=TAGS)
PRESS = CatalogueGroup(device="press", name="told", interval_ns=S, tags=TAGS, sign_of_life_ns=10 * S)
CATALOGUE = EncodedCatalogue.of(Catalogue(path="p", groups=(MIXER, PRESS)))
NOTHING = np.empty(0, np.uint16)


@pytest.fixture
def plant() -> Plant:
    return start()


def begun(plant: Plant, catalogue: EncodedCatalogue = CATALOGUE) -> Plant:
    plant.records += [plant.chain.seal(RecordType.CATALOG, payload) for payload in catalogue.payloads]
    return plant


def read(
    plant: Plant, seconds: Iterable[float], group: int = 0, time: TimeQuality = TIME,
    catalogue: EncodedCatalogue = CATALOGUE,
) -> None:  # fmt: skip
    """Seal one block for each of these seconds."""
    for second in seconds:
        at_ns = BOOT_NS + int(second * S)
        vectors, positions = ((np.empty(0, np.uint32),), (NOTHING,)) if group else ((np.ones(1, np.uint32),), None)
        block = SampleBlock(group, at_ns, at_ns, vectors, positions, is_notification=group == 1)
        payload = encode_data(utc_ns=at_ns + time.offset_ns, boot_ns=at_ns, time=time, catalogue=catalogue.digest,
                              blocks=[block])  # fmt: skip
        plant.records.append(plant.chain.seal(RecordType.DATA, payload))


def gap(plant: Plant, group: int | None, first: float, last: float | None) -> None:
    to_ns = None if last is None else UTC_NS + int(last * S)
    declared = Gap(group=group, from_ns=UTC_NS + int(first * S), to_ns=to_ns, status=1)
    plant.records.append(plant.chain.seal(RecordType.GAP, encode(declared)))


def verified(plant: Plant, records: Sequence[Record] | None = None, window: Window = EVERYTHING) -> Report:
    verifier, coverage = Verifier(plant.trust, window=window), Coverage(window)
    for record in plant.records if records is None else records:
        coverage.note(verifier.add(record.data))
    return coverage.add_to(verifier.report())


def covered(report: Report) -> list[GroupCoverage]:
    [epoch] = report.epochs
    return list(epoch.coverage or ())


def test_a_hole_that_no_gap_explains_is_named(plant: Plant) -> None:
    read(begun(plant), [0, 1, 2, 5, 9.5, 10])

    report = verified(plant)
    [mixer] = covered(report)

    assert (mixer.name, mixer.limit_ns, mixer.holes, mixer.unexplained) == ("mixer fast", 3 * S, 1, 1)
    assert mixer.shown == ((UTC_NS + 5 * S, UTC_NS + 9.5 * S),)
    assert "UNEXPLAINED  mixer fast: 1 hole of 4.5 s without a GAP, the first from " in report.text()
    assert report.is_wholly_authentic()


@pytest.mark.parametrize(
    ("gaps", "unexplained"),
    [
        ([(0, 2, 60)], 0), ([(0, 3.5, 58.6)], 0), ([(None, 2, 60)], 0), ([(0, 2, 30), (None, 30, 59)], 0),
        ([(0, 2, None)], 0), ([(0, 6, 60)], 1), ([(1, 2, 60)], 1), ([(0, 2, 30)], 1),
        ([(0, 2, None), (None, 20, 30)], 1),
    ],
)  # fmt: skip
def test_a_gap_of_the_group_or_of_all_explains_a_hole_if_it_covers_it(
    plant: Plant, gaps: list[tuple[int | None, float, float | None]], unexplained: int
) -> None:
    read(begun(plant), [0, 1, 2])
    for each in gaps:
        gap(plant, *each)
    read(plant, [60, 61])

    assert [(each.holes, each.unexplained) for each in covered(verified(plant))] == [(1, unexplained)]


def test_the_order_of_arrival_changes_nothing(plant: Plant) -> None:
    read(begun(plant), [*range(10), *range(20, 30), *range(50, 60)])
    gap(plant, 0, 9, 20)
    in_order = covered(verified(plant))

    for seed in range(20):
        shuffled = list(plant.records)
        Random(seed).shuffle(shuffled)
        assert covered(verified(plant, shuffled)) == in_order
    assert [(each.holes, each.unexplained) for each in in_order] == [(2, 1)]


def test_a_gap_goes_by_the_catalogue_of_its_place(plant: Plant) -> None:
    other = EncodedCatalogue.of(Catalogue(path="p", groups=(PRESS, MIXER)))
    read(begun(plant), [0, 1])
    gap(plant, 0, 1, 20)
    gap(begun(plant, other), 0, 20, 40)
    read(begun(plant), [20, 40])
    in_order = covered(verified(plant))

    assert [(each.name, each.holes, each.unexplained) for each in in_order] == [("mixer fast", 2, 1)]
    assert covered(verified(plant, plant.records[::-1])) == in_order


def test_a_subscribed_group_is_measured_by_its_signs_of_life(plant: Plant) -> None:
    read(begun(plant), [0, 10, 20, 50, 81], group=1)

    [press] = covered(verified(plant))

    assert (press.name, press.holes) == ("press told", 1)
    assert press.shown == ((UTC_NS + 50 * S, UTC_NS + 81 * S),)


def test_a_subscribed_group_of_an_earlier_gateway_is_not_judged(plant: Plant) -> None:
    groups = (MIXER, replace(PRESS, sign_of_life_ns=0))
    earlier = EncodedCatalogue.of(Catalogue(path="p", groups=groups))
    read(begun(plant, earlier), [0, 100], group=1, catalogue=earlier)

    assert covered(verified(plant)) == []


def test_records_that_are_not_held_are_no_unexplained_hole(plant: Plant) -> None:
    read(begun(plant), range(30))

    [mixer] = covered(verified(plant, [*plant.records[:10], *plant.records[20:]]))

    assert (mixer.holes, mixer.not_held, mixer.unexplained) == (1, 1, 0)


def test_a_step_of_the_clock_is_no_hole_and_a_reboot_is_measured_in_utc(plant: Plant) -> None:
    ahead = replace(TIME, offset_ns=TIME.offset_ns + 1000 * S)
    again = replace(TIME, boot_id=bytes(15) + b"\1", offset_ns=TIME.offset_ns + 2000 * S)
    read(begun(plant), [0, 1])
    read(plant, [2, 3], time=ahead)
    read(plant, [4, 5], time=again)

    [mixer] = covered(verified(plant))

    assert (mixer.holes, mixer.holes_ns) == (1, 1001 * S)


def test_only_holes_of_the_range_are_named(plant: Plant) -> None:
    read(begun(plant), [0, 10, 20, 30, 31])

    [mixer] = covered(verified(plant, window=Window(from_ns=UTC_NS + 15 * S, to_ns=UTC_NS + 25 * S)))

    assert mixer.shown == ((UTC_NS + 10 * S, UTC_NS + 20 * S), (UTC_NS + 20 * S, UTC_NS + 30 * S))


def test_a_group_with_very_many_holes_takes_no_memory_for_those_that_are_explained(plant: Plant) -> None:
    begun(plant)
    for minute in range(200):
        read(plant, [minute * 200 + 4 * n for n in range(50)])
        gap(plant, 0, minute * 200, (minute + 1) * 200)

    [mixer] = covered(verified(plant))

    assert (mixer.holes, mixer.holes_ns, mixer.unexplained) == (9_999, 39_996 * S, 0)
