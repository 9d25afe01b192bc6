"""Calibrations of the instruments behind tags, as a CATALOG record of their own says them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, ClassVar, NamedTuple

from edge.seal.cbor import I64, Unknown, as_array, as_elements, as_int, as_text, optional
from edge.seal.record import Malformed, RecordType

DAY_NS = 86_400 * 10**9
_DAYS = (date.min - date(1970, 1, 1)).days, (date.max - date(1970, 1, 1)).days


class Calibration(NamedTuple):
    """The instrument behind a tag, its last calibration, and since when (UTC) the configuration has said so.

    Attributes:
        calibrated: day of the calibration, in days since 1970; None where it is not said.
        due: the last day for which it is valid, in days since 1970; None where it is not said.
        tolerance: the largest error that it allows, as the procedure writes it.
    """

    device: str
    tag: str
    instrument: str = ""
    serial: str = ""
    certificate: str = ""
    calibrated: int | None = None
    due: int | None = None
    tolerance: str = ""
    since_ns: int = 0

    @classmethod
    def from_elements(cls, value: object, unknown: Unknown | None = None) -> Calibration:
        """From its elements, in their order. Raises Malformed."""
        elements = as_elements(value, 9, Unknown() if unknown is None else unknown)
        device, tag, *texts, calibrated, due, tolerance, since_ns = elements
        instrument, serial, certificate = map(as_text, texts)
        return cls(
            as_text(device), as_text(tag), instrument, serial, certificate, optional(as_int, calibrated, _DAYS),
            optional(as_int, due, _DAYS), as_text(tolerance), as_int(since_ns, I64),
        )  # fmt: skip

    @property
    def name(self) -> str:
        """What people call the instrument: its id, or its tag where it has none."""
        return self.instrument or f"{self.device}/{self.tag}"

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said of the instrument: what was said before no longer holds."""
        return not any(self[2:-1]) and self.calibrated is self.due is None

    def is_overdue(self, utc_ns: int) -> bool:
        """Whether a reading of this time came after the last day for which the calibration was valid."""
        return self.due is not None and utc_ns // DAY_NS > self.due


@dataclass(frozen=True, slots=True)
class Calibrations:
    """The payload of a CATALOG record with calibrations, of the gateway at this path."""

    type: ClassVar = RecordType.CATALOG
    path: str
    entries: tuple[Calibration, ...]


def days_of(day: str) -> int | None:
    """A day such as 2026-03-31 in days since 1970; None for an empty text. Raises ValueError."""
    return (date.fromisoformat(day) - date(1970, 1, 1)).days if day else None


def day_text(day: int) -> str:
    """A day as people write it, such as 2026-03-31."""
    return str(date(1970, 1, 1) + timedelta(day))


def calibrations_in(value: Any, unknown: Unknown) -> tuple[Calibration, ...]:
    """The entries of member 7; none where it has another form, and stays counted: it is newer than the format."""
    later = Unknown()
    try:
        entries = tuple(Calibration.from_elements(entry, later) for entry in as_array(value.get(7)))
    except Malformed:
        return ()
    if entries:
        unknown.words.pop("member 7", None)
        unknown.words |= later.words
    return entries
