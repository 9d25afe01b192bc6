"""The contract of hostile devices.

To add a protocol:
1. Write `Behaviour`s in a module of this package: small functions in tables. Each has a `start` that opens a `Peer`: it
   misbehaves from the beginning, and from `behave()` on answers every client as a good device does, at the same
   address. A connection that is in the middle of a lie may be cut by `behave()`; the peer never needs a restart.
2. The tags that are read move: their values are `truth.moment(number)`, taken when the request arrives. A behaviour
   about other tags (infinities, structures) brings its own `tags`.
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
    """What a scan came to; several are alternatives."""

    GOOD = auto()
    PARTLY = auto()
    """Some tags are BAD."""
    BAD = auto()
    """All tags are BAD."""
    UNREACHABLE = auto()
    """The session was lost, or there was none, by DeviceUnreachable."""
    REFUSED = auto()
    """By DeviceRefused."""
    VIOLATION = auto()
    """By ProtocolViolation."""


class Peer(Interface):
    """A device that misbehaves until it is told to behave."""

    @property
    def device(self) -> Mapping[str, Any]:
        """Where it is and how to talk to it: keys and values of a device in a configuration (host, port, ...)."""
        ...

    def behave(self) -> None:
        """Be a good device from now on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HostileTag:
    """A tag that is read from a hostile device: its keys and values in a configuration, and what is true of it."""

    settings: Mapping[str, Any]
    truth: Truth


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One way to misbehave.

    Attributes:
        id: unique in its protocol, in words with dashes.
        text: what the device does, for a report.
        start: opens the peer; the folder is for its files, and empty.
        expected: what the scans may come to, one after the other, with a new session after each loss; the last is
            that of all that follow. A value that is wrong is never expected.
        sessions_to_recover: most sessions until it is read again, once it behaves: one that is open then may be lost.
        settings: more keys of the device, over those of the protocol and the peer.
        tags: what is read, where that is not what the protocol says.
        is_heavy: it sends or announces much: somebody looks at memory.
        is_worst: it is among those that are tried beside healthy devices in every run of the tests.
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
        """What scan number `scan` may come to."""
        return self.expected[min(scan, len(self.expected) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """The behaviours of one protocol, and the driver that reads them.

    Attributes:
        name: the driver's.
        label: the protocol, or the way it travels, for a report: "Modbus RTU over TCP".
        kind: makes the driver's kind; it imports it too.
        settings: keys of every device: short limits, so that trials are.
        tags: what is read.
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
