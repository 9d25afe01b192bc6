"""An OPC UA server on asyncua, in a process of its own, for the conformance suite."""

from edge.testing.opcua.subject import OpcuaSubject

__all__ = ["OpcuaSubject"]
