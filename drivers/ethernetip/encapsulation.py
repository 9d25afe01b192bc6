"""EtherNet/IP encapsulation without I/O: bytes in, events out (CIP Vol 2, chapter 2; CIP Vol 1, 3-5.5).

`EncapsulationClient` is one conversation with one device. `_TABLE` lists the requests that each state permits, the
command that carries them, and the state after a good answer. `open_connection` enters CONNECTED where the reply to a
Forward Open grants it, and `close` enters CLOSED from any state.

At most one request is pending. A frame is its answer only if the whole header is the one expected: command, length,
session, status, and the context (SendRRData) or connection id and sequence count (SendUnitData), which no two requests
share. A frame that answers an earlier request comes late: up to `_LATE_MAX` of them are ignored before a complete scan
resets the count. Any other frame ends the conversation, because after it no header could be trusted.

What can never happen: two pending requests, an answer that is taken for that to another request, and a frame that takes
more memory than the one receive buffer.
"""

from __future__ import annotations

import struct
from enum import Enum, auto

from drivers.ethernetip.cip import SUCCESS, ForwardOpen, Reply, Sendable, reply_of
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation, TidegateError

PORT = 44818
NOP, LIST_IDENTITY, REGISTER, UNREGISTER, SEND_RR, SEND_UNIT = 0x00, 0x63, 0x65, 0x66, 0x6F, 0x70
HEADER_BYTES = 24

_BUFFER_BYTES = 8192
_LATE_MAX = 16
_SEQUENCES = 0x10000

HEADER = struct.Struct("<HHII8sI")
_UNIT = struct.Struct("<HHII8xIIHHHHIHHH")
_RR = struct.Struct("<HHII8sIIHHHHHH")
UNIT_ANSWER = struct.Struct("<HHII8xII2xHHHIHHH")
"""A connected answer up to its data, without context and timeout, which mean nothing there."""
RR_ANSWER = struct.Struct("<HHII8sII2xHHHHH")
"""An unconnected answer up to its data, without timeout."""
_HEAD_FIELDS = "command", "length", "session", "status"
_ITEM_FIELDS = "interface handle", "number of items", "type of the address item", "length of the address item"
_DATA_FIELDS = "type of the data item", "length of the data item"
_FIELDS = {
    SEND_UNIT: (*_HEAD_FIELDS, "options", *_ITEM_FIELDS, "connection id", *_DATA_FIELDS, "sequence count"),
    SEND_RR: (*_HEAD_FIELDS, "sender context", "options", *_ITEM_FIELDS, *_DATA_FIELDS),
}
"""Names of the fields of `UNIT_ANSWER` and `RR_ANSWER`."""
_NULL_ITEM, _CONNECTED_ADDRESS, _CONNECTED_DATA, _UNCONNECTED_DATA = 0x0000, 0x00A1, 0x00B1, 0x00B2

_STATUS = {
    0x01: "it does not know the command",
    0x02: "it has no memory left",
    0x03: "it found the data poorly formed",
    0x64: "it does not know our session any more",
    0x65: "it found the length wrong",
    0x69: "it speaks another version of the protocol",
}


def status_text(status: int) -> str:
    """An encapsulation status in words."""
    return f"{_STATUS.get(status, 'it refused')} (encapsulation status 0x{status:02X})"


def unconnected_frame(session: int, context: bytes, message: Sendable) -> bytes:
    """A message without a connection; the answer has the same context."""
    size = len(message.data)
    return _RR.pack(
        SEND_RR, 16 + size, session, 0, context, 0, 0, 0, 2, _NULL_ITEM, 0, _UNCONNECTED_DATA, size
    ) + message.data  # fmt: skip


def connected_frame(session: int, connection: int, sequence: int, data: bytes) -> bytes:
    """A message on a connection; the answer has the same sequence count."""
    size = len(data)
    return _UNIT.pack(
        SEND_UNIT, 22 + size, session, 0, 0, 0, 0, 2, _CONNECTED_ADDRESS, 4, connection, _CONNECTED_DATA, 2 + size,
        sequence,
    ) + data  # fmt: skip


def connected_fields(size: int, session: int, connection: int, sequence: int) -> tuple[int, ...]:
    """The fields of `UNIT_ANSWER` in the expected answer of `size` bytes."""
    length = size - HEADER_BYTES
    return (SEND_UNIT, length, session, 0, 0, 0, 2, _CONNECTED_ADDRESS, 4, connection, _CONNECTED_DATA, length - 20,
            sequence)  # fmt: skip


def unconnected_fields(size: int, session: int, context: bytes) -> tuple[int | bytes, ...]:
    """The fields of `RR_ANSWER` in the expected answer of `size` bytes."""
    length = size - HEADER_BYTES
    return (SEND_RR, length, session, 0, context, 0, 0, 2, _NULL_ITEM, 0, _UNCONNECTED_DATA, length - 16)


