"""Queries to a controller besides the scans: its identity, its clock, its tags and its structures."""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Generator, Iterable
from dataclasses import dataclass
from functools import partial

from drivers.ethernetip import cip, structures
from drivers.ethernetip.cip import Question
from drivers.ethernetip.decode import PARTIAL, SUCCESS, Reply, data_of, reply_of, status_text
from drivers.ethernetip.encapsulation import printable
from drivers.ethernetip.plan import EtherNetIpPlan
from drivers.ethernetip.settings import EtherNetIpDevice
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
from edge.clock import Clock
from edge.errors import ProtocolViolation
from edge.model import Identity

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


def change_counters() -> Generator[Question, bytes, bytes | None]:
    """The controller's own words about its program: other ones after every change; None where it has none now."""
    reply, data = yield from _asked(cip.changes())
    return data if reply.status in (SUCCESS, _SOME_MISSING) and len(data) > _ALL_MISSING_BYTES else None


def device_time() -> Generator[Question, bytes, int | None]:
    """UTC of the wall clock in nanoseconds; None where there is none."""
    reply, data = yield from _asked(cip.get_list(cip.WALL_CLOCK, 1, (6,)))
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
        reply, data = yield from _asked(cip.list_symbols(program, after))
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
    reply, data = yield from _asked(cip.get_list(cip.TEMPLATES, instance, TEMPLATE_ATTRIBUTES))
    if reply.status != SUCCESS:
        raise Refused(f"structure {instance} is not described: {status_text(reply.status, reply.extended)}")
    facts = parse_template_facts(data)
    definition = b""
    while len(definition) < facts.definition_bytes:
        size = facts.definition_bytes - len(definition)
        reply, data = yield from _asked(cip.read_template(instance, len(definition), size))
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


_CLOCK_EVERY_NS = 60 * 10**9


class Errands:
    """Errands of one session, one under way at a time.

    Attributes:
        generation: another number whenever something new is known of the controller.
        device_time_ns: UTC by the device's clock, if the last answer was that.
        told: what went wrong, as sentences, since it was last taken.
    """

    def __init__(self, device: EtherNetIpDevice, clock: Clock, directory: Directory, name: str) -> None:
        self.generation = 0
        self.device_time_ns: int | None = None
        self.told: list[str] = []
        self._device, self._clock, self._directory, self._name = device, clock, directory, name
        self._knows_time = device.clock_limit is not None
        self._check_at_ns = self._learn_at_ns = self._time_at_ns = 0
        self._laid_out: bytes | None = None
        self._errand: Errand | None = None
        self._question: Question | None = None

    def question(self, plan: EtherNetIpPlan) -> Question | None:
        """What is to be asked beside a scan of this plan that begins now, if anything."""
        self.device_time_ns = None
        if self._errand is None:
            self._errand = self._due(plan, self._clock.boot_ns())
            self.answered(None)
        return self._question

    def answered(self, body: bytes | None) -> None:
        """Go on with the answer to the question, or begin."""
        errand, self._question = self._errand, None
        if errand is None:
            return
        try:
            self._question = next(errand) if body is None else errand.send(body)
        except StopIteration:
            self._errand = None

    def hurry(self) -> None:
        """Something is not as it was: look for a new program with the next scan."""
        self._check_at_ns = 0

    def _due(self, plan: EtherNetIpPlan, now_ns: int) -> Errand | None:
        if self._knows_time and now_ns >= self._time_at_ns:
            self._time_at_ns = now_ns + _CLOCK_EVERY_NS
            return self._tell_time()
        if not plan.structured:
            return None
        if now_ns >= self._check_at_ns or (now_ns >= self._learn_at_ns and structures.wanted(plan, self._directory)):
            self._check_at_ns = now_ns + self._device.limits.check_changes
            return self._look_up(plan, now_ns)
        return None

    def _tell_time(self) -> Errand:
        self.device_time_ns = yield from device_time()
        self._knows_time = self.device_time_ns is not None

    def _look_up(self, plan: EtherNetIpPlan, now_ns: int) -> Errand:
        """Forget what is known after a download, and learn what is needed once the program stands still."""
        directory = self._directory
        counters = yield from change_counters()
        if counters is None or directory.counters not in (None, counters):
            self._learn_at_ns = now_ns + self._device.limits.check_changes
        if counters != directory.counters:
            directory.forget()
            directory.counters = counters
        if counters != self._laid_out:
            self._laid_out = counters
            self.generation += 1
        names = structures.wanted(plan, directory)
        # Without the numbers, nothing would tell that a layout is that of another program.
        if counters is None or now_ns < self._learn_at_ns or not names:
            return
        try:
            yield from directory_of(directory, names)
        except (Refused, ProtocolViolation) as error:
            self.told.append(f"{self._name}: structures are read member by member: {error}")
            directory.looked_for |= names
        self.generation += 1


_FACTS = struct.Struct("<HHHBBHIB")
_VENDORS = {
    1: "Rockwell Automation/Allen-Bradley",
    26: "Festo",
    34: "Hohner",
    40: "WAGO",
    44: "Yaskawa",
    46: "ABB",
    47: "Omron",
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
class Facts:
    """The attributes of an identity object."""

    vendor: int
    device_type: int
    product_code: int
    revision: str
    status: int
    serial: int
    product: str

    @property
    def vendor_name(self) -> str:
        """Its vendor, by name where it is a known one."""
        return _VENDORS.get(self.vendor, f"vendor {self.vendor}")

    @property
    def type_name(self) -> str:
        """What kind of device it is."""
        return _DEVICE_TYPES.get(self.device_type, f"device type {self.device_type}")

    def identity(self) -> Identity:
        """For the asset record."""
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


def parse_facts(data: bytes) -> Facts | None:
    """The attributes, one after the other; None where they are none."""
    if len(data) < _FACTS.size:
        return None
    vendor, kind, product, major, minor, status, serial, length = _FACTS.unpack_from(data)
    name = data[_FACTS.size : _FACTS.size + length]
    if len(name) != length:
        return None
    return Facts(vendor, kind, product, f"{major}.{minor}", status, serial, printable(name))


def controller_identity() -> Generator[Question, bytes, Identity]:
    """What the device at the end of the route says it is; empty where it does not say."""
    facts = facts_in((yield cip.get_all(cip.IDENTITY, 1)))
    return facts.identity() if facts is not None else Identity()


def facts_in(body: bytes) -> Facts | None:
    """The identity object in an answer; None where it has none."""
    data = data_of(body, cip.GET_ALL)
    return None if data is None else parse_facts(data)
