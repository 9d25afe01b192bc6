"""Frames with transaction ids (Modbus TCP, also within TLS): which request an answer belongs to, and when to send."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from enum import Enum

from drivers.modbus.codec import HEADER_BYTES, LENGTH_MAX, LENGTH_MIN, Request
from drivers.modbus.transport import Fault, RequestBatch, Transport
from edge.clock import Clock
from edge.errors import ProtocolViolation

_ID_MAX = 0xFFFF
_IDS_REMEMBERED = 0x8000
_IDS_RESERVED_MAX = 256  # Of those that were given up, and of those that came unasked.
_BUFFER_BYTES = 8192
_OFFENCES_MAX = 16
_CHATTER_BYTES_MAX = 4096  # In one scan.
_TIMER_S_MIN = 0.001
_FRAME = struct.Struct(">HHHBBB")
_pack_id = struct.Struct(">H").pack


class Unmatched(Enum):
    """What an answer is whose transaction id belongs to no outstanding request."""

    LATE = "its request was given up"
    REPEATED = "its request was answered before"
    UNSOLICITED = "its id was not issued"


_VIOLATIONS = {
    Unmatched.LATE: "",  # Its tags were reported as BAD when the request was given up.
    Unmatched.REPEATED: "{name} answered transaction {transaction} once more",
    Unmatched.UNSOLICITED: "{name} answered transaction {transaction}, which was never asked",
}


class TransactionIds:
    """The ids of one pooled connection. They advance with every request, and go on when it is opened again: a gateway
    may answer what was asked on the connection before. 0 is not used: careless devices answer with it.
    """

    def __init__(self, first: int) -> None:
        self._last = first % _ID_MAX
        self._issued = 0
        self._given_up: dict[int, None] = {}
        self._unasked: dict[int, None] = {}

    def next(self) -> int:
        """An id that no answer under way can carry."""
        transaction = self._last % _ID_MAX + 1
        while transaction in self._given_up or transaction in self._unasked:
            transaction = transaction % _ID_MAX + 1
        self._last = transaction
        self._issued += 1
        return transaction

    def was_issued(self, transaction: int) -> bool:
        """Whether an earlier request had this id."""
        age = (self._last - transaction) % _ID_MAX
        return transaction != 0 and age < min(self._issued, _IDS_REMEMBERED)

    def give_up(self, transaction: int) -> None:
        """Reserve the id of a request that was not answered, so that a late answer to it is recognised."""
        _reserve(self._given_up, transaction)

    def release(self, transaction: int) -> Unmatched:
        """What an unmatched answer with this id is. An id that was given up is free again; one that came unasked is
        reserved, as it may come again."""
        if self._given_up.pop(transaction, 0) is None:
            return Unmatched.LATE
        _reserve(self._unasked, transaction)
        return Unmatched.REPEATED if self.was_issued(transaction) else Unmatched.UNSOLICITED


def _reserve(ids: dict[int, None], transaction: int) -> None:
    ids.pop(transaction, None)  # The newest are kept.
    ids[transaction] = None
    if len(ids) > _IDS_RESERVED_MAX:
        del ids[next(iter(ids))]


class TransactionMatcher:
    """Matches received bytes to outstanding requests, without a transport and without time.

    `has_modem`: a modem may send text of its own between answers, such as a greeting or a heartbeat.

    Attributes:
        outstanding: the requests that were sent and have no outcome, by transaction id, oldest first.
        offences: violations since the last batch with a right answer.
    """

    def __init__(self, name: str, ids: TransactionIds, *, has_modem: bool = False) -> None:
        self.outstanding: dict[int, Request] = {}
        self.offences = 0
        self._name, self._ids, self._has_modem = name, ids, has_modem
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._have = 0
        self._events: list[str | ProtocolViolation] = []
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

    def receive(self, nbytes: int, batch: RequestBatch | None) -> Sequence[str | ProtocolViolation]:
        """Take the complete answers out of the buffer, and their data into the batch of the outstanding requests.

        Returns the violations to report. A `ProtocolViolation` is the last one, and ends the connection.
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
            buffer[: have - at] = buffer[at:have]
        self._have = have - at
        if not self._events:
            return ()
        events, self._events = self._events, []
        return events

    def give_up(self, batch: RequestBatch) -> None:
        """Give all outstanding requests the fault of being unanswered."""
        for transaction in list(self.outstanding):
            self._ids.give_up(transaction)
            self._resolve(batch, transaction, Fault.UNANSWERED)

    def _take_other(self, at: int, have: int, batch: RequestBatch | None) -> int:
        """Handle what is not simply the right answer; returns where it ends, or `at` when there is more of it to come
        or the connection has to end."""
        frame: tuple[int, int, int, int, int, int] = _FRAME.unpack_from(self._buffer, at)
        transaction, protocol, length, unit, function, code = frame
        if self._has_modem and not self._is_frame(transaction, protocol, length):
            return self._skip_chatter(at, have, batch)
        if protocol != 0:
            return self._end("protocol identifier", "0", protocol, at, have)
        if not LENGTH_MIN <= length <= LENGTH_MAX:
            return self._end("length", f"{LENGTH_MIN} to {LENGTH_MAX}", length, at, have)
        end = at + 6 + length
        if end > have:
            return at
        request = self.outstanding.get(transaction)
        if request is None:
            self._take_unmatched(transaction, batch)
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

    def _is_frame(self, transaction: int, protocol: int, length: int) -> bool:
        return protocol == 0 and LENGTH_MIN <= length <= LENGTH_MAX and self._ids.was_issued(transaction)

    def _skip_chatter(self, at: int, have: int, batch: RequestBatch | None) -> int:
        """Where the next answer may begin behind the text of a modem: transaction and protocol are four bytes."""
        starts = (self._buffer.find(_pack_id(transaction) + b"\0\0", at + 1, have) for transaction in self.outstanding)
        end = min((start for start in starts if start >= 0), default=max(at + 1, have - 3))
        if self._chatter_in is not batch:
            self._chatter_in, self._chatter_bytes = batch, 0
        self._chatter_bytes += end - at
        if self._chatter_bytes > _CHATTER_BYTES_MAX:
            return self._end("answers", "frames", f"{self._chatter_bytes} bytes that are none", at, have)
        return end

    def _take_wrong(
        self, transaction: int, request: Request, got: tuple[int, int, int, int], batch: RequestBatch | None
    ) -> None:
        unit, function, length, data_bytes = got
        expected = request.response_size - HEADER_BYTES
        if unit != request.unit:
            what = f"unit {unit} answered for unit {request.unit}"
        elif function != request.function:
            what = f"function {function} answered function {request.function}"
        else:
            what = f"{data_bytes} data bytes in {length} bytes answered a request for {expected}"
        self._offend(f"{self._name}: {what} (transaction {transaction})")
        self._resolve(batch, transaction, Fault.WRONG)

    def _take_unmatched(self, transaction: int, batch: RequestBatch | None) -> None:
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
                self.report_violation(violation)
        if batch is not None and batch.remaining != remaining:
            self.has_answered = True
            self._continue(batch)

    def _accept(self, batch: RequestBatch) -> None:
        if self._batch is None:
            self._begin(batch)
        else:
            self._queue.append(batch)

    def _begin(self, batch: RequestBatch) -> None:
        self._batch = batch
        if self._watchdog is None:
            self._watchdog = self._loop.call_later(self._check_every_s, self._check_overdue)
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
            wait_s = min(max(wait_s, _TIMER_S_MIN), self._check_every_s)
            self._watchdog = self._loop.call_later(wait_s, self._check_overdue)

    def _give_up(self, batch: RequestBatch) -> None:
        """Give up what is outstanding; after a second silence, or one at the start, the rest of the batch too."""
        is_worth_continuing = batch.is_answered_so_far
        self._matcher.give_up(batch)
        if not is_worth_continuing:
            batch.fail_unsent()
        self._continue(batch)

    def _stop(self) -> None:
        for timer in (self._watchdog, self._pause):
            if timer is not None:
                timer.cancel()
        self._watchdog = self._pause = None
        self._outstanding.clear()
