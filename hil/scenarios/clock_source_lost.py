"""The reference of time is unplugged, and plugged in again."""

from __future__ import annotations

import asyncio
from itertools import chain, pairwise

from edge.clock import TimeState
from edge.model import Quality, quality_of, status_codes
from edge.seal import Data
from hil import criteria
from hil.document import Figure
from hil.evidence import Evidence, Finding
from hil.scenario import PassCriterion, Scenario, Step
from hil.timekeeping import BACK_WITHIN, BOUNDED, compared, intervals_ns, records, rig_time, wait_until_synchronized
from hil.trial import STEP_TIMEOUT_S, Trial

_LOST_WITHIN = 10
_GROWTH_PPB = 50_000


async def ask_for_a_synchronized_clock(trial: Trial) -> None:
    """Values are UNCERTAIN while the clock is not synchronized."""
    configuration = trial.bench.gateway.configuration
    configuration["clock"] = {**configuration["clock"], "require": "synchronized"}


async def unplug_the_reference(trial: Trial) -> None:
    """Unplug it until the gateway has noticed and for the given time after that; wait until it is believed again."""
    bench, rig = trial.bench, trial.bench.rig
    assert bench.clock is not None
    async with compared(trial):
        with trial.disturbance("reference unplugged"):
            await bench.clock.off()
            await trial.wait_until(
                "the gateway noticed that its source is lost",
                lambda gateway, _: gateway and gateway.clock and gateway.clock.state != TimeState.SYNCHRONIZED.name,
                STEP_TIMEOUT_S + intervals_ns(rig, _LOST_WITHIN) / 1e9,
            )  # fmt: skip
            await asyncio.sleep(trial.seconds)
            await bench.clock.on()
        await wait_until_synchronized(trial)
        await asyncio.sleep(1)


def the_loss_was_recognized(evidence: Evidence) -> Finding:
    """Check that records say `holdover` soon after the loss, until the reference was back, and that an event does."""
    limit_s = intervals_ns(evidence.rig, _LOST_WITHIN) / 1e9
    pulled_ns, plugged_ns = _span(evidence)
    lost = _since_the_loss(evidence, pulled_ns, plugged_ns)
    if not lost:
        return Finding(False, "no record says that the source is lost")
    took_s = (rig_time(evidence, lost[0]) - pulled_ns) / 1e9
    others = {each.time.state.name.lower() for each in lost} - {"holdover"}
    is_event = any(each.kind == "time.state" and each.data["to"] == "holdover" for each in evidence.events)
    words = f"after {took_s:.2f} s, limit {limit_s:g} s; {len(lost)} records in holdover"
    words += f", others {', '.join(sorted(others))}" if others else ""
    figures = [Figure(name="loss recognized after", value=round(took_s, 3), unit="s")]
    return Finding(took_s <= limit_s and not others and is_event, words + ("" if is_event else "; no event"), figures)


