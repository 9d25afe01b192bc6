"""The demo's simulated Modbus TCP devices of a small bioprocess: one stalls, one lacks an address."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from drivers.modbus.known_values import KNOWN_VALUES, device_of_known_values, known_tags
from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, counter, ramp, sine, steady
from edge.demo.plant import Disturbance, KnownDevices, Plant


@asynccontextmanager
async def plant() -> AsyncIterator[Plant]:
    """Bioreactor, chromatography and filler, each with its own TCP server on loopback."""
    bioreactor = SimulatedDevice({1: _bioreactor()})
    chromatography = SimulatedDevice({1: _chromatography()})
    filler = SimulatedDevice({1: _filler()})
    async with AsyncExitStack() as stack:
        for device in (bioreactor, chromatography, filler):
            await stack.enter_async_context(device)

        async def stall() -> None:
            chromatography.stall()

        async def resume() -> None:
            chromatography.resume()

        disturbance = Disturbance(
            device="chromatography-1", text="chromatography-1 stops answering",
            text_after="chromatography-1 answers again", begins=0.2, ends=0.4, begin=stall, end=resume,
        )  # fmt: skip
        devices = (_bioreactor_tags(bioreactor), _chromatography_tags(chromatography), _filler_tags(filler))
        yield Plant(devices=devices, disturbances=(disturbance,))


def known_devices(*, is_swapped: bool) -> KnownDevices:
    """See `edge.demo.plant.known_devices`."""
    known = device_of_known_values(is_swapped=is_swapped)
    counting = SimulatedDevice({1: SimulatedUnit([Signal("holding 0", "uint32", counter(), word_order="big")])})
    count = {"name": "count", "address": "holding 0", "type": "uint32", "word_order": "big"}

    def sections() -> list[Mapping[str, Any]]:
        return [
            _device("known-values", known, "500 ms", known_tags()),
            _device("counting", counting, "100 ms", [count]),
        ]

    expected = {each.name: (each.type, each.expected) for each in KNOWN_VALUES}
    return KnownDevices(known=known, counting=counting, sections=sections, expected=expected)


def _bioreactor() -> SimulatedUnit:
    return SimulatedUnit([
        Signal("holding 100", "float32", sine(mean=37.0, swing=0.4, period_s=20)),
        Signal("holding 102", "float32", sine(mean=7.1, swing=0.05, period_s=33)),
        Signal("holding 104", "uint16", sine_of_counts),
        Signal("holding 106", "uint32", counter()),
    ])  # fmt: skip


def sine_of_counts(elapsed_s: float) -> int:
    """A speed in tenths of a revolution per minute, as drives count it."""
    return round(float(sine(mean=1200, swing=15, period_s=7)(elapsed_s)))


def _chromatography() -> SimulatedUnit:
    return SimulatedUnit([
        Signal("input 0", "float32", ramp(low=0.2, high=2.4, period_s=25)),
        Signal("input 2", "float32", sine(mean=15.0, swing=0.2, period_s=11)),
        Signal("input 4", "float64", sine(mean=0.8, swing=0.75, period_s=18), word_order="little"),
    ])  # fmt: skip


def _filler() -> SimulatedUnit:
    signals = [
        Signal("coil 0", "bool", steady(True)),
        Signal("holding 0", "uint32", counter()),
        Signal("holding 10", "text", steady("LOT-2041-A"), length=10),
    ]
    return SimulatedUnit(signals, illegal=["holding 500"])


def _device(name: str, device: SimulatedDevice, every: str, tags: list[dict[str, Any]]) -> Mapping[str, Any]:
    return {
        "name": name, "driver": "modbus", "host": "127.0.0.1", "port": device.port, "limits": {"timeout": "500 ms"},
        "retry": "500 ms", "retry_limit": "2 s", "scan_groups": [{"every": every, "tags": tags}],
    }  # fmt: skip


def _bioreactor_tags(device: SimulatedDevice) -> Mapping[str, Any]:
    tags: list[dict[str, Any]] = [
        {"name": "temperature", "address": "holding 100", "type": "float32", "word_order": "big", "unit": "Cel",
         "range": [0, 120], "deadband": 0.05, "instrument": "TT-101", "calibration_certificate": "C-2026-17"},
        {"name": "ph", "address": "holding 102", "type": "float32", "word_order": "big", "unit": "[pH]",
         "range": [0, 14], "deadband": 0.005},
        {"name": "agitator-speed", "address": "holding 104", "type": "uint16", "scale": 0.1, "unit": "/min"},
        {"name": "cycles", "address": "holding 106", "type": "uint32", "word_order": "big"},
    ]  # fmt: skip
    return _device("bioreactor-1", device, "100 ms", tags)


def _chromatography_tags(device: SimulatedDevice) -> Mapping[str, Any]:
    tags: list[dict[str, Any]] = [
        {"name": "pressure", "address": "input 0", "type": "float32", "word_order": "big", "unit": "bar"},
        {"name": "flow", "address": "input 2", "type": "float32", "word_order": "big", "unit": "mL/min"},
        {"name": "uv-absorbance", "address": "input 4", "type": "float64", "word_order": "little", "unit": "[AU]"},
    ]
    return _device("chromatography-1", device, "250 ms", tags)


def _filler_tags(device: SimulatedDevice) -> Mapping[str, Any]:
    tags: list[dict[str, Any]] = [
        {"name": "running", "address": "coil 0", "type": "bool"},
        {"name": "vials", "address": "holding 0", "type": "uint32", "word_order": "big"},
        {"name": "lot", "address": "holding 10", "type": "text", "length": 10},
        {"name": "spare", "address": "holding 500", "type": "uint16"},
    ]
    return _device("filler-1", device, "500 ms", tags)
