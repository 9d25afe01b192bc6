"""A line without transaction ids (RTU, ASCII, and TCP with tolerated errors): one request at a time, and the units take
turns."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from drivers.modbus.codec import EXCEPTION, READ_DEVICE_IDENTIFICATION, Request
from drivers.modbus.framing import HEAD_BYTES, FrameReceiver, Framing, LineTiming
from drivers.modbus.late_answers import OutstandingRequests, Shape, shape_of, shape_of_answer
from drivers.modbus.transport import Fault, RequestBatch, Transport
from edge.clock import Clock
from edge.errors import DeviceUnreachable, ErrorCode, ProtocolViolation

_NOISE_BYTES_MAX = 4096  # Without an answer.
_DOUBTS_MAX = 4
_BYTES_SHOWN = 16
_PDU_BYTES_MAX = 253
_FAULTS = frozenset(Fault)
_TIMER_S_MIN = 0.001  # Loops have timers of a millisecond.
_PORTION_S = 0.05  # Adapters and converters pass bytes on in portions, some tens of milliseconds apart.


class LineState(Enum):
    """States of a master (MODBUS over Serial Line V1.02, 2.4.1)."""

    IDLE = "no request is on the line; the next one is sent once the line and its unit are ready"
    WAITING = "a request was sent, and its answer may come until the timeout"
    GARBLED = "as many bytes came as the answer has, and they are no answer: only more bytes are waited for"


class Reply(Enum):
    """What a complete frame is."""

    ANSWER = "the answer to the request on the line, by unit, function and length"
    REFUSAL = "an exception to that function of that unit"
    LATE = "the answer to an earlier request, by which that one is settled"
    UNSOLICITED = "an answer that no request explains"


class Send(NamedTuple):
    """Send a frame; it carries a request of `batch`, or a probe before it."""

    frame: bytes
    batch: RequestBatch | None


class Wake(NamedTuple):
    """Call `LineMaster.wake` at that time, and not at the time of an earlier event."""

    at_s: float


class Complete(NamedTuple):
    """All requests of a batch have their outcome."""

    batch: RequestBatch


class Violation(NamedTuple):
    """A sentence to report with a batch, or with the next one."""

    batch: RequestBatch | None
    text: str


Event = Send | Wake | Complete | Violation | ProtocolViolation | DeviceUnreachable


@dataclass(slots=True)
class _Pending:
    """The request on the line.

    Attributes:
        frame: its bytes.
        response_bytes: length of the frame of the right answer, or of the longest.
        fault: what bytes are that came instead.
    """

    batch: RequestBatch
    request: Request
    frame: bytes
    shape: Shape
    is_probe: bool
    response_bytes: int
    timeout_s: float
    deadline_s: float
    fault: Fault = Fault.GARBLED


class LineMaster:
    """The protocol of a line, without a transport: takes bytes and times, and returns events in their order.

    Batches take turns by requests, so that a long scan delays a short one little.

    Attributes:
        queue: the batches that wait for their turn.
    """

    def __init__(self, name: str, framing: Framing, timing: LineTiming, outstanding: OutstandingRequests) -> None:
        self.queue: deque[RequestBatch] = deque()
        self.state = LineState.IDLE
        self._name, self._framing, self._timing, self._outstanding = name, framing, timing, outstanding
        self._receiver = FrameReceiver(framing, outstanding.heads)
        self._pending: _Pending | None = None
        self._timeout_s_max = 0.0
        self._silent_until_s = 0.0
        self._events: list[Event] = []
        self._take_reply = {
            Reply.ANSWER: self._take_answer,
            Reply.REFUSAL: self._take_refusal,
            Reply.LATE: self._take_late,
            Reply.UNSOLICITED: self._take_unsolicited,
        }

    @property
    def batch(self) -> RequestBatch | None:
        """The batch whose request is on the line."""
        return self._pending.batch if self._pending is not None else None

    def connect(self, now_s: float) -> None:
        """Begin to listen. Answers to earlier requests may have waited for it: they come at once."""
        self._outstanding.wait_for_silence(now_s)

    def add(self, batch: RequestBatch, now_s: float) -> list[Event]:
        """Queue a batch."""
        self.queue.append(batch)
        self._timeout_s_max = max(self._timeout_s_max, batch.timeout_s)
        if self.state is LineState.IDLE:
            self._send_next(now_s)
        return self._flush()

    def receive(self, data: bytes, now_s: float) -> list[Event]:
        """Take received bytes. Frames that came together are all taken before the next request is sent."""
        for body in self._receiver.receive(data):
            self._take_reply[self._classify(body)](body, now_s)
        if self._receiver.noise_bytes_in_a_row > _NOISE_BYTES_MAX:
            self._end_noise(now_s)
        elif self._pending is None:
            self._wait_for_silence(now_s)
        elif self._receiver.noise_bytes:
            self._check_noise(self._pending, now_s)
        return self._flush()

    def wake(self, now_s: float) -> list[Event]:
        """The time of the last `Wake` has come."""
        if self._pending is not None:
            self._time_out(self._pending, now_s)
        self._send_next(now_s)
        return self._flush()

    def tells_apart(self, unit: int) -> bool:
        """See `Transport.tells_apart`: without a known probe only silence tells, or the end of the connection."""
        return self._framing.ends_at_timeout or self._outstanding.has_probe(unit)

    def stop(self) -> None:
        """Forget the request on the line."""
        self._pending, self.state = None, LineState.IDLE

    def _flush(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    # Sending.

    def _send_next(self, now_s: float) -> None:
        """Send the first request that may be sent now, or wake when one may."""
        if not self.queue:
            return
        ready_at_s = [max(self._silent_until_s, self._outstanding.ready_at_s(_next_of(b).unit)) for b in self.queue]
        at = next((at for at, ready_s in enumerate(ready_at_s) if ready_s <= now_s), None)
        if at is None:
            self._events.append(Wake(min(ready_at_s)))
            return
        batch = self.queue[at]
        del self.queue[at]
        self._send(batch, now_s)

    def _send(self, batch: RequestBatch, now_s: float) -> None:
        wanted = _next_of(batch)
        request = self._outstanding.next_request(wanted, now_s)
        frame = self._framing.frame(request.body)
        response_bytes = self._framing.size(_response_body_bytes(request))
        timeout_s = batch.timeout_s + (len(frame) + response_bytes) * self._timing.character_s
        shape, is_probe, deadline_s = shape_of(request), request is not wanted, now_s + timeout_s
        self._pending = _Pending(batch, request, frame, shape, is_probe, response_bytes, timeout_s, deadline_s)
        self.state = LineState.WAITING
        self._outstanding.add(request, now_s, timeout_s)
        self._receiver.start_request(echo=frame if self._timing.has_echo else b"")
        self._events += Wake(deadline_s), Send(frame, None if is_probe else batch)

    def _release(self, batch: RequestBatch) -> None:
        """Take the request off the line: its batch waits for its next turn, or is complete."""
        self.stop()
        if not batch.is_done:
            if batch.remaining:
                self.queue.append(batch)
            else:
                self._events.append(Complete(batch))

    # Receiving.

    def _classify(self, body: bytes) -> Reply:
        pending = self._pending
        is_settled = self._outstanding.take_answer(body)
        if pending is not None and body[0] == pending.request.unit:
            if body[1] == pending.request.function | EXCEPTION:
                return Reply.REFUSAL
            if shape_of_answer(body) == pending.shape:
                return Reply.ANSWER
        return Reply.LATE if is_settled else Reply.UNSOLICITED

    def _take_answer(self, body: bytes, now_s: float) -> None:
        pending = self._pending
        assert pending is not None
        batch, request = pending.batch, pending.request
        if not pending.is_probe and not batch.is_done:
            if request.function == READ_DEVICE_IDENTIFICATION:
                batch.data[request] = body[2:]
            else:
                batch.image[request.offset : request.end] = body[3:]
            _resolve(batch)
        self._learn_probe(pending)
        self._settle(pending, now_s)

    def _take_refusal(self, body: bytes, now_s: float) -> None:
        pending = self._pending
        assert pending is not None
        batch, code = pending.batch, body[2]
        if not self._outstanding.is_outstanding(pending.request.unit, pending.shape):
            if not pending.is_probe:
                _resolve(batch, code)
            self._learn_probe(pending)
        elif batch.doubts < _DOUBTS_MAX:
            batch.doubts += 1  # It may refuse an earlier request: the wanted one is sent again once that is clear.
        else:
            _resolve(batch, Fault.UNANSWERED if pending.is_probe else code)
        self._settle(pending, now_s)

    def _take_late(self, body: bytes, now_s: float) -> None:
        self._outstanding.wait_for_silence(now_s, unit=body[0])

    def _take_unsolicited(self, body: bytes, now_s: float) -> None:
        unit, shape = body[0], shape_of_answer(body)
        self._receiver.count_noise(body)
        if not self._outstanding.is_outstanding(unit, shape):
            pending = self._pending
            if pending is not None and (unit, body[1]) == (pending.request.unit, pending.request.function):
                is_short = len(body) < _response_body_bytes(pending.request)
                pending.fault = Fault.SHORT if is_short else pending.fault
            self._mark_suspect(unit, shape, body, now_s)
        self._outstanding.wait_for_silence(now_s, unit)

    def _settle(self, pending: _Pending, now_s: float) -> None:
        unit = pending.request.unit
        self._receiver.noise_bytes_in_a_row = 0
        if len(self._receiver.partial) >= HEAD_BYTES:
            self._mark_suspect(unit, pending.shape, self._receiver.partial, now_s)
        self._release(pending.batch)
        self._silent_until_s = now_s + self._outstanding.units[unit].gap / 1e9

    def _learn_probe(self, pending: _Pending) -> None:
        if pending.is_probe or pending.request.function == READ_DEVICE_IDENTIFICATION:
            self._outstanding.add_probe(pending.request)

    def _mark_suspect(self, unit: int, shape: Shape, data: bytes, now_s: float) -> None:
        text = f"{self._name}: unit {unit} said more than it was asked: {_shown(data)}"
        self._events.append(Violation(self.batch, text))
        self._outstanding.mark_suspect(unit, shape, now_s)

    # Silence and noise.

    def _wait_for_silence(self, now_s: float) -> None:
        self._silent_until_s = max(self._silent_until_s, now_s + self._timing.silence_s)
        if self._outstanding.line_ready_at_s > now_s:
            self._outstanding.line_ready_at_s = now_s + self._timeout_s_max
        self._send_next(now_s)

    def _check_noise(self, pending: _Pending, now_s: float) -> None:
        partial_bytes = len(self._receiver.partial)
        is_as_much = self._receiver.noise_bytes + partial_bytes >= pending.response_bytes
        is_garbled = is_as_much and partial_bytes < HEAD_BYTES and self._outstanding.has_probe(pending.request.unit)
        self.state = LineState.GARBLED if is_garbled else LineState.WAITING
        self._events.append(Wake(min(pending.deadline_s, now_s + _PORTION_S) if is_garbled else pending.deadline_s))

    def _end_noise(self, now_s: float) -> None:
        # A line that sends noise may send old answers too.
        self._outstanding.line_ready_at_s = now_s + self._timeout_s_max
        noise, noise_bytes = bytes(self._receiver.noise), self._receiver.noise_bytes_in_a_row
        self._events.append(
            ProtocolViolation(f"{self._name}: answers", "frames", f"{noise_bytes} bytes that are none", noise)
        )

    def _time_out(self, pending: _Pending, now_s: float) -> None:
        """Give up the request on the line; after a second silence, or one at the start, the rest of its batch too."""
        self._receiver.discard_partial()
        if self._framing.ends_at_timeout and self.state is LineState.WAITING:
            self._events.append(DeviceUnreachable(self._explain_end(pending), code=ErrorCode.DEVICE_SILENT))
            return
        if self.state is LineState.WAITING:
            self._outstanding.suspend(pending.request.unit, now_s + pending.timeout_s)
        if not pending.batch.is_done:
            self._fail(pending)
        self._release(pending.batch)
        self._silent_until_s = now_s + self._timing.silence_s

    def _fail(self, pending: _Pending) -> None:
        batch = pending.batch
        is_noise = bool(self._receiver.noise)
        is_first_fault = _FAULTS.isdisjoint(batch.faults.values())
        is_alive = is_noise or len(batch.requests) > batch.remaining
        if is_noise:
            self._events.append(Violation(batch, self._explain_noise(pending)))
        _resolve(batch, pending.fault if is_noise else Fault.UNANSWERED)
        if not (is_first_fault and is_alive):
            batch.fail_unsent()

    def _explain_end(self, pending: _Pending) -> str:
        noise = f"; {self._explain_noise(pending)}" if self._receiver.noise else ""
        return (
            f"unit {pending.request.unit} did not answer within {pending.timeout_s:g} s; the connection was ended, "
            f"because a late answer could pass for the next one (tolerate){noise}"
        )

    def _explain_noise(self, pending: _Pending) -> str:
        noise, request = bytes(self._receiver.noise), pending.request
        if noise.startswith(pending.frame):
            return f"{self._name} sends back what we ask: is it an adapter with an echo? then say serial: echo: true"
        asked_for = f"unit {request.unit}, function {request.function}"
        return f"{self._name}: what came for {asked_for}, is no answer to it: {_shown(noise)}"


class SerialLine(Transport, asyncio.Protocol):
    """Connects a `LineMaster` to a serial port or a TCP connection, and to the loop's clock."""

    def __init__(self, name: str, clock: Clock, master: LineMaster) -> None:
        super().__init__(name, clock)
        self._master, self._queue = master, master.queue
        self._timer: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        super().connection_made(transport)
        self._master.connect(self._loop.time())

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._apply(self._master.receive(data, self._loop.time()))

    def tells_apart(self, unit: int) -> bool:
        """See `Transport.tells_apart`."""
        return self._master.tells_apart(unit)

    def _accept(self, batch: RequestBatch) -> None:
        self._apply(self._master.add(batch, self._loop.time()))

    def _abandon(self, batch: RequestBatch) -> None:
        if batch in self._queue:
            self._queue.remove(batch)

    def _apply(self, events: list[Event]) -> None:
        self._batch = self._master.batch
        if self._batch is None:
            self._stop_timer()
        for event in events:
            match event:
                case Send(frame, batch):
                    if batch is not None and batch.asked_at_ns == 0:
                        batch.asked_at_ns = self._clock.boot_ns()
                    self._write(frame)
                case Wake(at_s):
                    self._start_timer(at_s)
                case Complete(batch):
                    batch.answered_at_ns = self._clock.boot_ns()
                    self.has_answered |= not batch.is_unanswered
                    assert batch.done is not None
                    batch.done.set_result(None)
                case Violation(batch, text):
                    self._add_violation(batch, text)
                case ProtocolViolation() | DeviceUnreachable():
                    self.drop(event)

    def _start_timer(self, at_s: float) -> None:
        """Wake the master at a time, unless bytes came before it while the loop was busy."""

        def wake(rounds: int = 2) -> None:
            # A loop may run its timers before it reads input, and what is called soon before it reads again.
            self._timer = self._loop.call_soon(wake, rounds - 1) if rounds else None
            if not rounds:
                self._apply(self._master.wake(self._loop.time()))

        self._stop_timer()
        self._timer = self._loop.call_later(max(at_s - self._loop.time(), _TIMER_S_MIN), wake)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop(self) -> None:
        self._stop_timer()
        self._master.stop()


def _next_of(batch: RequestBatch) -> Request:
    return batch.requests[batch.sent]


def _resolve(batch: RequestBatch, fault: Fault | int | None = None) -> None:
    if fault is not None:
        batch.faults[_next_of(batch)] = fault
    batch.sent += 1
    batch.remaining -= 1
    batch.doubts = 0


def _response_body_bytes(request: Request) -> int:
    if request.function == READ_DEVICE_IDENTIFICATION:
        return 1 + _PDU_BYTES_MAX
    return 3 + request.end - request.offset


def _shown(data: bytes) -> str:
    return data[:_BYTES_SHOWN].hex(" ") + ("..." if len(data) > _BYTES_SHOWN else "")
