"""Resumes the chain after a stop, a crash or a power cut, or starts a new one that says why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice, pairwise

from edge.buffer import Reader, Store
from edge.clock import TimeQuality
from edge.errors import ChainBroken
from edge.seal import (
    Chain,
    ChainRules,
    Checkpoint,
    ConfigChange,
    Data,
    Envelope,
    Epoch,
    EpochReason,
    Event,
    Gap,
    Garbage,
    Head,
    IdentityKey,
    KeyChange,
    Malformed,
    Origin,
    PublicKey,
    Record,
    RecordType,
    Stop,
    TimeChange,
    decode_frame,
    parse,
)

KEY_ROTATED = "key.rotated"
"""The event with which an identity key announces the next one."""

_STEP_RECORDS = 64
_READ_BYTES = 1 << 20
_SIGNATURES_CHECKED = 2
_LOOK_BACK_NS = 60 * 10**9  # Far more than a reading waits for its record.
_WITH_KEY = (RecordType.EPOCH, RecordType.KEY, RecordType.CHECKPOINT)


class _SignedByAnother(ChainBroken):
    """The records are those of another key than the gateway's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeResult:
    """How the chain continues.

    Attributes:
        chain: the chain that seals from now on.
        first: the EPOCH or CHECKPOINT that begins this run.
        stopped_at_ns: UTC of the last sign of life of the previous run; None where there was no run.
        was_clean: whether the previous run sealed a STOP.
        unread_since_ns: for each scan group, by its number in the previous run, UTC of its last reading on disk, or of
            an earlier record since which it has none. Empty after a STOP, and where a new chain begins.
        broken: why the previous chain is not extended; empty if it is, or if there was no chain.
        is_restored: whether it is not extended because it is of an earlier time, or a copy.
        never_stored: (first, last) seq of records of this chain that a full disk refused, to be declared lost.
    """

    chain: Chain
    first: Record
    stopped_at_ns: int | None = None
    was_clean: bool = False
    unread_since_ns: Sequence[int] = ()
    broken: str = ""
    is_restored: bool = False
    never_stored: tuple[tuple[int, int], ...] = ()


def resume_chain(
    store: Store, reader: Reader, identity: IdentityKey, *, issuer: str, time: TimeQuality, origin: Origin,
    rules: ChainRules, is_new_identity: bool, groups: int,
) -> ResumeResult:  # fmt: skip
    """Extend the chain on disk if its tail is intact and ours; otherwise start a new one that says why.

    `groups` is how many scan groups are looked for. The caller stores the EPOCH or CHECKPOINT, and saves the identity's
    counter after that.
    """
    now_ns = time.as_of_ns
    tail = store.recovery.tail
    is_new_identity = is_new_identity or identity.counter.last == 0  # The key may have been made elsewhere.
    if not tail:
        doubt = "" if is_new_identity else identity.counter.doubt
        reason = EpochReason.INSTALL if is_new_identity else EpochReason.STORE_LOST
        if doubt:
            reason = EpochReason.ROLLBACK_SUSPECTED
        chain, first = Chain.start(
            identity, issuer=issuer, time=time, now_boot_ns=now_ns, reason=reason, origin=origin, rules=rules
        )
        return ResumeResult(chain=chain, first=first, broken=doubt, is_restored=bool(doubt))
    newest = _since_identity_signed(reader, tail[-1].number)
    stopped_at_ns, was_clean = _last_sign_of_life([data for _, data in newest] or [record.data for record in tail])
    try:
        previous = _extendable(store, [data for _, data in newest], identity, issuer)
    except ChainBroken as error:
        is_restored = isinstance(error, _Restored)
        if store.recovery.is_tail_lost and not is_restored:
            reason = EpochReason.STORE_LOST
        else:
            is_renewed = is_new_identity and not is_restored
            reason = EpochReason.IDENTITY_RENEWED if is_renewed else EpochReason.ROLLBACK_SUSPECTED
        last = tail[-1]
        if not (store.recovery.is_tail_lost or is_restored) and len(newest) > 1:
            # The readings of the last record are not believed.
            stopped_at_ns, _ = _last_sign_of_life([data for _, data in newest[:-1]])
        previous = Head(last.epoch, last.seq, sha256(last.data).digest())
        chain, first = Chain.start(
            identity, issuer=issuer, time=time, now_boot_ns=now_ns, reason=reason, previous=previous, origin=origin,
            rules=rules,
        )  # fmt: skip
        return ResumeResult(
            chain=chain, first=first, stopped_at_ns=stopped_at_ns, was_clean=was_clean,
            broken=_why_broken(error, reason, reader, last.number, identity), is_restored=is_restored,
        )  # fmt: skip
    chain, first = Chain.resume(identity, previous, issuer=issuer, time=time, now_boot_ns=now_ns, rules=rules)
    unread_since_ns: Sequence[int] = ()
    if stopped_at_ns is not None and not was_clean:
        unread_since_ns = _unread_since(_backwards(reader, tail[-1].number), groups, stopped_at_ns)
    return ResumeResult(
        chain=chain, first=first, stopped_at_ns=stopped_at_ns, was_clean=was_clean, unread_since_ns=unread_since_ns,
        never_stored=_never_stored(newest),
    )  # fmt: skip


