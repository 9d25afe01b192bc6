"""Simulated devices with signals, recordings and scheduled failures, for docs, demo and tests."""

from drivers.simulator.driver import SimulatorDriver, SimulatorKind

__all__ = ["SimulatorDriver", "SimulatorKind"]
