"""Frames with transaction ids (Modbus TCP, also within TLS): which request an answer belongs to, and when to send."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from drivers.modbus.codec import EXCEPTION, GATEWAY_FAILURES, HEADER_BYTES, LENGTH_MAX, LENGTH_MIN, Request
from drivers.modbus.transport import Fault, RequestBatch, Transport
from edge.clock import Clock
from edge.driver.timeouts import check_at_s
from edge.errors import ProtocolViolation

_ID_MAX = 0xFFFF
_IDS_REMEMBERED = 0x8000
_IDS_RESERVED_MAX = 256  # Of those that were given up, and of those that came unasked.
_BUFFER_BYTES = 8192
_OFFENCES_MAX = 16
_CHATTER_BYTES_MAX = 4096  # In one scan.
_TIMER_S_MIN = 0.001
_BYTES_SHOWN = 16
_FRAME = struct.Struct(">HHHBBB")
_pack_id = struct.Struct(">H").pack


class Unmatched(Enum):
    """What an answer is whose transaction id belongs to no outstanding request."""

    LATE = "its request was given up"
    REPEATED = "its request was answered before"
    UNSOLICITED = "its id was not issued"


_VIOLATIONS = {
    Unmatched.LATE: "",  # Its tags were reported as BAD when the request was given up. See `LateAnswer`.
    Unmatched.REPEATED: "{name} answered the older transaction {transaction} late, or once more",
    Unmatched.UNSOLICITED: "{name} answered transaction {transaction}, which was never asked; where no answer has the "
    "right one, try tolerate: [transaction]",
}


class LateAnswer(NamedTuple):
    """A request that was given up, when it was sent in the time of the loop, and the exception in its answer, or 0."""

    unit: int
    asked_at_s: float
    timeout_s: float
    code: int = 0

    def text(self, now_s: float) -> str:
        """What it says of the timeout."""
        took_s = now_s - self.asked_at_s
        why = "too short for it"
        if self.code in GATEWAY_FAILURES:
            why = "shorter than the gateway's own, for which it keeps its other units waiting"
        return (
            f"an answer for unit {self.unit} took {took_s:.1f} s: limits.timeout, {self.timeout_s:g} s, is {why}; say "
            f"limits.timeout: {math.ceil(1.2 * took_s)} s"
        )


_UNKNOWN = LateAnswer(0, 0.0, 0.0)


class TransactionIds:
    """The ids of one pooled connection. They advance with every request, and go on when it is opened again: a gateway
    may answer what was asked on the connection before. 0 is not used: careless devices answer with it.

    Attributes:
        given_up: the requests that were not answered, by id.
    """

    def __init__(self, first: int) -> None:
        self.given_up: dict[int, LateAnswer] = {}
        self._last = first % _ID_MAX
        self._issued = 0
        self._unasked: dict[int, LateAnswer] = {}

    def next(self) -> int:
        """An id that no answer under way can carry."""
        transaction = self._last % _ID_MAX + 1
        while transaction in self.given_up or transaction in self._unasked:
            transaction = transaction % _ID_MAX + 1
        self._last = transaction
        self._issued += 1
        return transaction

    def was_issued(self, transaction: int) -> bool:
        """Whether an earlier request had this id."""
        age = (self._last - transaction) % _ID_MAX
        return transaction != 0 and age < min(self._issued, _IDS_REMEMBERED)

    def give_up(self, transaction: int, request: LateAnswer = _UNKNOWN) -> None:
        """Reserve the id of a request that was not answered, so that a late answer to it is recognised."""
        _reserve(self.given_up, transaction, request)

    def release(self, transaction: int) -> Unmatched:
        """What an unmatched answer with this id is. An id that was given up is free again; one that came unasked is
        reserved, as it may come again."""
        if self.given_up.pop(transaction, None) is not None:
            return Unmatched.LATE
        _reserve(self._unasked, transaction, _UNKNOWN)
        return Unmatched.REPEATED if self.was_issued(transaction) else Unmatched.UNSOLICITED


def _reserve(ids: dict[int, LateAnswer], transaction: int, request: LateAnswer) -> None:
    ids.pop(transaction, None)  # The newest are kept.
    ids[transaction] = request
    if len(ids) > _IDS_RESERVED_MAX:
        del ids[next(iter(ids))]


class TransactionMatcher:
    """Matches received bytes to outstanding requests, without a transport and without time.

    `has_modem`: a modem may send text of its own between answers, such as a greeting or a heartbeat. `in_flight`: how
    many requests may be outstanding at once.

    Attributes:
        outstanding: the requests that were sent and have no outcome, by transaction id, oldest first.
        offences: violations since the last batch with a right answer.
        has_answered: whether there was an answer in an earlier call of `receive`.
    """

    def __init__(self, name: str, ids: TransactionIds, *, has_modem: bool = False, in_flight: int = 1) -> None:
        self.outstanding: dict[int, Request] = {}
        self.offences = 0
        self.has_answered = False
        self._name, self._ids, self._has_modem, self._in_flight = name, ids, has_modem, in_flight
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._have = 0
        self._events: list[str | LateAnswer | ProtocolViolation] = []
        self._chatter_bytes = 0
        self._chatter_in: RequestBatch | None = None

    def frame(self, request: Request) -> bytes:
        """The bytes of a request under a new id; from now on it is outstanding."""
        transaction = self._ids.next()
        self.outstanding[transaction] = request
        return _pack_id(transaction) + request.wire_suffix

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """The free part of the receive buffer, which never grows."""
        return self._view[self._have :] if self._have else self._view

    def receive(self, nbytes: int, batch: RequestBatch | None) -> Sequence[str | LateAnswer | ProtocolViolation]:
        """Take the complete answers out of the buffer, and their data into the batch of the outstanding requests.

        Returns what is to be reported. A `ProtocolViolation` is the last one, and ends the connection.
        """
        have = self._have + nbytes
        buffer, outstanding = self._buffer, self.outstanding
        at = 0
        while have - at >= HEADER_BYTES:
            transaction = buffer[at] << 8 | buffer[at + 1]
            request = outstanding.get(transaction)
            if request is not None and request.expected_header and buffer.startswith(request.expected_header, at + 2):
                end = at + request.response_size
                if end > have:
                    break
                del outstanding[transaction]
                batch.image[request.offset : request.end] = buffer[at + HEADER_BYTES : end]  # type: ignore[union-attr]
                batch.remaining -= 1  # type: ignore[union-attr]
            else:
                end = self._take_other(at, have, batch)
                if end == at:
                    break
            at = end
        if at < have:
            if not outstanding and self._may_skip(batch) and not self._is_beginning(at, have):
                at = self._skip(at, have, batch)
            buffer[: have - at] = buffer[at:have]
        self._have = have - at
        if not self._events:
            return ()
        events, self._events = self._events, []
        return events

    def give_up(self, batch: RequestBatch, asked_at_s: float) -> None:
        """Give all outstanding requests, sent at that time, the fault of being unanswered."""
        for transaction, request in list(self.outstanding.items()):
            self._ids.give_up(transaction, LateAnswer(request.unit, asked_at_s, batch.timeout_s))
            self._resolve(batch, transaction, Fault.UNANSWERED)

    def stop(self) -> None:
        """Forget the outstanding requests; a gateway may still answer them, also on the next connection."""
        for transaction in self.outstanding:
            self._ids.give_up(transaction)
        self.outstanding.clear()

    def _take_other(self, at: int, have: int, batch: RequestBatch | None) -> int:
        """Handle what is not simply the right answer; returns where it ends, or `at` when there is more of it to come
        or the connection has to end."""
        frame: tuple[int, int, int, int, int, int] = _FRAME.unpack_from(self._buffer, at)
        transaction, protocol, length, unit, function, code = frame
        is_frame = protocol == 0 and LENGTH_MIN <= length <= LENGTH_MAX
        if self._has_modem and not (is_frame and self._ids.was_issued(transaction)):
            return self._skip(at, have, batch)
        request = self.outstanding.get(transaction)
        is_right_but_for_length = (
            protocol == 0
            and request is not None
            and self._buffer[at + 6 : at + HEADER_BYTES] == request.expected_header[4:]
        )
        if not (is_frame or is_right_but_for_length) and self._may_skip(batch):
            return self._skip(at, have, batch)
        if protocol != 0:
            return self._end("protocol identifier", "0", protocol, at, have)
        if not (is_frame or is_right_but_for_length):
            return self._end("length", f"{LENGTH_MIN} to {LENGTH_MAX}", length, at, have)
        end = at + (request.response_size if request is not None and is_right_but_for_length else 6 + length)
        if end > have:
            return at
        if request is None:
            self._take_unmatched(transaction, code if function & EXCEPTION else 0, batch)
        elif (unit, function, length) == (request.unit, request.function | 0x80, 3):
            self._resolve(batch, transaction, code)
        elif (unit, function) == (request.unit, request.function) and not request.expected_header:
            batch.data[request] = bytes(self._buffer[at + 8 : end])  # type: ignore[union-attr]
            self._resolve(batch, transaction, None)
        else:
            self._take_wrong(transaction, request, (unit, function, length, code), batch)
        if self.offences > _OFFENCES_MAX:
            return self._end("answers", "some that fit", f"{self.offences} that do not", at, have)
        return end

    def _may_skip(self, batch: RequestBatch | None) -> bool:
        """Whether bytes that are no frame come from a device that gives right answers.

        Where several are under way, such bytes may show that one was cut short, and that the next is in its data.
        """
        is_answered = batch is not None and batch.remaining + len(batch.faults) < len(batch.requests)
        return self._in_flight == 1 and (self.has_answered or is_answered)

    def _is_beginning(self, at: int, have: int) -> bool:
        """Whether these bytes may be the beginning of an answer to an earlier request."""
        head = self._buffer[at : min(have, at + 4)]
        return len(head) > 1 and not any(head[2:]) and self._ids.was_issued(head[0] << 8 | head[1])

    def _skip(self, at: int, have: int, batch: RequestBatch | None) -> int:
        """Where the next answer may begin behind what is no frame, such as the text of a modem, a checksum or padding:
        transaction and protocol are four bytes."""
        starts = (self._buffer.find(_pack_id(transaction) + b"\0\0", at + 1, have) for transaction in self.outstanding)
        rest = max(at + 1, have - 3) if self.outstanding else have
        end = min((start for start in starts if start >= 0), default=rest)
        if self._chatter_in is not batch:
            self._chatter_in, self._chatter_bytes = batch, 0
        self._chatter_bytes += end - at
        if not self._has_modem:
            shown = self._buffer[at : min(end, at + _BYTES_SHOWN)].hex(" ") + ("..." if end - at > _BYTES_SHOWN else "")
            self._offend(f"{self._name} sent {end - at} bytes that belong to no answer and were dropped: {shown}")
        if self._chatter_bytes > _CHATTER_BYTES_MAX:
            return self._end("answers", "frames", f"{self._chatter_bytes} bytes that are none", at, have)
        return end

    def _take_wrong(
        self, transaction: int, request: Request, got: tuple[int, int, int, int], batch: RequestBatch | None
    ) -> None:
        unit, function, length, data_bytes = got
        expected = request.response_size - HEADER_BYTES
        if (unit, function) == (request.unit, request.function) and length - 3 == data_bytes < expected:
            self._resolve(batch, transaction, Fault.SHORT)  # It is asked for less, and reported if that fails.
            return
        if unit != request.unit:
            what = f"unit {unit} answered for unit {request.unit}; try unit: {unit}, or tolerate: [unit]"
        elif function == request.function and data_bytes == expected:
            what = f"the length field says {length} where {3 + expected} bytes follow; try tolerate: [length]"
        elif function != request.function:
            what = f"function {function} answered function {request.function}"
        else:
            what = f"{data_bytes} data bytes in {length} bytes answered a request for {expected}"
        self._offend(f"{self._name}: {what} (transaction {transaction})")
        self._resolve(batch, transaction, Fault.WRONG)

    def _take_unmatched(self, transaction: int, code: int, batch: RequestBatch | None) -> None:
        late = self._ids.given_up.get(transaction, _UNKNOWN)
        if late is not _UNKNOWN:
            self._events.append(late._replace(code=code))
        kind = self._ids.release(transaction)
        if violation := _VIOLATIONS[kind]:
            self._offend(violation.format(name=self._name, transaction=transaction))
        if kind is Unmatched.UNSOLICITED and self.outstanding:
            # It was probably meant as the answer to the oldest: the device gets ids wrong.
            oldest = next(iter(self.outstanding))
            self._ids.give_up(oldest)
            self._resolve(batch, oldest, Fault.WRONG)

    def _offend(self, violation: str) -> None:
        self.offences += 1
        self._events.append(violation)

    def _resolve(self, batch: RequestBatch | None, transaction: int, fault: Fault | int | None) -> None:
        request = self.outstanding.pop(transaction)
        assert batch is not None
        batch.remaining -= 1
        if fault is not None:
            batch.faults[request] = fault

    def _end(self, field: str, expected: str, got: object, at: int, have: int) -> int:
        data = bytes(self._buffer[at:have][:260])
        self._events.append(ProtocolViolation(f"{self._name}: {field}", expected, got, data))
        return at


class TcpTransport(Transport, asyncio.BufferedProtocol):
    """Carries batches one after the other; within one, up to `in_flight` requests are outstanding."""

    def __init__(
        self, name: str, clock: Clock, matcher: TransactionMatcher, in_flight: int, gap_s: float, check_every_s: float
    ) -> None:
        super().__init__(name, clock)
        self._matcher, self._outstanding, self._frame = matcher, matcher.outstanding, matcher.frame
        self.get_buffer = matcher.get_buffer  # type: ignore[method-assign] # Not one more call for each read.
        self._in_flight, self._gap_s, self._check_every_s = in_flight, gap_s, check_every_s
        self._active_at_s = 0.0
        self._watchdog: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        batch = self._batch
        remaining = batch.remaining if batch is not None else 0
        violations = self._matcher.receive(nbytes, batch)
        if violations:
            for violation in violations:
                if isinstance(violation, ProtocolViolation):
                    self.drop(violation)
                    return
                if isinstance(violation, LateAnswer):
                    text = self.late[violation.unit] = violation.text(self._loop.time())
                    if violation.code in GATEWAY_FAILURES:
                        self.report_violation(text)  # The settings are wrong; other late answers may be an accident.
                else:
                    self.report_violation(violation)
        if batch is not None and batch.remaining != remaining:
            self._matcher.has_answered = self.has_answered = True
            self._continue(batch)

    def _accept(self, batch: RequestBatch) -> None:
        if self._batch is None:
            self._begin(batch)
        else:
            self._queue.append(batch)

    def _begin(self, batch: RequestBatch) -> None:
        self._batch = batch
        if self._watchdog is None:
            self._check_after(self._check_every_s)
        if not batch.sent:
            batch.asked_at_ns = 0
        self._send(batch)

    def _send(self, batch: RequestBatch) -> None:
        """Send as many requests of an incomplete batch as may be outstanding now."""
        if self._gap_s and self._wait_for_gap():
            return
        self._active_at_s = self._loop.time()
        if batch.asked_at_ns == 0:
            batch.asked_at_ns = self._clock.boot_ns()
        first = batch.sent
        room = self._in_flight - len(self._outstanding)
        if room == 1:
            batch.sent = first + 1
            self._write(self._frame(batch.requests[first]))
        else:
            requests = batch.requests[first : first + room]
            batch.sent = first + len(requests)
            self._write(b"".join(map(self._frame, requests)))

    def _wait_for_gap(self) -> bool:
        """Whether the gap after the last answer still lasts; sending then continues after it."""
        if self._pause is not None:
            return True
        wait_s = self._active_at_s + self._gap_s - self._loop.time()
        if wait_s <= 0:
            return False
        self._pause = self._loop.call_later(max(wait_s, _TIMER_S_MIN), self._end_pause)
        return True

    def _end_pause(self) -> None:
        self._pause = None
        batch = self._batch
        if batch is not None and not batch.is_done:
            self._send(batch)

    def _continue(self, batch: RequestBatch) -> None:
        """After answers: send more of the batch, or complete it and begin the next."""
        if self._outstanding or self._gap_s:
            self._active_at_s = self._loop.time()
        if batch.done is None or batch.done.done():
            if self._outstanding:
                return  # Cancelled: nothing new is sent before the device has answered.
        elif batch.remaining:
            if batch.sent < len(batch.requests):
                self._send(batch)
            return
        else:
            batch.answered_at_ns = self._clock.boot_ns()
            if self._matcher.offences and len(batch.faults) < len(batch.requests):
                self._matcher.offences = 0  # Only a device that gets nothing right loses its connection.
            batch.done.set_result(None)
        self._begin_next()

    def _begin_next(self) -> None:
        self._batch = None
        while self._queue and self._batch is None:
            batch = self._queue.popleft()
            if not batch.is_done:
                self._begin(batch)

    def _abandon(self, batch: RequestBatch) -> None:
        if batch is self._batch:
            batch.sent = len(batch.requests)
            if not self._outstanding:
                self._begin_next()
        elif batch in self._queue:
            self._queue.remove(batch)

    def _check_after(self, wait_s: float) -> None:
        at_s = check_at_s(self._loop.time() + wait_s, self._check_every_s)
        self._watchdog = self._loop.call_at(at_s, self._check_overdue)

    def _check_overdue(self) -> None:
        """Give up overdue requests. One timer serves all of them, and stops when there is no batch."""
        self._watchdog = None
        batch = self._batch
        if batch is None:
            return
        wait_s = self._active_at_s + batch.timeout_s - self._loop.time()
        if wait_s <= 0 and self._outstanding:
            self._give_up(batch)
            wait_s = self._check_every_s
        if self._batch is not None and self._watchdog is None:
            self._check_after(min(max(wait_s, _TIMER_S_MIN), self._check_every_s))

    def _give_up(self, batch: RequestBatch) -> None:
        """Give up what is outstanding; after a second silence, or one at the start, the rest of the batch too."""
        is_worth_continuing = batch.is_answered_so_far
        self._matcher.give_up(batch, self._active_at_s)
        if not is_worth_continuing:
            batch.fail_unsent()
        self._continue(batch)

    def _stop(self) -> None:
        for timer in (self._watchdog, self._pause):
            if timer is not None:
                timer.cancel()
        self._watchdog = self._pause = None
        if self._batch is not None:
            self._batch.take_back(self._outstanding.values())
        self._matcher.stop()
