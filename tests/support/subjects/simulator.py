"""The simulator in the conformance suite: failures are scheduled, and the clock jumps to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from drivers.simulator.driver import SimulatorKind
from drivers.simulator.plan import SimulatorPlan
from drivers.simulator.settings import SimulatorDevice
from edge.clock import SystemClock
from edge.config.validate import settings_from

_HOUR_NS = 3600 * 10**9
_CYCLE_NS = 9 * _HOUR_NS
_FAILURES = (
    {"kind": "off", "at": "3 h", "lasts": "3 h", "every": "9 h"},
    {"kind": "silent", "at": "6 h", "lasts": "3 h", "every": "9 h"},
)
_NUMBERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")


class JumpingClock(SystemClock):
    """The system clock plus an offset."""

    ahead_ns = 0

    def boot_ns(self) -> int:
        """See `Clock.boot_ns`."""
        return super().boot_ns() + self.ahead_ns


class ScheduledPeer:
    """A device that is scheduled to work, be off and be silent in turn, for hours each."""

    port = 0

    def __init__(self, clock: JumpingClock) -> None:
        self._clock = clock
        self._working_ns = clock.ahead_ns

    async def stop(self) -> None:
        """Jump to a time when it is off."""
        self._clock.ahead_ns = self._working_ns + 4 * _HOUR_NS

    async def silence(self) -> None:
        """Jump to a time when it is silent."""
        self._clock.ahead_ns = self._working_ns + 7 * _HOUR_NS

    async def start(self) -> None:
        """Jump to the next cycle of the schedule."""
        self._working_ns += _CYCLE_NS
        self._clock.ahead_ns = self._working_ns


class SimulatorSubject:
    """See `edge.testing.conformance.Subject`."""

    driver = "simulator"
    tags: Sequence[Mapping[str, Any]] = (
        *({"name": name, "signal": "walk", "period": "3650 d", "type": name} for name in _NUMBERS),
        {"name": "bool", "signal": "constant", "value": True, "type": "bool"},
        {"name": "text", "signal": "text", "texts": ["idle"]},
        {"name": "recipe", "signal": "constant", "value": "R-17"},
    )
    missing: Mapping[str, Any] = {"name": "missing", "signal": "missing"}
    misspelled = {"name": "bad", "signal": "sine", "value": 3}, "means nothing to the signal sine"
    says: Mapping[str, str] = {"vendor": "Tidegate", "product": "simulator", "serial": "device-0"}
    libraries = ()
    reading = ()
    patience_s = 0.05
    subscription: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.clock = JumpingClock()

    def kind(self) -> SimulatorKind:
        """A new kind."""
        return SimulatorKind()

    @asynccontextmanager
    async def peer(self, number: int) -> AsyncIterator[ScheduledPeer]:
        """A peer; the device itself is created by its driver."""
        yield ScheduledPeer(self.clock)

    def device(self, number: int, port: int) -> Mapping[str, Any]:
        """A device whose seed is its number."""
        return {"seed": number, "timeout": "50 ms", "failures": _FAILURES}

    def values(self, number: int) -> Sequence[bool | int | float | str]:
        """Walks with a period of ten years, and constants."""
        group = {"every": "1 s", "tags": self.tags}
        device = settings_from(
            SimulatorDevice, {"name": "device", "driver": "simulator", "seed": number, "scan_groups": [group]}
        )
        plan = SimulatorPlan(device.scan_groups[0].tags, device)
        vectors = plan.values(0)
        return [vectors[vector][position] for vector, position in plan.layout.slots]

    def services(self, sent: bytes) -> Sequence[str]:
        """Empty: there is no network."""
        return ()
