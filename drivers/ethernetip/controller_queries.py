"""Queries to a controller besides the scans: its identity, its clock, its tags and its structures.

Each query is a generator that yields questions and is sent the answers, and knows no socket. So it can run between
scans, one question with each (`BackgroundQueries`), or all at once for a person who waits (`EtherNetIpSession.run`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from drivers.ethernetip import cip
from drivers.ethernetip.cip import PARTIAL, SUCCESS, Question, Reply, printable, reply_of, status_text
from drivers.ethernetip.plan import EtherNetIpPlan, Suspects
from drivers.ethernetip.settings import EtherNetIpDevice
from drivers.ethernetip.symbols import (
    ALL_MEMBERS_MAX,
    DEPTH_MAX,
    SYMBOLS_MAX,
    TEMPLATE_ATTRIBUTES,
    Symbol,
    SymbolTable,
    Template,
    parse_symbols,
    parse_template,
    parse_template_attributes,
)
from edge.clock import Clock
from edge.errors import ProtocolViolation
from edge.model import Identity

_INSTANCE_MAX = 0xFFFFFFFF
_SOME_MISSING = 0x0A
_ALL_MISSING_BYTES = 2 + 5 * 4  # Count; number and status of each, and no value.
_CLOCK_EVERY_NS = 60 * 10**9


class Refused(Exception):
    """The controller refuses a query; the sentence says which."""


def _ask(question: Question) -> Generator[Question, bytes, tuple[Reply, bytes]]:
    body = yield question
    reply = reply_of(body, question.data[0])
    return reply, body[reply.start : reply.end]


def change_counters() -> Generator[Question, bytes, bytes | None]:
    """The change counters of the program: different after every change; None where the controller has none now."""
    reply, data = yield from _ask(cip.changes())
    return data if reply.status in (SUCCESS, _SOME_MISSING) and len(data) > _ALL_MISSING_BYTES else None


def device_time() -> Generator[Question, bytes, int | None]:
    """UTC of the wall clock in nanoseconds; None where the controller has no clock."""
    reply, data = yield from _ask(cip.get_list(cip.WALL_CLOCK, 1, (6,)))
    if reply.status != SUCCESS or len(data) != 14 or data[:6] != b"\x01\0\x06\0\0\0":
        return None
    time_us = int.from_bytes(data[6:], "little")
    return time_us * 1000 if time_us < 2**62 // 1000 else None


def symbols(program: str, keep: Callable[[Symbol], bool]) -> Generator[Question, bytes, list[Symbol]]:
    """The symbols of a program, or of the controller where `program` is empty, that `keep` accepts.

    Raises:
        Refused: the controller does not list them.
        ProtocolViolation: its list is malformed or endless.
    """
    found: list[Symbol] = []
    after = count = 0
    while True:
        reply, data = yield from _ask(cip.list_symbols(program, after))
        if reply.status not in (SUCCESS, PARTIAL):
            lacks = (yield from _lacking(program)) if reply.status == _SOME_MISSING else ""
            raise Refused(f"its tags are not listed{lacks}: {status_text(reply.status, reply.extended)}")
        part = list(parse_symbols(data, after))
        count += len(part)
        found += filter(keep, part)
        if reply.status == SUCCESS:
            return found
        after = part[-1].instance + 1 if part else 0
        if not 0 < after <= _INSTANCE_MAX or count > SYMBOLS_MAX:
            raise ProtocolViolation("list of tags", f"up to {SYMBOLS_MAX} with an end", count, data[:64])


def _lacking(program: str) -> Generator[Question, bytes, str]:
    """The attributes that a list of tags does not have, each asked for alone."""
    missing = []
    for name, number in (("name", cip.NAME), ("type", cip.TYPE), ("dimensions", cip.DIMENSIONS)):
        reply, _ = yield from _ask(cip.list_symbols(program, 0, (number,)))
        if reply.status not in (SUCCESS, PARTIAL):
            missing.append(f"{name} (attribute {number})")
    return f", they have no {' and no '.join(missing)}" if missing else ""


def template(instance: int) -> Generator[Question, bytes, Template]:
    """The layout of one structure. Raises as `symbols`."""
    reply, data = yield from _ask(cip.get_list(cip.TEMPLATES, instance, TEMPLATE_ATTRIBUTES))
    if reply.status != SUCCESS:
        raise Refused(f"structure {instance} is not described: {status_text(reply.status, reply.extended)}")
    attributes = parse_template_attributes(data)
    definition = b""
    while len(definition) < attributes.definition_bytes:
        size = attributes.definition_bytes - len(definition)
        reply, data = yield from _ask(cip.read_template(instance, len(definition), size))
        if reply.status not in (SUCCESS, PARTIAL):
            raise Refused(f"structure {instance} is not described: {status_text(reply.status, reply.extended)}")
        if not 0 < len(data) <= size:
            if not data and reply.status == SUCCESS:
                break
            raise ProtocolViolation("bytes of a template", f"1 to {size}", len(data), data[:64])
        definition += data
    return parse_template(attributes, definition)


def templates(table: SymbolTable, wanted: Iterable[int]) -> Generator[Question, bytes, None]:
    """Learn structures, and those nested in them; `undescribed` of the table says of which that is impossible.

    Raises:
        ProtocolViolation: they are endless.
    """
    ahead = [(instance, 0) for instance in wanted]
    seen: set[int] = set()
    while ahead:
        instance, depth = ahead.pop()
        if instance in seen:
            continue
        seen.add(instance)
        members = sum(len(known.members) for known in table.templates.values())
        if depth > DEPTH_MAX or members > ALL_MEMBERS_MAX:
            limit = f"up to {ALL_MEMBERS_MAX} members, {DEPTH_MAX} deep"
            raise ProtocolViolation("structures", limit, f"{members} members, {depth} deep")
        if instance in table.undescribed:
            continue
        known = table.templates.get(instance)
        if known is None:  # Nested ones may be missing of a known one too: the session was lost before they came.
            try:
                known = table.templates[instance] = yield from template(instance)
            except (Refused, ProtocolViolation) as error:
                table.undescribed[instance] = str(error)
                continue
        ahead += [(member.kind.template, depth + 1) for member in known.members.values() if member.kind.is_structure]


def _is_among(names: Container[str], symbol: Symbol) -> bool:
    return symbol.name.lower() in names


def learn_symbols(table: SymbolTable, sought: Iterable[str]) -> Generator[Question, bytes, None]:
    """Learn the tags with these names, in lower case, and their structures. Raises as `symbols`."""
    wanted = set(sought) - table.requested
    programs = {name.rpartition(".")[0] for name in wanted}
    for program in sorted(programs):
        prefix = f"{program}." if program else ""
        names = {name.removeprefix(prefix) for name in wanted if name.startswith(prefix)}
        for symbol in (yield from symbols(program, partial(_is_among, names))):
            table.symbols[prefix + symbol.name.lower()] = symbol
    kinds = [table.symbols[name].kind for name in wanted if name in table.symbols]
    yield from templates(table, sorted({kind.template for kind in kinds if kind.is_structure}))
    table.requested |= wanted


class BackgroundQueries:
    """The queries of one session that run along with its scans, one at a time.

    Attributes:
        generation: changes whenever the symbol table did.
        device_time_ns: UTC by the device's clock, if the last answer was its time.
        violations: refusals as sentences; the session takes and clears them.
    """

    def __init__(
        self, device: EtherNetIpDevice, clock: Clock, table: SymbolTable, name: str, suspects: Suspects
    ) -> None:
        self.generation = 0
        self.device_time_ns: int | None = None
        self.violations: list[str] = []
        self._device, self._clock, self._symbol_table, self._name = device, clock, table, name
        self._knows_time = device.clock_limit is not None
        self._check_at_ns = self._learn_at_ns = self._time_at_ns = 0
        self._counters: bytes | None = None
        self._query: Generator[Question, bytes, None] | None = None
        self._question: Question | None = None
        self._suspects = suspects

    def question(self, plan: EtherNetIpPlan) -> Question | None:
        """The question to send along with a scan of this plan that begins now, if any."""
        self.device_time_ns = None
        if self._query is None:
            self._query = self._start_due(plan, self._clock.boot_ns())
            self.answered(None)
        return self._question

    def answered(self, body: bytes | None) -> None:
        """Continue the query with the answer to its question; None starts it."""
        query, asked, self._question = self._query, self._question, None
        if query is None:
            return
        if asked is not None:
            self._suspects.losses.pop(asked.data, None)
        try:
            question = next(query) if body is None else query.send(body)
            while (why := self._suspects.left_out.get(question.data)) is not None:
                question = query.throw(Refused(why))
            self._question = question
        except StopIteration:
            self._query = None

    def lost(self, question: Question, error: Exception) -> None:
        """Give up a query at whose question the session was lost; after the second time it is not asked again."""
        self._query = self._question = None
        self._suspects.losses[question.data] += 1
        if self._suspects.losses[question.data] > 1:
            self._suspects.left_out[question.data] = f"the session was lost at this question: {error}"

    def check_soon(self) -> None:
        """Check with the next scan whether the program changed."""
        self._check_at_ns = 0

    def _start_due(self, plan: EtherNetIpPlan, now_ns: int) -> Generator[Question, bytes, None] | None:
        if self._knows_time and now_ns >= self._time_at_ns:
            self._time_at_ns = now_ns + _CLOCK_EVERY_NS
            return self._read_clock()
        if not plan.structured:
            return None
        can_learn = now_ns >= self._learn_at_ns and plan.structured - self._symbol_table.requested
        if now_ns >= self._check_at_ns or can_learn:
            self._check_at_ns = now_ns + self._device.limits.check_changes
            return self._check_program(plan, now_ns)
        return None

    def _read_clock(self) -> Generator[Question, bytes, None]:
        try:
            self.device_time_ns = yield from device_time()
        except (Refused, ProtocolViolation) as error:
            self.violations.append(f"{self._name}: its clock is not read: {error}")
        self._knows_time = self.device_time_ns is not None

    def _check_program(self, plan: EtherNetIpPlan, now_ns: int) -> Generator[Question, bytes, None]:
        """Clear the symbol table after a download, and learn missing symbols once the counters stay the same."""
        table = self._symbol_table
        counters: bytes | None = None
        with suppress(Refused, ProtocolViolation):
            counters = yield from change_counters()
        if counters is None or table.counters not in (None, counters):
            self._learn_at_ns = now_ns + self._device.limits.check_changes
        if counters != table.counters:
            table.clear()
            table.counters = counters
        if counters != self._counters:
            self._counters = counters
            self.generation += 1
        names = plan.structured - table.requested
        # Without counters there is no sign that a layout belongs to another program.
        if counters is None or now_ns < self._learn_at_ns or not names:
            return
        known = set(table.undescribed)
        try:
            yield from learn_symbols(table, names)
        except (Refused, ProtocolViolation) as error:
            self.violations.append(f"{self._name}: structures are read member by member: {error}")
            table.requested |= names
        if table.undescribed.keys() - known:
            reasons = "; ".join(why for instance, why in table.undescribed.items() if instance not in known)
            self.violations.append(f"{self._name}: some structures are read member by member: {reasons}")
        self.generation += 1


_IDENTITY = struct.Struct("<HHHBBHIB")
_OMRON = 47
_VENDORS = {
    1: "Rockwell Automation/Allen-Bradley",
    26: "Festo",
    34: "Hohner",
    40: "WAGO",
    44: "Yaskawa",
    46: "ABB",
    _OMRON: "Omron",
    48: "Turck",
    58: "Spectrum Controls",
    90: "HMS Networks",
    108: "Beckhoff",
    161: "Mitsubishi Electric",
    243: "Schneider Electric",
    283: "Hilscher",
    345: "Endress+Hauser",
    356: "Fanuc Robotics",
    562: "Phoenix Contact",
    634: "Hirschmann",
    678: "Cognex",
    808: "SICK",
    1251: "Siemens",
}
CONTROLLER, ADAPTER = 14, 12
_DEVICE_TYPES = {
    2: "AC drive",
    7: "discrete I/O",
    ADAPTER: "communications adapter",
    CONTROLLER: "programmable logic controller",
    19: "DC drive",
    22: "motor starter",
    24: "operator interface",
    35: "safety I/O",
    37: "motion drive",
    43: "generic device",
    44: "managed switch",
}
_KEYSWITCH = {0x1060: "run", 0x2070: "program", 0x3060: "remote run", 0x3070: "remote program"}
_KEYSWITCH_MASK = 0x30F0  # Of the status of a controller; the bits between are faults.
_FAULTS = {0x0100: "minor recoverable fault", 0x0200: "minor unrecoverable fault", 0x0400: "major recoverable fault",
           0x0800: "major unrecoverable fault"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class IdentityObject:
    """The attributes of an Identity object (CIP Vol 1, 5-2)."""

    vendor: int
    device_type: int
    product_code: int
    revision: str
    status: int
    serial: int
    product: str

    @property
    def vendor_name(self) -> str:
        """Name of the vendor, or its number."""
        return _VENDORS.get(self.vendor, f"vendor {self.vendor}")

    @property
    def type_name(self) -> str:
        """Name of the device type, or its number."""
        return _DEVICE_TYPES.get(self.device_type, f"device type {self.device_type}")

    @property
    def family(self) -> str:
        """What the configuration calls it: a device that is neither an Omron, a Micro800 nor generic is a logix."""
        if self.vendor == _OMRON and self.product.startswith(("NJ", "NX", "NY")):
            return "omron"
        if self.product.startswith("2080"):
            return "micro800"
        return "logix" if self.device_type in (CONTROLLER, ADAPTER) else "generic"

    def identity(self) -> Identity:
        """The identity as the recorder stores it."""
        more = [("device type", self.type_name), ("product code", str(self.product_code))]
        if self.device_type == CONTROLLER and (switch := _KEYSWITCH.get(self.status & _KEYSWITCH_MASK)):
            more.append(("keyswitch", switch))
        faults = ", ".join(text for bit, text in _FAULTS.items() if self.status & bit)
        if faults:
            more.append(("status", faults))
        return Identity(
            vendor=self.vendor_name,
            product=self.product,
            firmware=self.revision,
            serial=f"{self.serial:08X}",
            more=tuple(more),
        )


def parse_identity_object(data: bytes) -> IdentityObject | None:
    """The Identity object in these bytes; None where they are too short."""
    if len(data) < _IDENTITY.size:
        return None
    vendor, kind, product, major, minor, status, serial, length = _IDENTITY.unpack_from(data)
    name = data[_IDENTITY.size : _IDENTITY.size + length]
    if len(name) != length:
        return None
    return IdentityObject(vendor, kind, product, f"{major}.{minor}", status, serial, printable(name))


def controller_identity() -> Generator[Question, bytes, Identity]:
    """The identity of the device at the end of the route; empty where it has none."""
    found = identity_object_in((yield cip.get_all(cip.IDENTITY, 1)))
    return found.identity() if found is not None else Identity()


def identity_object_in(body: bytes) -> IdentityObject | None:
    """The Identity object in an answer; None where it is refused or too short."""
    reply = reply_of(body, cip.GET_ALL)
    return parse_identity_object(body[reply.start : reply.end]) if reply.status == SUCCESS else None
