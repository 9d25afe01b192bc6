"""One line without transaction ids (RTU and ASCII): one request at a time, all units in turn, nothing late believed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from drivers.modbus.codec import EXCEPTION, READ_DEVICE_IDENTIFICATION, Request
from drivers.modbus.framing import HEAD_BYTES, Framing, Hearing, Pace
from drivers.modbus.late_answers import OpenQuestions, Shape, shape_of, shape_of_answer
from drivers.modbus.settings import ModbusLimits
from drivers.modbus.transport import Conversation, Exchange, Fault
from edge.clock import Clock
from edge.errors import ProtocolViolation

_FLOOD_BYTES = 4096  # Of noise, without an answer.
_DOUBTS_MAX = 4
_SHOWN_BYTES = 16
_PDU_BYTES_MAX = 253
_FAILURES = frozenset(Fault)
_TIMER_S_MIN = 0.001  # Loops have timers of a millisecond.
_PORTION_S = 0.05  # Adapters and converters hand on what they hear in portions, some tens of milliseconds apart.


@dataclass(slots=True)
class _Question:
    """What is asked now: what its exchange wants, or another question because of earlier ones that are open.

    Attributes:
        answer_bytes: how long the right answer is, or the longest.
        is_spoilt: as much has come as the answer would be, and it is none.
    """

    exchange: Exchange
    request: Request
    shape: Shape
    is_wanted: bool
    answer_bytes: int
    timeout_s: float
    until_s: float
    is_spoilt: bool = False


class Bus(Conversation, asyncio.Protocol):
    """Carries one request at a time; exchanges take turns by requests: a long scan delays a short one little."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        framing: Framing,
        pace: Pace,
        units: Mapping[int, ModbusLimits],
        open_questions: OpenQuestions,
    ) -> None:
        super().__init__(name, clock)
        self._framing, self._pace, self._units, self._open = framing, pace, units, open_questions
        self._hearing = Hearing(framing, open_questions.heads)
        self._question: _Question | None = None
        self._patience_s = 0.0
        self._quiet_until_s = 0.0
        self._timer: asyncio.Handle | None = None

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. What came with an answer is heard before anything else is asked."""
        for body in self._hearing.frames(data):
            self._take(body)
        if self._hearing.noise_bytes_in_a_row > _FLOOD_BYTES:
            self._end_flood()
        elif self._question is None:
            self._rest()
        elif self._hearing.noise_bytes:
            self._judge_noise(self._question)

    # Asking.

    def _accept(self, exchange: Exchange) -> None:
        self._queue.append(exchange)
        self._patience_s = max(self._patience_s, exchange.timeout_s)
        if self._question is None:
            self._turn()

    def _turn(self) -> None:
        """Ask the next question that may be asked now, or wait until one may."""
        self._stop_timer()
        if not self._queue or self._question is not None or self.is_lost:
            return
        now_s = self._loop.time()
        free_at_s = [max(self._quiet_until_s, self._open.free_at_s(_next_of(each).unit)) for each in self._queue]
        at = next((at for at, free_s in enumerate(free_at_s) if free_s <= now_s), None)
        if at is None:
            self._wait(min(free_at_s) - now_s, self._turn)
            return
        exchange = self._queue[at]
        del self._queue[at]
        self._ask(exchange, now_s)

    def _ask(self, exchange: Exchange, now_s: float) -> None:
        wanted = _next_of(exchange)
        request = self._open.next(wanted, now_s)
        if request is wanted and exchange.asked_at_ns == 0:
            exchange.asked_at_ns = self._clock.boot_ns()
        frame = self._framing.frame(request.body)
        answer_bytes = self._framing.size(_answer_body_bytes(request))
        timeout_s = exchange.timeout_s + (len(frame) + answer_bytes) * self._pace.character_s
        self._question = _Question(
            exchange,
            request,
            shape_of(request),
            is_wanted=request is wanted,
            answer_bytes=answer_bytes,
            timeout_s=timeout_s,
            until_s=now_s + timeout_s,
        )
        self._exchange = exchange
        self._open.ask(request, now_s, timeout_s)
        self._hearing.ask(echo=frame if self._pace.has_echo else b"")
        self._wait(timeout_s, self._give_up)
        self._write(frame)

    def _go_on(self, question: _Question) -> None:
        """After a question: its exchange waits for its next turn, or is done."""
        self._question = self._exchange = None
        exchange = question.exchange
        if not exchange.is_over:
            if exchange.left:
                self._queue.append(exchange)
            else:
                exchange.answered_at_ns = self._clock.boot_ns()
                assert exchange.done is not None
                exchange.done.set_result(None)

    def _abandon(self, exchange: Exchange) -> None:
        if exchange in self._queue:
            self._queue.remove(exchange)

    # Hearing.

    def _take(self, body: bytes) -> None:
        """A whole frame: the answer, one that comes late, or what nobody asked for."""
        question = self._question
        unit, shape = body[0], shape_of_answer(body)
        is_told = self._open.hear(body)
        if question is not None and unit == question.request.unit:
            if body[1] == question.request.function | EXCEPTION:
                self._take_refusal(question, body[2])
                return
            if shape == question.shape:
                self._take_answer(question, body)
                return
        if not is_told:
            self._hearing.count(body)
            if not self._open.is_open(unit, shape):
                self._distrust(unit, shape, body)

    def _take_answer(self, question: _Question, body: bytes) -> None:
        exchange, request = question.exchange, question.request
        if question.is_wanted and not exchange.is_over:
            if request.function == READ_DEVICE_IDENTIFICATION:
                exchange.data[request] = body[2:]
            else:
                exchange.image[request.offset : request.end] = body[3:]
            _resolve(exchange)
        self._learn(question)
        self._answered(question)

    def _take_refusal(self, question: _Question, code: int) -> None:
        exchange = question.exchange
        if not self._open.is_open(question.request.unit, question.shape):
            if question.is_wanted:
                _resolve(exchange, code)
            self._learn(question)
        elif exchange.doubts < _DOUBTS_MAX:
            exchange.doubts += 1  # An earlier question may be meant: what is wanted is asked again once that is clear.
        else:
            _resolve(exchange, code if question.is_wanted else Fault.UNANSWERED)
        self._answered(question)

    def _answered(self, question: _Question) -> None:
        unit = question.request.unit
        self.has_answered = True
        self._hearing.noise_bytes_in_a_row = 0
        if len(self._hearing.begun) >= HEAD_BYTES:
            self._distrust(unit, question.shape, self._hearing.begun)
        self._go_on(question)
        self._quiet_until_s = self._loop.time() + self._units[unit].gap / 1e9

    def _learn(self, question: _Question) -> None:
        if not question.is_wanted or question.request.function == READ_DEVICE_IDENTIFICATION:
            self._open.tell(question.request)

    def _rest(self) -> None:
        """Ask on once nothing more comes."""
        now_s = self._loop.time()
        self._quiet_until_s = max(self._quiet_until_s, now_s + self._pace.silence_s)
        if self._open.line_free_at_s > now_s:
            self._open.line_free_at_s = now_s + self._patience_s
        self._turn()

    def _distrust(self, unit: int, shape: Shape, said: bytes) -> None:
        self.note(f"{self._name}: unit {unit} said more than it was asked: {_shown(said)}")
        self._open.distrust(unit, shape, self._loop.time())

    def _end_flood(self) -> None:
        # What babbles may babble answers of old.
        self._open.line_free_at_s = self._loop.time() + self._patience_s
        noise, noise_bytes = bytes(self._hearing.noise), self._hearing.noise_bytes_in_a_row
        self.drop(ProtocolViolation(f"{self._name}: answers", "frames", f"{noise_bytes} bytes that are none", noise))

    # Silence.

    def _judge_noise(self, question: _Question) -> None:
        """Wait for the answer; where as much has come as it would be, only until nothing follows."""
        begun_bytes = len(self._hearing.begun)
        is_as_much = self._hearing.noise_bytes + begun_bytes >= question.answer_bytes
        has_begun = begun_bytes >= HEAD_BYTES
        question.is_spoilt = is_as_much and not has_begun and self._open.has_told(question.request.unit)
        left_s = question.until_s - self._loop.time()
        self._wait(min(left_s, _PORTION_S) if question.is_spoilt else left_s, self._give_up)

    def _wait(self, delay_s: float, then: Callable[[], None]) -> None:
        """Call back after a silence: what came in time while the loop was busy is heard before."""

        def look_again(looks: int = 2) -> None:
            # A loop may run its timers before it looks for input, and what is due at once before it looks anew.
            self._timer = self._loop.call_soon(look_again, looks - 1) if looks else None
            if not looks:
                then()

        self._stop_timer()
        self._timer = self._loop.call_later(max(delay_s, _TIMER_S_MIN), look_again)

    def _give_up(self) -> None:
        """Do without the overdue answer; after two silences in a row, or one at the start, without the rest too."""
        question = self._question
        assert question is not None
        now_s = self._loop.time()
        self._hearing.give_up()
        if not question.is_spoilt:
            self._open.leave_alone(question.request.unit, now_s + question.timeout_s)
        if not question.exchange.is_over:
            self._fail(question)
        self._go_on(question)
        self._quiet_until_s = now_s + self._pace.silence_s
        self._turn()

    def _fail(self, question: _Question) -> None:
        exchange = question.exchange
        is_noise = bool(self._hearing.noise)
        is_first_failure = _FAILURES.isdisjoint(exchange.faults.values())
        is_heard = is_noise or len(exchange.requests) > exchange.left
        if is_noise:
            self.note(self._explain_noise(question.request))
        _resolve(exchange, Fault.WRONG if is_noise else Fault.UNANSWERED)
        if not (is_first_failure and is_heard):
            exchange.fail_rest()

    def _explain_noise(self, request: Request) -> str:
        noise = bytes(self._hearing.noise)
        if noise.startswith(self._framing.frame(request.body)):
            return f"{self._name} sends back what we ask: is it an adapter with an echo? then say serial: echo: true"
        asked_for = f"unit {request.unit}, function {request.function}"
        return f"{self._name}: what came for {asked_for}, is no answer to it: {_shown(noise)}"

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop(self) -> None:
        self._stop_timer()
        self._question = None


def _next_of(exchange: Exchange) -> Request:
    return exchange.requests[exchange.asked]


def _resolve(exchange: Exchange, fault: Fault | int | None = None) -> None:
    if fault is not None:
        exchange.faults[_next_of(exchange)] = fault
    exchange.asked += 1
    exchange.left -= 1
    exchange.doubts = 0


def _answer_body_bytes(request: Request) -> int:
    if request.function == READ_DEVICE_IDENTIFICATION:
        return 1 + _PDU_BYTES_MAX
    return 3 + request.end - request.offset


def _shown(data: bytes) -> str:
    return data[:_SHOWN_BYTES].hex(" ") + ("..." if len(data) > _SHOWN_BYTES else "")
