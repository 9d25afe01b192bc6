"""Modbus over TCP, TLS and serial lines, read-only: a codec of our own on asyncio, and compiled plans."""

from drivers.modbus.driver import ModbusDriver, ModbusKind

__all__ = ["ModbusDriver", "ModbusKind"]
