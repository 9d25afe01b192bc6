"""Questions whose answer may still come, where no transaction id tells it from the answer to a later one.

A unit does one thing after the other (MODBUS over Serial Line V1.02, 2.4.2) and answers a question once or not at all.
So whatever it says shows that nothing comes any more of what it was asked before. A question is asked only when no
answer to an earlier one could be mistaken for its own; until then others are asked, which tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from drivers.modbus.address import LAST_ADDRESS, Table
from drivers.modbus.codec import EXCEPTION, READ_DEVICE_IDENTIFICATION, Request, read_request
from drivers.modbus.settings import ModbusLimits

_REMEMBERED_S = 60.0  # After its time: nothing keeps an answer for longer.
_TRIED = 3  # Questions that are tried in turn until one tells; others are left for the next time.
_TOLD_MAX = 2


class Shape(NamedTuple):
    """What answers of one unit can be told apart by: function, and bytes of data or category of identification."""

    function: int
    size: int


class _Open(NamedTuple):
    """All questions of one shape that are open: none has a number below `first`, none above `last`."""

    first: int
    last: int
    until_s: float


class OpenQuestions:
    """Those of all units of one line. They outlive connections: a converter may hand out what the last one asked.

    Attributes:
        heads: what frames of this line begin with.
        line_free_at_s: when anybody may be asked again.
    """

    def __init__(self, units: Mapping[int, ModbusLimits]) -> None:
        self.heads: set[bytes] = set()
        self.line_free_at_s = 0.0
        self._units = units
        self._open: dict[int, dict[Shape, _Open]] = {}
        self._free_at_s: dict[int, float] = {}
        self._told: dict[int, list[Request]] = {}
        self._tried: Counter[int] = Counter()
        self._number = 0

    def free_at_s(self, unit: int) -> float:
        """When a unit may be asked again."""
        return max(self.line_free_at_s, self._free_at_s.get(unit, 0.0))

    def leave_alone(self, unit: int, until_s: float) -> None:
        """Ask a unit nothing before that time, unless its answer comes late."""
        self._free_at_s[unit] = until_s

    def next(self, wanted: Request, now_s: float) -> Request:
        """What to ask now: what is wanted, or another question while an answer could be taken for that to this one.

        The answer to a question that was first asked after all of the wanted shape shows that none of these comes any
        more. A unit that never told is asked for what is wanted when all else was tried: silence has to do.
        """
        questions = self._unexpired(wanted.unit, now_s)
        told = self._told.get(wanted.unit, [])
        doubt = questions.get(shape_of(wanted))
        if doubt is None:
            return wanted if questions or told else self._first(wanted)
        others = [
            request
            for request in (*told, *resized(wanted, self._units[wanted.unit]))
            if shape_of(request) != shape_of(wanted)
        ]
        telling = [
            request
            for request in others
            if (known := questions.get(shape_of(request))) is None or known.first > doubt.last
        ][:_TRIED]
        untried = next((request for request in telling if shape_of(request) not in questions), None)
        if untried is not None:
            return untried
        if not (told and others):
            return wanted
        return min(telling or others, key=lambda request: questions[shape_of(request)].last)

    def _first(self, wanted: Request) -> Request:
        """What to ask a unit that is not known yet: which question tells, while there is no doubt."""
        others = list(resized(wanted, self._units[wanted.unit]))[:_TRIED]
        if self._tried[wanted.unit] >= len(others):
            return wanted
        self._tried[wanted.unit] += 1
        return others[self._tried[wanted.unit] - 1]

    def ask(self, request: Request, now_s: float, timeout_s: float) -> None:
        """Note that a question is asked."""
        self.heads |= {bytes((request.unit, request.function | refusal)) for refusal in (0, EXCEPTION)}
        self._add(request.unit, shape_of(request), now_s + timeout_s)

    def distrust(self, unit: int, shape: Shape, now_s: float) -> None:
        """Note that answers of a shape may come without being asked for, and again."""
        self._add(unit, shape, now_s, first=0)

    def hear(self, body: bytes) -> bool:
        """Take note of a frame; whether a question is open no more: that which it answers, or those before it."""
        unit, shape = body[0], shape_of_answer(body)
        is_refusal = bool(body[1] & EXCEPTION)
        questions = self._open.get(unit, {})
        answered = [
            known.first
            for each, known in questions.items()
            if (each.function == shape.function if is_refusal else each == shape)
        ]
        if not answered:
            return False
        left = {each: known for each, known in questions.items() if known.last > min(answered)}
        self._open[unit] = left
        if not left:
            self._free_at_s.pop(unit, None)
        return len(left) < len(questions)

    def is_open(self, unit: int, shape: Shape) -> bool:
        """Whether an answer of this shape may still come."""
        return shape in self._open.get(unit, {})

    def tell(self, request: Request) -> None:
        """Note that a unit answers a question, should one be needed that tells."""
        told = self._told.setdefault(request.unit, [])
        told[:] = [request, *(known for known in told if shape_of(known) != shape_of(request))][:_TOLD_MAX]

    def has_told(self, unit: int) -> bool:
        """Whether a unit is known to answer questions that tell."""
        return bool(self._told.get(unit))

    def _add(self, unit: int, shape: Shape, until_s: float, first: int | None = None) -> None:
        self._number += 1
        questions = self._open.setdefault(unit, {})
        if first is None:
            known = questions.get(shape)
            first = self._number if known is None else known.first
        questions[shape] = _Open(first, self._number, until_s + _REMEMBERED_S)

    def _unexpired(self, unit: int, now_s: float) -> dict[Shape, _Open]:
        questions = self._open.get(unit)
        if not questions:
            return {}
        left = self._open[unit] = {shape: known for shape, known in questions.items() if known.until_s > now_s}
        return left


def shape_of(request: Request) -> Shape:
    """The shape of the right answer to a request."""
    if request.function == READ_DEVICE_IDENTIFICATION:
        return Shape(request.function, request.tail[7])
    return Shape(request.function, request.end - request.offset)


def shape_of_answer(body: bytes) -> Shape:
    """The shape of an answer; a refusal has none but its function."""
    if body[1] & EXCEPTION:
        return Shape(body[1] & ~EXCEPTION, 0)
    return Shape(body[1], body[3 if body[1] == READ_DEVICE_IDENTIFICATION else 2])


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
