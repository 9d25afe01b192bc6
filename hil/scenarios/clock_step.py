"""The gateway's clock is set wrong, and set right again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import pairwise

from edge.health import StatusSnapshot
from edge.seal import Data, TimeChange
from hil import criteria
from hil.document import Figure
from hil.evidence import Evidence, Finding
from hil.scenario import PassCriterion, Scenario, Step
from hil.switches import State
from hil.timekeeping import BACK_WITHIN, BOUNDED, compared, intervals_ns, records, wait_until_synchronized
from hil.trial import STEP_TIMEOUT_S, Trial

_STEP_NS, _ROUNDING_NS = 1_000_000, 1_000
_AHEAD = "the gateway's clock is ahead of this machine's, ms: "
_UNSURE = "how exactly this machine sees the gateway's clock, ms"
_SET = "the clock was set, s of boot time: "


async def set_the_clock(trial: Trial) -> None:
    """Set the clock wrong for the given time, and right again; wait until it has a bound.

    A chronyd may take long to believe its server again. The bound covers that, and the state is holdover.
    """
    async with compared(trial):
        await _note_how_far_it_is_ahead(trial, "before")
        with trial.disturbance("clock wrong"):
            await _turn(trial, "off")
            await _note_how_far_it_is_ahead(trial, "set wrong")
            await asyncio.sleep(trial.seconds)
            await _turn(trial, "on")
            await _note_how_far_it_is_ahead(trial, "set right")
        rig = trial.bench.rig
        if rig.wired.clock.source != "none":
            limit_s = STEP_TIMEOUT_S + intervals_ns(rig, BACK_WITHIN) / 1e9
            await trial.wait_until("the clock has a bound again", _has_bound, limit_s)
        await asyncio.sleep(1)


def _has_bound(gateway: StatusSnapshot | None, _: object) -> bool:
    return gateway is not None and gateway.clock is not None and gateway.clock.bound_ns is not None


async def _turn(trial: Trial, state: State) -> None:
    """Turn the switch, and wait until the gateway has noticed."""
    switch, gateway = trial.bench.clock_step, trial.bench.gateway
    assert switch is not None
    before = await gateway.status()
    steps = before.clock.steps if before and before.clock else 0
    if trial.bench.rig.is_simulated:  # Its boot time is this machine's.
        trial.observed.figures[_SET + state] = time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e9
    await (switch.on() if state == "on" else switch.off())
    await trial.wait_until("the gateway noticed that its clock was set",
                           lambda now, _: now and now.clock and now.clock.steps > steps)  # fmt: skip


async def _note_how_far_it_is_ahead(trial: Trial, when: str) -> None:
    asked_ns, status, answered_ns = time.time_ns(), await trial.bench.gateway.status(), time.time_ns()
    figures = trial.observed.figures
    if status is not None and status.clock is not None:
        figures[_AHEAD + when] = (status.clock.utc_ns - (asked_ns + answered_ns) / 2) / 1e6
        figures[_UNSURE] = max(figures.get(_UNSURE, 0), (answered_ns - asked_ns) / 2e6)


def each_step_is_on_record(evidence: Evidence) -> Finding:
    """Check that TIME records hold both steps, as large as this machine's clock saw them."""
    figures = evidence.observed.figures
    ahead = [figures.get(_AHEAD + when) for when in ("before", "set wrong", "set right")]
    steps = [each.step_ns / 1e6 for each in _steps(evidence)]
    if None in ahead or len(steps) < 2:
        return Finding(False, f"{len(steps)} steps on record, and at least 2 are to be")
    seen = [after - before for before, after in pairwise(each for each in ahead if each is not None)]
    unsure_ms = 2 * figures[_UNSURE] + _STEP_NS / 1e6
    holds = all(any(abs(step - each) <= unsure_ms for step in steps) for each in seen)
    words = f"on record: {', '.join(f'{each:+.3f} ms' for each in steps)}; "
    words += f"seen from outside: {', '.join(f'{each:+.0f} ms' for each in seen)}, within {unsure_ms:.0f} ms"
    return Finding(holds and all(abs(each) * 1e6 >= _STEP_NS for each in seen), words)


