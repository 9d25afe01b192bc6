"""Where no transaction id tells, no answer passes for another's: a whole bus against a unit, in a time of their own."""

from __future__ import annotations

import asyncio
import selectors
import struct
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.codec import EXCEPTION, READ_DEVICE_IDENTIFICATION, Request, identification_request, read_request
from drivers.modbus.framing import Pace, Rtu
from drivers.modbus.late_answers import OpenQuestions
from drivers.modbus.serial_line import Bus
from drivers.modbus.settings import ModbusLimits
from drivers.modbus.transport import Exchange, Fault
from edge.clock import SystemClock

UNIT = 7
TIMEOUT_S = 1.0
KEPT_S = 60.0  # No answer comes later: a question that would have to wait for longer is lost.
Deed = Literal["answer", "refuse", "lose", "spoil", "say twice"]
Behaviour = tuple[Deed, float]
"""What a unit does about one question, and how long it takes; the next one has to wait."""


class OwnTime(asyncio.SelectorEventLoop):
    """A loop that does not wait: when nothing is to be done, the time is that of the next timer."""

    def __init__(self) -> None:
        self._now_s = 0.0
        super().__init__(_NoWaiting(self))

    def time(self) -> float:
        return self._now_s

    def pass_time(self, seconds: float) -> None:
        self._now_s += seconds


class _NoWaiting(selectors.SelectSelector):
    def __init__(self, loop: OwnTime) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits for ever"
        self._loop.pass_time(max(0.0, timeout))
        return super().select(0)


def in_own_time(task: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=OwnTime) as runner:
        runner.run(task())


