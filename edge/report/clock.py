"""The clock over a range: its states, and how far times may be off."""

from __future__ import annotations

from dataclasses import dataclass

from edge.clock import TimeQuality, TimeSource, TimeState
from edge.report.facts import ClockStretch

_BINS = 1024
_STRETCHES = 50_000


@dataclass(slots=True)
class _Stretch:
    from_ns: int
    to_ns: int
    state: TimeState
    source: TimeSource
    bound_ns: int | None

    def is_like(self, other: _Stretch) -> bool:
        """Whether both are of one kind."""
        return (self.state, self.source, self.bound_ns is None) == (other.state, other.source, other.bound_ns is None)

    def join(self, other: _Stretch) -> None:
        """Include another one of the same kind."""
        self.from_ns, self.to_ns = min(self.from_ns, other.from_ns), max(self.to_ns, other.to_ns)
        bounds = self.bound_ns, other.bound_ns
        self.bound_ns = None if None in bounds else max(bounds)  # type: ignore[type-var]


class ClockStates:
    """Takes what each record says of the clock."""

    def __init__(self) -> None:
        self._stretches: list[_Stretch] = []
        self._bins: dict[int, int | None] = {}
        self._bin_ns = 10**8

    def note(self, utc_ns: int, boot_ns: int, time: TimeQuality) -> None:
        """Count the clock of a record in the range."""
        bound_ns = time.bound_at(boot_ns)
        self._note_bin(utc_ns // self._bin_ns, bound_ns)
        while len(self._bins) > _BINS:
            bins, self._bins, self._bin_ns = self._bins, {}, self._bin_ns * 2
            for number, bound in bins.items():
                self._note_bin(number // 2, bound)
        new = _Stretch(utc_ns, utc_ns, time.state, time.source, bound_ns)
        last = self._stretches[-1] if self._stretches else None
        if last is not None and ((last.is_like(new) and utc_ns >= last.from_ns) or len(self._stretches) >= _STRETCHES):
            last.join(new)
        else:
            if last is not None:
                last.to_ns = max(last.to_ns, utc_ns)  # It is known until the next record says otherwise.
            self._stretches.append(new)

    def _note_bin(self, number: int, bound_ns: int | None) -> None:
        known = self._bins.get(number, -1)
        self._bins[number] = None if bound_ns is None or known is None else max(known, bound_ns)

    @property
    def bounds(self) -> tuple[tuple[int, int | None], ...]:
        """Begin of an interval of time, and the worst bound in it; None where one of its records could state none."""
        return tuple((number * self._bin_ns, bound) for number, bound in sorted(self._bins.items()))

    def stretches(self) -> list[ClockStretch]:
        """The states in the order of time."""
        joined: list[_Stretch] = []
        for each in sorted(self._stretches, key=lambda stretch: stretch.from_ns):
            if joined and joined[-1].is_like(each):
                joined[-1].join(each)
            else:
                joined.append(each)
        return [ClockStretch(state=_words(each.state.name), source=_words(each.source.name), from_ns=each.from_ns,
                             to_ns=each.to_ns, worst_bound_ns=each.bound_ns) for each in joined]  # fmt: skip


def _words(name: str) -> str:
    return name.lower().replace("_", " ")
