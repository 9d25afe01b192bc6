"""Scenarios: what is done to a rig, and the pass criteria that are judged afterwards.

`hil.play` plays them: it sets the rig up, starts relay and gateway and waits for readings in the archive; plays the
steps; turns every switch on; waits until everything is delivered, lets the devices fall silent, and stops the gateway
and the relay. So a scenario has only the steps that are its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from hil.evidence import Evidence, Finding
from hil.rig import Rig
from hil.trial import Trial

Need = Literal[
    "device power", "device network", "gateway power", "gateway network", "gateway uplink", "clock network",
    "clock step", "known signal", "witness", "simulated rig",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One action, with its text for the report."""

    text: str
    act: Callable[[Trial], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class PassCriterion:
    """One condition for passing: its text with its figures for the report, and what judges it."""

    text: str
    judge: Callable[[Evidence], Finding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A scenario; each module in `hil/scenarios` has one, as `SCENARIO`.

    Attributes:
        purpose: what a person from quality assurance learns from it.
        requirements: ids of `hil.requirements`.
        needs: what the rig must have; on a rig without it the scenario is not played, and the report says why.
        is_destructive: whether it can harm what is wired, or what else hangs on it: power cuts, full disks.
        seconds: how long the disturbance lasts unless the command says otherwise.
        prepare: changes the configuration of gateway or relay before they start.
    """

    title: str
    purpose: str
    requirements: Sequence[str]
    steps: Sequence[Step]
    criteria: Sequence[PassCriterion]
    needs: Sequence[Need] = ()
    is_destructive: bool = False
    seconds: float = 10.0
    prepare: Callable[[Trial], Awaitable[None]] | None = None

    def missing(self, rig: Rig) -> list[Need]:
        """What the scenario needs and the rig does not have."""
        return [need for need in self.needs if not _has(rig, need)]


def _has(rig: Rig, need: Need) -> bool:
    wired, devices = rig.wired, rig.wired.devices
    match need:
        case "simulated rig":
            return rig.is_simulated
        case "known signal":
            return any(device.signals for device in devices)
        case "witness":
            return any(device.witness for device in devices)
        case "clock network":
            return bool(wired.clock.network) or (rig.is_simulated and wired.clock.source != "none")
        case "clock step":
            return bool(wired.clock.step) or rig.is_simulated
        case "device power" | "device network":
            return rig.is_simulated or any(getattr(device, need.split()[1]) for device in devices)
        case _:
            return rig.is_simulated or bool(getattr(wired.gateway, need.split()[1]))
