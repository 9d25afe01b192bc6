"""The interfaces for driver authors: a driver plans and connects, a session reads.

A session exists while its block is open, so there is no `is_connected`. There is no `write`.
A driver package registers one `DriverKind` object under the entry-point group `tidegate.drivers`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol, TypeVar, runtime_checkable

from edge.clock import Clock
from edge.driver.settings import DeviceSettings, ScanGroupSettings
from edge.errors import DeviceUnreachable
from edge.model import Identity, Layout, Notification, Reading, TagMetadata
from edge.tls import Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCost:
    """What one scan of a plan costs; `took_ns` is the driver's estimate of its duration."""

    tags: int
    requests: int
    request_bytes: int
    answer_bytes: int
    took_ns: int


class Plan(Protocol):
    """The requests for the tags of a scan group, computed once."""

    @property
    def layout(self) -> Layout:
        """The position of each tag's value in a reading."""
        ...

    def cost(self) -> PlanCost:
        """The cost of one scan for the device and the network."""
        ...

    def describe(self) -> Sequence[str]:
        """The requests in the terms of the protocol, one line each, for `tidegate plan`."""
        ...


PlanT = TypeVar("PlanT", bound=Plan)
PlanT_contra = TypeVar("PlanT_contra", bound=Plan, contravariant=True)


class Session(Protocol[PlanT_contra]):
    """An open session with one device."""

    async def read(self, plan: PlanT_contra) -> Reading:
        """Read everything in the plan once.

        A tag that cannot be read is BAD in the reading; only the loss of the session raises.

        Raises:
            DeviceUnreachable: the device no longer answers.
            ProtocolViolation: the device broke the protocol; the error holds the offending bytes.
        """
        ...

    async def identity(self) -> Identity | None:
        """The identity that the device reports; empty where it reports none, None where it does not answer.

        It is asked after the first values. Raises as `read`.
        """
        ...


class Driver(Protocol[PlanT]):
    """One device of one protocol."""

    def plan(self, tags: Sequence[Any]) -> PlanT:
        """Turn the tags of a scan group into requests, without touching the network.

        Raises:
            ConfigError: some tags cannot be read; the `path` of each problem is the name of its tag.
        """
        ...

    def connect(self) -> AbstractAsyncContextManager[Session[PlanT]]:
        """Open a session for a block; it is closed when the block ends, also by an exception.

        Raises:
            DeviceUnreachable: the device does not answer.
            DeviceRefused: the device answered and refused the session.
        """
        ...


DeviceT = TypeVar("DeviceT", bound=DeviceSettings)
DeviceT_contra = TypeVar("DeviceT_contra", bound=DeviceSettings, contravariant=True)


class DriverKind(Protocol[DeviceT]):
    """One protocol: the object that a driver package registers. It lives as long as the gateway."""

    @property
    def settings(self) -> type[DeviceT]:
        """The settings of a device of this protocol."""
        ...

    def driver(self, device: DeviceT, clock: Clock) -> Driver[Any]:
        """A driver for one device. Devices behind one connection share it and its limits.

        The scan groups in `device` may have no tags: to save memory, tags are passed to `plan` only.
        """
        ...


@runtime_checkable
class SharesConnection(Protocol[DeviceT_contra]):
    """Optional for a `DriverKind`: several devices can share one connection."""

    def connection(self, device: DeviceT_contra) -> Hashable:
        """A key; devices with equal keys share one connection and its time."""
        ...


@runtime_checkable
class Inspectable(Protocol):
    """Optional for a `Session`: an address can be read in several ways, for `tidegate read`."""

    def inspect(self, plan: Any, tags: Sequence[Any]) -> Sequence[Sequence[tuple[str, str]]]:
        """Each way to read the address of each tag of a plan, with its value in the last reading, as (how, value).

        There are none for what was not answered. Nothing is asked again.
        """
        ...


@runtime_checkable
class Explains(Protocol):
    """Optional for a `Session`: the device lists what it has, which says what is wrong with a tag that it refuses."""

    async def explain(self, tags: Sequence[Any]) -> Sequence[str]:
        """Sentences about tags that were BAD, for `tidegate read`. Raises as `Session.read`."""
        ...


@runtime_checkable
class Forgets(Protocol):
    """Optional for a `Session`: it keeps something of each plan, and can be rid of it."""

    def forget(self, plan: Any) -> None:
        """Keep nothing of a plan that is not read again."""
        ...


@runtime_checkable
class Reconnecting(Protocol):
    """Optional for a `Session`: it opens its connection again by itself where the device closed it."""

    async def reconnected(self, since_ns: int) -> int:
        """Boot time of the newest connection that it opened again, once there is one after `since_ns`."""
        ...


@runtime_checkable
class Subscribable(Protocol):
    """Optional for a `Session`: the device can notify changes."""

    async def receive_notifications(self, plan: Any, on_notification: Callable[[Notification], None]) -> NoReturn:
        """Receive every change of the plan's tags, the current values first, until the session is lost.

        Raises as `Session.read`, also when the device is silent for longer than agreed.
        """
        ...


@runtime_checkable
class SubscriptionPlanner(Protocol):
    """Optional for a `Driver`: the plan of a subscription depends on more than the tags."""

    def plan_subscription(self, group: Any) -> Plan:
        """The plan of a subscribed scan group, for `Subscribable.receive_notifications`. Raises as `Driver.plan`."""
        ...


