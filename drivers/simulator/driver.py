"""The driver of simulated devices."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from drivers.simulator.plan import SimulatorPlan
from drivers.simulator.session import SimulatedDevice, SimulatorSession
from drivers.simulator.settings import SimulatorDevice, SimulatorTag
from edge.clock import Clock
from edge.driver import DeviceSettings


class SimulatorDriver:
    """See `edge.driver.Driver`. The device is switched on when its driver is created."""

    def __init__(self, settings: SimulatorDevice, clock: Clock) -> None:
        self.device = SimulatedDevice(settings, clock)

    def plan(self, tags: Sequence[SimulatorTag]) -> SimulatorPlan:
        """See `edge.driver.Driver.plan`."""
        return SimulatorPlan(tags, self.device.settings)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[SimulatorSession]:
        """See `edge.driver.Driver.connect`."""
        await self.device.accept()
        self.device.sessions += 1
        try:
            yield SimulatorSession(self.device)
        finally:
            self.device.sessions -= 1


class SimulatorKind:
    """See `edge.driver.DriverKind`."""

    @property
    def settings(self) -> type[DeviceSettings]:
        """See `edge.driver.DriverKind.settings`."""
        return SimulatorDevice

    def driver(self, device: SimulatorDevice, clock: Clock) -> SimulatorDriver:
        """See `edge.driver.DriverKind.driver`."""
        return SimulatorDriver(device, clock)
