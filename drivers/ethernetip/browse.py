"""Browsing the tags of a controller, and finding the devices at a host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import islice, product
from typing import Any, Protocol

from drivers.ethernetip import cip, controller_queries, objects
from drivers.ethernetip.address import Part, TagAddress, parse_address
from drivers.ethernetip.cip import BY_CODE, STRING_CHARACTERS_MAX, STRING_HANDLE, Question, Routed
from drivers.ethernetip.connection import Connection, connect
from drivers.ethernetip.controller_queries import (
    ADAPTER,
    CONTROLLER,
    IdentityObject,
    identity_object_in,
    parse_identity_object,
)
from drivers.ethernetip.encapsulation import PORT, Request
from drivers.ethernetip.plan import EtherNetIpPlan, scope_parts
from drivers.ethernetip.settings import EtherNetIpDevice, EtherNetIpTag
from drivers.ethernetip.symbols import Symbol, SymbolTable, SymbolType, Template
from edge.clock import Clock, SystemClock
from edge.driver import BrowseEntry, Discovered, pause
from edge.errors import ConfigError, DeviceUnreachable, TidegateError
from edge.model import Reading, in_unit, quality_of, status_codes
from edge.units import format_value

_ELEMENTS_SHOWN = 1000
_MEMBERS_SHOWN = 10
_PROGRAM = "Program:"
_KEPT_NS = 60 * 10**9
_VALUES_AT_ONCE = 200


class _Session(Protocol):
    async def run(
        self, questions: Generator[Question, bytes, Any], before: Callable[[], Awaitable[None]] | None = None
    ) -> Any: ...

    async def read_once(self, plan: EtherNetIpPlan) -> Reading: ...


@dataclass(frozen=True, slots=True)
class _Item:
    """One child of the path: its name there, its address and its type."""

    name: str
    address: str
    kind: SymbolType


class Browser:
    """The tags of a controller, as they were when they were first asked for in the last minute."""

    def __init__(self, session: _Session, device: EtherNetIpDevice, clock: Clock) -> None:
        self._session, self._clock = session, clock
        # Values are read once, which is not worth a query for their structures.
        self._device = replace(device, limits=replace(device.limits, structures="members"))
        self._symbol_table = SymbolTable()
        self._symbols: dict[str, Sequence[Symbol]] = {}
        self._listed_at_ns = 0

    async def _run(self, questions: Generator[Question, bytes, Any]) -> Any:
        return await self._session.run(questions, pause)

    async def browse(self, path: str) -> Sequence[BrowseEntry]:
        """The children of a path, with values. Raises LookupError where there is no such path."""
        if self._device.family == "generic":
            if path:
                raise LookupError(f"{path} is not a path of {self._device.name}: a generic device has one level only")
            return await self._objects()
        try:
            return await self._children(path)
        except controller_queries.Refused as error:
            raise LookupError(f"{self._device.name}: {error}") from error

    async def _objects(self) -> Sequence[BrowseEntry]:
        values = await self._values(list(objects.IDENTITY.values()))
        identity = [
            BrowseEntry(name=name, type=tag["type"], value=next(values), tag=tag)
            for name, tag in objects.IDENTITY.items()
        ]
        return [*identity, *await self._run(objects.listed())]

    async def explain(self, tags: Iterable[EtherNetIpTag]) -> Sequence[str]:
        """What the controller's list of tags says of tags that it refuses, or that have another type."""
        if self._device.family == "generic":
            return []
        try:
            said = [await self._explained(tag) for tag in tags if isinstance(tag.parsed_address, TagAddress)]
        except controller_queries.Refused as error:
            return [str(error)]
        return list(dict.fromkeys(filter(None, said)))

    async def _explained(self, tag: EtherNetIpTag) -> str:
        """One sentence; empty where the list agrees with the tag."""
        assert isinstance(tag.parsed_address, TagAddress)
        where = TagAddress(tag.parsed_address.parts)
        inside = TagAddress(where.parts[scope_parts(where) - 1 :])
        program, name = _program_of(str(where)), inside.parts[0].name.lower()
        controller = await self._listed("")
        programs = [symbol.name for symbol in controller if symbol.is_program]
        if not program or program.lower() in map(str.lower, programs):
            symbols = await self._listed(program)
            if any(symbol.name.lower() == name for symbol in symbols if symbol.is_tag):
                return await self._differs(tag, where, symbols)
        scopes = {scope: [s.name for s in await self._listed(scope) if s.is_tag] for scope in ("", *programs)}
        homes = [scope for scope, names in scopes.items() if name in map(str.lower, names)]
        if homes:
            return f"{where} exists as " + " and as ".join(
                f"{home}.{inside}" if home else str(inside) for home in homes
            )
        close = get_close_matches(name, {known.lower() for names in scopes.values() for known in names}, n=1)
        known = [f"{scope}.{known}" if scope else known
                 for scope, names in scopes.items() for known in names if known.lower() in close]  # fmt: skip
        return f"there is no {where}" + (f"; did you mean {known[0]}?" if known else " in the controller")

    async def _differs(self, tag: EtherNetIpTag, where: TagAddress, symbols: Sequence[Symbol]) -> str:
        try:
            kind = await self._kind(str(where), symbols)
        except LookupError as error:
            return str(error)
        if not kind.is_structure:
            return ""  # What the refusal says is enough.
        await self._template(kind, str(where))
        if tag.is_text and (characters := self._characters(kind)):
            return f"{where} is a text of up to {characters} characters; write length: {characters}"
        return f"{where} is a structure, {self._symbol_table.type_text(kind)}: write one of its members"

    async def _listed(self, program: str) -> Sequence[Symbol]:
        """The tags of a program, or of the controller with its programs."""
        now_ns = self._clock.boot_ns()
        if now_ns - self._listed_at_ns > _KEPT_NS:  # The session of a gateway lasts: there may be another program now.
            self._listed_at_ns = now_ns
            self._symbols.clear()
            self._symbol_table.clear()
        if program not in self._symbols:
            self._symbols[program] = await self._run(
                controller_queries.symbols(program, lambda symbol: symbol.is_program or symbol.is_tag)
            )
        return self._symbols[program]

    async def _children(self, path: str) -> Sequence[BrowseEntry]:
        program = _program_of(path)
        if program:
            _address(f"{program}.Tag")  # Raises for a name that no program can have.
        symbols = await self._listed(program)
        if path == program:
            programs = [
                BrowseEntry(name=symbol.name, path=symbol.name, type="program")
                for symbol in symbols
                if symbol.is_program
            ]
            prefix = f"{program}." if program else ""
            items = [_Item(s.name, prefix + s.name, s.kind) for s in symbols if s.is_tag]
            return programs + await self._entries(items)
        return await self._entries(await self._inside(path, symbols))

    async def _kind(self, path: str, symbols: Sequence[Symbol]) -> SymbolType:
        """The type of what a path names. Raises LookupError."""
        where = _address(path)
        depth = scope_parts(where)
        name = where.parts[depth - 1].name.lower()
        symbol = next((symbol for symbol in symbols if symbol.name.lower() == name and symbol.is_tag), None)
        if symbol is None:
            raise LookupError(f"there is no tag {path!r}")
        kind = _element(symbol.kind, where.parts[depth - 1], path)
        for part in where.parts[depth:]:
            members = (await self._template(kind, path)).members
            member = members.get(part.name.lower())
            if member is None:
                shown = [member.name for member in members.values() if not member.is_hidden]
                some = ", ".join(shown[:_MEMBERS_SHOWN]) + (", ..." if len(shown) > _MEMBERS_SHOWN else "")
                raise LookupError(f"{path!r}: there is no {part.name!r} in it; there are {some}")
            kind = _element(member.kind, part, path)
        return kind

    async def _inside(self, path: str, symbols: Sequence[Symbol]) -> list[_Item]:
        kind = await self._kind(path, symbols)
        if kind.dimensions:
            return _elements(path, kind)
        template = await self._template(kind, path)
        return [
            _Item(member.name, f"{path}.{member.name}", member.kind)
            for member in template.members.values()
            if not member.is_hidden
        ]

    async def _template(self, kind: SymbolType, path: str) -> Template:
        if not kind.is_structure:
            raise LookupError(f"{path!r}: there is nothing below {self._symbol_table.type_text(kind)}")
        await self._run(controller_queries.templates(self._symbol_table, [kind.template]))
        if why := self._symbol_table.undescribed.get(kind.template):
            raise LookupError(f"{path!r}: {why}")
        return self._symbol_table.templates[kind.template]

    async def _entries(self, items: Sequence[_Item]) -> list[BrowseEntry]:
        wanted = sorted({item.kind.template for item in items if item.kind.is_structure})
        await self._run(controller_queries.templates(self._symbol_table, wanted))
        tags = [self._tag(item) for item in items]
        values = await self._values([tag for tag in tags if tag])
        entries = []
        for item, tag in zip(items, tags, strict=True):
            has_more = item.kind.dimensions or (item.kind.is_structure and not self._characters(item.kind))
            entries.append(
                BrowseEntry(
                    name=item.name,
                    path=item.address if has_more else "",
                    type=self._symbol_table.type_text(item.kind),
                    value=next(values) if tag else "",
                    tag=tag,
                    why_not="" if tag or has_more else "a configuration cannot have its name or its type",
                )
            )
        return entries

    def _characters(self, kind: SymbolType) -> int | None:
        template = self._symbol_table.templates.get(kind.template)
        return template.characters if kind.is_structure and template else None

    def _tag(self, item: _Item) -> dict[str, Any]:
        """Address and type as a configuration has them; nothing where it is not one value."""
        kind = item.kind
        if kind.dimensions or not _is_configurable(item.address):
            return {}
        if characters := self._characters(kind):
            if characters > STRING_CHARACTERS_MAX:
                return {}
            is_standard = self._symbol_table.templates[kind.template].handle == STRING_HANDLE
            length = {} if is_standard else {"length": characters}
            return {"address": item.address, "type": "STRING", **length}
        if kind.code in (cip.LONG_TEXT, cip.SHORT_TEXT):
            return {"address": item.address, "type": "STRING"}
        if kind.is_structure or kind.code not in BY_CODE:
            return {}
        return {"address": item.address, "type": BY_CODE[kind.code].name}

    async def _values(self, tags: Sequence[dict[str, Any]]) -> Iterator[str]:
        """The current values of these tags, as text."""
        values: list[str] = []
        for first in range(0, len(tags), _VALUES_AT_ONCE):
            await pause()
            values += await self._values_at_once(tags[first : first + _VALUES_AT_ONCE])
        return iter(values)

    async def _values_at_once(self, tags: Sequence[dict[str, Any]]) -> list[str]:
        settings = [EtherNetIpTag(name=f"t{number}", **tag) for number, tag in enumerate(tags)]
        try:
            plan = EtherNetIpPlan(settings, self._device)
        except ConfigError:
            return [""] * len(tags)
        reading = await self._session.read_once(plan)
        codes = status_codes(reading.status, len(tags))
        return [
            "" if quality_of(int(code)) else format_value(in_unit(reading.vectors[vector][position]))
            for (vector, position), code in zip(plan.layout.slots, codes, strict=True)
        ]


