"""Answers that a line still owes, where no transaction id tells a late one from the next.

A unit does one thing after the other (MODBUS over Serial Line V1.02, 2.4.2): an answer to a later question means that
no answer to an earlier one will come any more. So after a silence a unit is left alone until its answer has come late,
or for as long again; the first question then is one whose answer cannot be mistaken for any that is owed.
"""

from __future__ import annotations

from typing import NamedTuple

from drivers.modbus.codec import EXCEPTION, READ_BITS, READ_DEVICE_IDENTIFICATION, Request, read_request

_REMEMBERED_S = 60.0  # Nothing keeps an answer for longer.
_REMEMBERED_MAX = 8  # For each unit.
_SMALLER_COUNTS = (2, 4, 1, 3, 6, 8, 5, 7)  # Whole values of two and four registers first: some units insist on them.
_BITS_PER_BYTE = 8
_EVERYBODY = -1


class Shape(NamedTuple):
    """What answers of one unit can be told apart by: function, and bytes of data or category of identification."""

    function: int
    size: int


class _Debt(NamedTuple):
    shape: Shape
    owed_since_s: float


class Debts:
    """What the units of one line owe. It outlives connections: a gateway may answer what the last one asked."""

    def __init__(self) -> None:
        self._owed: dict[int, list[_Debt]] = {}
        self._left_alone: dict[int, tuple[float, float]] = {}  # Until when, and how long a silence is enough.

    @property
    def heads(self) -> set[bytes]:
        """What the answers begin with that may still come late."""
        return {
            bytes((unit, debt.shape.function | refusal))
            for unit, owed in self._owed.items()
            for debt in owed
            for refusal in (0, EXCEPTION)
        }

    def free_at_s(self, unit: int) -> float:
        """When a unit may be asked again."""
        return max(self._left_alone.get(each, (0.0, 0.0))[0] for each in (unit, _EVERYBODY))

    def leave_line_alone(self, now_s: float, silence_s: float) -> None:
        """Ask nobody until the line has been silent for so long: what babbles may babble answers."""
        self._left_alone[_EVERYBODY] = now_s + silence_s, silence_s

    def owe(self, unit: int, shape: Shape, now_s: float, silence_s: float = 0.0) -> None:
        """Note that an answer may still come, and leave the unit alone until it has been silent for so long."""
        owed = self._owed.setdefault(unit, [])
        owed.append(_Debt(shape, now_s))
        del owed[:-_REMEMBERED_MAX]
        if silence_s:
            self._left_alone[unit] = now_s + silence_s, silence_s

    def stir(self, now_s: float) -> None:
        """Something that is no answer came from somebody: whoever is left alone is so for longer."""
        for unit, (until_s, silence_s) in self._left_alone.items():
            if until_s > now_s:
                self._left_alone[unit] = now_s + silence_s, silence_s

    def pay(self, body: bytes) -> bool:
        """Whether a frame is an answer that was owed. What was owed before it will not come any more."""
        unit, shape = body[0], shape_of_answer(body)
        owed = self._owed.get(unit, [])
        function = shape.function & ~EXCEPTION
        for at, debt in enumerate(owed):
            if debt.shape == shape or (shape.function & EXCEPTION and debt.shape.function == function):
                del owed[: at + 1]
                if not owed:
                    self._left_alone.pop(unit, None)
                return True
        return False

    def settle(self, unit: int) -> None:
        """A unit has answered what it was asked last: it owes nothing more."""
        self._owed.pop(unit, None)
        self._left_alone.pop(unit, None)

    def is_owed(self, unit: int, function: int) -> bool:
        """Whether a refusal of this function could be a late one."""
        return any(debt.shape.function == function for debt in self._owed.get(unit, ()))

    def question(self, request: Request, now_s: float) -> Request:
        """What to ask before `request` so that its answer cannot be mistaken; `request` itself where there is no need.

        It is a smaller part of the same registers. Of one register there is none: then silence has to do.
        """
        owed = self._owed.get(request.unit)
        if not owed:
            return request
        owed[:] = [debt for debt in owed if now_s - debt.owed_since_s < _REMEMBERED_S]
        taken = {debt.shape for debt in owed}
        if shape_of(request) not in taken or request.function == READ_DEVICE_IDENTIFICATION:
            return request
        for size in _SMALLER_COUNTS:
            count = _BITS_PER_BYTE * size if request.function in READ_BITS else size
            smaller = read_request(request.unit, request.function, request.first, min(count, request.count))
            if count < request.count and shape_of(smaller) not in taken:
                return smaller
        return request


def shape_of(request: Request) -> Shape:
    """The shape of the right answer to a request."""
    if request.function == READ_DEVICE_IDENTIFICATION:
        return Shape(request.function, request.tail[7])
    return Shape(request.function, request.end - request.offset)


def shape_of_answer(body: bytes) -> Shape:
    """The shape of an answer; of a refusal, its function code as it came and the exception."""
    at = 3 if body[1] == READ_DEVICE_IDENTIFICATION else 2
    return Shape(body[1], body[at])
