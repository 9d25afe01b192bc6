"""Which scan groups begin together: the phases of all polled groups of a site, planned at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from itertools import chain
from math import gcd, inf
from typing import NamedTuple

import numpy as np

_GOLDEN = 0.6180339887498949  # Its multiples fill a circle evenly, however many there are.
APART_NS = 5 * 10**6
"""Volleys are this far apart at least, where they are only there to keep the scans of one machine apart."""
_TRIES = 16


class Polled(NamedTuple):
    """What the phase of a scan group depends on; groups with an equal `reached_at` are answered by one machine."""

    interval_ns: int
    reached_at: Hashable


class _Volleys(NamedTuple):
    interval_ns: int
    phases_ns: tuple[int, ...]


def plan_phases(groups: Sequence[Polled], at_once: int) -> list[int]:
    """The phase of each scan group on its grid of due times, in ns.

    Groups of one interval share a volley, up to `at_once` of them, and its volleys are evenly spaced. Groups of one
    machine begin in different volleys; there are more volleys for that, where they are 5 ms apart or more. Volleys of
    different intervals lie as far apart as their common divisor allows.
    """
    numbers: defaultdict[int, defaultdict[Hashable, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, (interval_ns, reached_at) in enumerate(groups):
        numbers[interval_ns][reached_at].append(number)
    phases_ns = [0] * len(groups)
    planned: list[_Volleys] = []
    for interval_ns, machines in sorted(numbers.items()):
        members = list(chain.from_iterable(machines.values()))
        largest = max(map(len, machines.values()))
        count = max(-(-len(members) // at_once), min(largest, interval_ns // APART_NS))
        volleys = _between(planned, interval_ns, count)
        planned.append(volleys)
        # Dealt in turn, the groups of one machine meet only when there are more of them than volleys.
        turns = sorted(range(count), key=lambda volley: volley * _GOLDEN % 1.0)
        for turn, number in enumerate(members):
            phases_ns[number] = volleys.phases_ns[turns[turn % count]]
    return phases_ns


def _between(planned: Sequence[_Volleys], interval_ns: int, count: int) -> _Volleys:
    """So many volleys of an interval, as far as possible from those that are planned."""
    tried = []
    for attempt in range(_TRIES):
        first_ns = int(attempt * _GOLDEN % 1.0 * interval_ns / count)
        tried.append(_Volleys(interval_ns, tuple(first_ns + n * interval_ns // count for n in range(count))))
    return max(tried, key=lambda volleys: min((_distance_ns(volleys, other) for other in planned), default=inf))


def _distance_ns(one: _Volleys, other: _Volleys) -> int:
    """The shortest time that ever lies between a volley of one interval and a volley of another."""
    cycle_ns = gcd(one.interval_ns, other.interval_ns)
    ahead_ns = np.subtract.outer(np.array(one.phases_ns), np.array(other.phases_ns)) % cycle_ns
    return int(np.minimum(ahead_ns, cycle_ns - ahead_ns).min())