def _is_configurable(address: str) -> bool:
    """Whether a configuration can have this address: controllers may list names that it cannot."""
    try:
        parse_address(address)
    except ValueError:
        return False
    return True


def _program_of(path: str) -> str:
    return path.partition(".")[0] if path.lower().startswith(_PROGRAM.lower()) else ""


def _address(path: str) -> TagAddress:
    try:
        where = parse_address(path)
    except ValueError as error:
        raise LookupError(str(error)) from error
    if not isinstance(where, TagAddress) or where.bit is not None:
        raise LookupError(f"there is nothing below {path!r}")
    return where


def _element(kind: SymbolType, part: Part, path: str) -> SymbolType:
    """The type of a name with its indices, if any."""
    if not part.indices:
        return kind
    if len(part.indices) != len(kind.counts) or any(i >= n for i, n in zip(part.indices, kind.counts, strict=True)):
        sizes = ",".join(map(str, kind.counts))
        has = f"which has [{sizes}] elements" if sizes else "which is no array"
        raise LookupError(f"{path!r}: there is no element {list(part.indices)} in {part.name}, {has}")
    return kind.element


def _elements(path: str, kind: SymbolType) -> list[_Item]:
    indices = islice(product(*(range(min(count, _ELEMENTS_SHOWN)) for count in kind.counts)), _ELEMENTS_SHOWN)
    names = (f"[{','.join(map(str, index))}]" for index in indices)
    return [_Item(name, path + name, kind.element) for name in names]


