"""Records of a later version beside those of today: the verdicts do not depend on the age of the reader."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

import cbor2
import pytest

from edge.seal import Malformed, RecordType, Unknown, codec
from edge.seal.cbor import as_fields, as_int, as_text
from edge.seal.codec import LaterContent, Payload
from edge.verify import Trust, Verdict, Verifier
from tests.support import mutations
from tests.support.chains import Plant, grow, start
from tests.support.later_gateway import BATCH, CALIBRATION, LaterChain, grow_later, start_later

BEYOND: list[Callable[[], object]] = [
    lambda: cbor2.CBORTag(81, bytes(8)), lambda: cbor2.CBORTag(85, bytes(7)), lambda: cbor2.undefined,
    lambda: {-5: 1}, lambda: {1: 1, "a": 1}, lambda: -(2**63) - 1, lambda: cbor2.CBORSimpleValue(60),
]  # fmt: skip


def _verdicts(records: list[bytes], trust: Trust) -> tuple[list[Verdict], Counter[str]]:
    """The final verdict of each record, and the counts of the report."""
    verifier = Verifier(trust)
    final: dict[bytes, Verdict] = {}
    order = []
    for data in records:
        judgements = verifier.add(data)
        order.append(judgements[0].hash)
        for judgement in judgements:
            if judgement.verdict is not Verdict.DUPLICATE:
                final[judgement.hash] = judgement.verdict
    report = verifier.report()
    counts = Counter({name: count for epoch in report.epochs for name, count in epoch.verdicts.items() if count})
    return [final[each] for each in order], counts


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Turn this reader into one of the later version: it knows the additions, and what it does not is unknown."""

    def read_batch(value: object, unknown: Unknown) -> Payload:
        later = codec._later(BATCH, value, Unknown())
        assert isinstance(later, LaterContent)
        try:
            members = as_fields(value, 3, unknown)
            as_int(members[1]), as_text(members[2])
        except Malformed:
            unknown.add("BATCH")  # Another form than the later version expects is no reason for another verdict.
        return later

    def use() -> None:
        monkeypatch.setitem(codec._READERS, BATCH, read_batch)
        monkeypatch.setitem(codec._READERS, CALIBRATION, read_batch)

    return use


def _deliveries(seed: int) -> Iterator[tuple[str, list[bytes], Trust]]:
    """Two chains, one of today and one of later, interleaved, then cut, reordered and mutated."""
    dice = random.Random(seed)
    later, today = grow_later(start_later(seed), 60), grow(start("line-5"), 40)
    trust = Trust()
    for plant in (later, today):
        trust.pin(plant.identity.public, plant.chain.issuer)
    records = [each.data for each in [*later.records, *today.records]]
    attack = mutations.Attack(later, [today], [later.chain.session], dice)
    yield "whole", records, trust
    yield "reversed", records[::-1], trust
    mixed = dice.sample(records, len(records))
    yield "interleaved", mixed, trust
    yield "cut", [each for each in mixed if dice.random() < 0.8], trust
    for mutate in (mutations.flip, mutations.insert, mutations.delete, mutations.edit, mutations.splice,
                   mutations.swap_key):  # fmt: skip
        yield mutate.__name__, [mutate(attack, each) if dice.random() < 0.3 else each for each in records], trust


@pytest.mark.requirement("REQ-SEAL-04")
@pytest.mark.parametrize("seed", range(5))
def test_a_reader_that_knows_and_one_that_does_not_give_the_same_verdicts(seed: int, newer: Callable[[], None]) -> None:
    deliveries = list(_deliveries(seed))
    old = [_verdicts(records, trust) for _, records, trust in deliveries]

    newer()

    for (what, records, trust), before in zip(deliveries, old, strict=True):
        assert _verdicts(records, trust) == before, what


