"""The device that all others are compared with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, steady
from edge.model import StatusCode
from tests.support.field.case import FieldCase


@asynccontextmanager
async def _standard(folder: Path) -> AsyncIterator[Mapping[str, Any]]:
    signals = [Signal("holding 100", "float32", steady(37.5)), Signal("input 7", "uint16", steady(7))]
    tags = [
        {"name": "temperature", "address": "holding 100", "type": "float32", "word_order": "big"},
        {"name": "state", "address": "input 7", "type": "uint16"},
        {"name": "spare", "address": "holding 900", "type": "uint16"},
    ]
    unit = SimulatedUnit(signals, illegal=["holding 900"])
    async with SimulatedDevice({1: unit}) as device:
        yield {
            "driver": "modbus", "host": "127.0.0.1", "port": device.port,
            "scan_groups": [{"every": "500 ms", "tags": tags}],
        }  # fmt: skip


CASES = (
    FieldCase(
        id="modbus-by-the-standard",
        device="A device by the standard, with one address that it does not have",
        does="Every scan is as planned. The absent address is BAD_ADDRESS and is asked for again from time to time.",
        start=_standard,
        values={"temperature": 37.5, "state": 7},
        refused={"spare": StatusCode.BAD_ADDRESS},
    ),
)