ANSWER_WITHIN_S = 1.0
_SLOTS = 17
_ITEM_BYTES = 24  # Count, type and length of the item, protocol version, socket address.
_BACKPLANE = 1
_DATA_TABLE_CONTROLLERS = ("1747-", "1761-", "1762-", "1763-", "1764-", "1766-", "1785-")

Pause = Callable[[], Awaitable[None]]


async def discover(host: str, pause: Pause, port: int = PORT) -> Sequence[Discovered]:
    """What answers at one host; a communications adapter is asked for its slots. Raises DeviceUnreachable."""
    await pause()
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            connection = await connect(host, port, SystemClock(), timeout_s=ANSWER_WITHIN_S)
    except TimeoutError as error:
        raise DeviceUnreachable(
            f"{host}:{port} did not accept a connection within {ANSWER_WITHIN_S:g} s; is the address right, and is it "
            "switched on?"
        ) from error
    found: list[Discovered] = []
    try:
        await pause()
        answered = parse_identity_object((await connection.ask(Request.LIST_IDENTITY))[_ITEM_BYTES:])
        if answered is not None:
            found.append(_described(answered, host, port, None))
            if answered.device_type == ADAPTER and answered.family == "logix":
                async for one in _slots(connection, host, port, pause):
                    found.append(one)  # noqa: PERF401 - keeps what was found before the connection is lost
    except TidegateError:
        pass  # It does not speak EtherNet/IP, or not this command.
    finally:
        await connection.close()
    if not found:
        raise DeviceUnreachable(f"{host}:{port} takes the connection, but what answers does not speak EtherNet/IP")
    return found


