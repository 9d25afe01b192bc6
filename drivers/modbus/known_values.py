"""A simulated device whose registers are written out by hand, to qualify that each type and order is read rightly.

The simulator's own encoder takes no part: a mistake that reader and encoder shared would not be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from drivers.modbus.address import Table
from drivers.modbus.simulator import SimulatedDevice, SimulatedUnit

_APART = 10
_BIG, _LITTLE = {"word_order": "big"}, {"word_order": "little"}


class KnownValue(NamedTuple):
    """Registers in hexadecimal, as they come over the wire, how the tag is configured, and the value that they hold."""

    name: str
    registers: str
    type: str
    expected: float | int | str
    settings: Mapping[str, Any] = {}


KNOWN_VALUES = (
    KnownValue("uint16", "BEEF", "uint16", 48879),
    KnownValue("uint16-swapped", "EFBE", "uint16", 48879, {"byte_order": "little"}),
    KnownValue("int16", "8001", "int16", -32767),
    KnownValue("uint32", "DEAD BEEF", "uint32", 3735928559, _BIG),
    KnownValue("uint32-words-swapped", "BEEF DEAD", "uint32", 3735928559, _LITTLE),
    KnownValue("uint32-bytes-swapped", "ADDE EFBE", "uint32", 3735928559, {**_BIG, "byte_order": "little"}),
    KnownValue("uint32-both-swapped", "EFBE ADDE", "uint32", 3735928559, {**_LITTLE, "byte_order": "little"}),
    KnownValue("int32", "FFFE 1DC0", "int32", -123456, _BIG),
    KnownValue("uint64", "0123 4567 89AB CDEF", "uint64", 81985529216486895, _BIG),
    KnownValue("int64", "FEDC BA98 7654 3211", "int64", -81985529216486895, _BIG),
    KnownValue("float32", "42F6 E979", "float32", 123.456, _BIG),
    KnownValue("float32-words-swapped", "E979 42F6", "float32", 123.456, _LITTLE),
    KnownValue("float32-bytes-swapped", "F642 79E9", "float32", 123.456, {**_BIG, "byte_order": "little"}),
    KnownValue("float64", "405E DD2F 1A9F BE77", "float64", 123.456, _BIG),
    KnownValue("float64-words-swapped", "BE77 1A9F DD2F 405E", "float64", 123.456, _LITTLE),
    KnownValue("text", "4C4F 542D 3700", "text", "LOT-7", {"length": 6}),
    KnownValue("bcd32", "1234 5678", "bcd32", 12345678, _BIG),
    KnownValue("mod10k32", "0012 0D80", "mod10k32", 183456, _BIG),
    KnownValue("signmag16", "8064", "signmag16", -100),
)


class _KnownUnit(SimulatedUnit):
    """The registers; with `is_swapped` one device of the plant holds its 32-bit numbers the other way round."""

    def __init__(self, *, is_swapped: bool) -> None:
        super().__init__()
        for number, each in enumerate(KNOWN_VALUES):
            words = each.registers.split()
            if is_swapped and len(words) == 2:
                words.reverse()
            data = bytes.fromhex("".join(words))
            self._words[Table.HOLDING][2 * _APART * number : 2 * _APART * number + len(data)] = data


def device_of_known_values(*, is_swapped: bool) -> SimulatedDevice:
    """The device, not yet switched on; `is_swapped` plants a wrong word order, to see that it is found."""
    return SimulatedDevice({1: _KnownUnit(is_swapped=is_swapped)})


def known_tags() -> list[dict[str, Any]]:
    """The tags of that device as a configuration has them."""
    return [{"name": each.name, "address": f"holding {_APART * number}", "type": each.type, **each.settings}
            for number, each in enumerate(KNOWN_VALUES)]  # fmt: skip
