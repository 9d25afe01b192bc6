"""Scenarios: steps that are played on a rig, and claims that are checked afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from edge.demo import brokers
from edge.demo.brokers import DemoBroker
from edge.demo.processes import ProcessExited, ProcessPair, SnapshotCallback
from hil import simulation
from hil.evidence import Evidence, Finding
from hil.rig import Rig
from hil.simulation import Device, Witness

STEP_TIMEOUT_S = 90.0
"""Timeout of a step; after it the run has failed."""


@dataclass(slots=True)
class Trial:
    """The state of a run, for its steps.

    Attributes:
        processes: the gateway and the relay.
        seconds: duration of the disturbance.
        figures: measurements, by name.
        troubles: messages of failed steps.
    """

    devices: Sequence[Device]
    broker: DemoBroker
    processes: ProcessPair
    seconds: float
    figures: dict[str, float] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)

    async def wait_until(self, what: str, condition: SnapshotCallback) -> None:
        """Wait until the snapshots of gateway and relay meet a condition; a timeout adds a trouble with `what`."""
        if not await self.processes.wait_until(condition, STEP_TIMEOUT_S):
            self.troubles.append(f"waited {STEP_TIMEOUT_S:g} s in vain until {what}")

    def witness(self) -> Witness:
        """The values that the devices served, and the measurements."""
        served = {name: values for device in self.devices for name, values in device.served().items()}
        return Witness(served=served, figures=dict(self.figures), troubles=list(self.troubles))


@dataclass(frozen=True, slots=True)
class Step:
    """One action, with its text for the report."""

    text: str
    act: Callable[[Trial], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Claim:
    """One check, with its text for the report."""

    text: str
    check: Callable[[Evidence], Finding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A scenario; each module in `hil/scenarios` has one, as `SCENARIO`."""

    purpose: str
    steps: Sequence[Step]
    claims: Sequence[Claim]

    def judge(self, evidence: Evidence) -> list[tuple[Claim, Finding]]:
        """Every claim with its result."""
        return [(claim, claim.check(evidence)) for claim in self.claims]


async def play(scenario: Scenario, rig: Rig, directory: Path, seconds: float) -> tuple[Witness, ProcessPair]:
    """Play the steps with a gateway and a relay in `directory`; all processes have ended on return."""
    async with AsyncExitStack() as stack:
        devices = await stack.enter_async_context(simulation.running(rig))
        broker = brokers.choose(directory)
        await broker.start()
        stack.push_async_callback(broker.stop)
        processes = ProcessPair(directory, broker, [device.settings for device in devices], name=rig.wired.rig.name)
        await asyncio.to_thread(processes.write)
        stack.push_async_callback(processes.stop_all)
        trial = Trial(devices, broker, processes, seconds)
        try:
            for step in scenario.steps:
                await step.act(trial)
        except ProcessExited as error:
            trial.troubles.append(str(error))
        return trial.witness(), processes
