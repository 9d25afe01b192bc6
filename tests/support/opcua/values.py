"""The nodes and values of the conformance suite's servers."""

from __future__ import annotations

URI = "http://plant.example/conformance"

VALUES: dict[str, tuple[str, str, bool | int | float | str]] = {
    "Flag": ("bool", "Boolean", True),
    "Int8": ("int8", "SByte", -8),
    "UInt8": ("uint8", "Byte", 8),
    "Int16": ("int16", "Int16", -16),
    "UInt16": ("uint16", "UInt16", 65_000),
    "Int32": ("int32", "Int32", -70_000),
    "UInt32": ("uint32", "UInt32", 4_000_000_000),
    "Int64": ("int64", "Int64", -(2**40)),
    "UInt64": ("uint64", "UInt64", 2**60),
    "Float32": ("float32", "Float", 37.25),
    "Float64": ("float64", "Double", 0.1),
    "Text": ("text", "String", "R-17 µ"),
    "Mode": ("enumeration", "Int32", 2),
}
"""By name: the tag's type, the built-in type (OPC 10000-6, 5.1.2) and the value on server 0."""


def values_of(number: int) -> list[bool | int | float | str]:
    """The values of one server: they differ in `Int16`."""
    return [value - number if name == "Int16" else value for name, (_, _, value) in VALUES.items()]  # type: ignore[operator]
