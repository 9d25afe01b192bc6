"""The clock over a range: its states, and how far times may be off."""

from __future__ import annotations

from array import array

import numpy as np

from edge.clock import TimeQuality, TimeSource, TimeState
from edge.report.facts import ClockStretch
from edge.seal.cbor import I64

_BINS = 1024
_LEAST_BIN_NS = 10**8
_UNKNOWN = -1


class ClockStates:
    """Takes what each record of the range says of the clock, in any order. A record takes 17 bytes."""

    def __init__(self) -> None:
        self._times, self._bounds, self._kinds = array("q"), array("q"), array("B")
        self._numbers: dict[tuple[TimeState, TimeSource, bool], int] = {}

    def note(self, utc_ns: int, boot_ns: int, time: TimeQuality) -> None:
        """Count the clock of a record."""
        bound_ns = time.bound_at(boot_ns)
        kind = time.state, time.source, bound_ns is None
        self._times.append(utc_ns)
        self._bounds.append(_UNKNOWN if bound_ns is None else min(bound_ns, I64[1]))
        self._kinds.append(self._numbers.setdefault(kind, len(self._numbers)))

    def close(self) -> tuple[tuple[ClockStretch, ...], tuple[tuple[int, int | None], ...]]:
        """The states in the order of time; and for the plot, begins of intervals of time with the worst bound in each.

        A state lasts until the next record says otherwise. The bound of an interval is None where one of its records
        could state none.
        """
        if not self._times:
            return (), ()
        times, bounds = np.array(self._times, np.int64), np.array(self._bounds, np.int64)
        kinds = np.array(self._kinds, np.uint8)
        order = np.lexsort((bounds, kinds, times))
        times, bounds, kinds = times[order], bounds[order], kinds[order]
        starts = np.concatenate(([0], np.flatnonzero(np.diff(kinds)) + 1))
        ends = np.append(times[starts[1:]], times[-1])
        names = list(self._numbers)
        stretches = []
        for at, end_ns, worst in zip(starts.tolist(), ends.tolist(), np.maximum.reduceat(bounds, starts), strict=True):
            state, source, is_unknown = names[int(kinds[at])]
            stretches.append(ClockStretch(
                state=_words(state.name), source=_words(source.name), from_ns=int(times[at]), to_ns=end_ns,
                worst_bound_ns=None if is_unknown else int(worst),
            ))  # fmt: skip
        width_ns = max(_LEAST_BIN_NS, int(times[-1] - times[0]) // (_BINS - 1) + 1)
        bins = (times - times[0]) // width_ns
        firsts = np.concatenate(([0], np.flatnonzero(np.diff(bins)) + 1))
        worsts, leasts = np.maximum.reduceat(bounds, firsts), np.minimum.reduceat(bounds, firsts)
        begins = times[0] + bins[firsts] * width_ns
        plot = ((int(begin), None if least == _UNKNOWN else int(worst))
                for begin, worst, least in zip(begins, worsts, leasts, strict=True))  # fmt: skip
        return tuple(stretches), tuple(plot)


def _words(name: str) -> str:
    return name.lower().replace("_", " ")
