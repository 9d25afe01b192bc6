"""What a driver brings so that the suite can try it: how to start a device, how to configure it, what to expect.

Everything here is structural: a driver package has a class with these names, and imports nothing of this. It registers
a factory of its subject under the entry-point group `tidegate.conformance`, with the driver's name.
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
    """A device that runs until its block ends, real or simulated."""

    @property
    def port(self) -> int:
        """TCP port on 127.0.0.1; 0 where there is no wire."""
        ...

    async def stop(self) -> None:
        """Switch it off: it cuts its connections and stops listening on its port."""
        ...

    async def silence(self) -> None:
        """Let it stay connected, and answer nothing."""
        ...

    async def start(self) -> None:
        """Let it be as in the beginning, on the same port, after `stop` or `silence`."""
        ...


class Subject(Protocol):
    """One protocol, as the suite tries it.

    Peers have numbers, and peers with different numbers have different values.
    """

    @property
    def driver(self) -> str:
        """The driver's name in a configuration."""
        ...

    @property
    def tags(self) -> Sequence[Mapping[str, Any]]:
        """Good tags as in a configuration, of every type there is; their values never change."""
        ...

    @property
    def missing(self) -> Mapping[str, Any]:
        """A tag that is written well, and that no peer has."""
        ...

    @property
    def misspelled(self) -> tuple[Mapping[str, Any], str]:
        """A tag with an address that cannot be one, and words that its problem has to say."""
        ...

    @property
    def says(self) -> Mapping[str, str]:
        """What peer 0 says it is: `vendor`, `product` and so on, as far as it does."""
        ...

    @property
    def libraries(self) -> Collection[str]:
        """Modules that must not be imported before a device is connected."""
        ...

    @property
    def reading(self) -> Collection[str]:
        """Names of the services that read, open or close a conversation; nothing else may be asked."""
        ...

    @property
    def patience_s(self) -> float:
        """Within what time the driver has to find out that a device is silent, as `device` configures it."""
        ...

    @property
    def subscription(self) -> Mapping[str, Any]:
        """Keys of a subscribed scan group; empty where the device has no subscriptions."""
        ...

    @property
    def clock(self) -> Clock:
        """The clock that the driver is given."""
        ...

    def kind(self) -> DriverKind[Any]:
        """A new one, as each gateway has its own."""
        ...

    def peer(self, number: int) -> AbstractAsyncContextManager[Peer]:
        """A device that runs while the block is open."""
        ...

    def device(self, number: int, port: int) -> Mapping[str, Any]:
        """Settings of a peer at a port, without `name`, `driver` and `scan_groups`; short timeouts, please."""
        ...

    def values(self, number: int) -> Sequence[Value]:
        """The values of `tags` on a peer, raw."""
        ...

    def services(self, sent: bytes) -> Sequence[str]:
        """The names of the services in all that the driver sent over one connection."""
        ...


def installed() -> tuple[str, ...]:
    """Names of the drivers that bring a subject."""
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


def load(name: str) -> Subject:
    """The subject of an installed driver, or LookupError."""
    for entry in entry_points(group=GROUP, name=name):
        return cast("Subject", entry.load()())
    raise LookupError(f"driver {name} brings nothing under the entry-point group {GROUP}: see write-a-driver.md")
