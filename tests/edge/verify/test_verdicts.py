"""Verdicts on ranges, forks, late keys and restarts, in any order of arrival."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.seal import BufferState, Chain, Gap, Loss, LossReason, MemoryCounter, Record, RecordType, encode
from edge.seal.keys import IdentityKey, SigningKey
from edge.verify import RangeVerdict, Report, Trust, Verdict, Verifier
from edge.verify.window import Window
from tests.support.chains import BOOT_NS, TIME, UTC_NS, Plant, data, grow, new_identity, start

KEY_SEQ = 33


def judge(trust: Trust, records: Iterable[Record], *, fast: bool = False) -> Verifier:
    verifier = Verifier(trust, fast=fast)
    for record in records:
        verifier.add(record.data)
    return verifier


def final_verdicts(trust: Trust, records: Iterable[Record]) -> dict[tuple[int, bytes], Verdict]:
    """The last verdict on each record."""
    verifier = Verifier(trust)
    verdicts = {}
    for record in records:
        for judgement in verifier.add(record.data):
            verdicts[judgement.seq, judgement.hash] = judgement.verdict
    return verdicts


def absent(verifier: Verifier) -> list[tuple[str, int, int]]:
    return [(each.verdict, each.first, each.last) for each in verifier.missing()]


def without(plant: Plant, *seqs: int) -> list[Record]:
    return [record for record in plant.records if record.seq not in seqs]


def forked(plant: Plant, at: int, length: int, checkpoint_every: int = 20) -> list[Record]:
    """Another history of a chain from `at` on, signed with its session key."""
    fork = start(identity=plant.identity)
    fork.chain.head, fork.chain.session = plant.records[at - 1].head, plant.chain.session
    return [fork.chain.seal(RecordType.DATA, data(1000 + number)) for number in range(length)]


def test_an_untouched_chain_is_wholly_authentic(plant: Plant) -> None:
    verifier = judge(plant.trust, plant.records)
    report = verifier.report()
    [epoch] = report.epochs

    assert report.is_wholly_authentic()
    assert absent(verifier) == []
    assert epoch.tail is RangeVerdict.CLOSED
    assert epoch.held == ((0, len(plant.records) - 1),)
    assert epoch.identity == plant.identity.fingerprint
    assert epoch.worst_bound_ns == 505_000
    assert "Wholly authentic: yes" in report.text()
    assert "Authenticity starts at sealing" in report.text()


@given(seed=st.integers(0, 10**9), drops=st.sets(st.integers(0, 63), max_size=6))
def test_the_order_of_arrival_changes_no_verdict(plant: Plant, seed: int, drops: set[int]) -> None:
    records = without(plant, *drops)
    shuffled = records * 2
    random.Random(seed).shuffle(shuffled)
    in_order, in_disorder = judge(plant.trust, records), judge(plant.trust, shuffled)
    one, other = in_order.report().epochs[0], in_disorder.report().epochs[0]

    assert absent(in_order) == absent(in_disorder)
    assert (one.held, one.linked, one.forks, one.tail) == (other.held, other.linked, other.forks, other.tail)
    assert {**other.verdicts, "DUPLICATE": 0} == {**one.verdicts, "DUPLICATE": 0}
    assert (one.counter_gaps, one.first_ns, one.last_ns, one.types) == (
        other.counter_gaps, other.first_ns, other.last_ns, other.types)  # fmt: skip


@given(seed=st.integers(0, 10**9), at=st.integers(35, 45), length=st.integers(1, 5))
def test_a_forked_chain_is_seen_in_any_order(plant: Plant, seed: int, at: int, length: int) -> None:
    fork = forked(plant, at, length)
    records = [*plant.records, *fork]
    shuffled = records[:]
    random.Random(seed).shuffle(shuffled)
    in_order, in_disorder = final_verdicts(plant.trust, records), final_verdicts(plant.trust, shuffled)

    assert in_order == in_disorder
    assert {in_order[each.seq, each.hash] for each in fork} == {Verdict.FORK}
    assert judge(plant.trust, shuffled).report().epochs[0].forks == tuple(range(at, at + length))


def test_a_late_key_turns_undecided_records_authentic(plant: Plant) -> None:
    key = plant.records[KEY_SEQ]
    verifier = judge(plant.trust, (each for each in plant.records[:39] if each is not key))
    undecided = {KEY_SEQ + n for n in range(1, 6)}

    first, *changed = verifier.add(key.data)

    assert first.verdict is Verdict.AUTHENTIC
    assert {each.seq: each.verdict for each in changed} == dict.fromkeys(undecided, Verdict.AUTHENTIC)
    assert all(each.payload and each.content for each in changed)


def test_records_of_a_lost_key_are_linked_by_the_next_checkpoint(plant: Plant) -> None:
    verifier = judge(plant.trust, without(plant, KEY_SEQ))
    report = verifier.report()

    assert report.epochs[0].linked == ((KEY_SEQ + 1, 39),)
    assert absent(verifier) == [(RangeVerdict.MISSING, KEY_SEQ, KEY_SEQ)]
    assert not report.is_wholly_authentic(admit={Verdict.LINKED})
    assert report.is_wholly_authentic(admit={Verdict.LINKED, RangeVerdict.MISSING})


def test_a_link_never_repairs_a_bad_signature(plant: Plant) -> None:
    chain = start()
    grow(chain, 5, stop=False)
    good = chain.chain.session.sign
    chain.chain.session.sign = lambda message: bytes(32) + good(message)[32:]  # type: ignore[method-assign]
    bad = chain.chain.seal(RecordType.DATA, data(5))
    del chain.chain.session.sign
    grow(chain, 5)

    verdicts = [each.verdict for each in Verifier(chain.trust).add(bad.data)]
    verifier = judge(chain.trust, [*chain.records, bad])

    assert verdicts == [Verdict.UNVERIFIABLE]
    assert absent(verifier) == [(RangeVerdict.MISSING, bad.seq, bad.seq)]
    assert verifier.report().epochs[0].verdicts[Verdict.ALTERED] == 1


@pytest.mark.requirement("REQ-VERIFY-04")
@pytest.mark.parametrize("reverse", [False, True])
def test_a_record_under_a_superseded_key_is_untrusted(plant: Plant, reverse: bool) -> None:
    """Whoever stole the old key and holds the KEY back is found out when the KEY comes."""
    chain = start()
    grow(chain, 5, stop=False)
    old = chain.chain.session
    key = chain.chain.roll(TIME, BOOT_NS)
    honest = chain.chain.seal(RecordType.DATA, data(6))
    thief = start(identity=chain.identity)
    thief.chain.head, thief.chain.session = key.head, old
    forged = thief.chain.seal(RecordType.DATA, data(7))
    records = [*chain.records, *(reversed([forged, honest, key]) if reverse else [forged, honest, key])]
    verdicts = final_verdicts(chain.trust, records)

    assert verdicts[forged.seq, forged.hash] is Verdict.UNTRUSTED
    assert verdicts[honest.seq, honest.hash] is Verdict.AUTHENTIC


def test_a_declared_loss_is_not_missing_and_an_undeclared_one_is() -> None:
    plant = start()
    grow(plant, 20, stop=False)
    loss = Loss(first=5, last=9, from_ns=1, to_ns=2, records=5, readings=20, reason=LossReason.BUFFER_FULL)
    plant.records.append(plant.chain.seal(RecordType.LOSS, encode(loss)))
    verifier = judge(plant.trust, without(plant, 4, 5, 6, 7, 8, 9, 12))

    assert absent(verifier) == [
        (RangeVerdict.MISSING, 4, 4),
        (RangeVerdict.DECLARED_LOST, 5, 9),
        (RangeVerdict.MISSING, 12, 12),
    ]
    whole = judge(plant.trust, without(plant, 5, 6, 7, 8, 9)).report()
    assert not whole.is_wholly_authentic()
    assert whole.is_wholly_authentic(admit={RangeVerdict.DECLARED_LOST})


def test_a_loss_may_be_declared_by_the_next_chain() -> None:
    before = start()
    grow(before, 10, stop=False)
    chain, epoch = Chain.start(
        before.identity, issuer=before.chain.issuer, time=TIME, now_boot_ns=0, previous=before.chain.head
    )
    loss = Loss(
        first=7, last=9, from_ns=None, to_ns=None, records=3, readings=None, reason=LossReason.CORRUPT,
        epoch=before.chain.head.epoch,
    )  # fmt: skip
    later = [epoch, chain.seal(RecordType.LOSS, encode(loss))]

    assert absent(judge(before.trust, [*before.records[:7], later[0]])) == [(RangeVerdict.TRUNCATED, 7, 9)]
    assert absent(judge(before.trust, [*before.records[:7], *later])) == [(RangeVerdict.DECLARED_LOST, 7, 9)]


def test_the_end_is_unknown_without_a_stop_and_truncated_when_a_checkpoint_elsewhere_proves_it(plant: Plant) -> None:
    cut = plant.records[:30]
    verifier = judge(plant.trust, cut)
    [epoch] = verifier.report().epochs
    assert epoch.tail is RangeVerdict.TAIL_UNKNOWN
    assert epoch.tail_ns is not None
    assert epoch.tail_ns >= UTC_NS
    assert verifier.report().is_wholly_authentic()

    assert verifier.witness(plant.records[40].data).verdict is Verdict.AUTHENTIC

    [epoch] = verifier.report().epochs
    assert epoch.tail is RangeVerdict.TRUNCATED
    assert absent(verifier) == [(RangeVerdict.TRUNCATED, 30, 40)]
    assert not verifier.report().is_wholly_authentic()


def test_a_checkpoint_elsewhere_with_another_history_is_a_fork(plant: Plant) -> None:
    other = start(identity=plant.identity)
    other.chain.head, other.chain.session = forked(plant, 40, 1)[-1].head, plant.chain.session
    elsewhere = other.chain.checkpoint(TIME)
    verifier = judge(plant.trust, plant.records)

    verifier.witness(elsewhere.data)

    assert verifier.report().epochs[0].forks == (40, 41)


def test_a_restart_continues_the_chain_with_a_new_session_key() -> None:
    plant = start()
    grow(plant, 12)
    chain, checkpoint = Chain.resume(
        plant.identity, plant.chain.head, issuer=plant.chain.issuer, time=TIME, now_boot_ns=0,
        buffer=BufferState(oldest=3, size_bytes=4, undelivered=5),
    )  # fmt: skip
    after = chain.seal(RecordType.DATA, data(50))
    report = judge(plant.trust, [*plant.records, checkpoint, after]).report()

    assert report.is_wholly_authentic()
    assert report.epochs[0].tail is RangeVerdict.TAIL_UNKNOWN


def test_identity_signatures_that_were_never_delivered_are_a_counter_gap() -> None:
    plant = start()
    grow(plant, 10, checkpoint_every=4, stop=False)
    plant.identity.counter.next()
    grow(plant, 10, checkpoint_every=4)
    [epoch] = judge(plant.trust, plant.records).report().epochs

    assert epoch.counter_gaps == ((3, 5),)
    assert not judge(plant.trust, plant.records).report().is_wholly_authentic()


def test_a_checkpoint_that_is_missing_explains_the_counter(plant: Plant) -> None:
    [epoch] = judge(plant.trust, without(plant, 20)).report().epochs

    assert epoch.counter_gaps == ()


def test_a_counter_that_starts_over_with_a_new_chain_is_a_counter_gap() -> None:
    key = SigningKey.generate()
    first = grow(start(identity=IdentityKey(key, MemoryCounter())), 10)
    second = grow(start(identity=IdentityKey(key, MemoryCounter())), 10)
    third = grow(start(identity=IdentityKey(key, MemoryCounter(7))), 10)

    repeated = judge(first.trust, [*first.records, *second.records]).report()
    jumped = judge(first.trust, [*first.records, *third.records]).report()

    assert sum(len(epoch.counter_gaps) for epoch in repeated.epochs) == 1
    assert [epoch.counter_gaps for epoch in jumped.epochs if epoch.counter_gaps] == [((2, 8),)]


def test_arrival_out_of_order_is_counted_and_no_fault(plant: Plant) -> None:
    records = [*plant.records[:10], *plant.records[20:], *plant.records[10:20]]
    report = judge(plant.trust, records).report()

    assert report.epochs[0].out_of_order == 10
    assert report.is_wholly_authentic()


def test_gaps_are_summed_up_per_scan_group() -> None:
    plant = start()
    gaps = [
        Gap(group=2, from_ns=UTC_NS, to_ns=None, status=0x80310000),
        Gap(group=2, from_ns=UTC_NS, to_ns=UTC_NS + 5 * 10**9, status=0x80310000),
        Gap(group=None, from_ns=UTC_NS + 1, to_ns=None, status=0x80310000),
    ]
    plant.records += [plant.chain.seal(RecordType.GAP, encode(gap)) for gap in gaps]
    records = plant.records[:]
    random.Random(3).shuffle(records)
    [epoch] = judge(plant.trust, records).report().epochs

    assert [(each.group, each.closed, each.silent_ns, each.open_from_ns) for each in epoch.gaps] == [
        (None, 0, 0, (UTC_NS + 1,)),
        (2, 1, 5 * 10**9, ()),
    ]
    assert "scan group 2: 1 of 5 s" in judge(plant.trust, records).report().text()


@pytest.mark.requirement("REQ-VERIFY-04")
def test_an_unknown_gateway_is_untrusted_and_leaves_nothing_behind(plant: Plant) -> None:
    verifier = Verifier(plant.trust)
    for _ in range(5):
        stranger = start("line-4", identity=new_identity())
        assert verifier.add(stranger.records[0].data)[0].verdict is Verdict.UNTRUSTED
    report = verifier.report()

    assert report.epochs == ()
    assert report.unattributed == {"UNTRUSTED": 5}
    assert not report.is_wholly_authentic()


def test_a_pinned_gateway_cannot_speak_for_another(plant: Plant) -> None:
    other = start("line-5")
    impostor = start("line-4", identity=other.identity)
    trust = plant.trust
    trust.pin(other.identity.public, other.chain.issuer)

    assert Verifier(trust).add(other.records[0].data)[0].verdict is Verdict.AUTHENTIC
    assert Verifier(trust).add(impostor.records[0].data)[0].verdict is Verdict.UNTRUSTED


def test_undecided_records_are_bounded() -> None:
    plant = grow(start(), 40, checkpoint_every=100, stop=False)
    verifier = Verifier(plant.trust, pending_bytes=3_000)
    for record in plant.records[1:]:
        verifier.add(record.data)

    counts = verifier.report().epochs[0].verdicts
    assert counts[Verdict.UNVERIFIABLE] == 39
    assert sum(len(record.data) for record in plant.records if verifier.is_undecided(record.hash)) <= 3_000


@pytest.mark.parametrize("cut", [0, 1, 20, 34, 38, 50])
def test_a_verifier_continues_after_a_restart(plant: Plant, cut: int) -> None:
    """The KEY is late, so that records wait across the restart."""
    records = [*without(plant, KEY_SEQ), plant.records[KEY_SEQ]]
    before = judge(plant.trust, records[:cut])
    after = Verifier(plant.trust)
    after.restore(before.snapshot())
    for record in records[cut:]:
        after.add(record.data)

    assert after.report() == judge(plant.trust, records).report()
    assert {after.add(record.data)[0].verdict for record in records} == {Verdict.DUPLICATE}


def test_the_archive_is_asked_for_hashes_that_are_not_kept() -> None:
    plant = start()
    plant.records += [plant.chain.seal(RecordType.EVENT, b"\xa5\x01\x00\x02\x60\x03\x01\x04\x60\x05\xa0")
                      for _ in range(600)]  # fmt: skip
    archive: dict[int, bytes] = {}
    verifier = Verifier(plant.trust, hash_of=lambda issuer, epoch, seq: archive.get(seq), hash_pages_kept=1)
    for record in plant.records:
        verifier.add(record.data)
        archive[record.seq] = record.hash

    assert verifier.add(plant.records[10].data)[0].verdict is Verdict.DUPLICATE
    assert verifier.add(forked(plant, 10, 1)[0].data)[0].verdict is Verdict.FORK
    assert len(verifier.snapshot()) < 20_000


def _verdict_counts(verifier: Verifier) -> tuple[int, int]:
    counts = verifier.report().epochs[0].verdicts
    return counts[Verdict.AUTHENTIC], counts[Verdict.LINKED]


@pytest.mark.parametrize("dropped", [(), (KEY_SEQ,), (5, 45)])
def test_fast_mode_links_by_hashes_and_finds_the_same_holes(plant: Plant, dropped: Sequence[int]) -> None:
    records = without(plant, *dropped)
    fast, slow = judge(plant.trust, records, fast=True), judge(plant.trust, records)

    assert sum(_verdict_counts(fast)) == sum(_verdict_counts(slow)) == len(records)
    assert _verdict_counts(fast)[1] > _verdict_counts(slow)[1]
    assert fast.report().is_wholly_authentic(admit={Verdict.LINKED}) == (not dropped)
    assert absent(fast) == absent(slow)
    assert fast.report().epochs[0].tail is RangeVerdict.CLOSED


def test_fast_mode_sees_a_changed_byte(plant: Plant) -> None:
    bad = bytearray(plant.records[25].data)
    bad[-80] ^= 1
    verifier = judge(plant.trust, without(plant, 25), fast=True)
    verifier.add(bytes(bad))

    report = verifier.report()

    assert not report.is_wholly_authentic(admit={Verdict.LINKED})
    assert absent(verifier) == [(RangeVerdict.MISSING, 25, 25)]


def test_a_report_can_be_limited_to_a_range(plant: Plant) -> None:
    def report(**window: int) -> Report:
        verifier = Verifier(plant.trust, window=Window(**window))
        for record in without(plant, 5):
            verifier.add(record.data)
        return verifier.report()

    assert not report().is_wholly_authentic()
    assert report(first=6, last=30).is_wholly_authentic()
    assert report(first=6).epochs[0].held == ((6, 63),)


def test_another_trusted_identity_cannot_take_a_chain_over_before_its_epoch_arrives(plant: Plant) -> None:
    """Both identities are trusted for this gateway: only the EPOCH proves to which one the chain belongs."""
    stranger = start(identity=new_identity())
    stranger.chain.head = plant.records[19].head
    taken = stranger.chain.checkpoint(TIME)
    forged = stranger.chain.seal(RecordType.DATA, data(21))
    trust = Trust()
    trust.pin(plant.identity.public, plant.chain.issuer)
    trust.pin(stranger.identity.public, plant.chain.issuer)

    for order in ([taken, forged, *plant.records], [*plant.records[1:], taken, forged, plant.records[0]]):
        verdicts = final_verdicts(trust, order)
        assert verdicts[taken.seq, taken.hash] is Verdict.UNTRUSTED
        assert verdicts[forged.seq, forged.hash] is Verdict.UNTRUSTED
        assert {verdicts[each.seq, each.hash] for each in plant.records} == {Verdict.AUTHENTIC}


@pytest.mark.parametrize("payload", [None, b"\xff"])
def test_fast_mode_reads_what_linked_records_declare_lost(payload: bytes | None) -> None:
    plant = grow(start(), 20, stop=False)
    loss = Loss(first=5, last=9, from_ns=None, to_ns=None, records=5, readings=None, reason=LossReason.BUFFER_FULL)
    plant.records.append(plant.chain.seal(RecordType.LOSS, payload or encode(loss)))
    plant.records.append(plant.chain.checkpoint(TIME))
    verifier = judge(plant.trust, without(plant, 5, 6, 7, 8, 9), fast=True)

    assert absent(verifier) == [(RangeVerdict.MISSING if payload else RangeVerdict.DECLARED_LOST, 5, 9)]
