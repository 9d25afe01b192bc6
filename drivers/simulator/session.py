"""Sessions with a simulated device; all values of a scan have the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from drivers.simulator.browse import entries_below
from drivers.simulator.plan import SimulatorPlan
from drivers.simulator.settings import Failure, FailureKind, SimulatorDevice
from edge.clock import Clock
from edge.driver import BrowseEntry
from edge.errors import DeviceRefused, DeviceUnreachable, ErrorCode, ProtocolViolation
from edge.model import Identity, Reading, Times

_NOISE = bytes.fromhex("deadbeef")


class SimulatedDevice:
    """A simulated device; its behaviour depends on its schedule and the clock only.

    Attributes:
        sessions: number of open sessions.
    """

    def __init__(self, settings: SimulatorDevice, clock: Clock) -> None:
        self.settings = settings
        self.sessions = 0
        self.schedule = Schedule(settings.failures)
        self.clock = clock
        self._on_since_ns = clock.boot_ns()

    def elapsed_ns(self) -> int:
        """Time since power-on."""
        return self.clock.boot_ns() - self._on_since_ns

    async def accept(self) -> None:
        """Accept a session. Raises DeviceRefused where the schedule refuses sessions, else as `answer`."""
        if self.schedule.is_now("refuse", self.elapsed_ns()):
            raise DeviceRefused(f"{self.settings.name} refuses sessions, as its schedule says")
        await self.answer()

    async def answer(self) -> int:
        """Wait for the duration of an answer. Returns the time of the request since power-on.

        Raises:
            DeviceUnreachable: the device is scheduled to be off or silent, or an answer takes longer than `timeout`.
            ProtocolViolation: the device is scheduled to send garbled answers.
        """
        elapsed_ns = self.elapsed_ns()
        if self.schedule.is_now("off", elapsed_ns):
            raise DeviceUnreachable(f"{self.settings.name} is off, as its schedule says")
        delay_ns = sum(failure.delay for failure in self.schedule.now("late", elapsed_ns))
        answer_ns, timeout_ns = self.settings.answer + delay_ns, self.settings.timeout
        is_silent = self.schedule.is_now("silent", elapsed_ns) or answer_ns > timeout_ns
        await asyncio.sleep((timeout_ns if is_silent else answer_ns) / 1e9)
        if is_silent:
            why = f"{self.settings.name} did not answer within {timeout_ns / 1e9:g} s"
            raise DeviceUnreachable(why, code=ErrorCode.DEVICE_SILENT)
        if self.schedule.is_now("garbled", elapsed_ns):
            raise ProtocolViolation("answer", "values", "what the schedule says", _NOISE)
        return elapsed_ns

    def utc_ns(self) -> int | None:
        """The time of the device's own clock; None if it has none."""
        error_ns = self.settings.clock_error_ns
        return None if error_ns is None else self.clock.utc_ns() + error_ns


class SimulatorSession:
    """See `edge.driver.Session`."""

    def __init__(self, device: SimulatedDevice) -> None:
        self._device = device

    async def read(self, plan: SimulatorPlan) -> Reading:
        """See `edge.driver.Session.read`."""
        device = self._device
        asked_at_ns, utc_ns = device.clock.boot_ns(), device.utc_ns()
        elapsed_ns = await device.answer()
        vectors = plan.values(elapsed_ns)
        times: tuple[Times, ...] | None = None
        if utc_ns is not None and device.settings.source_times == "values":
            times = tuple(np.full(len(vector), utc_ns) for vector in vectors)
        return Reading(
            vectors,
            asked_at_ns,
            device.clock.boot_ns(),
            plan.status(elapsed_ns, device.schedule.now("bad", elapsed_ns)),
            source_times=times,
            device_time_ns=utc_ns,
        )

    async def identity(self) -> Identity:
        """See `edge.driver.Session.identity`."""
        elapsed_ns = await self._device.answer()
        nameplate, name = self._device.settings.identity, self._device.settings.name
        serial = nameplate.serial or name
        if self._device.schedule.is_now("identity", elapsed_ns):
            serial = f"{serial}-replaced"
        return Identity(vendor=nameplate.vendor, product=nameplate.product, firmware=nameplate.firmware, serial=serial)

    async def browse(self, path: str) -> Sequence[BrowseEntry]:
        """See `edge.driver.Browsable.browse`."""
        elapsed_ns = await self._device.answer()
        return entries_below(path, self._device.settings, elapsed_ns)


class Schedule:
    """The failures of a device, by the time since power-on."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        self._failures = failures

    def now(self, kind: FailureKind, elapsed_ns: int) -> list[Failure]:
        """The failures of a kind that are active at this time."""
        return [failure for failure in self._failures if failure.kind == kind and _is_active(failure, elapsed_ns)]

    def is_now(self, kind: FailureKind, elapsed_ns: int) -> bool:
        """Whether a failure of this kind is active at this time."""
        return bool(self.now(kind, elapsed_ns))


def _is_active(failure: Failure, elapsed_ns: int) -> bool:
    since_ns = elapsed_ns - failure.at
    if since_ns < 0:
        return False
    return (since_ns % failure.every if failure.every else since_ns) < failure.lasts
