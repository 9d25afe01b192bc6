"""Late answers on lines without transaction ids: which requests may still be answered, and what is safe to send.

Theory of operation
===================

An RTU or ASCII answer carries unit, function and length, and nothing that says which request it belongs to. An answer
that comes after its timeout could therefore be taken for the answer to a later request: a wrong value with good
quality. Closing the connection does not help, as converters hand out old answers to new clients.

What the standard gives (MODBUS over Serial Line V1.02): one request is on the line at a time (2.4.1), and a unit
processes one request after the other and answers it once or not at all (2.4.2). So the answers of a unit come in the
order of the requests, and **an answer proves that nothing comes any more for what was sent to the unit before the
request that is answered**. Answers can be told apart by their `Shape`: function, and number of data bytes (or category
of device identification). All requests of one unit and one shape are kept as one entry, with the numbers of the first
and of the last of them. Exception answers have no shape: one may answer any request of its function.

States of a shape of one unit:

    clear         no entry. Every answer of this shape belongs to the request that is sent next.
    outstanding   requests `first` to `last` may be answered. Sending a request of this shape leads here.
    suspect       outstanding with `first` 0: answers of this shape came unsolicited and may come again.

What changes them:

    add           clear -> outstanding; an outstanding entry gets a new `last` and a new end of its time.
    mark_suspect  any -> suspect, when a unit sent more than it was asked for.
    take_answer   the answer belongs to the `first` request of its shape, or to a later one: all entries whose `last` is
                  not after `first` become clear. An entry of one request is thus cleared by its own answer. Of several
                  requests of one shape it is not known which was answered: the entry stays until another shape proves
                  it clear. An exception counts for the earliest entry of its function.
    time          60 s after the timeout of the last request an entry becomes clear: no device or converter keeps an
                  answer for longer.

What is sent for a wanted request (`next_request`):

    its shape is clear        the wanted request itself. Before the first request to an unknown unit, a few probes are
                              tried, to learn which of them the unit answers.
    outstanding or suspect    a probe: a request of another shape, the first of which was sent after `last`. Its answer
                              or refusal proves the wanted shape clear. Probes that the unit is known to answer come
                              first, then the wanted registers resized: fewer of them, or their neighbours too.
    no probe is answered      the wanted request again, after the unit was left alone for one more timeout: for a unit
                              that ignores every probe, silence is the only proof. The time begins anew with each
                              connection, on which answers may arrive that waited in the buffers of the line, and with
                              each late answer that leaves others outstanding.

What can never happen: while a unit has answered a probe since the start of the gateway, no answer and no refusal is
taken for that of another request, however late within the 60 s, and across connections. Requests of other units go on
meanwhile, because their answers carry another unit. Not covered: units that answer out of order or twice after the next
request was sent, and a second master on the line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from drivers.modbus.address import LAST_ADDRESS, Table
from drivers.modbus.codec import EXCEPTION, READ_DEVICE_IDENTIFICATION, Request, read_request
from drivers.modbus.settings import ModbusLimits

_KEPT_S = 60.0  # After the timeout.
_PROBES_TRIED = 3  # In turn, until one is answered; the others are left for the next time.
_PROBES_KNOWN_MAX = 2
_PROBE_SIZES = (2, 4, 1, 3, 6, 8, 5, 7)  # Whole values of two and four registers first: some units insist on them.
_PROBE_EXTRAS = range(1, 9)
_BITS_PER_BYTE, _BITS_PER_REGISTER = 8, 16


class Shape(NamedTuple):
    """What tells answers of one unit apart: function, and bytes of data or category of identification."""

    function: int
    size: int


class _Entry(NamedTuple):
    """All outstanding requests of one shape: none has a number below `first` or above `last`."""

    first: int
    last: int
    until_s: float


class OutstandingRequests:
    """The requests of all units of a line that may still be answered. They outlive connections.

    Attributes:
        units: the limits of each unit.
        heads: unit and function of all frames that are expected on this line.
        line_ready_at_s: no unit is asked before that time.
    """

    def __init__(self, units: Mapping[int, ModbusLimits]) -> None:
        self.units = units
        self.heads: set[bytes] = set()
        self.line_ready_at_s = 0.0
        self._entries: dict[int, dict[Shape, _Entry]] = {}
        self._ready_at_s: dict[int, float] = {}
        self._timeouts_s: dict[int, float] = {}  # The longest of each unit, with the time that the bytes take.
        self._probes: dict[int, list[Request]] = {}
        self._probes_tried: Counter[int] = Counter()
        self._number = 0

    def ready_at_s(self, unit: int) -> float:
        """When a unit may be asked again."""
        return max(self.line_ready_at_s, self._ready_at_s.get(unit, 0.0))

    def suspend(self, unit: int, until_s: float) -> None:
        """Do not ask a unit before that time, unless its late answer comes."""
        self._ready_at_s[unit] = until_s

    def wait_for_silence(self, now_s: float, unit: int | None = None) -> None:
        """Do not ask a unit, or any, for one timeout where only silence proves that no earlier answer comes."""
        for each in self._entries if unit is None else (unit,):
            if not self.has_probe(each) and self._unexpired(each, now_s):
                self.suspend(each, max(self._ready_at_s.get(each, 0.0), now_s + self._timeouts_s[each]))

    def next_request(self, wanted: Request, now_s: float) -> Request:
        """What to send now: the wanted request, or a probe while its answer could be mistaken for an earlier one's."""
        entries = self._unexpired(wanted.unit, now_s)
        known = self._probes.get(wanted.unit, [])
        wanted_entry = entries.get(shape_of(wanted))
        if wanted_entry is None:
            return wanted if entries or known else self._first_probe(wanted)
        probes = [
            request
            for request in (*known, *probes_for(wanted, self.units[wanted.unit]))
            if shape_of(request) != shape_of(wanted)
        ]
        proving = [
            request
            for request in probes
            if (entry := entries.get(shape_of(request))) is None or entry.first > wanted_entry.last
        ][:_PROBES_TRIED]
        untried = next((request for request in proving if shape_of(request) not in entries), None)
        if untried is not None:
            return untried
        if not (known and probes):
            return wanted
        return min(proving or probes, key=lambda request: entries[shape_of(request)].last)

    def _first_probe(self, wanted: Request) -> Request:
        """The next probe to try with a unit of which none is known, or the wanted request when all were tried."""
        probes = list(probes_for(wanted, self.units[wanted.unit]))[:_PROBES_TRIED]
        if self._probes_tried[wanted.unit] >= len(probes):
            return wanted
        self._probes_tried[wanted.unit] += 1
        return probes[self._probes_tried[wanted.unit] - 1]

    def add(self, request: Request, now_s: float, timeout_s: float) -> None:
        """Note that a request is sent."""
        self.heads |= {bytes((request.unit, request.function | refusal)) for refusal in (0, EXCEPTION)}
        self._timeouts_s[request.unit] = max(self._timeouts_s.get(request.unit, 0.0), timeout_s)
        self._add(request.unit, shape_of(request), now_s + timeout_s)

    def mark_suspect(self, unit: int, shape: Shape, now_s: float) -> None:
        """Note that answers of a shape may come without a request, repeatedly."""
        self._add(unit, shape, now_s, first=0)

    def take_answer(self, body: bytes) -> bool:
        """Clear what a frame proves clear; returns whether there was anything."""
        unit, shape = body[0], shape_of_answer(body)
        is_refusal = bool(body[1] & EXCEPTION)
        entries = self._entries.get(unit, {})
        answered = [
            entry.first
            for each, entry in entries.items()
            if (each.function == shape.function if is_refusal else each == shape)
        ]
        if not answered:
            return False
        left = {each: entry for each, entry in entries.items() if entry.last > min(answered)}
        self._entries[unit] = left
        if not left:
            self._ready_at_s.pop(unit, None)
        return len(left) < len(entries)

    def is_outstanding(self, unit: int, shape: Shape) -> bool:
        """Whether an answer of this shape may still come."""
        return shape in self._entries.get(unit, {})

    def add_probe(self, request: Request) -> None:
        """Note that a unit answers a request, which makes it a probe for other shapes."""
        probes = self._probes.setdefault(request.unit, [])
        others = (known for known in probes if shape_of(known) != shape_of(request))
        probes[:] = [request, *others][:_PROBES_KNOWN_MAX]

    def has_probe(self, unit: int) -> bool:
        """Whether a probe is known that a unit answers."""
        return bool(self._probes.get(unit))

    def _add(self, unit: int, shape: Shape, until_s: float, first: int | None = None) -> None:
        self._number += 1
        entries = self._entries.setdefault(unit, {})
        if first is None:
            entry = entries.get(shape)
            first = self._number if entry is None else entry.first
        entries[shape] = _Entry(first, self._number, until_s + _KEPT_S)

    def _unexpired(self, unit: int, now_s: float) -> dict[Shape, _Entry]:
        entries = self._entries.get(unit)
        if not entries:
            return {}
        left = self._entries[unit] = {shape: entry for shape, entry in entries.items() if entry.until_s > now_s}
        return left


