"""One line without transaction ids (RTU and ASCII): one request at a time, all units in turn, nothing late believed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from drivers.modbus.codec import EXCEPTION, READ_DEVICE_IDENTIFICATION, Request
from drivers.modbus.conversation import Conversation
from drivers.modbus.debts import Debts, shape_of, shape_of_answer
from drivers.modbus.exchange import Exchange, Fault
from drivers.modbus.framing import Framing
from drivers.modbus.pace import Pace
from edge.clock import Clock
from edge.errors import ProtocolViolation

_FLOOD_BYTES = 4096  # Without one right answer among them.
_KEPT_BYTES = 260
_SHOWN_BYTES = 16
_PDU_BYTES_MAX = 253
_FAILURES = frozenset(Fault)
_TIMER_S_MIN = 0.001  # Loops have timers of a millisecond.


@dataclass(slots=True)
class _Question:
    """What is asked now; `is_probe` where its answer only shows that nothing late will come."""

    exchange: Exchange
    request: Request
    heads: frozenset[bytes]
    is_probe: bool
    timeout_s: float
    echo: bytes


class Bus(Conversation, asyncio.Protocol):
    """Carries one request at a time; exchanges take turns by requests, so that a long scan delays a short one little.

    `turnaround_s` says for how long each unit keeps the line after its answer.
    """

    def __init__(
        self, name: str, clock: Clock, framing: Framing, pace: Pace, debts: Debts, turnaround_s: Mapping[int, float]
    ) -> None:
        super().__init__(name, clock)
        self._framing, self._pace, self._debts, self._turnaround_s = framing, pace, debts, turnaround_s
        self._received = bytearray()
        self._noise = bytearray()
        self._noise_bytes = 0
        self._patience_s = 0.0
        self._question: _Question | None = None
        self._quiet_until_s = 0.0
        self._timer: asyncio.Handle | None = None

    # What the event loop calls.

    def data_received(self, data: bytes) -> None:
        """Take answers, late ones too, and put the rest on the line's bill."""
        self._received += data
        if len(self._received) > _FLOOD_BYTES:
            self._count_noise(self._received)
            self._received.clear()
        question = self._question
        if question is not None and question.echo and not self._is_past_echo(question):
            return
        heads = self._debts.heads
        if question is not None:
            heads |= question.heads
        while self._received:
            found = self._framing.find(self._received, heads)
            self._count_noise(self._received[: found.start])
            del self._received[: found.end]
            if found.body is None:
                break
            self._take(found.body)
        if self._noise_bytes > _FLOOD_BYTES:
            self._debts.leave_line_alone(self._loop.time(), self._patience_s)
            what = f"{self._noise_bytes} bytes that are none"
            self.drop(ProtocolViolation(f"{self._name}: answers", "frames", what, bytes(self._noise)))
        elif self._question is None:
            self._hear_stray()

    # Asking.

    def _accept(self, exchange: Exchange) -> None:
        self._queue.append(exchange)
        self._patience_s = max(self._patience_s, exchange.timeout_s)
        if self._question is None:
            self._turn()

    def _turn(self) -> None:
        """Ask the next question that may be asked now, or wait until one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now_s = self._loop.time()
        if not self._queue or self._question is not None or self.is_lost:
            return
        free_at_s = [max(self._quiet_until_s, self._debts.free_at_s(_next_of(each).unit)) for each in self._queue]
        at = next((at for at, free_s in enumerate(free_at_s) if free_s <= now_s), None)
        if at is None:
            self._wait(max(min(free_at_s) - now_s, _TIMER_S_MIN), self._turn)
            return
        exchange = self._queue[at]
        del self._queue[at]
        self._ask(exchange, now_s)

    def _ask(self, exchange: Exchange, now_s: float) -> None:
        wanted = _next_of(exchange)
        request = self._debts.question(wanted, now_s)
        if request is wanted:
            exchange.asked += 1
            if exchange.asked_at_ns == 0:
                exchange.asked_at_ns = self._clock.boot_ns()
        frame = self._framing.frame(request.body)
        answer_bytes = self._framing.size(_answer_body_bytes(request))
        self._question = _Question(
            exchange,
            request,
            frozenset(bytes((request.unit, request.function | refusal)) for refusal in (0, EXCEPTION)),
            is_probe=request is not wanted,
            timeout_s=exchange.timeout_s + (len(frame) + answer_bytes) * self._pace.character_s,
            echo=frame if self._pace.has_echo else b"",
        )
        self._exchange = exchange
        self._received.clear()
        self._noise.clear()
        self._wait(self._question.timeout_s, self._give_up)
        self._write(frame)

    def _go_on(self, turnaround_s: float = 0.0) -> None:
        """After a question: the exchange waits for its next turn, or is done."""
        question, self._question, self._exchange = self._question, None, None
        assert question is not None
        exchange = question.exchange
        if not exchange.is_over:
            if exchange.left:
                self._queue.append(exchange)
            else:
                exchange.answered_at_ns = self._clock.boot_ns()
                assert exchange.done is not None
                exchange.done.set_result(None)
        self._quiet_until_s = self._loop.time() + max(turnaround_s, self._pace.silence_s)
        self._turn()

    def _abandon(self, exchange: Exchange) -> None:
        if exchange in self._queue:
            self._queue.remove(exchange)

    # Hearing.

    def _take(self, body: bytes) -> None:
        """A whole frame: the answer, one that comes late, or a stranger."""
        question = self._question
        if question is None or body[0] != question.request.unit:
            if not self._debts.pay(body):
                self._count_noise(body)
        elif body[1] == question.request.function | EXCEPTION:
            self._take_refusal(question, body[2])
        elif shape_of_answer(body) == shape_of(question.request):
            self._take_answer(question, body)
        elif not self._debts.pay(body):
            self._count_noise(body)

    def _take_answer(self, question: _Question, body: bytes) -> None:
        exchange, request = question.exchange, question.request
        self._debts.settle(request.unit)
        if not question.is_probe and not exchange.is_over:
            if request.function == READ_DEVICE_IDENTIFICATION:
                exchange.data[request] = body[2:]
            else:
                exchange.image[request.offset : request.end] = body[3:]
            exchange.left -= 1
        self._heard(question)

    def _take_refusal(self, question: _Question, code: int) -> None:
        exchange, request = question.exchange, question.request
        if self._debts.is_owed(request.unit, request.function):
            # Of the earlier question, or of this one? Then this one's answer may still come.
            self._debts.owe(request.unit, shape_of(request), self._loop.time())
        else:
            self._debts.settle(request.unit)
        if not question.is_probe:
            exchange.faults[request] = code
            exchange.left -= 1
        self._heard(question)

    def _heard(self, question: _Question) -> None:
        unit = question.request.unit
        self.has_answered = True
        self._noise_bytes = 0
        if self._received:
            # What says more than it was asked may go on doing so: it is not asked the same until it was silent.
            self.note(f"{self._name}: unit {unit} said more than its answer: {_shown(self._received)}")
            self._debts.owe(unit, shape_of(question.request), self._loop.time(), question.timeout_s)
            self._received.clear()
        self._go_on(self._turnaround_s.get(unit, 0.0))

    def _is_past_echo(self, question: _Question) -> bool:
        """Take our own frame off what came; an adapter that does not send it back is none that echoes."""
        echo = question.echo
        if len(self._received) < len(echo) and echo[: len(self._received)] == self._received:
            return False
        if self._received.startswith(echo):
            del self._received[: len(echo)]
        question.echo = b""
        return True

    def _count_noise(self, noise: bytes | bytearray) -> None:
        if noise:
            self._noise_bytes += len(noise)
            self._noise += noise[: _KEPT_BYTES - len(self._noise)]
            self._debts.stir(self._loop.time())

    def _hear_stray(self) -> None:
        """Something came that nobody asked for: the line is free once it has been silent again."""
        self._quiet_until_s = max(self._quiet_until_s, self._loop.time() + self._pace.silence_s)
        self._turn()

    # Silence.

    def _wait(self, delay_s: float, then: Callable[[], None]) -> None:
        """Call back after a silence: what came in time while the loop was busy is heard before."""

        def look_again(looks: int = 2) -> None:
            # A loop may run its timers before it looks for input, and what is due at once before it looks anew.
            self._timer = self._loop.call_soon(look_again, looks - 1) if looks else None
            if not looks:
                then()

        self._timer = self._loop.call_later(delay_s, look_again)

    def _give_up(self) -> None:
        """Do without the overdue answer; after two silences in a row, or one at the start, without the rest too."""
        self._timer = None
        question = self._question
        assert question is not None
        exchange, request = question.exchange, question.request
        self._debts.owe(request.unit, shape_of(request), self._loop.time(), question.timeout_s)
        self._count_noise(self._received)
        self._received.clear()
        if not exchange.is_over:
            if question.is_probe:
                request = _next_of(exchange)
                exchange.asked += 1
            self._fail(exchange, request)
        self._go_on()

    def _fail(self, exchange: Exchange, request: Request) -> None:
        is_noise = bool(self._noise)
        is_first_failure = _FAILURES.isdisjoint(exchange.faults.values())
        is_heard = is_noise or len(exchange.requests) > exchange.left
        exchange.faults[request] = Fault.WRONG if is_noise else Fault.UNANSWERED
        exchange.left -= 1
        if is_noise:
            self.note(self._explain_noise(request))
        if not (is_first_failure and is_heard):
            exchange.fail_rest()

    def _explain_noise(self, request: Request) -> str:
        asked = self._framing.frame(request.body)
        if self._noise.startswith(asked):
            return f"{self._name} sends back what we ask: is it an adapter with an echo? then say serial: echo: true"
        asked_for = f"unit {request.unit}, function {request.function}"
        return f"{self._name}: what came for {asked_for}, is no answer to it: {_shown(self._noise)}"

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._question is not None:
            # On a line, and behind a converter, the next connection may still hear the answer.
            unit, shape = self._question.request.unit, shape_of(self._question.request)
            self._debts.owe(unit, shape, self._loop.time(), self._question.timeout_s)
            self._question = None
        self._received.clear()


def _next_of(exchange: Exchange) -> Request:
    return exchange.requests[exchange.asked]


def _answer_body_bytes(request: Request) -> int:
    if request.function == READ_DEVICE_IDENTIFICATION:
        return 1 + _PDU_BYTES_MAX
    return 3 + request.end - request.offset


def _shown(data: bytearray) -> str:
    return bytes(data[:_SHOWN_BYTES]).hex(" ") + ("..." if len(data) > _SHOWN_BYTES else "")
