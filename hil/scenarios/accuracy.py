"""Known signals are read by gateway and witness at the same time."""

from __future__ import annotations

import asyncio
import time

from hil import acquisition
from hil.criteria import NOTHING_LOST
from hil.scenario import PassCriterion, Scenario, Step
from hil.trial import Trial
from hil.watch import take_turn, watched, watching

_LOOK_S = 0.5


async def read_side_by_side(trial: Trial) -> None:
    """Let the witness read beside the gateway for the given time, and one and a half periods of the slowest sine."""
    periods_s = [each.period / 1e9 for device in trial.bench.rig.wired.devices for each in device.signals.values()
                 if each.wave == "sine"]  # fmt: skip
    async with watching(trial):
        ends_s = time.monotonic() + max(trial.seconds, 1.5 * max(periods_s, default=0.0))
        while (left_s := ends_s - time.monotonic()) > 0:
            await asyncio.sleep(min(_LOOK_S, left_s))
            await _compare_clocks(trial)


async def _compare_clocks(trial: Trial) -> None:
    """How far the gateway's clock is from ours: within what it takes to ask it."""
    asked_ns = time.time_ns()
    gateway = await trial.bench.gateway.status()
    answered_ns = time.time_ns()
    if gateway is not None and gateway.clock is not None:
        outside_ns = max(asked_ns - gateway.clock.utc_ns, gateway.clock.utc_ns - answered_ns, 0)
        trial.sample("clock apart, ms", outside_ns / 1e6)


async def take_turns(trial: Trial) -> None:
    """Stop the gateway where a device takes one client, let the witness read that, and start the gateway again."""
    if watched(trial.bench.rig, in_turns=True):
        await trial.bench.gateway.stop()
        await take_turn(trial)
        await trial.bench.gateway.start()
        await trial.wait_until(
            "the gateway read every device again",
            lambda gateway, _: (
                gateway is not None
                and all(group.scans > 1 for device in gateway.devices for group in device.scan_groups)
            ),
        )


SCENARIO = Scenario(
    title="Acquisition accuracy against known signals",
    purpose="What the archive says of a signal is what the signal was: its value, its amplitude, and the moment of "
    "each step, within the times and the bound that the archive states. A library that is not Tidegate's reads the "
    "same tags at the same time, and the device's own log is the third voice.",
    requirements=("T5", "T1", "ALCOA+ accurate", "ALCOA+ contemporaneous", "21 CFR 11.10(h)"),
    needs=("known signal", "witness"),
    seconds=20.0,
    prepare=take_turn,
    steps=(
        Step("Let gateway and witness read every device side by side for the given time.", read_side_by_side),
        Step("Stop the gateway; let the witness read the devices that take one client; start the gateway.", take_turns),
    ),
    criteria=(
        PassCriterion("Value, type and quality of every archived reading agree with the witness: they differ by "
                      "at most 100 % of what the signal can move.", acquisition.witness_agrees),
        PassCriterion("Every archived value is one that the device wrote down between request and answer.",
                      acquisition.device_log_agrees),
        PassCriterion("Every archived value is the signal's at that moment: 0 outside of what half the interval, the "
                      "instrument's error and rounding explain.", acquisition.values_follow_their_signals),
        PassCriterion("The archived amplitude of each sine is the true one, within what the pace of reading can miss.",
                      acquisition.amplitudes_are_true),
        PassCriterion("Each step lies between the last request that was answered with the old value and the first "
                      "answer with the new one: 0 missing, 0 invented.", acquisition.steps_are_timed_right),
        PassCriterion("The UTC of the gateway differs from ours by at most the bound that it states.",
                      acquisition.clock_bound_holds),
        *NOTHING_LOST,
    ),
)  # fmt: skip
