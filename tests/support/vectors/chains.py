"""Chains: keys that change, records that are absent, and histories that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.vectors.content import (
    CLOSED,
    FIRST,
    HALT,
    IDENTITY,
    LOST,
    NEXT_SESSION,
    OPEN,
    OTHER_GATEWAY,
    SECOND,
    SECOND_IDENTITY,
    SESSION,
    STRANGER,
    THIRD_SESSION,
    TRUNCATED,
    Members,
    begin,
    case,
    checkpoint,
    event,
    key_change,
)
from tests.support.vectors.wire import CHECKPOINT, EVENT, KEY, LOSS, STOP, Case, Chain, Key

ONES = b"\x01" * 32
LINE_5 = "urn:tidegate:line-5"


def cases() -> Iterator[Case]:
    """Chains."""
    yield from _keys()
    yield from _wrong_keys()
    yield from _links()
    yield from _forks()
    yield from _identities()
    yield from _duplicates()
    yield from _missing()
    yield from _lost()
    yield from _truncated()
    yield from _tails()
    yield from _counters()


def _line(events: int) -> Chain:
    """A chain of an EPOCH and some EVENT."""
    chain = begin()
    for number in range(1, events + 1):
        chain.add(EVENT, event(number))
    return chain


def _changed() -> Chain:
    """An EPOCH, and a KEY that brings the next session key."""
    chain = begin()
    chain.add(KEY, key_change(NEXT_SESSION))
    chain.session = NEXT_SESSION
    return chain


def _flipped(record: bytes) -> bytes:
    return record[:-1] + bytes((record[-1] ^ 1,))


def _keys() -> Iterator[Case]:
    chain = begin()
    chain.add(EVENT, event(1))
    chain.add(KEY, key_change(NEXT_SESSION))
    chain.session = NEXT_SESSION
    chain.add(EVENT, event(2))
    chain.add(CHECKPOINT, checkpoint(chain))
    chain.add(EVENT, event(3))
    first, before, _, after, check, last = chain.records
    yield case("keys/change", "A KEY brings the next session key.", chain.records, "AAAAAA", wholly=True)
    yield case("keys/key-is-lost", "Without the KEY the key after it is not known, but a CHECKPOINT leads to it.",
               [first, before, after, check, last], "AALAA", absent=[(FIRST, "MISSING", 2, 2)])  # fmt: skip
    yield case("keys/key-and-checkpoint-are-lost", "Without KEY and CHECKPOINT the records after them cannot be "
               "verified.", [first, before, after, last], "AA??")  # fmt: skip
    chain = _changed()
    chain.add(KEY, key_change(THIRD_SESSION))
    chain.session = THIRD_SESSION
    chain.add(EVENT, event())
    yield case("keys/two-changes", "Two KEY, one after the other.", chain.records, "AAAA", wholly=True)
    chain = begin()
    chain.add(KEY, key_change(SESSION))
    chain.add(EVENT, event())
    yield case("keys/same-key", "A KEY that brings the key in force.", chain.records, "AAA", wholly=True)
    chain = _line(1)
    chain.add(CHECKPOINT, checkpoint(chain, session=NEXT_SESSION))
    chain.session = NEXT_SESSION
    chain.add(EVENT, event(3))
    yield case("keys/restart", "A CHECKPOINT states a new key, as after a restart.", chain.records, "AAAA",
               wholly=True)  # fmt: skip
    yield case("keys/restart-old-key", "The key before the restart goes on.",
               [*chain.records, chain.make(EVENT, event(4), key=SESSION)], "AAAAU")  # fmt: skip


def _wrong_keys() -> Iterator[Case]:
    chain = _changed()
    old = chain.make(EVENT, event(1), key=SESSION)
    chain.add(EVENT, event(2))
    yield case("keys/old-key-goes-on", "The key that a KEY has ended signs one more record.",
               [*chain.records[:2], old, chain.records[2]], "AAUA")  # fmt: skip
    chain = _changed()
    yield case("keys/old-key-does-not-fit", "A wrong signature under the id of the key that a KEY has ended.",
               [*chain.records, _flipped(chain.make(EVENT, event(1), key=SESSION))], "AAU")  # fmt: skip
    chain.add(EVENT, event(2))
    yield case("keys/old-key-after-missing", "The key that a KEY has ended signs a record, and one between is missing.",
               [*chain.records[:2], chain.make(EVENT, event(3), key=SESSION)], "AAU")  # fmt: skip
    chain = begin()
    contradicting = chain.make(EVENT, event(), seq=2, prev=ONES)
    chain.add(KEY, key_change(NEXT_SESSION))
    yield case("keys/old-key-contradicts", "The key that a KEY has ended signs a record that names another one than "
               "the KEY: only an authentic record shows a fork.", [*chain.records, contradicting], "AAU")  # fmt: skip
    chain = begin()
    chain.add(CHECKPOINT, checkpoint(chain, session=NEXT_SESSION))
    yield case("keys/old-key-contradicts-checkpoint", "The key before a restart signs a record that names another one "
               "than the CHECKPOINT.", [*chain.records, contradicting], "AAU")  # fmt: skip
    chain = begin()
    early = chain.make(EVENT, event(1), key=NEXT_SESSION)
    chain.add(EVENT, event(2))
    chain.add(KEY, key_change(NEXT_SESSION))
    yield case("keys/too-early", "A record under the next key, before the KEY that brings it.",
               [chain.records[0], early, *chain.records[1:]], "AUAA")  # fmt: skip
    chain = begin()
    wrong = [chain.make(KEY, key_change(NEXT_SESSION), key=key) for key in (NEXT_SESSION, IDENTITY, STRANGER)]
    chain.append(wrong[0])
    yield case("keys/by-the-wrong-key", "KEY signed by the key they bring, by the identity, by a stranger: they bring "
               "no key, and the record after them waits.",
               [chain.records[0], *wrong, chain.make(EVENT, event(), key=NEXT_SESSION)], "AUUU?")  # fmt: skip
    chain = begin()
    chain.append(_flipped(chain.make(KEY, key_change(NEXT_SESSION))))
    yield case("keys/altered", "A KEY with a wrong signature brings no key.",
               [*chain.records, chain.make(EVENT, event(), key=NEXT_SESSION)], "AX?")  # fmt: skip
    chain = _line(3)
    first, _, _, last = chain.records
    unknown = chain.make(EVENT, event(), key=STRANGER, seq=2, prev=ONES)
    yield case("keys/unknown-after-missing", "Where a record is missing it may be a KEY: one under an unknown key "
               "waits.", [first, unknown, last], "A?A", absent=[(FIRST, "MISSING", 1, 1)])  # fmt: skip
    altered = _flipped(chain.make(EVENT, event(), seq=2, prev=ONES))
    yield case("keys/altered-after-missing", "A record is missing, and one after it names the key in force, whose "
               "signature it does not have.", [first, altered, last], "AXA",
               absent=[(FIRST, "MISSING", 1, 2)])  # fmt: skip


def _links() -> Iterator[Case]:
    chain = _line(2)
    chain.add(CHECKPOINT, checkpoint(chain))
    chain.add(EVENT, event(3))
    yield case("links/epoch-is-lost", "Without EPOCH the first key is not known; a CHECKPOINT of a pinned identity "
               "leads to the records before it, and states the key after it.", chain.records[1:], "LLAA",
               absent=[(FIRST, "MISSING", 0, 0)])  # fmt: skip
    chain = _changed()
    for number in range(3):
        chain.add(EVENT, event(number))
    chain.add(CHECKPOINT, checkpoint(chain))
    first, _, *rest = chain.records
    missing = [(FIRST, "MISSING", 1, 1)]
    yield case("links/several", "A CHECKPOINT leads to one record after the other.", [first, *rest], "ALLLA",
               absent=missing)  # fmt: skip
    yield case("links/altered", "What is left of a record has another hash than the one that leads to it.",
               [first, *rest[:2], _flipped(rest[2]), rest[3]], "A???A", absent=missing)  # fmt: skip
    yield case("links/two-at-a-place", "Of two records at a place the hash leads to one.",
               [first, *rest[:3], _flipped(rest[2]), rest[3]], "ALLL?A", absent=missing)  # fmt: skip
    yield case("links/until-a-missing-one", "The hashes end where a record is missing.",
               [first, rest[0], *rest[2:]], "A?LA", absent=[*missing, (FIRST, "MISSING", 3, 3)])  # fmt: skip
    chain = _changed()
    chain.add(LOSS, {**LOST, 2: 1})
    chain.add(CHECKPOINT, checkpoint(chain))
    yield case("links/loss", "A LOSS that is only linked declares nothing.",
               [chain.records[0], *chain.records[2:]], "ALA", absent=missing)  # fmt: skip
    chain = _changed()
    chain.add(EVENT, event())
    after = begin(SECOND, counter=2, m4=[FIRST, 2, chain.prev])
    yield case("links/not-by-the-next-chain", "The EPOCH of the next chain names the last record, whose key is lost: "
               "only a CHECKPOINT leads to a record.", [chain.records[0], chain.records[2], *after.records], "A?A",
               absent=[(FIRST, TRUNCATED, 1, 1)], tail={FIRST: TRUNCATED, SECOND: OPEN})  # fmt: skip


def _forks() -> Iterator[Case]:
    chain, other = _line(2), begin()
    other.add(EVENT, event(7))
    other.add(EVENT, event(8))
    yield case("forks/two-records", "Two records at one place, and one after the first of them.",
               [*chain.records[:2], other.records[1], chain.records[2]], "AFFA")  # fmt: skip
    yield case("forks/two-histories", "Two records at each of two places.",
               [*chain.records, *other.records[1:]], "AFFFF")  # fmt: skip
    yield case("forks/not-named", "A record that the authentic one after it does not name.",
               [*chain.records[:2], other.records[2]], "AFA")  # fmt: skip
    yield case("forks/altered", "A record and another one with a wrong signature are no fork.",
               [*chain.records[:2], _flipped(other.records[1])], "AAX")  # fmt: skip
    chain, other = _line(1), begin()
    other.add(EVENT, event(7))
    yield case("forks/checkpoint-names-another", "A CHECKPOINT that names another record before it than the one held.",
               [*chain.records, other.make(CHECKPOINT, checkpoint(other))], "AFA")  # fmt: skip
    right = checkpoint(chain)
    yield case("forks/checkpoint-at-odds", "CHECKPOINT that state another seq than their own, and another hash.",
               [*chain.records, *(chain.make(CHECKPOINT, {**right, **wrong}) for wrong in ({1: 1}, {1: 3}, {2: ONES}))],
               "AAFFF")  # fmt: skip
    chain = begin()
    chain.add(CHECKPOINT, {**checkpoint(chain, session=NEXT_SESSION), 1: 2})
    yield case("forks/checkpoint-at-odds-brings-no-key", "A CHECKPOINT at odds with its own place is not accepted, and "
               "states no key.",
               [*chain.records, chain.make(EVENT, event(), key=NEXT_SESSION), chain.make(EVENT, event())], "AF?A",
               absent=[(FIRST, "MISSING", 1, 1)])  # fmt: skip
    chain = _line(1)
    after = begin(SECOND, counter=2, m4=[FIRST, 1, ONES])
    yield case("forks/next-chain-names-another", "The EPOCH of the next chain names another last record than the one "
               "held.", [*chain.records, *after.records], "AFA", tail={FIRST: OPEN, SECOND: OPEN})  # fmt: skip
    yield case("forks/two-epochs", "Two EPOCH of one chain.",
               [*begin().records, *begin(session=NEXT_SESSION).records], "FF")  # fmt: skip
    chain, other = _changed(), begin()
    other.add(KEY, key_change(THIRD_SESSION))
    yield case("forks/two-keys", "Two KEY at one place.", [*chain.records, other.records[1]], "AFF")
    chain, other = _line(1), begin()
    chain.add(KEY, key_change(NEXT_SESSION))
    other.add(EVENT, event(7))
    yield case("forks/before-the-change", "The key that a KEY has ended signs another record for a place before it.",
               [*chain.records, other.records[1]], "AFAF")  # fmt: skip


def _identities() -> Iterator[Case]:
    def whole(identity: Key, issuer: str = "urn:tidegate:line-4") -> Chain:
        chain = begin(identity=identity, issuer=issuer)
        chain.add(EVENT, event())
        chain.add(CHECKPOINT, checkpoint(chain))
        return chain

    yield case("identities/stranger", "The EPOCH of an identity that is not trusted: the records after it cannot be "
               "verified, for a trusted one may still come.", whole(STRANGER).records, "U??", tail={})  # fmt: skip
    yield case("identities/stranger-without-epoch", "A CHECKPOINT of an identity that is not trusted: its EPOCH may "
               "still bring a certificate.", whole(STRANGER).records[1:], "??", tail={})  # fmt: skip
    yield case("identities/another-gateway", "The identity of line-5 speaks for line-4.",
               whole(OTHER_GATEWAY).records, "U??", trust="line-4 line-5", tail={})  # fmt: skip
    yield case("identities/second", "Another identity that is pinned to the gateway.",
               whole(SECOND_IDENTITY).records, "AAA", trust="line-4-second", wholly=True)  # fmt: skip
    yield case("identities/no-trust-anchor-fits", "Nothing is pinned but another gateway.",
               whole(IDENTITY).records, "U??", trust="line-5", tail={})  # fmt: skip
    chain = _line(1)
    wrong = [chain.make(CHECKPOINT, checkpoint(chain), key=key) for key in (STRANGER, OTHER_GATEWAY, SECOND_IDENTITY)]
    yield case("identities/not-that-of-the-epoch", "CHECKPOINT of a stranger, of another gateway, and of a second one "
               "that is trusted: the identity of a chain is that of its EPOCH.",
               [*chain.records, *wrong], "AAUUU", trust="line-4 line-5 line-4-second")  # fmt: skip
    yield case("identities/altered-checkpoint", "A CHECKPOINT with a wrong signature.",
               [*chain.records, _flipped(chain.make(CHECKPOINT, checkpoint(chain)))], "AAX")  # fmt: skip
    taken = chain.copy()
    taken.add(CHECKPOINT, checkpoint(taken, session=THIRD_SESSION), key=SECOND_IDENTITY)
    forged = taken.make(EVENT, event(9), key=THIRD_SESSION)
    chain.add(EVENT, event(2))
    chain.add(EVENT, event(3))
    yield case("identities/taken-over", "Another trusted identity signs a CHECKPOINT of a chain that is not its own, "
               "with its key, and a record under that.",
               [*chain.records, taken.records[2], forged], "AAAAUU", trust="line-4 line-4-second")  # fmt: skip
    chain = begin()
    chain.add(KEY, key_change(NEXT_SESSION))
    yield case("identities/no-epoch", "A KEY and a record, and nothing that brings the key before.",
               [chain.records[1], chain.make(EVENT, event(), key=NEXT_SESSION)], "??", tail={})  # fmt: skip
    other = begin(SECOND, identity=OTHER_GATEWAY, session=NEXT_SESSION, issuer=LINE_5)
    other.add(EVENT, event())
    yield case("identities/two-gateways", "Chains of two gateways.", [*_line(1).records, *other.records], "AAAA",
               trust="line-4 line-5", tail={FIRST: OPEN, SECOND: OPEN}, wholly=True)  # fmt: skip


def _duplicates() -> Iterator[Case]:
    first, one = _line(1).records
    yield case("duplicates/authentic", "Records that come twice.", [first, one, one, first], "AADD", wholly=True)
    yield case("duplicates/early", "A record that comes twice before its EPOCH.", [one, one, first], "ADA",
               wholly=True)  # fmt: skip
    yield case("duplicates/garbage", "Bytes that are no record, twice.", [first, b"\x00", b"\x00"], "AGD")
    yield case("duplicates/altered", "A record with a wrong signature, twice.",
               [first, _flipped(one), _flipped(one)], "AXD")  # fmt: skip
    yield case("duplicates/unverifiable", "A record whose key is not known, twice.", [one, one], "?D", tail={})
    other = begin().make(EVENT, event(7))
    yield case("duplicates/fork", "One of two records at a place comes twice.", [first, one, other, other],
               "AFFD")  # fmt: skip


def _missing() -> Iterator[Case]:
    first, _, two, _, _, five = _line(5).records
    yield case("missing/ranges", "Two ranges are missing.", [first, two, five], "AAA",
               absent=[(FIRST, "MISSING", 1, 1), (FIRST, "MISSING", 3, 4)])  # fmt: skip
    chain = _line(1)
    chain.add(CHECKPOINT, checkpoint(chain))
    chain.add(EVENT, event())
    yield case("missing/start", "The beginning of a chain is missing; its identity is pinned.", chain.records[2:], "AA",
               absent=[(FIRST, "MISSING", 0, 1)])  # fmt: skip
    yield case("missing/altered", "A place whose only record has a wrong signature.",
               [first, _flipped(_line(1).records[1]), two], "AXA", absent=[(FIRST, "MISSING", 1, 1)])  # fmt: skip


def _lost() -> Iterator[Case]:
    def lost(low: int, high: int, epoch_id: bytes | None = None) -> Members:
        return {**LOST, 1: low, 2: high, 5: high - low + 1} | ({} if epoch_id is None else {9: epoch_id})

    def ending_with_loss(events: int, low: int, high: int) -> list[bytes]:
        chain = _line(events)
        chain.add(LOSS, lost(low, high))
        return chain.records

    def next_with_loss(names: int, digest: bytes, low: int, high: int) -> list[bytes]:
        chain = begin(SECOND, counter=2, m4=[FIRST, names, digest])
        chain.add(LOSS, lost(low, high, FIRST))
        return chain.records

    declared = "DECLARED_LOST"
    records = ending_with_loss(2, 1, 2)
    yield case("lost/declared", "What is absent is declared lost.", [records[0], records[3]], "AA",
               absent=[(FIRST, declared, 1, 2)])  # fmt: skip
    records = ending_with_loss(4, 2, 3)
    yield case("lost/partly", "A LOSS names some of what is absent.", [records[0], records[5]], "AA",
               absent=[(FIRST, "MISSING", 1, 1), (FIRST, declared, 2, 3), (FIRST, "MISSING", 4, 4)])  # fmt: skip
    records = ending_with_loss(3, 1, 3)
    yield case("lost/but-held", "One of the records that were lost is held.", [records[0], records[2], records[4]],
               "AAA", absent=[(FIRST, declared, 1, 1), (FIRST, declared, 3, 3)])  # fmt: skip
    yield case("lost/nothing", "All records that were lost are held.", records, "AAAAA", wholly=True)
    records = ending_with_loss(2, 1, 2)
    chain = begin()
    chain.append(records[1])
    chain.append(records[2])
    chain.append(_flipped(records[3]))
    after = chain.make(EVENT, event())
    yield case("lost/altered", "A LOSS with a wrong signature declares nothing.", [records[0], chain.records[3], after],
               "AXA", absent=[(FIRST, "MISSING", 1, 3)])  # fmt: skip
    chain = _line(3)
    both = {FIRST: OPEN, SECOND: OPEN}
    yield case("lost/end", "A LOSS in the next chain names the end of the chain before.",
               [*chain.records[:2], *next_with_loss(3, chain.prev, 2, 3)], "AAAA",
               absent=[(FIRST, declared, 2, 3)], tail=both)  # fmt: skip
    yield case("lost/part-of-the-end", "A LOSS in the next chain names a part of the end of the chain before.",
               [*chain.records[:2], *next_with_loss(3, chain.prev, 2, 2)], "AAAA",
               absent=[(FIRST, declared, 2, 2), (FIRST, TRUNCATED, 3, 3)],
               tail={FIRST: TRUNCATED, SECOND: OPEN})  # fmt: skip
    yield case("lost/middle", "A LOSS in the next chain names what is absent within the chain before.",
               [chain.records[0], *chain.records[2:], *next_with_loss(3, chain.prev, 1, 1)], "AAAAA",
               absent=[(FIRST, declared, 1, 1)], tail=both)  # fmt: skip
    other = begin(SECOND, identity=OTHER_GATEWAY, session=NEXT_SESSION, issuer=LINE_5)
    other.add(LOSS, lost(1, 1, FIRST))
    yield case("lost/by-another-gateway", "Another gateway cannot declare what a gateway has lost.",
               [chain.records[0], *chain.records[2:], *other.records], "AAAAA", trust="line-4 line-5",
               absent=[(FIRST, "MISSING", 1, 1)], tail=both)  # fmt: skip


def _truncated() -> Iterator[Case]:
    chain = _line(3)
    after = begin(SECOND, counter=2, m4=[FIRST, 3, chain.prev]).records
    cut, both = {FIRST: TRUNCATED, SECOND: OPEN}, {FIRST: OPEN, SECOND: OPEN}
    yield case("truncated/not", "The EPOCH of the next chain names the last record held.", [*chain.records, *after],
               "AAAAA", tail=both, wholly=True)  # fmt: skip
    yield case("truncated/end", "The EPOCH of the next chain names a later record than those held.",
               [*chain.records[:2], *after], "AAA", absent=[(FIRST, TRUNCATED, 2, 3)], tail=cut)  # fmt: skip
    yield case("truncated/and-missing", "The end and one before it are absent.",
               [chain.records[0], chain.records[2], *after], "AAA",
               absent=[(FIRST, "MISSING", 1, 1), (FIRST, TRUNCATED, 3, 3)], tail=cut)  # fmt: skip
    yield case("truncated/all", "Of the chain that the EPOCH of the next one names nothing is held.", after, "A",
               absent=[(FIRST, TRUNCATED, 0, 3)], tail={SECOND: OPEN})  # fmt: skip
    stranger = begin(SECOND, identity=STRANGER, m4=[FIRST, 3, chain.prev]).records
    yield case("truncated/by-a-stranger", "The EPOCH of an identity that is not trusted proves nothing.",
               [*chain.records[:2], *stranger], "AAU")  # fmt: skip
    chain = begin()
    chain.add(STOP, HALT)
    stopped = list(chain.records)
    chain.add(CHECKPOINT, checkpoint(chain))
    after = begin(SECOND, counter=3, m4=[FIRST, 2, chain.prev]).records
    yield case("truncated/after-stop", "The EPOCH of the next chain names a record after the STOP.",
               [*stopped, *after], "AAA", absent=[(FIRST, TRUNCATED, 2, 2)], tail=cut)  # fmt: skip


def _tails() -> Iterator[Case]:
    chain = _line(1)
    chain.add(STOP, HALT)
    closed = {FIRST: CLOSED}
    yield case("tails/closed", "The chain ends with STOP.", chain.records, "AAA", tail=closed, wholly=True)
    yield case("tails/closed-and-missing", "The chain ends with STOP, and a record is missing.",
               [chain.records[0], chain.records[2]], "AA", absent=[(FIRST, "MISSING", 1, 1)], tail=closed)  # fmt: skip
    yield case("tails/altered-stop", "A STOP with a wrong signature.",
               [*chain.records[:2], _flipped(chain.records[2])], "AAX")  # fmt: skip
    chain.add(CHECKPOINT, checkpoint(chain, session=NEXT_SESSION))
    chain.session = NEXT_SESSION
    chain.add(EVENT, event(3))
    yield case("tails/restart", "The chain goes on after a STOP.", chain.records, "AAAAA", wholly=True)
    chain = _changed()
    chain.add(STOP, HALT)
    yield case("tails/unverifiable-stop", "A STOP whose key is lost closes nothing.",
               [chain.records[0], chain.records[2]], "A?")  # fmt: skip


def _counters() -> Iterator[Case]:
    def chain(first: int, second: int) -> list[bytes]:
        line = begin(counter=first)
        line.add(CHECKPOINT, checkpoint(line, second))
        return line.records

    def next_chain(counter: int) -> list[bytes]:
        line = _line(1)
        return [*line.records, *begin(SECOND, counter=counter, m4=[FIRST, 1, line.prev]).records]

    both = {FIRST: OPEN, SECOND: OPEN}
    yield case("counters/in-a-chain", "Identity signatures 7 and 8; what was before the first one held is not asked.",
               chain(7, 8), "AA", wholly=True)  # fmt: skip
    yield case("counters/gap", "Identity signature 3 follows 1, and no record is absent.", chain(1, 3), "AA")
    yield case("counters/twice", "Identity signature 1 twice.", chain(1, 1), "AA")
    yield case("counters/back", "Identity signature 4 follows 5.", chain(5, 4), "AA")
    yield case("counters/next-chain", "The counter goes on in the next chain.", next_chain(2), "AAA", tail=both,
               wholly=True)  # fmt: skip
    yield case("counters/gap-between-chains", "An identity signature is missing between two chains.", next_chain(3),
               "AAA", tail=both)  # fmt: skip
    yield case("counters/begins-again", "The counter begins again in the next chain.", next_chain(1), "AAA",
               tail=both)  # fmt: skip
    line = _line(1)
    renewed = begin(SECOND, identity=SECOND_IDENTITY, m3=4, m4=[FIRST, 1, line.prev])
    yield case("counters/identity-renewed", "The next chain has another identity, with a counter of its own.",
               [*line.records, *renewed.records], "AAA", trust="line-4 line-4-second", tail=both,
               wholly=True)  # fmt: skip
