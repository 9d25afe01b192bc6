"""Mutate the records of a chain in many ways, and count the mutations that the verifier does not detect."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edge.seal import Record, RecordType, parse
from edge.seal.cose import build, header_start, protected_and_payload, signed_bytes
from edge.seal.keys import ORDER, SigningKey
from edge.seal.record import Encoding
from edge.verify import RangeVerdict, Trust, Verdict, Verifier
from tests.support.chains import Plant, grow, new_identity, start

CHAIN_RECORDS = 160
STRUCTURAL_SHARE = 50  # One mutation of this many acts on a whole delivery: it costs a whole verification.
DELIVERY_RECORDS = 45

_HARMLESS = {Verdict.AUTHENTIC, Verdict.LINKED}


@dataclass
class Attack:
    """The chain under attack, the other chains and keys that the attacker has, and the source of randomness."""

    victim: Plant
    others: Sequence[Plant]
    session_keys: Sequence[SigningKey]
    dice: random.Random

    @property
    def trust(self) -> Trust:
        """The gateway under attack, and the others."""
        trust = self.victim.trust
        for other in self.others:
            trust.pin(other.identity.public, other.chain.issuer)
        return trust


@dataclass
class Result:
    """The number of mutations of each kind, those that were not detected, and false alarms."""

    tried: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    undetected: list[str] = field(default_factory=list)
    false_alarms: list[str] = field(default_factory=list)


Mutation = Callable[[Attack, bytes], bytes]


def flip(attack: Attack, record: bytes) -> bytes:
    """One bit flipped."""
    at = attack.dice.randrange(len(record))
    return record[:at] + bytes((record[at] ^ 1 << attack.dice.randrange(8),)) + record[at + 1 :]


def insert(attack: Attack, record: bytes) -> bytes:
    """A few bytes inserted."""
    at = attack.dice.randrange(len(record) + 1)
    return record[:at] + attack.dice.randbytes(attack.dice.randint(1, 4)) + record[at:]


def delete(attack: Attack, record: bytes) -> bytes:
    """A few bytes deleted."""
    at = attack.dice.randrange(len(record))
    return record[:at] + record[at + attack.dice.randint(1, 4) :]


def _other(record: bytes, choices: Sequence[bytes], dice: random.Random) -> bytes:
    return dice.choice([each for each in choices if each != record])


def edit(attack: Attack, record: bytes) -> bytes:
    """One field changed, everything encoded again, the signature kept."""
    frame, dice = parse(record), attack.dice
    changed = dice.choice(["type", "epoch", "seq", "prev", "kid", "issuer", "payload", "signature", "alg"])
    kind = dice.choice([each for each in RecordType if each not in (frame.type, RecordType.EPOCH)])
    header = header_start(
        dice.choice([-9, -19]) if changed == "alg" else frame.alg,
        dice.randbytes(8) if changed == "kid" else frame.kid,
        frame.issuer + "x" if changed == "issuer" else frame.issuer,
        kind if changed == "type" else frame.type,
        dice.randbytes(8) if changed == "epoch" else frame.epoch,
    )
    s = int.from_bytes(frame.signature[32:], "big")
    signature = frame.signature[:32] + (ORDER - s).to_bytes(32, "big") if changed == "signature" else frame.signature
    payload = bytearray(frame.payload)
    if changed == "payload":
        payload[dice.randrange(len(payload))] ^= 1 << dice.randrange(8)
    parts = protected_and_payload(
        header,
        frame.seq + dice.choice([-1, 1, 1000]) if changed == "seq" and frame.seq else frame.seq,
        dice.randbytes(32) if changed == "prev" or (changed == "seq" and not frame.seq) else frame.prev,
        Encoding.PLAIN,
        bytes(payload),
    )
    return build(*parts, signature)


def splice(attack: Attack, record: bytes) -> bytes:
    """A record of another chain in this place, with its own header or with that of this place."""
    frame, dice = parse(record), attack.dice
    donor = parse(dice.choice(dice.choice(attack.others).records[1:]).data)
    if dice.random() < 0.5:
        header = header_start(donor.alg, donor.kid, frame.issuer, donor.type, frame.epoch)
    else:
        header = header_start(frame.alg, frame.kid, frame.issuer, donor.type, frame.epoch)
    seq, prev = (frame.seq, frame.prev) if frame.seq else (1, dice.randbytes(32))
    return build(*protected_and_payload(header, seq, prev, Encoding.PLAIN, donor.payload), donor.signature)


def swap_key(attack: Attack, record: bytes) -> bytes:
    """Other content with a valid signature of another key, under the id of that key or of the right one."""
    frame, dice = parse(record), attack.dice
    key = dice.choice(attack.session_keys)
    if not frame.type.is_identity_signed and dice.random() < 0.2:
        signer, kid = attack.victim.identity.sign, attack.victim.identity.key_id
    else:
        signer, kid = key.sign, key.public.kid
    kid = kid if dice.random() < 0.5 else frame.kid
    header = header_start(frame.alg, kid, frame.issuer, frame.type, frame.epoch)
    parts = protected_and_payload(header, frame.seq, frame.prev, Encoding.PLAIN, frame.payload)
    return build(*parts, signer(signed_bytes(*parts)))


def replay(attack: Attack, record: bytes) -> bytes:
    """An earlier record once more."""
    return _other(record, [each.data for each in attack.victim.records], attack.dice)


MUTATIONS: dict[str, Mutation] = {
    each.__name__: each for each in (flip, insert, delete, edit, splice, swap_key, replay)
}  # fmt: skip


def attack_record(attack: Attack, record: Record, count: int, result: Result) -> None:
    """Add mutations of a record where it is missing; the record itself must be accepted afterwards."""
    held = {each.data for each in attack.victim.records if each is not record}
    verifier = Verifier(attack.trust)
    for each in attack.victim.records:
        if each is not record:
            verifier.add(each.data)
    before = _state_of(verifier, record)
    names = list(MUTATIONS)
    for _ in range(count):
        name = attack.dice.choice(names)
        mutated = MUTATIONS[name](attack, record.data)
        if mutated == record.data:
            continue
        verdicts = [each.verdict for each in verifier.add(mutated)]
        result.tried[name] += 1
        result.verdicts[verdicts[0]] += 1
        if _HARMLESS.intersection(verdicts) or (verdicts[0] is Verdict.DUPLICATE and mutated not in held):
            repeated = verdicts[0] is Verdict.DUPLICATE and _was_rejected(verifier, mutated)
            if not repeated:
                result.undetected.append(f"{name} of record {record.seq}: {verdicts}: {mutated.hex()}")
    if _state_of(verifier, record) != before:
        result.undetected.append(f"attacks on record {record.seq} changed what is missing")
    verdict = verifier.add(record.data)[0].verdict
    if verdict is not Verdict.AUTHENTIC or any(each.epoch == record.epoch for each in verifier.missing()):
        result.false_alarms.append(f"record {record.seq} was called {verdict} after attacks on it")


def _was_rejected(verifier: Verifier, mutated: bytes) -> bool:
    # Two random mutations may give the same bytes; the second one is a duplicate of what was rejected.
    return verifier.add(mutated)[0].verdict is Verdict.DUPLICATE


def _state_of(verifier: Verifier, record: Record) -> object:
    return [each for each in verifier.missing() if each.epoch == record.epoch]


def attack_delivery(attack: Attack, result: Result) -> None:
    """Drop, duplicate and swap records of a delivery: the report names exactly what is missing, and nothing else."""
    dice = attack.dice
    records = list(attack.victim.records[:DELIVERY_RECORDS])
    kind = dice.choice(["drop", "duplicate", "swap", "untouched"])
    result.tried[kind] += 1
    dropped: set[int] = set()
    if kind == "drop":
        # Without its first record a chain has no key yet, and what is after its last one is unknown, not missing.
        dropped = {each.seq for each in dice.sample(records[1:-1], dice.randint(1, 5))}
        records = [each for each in records if each.seq not in dropped]
    elif kind == "duplicate":
        records += dice.choices(records, k=3)
    if kind != "untouched" or dice.random() < 0.5:
        dice.shuffle(records)
    verifier = Verifier(attack.trust)
    for each in records:
        verifier.add(each.data)
    _check_delivery(verifier, dropped, kind, result)


def _check_delivery(verifier: Verifier, dropped: set[int], kind: str, result: Result) -> None:
    missing = {seq for each in verifier.missing() for seq in range(each.first, each.last + 1)}
    report = verifier.report()
    expected = {seq for seq in dropped if seq < report.epochs[0].held[-1][1]}
    named = {each.verdict for each in verifier.missing()} <= {RangeVerdict.MISSING}
    if missing != expected or not named:
        (result.undetected if expected - missing else result.false_alarms).append(
            f"{kind}: dropped {sorted(dropped)}, reported {sorted(missing)}"
        )
    if report.is_wholly_authentic() != (not dropped):
        (result.undetected if dropped else result.false_alarms).append(f"{kind}: {report.text()}")


def run(count: int, seed: int) -> Result:
    """Try `count` mutations."""
    dice = random.Random(seed)
    identity = new_identity()
    sessions: list[SigningKey] = [SigningKey.generate() for _ in range(3)]
    victim = grow(start(identity=identity), CHAIN_RECORDS)
    others = [grow(start(identity=identity), 40), grow(start("line-5"), 40)]
    sessions += [other.chain.session for other in others]
    attack = Attack(victim, others, sessions, dice)
    result = Result()
    for _ in range(count // STRUCTURAL_SHARE):
        attack_delivery(attack, result)
    each_count, rest = divmod(count - count // STRUCTURAL_SHARE, len(victim.records))
    for number, record in enumerate(victim.records):
        attack_record(attack, record, each_count + (number < rest), result)
    return result
