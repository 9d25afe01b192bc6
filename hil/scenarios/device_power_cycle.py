"""Each device loses its power for some seconds, one after the other."""

from __future__ import annotations

from hil.evidence import Evidence, Finding
from hil.interruptions import CAME_BACK, NOTHING_LOST, interrupt, the_others_were_read_on
from hil.scenario import PassCriterion, Scenario, Step
from hil.trial import Trial


async def cycle_each_power(trial: Trial) -> None:
    """Turn the devices that can be switched off and on."""
    for device in trial.bench.devices.values():
        if device.power is not None:
            await interrupt(trial, device, device.power, "power off")
        else:
            trial.observed.deviations.append(f"The power of {device.name} has no switch and was left on.")


def it_is_the_same_device(evidence: Evidence) -> Finding:
    """Check that the gateway took no device for another one after it came back."""
    changed = [event.subject for event in evidence.events if event.kind == "device.identity"]
    return Finding(not changed, f"another identity: {', '.join(changed)}" if changed else "every identity is as before")


SCENARIO = Scenario(
    title="Device loses its power",
    purpose="A device loses its power and starts again: the others are read on, it is found again by itself and known "
    "as the same device, and the time without data is on record.",
    requirements=("R9", "R10", "T5", "ALCOA+ complete", "21 CFR 11.10(h)"),
    needs=("device power",),
    is_destructive=True,
    steps=(
        Step("One device after the other: turn its power off for the given time, then on, and wait until it is read.",
             cycle_each_power),
    ),
    criteria=(
        *CAME_BACK,
        PassCriterion("Meanwhile no other device was silent for half as long.", the_others_were_read_on),
        PassCriterion("Each device has the identity that it had before.", it_is_the_same_device),
        *NOTHING_LOST,
    ),
)  # fmt: skip
