"""Hostile EtherNet/IP devices."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Mapping
from typing import Any

from drivers.ethernetip import EtherNetIpKind
from tests.support.hostile import liar
from tests.support.hostile.behaviour import Behaviour, HostileTag, Outcome, Protocol
from tests.support.hostile.ethernetip_peer import (
    LONG_TAGS,
    REGISTER,
    SEND_RR,
    SEND_UNIT,
    STRANGE_TAGS,
    TAGS,
    Packet,
    listening,
)
from tests.support.hostile.liar import Greet, Lie, Writer

_OPENINGS = (0x54, 0x5B)
_MULTIPLE, _READ, _FRAGMENT, _SYMBOLS, _LIST = 0x0A, 0x4C, 0x52, 0x55, 0x03
_SYMBOL_CLASS, _TEMPLATE_CLASS = 0x6B, 0x6C
_PARTIAL = 0x06
_STRUCTURE = b"\xa0\x02"
_UDINT, _REAL = b"\xc8\x00", b"\xca\x00"

Is = Callable[[Packet], bool]
Make = Callable[[Packet], bytes]


# Predicates for the packets that a behaviour changes.


def registers(packet: Packet) -> bool:
    """Whether it asks for a session."""
    return packet.command == REGISTER


def opens(packet: Packet) -> bool:
    """Whether it asks for a connection."""
    return packet.command == SEND_RR and packet.service in _OPENINGS


def scans(packet: Packet) -> bool:
    """Whether it is a request on the connection."""
    return packet.command == SEND_UNIT


def asks_several(packet: Packet) -> bool:
    """Whether it asks for several tags."""
    return scans(packet) and packet.service == _MULTIPLE


def asks_fragments(packet: Packet) -> bool:
    """Whether it asks for a fragment of a tag."""
    return scans(packet) and packet.service == _FRAGMENT


def lists_symbols(packet: Packet) -> bool:
    """Whether it asks for the tag list."""
    return scans(packet) and packet.service == _SYMBOLS


def asks_template_attributes(packet: Packet) -> bool:
    """Whether it asks for the size of a structure."""
    return scans(packet) and packet.service == _LIST and packet.class_id == _TEMPLATE_CLASS


def asks_template(packet: Packet) -> bool:
    """Whether it asks for the members of a structure."""
    return scans(packet) and packet.service == _READ and packet.class_id == _TEMPLATE_CLASS


def on(matches: Is, make: Make) -> Lie[Packet]:
    """Answers matching packets with `make`, and all others correctly."""

    async def lie(asked: list[Packet], writer: Writer) -> None:
        writer.write(make(asked[-1]) if matches(asked[-1]) else asked[-1].answer)

    return lie


def does(matches: Is, act: Lie[Packet]) -> Lie[Packet]:
    """Calls `act` for matching packets, and answers all others correctly."""

    async def lie(asked: list[Packet], writer: Writer) -> None:
        if matches(asked[-1]):
            await act([packet for packet in asked if matches(packet)], writer)
        else:
            writer.write(asked[-1].answer)

    return lie


def replies(matches: Is, make: Callable[[bytes], bytes]) -> Lie[Packet]:
    """Replaces the CIP reply to matching packets by `make` of it."""
    return on(matches, lambda packet: packet.with_reply(make(packet.reply)))


def status(code: int, *extended: int, more: bytes = b"") -> Callable[[bytes], bytes]:
    """Makes a CIP status of a reply."""
    words = struct.pack(f"<{len(extended)}H", *extended)
    return lambda reply: bytes((reply[0], 0, code, len(extended))) + words + more


# Behaviours that need more than one line.


async def _late(asked: list[Packet], writer: Writer) -> None:
    """Gives each second answer late, before the next."""
    if len(asked) % 2:
        writer.write((asked[-2].answer if len(asked) > 1 else b"") + asked[-1].answer)


async def _always_the_previous(asked: list[Packet], writer: Writer) -> None:
    if len(asked) > 1:
        writer.write(asked[-2].answer)


async def _previous_as_new(asked: list[Packet], writer: Writer) -> None:
    """Sends the previous answer with its own sequence count first; with the current one it would be undetectable."""
    writer.write((asked[-2] if len(asked) > 1 else asked[-1]).answer + asked[-1].answer)


async def _context_of_the_previous(asked: list[Packet], writer: Writer) -> None:
    if len(asked) > 1:
        writer.write(asked[-2].header(context=asked[-1].answer[12:20][::-1]))


async def _cut_short(asked: list[Packet], writer: Writer) -> None:
    writer.write(asked[-1].answer[:50])


async def _endless_length(asked: list[Packet], writer: Writer) -> None:
    writer.write(asked[-1].header(length=0xFFFF))
    await liar.pour(writer, lambda: bytes(65536))


async def _endless_headers(asked: list[Packet], writer: Writer) -> None:
    head = asked[-1].header(command=0, length=0)[:24]
    await liar.pour(writer, lambda: head * 2000)


async def _flood_of_copies(asked: list[Packet], writer: Writer) -> None:
    await liar.pour(writer, lambda: asked[-1].answer * 50)


async def _flood_of_old(asked: list[Packet], writer: Writer) -> None:
    await liar.pour(writer, lambda: asked[-1].with_sequence(-1) * 50)


async def _greet_with_reset(writer: Writer) -> None:
    liar.reset(writer)


async def _greet_with_text(writer: Writer) -> None:
    writer.write(b"220 ftp.example.com ready, and a good day to you\r\n")


# Changes of replies.


def _offsets(change: Callable[[list[int], int], list[int]]) -> Callable[[bytes], bytes]:
    """Changes the offsets in an answer to several questions."""

    def make(reply: bytes) -> bytes:
        (count,) = struct.unpack_from("<H", reply, 4)
        offsets = list(struct.unpack_from(f"<{count}H", reply, 6))
        changed = [offset & 0xFFFF for offset in change(offsets, len(reply) - 4)]
        return reply[:6] + struct.pack(f"<{count}H", *changed) + reply[6 + 2 * count :]

    return make


def _count(change: int) -> Callable[[bytes], bytes]:
    return lambda reply: reply[:4] + struct.pack("<H", (reply[4] | reply[5] << 8) + change) + reply[6:]


def _retyped(was: bytes, became: bytes) -> Callable[[bytes], bytes]:
    """Replaces one type by another."""
    return lambda reply: reply.replace(b"\xcc\0\0\0" + was, b"\xcc\0\0\0" + became)


def _longer_elements(reply: bytes) -> bytes:
    return reply + bytes(4)


def _fragment(data: bytes) -> Callable[[bytes], bytes]:
    """Replaces the reply by a fragment that never is the last."""
    return lambda reply: bytes((reply[0], 0, _PARTIAL, 0)) + reply[4:8] + data


def _same_symbols_again(reply: bytes) -> bytes:
    return bytes((reply[0], 0, _PARTIAL, 0)) + reply[4:]


def _endless_symbols() -> Callable[[bytes], bytes]:
    instances = itertools.count(1, 40)

    def make(reply: bytes) -> bytes:
        first = next(instances)
        entries = b"".join(
            struct.pack("<IH8sH3I", instance, 8, b"Nothing%d" % (instance % 10), 0xC8, 0, 0, 0)
            for instance in range(first, first + 40)
        )
        return bytes((reply[0], 0, _PARTIAL, 0)) + entries

    return make


def _attributes(*, words: int | None = None, size: int | None = None, members: int | None = None) -> Lie[Packet]:
    """Replaces values of template attributes: (attribute, status, value) of 4, 5, 2 and 1."""

    def make(reply: bytes) -> bytes:
        changed = bytearray(reply)
        for at, layout, value in ((10, "<I", words), (18, "<I", size), (26, "<H", members)):
            if value is not None:
                struct.pack_into(layout, changed, at, value)
        return bytes(changed)

    return replies(asks_template_attributes, make)


def _members(change: Callable[[int, int, int], tuple[int, int, int]]) -> Callable[[bytes], bytes]:
    """Replaces (array size or bit, type, offset) of the first four members of a structure."""

    def make(reply: bytes) -> bytes:
        changed = bytearray(reply)
        for at in range(4, min(4 + 8 * 4, len(reply) - 7), 8):
            struct.pack_into("<HHI", changed, at, *change(*struct.unpack_from("<HHI", reply, at)))
        return bytes(changed)

    return make


def _handle(reply: bytes) -> bytes:
    """Replaces the handle of a structure."""
    at = reply.find(_STRUCTURE)
    return reply if at < 0 else reply[: at + 2] + struct.pack("<H", 0xDEAD) + reply[at + 4 :]


GOOD, PARTLY, BAD = Outcome.GOOD, Outcome.PARTLY, Outcome.BAD
GONE, REFUSED, BROKEN = Outcome.UNREACHABLE, Outcome.REFUSED, Outcome.VIOLATION
_UNCONNECTED = {"messaging": "unconnected"}
_LIMITS = {"timeout": "100 ms", "connect_timeout": "2 s", "check_changes": "1 ms"}
_SMALL = {"limits": {**_LIMITS, "connection_bytes": 100}}


def _behaviour(
    name: str, text: str, lie: Lie[Packet], *expected: Outcome, greet: Greet | None = None, is_heavy: bool = False,
    is_worst: bool = False, settings: Mapping[str, Any] | None = None, tags: tuple[HostileTag, ...] = (),
) -> Behaviour:  # fmt: skip
    return Behaviour(
        id=name, text=text, start=liar.started(listening, lie, greet), expected=expected, is_heavy=is_heavy,
        is_worst=is_worst, settings=settings or {}, tags=tags,
    )  # fmt: skip


_b = _behaviour
OPENING = (
    _b("resets-at-once", "resets every connection that it accepts", liar.say_nothing, GONE, greet=_greet_with_reset),
    _b("greets-with-text", "another service on the port", liar.say_nothing, BROKEN, greet=_greet_with_text),
    _b("register-silence", "says nothing to RegisterSession", does(registers, liar.say_nothing), GONE),
    _b("register-closes", "closes after RegisterSession", does(registers, liar.close_at_once), GONE, is_worst=True),
    _b("register-status", "refuses a session", on(registers, lambda p: p.header(status=0x69)), REFUSED),
    _b("register-session-0", "gives the session 0", on(registers, lambda p: p.header(session=0)), BROKEN),
    _b("register-long", "a RegisterSession that is too long",
       on(registers, lambda p: p.header(length=40) + bytes(36)), BROKEN),
    _b("open-silence", "says nothing to Forward Open", does(opens, liar.say_nothing), GOOD),
    _b("open-closes", "closes at Forward Open", does(opens, liar.close_at_once), GOOD),
    _b("open-refused", "refuses every connection", replies(opens, status(0x01, 0x0113)), GOOD),
    _b("open-other-serial", "opens another connection than the one asked for",
       replies(opens, lambda r: r[:12] + bytes((r[12] ^ 1,)) + r[13:]), BROKEN),
    _b("open-empty", "opens a connection and does not say which", replies(opens, lambda r: r[:4]), BROKEN),
    _b("open-status-endless", "an extended status of 255 words to Forward Open",
       replies(opens, lambda r: r[:2] + b"\x01\xff" + bytes(20)), BROKEN),
    _b("open-other-service", "answers another service than Forward Open",
       replies(opens, lambda r: b"\xce" + r[1:]), BROKEN),
)  # fmt: skip
FRAMES = (
    _b("silence", "says nothing to a scan", does(scans, liar.say_nothing), GONE, is_worst=True),
    _b("closes", "closes when it is scanned", does(scans, liar.close_at_once), GONE),
    _b("resets", "resets within an answer", does(scans, liar.reset_within), GONE),
    _b("cut-short", "begins answers and never ends them", does(scans, _cut_short), GONE),
    _b("byte-by-byte", "sends one byte per write", liar.one_byte_per_write, GOOD, is_worst=True),
    _b("other-session", "the handle of another session", on(scans, lambda p: p.header(session=0x1234)), BROKEN),
    _b("other-command", "another command", on(scans, lambda p: p.header(command=0x6F)), BROKEN),
    _b("encapsulation-status", "a status: it does not know our session",
       on(scans, lambda p: p.header(status=0x64)), GONE),
    _b("length-long", "length ten bytes too long", on(scans, lambda p: p.header(length=p.length + 10)), GONE | BROKEN),
    _b("length-short", "length four bytes too short", on(scans, lambda p: p.header(length=p.length - 4)), BROKEN),
    _b("length-0", "length 0", on(scans, lambda p: p.header(length=0)), BROKEN),
    _b("length-65535", "length 65535, and data without end", does(scans, _endless_length), BROKEN, is_heavy=True,
       is_worst=True),
    _b("endless-headers", "headers without data, without end", does(scans, _endless_headers), GONE | BROKEN,
       is_heavy=True),
    _b("garbage", "garbage", on(scans, lambda _: bytes(range(64, 192))), BROKEN, is_worst=True),
    _b("zeros", "zeros", on(scans, lambda _: bytes(128)), GONE | BROKEN),
    _b("item-count", "items that are 65535", on(scans, lambda p: p.patched(30, b"\xff\xff")), BROKEN),
    _b("item-length", "an item of 65535 bytes", on(scans, lambda p: p.patched(42, b"\xff\xff")), BROKEN),
    _b("other-connection", "the id of another connection", on(scans, lambda p: p.on_connection(1)), BROKEN),
    _b("sequence-never-asked", "a sequence count never asked", on(scans, lambda p: p.with_sequence(7)), BROKEN),
    _b("sequence-repeated", "the sequence count of the question before",
       on(scans, lambda p: p.with_sequence(-1)), GONE | BROKEN),
    _b("late", "answers late, before the answer to the next question", does(scans, _late), GOOD | GONE),
    _b("always-the-previous", "answers the question before", does(scans, _always_the_previous), GONE),
    _b("previous-first", "repeats the answer before each answer", does(scans, _previous_as_new), GOOD),
    _b("other-context", "the context of another question, without a connection",
       does(lambda p: p.command == SEND_RR, _context_of_the_previous), GONE | BROKEN, settings=_UNCONNECTED),
    _b("previous-context", "answers the question before, without a connection",
       does(lambda p: p.command == SEND_RR, _always_the_previous), GONE, settings=_UNCONNECTED),
    _b("two-answers", "answers twice", on(scans, lambda p: p.answer * 2), GOOD | BROKEN),
    _b("flood", "the right answer, without end", does(scans, _flood_of_copies), GOOD | BROKEN, is_heavy=True,
       is_worst=True),
    _b("flood-of-old", "old answers, without end", does(scans, _flood_of_old), BROKEN, is_heavy=True),
)  # fmt: skip
REPLIES = (
    _b("other-service", "the answer to another service", replies(scans, lambda r: b"\x8e" + r[1:]), BAD),
    _b("status-endless", "an extended status of 255 words", replies(scans, lambda r: r[:2] + b"\x10\xff" + r[4:20]),
       BAD),
    _b("refuses-all", "refuses every question", replies(scans, status(0x10)), BAD),
    _b("packets-refused", "does not know packets of several questions", replies(asks_several, status(0x08)), GOOD),
    _b("nothing-fits", "says that no answer fits", replies(asks_several, status(0x11)), GOOD),
    _b("partial-nothing", "a part of nothing, for every packet", replies(asks_several, status(_PARTIAL)), GOOD),
    _b("count-more", "one answer more than there is", replies(asks_several, _count(1)), GOOD),
    _b("count-less", "one answer less than there is", replies(asks_several, _count(-1)), GOOD),
    _b("count-65535", "65535 answers", replies(asks_several, lambda r: r[:4] + b"\xff\xff" + r[6:]), GOOD),
    _b("offsets-overlap", "answers that overlap",
       replies(asks_several, _offsets(lambda o, _: [o[0]] * len(o))), GOOD),
    _b("offsets-outside", "answers outside of the packet",
       replies(asks_several, _offsets(lambda o, size: [*o[:-1], size + 100])), GOOD),
    _b("offsets-backwards", "answers in another order", replies(asks_several, _offsets(lambda o, _: o[::-1])), GOOD),
    _b("offsets-in-the-head", "answers that begin in the list of offsets",
       replies(asks_several, _offsets(lambda o, _: [2, *o[1:]])), GOOD),
    _b("types-changed", "every UDINT is a REAL overnight", replies(scans, _retyped(_UDINT, _REAL)), PARTLY | BAD),
    _b("elements-longer", "more elements than were asked for", replies(asks_several, _longer_elements),
       PARTLY | BAD | GOOD),
    _b("elements-fewer", "fewer elements than were asked for", replies(asks_several, lambda r: r[:-4]), PARTLY | BAD),
    _b("infinities", "NaN, infinities, and the smallest of numbers", liar.answer(lambda p: p.answer), GOOD,
       tags=STRANGE_TAGS),
    _b("fragments-of-nothing", "fragments of nothing, without end", replies(asks_fragments, _fragment(b"")), PARTLY,
       settings=_SMALL, tags=LONG_TAGS),
    _b("fragments-endless", "the same fragment, without end", replies(asks_fragments, _fragment(b"\1\2\3\4" * 15)),
       PARTLY, settings=_SMALL, tags=LONG_TAGS, is_heavy=True),
    _b("fragments-retyped", "a type that changes between fragments",
       replies(asks_fragments, lambda r: r[:6] + bytes((r[8] if len(r) > 8 else 0, 7)) + r[8:]), PARTLY,
       settings=_SMALL, tags=LONG_TAGS),
)  # fmt: skip
STRUCTURES = (
    _b("symbols-loop", "lists the same tags again and again", replies(lists_symbols, _same_symbols_again), GOOD),
    _b("symbols-endless", "lists tags without end", replies(lists_symbols, _endless_symbols()), GOOD, is_heavy=True),
    _b("symbols-cut", "a tag list that ends within a name", replies(lists_symbols, lambda r: r[:-9]), GOOD),
    _b("symbols-long-name", "a name of 65535 characters",
       replies(lists_symbols, lambda r: r[:8] + b"\xff\xff" + r[10:]), GOOD),
    _b("templates-4-gib", "structures of 4 GiB", _attributes(size=0xFFFFFFFF), GOOD, is_heavy=True),
    _b("templates-described-in-16-gib", "structures described in 16 GiB", _attributes(words=0xFFFFFFFF), GOOD,
       is_heavy=True),
    _b("templates-members", "structures of 65535 members", _attributes(members=0xFFFF), GOOD, is_heavy=True),
    _b("templates-empty", "structures of no bytes", _attributes(size=0, members=0, words=0), GOOD),
    _b("templates-offsets", "members beyond their structure",
       replies(asks_template, _members(lambda info, kind, at: (info, kind, at + 0xFFFF0000))), GOOD),
    _b("templates-overlap", "members in the place of others, as arrays of 65535",
       replies(asks_template, _members(lambda _, kind, at: (0xFFFF, kind, at))), GOOD),
    _b("templates-nested", "a structure within itself",
       replies(asks_template, _members(lambda info, _, at: (info, 0x81A3, at))), GOOD),
    _b("templates-shifted", "structures of half their size", _attributes(size=8), GOOD | PARTLY),
    _b("handle-changed", "the handle of another structure", replies(scans, _handle), GOOD | PARTLY),
    _b("template-endless", "a description of a structure without end",
       replies(asks_template, lambda r: bytes((r[0], 0, _PARTIAL, 0)) + b"\0"), GOOD),
)  # fmt: skip


ETHERNETIP = Protocol(
    name="ethernetip",
    label="EtherNet/IP",
    kind=EtherNetIpKind,
    settings={"limits": _LIMITS},
    tags=TAGS,
    behaviours=(*OPENING, *FRAMES, *REPLIES, *STRUCTURES),
)
