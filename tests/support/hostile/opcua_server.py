"""An OPC UA server made of bytes, without security: right to each client except for what a behaviour changes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.hostile import opcua_wire as wire
from tests.support.hostile.liar import Greet, Liar, Lie
from tests.support.hostile.opcua_parameters import OWN_URI, endpoint, monitored, revised, session
from tests.support.hostile.opcua_request import SUBSCRIPTION, Question
from tests.support.hostile.opcua_wire import NULL_ARRAY, Reader, u32
from tests.support.hostile.truth import moment

URI, OTHER_URI = "urn:hostile:plant", "urn:hostile:other"
FIRST_MOMENT, MOMENTS = 1000, 6
TOKEN = 3
_CHANNEL = 7
_CHUNK_BYTES = 60_000
_NAMESPACES, _LIMITS, _STATE, _STARTED = 2255, (11705, 11710, 11714), 2259, 2257
_STAGES = {
    428: "GetEndpoints", 461: "CreateSession", 467: "ActivateSession", 473: "CloseSession", 631: "Read",
    751: "CreateMonitoredItems", 787: "CreateSubscription", 826: "Publish", 832: "Republish",
    841: "TransferSubscriptions", 847: "DeleteSubscriptions",
}  # fmt: skip
_UNKNOWN_NODE, _NO_MESSAGE, _NOT_IMPLEMENTED, _NO_SUBSCRIPTION = 0x80340000, 0x807B0000, 0x80400000, 0x80280000
_NO_SESSION = 0x80250000
_SHORTEST_S = 0.02
_KEPT = 100

Values = Callable[[int], bytes | None]
"""The DataValue of a node by its number; None where there is none."""


@dataclass(frozen=True, slots=True)
class Item:
    """One monitored item."""

    handle: int
    node: tuple[int, int]


class Conversation:
    """One connection of a client, as an honest server leads it.

    Attributes:
        uris: of this server's namespaces; tags live in `URI`.
    """

    def __init__(self, uris: Sequence[str], values: Values) -> None:
        self.uris, self._values = list(uris), values
        self.channel = 0
        self._have = bytearray()
        self._sequence = 0
        self._items: list[Item] = []
        self._publishing_s: float | None = None
        self._due_s = 0.0
        self._waiting: deque[tuple[int, int]] = deque()
        self._notified = 0
        self._sent: dict[int, bytes] = {}
        self._has_session = False

    # Sending.

    def sequence(self) -> int:
        """The number of the next chunk."""
        self._sequence += 1
        return self._sequence

    def frame(
        self, body: bytes, *, kind: bytes = b"MSG", request: int = 0, chunk: bytes = b"F", size: int | None = None,
        channel: int | None = None, token: int = TOKEN, sequence: int | None = None,
    ) -> bytes:  # fmt: skip
        """A message, in as many chunks as it takes."""
        if kind == b"ACK":
            return wire.message(kind, body, chunk=chunk, size=size)
        secured = u32(token) if kind == b"MSG" else wire.text(wire.NO_SECURITY) + wire.text(None) * 2
        parts = [body[at : at + _CHUNK_BYTES] for at in range(0, len(body), _CHUNK_BYTES)] or [b""]
        return b"".join(
            wire.message(
                kind,
                u32(self.channel if channel is None else channel) + secured
                + u32(self.sequence() if sequence is None else sequence, request) + part,
                chunk=chunk if number == len(parts) else b"C", size=size,
            )
            for number, part in enumerate(parts, 1)
        )  # fmt: skip

    def hurry(self) -> None:
        """Publish with the next PublishRequest."""
        self._publishing_s = 0.0

    # Requests.

    async def listen(self, reader: asyncio.StreamReader) -> AsyncIterator[Question]:
        """The requests in the order of their answers: a PublishRequest once a notification is due."""
        while True:
            while data := self._message():
                question = self._taken(data)
                if question is not None:
                    yield question
            try:
                async with asyncio.timeout(self._until_due_s()):
                    data = await reader.read(65536)
            except TimeoutError:
                yield self._notification()
                continue
            if not data:
                return
            self._have += data

    def _message(self) -> bytes:
        size = int.from_bytes(self._have[4:8], "little")
        if not 8 <= size <= len(self._have):
            return b""
        data = bytes(self._have[:size])
        del self._have[:size]
        return data

    def _until_due_s(self) -> float | None:
        if self._publishing_s is None or not self._waiting:
            return None
        return max(0.0, self._due_s - time.monotonic())

    def _taken(self, data: bytes) -> Question | None:
        kind = data[:3]
        if kind == b"HEL":
            return Question(self, "Hello", b"ACK", 0, 0, 0, u32(0, 65535, 65535, 0, 0))
        if kind == b"CLO":
            return None
        reader = Reader(data, 12)
        if kind == b"OPN":
            for _ in range(3):
                reader.text()
        else:
            reader.at += 4
        _, request = reader.take("<II")
        return self._question(data[reader.at :], request)

    def _question(self, body: bytes, request: int) -> Question | None:
        """The question in a message."""
        reader = Reader(body)
        _, service = reader.node_id()
        reader.node_id()
        reader.at += 8
        (handle,) = reader.take("<I")
        reader.at += 4
        reader.text()
        reader.at += 7
        if service == 446:
            return Question(self, "OpenSecureChannel", b"OPN", service, request, handle, self._opened(reader))
        stage = _STAGES.get(service, "")
        if stage == "Publish":
            self._wait(request, handle)
            return None
        if stage == "Read":
            return self._read(reader, request, handle)
        result, parameters, number = self._served(stage, reader)
        return Question(self, stage, b"MSG", service, request, handle, parameters, result, (), number)

    def _opened(self, reader: Reader) -> bytes:
        self.channel = _CHANNEL
        self.opened(reader)
        return u32(0, _CHANNEL, TOKEN) + bytes(8) + u32(3_600_000) + wire.text(self.nonce)

    def opened(self, reader: Reader) -> None:
        """An OpenSecureChannel request."""

    nonce: bytes | None = b"\1"

    def _read(self, reader: Reader, request: int, handle: int) -> Question:
        reader.at += 12
        nodes = list(reader.nodes())
        values = tuple(map(self.value, nodes))
        stage = "ReadServer" if nodes and nodes[0][0] == 0 else "Read"
        return Question(self, stage, b"MSG", 631, request, handle, wire.array(values) + NULL_ARRAY, 0, values)

    def value(self, node: tuple[int, int]) -> bytes:
        """The value of a node now."""
        namespace, number = node
        if namespace:
            return self._of_plant(namespace, number) or wire.data_value(None, status=_UNKNOWN_NODE)
        if number == _NAMESPACES:
            return wire.data_value(wire.texts(self.uris))
        if number in _LIMITS:
            return wire.data_value(wire.uint32(0))
        if number == _STATE:
            return wire.data_value(b"\6" + u32(0))
        return (
            wire.data_value(b"\x0d" + bytes(8)) if number == _STARTED else wire.data_value(None, status=_UNKNOWN_NODE)
        )

    def _of_plant(self, namespace: int, number: int) -> bytes | None:
        if namespace >= len(self.uris) or self.uris[namespace] != URI:
            # A tag of another namespace, so that a mistake shows.
            return wire.data_value(wire.uint32(moment(number + 17)))
        if FIRST_MOMENT <= number < FIRST_MOMENT + MOMENTS:
            taken = wire.file_time(time.time_ns())
            return wire.data_value(wire.uint32(moment(number - FIRST_MOMENT)), source=taken)
        return self._values(number)

    # Sessions and subscriptions.

    def _served(self, stage: str, reader: Reader) -> tuple[int, bytes, int]:
        """Result, parameters and sequence number of a service other than Read."""
        if stage == "GetEndpoints":
            return 0, wire.array(self.endpoints()), 0
        if stage == "CreateSession":
            self._has_session = True
            return 0, self.session(), 0
        if stage == "ActivateSession":  # A session ends with its connection.
            return 0 if self._has_session else _NO_SESSION, wire.text(bytes(32)) + NULL_ARRAY * 2, 0
        if stage == "CloseSession":
            return 0, b"", 0
        if stage == "CreateSubscription":
            return self._subscribe(reader)
        if stage == "CreateMonitoredItems":
            return self._watch(reader)
        if stage == "DeleteSubscriptions":
            self._publishing_s = None
            return 0, wire.array([u32(0)]) + NULL_ARRAY, 0
        if stage == "TransferSubscriptions":
            return 0, wire.array([u32(_NO_SUBSCRIPTION) + NULL_ARRAY]) + NULL_ARRAY, 0
        if stage == "Republish":
            _, number = reader.take("<II")
            sent = self._sent.get(number)
            return (_NO_MESSAGE, b"", number) if sent is None else (0, sent, number)
        return _NOT_IMPLEMENTED, b"", 0

    def endpoints(self) -> list[bytes]:
        """The endpoints that are offered."""
        return [endpoint()]

    def session(self, **wrong: Any) -> bytes:
        """Parameters of the answer to a CreateSessionRequest, right except for the arguments."""
        return session(**wrong)

    def _subscribe(self, reader: Reader) -> tuple[int, bytes, int]:
        (publishing_ms,) = reader.take("<d")
        lifetime, keep_alive = reader.take("<II")
        self._publishing_s = max(_SHORTEST_S, publishing_ms / 1000)
        self._items.clear()
        self._notified = 0
        self._due_s = time.monotonic() + self._publishing_s
        return 0, revised(publishing_ms, lifetime, keep_alive), 0

    def _watch(self, reader: Reader) -> tuple[int, bytes, int]:
        _, _, count = reader.take("<Iii")
        made: list[bytes] = []
        for _ in range(count):
            node = reader.value_id()
            _, handle = reader.take("<iI")
            reader.at += 8
            reader.node_id()
            if reader.take("<B")[0]:
                reader.text()
            (queue,) = reader.take("<I")
            reader.at += 1
            self._items.append(Item(handle, node))
            made.append(monitored(len(made) + 1, queue))
        return 0, wire.array(made) + NULL_ARRAY, 0

    def _wait(self, request: int, handle: int) -> None:
        self._waiting.append((request, handle))
        if self._publishing_s is not None and len(self._waiting) == 1:
            self._due_s = max(self._due_s, time.monotonic())

    def _notification(self) -> Question:
        assert self._publishing_s is not None
        request, handle = self._waiting.popleft()
        self._due_s = time.monotonic() + self._publishing_s
        self._notified += 1
        values = tuple(u32(item.handle) + self.value(item.node) for item in self._items)
        blank = Question(self, "Publish", b"MSG", 826, request, handle, b"", 0, values, self._notified)
        return _with_message(blank, self._sent)


def _with_message(blank: Question, sent: dict[int, bytes]) -> Question:
    """The notification of these values, stored for a Republish."""
    changes = wire.structure(811, wire.array(blank.values) + NULL_ARRAY)
    taken = wire.file_time(time.time_ns()).to_bytes(8, "little")
    told = u32(blank.number) + taken + wire.array([changes])
    sent[blank.number] = told
    sent.pop(blank.number - _KEPT, None)
    parameters = u32(SUBSCRIPTION) + NULL_ARRAY + b"\0" + told + NULL_ARRAY * 2
    return replace(blank, parameters=parameters)


class OpcuaLiar(Liar[Question]):
    """See `tests.support.hostile.behaviour.Peer`; `device` are more keys of its device."""

    more: Mapping[str, Any] = {"security": "none"}

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[OpcuaLiar]:
        """Listen, while the block is open."""
        async with super().serve():
            self.device = {"url": f"opc.tcp://127.0.0.1:{self.device['port']}", **self.more}
            yield self


def honest(uris: Sequence[Sequence[str]], values: Values) -> Callable[[asyncio.StreamReader], AsyncIterator[Question]]:
    """Listens as an honest server; `uris` are the namespaces from session to session, in turn."""
    turn = -1

    def listen(reader: asyncio.StreamReader) -> AsyncIterator[Question]:
        nonlocal turn
        turn += 1
        names = ["http://opcfoundation.org/UA/", OWN_URI, *uris[turn % len(uris)]]
        return Conversation(names, values).listen(reader)

    return listen


def started(
    lie: Lie[Question],
    greet: Greet | None = None,
    *,
    uris: Sequence[Sequence[str]] = ((OTHER_URI, URI),),
    values: Values,
) -> Callable[[Path], AbstractAsyncContextManager[OpcuaLiar]]:
    """The `start` of a behaviour that is one lie."""

    def start(folder: Path) -> AbstractAsyncContextManager[OpcuaLiar]:
        return OpcuaLiar(honest(uris, values), lie, greet).serve()

    return start
