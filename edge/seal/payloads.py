"""Payloads of all records except DATA and CATALOG. Times are UTC nanoseconds unless a name says otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, NamedTuple

from edge.clock import TimeQuality, TimeSource, TimeState
from edge.seal.cbor import (
    I64,
    U64,
    Plain,
    Unknown,
    as_array,
    as_bytes,
    as_elements,
    as_enum,
    as_fields,
    as_int,
    as_plain,
    as_text,
    optional,
)
from edge.seal.keys import PublicKey
from edge.seal.record import Head, Malformed, RecordType


class EpochReason(IntEnum):
    """Why a new chain was started."""

    INSTALL = 1
    STORE_LOST = 2
    ROLLBACK_SUSPECTED = 3
    IDENTITY_RENEWED = 4
    OPERATOR = 5


class LossReason(IntEnum):
    """Why records were dropped before delivery."""

    BUFFER_FULL = 1
    CORRUPT = 2
    TOO_OLD = 3


class Severity(IntEnum):
    """How urgent an event is, as a log level would be."""

    INFO = 1
    WARNING = 2
    ERROR = 3


class StopReason(IntEnum):
    """Why a gateway stopped."""

    OPERATOR = 1
    UPDATE = 2
    FAULT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """The first record of a chain: who signs it, with what, and why it began."""

    type: ClassVar = RecordType.EPOCH
    session: PublicKey
    certificates: tuple[bytes, ...] = ()
    reason: EpochReason = EpochReason.INSTALL
    previous: Head | None = None
    version: str = ""
    build_hash: bytes = b""
    config_hash: bytes = b""
    boot_id: bytes = b""
    hardware: Mapping[str, str] = field(default_factory=dict)
    time: TimeQuality
    counter: int

    def to_cbor(self) -> dict[int, object]:
        """The numbered members."""
        previous = None if self.previous is None else [self.previous.epoch, self.previous.seq, self.previous.hash]
        return {
            1: self.session.cose(), 2: list(self.certificates), 3: int(self.reason), 4: previous, 5: self.version,
            6: self.build_hash, 7: self.config_hash, 8: self.boot_id, 9: dict(self.hardware),
            10: time_to_cbor(self.time), 11: self.counter,
        }  # fmt: skip

    @classmethod
    def from_cbor(cls, value: object, unknown: Unknown) -> Epoch:
        """From the numbered members. Raises Malformed."""
        f = as_fields(value, 11, unknown)
        if type(f[9]) is not dict:
            raise Malformed("a map of hardware identifiers was expected")
        return cls(
            session=PublicKey.from_cose(f[1]), certificates=tuple(as_bytes(each) for each in as_array(f[2])),
            reason=as_enum(EpochReason, f[3], unknown), previous=optional(_head, f[4], unknown), version=as_text(f[5]),
            build_hash=as_bytes(f[6]), config_hash=as_bytes(f[7]), boot_id=as_bytes(f[8]),
            hardware={as_text(name): as_text(value) for name, value in f[9].items()},
            time=time_from_cbor(f[10], unknown),
            counter=as_int(f[11]),
        )  # fmt: skip


def _head(value: object, unknown: Unknown) -> Head:
    epoch, seq, digest = as_elements(value, 3, unknown)
    return Head(as_bytes(epoch, 8), as_int(seq), as_bytes(digest, 32))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """The next session key: it signs what follows."""

    type: ClassVar = RecordType.KEY
    session: PublicKey
    time: TimeQuality

    def to_cbor(self) -> dict[int, object]:
        """The numbered members."""
        return {1: self.session.cose(), 2: time_to_cbor(self.time)}

    @classmethod
    def from_cbor(cls, value: object, unknown: Unknown) -> KeyChange:
        """From the numbered members. Raises Malformed."""
        f = as_fields(value, 2, unknown)
        return cls(session=PublicKey.from_cose(f[1]), time=time_from_cbor(f[2], unknown))


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferState:
    """The state of the gateway's buffer: the oldest seq held, bytes held, records not yet delivered."""

    oldest: int = 0
    size_bytes: int = 0
    undelivered: int = 0