def _why_broken(error: ChainBroken, reason: EpochReason, reader: Reader, last: int, identity: IdentityKey) -> str:
    """Why the chain before is not extended; empty where its own end announces this key."""
    if not isinstance(error, _SignedByAnother) or reason is not EpochReason.IDENTITY_RENEWED:
        return str(error)
    for _, data in islice(_backwards(reader, last), _STEP_RECORDS):
        frame = _parsed_or_none(data)
        event = None if frame is None or frame.type is not RecordType.EVENT else _payload_of(frame)
        if (
            isinstance(event, Event)
            and event.kind == KEY_ROTATED
            and event.data.get("fingerprint") == identity.fingerprint
        ):
            return ""
    return (
        f"{error}: the key was lost or replaced; give the public key of the new one to the relay and verifiers "
        "(tidegate keys identity public CONFIG)"
    )


class _Restored(ChainBroken):
    """The chain on disk is of an earlier time, or a copy: somewhere else it may have gone on."""


def _extendable(store: Store, records: Sequence[bytes], identity: IdentityKey, issuer: str) -> Head:
    """The head to extend; ChainBroken says why there is none."""
    counted = _last_count(identity, records[0]) if records else None
    known = identity.counter.last
    if counted is not None:  # A crash may have kept the record and not the counter.
        identity.counter.raise_to(counted)
        if identity.counter.doubt:
            raise _Restored(identity.counter.doubt)
    if store.recovery.is_tail_lost:
        raise ChainBroken("records after the last one on disk are known to have existed")
    head = checked_head(records, identity.public, issuer)
    if counted is not None and known == 0 and counted > 1:
        raise _Restored("the identity counter is lost, so that the buffer may be a copy of an earlier time")
    # Each absent record may have been a CHECKPOINT.
    absent = head.seq + 1 - _parsed(records[0]).seq - len(records)
    if counted is not None and known > counted + absent:
        raise _Restored(
            f"the buffer is of an earlier time: it ends after signature {counted} of the identity, of {known} made"
        )
    return head


def _last_count(identity: IdentityKey, data: bytes) -> int | None:
    """The number that a record gives to the identity's signature; None where that is not its signature."""
    frame = _parsed(data)
    if identity.public.has_signed(frame.alg, frame.signature, frame.signed):
        payload = decode_frame(frame)
        if isinstance(payload, Epoch | Checkpoint):
            return payload.counter
    return None


def checked_head(records: Sequence[bytes], identity: PublicKey, issuer: str) -> Head:
    """The head of a chain that ends with `records`, the first of which is signed by the identity key.

    Hashes are checked between adjacent records, session keys are followed through all of them. Signatures are checked
    of the records that state a key and of the last two.

    Raises:
        ChainBroken: the records are not one chain of this issuer and identity.
    """
    session: PublicKey | None = None
    last: Head | None = None
    for left, data in zip(range(len(records), 0, -1), records, strict=True):
        frame = _parsed(data)
        if frame.issuer != issuer:
            raise ChainBroken(f"the buffer holds records of {frame.issuer}, not of {issuer}")
        if last is not None and not _follows(frame, last):
            raise ChainBroken(f"record {frame.seq} does not follow the one before it")
        key = identity if frame.type.is_identity_signed else session
        is_checked = left <= _SIGNATURES_CHECKED or frame.type in _WITH_KEY
        if key is None or (is_checked and not key.has_signed(frame.alg, frame.signature, frame.signed)):
            raise _SignedByAnother(f"record {frame.seq} is not signed by this gateway's identity or its session key")
        session = _session_after(frame, session)
        last = Head(frame.epoch, frame.seq, sha256(data).digest())
    if last is None:
        raise ChainBroken("no record signed by the identity key was found at the end of the buffer")
    return last


def _follows(frame: Envelope, last: Head) -> bool:
    """Whether a record can come after another. Missing records between them are damage, which is declared as a loss."""
    if frame.epoch != last.epoch or frame.seq <= last.seq:
        return False
    return frame.seq > last.seq + 1 or frame.prev == last.hash


