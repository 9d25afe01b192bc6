"""OPC UA, reading only: polled and subscribed, on secured sessions."""

from drivers.opcua.driver import OpcuaDriver, OpcuaKind

__all__ = ["OpcuaDriver", "OpcuaKind"]