def the_bound_grows_from_the_last_update(evidence: Evidence) -> Finding:
    """Check that each bound in holdover covers the drift since the reference was unplugged."""
    pulled_ns, plugged_ns = _span(evidence)
    lost = _since_the_loss(evidence, pulled_ns, plugged_ns)
    bounds = [(rig_time(evidence, each), each.time.bound_at(each.boot_ns)) for each in lost]
    small = [at_ns for at_ns, bound_ns in bounds
             if bound_ns is None or bound_ns < (at_ns - pulled_ns) * _GROWTH_PPB // 10**9]  # fmt: skip
    if not bounds or small:
        return Finding(False, f"{len(small)} of {len(bounds)} bounds are missing or too small")
    (first_ns, least_ns), (last_ns, most_ns) = bounds[0], bounds[-1]
    assert least_ns is not None
    assert most_ns is not None
    words = f"from {least_ns / 1e6:.3f} ms to {most_ns / 1e6:.3f} ms in {(last_ns - first_ns) / 1e9:.1f} s"
    return Finding(most_ns > least_ns, words)


def the_values_say_so(evidence: Evidence) -> Finding:
    """Check that values are UNCERTAIN in every record whose clock is not synchronized, and in no other."""
    wrong, counts = 0, {True: 0, False: 0}
    found = records(evidence)
    for before, record in pairwise(found):
        # When the state changes, a record may hold readings of either; in the first moments, when devices had not said
        # yet what they are, there was another catalogue.
        if record.time.state is not before.time.state or record.catalogue != found[-1].catalogue:
            continue
        qualities = {quality_of(int(code)) for code in _codes(evidence, record)}
        is_good = record.time.state is TimeState.SYNCHRONIZED
        counts[is_good] += 1
        wrong += (Quality.UNCERTAIN if is_good else Quality.GOOD) in qualities
    words = f"{counts[False]} records without a synchronized clock, {counts[True]} with one; {wrong} say otherwise"
    return Finding(all(counts.values()) and not wrong, words)


def it_is_synchronized_again(evidence: Evidence) -> Finding:
    """Check that records say so soon after the reference was back, with a bound as before."""
    limit_s, limit_ms = intervals_ns(evidence.rig, BACK_WITHIN) / 1e9, evidence.rig.wired.clock.bound / 1e6
    _, plugged_ns = _span(evidence)
    after = [each for each in records(evidence) if rig_time(evidence, each) > plugged_ns]
    back = next((rig_time(evidence, each) for each in after if each.time.state is TimeState.SYNCHRONIZED), None)
    if back is None:
        return Finding(False, "no record says so")
    took_s, bound_ns = (back - plugged_ns) / 1e9, after[-1].time.bound_at(after[-1].boot_ns)
    words = f"after {took_s:.2f} s, limit {limit_s:g} s; at the end "
    words += "without a bound" if bound_ns is None else f"within {bound_ns / 1e6:.3f} ms, limit {limit_ms:g} ms"
    figures = [Figure(name="synchronized again after", value=round(took_s, 3), unit="s")]
    holds = took_s <= limit_s and bound_ns is not None and bound_ns / 1e6 <= limit_ms
    return Finding(holds and after[-1].time.state is TimeState.SYNCHRONIZED, words, figures)


def _span(evidence: Evidence) -> tuple[int, int]:
    """When the reference was unplugged and plugged in, in rig time; nothing is between them where it never was."""
    for span in evidence.observed.disturbances:
        return evidence.clock.of(span.from_ns), evidence.clock.of(span.to_ns)
    return 0, 0


def _since_the_loss(evidence: Evidence, pulled_ns: int, plugged_ns: int) -> list[Data]:
    """The records of the time without the reference, from the first on that says so."""
    unplugged = [each for each in records(evidence) if pulled_ns < rig_time(evidence, each) < plugged_ns]
    first = next((at for at, each in enumerate(unplugged) if each.time.state is not TimeState.SYNCHRONIZED), None)
    return [] if first is None else unplugged[first:]


def _codes(evidence: Evidence, record: Data) -> chain[int]:
    assert evidence.catalogue is not None
    groups = evidence.catalogue.groups
    return chain.from_iterable(
        status_codes(block.status, sum(map(len, block.vectors)) if block.is_notification
                     else len(groups[block.group].layout)) for block in record.blocks(evidence.catalogue)
    )  # fmt: skip


SCENARIO = Scenario(
    title="Reference of time lost",
    purpose="The reference of time is unplugged and comes back: the gateway says so in time, the bound of its clock "
    "grows and covers the true error all the while, and every value says what its time is worth.",
    requirements=("T1", "T2", "T4", "ALCOA+ contemporaneous", "ALCOA+ complete"),
    needs=("clock network",),
    prepare=ask_for_a_synchronized_clock,
    steps=(
        Step("Wait until the clock is synchronized by the source of the rig file.", wait_until_synchronized),
        Step("Unplug the reference until the gateway has noticed, and for the given time from then on; plug it in, and "
             "wait until the clock is synchronized again.", unplug_the_reference),
    ),
    criteria=(
        PassCriterion(f"Within {_LOST_WITHIN} update intervals records and an event say that the clock is in holdover, "
                      "and no record says otherwise until the reference is back.", the_loss_was_recognized),
        PassCriterion("In holdover each bound covers 50 µs for each second since the reference was unplugged.",
                      the_bound_grows_from_the_last_update),
        BOUNDED,
        PassCriterion("Values are UNCERTAIN where the clock is not synchronized, and nowhere else.", the_values_say_so),
        PassCriterion(f"Within {BACK_WITHIN} update intervals of its return the clock is synchronized again, and at "
                      "the end its bound is that of the rig file.", it_is_synchronized_again),
        *criteria.NOTHING_LOST,
    ),
)  # fmt: skip
