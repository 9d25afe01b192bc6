"""Questions beside the wanted one, whose answers have another length: fewer of its registers, or its neighbours too."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.modbus.address import LAST_ADDRESS, Table
from drivers.modbus.codec import READ_DEVICE_IDENTIFICATION, Request, read_request
from drivers.modbus.settings import ModbusLimits

_PARTS = (2, 4, 1, 3, 6, 8, 5, 7)  # Whole values of two and four registers first: some units insist on them.
_MORE = range(1, 9)
_BITS_PER_BYTE, _BITS_PER_REGISTER = 8, 16


def resized(wanted: Request, limits: ModbusLimits) -> Iterator[Request]:
    """Nothing is read that a unit's limits do not let be read along with what is wanted."""
    if wanted.function == READ_DEVICE_IDENTIFICATION:
        return
    table = next(table for table in Table if table.function == wanted.function)
    step = _BITS_PER_BYTE if table.is_bits else 1
    for size in _PARTS:
        if size * step < wanted.count:
            yield read_request(wanted.unit, wanted.function, wanted.first, size * step)
    count_max = limits.bits if table.is_bits else limits.registers
    hole = limits.hole * (_BITS_PER_REGISTER if table.is_bits else 1)
    for more in _MORE:
        count = (-(-wanted.count // step) + more) * step
        if count > count_max or count - wanted.count > hole:
            break
        # What lies beyond the last register of a unit does not exist: every second question looks the other way.
        firsts = wanted.first, wanted.first + wanted.count - count
        for first in firsts if more % 2 else reversed(firsts):
            if _may_be_read(table, first, first + count - 1, limits):
                yield read_request(wanted.unit, wanted.function, first, count)
                break


def _may_be_read(table: Table, first: int, last: int, limits: ModbusLimits) -> bool:
    return (
        first >= 0
        and last <= LAST_ADDRESS
        and not any(forbidden.touches(table, first, last) for forbidden in limits.forbidden_ranges)
    )
