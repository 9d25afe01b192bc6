"""A read-only Modbus TCP device in memory, for the demo, rigs and tests; it can record the values it served.

unit = SimulatedUnit([Signal("holding 100", "float32", sine(mean=37.0, swing=0.5, period_s=30))])
async with SimulatedDevice({1: unit}) as device:
    ...  # It listens on 127.0.0.1, at device.port.

`drivers.modbus.simulator.configured` serves the devices of a configuration, for `tidegate simulate`.
"""

from drivers.modbus.simulator.device import (
    Signal,
    SimulatedDevice,
    SimulatedUnit,
    TagSignal,
    Wave,
    counter,
    ramp,
    sine,
    steady,
)
from drivers.modbus.simulator.line import SimulatedLine
from drivers.modbus.simulator.registers import Value, registers_of

__all__ = ["Signal", "SimulatedDevice", "SimulatedLine", "SimulatedUnit", "TagSignal", "Value", "Wave", "counter",
           "ramp", "registers_of", "sine", "steady"]  # fmt: skip
