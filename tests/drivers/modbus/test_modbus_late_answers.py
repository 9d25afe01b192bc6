"""Without transaction ids, no answer is taken for that to another request: a line and a unit, in virtual time."""

from __future__ import annotations

import asyncio
import selectors
import struct
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.codec import EXCEPTION, READ_DEVICE_IDENTIFICATION, Request, identification_request, read_request
from drivers.modbus.framing import LineTiming, Rtu
from drivers.modbus.late_answers import OutstandingRequests
from drivers.modbus.serial_line import LineMaster, Send, SerialLine, Wake
from drivers.modbus.settings import ModbusLimits
from drivers.modbus.transport import Fault, RequestBatch
from edge.clock import SystemClock

UNIT = 7
TIMEOUT_S = 1.0
KEPT_S = 60.0  # No answer comes later: a request that would have to wait for longer is lost.
Action = Literal["answer", "refuse", "lose", "garble", "repeat"]
Behaviour = tuple[Action, float]
"""What a unit does about one request, and how long it takes; the next one has to wait."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop that does not wait: when it has nothing to do, its time becomes that of the next timer."""

    def __init__(self) -> None:
        self._now_s = 0.0
        super().__init__(_VirtualSelector(self))

    def time(self) -> float:
        return self._now_s

    def pass_time(self, seconds: float) -> None:
        self._now_s += seconds


