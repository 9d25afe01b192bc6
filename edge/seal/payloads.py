"""What records other than DATA and CATALOG carry. Times are UTC nanoseconds unless a name says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar

from edge.clock import TimeQuality
from edge.seal.fields import I64, Plain, blob, choice, items, numbered, optional, plain, text, whole
from edge.seal.keys import PublicKey
from edge.seal.record import Head, Malformed, RecordType
from edge.seal.time_quality import time_from_cbor, time_to_cbor


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
    """Why a gateway ended its day."""

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
    def from_cbor(cls, value: object) -> Epoch:
        """From the numbered members, or Malformed."""
        f = numbered(value, 11)
        if type(f[9]) is not dict:
            raise Malformed("a map of hardware identifiers was expected")
        return cls(
            session=PublicKey.from_cose(f[1]), certificates=tuple(blob(each) for each in items(f[2])),
            reason=choice(EpochReason, f[3]), previous=optional(_head, f[4]), version=text(f[5]),
            build_hash=blob(f[6]), config_hash=blob(f[7]), boot_id=blob(f[8]),
            hardware={text(name): text(said) for name, said in f[9].items()}, time=time_from_cbor(f[10]),
            counter=whole(f[11]),
        )  # fmt: skip


def _head(value: object) -> Head:
    epoch, seq, digest = items(value, 3)
    return Head(blob(epoch, 8), whole(seq), blob(digest, 32))


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
    def from_cbor(cls, value: object) -> KeyChange:
        """From the numbered members, or Malformed."""
        f = numbered(value, 2)
        return cls(session=PublicKey.from_cose(f[1]), time=time_from_cbor(f[2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferState:
    """What waits on the gateway's disk: the oldest seq held, bytes held, records not yet delivered."""

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
    def from_cbor(cls, value: object) -> Checkpoint:
        """From the numbered members, or Malformed."""
        f = numbered(value, 6)
        held = numbered(f[5], 3)
        return cls(
            size=whole(f[1]), head=blob(f[2], 32), session=PublicKey.from_cose(f[3]), time=time_from_cbor(f[4]),
            buffer=BufferState(oldest=whole(held[1]), size_bytes=whole(held[2]), undelivered=whole(held[3])),
            counter=whole(f[6]),
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
        return {1: self.at_ns, 2: self.kind, 3: int(self.severity), 4: self.subject, 5: plain(dict(self.data))}

    @classmethod
    def from_cbor(cls, value: object) -> Event:
        """From the numbered members, or Malformed."""
        f = numbered(value, 5)
        data = plain(f[5])
        if not isinstance(data, dict):
            raise Malformed("a map of event data was expected")
        return cls(
            at_ns=whole(f[1], I64), kind=text(f[2]), severity=choice(Severity, f[3]), subject=text(f[4]),
            data=data,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Records that were sealed and then dropped before delivery, first and last included.

    Attributes:
        records: how many of that range were lost: fewer than its length when some had been delivered.
        hash_of_last: hash of the last one, empty where it is not known any more.
        epoch: the chain they belonged to, where that is an earlier one than the chain of this record.
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
    def from_cbor(cls, value: object) -> Loss:
        """From the numbered members, or Malformed."""
        f = numbered(value, 8, more=1)
        first, last = whole(f[1]), whole(f[2])
        if first > last:
            raise Malformed(f"a loss from {first} to {last} is empty")
        return cls(
            first=first, last=last, from_ns=optional(whole, f[3], I64), to_ns=optional(whole, f[4], I64),
            records=whole(f[5]), readings=optional(whole, f[6]), reason=choice(LossReason, f[7]),
            hash_of_last=blob(f[8]), epoch=blob(f[9], 8) if 9 in f else None,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A stretch without readings of one scan group, or of all where it names none; stated again with its end."""

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
    def from_cbor(cls, value: object) -> Gap:
        """From the numbered members, or Malformed."""
        f = numbered(value, 5)
        return cls(
            group=optional(whole, f[1]), from_ns=whole(f[2], I64), to_ns=optional(whole, f[3], I64),
            status=whole(f[4], (0, 2**32 - 1)), detail=text(f[5]),
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
    def from_cbor(cls, value: object) -> TimeChange:
        """From the numbered members, or Malformed."""
        f = numbered(value, 6)
        corrected = optional(items, f[4], 2)
        return cls(
            before=time_from_cbor(f[1]), after=time_from_cbor(f[2]), step_ns=whole(f[3], I64),
            corrected_boot_ns=(whole(corrected[0], I64), whole(corrected[1], I64)) if corrected else None,
            correction_ns=optional(whole, f[5], I64), bound_after_ns=optional(whole, f[6]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChange:
    """A configuration taken into use; a change is (path, old, new) in the words of the file."""

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

    def to_cbor(self) -> dict[int, object]:
        """The numbered members."""
        return {
            1: self.at_ns, 2: {1: self.account, 2: self.role, 3: self.key_id}, 3: self.why, 4: self.old_hash,
            5: self.new_hash, 6: [list(change) for change in self.changes], 7: self.approval,
        }  # fmt: skip

    @classmethod
    def from_cbor(cls, value: object) -> ConfigChange:
        """From the numbered members, or Malformed."""
        f = numbered(value, 7)
        who = numbered(f[2], 3)
        changes = [items(change, 3) for change in items(f[6])]
        return cls(
            at_ns=whole(f[1], I64), account=text(who[1]), role=text(who[2]), key_id=blob(who[3]), why=text(f[3]),
            old_hash=blob(f[4]), new_hash=blob(f[5]),
            changes=tuple((text(path), text(old), text(new)) for path, old, new in changes),
            approval=optional(blob, f[7]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A clean end: nothing follows until the gateway is started again."""

    type: ClassVar = RecordType.STOP
    reason: StopReason = StopReason.OPERATOR
    time: TimeQuality

    def to_cbor(self) -> dict[int, object]:
        """The numbered members."""
        return {1: int(self.reason), 2: time_to_cbor(self.time)}

    @classmethod
    def from_cbor(cls, value: object) -> Stop:
        """From the numbered members, or Malformed."""
        f = numbered(value, 2)
        return cls(reason=choice(StopReason, f[1]), time=time_from_cbor(f[2]))