def _parsed(data: bytes) -> Envelope:
    try:
        return parse(data)
    except Garbage as error:
        raise ChainBroken(f"the end of the buffer holds something that is no record: {error}") from error


def _session_after(frame: Envelope, session: PublicKey | None) -> PublicKey | None:
    if frame.type not in _WITH_KEY:
        return session
    try:
        payload = decode_frame(frame)
    except Malformed as error:
        raise ChainBroken(f"record {frame.seq} cannot be read: {error}") from error
    return payload.session if isinstance(payload, Epoch | KeyChange | Checkpoint) else session


def _never_stored(records: Sequence[tuple[int, bytes]]) -> tuple[tuple[int, int], ...]:
    """Seq that were sealed and never stored: they are missing where the numbers have no hole."""
    skipped = (
        (_parsed(one).seq + 1, _parsed(other).seq - 1)
        for (before, one), (number, other) in pairwise(records)
        if number == before + 1
    )
    return tuple((first, last) for first, last in skipped if first <= last)


def _since_identity_signed(reader: Reader, last: int) -> list[tuple[int, bytes]]:
    """(number, bytes) of the records from the last EPOCH or CHECKPOINT to `last`."""
    found: list[tuple[int, bytes]] = []
    for number, data in _backwards(reader, last):
        found.append((number, data))
        frame = _parsed_or_none(data)
        if frame is not None and frame.type.is_identity_signed:
            return found[::-1]
    return []


def _backwards(reader: Reader, last: int) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of the records from `last` to the oldest."""
    end = last + 1
    while end > reader.oldest():
        first = max(reader.oldest(), end - _STEP_RECORDS)
        yield from reversed(_between(reader, first, end))
        end = first


def _between(reader: Reader, first: int, end: int) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    while first < end and (read := reader.read(first, _READ_BYTES)):
        found += [(number, data) for number, data in read if number < end]
        first = read[-1][0] + 1
    return found


def _last_sign_of_life(records: Sequence[bytes]) -> tuple[int | None, bool]:
    """(UTC of the newest record or reading that states a time, whether the last record is a STOP)."""
    last = _parsed_or_none(records[-1])
    frames = map(_parsed_or_none, reversed(records))
    times = (_end_of(frame) for frame in frames if frame is not None)
    was_clean = last is not None and last.type is RecordType.STOP
    return next((utc_ns for utc_ns in times if utc_ns is not None), None), was_clean


def _unread_since(records: Iterable[tuple[int, bytes]], groups: int, stopped_at_ns: int) -> list[int]:
    """See `ResumeResult`; looks at records, newest first, until every group has been found or the run had begun."""
    ends_ns: dict[int, int] = {}
    since_ns = stopped_at_ns
    for _, data in records:
        frame = _parsed_or_none(data)
        payload = None if frame is None else _payload_of(frame)
        if isinstance(payload, Data):
            last_ns = {group: payload.utc_ns + end_ns for group, end_ns in sorted(payload.ends())}
            ends_ns = {**last_ns, **ends_ns}
        if not isinstance(payload, Event):  # It may have happened long before it was sealed.
            since_ns = min(since_ns, _stated_time(payload) or since_ns)
        # Before a change of the configuration groups had other numbers; what was due since then is in the gap.
        is_begin = isinstance(payload, Epoch | ConfigChange) or (isinstance(payload, Gap) and payload.group is None)
        if is_begin or len(ends_ns) >= groups or since_ns < stopped_at_ns - _LOOK_BACK_NS:
            break
    return [ends_ns.get(group, since_ns) for group in range(groups)]


def _parsed_or_none(data: bytes) -> Envelope | None:
    try:
        return parse(data)
    except Garbage:
        return None


def time_of(frame: Envelope) -> int | None:
    """UTC at which a record was sealed, for an EVENT at which it happened, or None where it does not say."""
    return _stated_time(_payload_of(frame))


def _stated_time(payload: object) -> int | None:
    match payload:
        case Data():
            return payload.utc_ns
        case Epoch() | KeyChange() | Checkpoint() | Stop():
            return payload.time.as_of_ns + payload.time.offset_ns
        case Event() | ConfigChange():
            return payload.at_ns
        case TimeChange():
            return payload.after.as_of_ns + payload.after.offset_ns
    return None


def _end_of(frame: Envelope) -> int | None:
    """The same, but UTC of the last reading for DATA: the gap that follows must not cover stored readings.

    An EVENT does not say: it states when something happened, which may be a minute before it was sealed.
    """
    payload = _payload_of(frame)
    if isinstance(payload, Event):
        return None
    return payload.until_ns if isinstance(payload, Data) else _stated_time(payload)


def _payload_of(frame: Envelope) -> object:
    try:
        return decode_frame(frame)
    except Malformed:
        return None
