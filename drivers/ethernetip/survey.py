"""Asking a controller what it has, one question at a time: whoever runs these sends what they yield.

Each is a generator of questions that is given the answers: it can go on between scans, one question with each, or all
at once for a person who waits. It knows no socket.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable
from functools import partial

from drivers.ethernetip import codec
from drivers.ethernetip.codec import Question
from drivers.ethernetip.replies import PARTIAL, SUCCESS, Reply, reply_of, status_text
from drivers.ethernetip.symbols import (
    ALL_MEMBERS_MAX,
    DEPTH_MAX,
    SYMBOLS_MAX,
    TEMPLATE_ATTRIBUTES,
    Directory,
    Symbol,
    Template,
    parse_symbols,
    parse_template,
    parse_template_facts,
)
from edge.errors import ProtocolViolation

_INSTANCE_MAX = 0xFFFFFFFF
_SOME_MISSING = 0x0A
_ALL_MISSING_BYTES = 2 + 5 * 4  # Count; number and status of each, and no value.


class Refused(Exception):
    """The controller does not do what was asked; the sentence says what."""


Errand = Generator[Question, bytes, None]


def _asked(question: Question) -> Generator[Question, bytes, tuple[Reply, bytes]]:
    body = yield question
    reply = reply_of(body, question.data[0])
    return reply, body[reply.start : reply.end]


def counters() -> Generator[Question, bytes, bytes | None]:
    """The controller's own words about its program: other ones after every change; None where it has none now."""
    reply, data = yield from _asked(codec.changes())
    return data if reply.status in (SUCCESS, _SOME_MISSING) and len(data) > _ALL_MISSING_BYTES else None


def device_time() -> Generator[Question, bytes, int | None]:
    """UTC of the wall clock in nanoseconds; None where there is none."""
    reply, data = yield from _asked(codec.get_list(codec.WALL_CLOCK, 1, (6,)))
    if reply.status != SUCCESS or len(data) != 14 or data[:6] != b"\x01\0\x06\0\0\0":
        return None
    time_us = int.from_bytes(data[6:], "little")
    return time_us * 1000 if time_us < 2**62 // 1000 else None


def symbols(program: str, keep: Callable[[Symbol], bool]) -> Generator[Question, bytes, list[Symbol]]:
    """The symbols of a program, or of the controller, that are worth keeping.

    Raises:
        Refused: it does not list them.
        ProtocolViolation: what it lists is no such list, or has no end.
    """
    found: list[Symbol] = []
    after = count = 0
    while True:
        reply, data = yield from _asked(codec.list_symbols(program, after))
        if reply.status not in (SUCCESS, PARTIAL):
            raise Refused(f"its tags are not listed: {status_text(reply.status, reply.extended)}")
        part = list(parse_symbols(data, after))
        count += len(part)
        found += filter(keep, part)
        if reply.status == SUCCESS:
            return found
        after = part[-1].instance + 1 if part else 0
        if not 0 < after <= _INSTANCE_MAX or count > SYMBOLS_MAX:
            raise ProtocolViolation("list of tags", f"up to {SYMBOLS_MAX} with an end", count, data[:64])


def template(instance: int) -> Generator[Question, bytes, Template]:
    """The layout of one structure. Raises as `symbols`."""
    reply, data = yield from _asked(codec.get_list(codec.TEMPLATES, instance, TEMPLATE_ATTRIBUTES))
    if reply.status != SUCCESS:
        raise Refused(f"structure {instance} is not described: {status_text(reply.status, reply.extended)}")
    facts = parse_template_facts(data)
    definition = b""
    while len(definition) < facts.definition_bytes:
        size = facts.definition_bytes - len(definition)
        reply, data = yield from _asked(codec.read_template(instance, len(definition), size))
        if reply.status not in (SUCCESS, PARTIAL):
            raise Refused(f"structure {instance} is not described: {status_text(reply.status, reply.extended)}")
        if not 0 < len(data) <= size:
            if not data and reply.status == SUCCESS:
                break
            raise ProtocolViolation("bytes of a template", f"1 to {size}", len(data), data[:64])
        definition += data
    return parse_template(facts, definition)


def templates(directory: Directory, wanted: Iterable[int]) -> Generator[Question, bytes, None]:
    """Learn structures and all that are in them. Raises as `symbols`."""
    ahead = [(instance, 0) for instance in wanted]
    seen: set[int] = set()
    while ahead:
        instance, depth = ahead.pop()
        if instance in seen:
            continue
        seen.add(instance)
        members = sum(len(known.members) for known in directory.templates.values())
        if depth > DEPTH_MAX or members > ALL_MEMBERS_MAX:
            limit = f"up to {ALL_MEMBERS_MAX} members, {DEPTH_MAX} deep"
            raise ProtocolViolation("structures", limit, f"{members} members, {depth} deep")
        known = directory.templates.get(instance)
        if known is None:  # What is in it may be missing all the same: the session was lost before it was learned.
            known = directory.templates[instance] = yield from template(instance)
        ahead += [(member.kind.template, depth + 1) for member in known.members.values() if member.kind.is_structure]


def _is_among(names: Container[str], symbol: Symbol) -> bool:
    return symbol.name.lower() in names


def directory_of(directory: Directory, sought: Iterable[str]) -> Errand:
    """Learn the tags with these names, in lower case, and their structures. Raises as `symbols`."""
    wanted = set(sought) - directory.looked_for
    programs = {name.rpartition(".")[0] for name in wanted}
    for program in sorted(programs):
        prefix = f"{program}." if program else ""
        names = {name.removeprefix(prefix) for name in wanted if name.startswith(prefix)}
        for symbol in (yield from symbols(program, partial(_is_among, names))):
            directory.symbols[prefix + symbol.name.lower()] = symbol
    kinds = [directory.symbols[name].kind for name in wanted if name in directory.symbols]
    yield from templates(directory, sorted({kind.template for kind in kinds if kind.is_structure}))
    directory.looked_for |= wanted
