"""Three times the load that the gateway can carry."""

from __future__ import annotations

from hil.criteria import the_archive_is_wholly_authentic
from hil.document import Figure
from hil.evidence import Evidence, Finding
from hil.load import Measured, measure, measured_in, start_again
from hil.scenario import PassCriterion, Scenario, Step
from hil.scenarios.capacity import scans_are_accounted_for
from hil.trial import Trial

DEVICES, TAGS, EVERY_MS_FIRST, EVERY_MS_LEAST = 8, 60, 64.0, 1.0
FACTOR, MEMORY_MORE_MB, THROUGHPUT_LEAST = 3.0, 100.0, 0.9
_FULL = 0.8
"""A gateway that does less than this part of what is due has reached its ceiling."""


async def find_the_ceiling(trial: Trial) -> None:
    """Halve the interval until the gateway does not keep up."""
    every_ms = EVERY_MS_FIRST
    while every_ms >= EVERY_MS_LEAST:
        found = await measure(trial, DEVICES, TAGS, every_ms, trial.seconds)
        if found.done < _FULL * found.due:
            break
        every_ms /= 2


async def overload(trial: Trial) -> None:
    """Three times the ceiling, for three times as long; then the rig's own devices again."""
    ceiling = _ceiling_of(measured_in(trial.bench.folder))
    every_ms = max(EVERY_MS_LEAST, DEVICES * TAGS * 1000 / (FACTOR * ceiling))
    with trial.disturbance(f"{FACTOR:g} times the ceiling"):
        await measure(trial, DEVICES, TAGS, every_ms, 3 * trial.seconds)
    await start_again(trial)


def _ceiling_of(found: list[Measured]) -> float:
    """The most values that were read in a second."""
    return max(each.readings_per_s for each in found)


def load_was_three_times_the_ceiling(evidence: Evidence) -> Finding:
    """Check that it was an overload: without one the scenario proves nothing."""
    *before, last = measured_in(evidence.folder)
    factor = last.due_per_s / _ceiling_of(before)
    words = (
        f"{last.due_per_s:,.0f} values a second were due, {factor:.2f} times the ceiling of {_ceiling_of(before):,.0f}"
    )
    return Finding(factor >= 0.98 * FACTOR, words, [Figure(name="load, times the ceiling", value=round(factor, 2))])


def throughput_holds(evidence: Evidence) -> Finding:
    """Check that an overload does not make the gateway slower than its ceiling."""
    *before, last = measured_in(evidence.folder)
    part = last.readings_per_s / _ceiling_of(before)
    figures = [Figure(name="ceiling", value=round(_ceiling_of(before)), unit="values/s"),
               Figure(name="read under overload", value=round(last.readings_per_s), unit="values/s")]  # fmt: skip
    return Finding(
        part >= THROUGHPUT_LEAST, f"{last.readings_per_s:,.0f} values a second, {part:.0%} of the ceiling", figures
    )


def memory_is_bounded(evidence: Evidence) -> Finding:
    """Check that what waits does not pile up in memory."""
    *before, last = measured_in(evidence.folder)
    most, least = last.resident_bytes / 1e6, before[0].resident_bytes / 1e6
    figures = [Figure(name="memory under overload", value=round(most, 1), unit="MB")]
    return Finding(most - least <= MEMORY_MORE_MB, f"{most:.1f} MB, {least:.1f} MB at the smallest load", figures)


SCENARIO = Scenario(
    title="Overload",
    purpose="Three times as much is configured as the gateway can read: it reads as much as it can, counts every scan "
    "that it skips, and needs no more memory for it.",
    requirements=("P8", "R10", "ALCOA+ complete"),
    steps=(
        Step("Read 8 devices of 60 values at ever shorter intervals, each for the given time, until less than 80 % of "
             "what is due is done.", find_the_ceiling),
        Step("Read them at three times the ceiling, for three times as long; then read the rig's own devices again.",
             overload),
    ),
    seconds=5.0,
    criteria=(
        PassCriterion("The load is 3 times the most that the gateway read.", load_was_three_times_the_ceiling),
        PassCriterion("Each scan that was due was done, failed or counted as skipped, but for those under way at the "
                      "ends of a measurement; the devices counted the same.", scans_are_accounted_for),
        PassCriterion("It reads at least 90 % of its ceiling.", throughput_holds),
        PassCriterion("It needs at most 100 MB more memory than at the smallest load.", memory_is_bounded),
        PassCriterion("The archive is wholly authentic, its chain is closed, and no record is in it twice.",
                      the_archive_is_wholly_authentic),
    ),
)  # fmt: skip
