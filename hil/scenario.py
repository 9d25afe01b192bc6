"""What a scenario is: steps that are played on a rig, and claims that are judged by what they left behind."""

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

PATIENCE_S = 90.0
"""How long a step may wait for something to happen before that is held against the gateway."""


@dataclass(slots=True)
class Trial:
    """What the steps of a scenario work with.

    Attributes:
        stage: the gateway and the relay.
        seconds: how long the disturbance lasts.
        figures: what was measured on the way, by name.
        troubles: what should have happened and did not.
    """

    devices: Sequence[Device]
    broker: DemoBroker
    stage: ProcessPair
    seconds: float
    figures: dict[str, float] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)

    async def wait_until(self, what: str, is_so: SnapshotCallback) -> None:
        """Wait until it is so for the gateway and the relay; if it never is, that is a trouble called `what`."""
        if not await self.stage.wait_until(is_so, PATIENCE_S):
            self.troubles.append(f"waited {PATIENCE_S:g} s in vain until {what}")

    def witness(self) -> Witness:
        """What the devices and the clock on the wall have to say."""
        served = {name: values for device in self.devices for name, values in device.served().items()}
        return Witness(served=served, figures=dict(self.figures), troubles=list(self.troubles))


@dataclass(frozen=True, slots=True)
class Step:
    """One thing done, in words for the report."""

    text: str
    act: Callable[[Trial], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing to prove, in words for the report."""

    text: str
    check: Callable[[Evidence], Finding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A scenario; a module in `hil/scenarios` holds one, as `SCENARIO`."""

    purpose: str
    steps: Sequence[Step]
    claims: Sequence[Claim]

    def judge(self, evidence: Evidence) -> list[tuple[Claim, Finding]]:
        """Every claim with what was found."""
        return [(claim, claim.check(evidence)) for claim in self.claims]


async def play(scenario: Scenario, rig: Rig, directory: Path, seconds: float) -> tuple[Witness, ProcessPair]:
    """Play the steps with a gateway and a relay that live in `directory`; all processes have ended at the end."""
    async with AsyncExitStack() as stack:
        devices = await stack.enter_async_context(simulation.running(rig))
        broker = brokers.choose(directory)
        await broker.start()
        stack.push_async_callback(broker.stop)
        stage = ProcessPair(directory, broker, [device.settings for device in devices], name=rig.wired.rig.name)
        await asyncio.to_thread(stage.write)
        stack.push_async_callback(stage.stop_all)
        trial = Trial(devices, broker, stage, seconds)
        try:
            for step in scenario.steps:
                await step.act(trial)
        except ProcessExited as error:
            trial.troubles.append(str(error))
        return trial.witness(), stage
