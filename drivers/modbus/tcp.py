"""Transaction ids: they advance with every request, so an answer that comes late is known for what it is."""

from __future__ import annotations

import asyncio
import struct

from drivers.modbus.codec import HEADER_BYTES, LENGTH_MAX, LENGTH_MIN, Request
from drivers.modbus.transport import Conversation, Exchange, Fault
from edge.clock import Clock
from edge.errors import ProtocolViolation

_LAST = 0xFFFF
_REMEMBERED = 0x8000
_NEVER_ANSWERED_MAX = 256


class TransactionIds:
    """The ids of one line: they go on from connection to connection, as a gateway may answer what the last one asked.

    0 is never given out: it is what a careless device answers with.
    """

    def __init__(self, first: int) -> None:
        self._last = first % _LAST
        self._issued = 0
        self._never_answered: dict[int, None] = {}

    def next(self) -> int:
        """An id that no answer under way can bear."""
        transaction = self._last % _LAST + 1
        while transaction in self._never_answered:
            transaction = transaction % _LAST + 1
        self._last = transaction
        self._issued += 1
        return transaction

    def was_issued(self, transaction: int) -> bool:
        """Whether an earlier request had this id."""
        age = (self._last - transaction) % _LAST
        return transaction != 0 and age < min(self._issued, _REMEMBERED)

    def give_up(self, transaction: int) -> None:
        """Note that the answer never came: should it come late, it is told from all others."""
        self._never_answered[transaction] = None
        if len(self._never_answered) > _NEVER_ANSWERED_MAX:
            del self._never_answered[next(iter(self._never_answered))]

    def is_late(self, transaction: int) -> bool:
        """Whether this is an answer that was given up; it is, once."""
        return self._never_answered.pop(transaction, 0) is None


_BUFFER_BYTES = 8192
_OFFENCES_MAX = 16
_CHATTER_BYTES_MAX = 4096  # In one scan.
_FRAME = struct.Struct(">HHHBBB")
_pack_id = struct.Struct(">H").pack