def each_step_is_known_before_the_next_record(evidence: Evidence) -> Finding:
    """Check that the TIME record is sealed after at most the one record that was being gathered when the clock was set.

    On hardware the moment is not known in the gateway's boot time, and only the order of the records is judged.
    """
    set_at = [value * 1e9 for name, value in evidence.observed.figures.items() if name.startswith(_SET)]
    if not set_at:
        words = "when the clock was set is not known in the gateway's boot time"
        return Finding(not evidence.rig.is_simulated, words)
    found, figures, holds = [], [], True
    for at_ns, (gathered, change) in zip(set_at, _before_each_step(evidence), strict=False):
        late = [each for each in gathered if each.boot_ns > at_ns]
        took_ms = (change.after.as_of_ns - at_ns) / 1e6
        holds = holds and len(late) <= 1
        found.append(f"recognized after {took_ms:.1f} ms, with {len(late)} records of readings between")
        figures.append(Figure(name=f"step of {change.step_ns / 1e6:+.0f} ms recognized after", value=round(took_ms, 3),
                              unit="ms"))  # fmt: skip
    return Finding(holds and len(found) == len(set_at), "; ".join(found) or "no step is on record", figures)


def the_order_is_kept(evidence: Evidence) -> Finding:
    """Check that from each record to the next UTC and boot time go on alike, but for what TIME records between say."""
    wrong, before, stepped_ns, count = 0, None, 0, 0
    for each in evidence.chain:
        if isinstance(each, TimeChange):
            stepped_ns += each.step_ns
        elif isinstance(each, Data):
            offset_ns = each.utc_ns - each.boot_ns
            if before is not None:
                wrong += abs(offset_ns - before - stepped_ns) > _ROUNDING_NS
            before, stepped_ns, count = offset_ns, 0, count + 1
    backwards = sum(after.utc_ns < first.utc_ns for first, after in pairwise(records(evidence))
                    if after.boot_ns > first.boot_ns)  # fmt: skip
    words = f"{wrong} of {count} records are off by what no TIME record says; UTC went back {backwards} times"
    return Finding(count > 0 and not wrong and backwards > 0, words)


def the_gateway_went_on(evidence: Evidence) -> Finding:
    """Check that the gateway was not restarted, and that its clock ended with a bound."""
    starts = sum(event.kind == "start" for event in evidence.events)
    last = next((each for each in reversed(evidence.chain) if isinstance(each, Data)), None)
    if last is None or starts != 1:
        return Finding(False, f"{starts} starts on record")
    state, bound_ns = last.time.state.name.lower(), last.time.bound_at(last.boot_ns)
    words = f"{starts} start on record; at the end the clock is {state}"
    if evidence.rig.wired.clock.source == "none":
        return Finding(True, f"{words}, and this rig has no reference of time")
    if bound_ns is None:
        return Finding(False, f"{words}, without a bound")
    return Finding(True, f"{words}, within {bound_ns / 1e6:.3f} ms")


def _steps(evidence: Evidence) -> list[TimeChange]:
    return [change for _, change in _before_each_step(evidence)]


def _before_each_step(evidence: Evidence) -> Iterator[tuple[list[Data], TimeChange]]:
    """Each step, with the records of readings that were sealed since the one before."""
    gathered: list[Data] = []
    for each in evidence.chain:
        if isinstance(each, Data):
            gathered.append(each)
        elif isinstance(each, TimeChange) and each.step_ns:
            yield gathered, each
            gathered = []


SCENARIO = Scenario(
    title="Clock set",
    purpose="Somebody sets the gateway's clock wrong, and right again: the gateway reads on, each step is on record "
    "before what is read after it, and no reading changes places with another unnoticed.",
    requirements=("T1", "T3", "Annex 11", "ALCOA+ contemporaneous", "ALCOA+ original"),
    needs=("clock step",),
    is_destructive=True,
    steps=(
        Step("Wait until the clock is synchronized by the source of the rig file.", wait_until_synchronized),
        Step("Set the gateway's clock ahead for the given time, and set it back; wait until it has a bound again.",
             set_the_clock),
    ),
    criteria=(
        PassCriterion("Both steps are on record, each as large as this machine's clock saw it.",
                      each_step_is_on_record),
        PassCriterion("Each step is recognized before the next record: at most the readings that were being gathered "
                      "are sealed before its TIME record.", each_step_is_known_before_the_next_record),
        PassCriterion("From one record to the next UTC and boot time go on alike to 1 µs, but for the steps of "
                      "the TIME records between them, and UTC did go back.", the_order_is_kept),
        BOUNDED,
        PassCriterion("The gateway was not restarted, and at the end its clock has a bound again.",
                      the_gateway_went_on),
        *criteria.NOTHING_LOST,
    ),
)  # fmt: skip
