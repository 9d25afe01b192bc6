"""What a record is: its types, its place in a chain, and the bounds nobody may exceed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from edge.errors import TidegateError

MAX_RECORD_BYTES = 65_535
MAX_PAYLOAD_BYTES = 2**20
ISSUER_PREFIX = "urn:tidegate:"


class RecordType(IntEnum):
    """What a record carries."""

    DATA = 0
    EPOCH = 1
    KEY = 2
    CHECKPOINT = 3
    CATALOG = 4
    EVENT = 5
    LOSS = 6
    GAP = 7
    TIME = 8
    CONFIG = 9
    STOP = 10

    @property
    def is_identity_signed(self) -> bool:
        """Whether the identity key signs it; session keys sign all others."""
        return self in (RecordType.EPOCH, RecordType.CHECKPOINT)


class Encoding(IntEnum):
    """How a payload is packed; only DATA and CATALOG may be."""

    PLAIN = 0
    ZLIB = 1  # RFC 1950
    ZSTD = 2  # RFC 8878


class Garbage(TidegateError):
    """Bytes that are no record: where they stop being one, and why."""

    def __init__(self, offset: int, why: str) -> None:
        self.offset, self.why = offset, why
        super().__init__(f"byte {offset}: {why}")


class Malformed(TidegateError):
    """A payload that is not in the record format, whoever signed it."""


@dataclass(frozen=True, slots=True)
class Head:
    """The last record of a chain."""

    epoch: bytes
    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """A sealed record: `data` are its exact bytes, `hash` their SHA-256."""

    type: RecordType
    epoch: bytes
    seq: int
    data: bytes
    hash: bytes

    @property
    def head(self) -> Head:
        """This record as the end of its chain."""
        return Head(self.epoch, self.seq, self.hash)


def issuer_of(gateway: str) -> str:
    """The URN under which a gateway signs."""
    return ISSUER_PREFIX + gateway
