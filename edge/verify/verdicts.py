"""The verdicts on a record, and on a range of a chain."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edge.seal.codec import Payload
from edge.seal.record import RecordType


class Verdict(StrEnum):
    """The verdict on one record."""

    AUTHENTIC = "AUTHENTIC"  # Signed by the key allowed at its place.
    LINKED = "LINKED"  # Key unknown, but its bytes are fixed by an identity-signed record after it.
    ALTERED = "ALTERED"  # Names the allowed key, which did not sign it.
    UNTRUSTED = "UNTRUSTED"  # Signed by, or naming, a key that is not allowed at its place.
    FORK = "FORK"  # Two histories exist at this place.
    GARBAGE = "GARBAGE"  # Not a record.
    DUPLICATE = "DUPLICATE"  # Its bytes were seen before.
    UNVERIFIABLE = "UNVERIFIABLE"  # Its key is not known, and no hash fixes its bytes.


REFUSED = (Verdict.ALTERED, Verdict.UNTRUSTED, Verdict.FORK, Verdict.GARBAGE)
"""Of records not to rely on."""


class RangeVerdict(StrEnum):
    """The verdict on a range of a chain, or on its end."""

    DECLARED_LOST = "DECLARED_LOST"
    REMOVED = "REMOVED"
    MISSING = "MISSING"
    CLOSED = "CLOSED"
    TAIL_UNKNOWN = "TAIL_UNKNOWN"
    TRUNCATED = "TRUNCATED"
    COUNTER_GAP = "COUNTER_GAP"
    OUT_OF_ORDER = "OUT_OF_ORDER"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict on a record.

    Attributes:
        epoch: empty for garbage, as is `issuer`; `seq` is then the offset at which the bytes stop being a record.
        type: None for garbage, and for a new verdict on an earlier record whose bytes are not kept.
        payload: unpacked, and `content` its decoded form; only when the signature is valid.
        reason: one sentence, empty for AUTHENTIC.
        unknown: words for what it holds that only a later version knows.
    """

    verdict: Verdict
    issuer: str
    epoch: bytes
    seq: int
    type: RecordType | None
    hash: bytes
    payload: bytes | None = None
    reason: str = ""
    content: Payload | None = None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Absence:
    """Records `first` to `last` of a chain that are not held: MISSING, DECLARED_LOST, REMOVED or TRUNCATED."""

    verdict: RangeVerdict
    issuer: str
    epoch: bytes
    first: int
    last: int