EMPTY_BUFFER = BufferState()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The identity vouches for everything before: `size` is its own seq, `head` the hash of the record before."""

    type: ClassVar = RecordType.CHECKPOINT
    size: int
    head: bytes
    session: PublicKey
    time: TimeQuality
    buffer: BufferState
    counter: int

    def to_cbor(self) -> dict[int, object]:
        """The numbered members."""
        held = self.buffer
        return {
            1: self.size, 2: self.head, 3: self.session.cose(), 4: time_to_cbor(self.time),
            5: {1: held.oldest, 2: held.size_bytes, 3: held.undelivered}, 6: self.counter,
        }  # fmt: skip

    @classmethod
    def from_cbor(cls, value: object, unknown: Unknown) -> Checkpoint:
        """From the numbered members. Raises Malformed."""
        f = as_fields(value, 6, unknown)
        held = as_fields(f[5], 3, unknown)
        return cls(
            size=as_int(f[1]), head=as_bytes(f[2], 32), session=PublicKey.from_cose(f[3]),
            time=time_from_cbor(f[4], unknown),
            buffer=BufferState(oldest=as_int(held[1]), size_bytes=as_int(held[2]), undelivered=as_int(held[3])),
            counter=as_int(f[6]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, such as `device.down`; `data` holds plain values under text keys."""

    type: ClassVar = RecordType.EVENT
    at_ns: int
    kind: str
    severity: Severity = Severity.INFO
    subject: str = ""
    data: Mapping[str, Plain] = field(default_factory=dict)

    def to_cbor(self) -> dict[int, object]:
        """The numbered members."""
        return {1: self.at_ns, 2: self.kind, 3: int(self.severity), 4: self.subject, 5: as_plain(dict(self.data))}

    @classmethod
    def from_cbor(cls, value: object, unknown: Unknown) -> Event:
        """From the numbered members. Raises Malformed."""
        f = as_fields(value, 5, unknown)
        data = as_plain(f[5])
        if not isinstance(data, dict):
            raise Malformed("a map of event data was expected")
        return cls(
            at_ns=as_int(f[1], I64), kind=as_text(f[2]), severity=as_enum(Severity, f[3], unknown),
            subject=as_text(f[4]),
            data=data,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Records that were sealed and then dropped before delivery, first and last included.

    Attributes:
        records: how many of that range were lost: fewer than its length when some had been delivered.
        hash_of_last: hash of the last one, empty where it is no longer known.
        epoch: the chain they belonged to, where that is not the chain of this record.
    """

    type: ClassVar = RecordType.LOSS
    first: int
    last: int
    from_ns: int | None
    to_ns: int | None
    records: int
    readings: int | None
    reason: LossReason
    hash_of_last: bytes = b""
    epoch: bytes | None = None

    def to_cbor(self) -> dict[int, object]:
        """The numbered members."""
        members: dict[int, object] = {
            1: self.first, 2: self.last, 3: self.from_ns, 4: self.to_ns, 5: self.records, 6: self.readings,
            7: int(self.reason), 8: self.hash_of_last,
        }  # fmt: skip
        return members if self.epoch is None else {**members, 9: self.epoch}

    @classmethod
    def from_cbor(cls, value: object, unknown: Unknown) -> Loss:
        """From the numbered members. Raises Malformed."""
        f = as_fields(value, 8, unknown, more=1)
        first, last = as_int(f[1]), as_int(f[2])
        if first > last:
            raise Malformed(f"a loss from {first} to {last} is empty")
        return cls(
            first=first, last=last, from_ns=optional(as_int, f[3], I64), to_ns=optional(as_int, f[4], I64),
            records=as_int(f[5]), readings=optional(as_int, f[6]), reason=as_enum(LossReason, f[7], unknown),
            hash_of_last=as_bytes(f[8]), epoch=as_bytes(f[9], 8) if 9 in f else None,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """An interval without readings of one scan group, or of all when `group` is None; sealed again with its end."""

    type: ClassVar = RecordType.GAP
    group: int | None
    from_ns: int
    to_ns: int | None
    status: int
    detail: str = ""

    def to_cbor(self) -> dict[int, object]:
        """The numbered members."""
        return {1: self.group, 2: self.from_ns, 3: self.to_ns, 4: self.status, 5: self.detail}

    @classmethod
    def from_cbor(cls, value: object, unknown: Unknown) -> Gap:
        """From the numbered members. Raises Malformed."""
        f = as_fields(value, 5, unknown)
        return cls(
            group=optional(as_int, f[1]), from_ns=as_int(f[2], I64), to_ns=optional(as_int, f[3], I64),
            status=as_int(f[4], (0, 2**32 - 1)), detail=as_text(f[5]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeChange:
    """A step of the clock or a change of its quality; a correction applies to a range of boot time."""

    type: ClassVar = RecordType.TIME
    before: TimeQuality
    after: TimeQuality
    step_ns: int = 0
    corrected_boot_ns: tuple[int, int] | None = None
    correction_ns: int | None = None
    bound_after_ns: int | None = None

    def to_cbor(self) -> dict[int, object]:
        """The numbered members."""
        corrected = None if self.corrected_boot_ns is None else list(self.corrected_boot_ns)
        return {
            1: time_to_cbor(self.before), 2: time_to_cbor(self.after), 3: self.step_ns, 4: corrected,
            5: self.correction_ns, 6: self.bound_after_ns,
        }  # fmt: skip

    @classmethod
    def from_cbor(cls, value: object, unknown: Unknown) -> TimeChange:
        """From the numbered members. Raises Malformed."""
        f = as_fields(value, 6, unknown)
        corrected = optional(as_elements, f[4], 2, unknown)
        return cls(
            before=time_from_cbor(f[1], unknown), after=time_from_cbor(f[2], unknown), step_ns=as_int(f[3], I64),
            corrected_boot_ns=(as_int(corrected[0], I64), as_int(corrected[1], I64)) if corrected else None,
            correction_ns=optional(as_int, f[5], I64), bound_after_ns=optional(as_int, f[6]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChange:
    """A configuration taken into use; a change is (path, old, new) as written in the file.

    Attributes:
        kept: the configuration itself, or a part of it; further parts follow in records of their own, without changes.
    """

    type: ClassVar = RecordType.CONFIG
    at_ns: int
    account: str
    role: str = ""
    key_id: bytes = b""
    why: str = ""
    old_hash: bytes
    new_hash: bytes
    changes: tuple[tuple[str, str, str], ...] = ()
    approval: bytes | None = None
    kept: KeptPart | None = None

    def to_cbor(self) -> dict[int, object]:
        """The numbered members."""
        members: dict[int, object] = {
            1: self.at_ns, 2: {1: self.account, 2: self.role, 3: self.key_id}, 3: self.why, 4: self.old_hash,
            5: self.new_hash, 6: [list(change) for change in self.changes], 7: self.approval,
        }  # fmt: skip
        return members if self.kept is None else {**members, 8: list(self.kept)}

    @classmethod
    def from_cbor(cls, value: object, unknown: Unknown) -> ConfigChange:
        """From the numbered members. Raises Malformed."""
        f = as_fields(value, 7, unknown, more=1)
        who = as_fields(f[2], 3, unknown)
        changes = [as_elements(change, 3, unknown) for change in as_array(f[6])]
        return cls(
            at_ns=as_int(f[1], I64), account=as_text(who[1]), role=as_text(who[2]), key_id=as_bytes(who[3]),
            why=as_text(f[3]), old_hash=as_bytes(f[4]), new_hash=as_bytes(f[5]),
            changes=tuple((as_text(path), as_text(old), as_text(new)) for path, old, new in changes),
            approval=optional(as_bytes, f[7]), kept=_kept_part(f[8], unknown) if 8 in f else None,
        )  # fmt: skip


class KeptPart(NamedTuple):
    """A part of a configuration that is on record: its number from 0, of how many, JSON in gzip, and all changes.

    `changes` is how many there are, also those that found no room; None where the one before was not kept.
    """

    part: int
    parts: int
    packed: bytes
    changes: int | None


def _kept_part(value: object, unknown: Unknown) -> KeptPart | None:
    """The part, or None for a value that only a later version knows: this member is newer than the format."""
    try:
        part, parts, packed, changes = as_elements(value, 4, unknown)
        found = KeptPart(as_int(part), as_int(parts), as_bytes(packed), optional(as_int, changes))
        if found.part < found.parts:
            return found
    except Malformed:
        pass
    unknown.skip("member 8", value)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A clean end: no record follows until the gateway is started again."""

    type: ClassVar = RecordType.STOP
    reason: StopReason = StopReason.OPERATOR
    time: TimeQuality

    def to_cbor(self) -> dict[int, object]:
        """The numbered members."""
        return {1: int(self.reason), 2: time_to_cbor(self.time)}

    @classmethod
    def from_cbor(cls, value: object, unknown: Unknown) -> Stop:
        """From the numbered members. Raises Malformed."""
        f = as_fields(value, 2, unknown)
        return cls(reason=as_enum(StopReason, f[1], unknown), time=time_from_cbor(f[2], unknown))


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What one unit was doing (ISA-88), from a change on: the change was after `from_ns` and not after `to_ns`.

    Attributes:
        number: the seq of the record that said so first; blocks name the context by it.
        members: member, such as `batch`, and its text: empty where it was read and blank, None where it is not known.
        sources: member, and the device and tag that it is read from.
    """

    type: ClassVar = RecordType.CONTEXT
    number: int
    unit: str
    members: Mapping[str, str | None]
    from_ns: int
    to_ns: int
    sources: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def to_cbor(self) -> dict[int, object]:
        """The numbered members."""
        sources = {member: list(source) for member, source in self.sources.items()}
        return {1: self.number, 2: self.unit, 3: dict(self.members), 4: self.from_ns, 5: self.to_ns, 6: sources}

    @classmethod
    def from_cbor(cls, value: object, unknown: Unknown) -> Context:
        """From the numbered members. Raises Malformed."""
        f = as_fields(value, 6, unknown)
        members, sources = f[3], f[6]
        if type(members) is not dict or type(sources) is not dict:
            raise Malformed("maps of members and their sources were expected")
        pairs = {as_text(member): as_elements(source, 2, unknown) for member, source in sources.items()}
        return cls(
            number=as_int(f[1], (1, U64[1])), unit=as_text(f[2]),
            members={as_text(member): optional(as_text, text) for member, text in members.items()},
            from_ns=as_int(f[4], I64), to_ns=as_int(f[5], I64),
            sources={member: (as_text(device), as_text(tag)) for member, (device, tag) in pairs.items()},
        )  # fmt: skip


def time_to_cbor(time: TimeQuality) -> dict[int, object]:
    """The numbered members of a time quality."""
    return {
        1: int(time.source), 2: int(time.state), 3: time.bound_ns, 4: time.drift_ppb, 5: time.as_of_ns,
        6: time.offset_ns, 7: time.leap, 8: time.utc_tai_s, 9: time.reference, 10: time.stratum, 11: time.accuracy,
        12: time.boot_id,
    }  # fmt: skip


def time_from_cbor(value: object, unknown: Unknown) -> TimeQuality:
    """The time quality from its numbered members. Raises Malformed."""
    f = as_fields(value, 12, unknown)
    return TimeQuality(
        source=as_enum(TimeSource, f[1], unknown), state=as_enum(TimeState, f[2], unknown),
        bound_ns=optional(as_int, f[3]),
        drift_ppb=as_int(f[4]), as_of_ns=as_int(f[5], I64), offset_ns=as_int(f[6], I64), leap=as_int(f[7]),
        utc_tai_s=optional(as_int, f[8], I64), reference=as_bytes(f[9]), stratum=as_int(f[10]),
        accuracy=optional(as_int, f[11]), boot_id=as_bytes(f[12]),
    )  # fmt: skip


_P256_KEY = rb"\xa4\x01\x02\x20\x01\x21\x58\x20.{32}\x22\x58\x20.{32}"
_ED25519_KEY = rb"\xa3\x01\x01\x20\x06\x21\x58\x20.{32}"
# The map of 11 members or more begins with 1: COSE_Key, 2: list of at most 8 certificates.
_START = re.compile(
    rb"(?:[\xab-\xb7]|\xb8.|\xb9..)\x01(?:" + _P256_KEY + rb"|" + _ED25519_KEY + rb")\x02([\x80-\x88])", re.DOTALL
)
_SIZES = {0x58: 1, 0x59: 2}


def certificates_of_epoch(payload: bytes) -> list[bytes]:
    """The certificates in the payload of an EPOCH, leaf first; empty when it has another shape.

    They are read before the signature of the EPOCH is verified.
    """
    start = _START.match(payload)
    if start is None:
        return []
    found = []
    at = start.end()
    for _ in range(start[1][0] - 0x80):
        size_bytes = _SIZES.get(payload[at] if at < len(payload) else 0)
        if size_bytes is None:
            return []
        begin = at + 1 + size_bytes
        at = begin + int.from_bytes(payload[at + 1 : begin], "big")
        found.append(payload[begin:at])
    return found