def plan_group(driver: Driver[Any], group: ScanGroupSettings) -> Any:
    """The plan of one scan group, polled or subscribed. Raises as `Driver.plan`."""
    if group.is_subscribed and isinstance(driver, SubscriptionPlanner):
        return driver.plan_subscription(group)
    return driver.plan(group.tags)


@runtime_checkable
class HasTagMetadata(Protocol):
    """Optional for a `Session`: the device knows units, ranges and descriptions of its tags."""

    async def tag_metadata(self, plan: Any) -> Sequence[TagMetadata]:
        """The metadata of each tag of a plan; empty where the settings disable it. Called while `read` goes on.

        Raises as `read`.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowseEntry:
    """One entry below a path of a device.

    Attributes:
        name: its name on the device.
        path: argument of `Browsable.browse` that lists the entries below it; empty where there are none.
        type: its type in the terms of the protocol.
        value: its current value, as text; empty where there is none or it was not read.
        tag: keys and values of a tag in a configuration (address, type, unit, ...); empty where it cannot be read.
        why_not: why a value cannot be a tag; empty where it can, and for what holds no value.
        is_standard: every device of the protocol has it, such as the server's own diagnostics.
    """

    name: str
    path: str = ""
    type: str = ""
    value: str = ""
    tag: Mapping[str, Any] = field(default_factory=dict)
    why_not: str = ""
    is_standard: bool = False


@runtime_checkable
class Browsable(Protocol):
    """Optional for a `Session`: the device can list its addresses, for `tidegate browse`."""

    async def browse(self, path: str) -> Sequence[BrowseEntry]:
        """The entries directly below a path ("" is the root). Raises as `Session.read`, LookupError if unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where devices are looked for.

    Attributes:
        host: address or name.
        ports: the TCP ports to try, in this order; empty: those that the protocol usually has.
        url: the URL, where one was written; a driver whose devices have no URLs, or of another scheme, finds nothing.
        known: keys of the device that are known, such as its unit: a driver that searches over one looks only there.
    """

    host: str
    ports: tuple[int, ...] = ()
    url: str = ""
    known: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host and self.ports else self.host
        return self.url or ":".join(filter(None, (host, ",".join(map(str, self.ports)))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovered:
    """One device that was found.

    Attributes:
        port: TCP port that answered.
        what: description in one line.
        details: more about it, as (label, text).
        device: keys and values of a device in a configuration (host, port, unit, ...), without `name` and `driver`.
    """

    port: int
    what: str
    details: tuple[tuple[str, str], ...] = ()
    device: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Discoverable(Protocol):
    """Optional for a `DriverKind`: its devices can be found on a network, for `tidegate discover`."""

    async def discover(self, target: Target, pause: Callable[[], Awaitable[None]]) -> Sequence[Discovered]:
        """Look for devices of this protocol at one host, with one connection and one request at a time.

        `pause` is awaited before each connection and each request. The result is empty where no device is found.

        Raises:
            DeviceUnreachable: no device is found, and the reason is known, such as a port that takes no connection.
        """
        ...


_Place = TypeVar("_Place")


async def found_at(
    places: Iterable[_Place], look: Callable[[_Place], Awaitable[Sequence[Discovered]]]
) -> list[Discovered]:
    """What is found at several places, such as ports. Raises DeviceUnreachable as `Discoverable.discover`."""
    found: list[Discovered] = []
    reasons: list[DeviceUnreachable] = []
    for place in places:
        try:
            found += await look(place)
        except DeviceUnreachable as error:
            reasons.append(error)
    if reasons and not found:
        raise reasons[0]  # The first place is the one that is most usual.
    return found


@runtime_checkable
class UsesCertificates(Protocol):
    """Optional for a `Driver`: its sessions depend on certificates, which expire."""

    def certificates(self) -> Sequence[Certificate]:
        """The certificates that are known: our own, and the device's from the last session."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """How devices are simulated.

    Attributes:
        host: the address they answer at.
        port: of the first device, each further one at the next; None: the port of its settings; 0: any free one.
        signals: how values move, by tag or device/tag; the others move by themselves.
        recordings: values to replay, by tag or device/tag: seconds and text, in order of time.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    signals: Mapping[str, str] = field(default_factory=dict)
    recordings: Mapping[str, Sequence[tuple[float, str]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedDevice:
    """A device that is simulated.

    Attributes:
        port: TCP port where it answers.
        detail: what else says which one it is, such as "unit 3"; may be empty.
        tags: address and signal of each tag, by its name.
        device: keys of its section in a configuration that reads it here; None: without this key.
    """

    name: str
    port: int
    detail: str
    tags: Mapping[str, tuple[str, str]]
    device: Mapping[str, Any]


@runtime_checkable
class Simulates(Protocol[DeviceT_contra]):
    """Optional for a `DriverKind`: it can answer in place of its devices, for `tidegate simulate`."""

    def simulate(
        self, devices: Sequence[DeviceT_contra], how: Simulation
    ) -> AbstractAsyncContextManager[Sequence[SimulatedDevice]]:
        """The devices, with exactly the tags of their settings, while the block is open. They refuse to be written.

        Raises:
            ConfigError: a signal or a recording does not fit its tag.
            OSError: a device cannot answer at its port; the message says which.
        """
        ...
