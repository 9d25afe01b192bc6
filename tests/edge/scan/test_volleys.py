"""Scans of a site begin in volleys: many at once, and never too many."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations, pairwise
from math import gcd

from hypothesis import given
from hypothesis import strategies as st

from edge.scan import Polled, plan_phases
from edge.scan.volleys import APART_NS

MS = 10**6
INTERVALS_NS = [each * MS for each in (10, 20, 50, 100, 200, 250, 500, 1_000, 2_000, 5_000, 10_000, 60_000)]

groups = st.builds(Polled, st.sampled_from(INTERVALS_NS), st.integers(0, 30))
sites = st.lists(groups, max_size=150)
limits = st.integers(1, 40)


def volleys_of(site: list[Polled], phases_ns: list[int]) -> dict[int, Counter[int]]:
    """For each interval, how many scans begin at each phase."""
    volleys: dict[int, Counter[int]] = defaultdict(Counter)
    for group, phase_ns in zip(site, phases_ns, strict=True):
        volleys[group.interval_ns][phase_ns] += 1
    return volleys


@given(site=sites, at_once=limits)
def test_no_more_scans_than_the_setting_begin_in_an_instant(site: list[Polled], at_once: int) -> None:
    """Neither in one volley, nor because those of two intervals ever meet."""
    phases_ns = plan_phases(site, at_once)

    volleys = volleys_of(site, phases_ns)
    assert all(0 <= phase_ns < group.interval_ns for group, phase_ns in zip(site, phases_ns, strict=True))
    assert all(count <= at_once for starts in volleys.values() for count in starts.values())
    for one, other in combinations(volleys, 2):
        cycle_ns = gcd(one, other)
        assert not {phase_ns % cycle_ns for phase_ns in volleys[one]} & {
            phase_ns % cycle_ns for phase_ns in volleys[other]
        }


@given(site=sites, at_once=limits)
def test_volleys_are_evenly_spaced_and_no_more_than_are_needed(site: list[Polled], at_once: int) -> None:
    for interval_ns, starts in volleys_of(site, plan_phases(site, at_once)).items():
        machines = Counter(group.reached_at for group in site if group.interval_ns == interval_ns)
        needed = max(-(-machines.total() // at_once), min(max(machines.values()), interval_ns // APART_NS))

        phases_ns = sorted(starts)
        apart_ns = {later - earlier for earlier, later in pairwise(phases_ns)}
        assert len(phases_ns) == needed
        assert max(starts.values()) - min(starts.values()) <= 1
        assert apart_ns <= {interval_ns // needed, interval_ns // needed + 1}


@given(site=sites, at_once=limits)
def test_one_machine_is_not_asked_twice_in_a_volley_while_there_is_another(site: list[Polled], at_once: int) -> None:
    """Devices behind one connection, or on one host, take turns anyway: the second scan would begin late."""
    asked = Counter(zip(site, plan_phases(site, at_once), strict=True))

    volleys = Counter({group: 0 for group, _ in asked})
    for group, _ in asked:
        volleys[group] += 1
    for interval_ns, starts in volleys_of(site, plan_phases(site, at_once)).items():
        for group in (each for each in volleys if each.interval_ns == interval_ns):
            wanted = site.count(group)
            assert volleys[group] == min(wanted, len(starts))
            assert max(count for (each, _), count in asked.items() if each == group) <= -(-wanted // len(starts))


@given(site=sites, at_once=limits)
def test_the_same_site_begins_in_the_same_volleys_after_a_restart(site: list[Polled], at_once: int) -> None:
    """What is known of a machine is compared only, so that a hash that changes with the process changes no phase."""
    renamed = [Polled(group.interval_ns, f"machine {group.reached_at}") for group in site]

    assert plan_phases(renamed, at_once) == plan_phases(site, at_once)
