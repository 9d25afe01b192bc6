"""The interface to a driver under test: how to start a device, how to configure it, what to expect.

The protocols are structural: the class of a driver package need not import them. The package registers a factory of
its subject under the entry-point group `tidegate.conformance`, with the driver's name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.metadata import entry_points
from typing import Any, Protocol, cast

from edge.clock import Clock
from edge.driver import DriverKind

GROUP = "tidegate.conformance"

Value = bool | int | float | str


class Peer(Protocol):
    """A real or simulated device that runs until its block ends."""

    @property
    def port(self) -> int:
        """TCP port on 127.0.0.1; 0 if it has none."""
        ...

    async def stop(self) -> None:
        """Switch it off: it closes its connections and stops listening."""
        ...

    async def silence(self) -> None:
        """Stop answering, and keep connections open."""
        ...

    async def start(self) -> None:
        """Restore normal operation on the same port, after `stop` or `silence`."""
        ...


class Subject(Protocol):
    """One protocol under test.

    Peers have numbers; peers with different numbers have different values.
    """

    @property
    def driver(self) -> str:
        """The driver's name in a configuration."""
        ...

    @property
    def tags(self) -> Sequence[Mapping[str, Any]]:
        """Valid tags as in a configuration, of every type; their values are constant."""
        ...

    @property
    def missing(self) -> Mapping[str, Any]:
        """A valid tag whose address no peer has."""
        ...

    @property
    def misspelled(self) -> tuple[Mapping[str, Any], str]:
        """A tag with an invalid address, and a text that its problem contains."""
        ...

    @property
    def says(self) -> Mapping[str, str]:
        """The identity that peer 0 reports: `vendor`, `product` and so on."""
        ...

    @property
    def libraries(self) -> Collection[str]:
        """Modules that must not be imported before a session is opened."""
        ...

    @property
    def reading(self) -> Collection[str]:
        """Names of the services that read, or open or close a session; no other may be used."""
        ...

    @property
    def patience_s(self) -> float:
        """Time in which the driver must detect a silent device, with the timeouts of `device`."""
        ...

    @property
    def subscription(self) -> Mapping[str, Any]:
        """Keys of a subscribed scan group; empty where the device has no subscriptions."""
        ...

    @property
    def clock(self) -> Clock:
        """The clock for the driver."""
        ...

    def kind(self) -> DriverKind[Any]:
        """A new `DriverKind`, as in each gateway."""
        ...

    def peer(self, number: int) -> AbstractAsyncContextManager[Peer]:
        """A device that runs while the block is open."""
        ...

    def device(self, number: int, port: int) -> Mapping[str, Any]:
        """Settings of a peer at a port, without `name`, `driver` and `scan_groups`; with short timeouts."""
        ...

    def values(self, number: int) -> Sequence[Value]:
        """The raw values of `tags` on a peer."""
        ...

    def services(self, sent: bytes) -> Sequence[str]:
        """The names of the services in the bytes that the driver sent over one connection."""
        ...


def installed() -> tuple[str, ...]:
    """Names of the drivers with a registered subject."""
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


def load(name: str) -> Subject:
    """The subject of an installed driver. Raises LookupError if none is registered."""
    for entry in entry_points(group=GROUP, name=name):
        return cast("Subject", entry.load()())
    raise LookupError(f"driver {name} brings nothing under the entry-point group {GROUP}: see write-a-driver.md")