def _shown(value: int | bytes) -> str:
    return f"0x{value:02X}" if isinstance(value, int) else value.hex(" ")


class State(Enum):
    """How far the conversation with a device has come."""

    UNREGISTERED = auto()  # TCP only.
    REGISTERED = auto()  # A session: questions are unconnected messages.
    CONNECTED = auto()  # A session and a CIP connection, on which questions travel.
    CLOSED = auto()


class Request(Enum):
    """What can be asked of a device."""

    LIST_IDENTITY = auto()
    REGISTER = auto()
    QUESTION = auto()
    FORWARD_OPEN = auto()
    FORWARD_CLOSE = auto()

    __hash__ = object.__hash__  # That of Enum is computed in Python, and every request is looked up in the table.


_TABLE: dict[State, dict[Request, tuple[int, State]]] = {
    State.UNREGISTERED: {
        Request.LIST_IDENTITY: (LIST_IDENTITY, State.UNREGISTERED),
        Request.REGISTER: (REGISTER, State.REGISTERED),
    },
    State.REGISTERED: {
        Request.QUESTION: (SEND_RR, State.REGISTERED),
        Request.FORWARD_OPEN: (SEND_RR, State.REGISTERED),  # Only its reply says whether there is a connection.
    },
    State.CONNECTED: {
        Request.QUESTION: (SEND_UNIT, State.CONNECTED),
        Request.FORWARD_CLOSE: (SEND_RR, State.REGISTERED),
    },
    State.CLOSED: {},
}

Event = bytes | TidegateError
"""The data of the answer to the pending request, or the error that ends the conversation."""