async def _slots(connection: Connection, host: str, port: int, pause: Pause) -> AsyncIterator[Discovered]:
    """The controllers in the chassis of a communications adapter."""
    await connection.ask(Request.REGISTER)
    for slot in range(_SLOTS):
        await pause()
        question = Routed.through(cip.get_all(cip.IDENTITY, 1), cip.route_path([(_BACKPLANE, slot)]))
        body = await connection.ask(Request.QUESTION, question)
        found = None if question.is_lost(body) else identity_object_in(body)
        if found is not None and found.device_type == CONTROLLER:
            yield _described(found, host, port, slot)


def _described(found: IdentityObject, host: str, port: int, slot: int | None) -> Discovered:
    device: dict[str, object] = {"host": host, **({"port": port} if port != PORT else {})}
    if slot is not None:
        device["slot"] = slot
    if found.family != "logix":
        device["family"] = found.family
    where = f" in slot {slot}" if slot is not None else ""
    if found.product.startswith(_DATA_TABLE_CONTROLLERS):
        where += ", an SLC, MicroLogix or PLC-5, which Tidegate does not speak"
    identity = found.identity()
    details = (
        ("vendor", identity.vendor),
        ("product", identity.product),
        ("revision", identity.firmware),
        ("serial", identity.serial),
        *identity.more,
    )
    return Discovered(port=port, what=f"{found.product}, {found.type_name}{where}", details=details, device=device)