class Connection(Conversation, asyncio.BufferedProtocol):
    """Carries exchanges one after the other; within one, `in_flight` requests are under way at once.

    `has_modem` says that there may be a modem's own words between the answers: a greeting, a heartbeat.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        ids: TransactionIds,
        *,
        in_flight: int,
        gap_s: float,
        look_every_s: float,
        has_modem: bool = False,
    ) -> None:
        super().__init__(name, clock)
        self._has_modem = has_modem
        self._chatter_bytes = 0
        self._chatter_in: Exchange | None = None
        self._ids, self._in_flight, self._gap_s, self._look_every_s = ids, in_flight, gap_s, look_every_s
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._have = 0
        self._outstanding: dict[int, Request] = {}
        self._offences = 0
        self._active_at_s = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """The free part of the one receive buffer: what a device sends never takes more memory than this."""
        return self._view[self._have :] if self._have else self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Take the answers that are whole, and ask on."""
        have = self._have + nbytes
        buffer, outstanding, exchange = self._buffer, self._outstanding, self._exchange
        left = exchange.left if exchange is not None else 0
        at = 0
        while have - at >= HEADER_BYTES:
            transaction = buffer[at] << 8 | buffer[at + 1]
            request = outstanding.get(transaction)
            if request is not None and request.head and buffer.startswith(request.head, at + 2):
                end = at + request.size
                if end > have:
                    break
                del outstanding[transaction]
                exchange.image[request.offset : request.end] = buffer[at + HEADER_BYTES : end]  # type: ignore[union-attr]
                exchange.left -= 1  # type: ignore[union-attr]
            else:
                end = self._judge(at, have)
                if end == at:
                    break
            at = end
        if self._why_lost is not None:
            return
        if at < have:
            buffer[: have - at] = buffer[at:have]
        self._have = have - at
        if exchange is not None and exchange.left != left:
            self.has_answered = True
            self._go_on(exchange)

    # Asking.

    def _accept(self, exchange: Exchange) -> None:
        if self._exchange is None:
            self._begin(exchange)
        else:
            self._queue.append(exchange)

    def _begin(self, exchange: Exchange) -> None:
        self._exchange = exchange
        if self._watch is None:
            self._watch = self._loop.call_later(self._look_every_s, self._look)
        exchange.asked_at_ns = 0
        self._ask_on(exchange)

    def _ask_on(self, exchange: Exchange) -> None:
        """Send what may be sent now: an exchange that is not asked for whole, where there is room in flight."""
        if self._gap_s and self._is_too_early():
            return
        self._active_at_s = self._loop.time()
        if exchange.asked_at_ns == 0:
            exchange.asked_at_ns = self._clock.boot_ns()
        first = exchange.asked
        room = self._in_flight - len(self._outstanding)
        if room == 1:
            exchange.asked = first + 1
            self._write(self._frame(exchange.requests[first]))
        else:
            requests = exchange.requests[first : first + room]
            exchange.asked = first + len(requests)
            self._write(b"".join(map(self._frame, requests)))

    def _frame(self, request: Request) -> bytes:
        transaction = self._ids.next()
        self._outstanding[transaction] = request
        return _pack_id(transaction) + request.tail

    def _is_too_early(self) -> bool:
        """Whether the pause after the last answer still lasts; then asking goes on after it."""
        if self._pause is not None:
            return True
        wait_s = self._active_at_s + self._gap_s - self._loop.time()
        if wait_s <= 0:
            return False
        self._pause = self._loop.call_later(max(wait_s, 0.001), self._after_pause)
        return True

    def _after_pause(self) -> None:
        self._pause = None
        exchange = self._exchange
        if exchange is not None and not exchange.is_over:
            self._ask_on(exchange)

    def _go_on(self, exchange: Exchange) -> None:
        """After answers: ask for more of the exchange, or finish it and begin the next."""
        if self._outstanding or self._gap_s:
            self._active_at_s = self._loop.time()
        if exchange.done is None or exchange.done.done():
            if self._outstanding:
                return  # Cancelled: the device is not asked anew while it still owes an answer.
        elif exchange.left:
            if exchange.asked < len(exchange.requests):
                self._ask_on(exchange)
            return
        else:
            exchange.answered_at_ns = self._clock.boot_ns()
            if self._offences and len(exchange.faults) < len(exchange.requests):
                self._offences = 0  # Only a device that gets nothing right is not worth a connection.
            exchange.done.set_result(None)
        self._next()

    def _next(self) -> None:
        self._exchange = None
        while self._queue and self._exchange is None:
            exchange = self._queue.popleft()
            if not exchange.is_over:
                self._begin(exchange)

    def _abandon(self, exchange: Exchange) -> None:
        if exchange is self._exchange:
            exchange.asked = len(exchange.requests)
            if not self._outstanding:
                self._next()
        elif exchange in self._queue:
            self._queue.remove(exchange)

    # What is not simply the right answer.

    def _judge(self, at: int, have: int) -> int:
        """Refuse or explain the frame at `at`; returns where it ends, or `at` when there is more of it to come."""
        frame: tuple[int, int, int, int, int, int] = _FRAME.unpack_from(self._buffer, at)
        transaction, protocol, length, unit, function, code = frame
        if self._has_modem and not self._is_frame(transaction, protocol, length):
            return self._skip_chatter(at, have)
        if protocol != 0:
            return self._break("protocol identifier", "0", protocol, at, have)
        if not LENGTH_MIN <= length <= LENGTH_MAX:
            return self._break("length", f"{LENGTH_MIN} to {LENGTH_MAX}", length, at, have)
        end = at + 6 + length
        if end > have:
            return at
        request = self._outstanding.get(transaction)
        if request is None:
            self._refuse_stranger(transaction)
        elif (unit, function, length) == (request.unit, request.function | 0x80, 3):
            self._resolve(transaction, code)
        elif (unit, function) == (request.unit, request.function) and not request.head:
            self._exchange.data[request] = bytes(self._buffer[at + 8 : end])  # type: ignore[union-attr]
            self._resolve(transaction, None)
        else:
            self._refuse(transaction, request, (unit, function, length, code))
        if self._offences > _OFFENCES_MAX:
            return self._break("answers", "some that fit", f"{self._offences} that do not", at, have)
        return end

    def _is_frame(self, transaction: int, protocol: int, length: int) -> bool:
        return protocol == 0 and LENGTH_MIN <= length <= LENGTH_MAX and self._ids.was_issued(transaction)

    def _skip_chatter(self, at: int, have: int) -> int:
        """Where the next answer may begin behind what a modem says: transaction and protocol are four bytes."""
        starts = (self._buffer.find(_pack_id(transaction) + b"\0\0", at + 1, have) for transaction in self._outstanding)
        end = min((start for start in starts if start >= 0), default=max(at + 1, have - 3))
        if self._chatter_in is not self._exchange:
            self._chatter_in, self._chatter_bytes = self._exchange, 0
        self._chatter_bytes += end - at
        if self._chatter_bytes > _CHATTER_BYTES_MAX:
            return self._break("answers", "frames", f"{self._chatter_bytes} bytes that are none", at, have)
        return end

    def _refuse(self, transaction: int, request: Request, got: tuple[int, int, int, int]) -> None:
        unit, function, length, data_bytes = got
        expected = request.size - HEADER_BYTES
        if unit != request.unit:
            what = f"unit {unit} answered for unit {request.unit}"
        elif function != request.function:
            what = f"function {function} answered function {request.function}"
        else:
            what = f"{data_bytes} data bytes in {length} bytes answered a request for {expected}"
        self._offend(f"{self._name}: {what} (transaction {transaction})")
        self._resolve(transaction, Fault.WRONG)

    def _refuse_stranger(self, transaction: int) -> None:
        """An answer to nothing that is under way: an earlier request's, or nobody's."""
        if self._ids.is_late(transaction):
            return  # Its tags have long been given as BAD.
        if self._ids.was_issued(transaction):
            self._offend(f"{self._name} answered transaction {transaction} once more")
            return
        self._offend(f"{self._name} answered transaction {transaction}, which was never asked")
        if self._outstanding:
            oldest = next(iter(self._outstanding))
            self._ids.give_up(oldest)
            self._resolve(oldest, Fault.WRONG)

    def _offend(self, violation: str) -> None:
        self._offences += 1
        self.note(violation)

    def _resolve(self, transaction: int, fault: Fault | int | None) -> None:
        request = self._outstanding.pop(transaction)
        exchange = self._exchange
        assert exchange is not None
        exchange.left -= 1
        if fault is not None:
            exchange.faults[request] = fault

    def _break(self, field: str, expected: str, got: object, at: int, have: int) -> int:
        self.drop(ProtocolViolation(f"{self._name}: {field}", expected, got, bytes(self._buffer[at:have][:260])))
        return at

    # Silence.

    def _look(self) -> None:
        """Look whether an answer is overdue; one timer serves all requests, and rests when nothing is asked."""
        self._watch = None
        exchange = self._exchange
        if exchange is None:
            return
        wait_s = self._active_at_s + exchange.timeout_s - self._loop.time()
        if wait_s <= 0 and self._outstanding:
            self._give_up(exchange)
            wait_s = self._look_every_s
        if self._exchange is not None and self._watch is None:
            self._watch = self._loop.call_later(min(max(wait_s, 0.001), self._look_every_s), self._look)

    def _give_up(self, exchange: Exchange) -> None:
        """Do without the overdue answers; after two silences in a row, or one at the start, without the rest too."""
        is_worth_going_on = exchange.is_answered_so_far
        for transaction in list(self._outstanding):
            self._ids.give_up(transaction)
            self._resolve(transaction, Fault.UNANSWERED)
        if not is_worth_going_on:
            exchange.fail_rest()
        self._go_on(exchange)

    def _stop(self) -> None:
        for timer in (self._watch, self._pause):
            if timer is not None:
                timer.cancel()
        self._watch = self._pause = None
        self._outstanding.clear()