class EncapsulationClient:
    """One conversation with one device: frames to send, and events from the bytes that were received.

    Attributes:
        session: session handle; 0 before there is one.
        late_frames: answers to earlier requests that were ignored since the last complete scan.
    """

    def __init__(self, name: str, first_context: int) -> None:
        """`first_context` must not repeat between conversations with one device."""
        self.name = name
        self.state = State.UNREGISTERED
        self.session = 0
        self.late_frames = 0
        self._steps = _TABLE[self.state]
        self._pending: int | None = None  # The command whose answer is expected.
        self._next_state = self.state
        self._context = self._first_context = first_context
        self._sequence = self._issued = 0
        self._ours = self._theirs = 0
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0  # Of what was received and is not consumed yet.

    # Frames to send.

    def request(self, request: Request, message: Sendable | None = None) -> bytes:
        """The frame of a request; its answer is pending from now on. KeyError in a state that does not permit it."""
        self._pending, self._next_state = self._steps[request]
        if message is None:
            if self._pending == REGISTER:
                return HEADER.pack(REGISTER, 4, 0, 0, bytes(8), 0) + b"\x01\0\0\0"  # Version 1 of the protocol.
            self._context += 1
            return HEADER.pack(LIST_IDENTITY, 0, 0, 0, self._context.to_bytes(8, "little"), 0)
        if self._pending == SEND_UNIT:
            self._sequence = (self._sequence + 1) % _SEQUENCES
            self._issued += 1
            return connected_frame(self.session, self._theirs, self._sequence, message.data)
        self._context += 1
        return unconnected_frame(self.session, self._context.to_bytes(8, "little"), message)

    def give_up(self) -> None:
        """Expect no answer any more: it will be ignored as a late one."""
        self._pending = None

    def open_connection(self, forward_open: ForwardOpen, body: bytes) -> Reply:
        """The reply to a Forward Open; where it grants the connection, questions travel on it from now on.

        Raises:
            ProtocolViolation: it grants another connection than that asked for.
        """
        reply = reply_of(body, forward_open.open_request().data[0])
        if reply.status == SUCCESS:
            self._ours, self._theirs = forward_open.granted_ids(reply, body, self.name)
            self._enter(State.CONNECTED)
        return reply

    def close(self) -> bytes:
        """End the conversation; the frame that gives the session back, empty where there is none."""
        self._enter(State.CLOSED)
        return HEADER.pack(UNREGISTER, 0, self.session, 0, bytes(8), 0) if self.session else b""

    def _enter(self, state: State) -> None:
        self.state, self._steps = state, _TABLE[state]

    # Events.

    def free_space(self) -> memoryview:
        """Where to put received bytes: what a device sends never takes more memory than this one buffer."""
        return self._view[self._end :] if self._end else self._view

    def next_event(self, received: int = 0) -> Event | None:
        """The next event, with `received` more bytes in `free_space`; None where more are needed: pull until then."""
        self._end += received
        buffer, end = self._buffer, self._end
        while end - self._start >= HEADER_BYTES and self.state is not State.CLOSED:
            first = self._start
            last = first + HEADER_BYTES + (buffer[first + 2] | buffer[first + 3] << 8)
            if last - first > _BUFFER_BYTES:
                return self._violation("length of a frame", f"up to {_BUFFER_BYTES}", last - first, first, end)
            if last > end:
                break
            self._start = last
            if (data := self._answer(first, last)) is not None:
                self._pending = None
                if self.state is not self._next_state:
                    self._enter(self._next_state)
                return data
            if (error := self._check_unexpected(first, last)) is not None:
                return error
        left = end - self._start
        if left:
            buffer[:left] = buffer[self._start : end]
        self._start, self._end = 0, left
        return None

    def _answer(self, first: int, last: int) -> bytes | None:
        """The data of a frame that answers the pending request; None of any other."""
        if self._pending == SEND_UNIT:
            start = first + UNIT_ANSWER.size
            if last <= start:
                return None
            found = UNIT_ANSWER.unpack_from(self._buffer, first)
            if found != connected_fields(last - first, self.session, self._ours, self._sequence):
                if found != connected_fields(last - first, self.session, self._theirs, self._sequence):
                    return None
                self._ours = self._theirs  # Some devices answer with the id they were asked with, and always so.
        elif self._pending == SEND_RR:
            start = first + RR_ANSWER.size
            context = self._context.to_bytes(8, "little")
            if last <= start or RR_ANSWER.unpack_from(self._buffer, first) != unconnected_fields(
                last - first, self.session, context
            ):
                return None
        else:
            return self._command_answer(first, last)
        return bytes(self._view[start:last])

    def _command_answer(self, first: int, last: int) -> bytes | None:
        command, length, session, status, context, _ = HEADER.unpack_from(self._buffer, first)
        if command != self._pending or status != 0:
            return None
        if command == REGISTER:
            if not session or length != 4:
                return None
            self.session = session
        elif context != self._context.to_bytes(8, "little"):
            return None
        return bytes(self._view[first + HEADER_BYTES : last])

    def _check_unexpected(self, first: int, last: int) -> TidegateError | None:
        """None for a frame that can be ignored; the error that any other one is."""
        command, _, session, status, context, _ = HEADER.unpack_from(self._buffer, first)
        if command == NOP:
            return None  # Either side may send it, and it means nothing (CIP Vol 2, 2-4.1).
        if status != 0 and command == self._pending:
            why = f"{self.name} does not answer: {status_text(status)}"
            return DeviceRefused(why) if command == REGISTER else DeviceUnreachable(why)
        if self._is_late(command, session, context, first, last):
            self.late_frames += 1
            if self.late_frames <= _LATE_MAX:
                return None
        if command == self._pending and (wrong := self._wrong_field(command, first, last)):
            name, right, got = wrong
            return self._violation(f"{name} of an answer to command 0x{command:02X}", right, got, first, last)
        expected = f"the answer to command 0x{self._pending:02X}" if self._pending is not None else "nothing"
        return self._violation("frame", expected, f"one that does not fit, of command 0x{command:02X}", first, last)

    def _wrong_field(self, command: int, first: int, last: int) -> tuple[str, str, str] | None:
        """The first field of a frame that is not as in the pending answer, with the right value and its own."""
        size, layout = last - first, UNIT_ANSWER if command == SEND_UNIT else RR_ANSWER
        if command not in _FIELDS:
            return None
        if size <= layout.size:
            return "length", f"more than {layout.size - HEADER_BYTES}", str(size - HEADER_BYTES)
        right = (
            connected_fields(size, self.session, self._ours, self._sequence) if command == SEND_UNIT
            else unconnected_fields(size, self.session, self._context.to_bytes(8, "little"))
        )  # fmt: skip
        fields = zip(_FIELDS[command], right, layout.unpack_from(self._buffer, first), strict=True)
        return next(((name, _shown(one), _shown(got)) for name, one, got in fields if one != got), None)

    def _is_late(self, command: int, session: int, context: bytes, first: int, last: int) -> bool:
        """Whether a frame answers an earlier request."""
        if session != self.session:
            return False
        if command == SEND_RR:
            is_pending = self._pending == command
            return self._first_context < int.from_bytes(context, "little") <= self._context - is_pending
        if command != SEND_UNIT or last - first <= UNIT_ANSWER.size:
            return False
        *found, sequence = UNIT_ANSWER.unpack_from(self._buffer, first)
        *right, _ = connected_fields(last - first, self.session, self._ours, sequence)
        age = (self._sequence - sequence) % _SEQUENCES
        is_issued: bool = age < min(self._issued, _SEQUENCES // 2)
        return found == right and is_issued

    def _violation(self, field: str, expected: str, got: object, first: int, last: int) -> ProtocolViolation:
        return ProtocolViolation(f"{self.name}: {field}", expected, got, bytes(self._buffer[first:last][:260]))
