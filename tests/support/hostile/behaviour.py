"""The contract of hostile devices.

To add a protocol:
1. Write `Behaviour`s in a module of this package: small functions in tables. Each has a `start` that opens a `Peer`: it
   misbehaves from the beginning, and from `behave()` on answers every client as a good device does, at the same
   address. `behave()` may close a connection in the middle of a wrong answer; the peer never needs a restart.
2. The values of its tags change with time: they are `truth.moment(number)`, taken when the request arrives. A
   behaviour about other tags (infinities, structures) has its own `tags`.
3. Make a `Protocol` of the table, and name it in `tables.py`: the tests of memory, recovery and neighbours, and the
   benchmark, find it there. The test of each table's outcomes is `tests/faults/hostile/test_hostile_<protocol>.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Flag, auto
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

from edge.driver import DriverKind
from tests.support.hostile.truth import Truth


class Outcome(Flag):
    """The result of a scan; several are alternatives."""

    GOOD = auto()
    PARTLY = auto()
    """Some tags are BAD."""
    BAD = auto()
    """All tags are BAD."""
    UNREACHABLE = auto()
    """The session was lost, or not opened, with DeviceUnreachable."""
    REFUSED = auto()
    """The same with DeviceRefused."""
    VIOLATION = auto()
    """The same with ProtocolViolation."""


class Peer(Interface):
    """A device that misbehaves until `behave` is called."""

    @property
    def device(self) -> Mapping[str, Any]:
        """Its keys and values as a device in a configuration (host, port, ...)."""
        ...

    def behave(self) -> None:
        """Be a good device from now on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HostileTag:
    """A tag of a hostile device: its keys and values in a configuration, and the check of its value."""

    settings: Mapping[str, Any]
    truth: Truth


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One way to misbehave.

    Attributes:
        id: unique in its protocol, in words with dashes.
        text: what the device does, for a report.
        start: opens the peer; the folder is for its files, and empty.
        expected: results that the scans may have, in order, with a new session after each loss; the last holds for
            all later scans too. A wrong value is never expected.
        sessions_to_recover: most sessions until it is read again, once it behaves; an open one may be lost.
        settings: more keys of the device, over those of the protocol and the peer.
        tags: tags to read instead of those of the protocol.
        is_heavy: it sends or announces much data: a test measures memory.
        is_worst: every test run polls it together with healthy devices.
    """

    id: str
    text: str
    start: Callable[[Path], AbstractAsyncContextManager[Peer]]
    expected: tuple[Outcome, ...]
    sessions_to_recover: int = 2
    settings: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[HostileTag, ...] = ()
    is_heavy: bool = False
    is_worst: bool = False

    def expects(self, scan: int) -> Outcome:
        """The results that scan number `scan` may have."""
        return self.expected[min(scan, len(self.expected) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """The behaviours of one protocol, and the driver that reads them.

    Attributes:
        name: the driver's.
        label: the protocol, with its transport where it has several, for a report: "Modbus RTU over TCP".
        kind: imports and returns the driver's kind.
        settings: keys of every device, with short time limits.
        tags: the tags to read.
    """

    name: str
    label: str
    kind: Callable[[], DriverKind[Any]]
    settings: Mapping[str, Any]
    tags: tuple[HostileTag, ...]
    behaviours: tuple[Behaviour, ...]

    def __getitem__(self, name: str) -> Behaviour:
        """The behaviour with this id, or KeyError."""
        for behaviour in self.behaviours:
            if behaviour.id == name:
                return behaviour
        raise KeyError(name)