class _VirtualSelector(selectors.SelectSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "no timer is set: the test would hang"
        self._loop.pass_time(max(0.0, timeout))
        return super().select(0)


def in_virtual_time(task: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(task())


class Unit:
    """Processes one request after the other; every register of an answer holds the number of its request."""

    def __init__(
        self, behaviours: Sequence[Behaviour], *, knows: Callable[[bytes], bool] = lambda request: True,
        is_silent_to_unknown: bool = False,
    ) -> None:  # fmt: skip
        self.requests: list[bytes] = []
        self.send: Callable[[bytes], None] = lambda frame: None
        self._behaviours = iter(behaviours)
        self._knows = knows
        self._on_unknown: Action = "lose" if is_silent_to_unknown else "refuse"
        self._answers: deque[bytes] = deque()
        self._free_at_s = 0.0

    def receive(self, frame: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.requests.append(frame[:-2])
        action, took_s = next(self._behaviours, ("answer", 0.0))
        done_at_s = max(self._free_at_s, loop.time()) + took_s
        if done_at_s > loop.time() + KEPT_S:
            return
        self._free_at_s = done_at_s
        answer = self._answer(len(self.requests) - 1, action)
        if answer:
            self._answers.append(answer)  # Timers of the same time have no order.
            loop.call_at(self._free_at_s, lambda: self.send(self._answers.popleft()))

    def _answer(self, number: int, action: Action) -> bytes:
        request = self.requests[number]
        unit, function = request[:2]
        if function == READ_DEVICE_IDENTIFICATION or not self._knows(request):
            action = "lose" if action == "lose" else self._on_unknown
        if action == "lose":
            return b""
        if action == "refuse":
            return Rtu().frame(bytes((unit, function | EXCEPTION, code_of(number))))
        (count,) = struct.unpack_from(">H", request, 4)
        data = struct.pack(">H", number) * count
        frame = Rtu().frame(bytes((unit, function, len(data))) + data)
        if action == "garble":
            return frame[:-1] + bytes((frame[-1] ^ 1,))
        return 2 * frame if action == "repeat" else frame


def code_of(number: int) -> int:
    """The exception code that identifies the refused request."""
    return 20 + number % 200


class Wire(asyncio.Transport):
    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self.write = unit.receive  # type: ignore[assignment, method-assign]

    def abort(self) -> None:
        pass


class LineUnderTest:
    """A unit, and one serial line after the other that asks it."""

    def __init__(self, unit: Unit, limits: ModbusLimits) -> None:
        self.unit = unit
        self._limits = {UNIT: limits}
        self._outstanding = OutstandingRequests(self._limits)
        self.connect()

    def connect(self) -> None:
        """Replace the connection; a converter passes answers to the newest one."""
        self.line = SerialLine("line", SystemClock(), LineMaster("line", Rtu(), LineTiming(), self._outstanding))
        self.line.connection_made(Wire(self.unit))
        self.unit.send = self.line.data_received

    async def scan(self, requests: Sequence[Request]) -> bool:
        """Send all requests, check that each outcome belongs to its request; returns whether all were answered."""
        first = len(self.unit.requests)
        batch = RequestBatch(requests, bytearray(max(request.end for request in requests)), TIMEOUT_S)
        await self.line.transact(batch)
        for request in requests:
            if request.function == READ_DEVICE_IDENTIFICATION:
                continue
            fault = batch.faults.get(request)
            if fault is None:
                (number,) = set(struct.unpack(f">{request.count}H", batch.image[request.offset : request.end]))
                assert number >= first
                assert self.unit.requests[number] == request.body
            elif not isinstance(fault, Fault):
                refused = [number for number in range(first, len(self.unit.requests)) if code_of(number) == fault]
                assert [self.unit.requests[number] for number in refused] == [request.body]
        return not batch.faults


def blocks(*counts: int) -> list[Request]:
    ends = [2 * sum(counts[: at + 1]) for at in range(len(counts))]
    return [
        read_request(UNIT, 3 + at % 2 if count > 20 else 3, 100 * at, count, end - 2 * count)
        for at, (count, end) in enumerate(zip(counts, ends, strict=True))
    ]


def behaviours(*actions: Action, longest_s: float = 20 * TIMEOUT_S) -> st.SearchStrategy[list[Behaviour]]:
    special = [took_s for took_s in (0.0, 0.0, 0.99, 1.0, 1.01, 2.0, 3.0, 20.0) if took_s <= longest_s]
    took_s = st.one_of(st.sampled_from(special), st.floats(0, min(longest_s, 5 * TIMEOUT_S)))
    return st.lists(st.tuples(st.sampled_from(actions), took_s), max_size=40)


plans = st.sampled_from(
    [blocks(1), blocks(1, 1, 1), blocks(2, 2), blocks(10, 10, 10), blocks(1, 10, 1), blocks(30, 30, 30)]
)
KNOWN: list[Behaviour] = [
    ("answer", 0.0)
] * 2  # The first probes are answered in time: without a known probe, only silence is waited for.


def play(unit: Unit, plan: list[Request], reconnects: set[int], limits: ModbusLimits, requests: int) -> None:
    async def scan_until_good() -> None:
        line = LineUnderTest(unit, limits)
        await line.scan([identification_request(UNIT, 1, 0)])
        scans, is_good = 0, False
        while not is_good or len(unit.requests) < requests:
            if scans in reconnects:
                line.connect()
            is_good = await line.scan(plan)
            scans += 1
            assert scans < 500
            await asyncio.sleep(TIMEOUT_S)

    in_virtual_time(scan_until_good)


@pytest.mark.requirement("REQ-READ-04")
@given(
    late=behaviours("answer", "answer", "lose", "garble", "repeat"), plan=plans, reconnects=st.sets(st.integers(1, 40))
)
def test_however_late_no_answer_is_taken_for_the_next_one(
    late: list[Behaviour], plan: list[Request], reconnects: set[int]
) -> None:
    """Late by up to a minute, lost, garbled, repeated, on a new connection: a value belongs to its request."""
    play(Unit(KNOWN + late), plan, reconnects, ModbusLimits(), len(late))


@given(late=behaviours("answer", "refuse", "lose"), plan=plans, hole=st.sampled_from([0, 8]))
def test_however_late_no_refusal_is_taken_for_the_next_one(
    late: list[Behaviour], plan: list[Request], hole: int
) -> None:
    """A unit that answers the requests of its plan, and refuses all others."""
    known = {request.body for request in plan}
    unit = Unit(KNOWN + late, knows=lambda request: request in known)
    play(unit, plan, set(), ModbusLimits(hole=hole), len(late))


@given(late=behaviours("answer", "lose", longest_s=1.9 * TIMEOUT_S))
def test_without_probes_silence_is_enough_for_answers_late_by_less_than_the_timeout(late: list[Behaviour]) -> None:
    """A unit that ignores all requests but those of its plan, of one register each."""
    plan = blocks(1, 1, 1)
    known = {request.body for request in plan}
    unit = Unit(late, knows=lambda request: request in known, is_silent_to_unknown=True)
    play(unit, plan, set(), ModbusLimits(), len(late))


async def test_a_line_that_opens_is_listened_to_before_a_unit_without_probes_is_asked_again() -> None:
    """Its answers to earlier requests wait in the buffers of the line until the port is open, and come at once."""
    (wanted,) = blocks(1)
    outstanding = OutstandingRequests({UNIT: ModbusLimits(hole=0)})
    outstanding.add(wanted, now_s=0.0, timeout_s=TIMEOUT_S)
    outstanding.add(wanted, now_s=5.0, timeout_s=TIMEOUT_S)
    master = LineMaster("line", Rtu(), LineTiming(), outstanding)
    old, new = (Rtu().frame(bytes((UNIT, 3, 2, 0, number))) for number in (1, 2))
    batch = RequestBatch([wanted], bytearray(2), TIMEOUT_S)
    batch.done = asyncio.get_running_loop().create_future()

    master.connect(9.0)
    on_open = master.add(batch, 9.0)
    on_old = master.receive(old + old, 9.5)
    on_early_wake = master.wake(10.0)
    on_wake = master.wake(10.5)
    master.receive(new, 10.6)

    assert on_open == [Wake(10.0)]
    assert on_old[-1] == on_early_wake[-1] == Wake(10.5)
    assert [event for event in on_wake if isinstance(event, Send)] == [Send(Rtu().frame(wanted.body), batch)]
    assert batch.image == bytes((0, 2))


def test_a_unit_with_a_known_probe_is_asked_as_soon_as_the_line_opens() -> None:
    """The answer to the probe proves more than silence does."""
    (wanted,) = blocks(1)
    outstanding = OutstandingRequests({UNIT: ModbusLimits()})
    outstanding.add_probe(identification_request(UNIT, 1, 0))
    outstanding.add(wanted, now_s=0.0, timeout_s=TIMEOUT_S)
    master = LineMaster("line", Rtu(), LineTiming(), outstanding)

    master.connect(9.0)
    events = master.add(RequestBatch([wanted], bytearray(2), TIMEOUT_S), 9.0)

    assert Send(Rtu().frame(identification_request(UNIT, 1, 0).body), None) in events


@given(silent=st.integers(1, 12), unused_s=st.floats(0, 20.0), apart_s=st.floats(0, 0.9 * TIMEOUT_S))
def test_no_answer_that_was_held_until_the_next_connection_is_taken_for_a_new_one(
    silent: int, unused_s: float, apart_s: float
) -> None:
    """No probe is known, as nothing was answered before; the answers come one after the other when the line opens."""

    async def scan() -> None:
        opened_at_s = 2 * silent * TIMEOUT_S + unused_s
        unit = Unit([("answer", opened_at_s + 0.001), *[("answer", apart_s)] * 2 * silent])
        line = LineUnderTest(unit, ModbusLimits())
        for _ in range(silent):
            assert not await line.scan(blocks(10, 10, 10))
            await asyncio.sleep(TIMEOUT_S)
        await asyncio.sleep(unused_s)
        line.connect()
        for _ in range(10):
            if await line.scan(blocks(10, 10, 10)):
                return
            await asyncio.sleep(TIMEOUT_S)
        raise AssertionError("it is not read again")

    in_virtual_time(scan)


def test_a_wrong_checksum_does_not_cost_the_timeout() -> None:
    """Nothing follows the answer, and a probe is known."""

    async def scan_twice() -> None:
        line = LineUnderTest(Unit([*KNOWN, ("garble", 0.0)]), ModbusLimits())
        await line.scan([identification_request(UNIT, 1, 0)])
        garbled = await line.scan(blocks(10, 10))
        took_s = asyncio.get_running_loop().time()
        after = await line.scan(blocks(10, 10))

        assert (garbled, after) == (False, True)
        assert took_s < TIMEOUT_S / 4

    in_virtual_time(scan_twice)


def test_a_wrong_checksum_costs_the_timeout_where_no_probe_is_known() -> None:
    async def scan() -> None:
        line = LineUnderTest(Unit([("garble", 0.0)]), ModbusLimits(hole=0))
        await line.scan(blocks(1))

        assert asyncio.get_running_loop().time() >= TIMEOUT_S

    in_virtual_time(scan)
