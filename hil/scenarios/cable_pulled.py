"""The cable of each device is pulled for some seconds, one after the other."""

from __future__ import annotations

from hil.interruptions import CAME_BACK, NOTHING_LOST, interrupt, the_others_were_read_on
from hil.scenario import PassCriterion, Scenario, Step
from hil.trial import Trial


async def pull_each_cable(trial: Trial) -> None:
    """Pull and plug in the cables that can be switched."""
    for device in trial.bench.devices.values():
        if device.network is not None:
            await interrupt(trial, device, device.network, "cable out")
        else:
            trial.observed.deviations.append(f"The cable of {device.name} has no switch and was left in.")


SCENARIO = Scenario(
    title="Cable of a device pulled",
    purpose="The cable of a device is pulled and plugged in again: the others are read on, data flows again by itself, "
    "and the time without data is on record.",
    requirements=("R9", "R10", "T5", "ALCOA+ complete", "21 CFR 11.10(e)"),
    needs=("device network",),
    steps=(
        Step("One device after the other: pull its cable for the given time, plug it in, and wait until it is read.",
             pull_each_cable),
    ),
    criteria=(
        *CAME_BACK,
        PassCriterion("Meanwhile no other device was silent for half as long.", the_others_were_read_on),
        *NOTHING_LOST,
    ),
)  # fmt: skip
