"""A Logix controller: its identity, its tags, and the faults that a test can switch on."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from drivers.ethernetip.simulator import types as t
from drivers.ethernetip.simulator.codes import CipError
from drivers.ethernetip.simulator.paths import parse_text
from drivers.ethernetip.simulator.tags import Scope, Tag
from drivers.ethernetip.simulator.types import DataType, Structure, lay_out, string

_PROGRAM, _ROUTINE, _MAP, _TASK = 0x1068, 0x106D, 0x1069, 0x1070
_FIRST_SYMBOL = 0xF0
_TEMPLATES = range(0x1A3, 0xF00, 7)

Attribute = bytes | Callable[[], bytes]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The identity object (CIP Vol 1 5-2)."""

    vendor: int = 1
    device_type: int = 0x0E
    product_code: int = 166
    revision: tuple[int, int] = (33, 11)
    status: int = 0x3060  # Run mode, by the remote position of the key.
    serial: int = 0x00C0FFEE
    product: str = "1756-L83E/B"


@dataclass(frozen=True, kw_only=True)
class Personality:
    """The capabilities of a family of controllers."""

    has_tags: bool = True
    has_backplane: bool = True
    has_programs: bool = True
    has_multiple_services: bool = True
    has_instance_addressing: bool = True
    has_large_connections: bool = True
    connection_bytes_most: int = 4002


LOGIX = Personality()
MICRO800 = Personality(
    has_backplane=False, has_programs=False, has_multiple_services=False, has_instance_addressing=False,
    has_large_connections=False, connection_bytes_most=511,
)  # fmt: skip

GENERIC = replace(MICRO800, has_tags=False)
"""A drive, remote I/O or another device that has attributes only: see `Controller.attribute`."""


