"""Devices whose values are of types that plants have and machines have not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from pymodbus import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit
from tests.support.field.case import FieldCase

Start = Callable[[Path], AbstractAsyncContextManager[Mapping[str, Any]]]

METER = [
    *(0, 12, 3456, 7890),  # Energy, four digits a register.
    *(0x071F, 0x7E0D, 0x0F1E),  # July 31st, 126 years after 1900, 13:15:30.
    *(26, 0x07BF, 0x0D0F, 30_500),  # The same in IEC 60870, with the day of the week and milliseconds.
    *(0x8000 | 250, 0x0000, 0x00B4),  # -250 as sign and magnitude; a status.
    *(0x2607, 0x3113, 0x1530),  # The same date in decimal digits.
    *(0x0001, 0x0000, 0x0002),  # 2³² + 2 in 48 bits.
]
METER_TAGS = [
    {"name": "energy", "address": "holding 0", "type": "mod10k64", "unit": "W.h"},
    {"name": "time", "address": "holding 4", "type": "datetime48"},
    {"name": "iec-time", "address": "holding 7", "type": "cp56"},
    {"name": "temperature", "address": "holding 11", "type": "signmag16", "divisor": 10, "unit": "Cel"},
    {"name": "phase", "address": "holding 13.4-7"},
    {"name": "bcd-time", "address": "holding 14", "type": "datetime_bcd48"},
    {"name": "pulses", "address": 400018, "type": "uint48"},
]
METER_VALUES = {
    "energy": "1234567890", "time": "2026-07-31T13:15:30", "iec-time": "2026-07-31T13:15:30.5", "temperature": -25.0,
    "phase": 11, "bcd-time": "2026-07-31T13:15:30", "pulses": str(2**32 + 2),
}  # fmt: skip
INVERTER_TAGS = [
    {"name": "power", "address": "holding 83", "type": "int16", "unit": "W", "scale_from": "power_SF"},
    {"name": "power_SF", "address": "holding 84", "type": "int16"},
]


@asynccontextmanager
async def meter(folder: Path) -> AsyncIterator[Mapping[str, Any]]:
    """A power meter, on pymodbus."""
    registers = SimData(0, values=METER, datatype=DataType.REGISTERS)
    server: Any = ModbusTcpServer(SimDevice(id=1, simdata=[registers]), framer=FramerType.SOCKET,
                                  address=("127.0.0.1", 0))  # fmt: skip
    await server.serve_forever(background=True)
    try:
        port = server.transport.sockets[0].getsockname()[1]
        yield {"driver": "modbus", "host": "127.0.0.1", "port": port,
               "scan_groups": [{"every": "1 s", "tags": METER_TAGS}]}  # fmt: skip
    finally:
        await server.shutdown()


def _is_fine(elapsed_s: float) -> bool:
    return int(elapsed_s * 20) % 2 == 0


@asynccontextmanager
async def inverter(folder: Path) -> AsyncIterator[Mapping[str, Any]]:
    """An inverter that gives 1234 W in one of two scales, and changes them twenty times a second."""
    signals = [
        Signal("holding 83", "int16", lambda elapsed_s: 12340 if _is_fine(elapsed_s) else 1234),
        Signal("holding 84", "int16", lambda elapsed_s: -1 if _is_fine(elapsed_s) else 0),
    ]
    async with SimulatedDevice({1: SimulatedUnit(signals)}) as device:
        yield {"driver": "modbus", "host": "127.0.0.1", "port": device.port, "invalid": "sunspec",
               "scan_groups": [{"every": "100 ms", "tags": INVERTER_TAGS}]}  # fmt: skip


CASES = (
    FieldCase(
        id="modbus-types-of-meters",
        device="A power meter with modulo 10000, sign and magnitude, 48 bits, BCD, and dates of two kinds",
        does="Reads each as the type that the manual names; dates have no zone, as the meter gives none.",
        start=meter,
        values=METER_VALUES,
        helps="`type`",
    ),
    FieldCase(
        id="modbus-sunspec-moving-scale",
        device="A SunSpec inverter that changes its scale factors in operation",
        does="Reads and records a value and its scale register in one request, and shows their product.",
        start=inverter,
        values={"power": 1234, "power_SF": None},
        helps="`scale_from`, `invalid: sunspec`",
    ),
)
