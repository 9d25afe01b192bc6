"""The chain: every record is signed, and contains the hash of the record before."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.clock import TimeQuality
from edge.seal.codec import encode, pack
from edge.seal.cose import ES256, NO_PREVIOUS, build, header_start, protected_and_payload, signed_bytes
from edge.seal.keys import IdentityKey, SigningKey
from edge.seal.payloads import EMPTY_BUFFER, BufferState, Checkpoint, Epoch, EpochReason, KeyChange, Stop, StopReason
from edge.seal.record import MAX_RECORD_BYTES, Encoding, Head, Record, RecordType

KEY_PERIOD_NS = 15 * 60 * 10**9
KEY_RECORDS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainRules:
    """How a chain compresses its payloads, and how long it uses a session key."""

    encoding: Encoding = Encoding.PLAIN
    key_period_ns: int = KEY_PERIOD_NS
    key_records: int = KEY_RECORDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The software and machine that start a chain, for its EPOCH."""

    version: str = ""
    build_hash: bytes = b""
    config_hash: bytes = b""
    hardware: Mapping[str, str] = field(default_factory=dict)


class RecordTooLarge(ValueError):
    """A payload that does not fit into a record: the commit must be split."""


class Chain:
    """Seals records one after the other; not thread-safe."""

    def __init__(self, identity: IdentityKey, head: Head, *, issuer: str, now_boot_ns: int, rules: ChainRules) -> None:
        self.identity = identity
        self.issuer = issuer
        self.head = head
        self._rules = rules
        self._outgoing: SigningKey | None = None
        self._starts: dict[RecordType, bytes] = {}
        self._use(SigningKey.generate(), now_boot_ns)

    @classmethod
    def start(
        cls,
        identity: IdentityKey,
        *,
        issuer: str,
        time: TimeQuality,
        now_boot_ns: int,
        reason: EpochReason = EpochReason.INSTALL,
        previous: Head | None = None,
        origin: Origin = Origin(),
        rules: ChainRules = ChainRules(),
    ) -> tuple[Chain, Record]:
        """A new chain and its EPOCH, which names the head of the chain before where that is known."""
        head = Head(os.urandom(8), -1, NO_PREVIOUS)
        chain = cls(identity, head, issuer=issuer, now_boot_ns=now_boot_ns, rules=rules)
        epoch = Epoch(
            session=chain.session.public, certificates=identity.certificates, reason=reason, previous=previous,
            version=origin.version, build_hash=origin.build_hash, config_hash=origin.config_hash,
            boot_id=time.boot_id, hardware=origin.hardware, time=time, counter=identity.counter.next(),
        )  # fmt: skip
        return chain, chain.seal(RecordType.EPOCH, encode(epoch))

    @classmethod
    def resume(
        cls,
        identity: IdentityKey,
        head: Head,
        *,
        issuer: str,
        time: TimeQuality,
        now_boot_ns: int,
        buffer: BufferState = EMPTY_BUFFER,
        rules: ChainRules = ChainRules(),
    ) -> tuple[Chain, Record]:
        """The chain that ended with `head`, and the CHECKPOINT that carries its new session key."""
        chain = cls(identity, head, issuer=issuer, now_boot_ns=now_boot_ns, rules=rules)
        return chain, chain.checkpoint(time, buffer)

    def _use(self, session: SigningKey, now_boot_ns: int) -> None:
        self.session = session
        self._key_since_boot_ns = now_boot_ns
        self._key_records = 0
        self._starts.clear()

    def seal(self, kind: RecordType, payload: bytes) -> Record:
        """Sign a payload into the next record; RecordTooLarge leaves the chain as it was."""
        seq = self.head.seq + 1
        key = self.identity if kind.is_identity_signed else self.session
        start = self._starts.get(kind)
        if start is None:
            start = self._starts[kind] = header_start(ES256, key.public.kid, self.issuer, kind, self.head.epoch)
        is_packed = kind in (RecordType.DATA, RecordType.CATALOG)
        enc, packed = pack(payload, self._rules.encoding) if is_packed else (Encoding.PLAIN, payload)
        header, body = protected_and_payload(start, seq, self.head.hash, enc, packed)
        data = build(header, body, key.sign(signed_bytes(header, body)))
        if len(data) > MAX_RECORD_BYTES:
            raise RecordTooLarge(f"{kind.name} of {len(data)} bytes, a record holds {MAX_RECORD_BYTES}")
        record = Record(kind, self.head.epoch, seq, data, hashlib.sha256(data).digest())
        self.head = record.head
        self._key_records += 1
        return record

    def checkpoint(self, time: TimeQuality, buffer: BufferState = EMPTY_BUFFER) -> Record:
        """The CHECKPOINT with which the identity key signs the head of the chain."""
        checkpoint = Checkpoint(
            size=self.head.seq + 1, head=self.head.hash, session=self.session.public, time=time, buffer=buffer,
            counter=self.identity.counter.next(),
        )  # fmt: skip
        return self.seal(RecordType.CHECKPOINT, encode(checkpoint))

    def stop(
        self, time: TimeQuality, buffer: BufferState = EMPTY_BUFFER, reason: StopReason = StopReason.OPERATOR
    ) -> tuple[Record, Record]:  # fmt: skip
        """The CHECKPOINT and the STOP of a clean end; `resume` continues after it."""
        return self.checkpoint(time, buffer), self.seal(RecordType.STOP, encode(Stop(reason=reason, time=time)))

    def is_roll_due(self, now_boot_ns: int) -> bool:
        """Whether the session key has reached its age, or its number of records."""
        if self._outgoing is not None:
            return False
        is_old = now_boot_ns - self._key_since_boot_ns >= self._rules.key_period_ns
        return is_old or self._key_records >= self._rules.key_records

    def roll(self, time: TimeQuality, now_boot_ns: int) -> Record:
        """The KEY that introduces the next session key; the new key signs the records after it."""
        session = SigningKey.generate()
        record = self.seal(RecordType.KEY, encode(KeyChange(session=session.public, time=time)))
        self._outgoing = self.session
        self._use(session, now_boot_ns)
        return record

    def roll_is_durable(self) -> None:
        """The KEY is on disk: forget the session key before it."""
        self._outgoing = None
