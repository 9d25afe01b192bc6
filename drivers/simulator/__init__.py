"""A device in memory: signals, recordings and failures on a schedule, for docs, demo and tests."""

from drivers.simulator.driver import SimulatorDriver, SimulatorKind

__all__ = ["SimulatorDriver", "SimulatorKind"]
