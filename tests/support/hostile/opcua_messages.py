"""OPC UA servers that misuse their connections, chunks and messages."""

from __future__ import annotations

import asyncio

from tests.support.hostile import liar
from tests.support.hostile import opcua_wire as wire
from tests.support.hostile.liar import Writer
from tests.support.hostile.opcua_common import BAD, BROKEN, GONE, GOOD, PARTLY, behaviour, honest, pouring
from tests.support.hostile.opcua_request import Question, act, at
from tests.support.hostile.opcua_wire import u32


async def _reset(asked: list[Question], writer: Writer) -> None:
    liar.reset(writer)


async def _byte_by_byte_slowly(asked: list[Question], writer: Writer) -> None:
    for byte in asked[-1].answer:
        if writer.transport.is_closing():
            return
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0.05)


async def _announce_and_pour(asked: list[Question], writer: Writer) -> None:
    writer.write(asked[-1].frame(size=0xFFFFFFFF))
    await liar.pour(writer, lambda: bytes(65536))


async def _late_by_one(asked: list[Question], writer: Writer) -> None:
    if len(asked) % 2 == 0:
        return
    if len(asked) > 1:
        writer.write(asked[-2].answer)
    writer.write(asked[-1].answer)


async def _always_the_previous(asked: list[Question], writer: Writer) -> None:
    if len(asked) > 1:
        writer.write(asked[-2].answer)


async def _previous_under_this_id(asked: list[Question], writer: Writer) -> None:
    before = asked[-2] if len(asked) > 1 else asked[-1]
    writer.write(asked[-1].frame(before.body()))


async def _greet_with_text(writer: Writer) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")


async def _greet_with_acknowledge(writer: Writer) -> None:
    writer.write(wire.message(b"ACK", u32(0, 65535, 65535, 0, 0)))


async def _greet_with_reset(writer: Writer) -> None:
    liar.reset(writer)


def _error(reason: str) -> bytes:
    return wire.message(b"ERR", u32(_BAD_TCP_SERVER_TOO_BUSY) + wire.text(reason))


def _abort(asked: Question) -> bytes:
    return asked.frame(u32(_BAD_DECODING_ERROR) + wire.text("no"), chunk=b"A")


_BAD_TCP_SERVER_TOO_BUSY, _BAD_DECODING_ERROR = 0x807D0000, 0x80070000
_STAGES = ("Hello", "OpenSecureChannel", "GetEndpoints", "CreateSession", "ActivateSession", "ReadServer", "Read")
_b = behaviour
CONNECTIONS = (
    *(_b(f"silent-{stage}", f"says nothing to {stage}", act(stage, liar.say_nothing), GONE, is_worst=stage == "Read")
      for stage in _STAGES),
    *(_b(f"resets-{stage}", f"resets at {stage}", act(stage, _reset), GONE, is_worst=stage == "CreateSession")
      for stage in _STAGES),
    _b("resets-at-once", "resets every connection", liar.say_nothing, GONE, greet=_greet_with_reset),
    _b("closes", "closes when it is asked", act("Read", liar.close_at_once), GONE),
    _b("resets-within", "resets within an answer", act("Read", liar.reset_within), GONE),
    _b("byte-by-byte", "sends one byte per write", liar.one_byte_per_write, GOOD),
    _b("trickle", "sends twenty bytes a second", act("Read", _byte_by_byte_slowly), GONE, is_worst=True),
    _b("buffers-0", "takes messages of no bytes",
       at("Hello", lambda q: q.frame(u32(0, 0, 0, 0, 0))), BROKEN),
    _b("buffers-4g", "takes and sends anything",
       at("Hello", lambda q: q.frame(u32(*[0xFFFFFFFF] * 5))), GOOD),
    _b("two-acknowledges", "acknowledges twice", at("Hello", lambda q: q.answer * 2), GOOD | BROKEN),
    _b("busy", "has no room", act("Hello", liar.says(_error("full"))),
       GONE),
    _b("error-with-a-novel", "ends with an error and 60 kB of reasons",
       act("Read", liar.says(_error("x" * 60_000))), GONE),
    _b("greets-with-text", "another service on the port", liar.say_nothing, BROKEN, greet=_greet_with_text),
    _b("greets-with-acknowledge", "acknowledges before it is greeted", at("", honest), GOOD | BROKEN,
       greet=_greet_with_acknowledge),
    _b("web-page", "a web page", liar.says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), BROKEN),
    _b("garbage", "garbage", act("Read", liar.says(bytes(range(64, 128)))), BROKEN, is_worst=True),
    _b("zeros", "zeros", act("Read", liar.says(bytes(64))), BROKEN),
)  # fmt: skip