class Unit:
    """Does one thing after the other; every register of an answer holds the number of its question."""

    def __init__(
        self, behaviours: Sequence[Behaviour], *, knows: Callable[[bytes], bool] = lambda question: True,
        is_silent_to_strange: bool = False,
    ) -> None:  # fmt: skip
        self.questions: list[bytes] = []
        self.say: Callable[[bytes], None] = lambda frame: None
        self._behaviours = iter(behaviours)
        self._knows = knows
        self._to_strange: Deed = "lose" if is_silent_to_strange else "refuse"
        self._answers: deque[bytes] = deque()
        self._free_at_s = 0.0

    def hear(self, frame: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.questions.append(frame[:-2])
        deed, took_s = next(self._behaviours, ("answer", 0.0))
        done_at_s = max(self._free_at_s, loop.time()) + took_s
        if done_at_s > loop.time() + KEPT_S:
            return
        self._free_at_s = done_at_s
        answer = self._answer(len(self.questions) - 1, deed)
        if answer:
            self._answers.append(answer)  # What is due at one time is not called in any order.
            loop.call_at(self._free_at_s, lambda: self.say(self._answers.popleft()))

    def _answer(self, number: int, deed: Deed) -> bytes:
        question = self.questions[number]
        unit, function = question[:2]
        if function == READ_DEVICE_IDENTIFICATION or not self._knows(question):
            deed = "lose" if deed == "lose" else self._to_strange
        if deed == "lose":
            return b""
        if deed == "refuse":
            return Rtu().frame(bytes((unit, function | EXCEPTION, code_of(number))))
        (count,) = struct.unpack_from(">H", question, 4)
        data = struct.pack(">H", number) * count
        frame = Rtu().frame(bytes((unit, function, len(data))) + data)
        if deed == "spoil":
            return frame[:-1] + bytes((frame[-1] ^ 1,))
        return 2 * frame if deed == "say twice" else frame


def code_of(number: int) -> int:
    """The exception of a refusal: it tells which question was refused."""
    return 20 + number % 200


class Wire(asyncio.Transport):
    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self.write = unit.hear  # type: ignore[assignment, method-assign]

    def abort(self) -> None:
        pass


class Line:
    """A unit, and bus after bus that asks it."""

    def __init__(self, unit: Unit, limits: ModbusLimits) -> None:
        self.unit = unit
        self._limits = {UNIT: limits}
        self._open_questions = OpenQuestions(self._limits)
        self.connect()

    def connect(self) -> None:
        """Whoever listened until now is gone: a converter tells the newest what the old one asked."""
        self.bus = Bus("line", SystemClock(), Rtu(), Pace(), self._limits, self._open_questions)
        self.bus.connection_made(Wire(self.unit))
        self.unit.say = self.bus.data_received

    async def scan(self, requests: Sequence[Request]) -> bool:
        """Ask for everything, and see that what is taken for an answer is one; whether all was answered."""
        first = len(self.unit.questions)
        exchange = Exchange(requests, bytearray(max(request.end for request in requests)), TIMEOUT_S)
        await self.bus.carry(exchange)
        for request in requests:
            if request.function == READ_DEVICE_IDENTIFICATION:
                continue
            fault = exchange.faults.get(request)
            if fault is None:
                (number,) = set(struct.unpack(f">{request.count}H", exchange.image[request.offset : request.end]))
                assert number >= first
                assert self.unit.questions[number] == request.body
            elif not isinstance(fault, Fault):
                refused = [number for number in range(first, len(self.unit.questions)) if code_of(number) == fault]
                assert [self.unit.questions[number] for number in refused] == [request.body]
        return not exchange.faults


def blocks(*counts: int) -> list[Request]:
    ends = [2 * sum(counts[: at + 1]) for at in range(len(counts))]
    return [
        read_request(UNIT, 3 + at % 2 if count > 20 else 3, 100 * at, count, end - 2 * count)
        for at, (count, end) in enumerate(zip(counts, ends, strict=True))
    ]


def lateness(*deeds: Deed, longest_s: float = 20 * TIMEOUT_S) -> st.SearchStrategy[list[Behaviour]]:
    special = [took_s for took_s in (0.0, 0.0, 0.99, 1.0, 1.01, 2.0, 3.0, 20.0) if took_s <= longest_s]
    took_s = st.one_of(st.sampled_from(special), st.floats(0, min(longest_s, 5 * TIMEOUT_S)))
    return st.lists(st.tuples(st.sampled_from(deeds), took_s), max_size=40)


plans = st.sampled_from(
    [blocks(1), blocks(1, 1, 1), blocks(2, 2), blocks(10, 10, 10), blocks(1, 10, 1), blocks(30, 30, 30)]
)
KNOWN: list[Behaviour] = [
    ("answer", 0.0)
] * 2  # Whoever has never told by a prompt answer which questions tell is waited for instead.


def play(unit: Unit, plan: list[Request], reconnects: set[int], limits: ModbusLimits, questions: int) -> None:
    async def scan_until_good() -> None:
        line = Line(unit, limits)
        await line.scan([identification_request(UNIT, 1, 0)])
        scans, is_good = 0, False
        while not is_good or len(unit.questions) < questions:
            if scans in reconnects:
                line.connect()
            is_good = await line.scan(plan)
            scans += 1
            assert scans < 500
            await asyncio.sleep(TIMEOUT_S)

    in_own_time(scan_until_good)


@given(
    late=lateness("answer", "answer", "lose", "spoil", "say twice"), plan=plans, reconnects=st.sets(st.integers(1, 40))
)
def test_however_late_no_answer_passes_for_the_next_one(
    late: list[Behaviour], plan: list[Request], reconnects: set[int]
) -> None:
    """By up to a minute, lost, spoilt, doubled, through a new connection: a value is that of its question."""
    play(Unit(KNOWN + late), plan, reconnects, ModbusLimits(), len(late))


@given(late=lateness("answer", "refuse", "lose"), plan=plans, hole=st.sampled_from([0, 8]))
def test_however_late_no_refusal_passes_for_the_next_one(late: list[Behaviour], plan: list[Request], hole: int) -> None:
    """A unit that knows no question but those of its plan, and refuses the others."""
    known = {request.body for request in plan}
    unit = Unit(KNOWN + late, knows=lambda question: question in known)
    play(unit, plan, set(), ModbusLimits(hole=hole), len(late))


@given(late=lateness("answer", "lose", longest_s=1.9 * TIMEOUT_S))
def test_silence_is_enough_where_nothing_tells_for_answers_late_by_less_than_the_timeout(late: list[Behaviour]) -> None:
    """A unit that is silent to all but what its plan asks for, one register at a time."""
    plan = blocks(1, 1, 1)
    known = {request.body for request in plan}
    unit = Unit(late, knows=lambda question: question in known, is_silent_to_strange=True)
    play(unit, plan, set(), ModbusLimits(), len(late))


def test_a_wrong_checksum_does_not_cost_the_timeout() -> None:
    """Nothing follows an answer; that the next question tells is known."""

    async def scan_twice() -> None:
        line = Line(Unit([*KNOWN, ("spoil", 0.0)]), ModbusLimits())
        await line.scan([identification_request(UNIT, 1, 0)])
        spoilt = await line.scan(blocks(10, 10))
        took_s = asyncio.get_running_loop().time()
        after = await line.scan(blocks(10, 10))

        assert (spoilt, after) == (False, True)
        assert took_s < TIMEOUT_S / 4

    in_own_time(scan_twice)


def test_a_wrong_checksum_costs_the_timeout_where_nothing_tells() -> None:
    async def scan() -> None:
        line = Line(Unit([("spoil", 0.0)]), ModbusLimits(hole=0))
        await line.scan(blocks(1))

        assert asyncio.get_running_loop().time() >= TIMEOUT_S

    in_own_time(scan)
