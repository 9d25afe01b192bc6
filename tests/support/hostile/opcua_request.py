"""One request to an OPC UA server, its right response, and every way to answer it wrongly."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.hostile import opcua_wire as wire
from tests.support.hostile.liar import Lie, Writer
from tests.support.hostile.opcua_wire import NULL_ARRAY, u32

if TYPE_CHECKING:
    from tests.support.hostile.opcua_server import Conversation

SUBSCRIPTION = 9
_FAULT = 397


@dataclass(frozen=True, slots=True)
class Question:
    """One request, its right response, and every way to answer it wrongly.

    Attributes:
        stage: the service; "Hello", "OpenSecureChannel", and "ReadServer" for a read of namespace 0.
        kind: of the answer's message.
        service: number of the request's encoding.
        parameters: of the right answer.
        result: of the right answer.
        values: the DataValues of the right answer to a read, or the items of a notification.
        number: sequence number of a notification; for a Republish the one that is requested.
    """

    conversation: Conversation
    stage: str
    kind: bytes
    service: int
    request: int
    handle: int
    parameters: bytes
    result: int = 0
    values: tuple[bytes, ...] = ()
    number: int = 0

    @property
    def answer(self) -> bytes:
        """See `liar.Asked`."""
        return self.frame()

    def frame(self, body: bytes | None = None, **wrong: Any) -> bytes:
        """The right answer, except for the arguments; `wrong` as in `opcua_server.Conversation.frame`."""
        sent: dict[str, Any] = {"kind": self.kind, "request": self.request} | wrong
        return self.conversation.frame(self.body() if body is None else body, **sent)

    def body(
        self,
        parameters: bytes | None = None,
        *,
        service: int | None = None,
        handle: int | None = None,
        result: int | None = None,
        sent: int | None = None,
        diagnostics: bytes = b"\0",
        strings: bytes = NULL_ARRAY,
        more: bytes = b"\0\0\0",
    ) -> bytes:
        """The answer without chunk and security headers (OPC 10000-4, 7.33)."""
        told = self.parameters if parameters is None else parameters
        if self.kind == b"ACK":
            return told
        code = self.result if result is None else result
        number = (_FAULT if code >> 30 else self.service + 3) if service is None else service
        time_ = wire.file_time(time.time_ns()) if sent is None else sent
        head = wire.node_id(number) + time_.to_bytes(8, "little", signed=True)
        head += u32(self.handle if handle is None else handle, code) + diagnostics + strings + more
        return head if number == _FAULT else head + told

    def fault(self, code: int) -> bytes:
        """The service refused."""
        return self.frame(self.body(b"", service=_FAULT, result=code))

    def read(
        self, values: Sequence[bytes] | None = None, *, count: int | None = None, tail: bytes = NULL_ARRAY, **head: Any
    ) -> bytes:
        """The answer to a read with other values."""
        told = wire.array(self.values if values is None else values, count)
        return self.frame(self.body(told + tail, **head))

    def each(self, change: Callable[[bytes], bytes]) -> bytes:
        """The answer to a read with every value changed."""
        return self.read([change(value) for value in self.values])

    def notify(
        self,
        items: Sequence[bytes] | None = None,
        *,
        contents: bytes | None = None,
        count: int | None = None,
        subscription: int = SUBSCRIPTION,
        number: int | None = None,
        more: bool = False,
        available: bytes = NULL_ARRAY,
    ) -> bytes:
        """A notification (OPC 10000-4, 5.13.5) with other items or other contents."""
        if contents is None:
            told = self.values if items is None else items
            changes = wire.structure(811, wire.array(told, count) + NULL_ARRAY)
            contents = wire.array([changes] if told or count is not None else [])
        sent = wire.file_time(time.time_ns()).to_bytes(8, "little")
        told_number = self.number if number is None else number
        return self.frame(
            self.body(
                u32(subscription) + available + bytes((more,)) + u32(told_number) + sent + contents + NULL_ARRAY * 2
            )
        )


def at(stage: str, make: Callable[[Question], bytes]) -> Lie[Question]:
    """Answers one service with the result of `make`, and the others rightly."""

    async def lie(asked: list[Question], writer: Writer) -> None:
        question = asked[-1]
        writer.write(make(question) if question.stage == stage else question.answer)

    return lie


def act(stage: str, do: Lie[Question]) -> Lie[Question]:
    """Does something about one service, and answers the others rightly."""

    async def lie(asked: list[Question], writer: Writer) -> None:
        if asked[-1].stage == stage:
            await do([question for question in asked if question.stage == stage], writer)
        else:
            writer.write(asked[-1].answer)

    return lie