MESSAGES = (
    _b("size-4g", "announces 4 GiB, and sends without end", act("Read", _announce_and_pour), BROKEN, is_heavy=True,
       is_worst=True),
    _b("size-0", "a message of no bytes", at("Read", lambda q: q.frame(size=0)), BROKEN),
    _b("size-8", "a message that is only its header", at("Read", lambda q: q.frame(size=8)), BROKEN),
    _b("size-more-than-agreed", "a chunk longer than agreed", at("Read", lambda q: q.frame(size=65_536)), BROKEN),
    _b("size-short", "a message shorter than it is", at("Read", lambda q: q.frame(size=40)), BROKEN),
    _b("size-long", "a message longer than it is", at("Read", lambda q: q.frame(size=4000)), GONE | BROKEN),
    _b("endless-chunks", "chunks without end", act("Read", pouring(lambda q: q.frame(bytes(50_000), chunk=b"C"))),
       BROKEN,
       is_heavy=True, is_worst=True),
    _b("endless-empty-chunks", "empty chunks without end", act("Read", pouring(lambda q: q.frame(b"", chunk=b"C"))),
       BROKEN, is_heavy=True),
    _b("chunks-of-others", "chunks of another answer between", at("Read", lambda q: q.frame(bytes(9), chunk=b"C")
       + q.frame(bytes(9), chunk=b"C", request=q.request + 1)), BROKEN),
    _b("aborts", "aborts every answer", at("Read", _abort), GONE),
    _b("aborts-and-answers", "aborts an answer, and then answers",
       at("Read", lambda q: q.frame(bytes(9), chunk=b"C") + _abort(q) + q.answer), GOOD),
    _b("chunk-type-x", "an unknown kind of chunk", at("Read", lambda q: q.frame(chunk=b"X")), BROKEN),
    _b("message-type", "an unknown kind of message", at("Read", lambda q: q.frame(kind=b"ZZZ")), BROKEN),
    _b("acknowledge-again", "acknowledges instead of answering",
       at("Read", lambda q: q.frame(u32(0, 65535, 65535, 0, 0), kind=b"ACK")), BROKEN),
    _b("opens-again", "opens a channel instead of answering",
       at("Read", lambda q: q.frame(u32(0, 8, 8) + bytes(12) + wire.text(b"\1"), kind=b"OPN")), BROKEN),
    _b("wrong-channel", "another secure channel", at("Read", lambda q: q.frame(channel=8)), BROKEN),
    _b("wrong-token", "another token", at("Read", lambda q: q.frame(token=99)), BROKEN),
    _b("sequence-repeated", "repeats the sequence number",
       at("Read", lambda q: q.frame(sequence=q.conversation.sequence() - 1)), BROKEN),
    _b("sequence-jumps", "jumps in the sequence", at("Read", lambda q: q.frame(sequence=q.conversation.sequence() + 5)),
       BROKEN),
    _b("sequence-0", "sequence number 0", at("Read", lambda q: q.frame(sequence=0)), BROKEN),
    _b("earlier-request", "names an earlier request", at("Read", lambda q: q.frame(request=q.request - 1)), BROKEN),
    _b("later-request", "names a request that was never made", at("Read", lambda q: q.frame(request=q.request + 9)),
       BROKEN),
    _b("two-answers", "answers twice", at("Read", lambda q: q.frame() + q.frame()), BROKEN),
    _b("late", "answers late, before the answer to the next request", act("Read", _late_by_one),
       GOOD | PARTLY | BAD | GONE),
    _b("always-the-previous", "answers the request before", act("Read", _always_the_previous),
       PARTLY | BAD | GONE | BROKEN),
    _b("previous-body", "answers with the body of the request before", act("Read", _previous_under_this_id),
       GONE | BROKEN),
    _b("echo", "sends the request back", at("Read", lambda q: q.frame(q.body(service=q.service))), BROKEN),
    _b("flood", "answers to what was never asked, without end", act("Read",
       pouring(lambda q: q.frame(request=999_999))),
       BROKEN, is_heavy=True, is_worst=True),
    _b("flood-of-aborts", "aborts what it never began, without end",
       act("Read", pouring(_abort)), GONE | BROKEN, is_heavy=True),
)  # fmt: skip
