"""Which calibration a reading had: of those on record for its tag, the last one that held at its time.

Records may come in any order, and say the same again each hour. Where two that hold since the same moment differ, the
greater one counts, so that the order never matters.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterator
from typing import NamedTuple

from edge.seal import Calibration, Calibrations
from edge.seal.calibrations import DAY_NS
from edge.seal.cbor import I64


class CalibrationSpan(NamedTuple):
    """A calibration, and from when on and before when (UTC) readings had it."""

    calibration: Calibration
    from_ns: int
    to_ns: int

    @property
    def overdue_ns(self) -> tuple[int, int] | None:
        """From when on and before when readings were overdue; None where they were at no time."""
        due = self.calibration.due
        if due is None or (due + 1) * DAY_NS >= self.to_ns:
            return None
        return max(self.from_ns, (due + 1) * DAY_NS), self.to_ns


class CalibrationHistory:
    """The calibrations of one gateway."""

    def __init__(self) -> None:
        self._said: dict[Hashable, Calibrations] = {}
        self._same: dict[Calibrations, Calibrations] = {}
        self._spans: dict[tuple[str, str], list[CalibrationSpan]] | None = None

    def note(self, place: Hashable, content: Calibrations) -> bool:
        """Take the record at a place; whether it says something new."""
        is_new = content not in self._same
        if is_new:
            self._spans = None
        self._said[place] = self._same.setdefault(content, content)
        return is_new

    def withdraw(self, place: Hashable) -> None:
        """Forget what a record said, unless another says it too."""
        if self._said.pop(place, None) is not None:
            self._same = {content: content for content in self._said.values()}
            self._spans = None

    def tags(self) -> Iterator[tuple[str, str]]:
        """Device and name of each tag that has a calibration, or had one."""
        return iter(self._all())

    def of(self, device: str, tag: str) -> list[CalibrationSpan]:
        """The calibrations of a tag, one after the other; without the times in which it had none."""
        return self._all().get((device, tag), [])

    def at(self, device: str, tag: str, utc_ns: int) -> Calibration | None:
        """The calibration that a reading of this time had."""
        spans = self.of(device, tag)
        found = bisect_right(spans, utc_ns, key=lambda span: span.from_ns) - 1
        return spans[found].calibration if found >= 0 and utc_ns < spans[found].to_ns else None

    def _all(self) -> dict[tuple[str, str], list[CalibrationSpan]]:
        if self._spans is None:
            by_tag: defaultdict[tuple[str, str], dict[int, Calibration]] = defaultdict(dict)
            for each in sorted({entry for content in self._same for entry in content.entries}, key=_order):
                by_tag[each.device, each.tag][each.since_ns] = each
            self._spans = {key: list(_spans_of(list(held.values()))) for key, held in sorted(by_tag.items())}
        return self._spans


def _order(each: Calibration) -> tuple[object, ...]:
    """Nothing before any number."""
    known = (each.calibrated is not None, each.calibrated or 0, each.due is not None, each.due or 0)
    return each.since_ns, each.instrument, each.serial, each.certificate, *known, each.tolerance


def _spans_of(held: list[Calibration]) -> Iterator[CalibrationSpan]:
    ends = [*(each.since_ns for each in held[1:]), I64[1]]
    for each, to_ns in zip(held, ends, strict=True):
        if not each.is_empty:
            yield CalibrationSpan(each, each.since_ns, to_ns)
