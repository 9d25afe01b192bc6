"""Modbus in the conformance suite: the peer is the simulated device."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from drivers.modbus.driver import ModbusKind
from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, Value, steady
from edge.clock import SystemClock

_HEADER_BYTES = 7
_IDENTIFICATION = 43
_VALUES: Mapping[str, tuple[str, Value]] = {
    "holding 0": ("int16", -5),
    "holding 1": ("uint16", 65_000),
    "holding 2": ("int32", -70_000),
    "holding 4": ("uint32", 4_000_000_000),
    "holding 6": ("int64", -(2**40)),
    "holding 10": ("uint64", 2**60),
    "holding 14": ("float32", 37.25),
    "holding 16": ("float64", 0.1),
    "holding 20.low": ("uint8", 200),
    "holding 20.high": ("int8", -2),
    "holding 21.3": ("bool", True),
    "input 40": ("bcd16", 1234),
    "coil 9": ("bool", True),
    "discrete 2": ("bool", True),
}
"""The values of peer 0 by address; other peers add their number to values of type int16."""


class ModbusPeer:
    """A simulated device that can be switched off or silenced."""

    def __init__(self, device: SimulatedDevice) -> None:
        self._device = device
        self._is_off = False

    @property
    def port(self) -> int:
        """See `Peer.port`."""
        return self._device.port

    async def stop(self) -> None:
        """See `Peer.stop`."""
        self._is_off = True
        await self._device.stop()

    async def silence(self) -> None:
        """See `Peer.silence`."""
        self._device.stall()

    async def start(self) -> None:
        """See `Peer.start`."""
        self._device.resume()
        if self._is_off:
            self._is_off = False
            await self._device.start()


class ModbusSubject:
    """See `edge.testing.conformance.Subject`."""

    driver = "modbus"
    tags: Sequence[Mapping[str, Any]] = (
        *({"name": address, "address": address, "type": name} for address, (name, _) in _VALUES.items()),
        {"name": "batch", "address": "holding 30", "type": "text", "length": 8},
    )
    missing: Mapping[str, Any] = {"name": "missing", "address": "holding 900", "type": "uint16"}
    misspelled = {"name": "bad", "address": "40101", "type": "uint16"}, "can be read in more than one way"
    says: Mapping[str, str] = {"vendor": "Tidegate", "product": "simulated", "firmware": "1.0"}
    libraries = ("pymodbus", "serial")
    reading = ("1", "2", "3", "4", "43/14")
    patience_s = 0.5
    subscription: Mapping[str, Any] = {}
    clock = SystemClock()

    def kind(self) -> ModbusKind:
        """A new kind."""
        return ModbusKind()

    @asynccontextmanager
    async def peer(self, number: int) -> AsyncIterator[ModbusPeer]:
        """A simulated device of one unit."""
        signals = [Signal(address, name, steady(value)) for address, (name, value) in self._signals(number)]  # type: ignore[arg-type]
        signals.append(Signal("holding 30", "text", steady(f"R-{number}"), length=8))
        unit = SimulatedUnit(signals, illegal=["holding 900"])
        async with SimulatedDevice({1: unit}) as device:
            yield ModbusPeer(device)

    def device(self, number: int, port: int) -> Mapping[str, Any]:
        """A device on loopback."""
        return {"host": "127.0.0.1", "port": port, "limits": {"timeout": "500 ms", "connect_timeout": "2 s"}}

    def values(self, number: int) -> Sequence[Value]:
        """The values of the simulated device."""
        return [*(value for _, (_, value) in self._signals(number)), f"R-{number}"]

    def services(self, sent: bytes) -> Sequence[str]:
        """Function codes; for 43 with the MEI type."""
        return list(_services(sent))

    def _signals(self, number: int) -> Iterator[tuple[str, tuple[str, Value]]]:
        for address, (name, value) in _VALUES.items():
            yield address, (name, value + number if name == "int16" and isinstance(value, int) else value)


def _services(sent: bytes) -> Iterator[str]:
    at = 0
    while at + _HEADER_BYTES < len(sent):
        (length,) = struct.unpack_from(">H", sent, at + 4)
        function = sent[at + _HEADER_BYTES]
        yield f"43/{sent[at + _HEADER_BYTES + 1]}" if function == _IDENTIFICATION else str(function)
        at += _HEADER_BYTES - 1 + length
