"""Modbus TCP, reading only: a codec of our own on asyncio, compiled plans, one future per scan."""

from drivers.modbus.driver import ModbusDriver, ModbusKind

__all__ = ["ModbusDriver", "ModbusKind"]