def shape_of(request: Request) -> Shape:
    """The shape of the right answer to a request."""
    if request.function == READ_DEVICE_IDENTIFICATION:
        return Shape(request.function, request.wire_suffix[7])
    return Shape(request.function, request.end - request.offset)


def shape_of_answer(body: bytes) -> Shape:
    """The shape of an answer; that of a refusal has its function only."""
    if body[1] & EXCEPTION:
        return Shape(body[1] & ~EXCEPTION, 0)
    return Shape(body[1], body[3 if body[1] == READ_DEVICE_IDENTIFICATION else 2])


def probes_for(wanted: Request, limits: ModbusLimits) -> Iterator[Request]:
    """Requests for fewer of the wanted registers or bits, or for their neighbours too, as far as the limits allow."""
    if wanted.function == READ_DEVICE_IDENTIFICATION:
        return
    table = next(table for table in Table if table.function == wanted.function)
    step = _BITS_PER_BYTE if table.is_bits else 1
    for size in _PROBE_SIZES:
        if size * step < wanted.count:
            yield read_request(wanted.unit, wanted.function, wanted.first, size * step)
    count_max = limits.bits if table.is_bits else limits.registers
    hole = limits.hole * (_BITS_PER_REGISTER if table.is_bits else 1)
    for extra in _PROBE_EXTRAS:
        count = (-(-wanted.count // step) + extra) * step
        if count > count_max or count - wanted.count > hole:
            break
        # There is nothing behind the last register of a unit: every second probe extends to the other side.
        firsts = wanted.first, wanted.first + wanted.count - count
        for first in firsts if extra % 2 else reversed(firsts):
            if _may_be_read(table, first, first + count - 1, limits):
                yield read_request(wanted.unit, wanted.function, first, count)
                break


def _may_be_read(table: Table, first: int, last: int, limits: ModbusLimits) -> bool:
    return (
        first >= 0
        and last <= LAST_ADDRESS
        and not any(forbidden.touches(table, first, last) for forbidden in limits.forbidden_ranges)
    )
