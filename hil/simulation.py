"""The devices of a simulated rig, which record the values that they served."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import TypeAdapter

from drivers.modbus.settings import ModbusDevice, ModbusTag
from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, Wave, counter, ramp, sine
from hil.rig import Rig, WaveName, WiredDevice

Served = list[tuple[int, int]]
"""(boot time, value) of every answer with a counter."""

_WAVES: Mapping[WaveName, Callable[[], Wave]] = {
    "counter": counter,
    "sine": lambda: sine(mean=37.0, swing=2.0, period_s=2.0),
    "ramp": lambda: ramp(low=0.0, high=10.0, period_s=5.0),
}


class Device:
    """One simulated device of a rig."""

    def __init__(self, wired: WiredDevice, settings: ModbusDevice) -> None:
        self.name = settings.name
        tags = {tag.name: tag for group in settings.scan_groups for tag in group.tags}
        self._signals = {name: _signal(tags[name], settings, wave) for name, wave in wired.waves.items()}
        self._unit = settings.unit
        self._wired = wired
        self.server = SimulatedDevice({self._unit: SimulatedUnit(list(self._signals.values()))})

    @property
    def settings(self) -> Mapping[str, Any]:
        """Its settings in a gateway's configuration; valid while it runs."""
        return {**self._wired.settings, "host": "127.0.0.1", "port": self.server.port}

    @property
    def is_waited_for(self) -> bool:
        """Whether a request is pending; its sender has then processed every earlier response."""
        return self.server.received > self.server.requests

    def served(self) -> dict[str, Served]:
        """The values that its counters served, by `device/tag`."""
        return {
            f"{self.name}/{name}": [(boot_ns, int(value)) for boot_ns, value in signal.served]
            for name, signal in self._signals.items()
            if signal.is_kept
        }


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[tuple[Device, ...]]:
    """The devices of a rig, on loopback while the block is open."""
    async with AsyncExitStack() as stack:
        devices = []
        for wired, settings in zip(rig.wired.devices, rig.checked, strict=True):
            assert isinstance(settings, ModbusDevice)
            device = Device(wired, settings)
            await stack.enter_async_context(device.server)
            devices.append(device)
        yield tuple(devices)


def _signal(tag: ModbusTag, device: ModbusDevice, wave: WaveName) -> Signal:
    assert tag.type is not None
    return Signal(
        tag.address_text, tag.type, _WAVES[wave](), word_order=tag.word_order or device.word_order,
        byte_order=tag.byte_order or device.byte_order, is_kept=wave == "counter",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """The record of a run: values served by `device/tag`, measurements, and messages of failed steps."""

    served: dict[str, Served]
    figures: dict[str, float]
    troubles: list[str]

    def to_json(self) -> bytes:
        """One JSON document."""
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, document: bytes) -> Witness:
        """The inverse of `to_json`. Raises ValueError for another document."""
        return TypeAdapter(cls).validate_json(document)
