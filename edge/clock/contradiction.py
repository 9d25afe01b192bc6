"""A time source that contradicts itself: what a bound is worth after its time has jumped.

A source states how far its time may be off, and each new measurement moves its estimate. A move that is larger than the
source had said it could be off is a contradiction: its time was wrong before, or it is wrong now, and nothing on this
machine can tell which. chronyd does not say so. It averages old and new measurements for some updates, states a few
microseconds meanwhile, and then believes the new time.

    consistent --contradiction--> disputed --8 update intervals without another--> doubted --> consistent

- disputed: the estimate is on its way between two times. No bound can be given.
- doubted: the source keeps to its new time. The bound covers both: the new time, and the old one, which grows with age
  as in holdover. It ends when the old time, so grown, agrees with the new one, or after an hour.

A step of the system clock moves the source's estimate too, and is no contradiction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge.clock.quality import DEFAULT_DRIFT_PPB, TimeState
from edge.clock.source import SourceReport

SETTLES_INTERVALS = 8
DOUBTED_NS = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a source stated: how far its own time may be off, at a boot time."""

    unsure_ns: int
    at_ns: int

    def unsure_at(self, boot_ns: int) -> int:
        return self.unsure_ns + (boot_ns - self.at_ns) * DEFAULT_DRIFT_PPB // 10**9


@dataclass(slots=True)
class _Doubt:
    """The claim from before a contradiction, and by how much the source has moved away from it."""

    claim: _Claim
    moved_ns: int
    contradicted_ns: int

    def agrees(self, unsure_ns: int, boot_ns: int) -> bool:
        """Whether the old time, which may have drifted since, lies within what the new one may be off."""
        grown_ns = self.claim.unsure_at(boot_ns) - self.claim.unsure_ns
        return abs(self.moved_ns) <= unsure_ns + grown_ns


class Contradictions:
    """Compares each measurement of a source with what it had stated before."""

    def __init__(self) -> None:
        self._claim: _Claim | None = None
        self._doubt: _Doubt | None = None

    def judge(self, report: SourceReport, moved_ns: int, boot_ns: int, interval_ns: int) -> SourceReport:
        """The report, with a bound that allows for contradictions.

        Args:
            report: what the source says now.
            moved_ns: by how much its newest measurement moved its time; 0 where that has been judged before.
            boot_ns: now.
            interval_ns: how often the source measures.
        """
        if report.bound_ns is None:
            if report.state is TimeState.FREE_RUNNING:  # It begins anew.
                self._claim = self._doubt = None
            return report
        unsure_ns = report.bound_ns - abs(report.correction_ns)
        if self._claim is not None:
            self._compare(self._claim, moved_ns, boot_ns)
        self._claim = _Claim(unsure_ns, boot_ns)
        if (doubt := self._doubt) is None:
            return report
        since_ns = boot_ns - doubt.contradicted_ns
        is_settled = since_ns >= SETTLES_INTERVALS * interval_ns
        if is_settled and (since_ns > DOUBTED_NS or doubt.agrees(unsure_ns, boot_ns)):
            self._doubt = None
            return report
        reason = "the time of its source jumped by more than it had stated"
        detail: dict[str, int | str] = {**report.detail, "jump_ns": doubt.moved_ns, "reason": reason}
        if not is_settled:
            return replace(report, state=TimeState.DISRUPTED, bound_ns=None, may_hold=False, detail=detail)
        old_ns = abs(report.correction_ns - doubt.moved_ns) + doubt.claim.unsure_at(boot_ns)
        return replace(report, state=TimeState.HOLDOVER, bound_ns=max(report.bound_ns, old_ns), detail=detail)

    def _compare(self, before: _Claim, moved_ns: int, boot_ns: int) -> None:
        if self._doubt is not None:
            self._doubt.moved_ns += moved_ns
        if abs(moved_ns) > before.unsure_at(boot_ns):
            self._doubt = self._doubt or _Doubt(before, moved_ns, boot_ns)
            self._doubt.contradicted_ns = boot_ns
