"""Records: their types, their place in a chain, and their size limits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from edge.errors import ErrorCode, TidegateError

MAX_RECORD_BYTES = 65_535
MAX_PAYLOAD_BYTES = 2**20
RELAY_PREFIX = "urn:tidegate-relay:"
ISSUER_PREFIX = "urn:tidegate:"


class RecordType(IntEnum):
    """The kind of content of a record; types of later versions have greater numbers."""

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
    CONTEXT = 11

    @property
    def is_identity_signed(self) -> bool:
        """Whether the identity key signs it; session keys sign all others."""
        return self in (RecordType.EPOCH, RecordType.CHECKPOINT)

    @property
    def is_known(self) -> bool:
        """Whether this version knows what such a record contains."""
        return self is RecordType._value2member_map_.get(self)

    @classmethod
    def of(cls, number: int, name: str) -> RecordType:
        """The type with this number and name, also one of a later version. Raises ValueError when they do not agree."""
        if number <= cls.STOP or cls.__members__.get(name, cls.CONTEXT) <= cls.STOP:
            if number > cls.STOP or cls(number).name != name:
                raise ValueError(f"record type {number} is not {name}")
            return cls(number)
        if (number, name) == (cls.CONTEXT, cls.CONTEXT.name):
            return cls.CONTEXT
        return unlisted(cls, number, name)


E = TypeVar("E", bound=IntEnum)


def unlisted(kind: type[E], number: int, name: str = "") -> E:
    """A member of an enumeration for a number that only a later version has a word for."""
    member = int.__new__(kind, number)
    member._name_, member._value_ = name or f"number {number}", number
    return member


class Encoding(IntEnum):
    """How a payload is compressed; only DATA and CATALOG may be."""

    PLAIN = 0
    ZLIB = 1  # RFC 1950
    ZSTD = 2  # RFC 8878


class Garbage(TidegateError):
    """These bytes are not a record: the offset at which they stop being one, and the reason."""

    default_code = ErrorCode.RECORD_UNREADABLE

    def __init__(self, offset: int, why: str) -> None:
        self.offset, self.why = offset, why
        super().__init__(f"byte {offset}: {why}")


class Malformed(TidegateError):
    """A payload that is not in the record format."""

    default_code = ErrorCode.RECORD_UNREADABLE


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
        """The head of the chain that ends with this record."""
        return Head(self.epoch, self.seq, self.hash)


def issuer_of(gateway: str) -> str:
    """The URN under which a gateway signs."""
    return ISSUER_PREFIX + gateway