@pytest.mark.requirement("REQ-SEAL-04")
@pytest.mark.parametrize("seed", range(20))
def test_everything_a_later_gateway_says_is_authentic_and_counted(seed: int) -> None:
    plant = grow_later(start_later(seed), 60)

    verifier = Verifier(plant.trust)
    judgements = [verifier.add(record.data)[0] for record in plant.records]
    report = verifier.report()
    [epoch] = report.epochs

    assert report.is_wholly_authentic()
    assert {each.verdict for each in judgements} == {Verdict.AUTHENTIC}
    assert epoch.unknown == sum(bool(each.unknown) for each in judgements) > 10
    assert epoch.types["BATCH"] == epoch.types["CALIBRATION_2"] > 0
    assert f"{epoch.unknown} records hold things this version does not know" in report.text()


def test_what_today_says_is_known() -> None:
    plant = grow(start(), 100)

    verifier = Verifier(plant.trust)
    for record in plant.records:
        verifier.add(record.data)

    assert verifier.report().epochs[0].unknown == 0
    assert "does not know" not in verifier.report().text()


@pytest.mark.parametrize("seed", range(20))
def test_additions_beyond_the_limits_are_garbage_for_every_reader(
    seed: int, newer: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = start_later(seed)
    monkeypatch.setattr(LaterChain, "spoil", staticmethod(lambda dice: dice.choice(BEYOND)()))
    records = [each.data for each in grow_later(plant, 60).records]

    verdicts, counts = _verdicts(records, plant.trust)
    newer()

    assert counts["GARBAGE"] > 0
    assert set(verdicts) <= {Verdict.AUTHENTIC, Verdict.GARBAGE, Verdict.LINKED, Verdict.UNVERIFIABLE}
    assert _verdicts(records, plant.trust) == (verdicts, counts)


@pytest.mark.parametrize(
    ("number", "name"),
    [(5, "BATCH"), (11, "EVENT"), (11, ""), (11, "batch"), (11, "1X"), (11, "B" * 41), (11, "BÄTCH"), (2**32, "BATCH")],
)
def test_a_type_whose_number_and_name_do_not_agree_is_no_record(number: int, name: str) -> None:
    plant = start()
    kind = int.__new__(RecordType, number)
    kind._name_, kind._value_ = name, number

    record = plant.chain.seal(kind, b"\xa1\x01\x00")

    assert Verifier(plant.trust).add(record.data)[0].verdict is Verdict.GARBAGE


@pytest.mark.parametrize("payload", [b"\xa1\x00\x00", b"\xa1\x61x\x00", b"\x80", b"\x00", b"", b"\xa1\x01\xf7"])
def test_an_unknown_type_holds_a_map_of_numbered_members(payload: bytes) -> None:
    plant = start()
    verifier = Verifier(plant.trust)
    verifier.add(plant.records[0].data)

    assert verifier.add(plant.chain.seal(BATCH, payload).data)[0].verdict is Verdict.GARBAGE


def test_an_unknown_type_brings_no_key() -> None:
    plant = start()
    other = plant.chain.session.generate()
    batch = plant.chain.seal(BATCH, cbor2.dumps({1: other.public.cose()[-2], 2: 0}, canonical=True))
    plant.chain._use(other, 0)
    after = plant.chain.seal(RecordType.DATA, b"")

    verifier = Verifier(plant.trust)
    verdicts = [verifier.add(data)[0].verdict for data in (plant.records[0].data, batch.data, after.data)]

    assert verdicts == [Verdict.AUTHENTIC, Verdict.AUTHENTIC, Verdict.UNTRUSTED]


def test_a_verifier_goes_on_from_a_snapshot_with_undecided_records_of_a_later_type() -> None:
    plant: Plant = grow_later(start_later(3), 40)
    first, last = plant.records[0].data, [each.data for each in plant.records[1:]]
    verifier = Verifier(plant.trust)
    for data in last:
        verifier.add(data)
    again = Verifier(plant.trust)
    again.restore(verifier.snapshot())

    assert verifier.add(first) == again.add(first)
    assert verifier.report() == again.report()
    assert again.report().is_wholly_authentic()