class Controller:
    """A controller to define, then to serve; values, tags and faults may change at any time.

    Attributes:
        identity: the identity object.
        slot: its slot in the backplane; a route to another slot is refused.
        connections_limit: most open connections; one more is refused: out of connections.
        connection_bytes_most: size of the largest connection that it grants.
        is_large_refused: the Large Forward Open is refused.
        answer_late_s: how long each request waits before it is processed.
        is_silent: requests are accepted and not answered.
        unanswered: number of requests that were not answered.
        distort: called with each answer; returns what is sent instead, None for nothing.
        services: number of requests by (service, class); class None is a tag.
        writes_asked: number of requests for other than reading services; all were refused.
        time_offset_us: its clock minus ours.
        edition: number of changes of tags, types and faults, which change the answers to requests.
        values: number of values that were set.
        is_moving: whether some value is computed when it is read.
    """

    def __init__(
        self, name: str = "Simulated", *, identity: Identity | None = None, slot: int = 0,
        personality: Personality = LOGIX, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.name = name
        self.identity = identity or Identity()
        self.slot = slot
        self.personality = personality
        self.connections_limit = 256
        self.connection_bytes_most = personality.connection_bytes_most
        self.is_large_refused = not personality.has_large_connections
        self.answer_late_s = 0.0
        self.is_silent = False
        self.unanswered = 0
        self.distort: Callable[[bytes], bytes | None] | None = None
        self.services: Counter[tuple[int, int | None]] = Counter()
        self.writes_asked = 0
        self.edition = 0
        self.values = 0
        self.is_moving = False
        self.scopes: dict[str, Scope] = {"": Scope(_FIRST_SYMBOL)}
        self.structures: dict[int, Structure] = {}
        self.attributes: dict[tuple[int, int], dict[int, Attribute]] = {}
        self.changes = [5, 1, 0x03B280C5, 0x03B280C5, 0xF8DE47B8]
        self.time_offset_us = 0
        self._clock = clock
        self._started_s = clock()
        self._downloads = 0
        self._cutters: set[Callable[[], None]] = set()
        self._forgetters: set[Callable[[], None]] = set()
        if personality.has_programs:
            self.scopes[""].add("Task:MainTask", _TASK)
            self.scopes[""].add("Map:Local", _MAP)

    # Tags and types.

    def tag(self, name: str, data_type: DataType, value: Any = None, *, program: str = "", access: int = 0,
            is_alias: bool = False) -> Tag:  # fmt: skip
        """Add a tag; a value may be a function of the seconds since the start. Counts as an edit."""
        self._learn(data_type)
        tag = Tag(name, data_type, access, is_alias)
        if value is not None:
            tag.put((), value)
            self.is_moving = self.is_moving or tag.is_moving
        self.scopes[program.lower()].add(name, data_type.symbol_type, tag)
        self._edited()
        return tag

    def remove(self, name: str, *, program: str = "") -> None:
        """Remove a tag. Counts as an edit."""
        self.scopes[program.lower()].remove(name)
        self._edited()

    def program(self, name: str) -> str:
        """Add a program; its name is what `tag` takes as `program`."""
        if not self.personality.has_programs:
            raise ValueError("this controller has no programs")
        self.scopes[name.lower()] = Scope(0)
        self.scopes[name.lower()].add("Routine:MainRoutine", _ROUTINE)
        self.scopes[""].add(f"Program:{name}", _PROGRAM)
        self._edited()
        return name

    def structure(self, name: str, members: Mapping[str, DataType]) -> Structure:
        """Define a structure; members are laid out in memory as by a controller."""
        made = Structure(name, lay_out(name, members), template=self._next_template())
        self._learn(made)
        return made

    def string(self, name: str, length: int) -> Structure:
        """Define a string type."""
        made = string(name, length, template=self._next_template())
        self._learn(made)
        return made

    def attribute(self, class_: int, instance: int, attribute: int, value: Attribute) -> None:
        """Give an object an attribute, as drives and other devices have them."""
        self.attributes.setdefault((class_, instance), {})[attribute] = value
        self.edition += 1

    def __setitem__(self, name: str, value: Any) -> None:
        tag, steps = self._named(name)
        try:
            tag.put(steps, value)
        except CipError as error:
            raise KeyError(f"{name} is not there: {tag.name} has no such member or element") from error
        self.is_moving = self.is_moving or tag.is_moving
        self.values += 1

    def __getitem__(self, name: str) -> Tag:
        return self._named(name)[0]

    # Events and faults.

    def download(self) -> None:
        """Download a new project, or the same again: all instance numbers and the change counters change.

        Add and remove tags before. Connections stay open, as the communication module keeps them.
        """
        self._downloads += 1
        self.changes[0] += 1
        for scope in self.scopes.values():
            scope.renumber(_FIRST_SYMBOL + 37 * self._downloads)
        self._edited()

    def fail(self, name: str, status: int, *extended: int) -> None:
        """Answer every request for a tag with this status; 0 ends that."""
        self[name].failure = (status, *extended) if status else ()
        self.edition += 1

    def silence(self) -> None:
        """Stop answering until `resume`."""
        self.is_silent = True

    def resume(self) -> None:
        """Answer again."""
        self.is_silent = False

    def cut(self) -> None:
        """Reset every TCP connection."""
        for cutter in list(self._cutters):
            cutter()

    def forget_connections(self) -> None:
        """Close every CIP connection without notice, as after a time-out; TCP connections stay open."""
        for forget in list(self._forgetters):
            forget()

    # For the server.

    def serve(self, cut: Callable[[], None], forget: Callable[[], None]) -> Callable[[], None]:
        """Register the callbacks of a server; the returned function removes them."""
        self._cutters.add(cut)
        self._forgetters.add(forget)

        def leave() -> None:
            self._cutters.discard(cut)
            self._forgetters.discard(forget)

        return leave

    @property
    def elapsed_s(self) -> float:
        """Time since it was switched on."""
        return self._clock() - self._started_s

    def _named(self, text: str) -> tuple[Tag, tuple[str | int, ...]]:
        first, *rest = parse_text(text)
        scope = self.scopes[""]
        if str(first).startswith("Program:"):
            scope = self.scopes[str(first).removeprefix("Program:").lower()]
            first, *rest = rest
        return scope.tags[str(first).lower()], tuple(rest)

    def _learn(self, data_type: DataType) -> None:
        element = data_type if isinstance(data_type, Structure) else getattr(data_type, "of", None)
        if isinstance(element, Structure) and element.template not in self.structures:
            self.structures[element.template] = element
            for member in element.members.values():
                self._learn(member.data_type)

    def _next_template(self) -> int:
        return next(at for at in _TEMPLATES if at not in self.structures)

    def _edited(self) -> None:
        for at in (2, 3, 4):
            self.changes[at] = (self.changes[at] + 0x9E3779B1) & 0xFFFFFFFF
        self.edition += 1


def micro800(name: str = "Simulated") -> Controller:
    """A Micro850: no backplane, no visible programs, one service in a packet, small connections."""
    identity = Identity(product_code=0x9E, revision=(12, 11), product="2080-LC50-24QBB", serial=0x0850C0DE)
    return Controller(name, identity=identity, personality=MICRO800)


def showcase(name: str = "Showcase") -> Controller:
    """A controller with a tag of every type, some of them changing."""
    plc = Controller(name)
    drive = plc.structure("Drive", {"Ready": t.BOOL, "Fault": t.BOOL, "Code": t.INT, "Speed": t.REAL})
    line = plc.structure(
        "Line",
        {"Running": t.BOOL, "Lot": t.STRING, "Drives": drive[3], "Limits": t.REAL[4], "Bits": t.BOOL[40],
         "Total": t.LINT},
    )  # fmt: skip
    plc.tag("Running", t.BOOL, True)
    plc.tag("Small", t.SINT, -5)
    plc.tag("Count", t.INT, -1234)
    plc.tag("Vials", t.DINT, 70_000)
    plc.tag("Total", t.LINT, 1 << 40)
    plc.tag("Temperature", t.REAL, lambda elapsed_s: 37.0 + 0.4 * math.sin(elapsed_s))
    plc.tag("Volume", t.LREAL, 1.5)
    plc.tag("Mask", t.UDINT, 0x80000001)
    plc.tag("Samples", t.REAL[100], [at / 4 for at in range(100)])
    plc.tag("Long", t.DINT[5000], list(range(5000)))
    plc.tag("Grid", t.INT[2, 3, 4], list(range(24)))
    plc.tag("Alarms", t.BOOL[64], [at % 3 == 0 for at in range(64)])
    plc.tag("Recipe", t.STRING, "LOT-2041-A")
    plc.tag("Operator", plc.string("STRING20", 20), "Anna")
    plc.tag("Dwell", t.TIMER, {"PRE": 5000, "ACC": 1200, "EN": True, "TT": True})
    plc.tag("Parts", t.COUNTER, {"PRE": 10, "ACC": 11, "DN": True})
    drives = [{"Ready": True, "Code": at, "Speed": 10.5 * at} for at in range(3)]
    plc.tag("Line1", line, {"Running": True, "Lot": "A-7", "Drives": drives, "Limits": [1, 2, 3, 4],
                            "Bits": [True] * 40, "Total": -9})  # fmt: skip
    plc.tag("Shortcut", t.DINT, 70_000, is_alias=True)
    plc.tag("Guarded", t.DINT, 1, access=2)
    main = plc.program("MainProgram")
    plc.tag("Step", t.DINT, 12, program=main)
    plc.tag("Lines", line[2], program=main)
    return plc


def crowd(tags: int, *, name: str = "Crowd", is_moving: bool = False) -> Controller:
    """A controller with many elementary tags: REAL, DINT and BOOL in turn."""
    plc = Controller(name)
    for at in range(tags):
        kind = (t.REAL, t.DINT, t.BOOL)[at % 3]
        base = float(at) if kind is t.REAL else at
        value = (lambda elapsed_s, at=at: int(elapsed_s * 10) + at) if is_moving else base
        plc.tag(f"Tag{at:04d}", kind, value)
    return plc
