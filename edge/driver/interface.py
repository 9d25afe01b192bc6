"""The surface for driver authors: a driver is two verbs, and a session is one.

There is no `is_connected` to get wrong: a session exists while its block is open. There is no `write` to forbid.
A driver package registers one `DriverKind` object under the entry-point group `tidegate.drivers`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol, TypeVar, runtime_checkable

from edge.clock import Clock
from edge.driver.settings import DeviceSettings, ScanGroupSettings
from edge.model import Identity, Layout, Notification, Reading, TagMetadata
from edge.tls import Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCost:
    """What a plan asks of a device; `took_ns` is an estimate for a device that answers in `answer_ns`."""

    tags: int
    requests: int
    request_bytes: int
    answer_bytes: int
    took_ns: int


class Plan(Protocol):
    """The requests for the tags of a scan group, computed once."""

    @property
    def layout(self) -> Layout:
        """Where each tag's value will be in a reading."""
        ...

    def cost(self) -> PlanCost:
        """What one scan costs the device and the wire."""
        ...

    def describe(self) -> Sequence[str]:
        """The requests in the words of the protocol, one line each, for `tidegate plan`."""
        ...


PlanT = TypeVar("PlanT", bound=Plan)
PlanT_contra = TypeVar("PlanT_contra", bound=Plan, contravariant=True)


class Session(Protocol[PlanT_contra]):
    """A conversation with one device."""

    async def read(self, plan: PlanT_contra) -> Reading:
        """Read everything in the plan once.

        A tag that cannot be read is a BAD entry of the reading; only a lost conversation raises.

        Raises:
            DeviceUnreachable: the device does not answer any more.
            ProtocolViolation: the device broke the conversation; the offending bytes are in it.
        """
        ...

    async def identity(self) -> Identity:
        """What the device says it is; empty where it does not say. Raises as `read`."""
        ...


class Driver(Protocol[PlanT]):
    """One device, through one protocol."""

    def plan(self, tags: Sequence[Any]) -> PlanT:
        """Turn the tags of a scan group into requests, without touching the network.

        Raises:
            ConfigError: some cannot be read; the `path` of each problem is the name of its tag.
        """
        ...

    def connect(self) -> AbstractAsyncContextManager[Session[PlanT]]:
        """Open a session, and close it however the block ends.

        Raises:
            DeviceUnreachable: the device does not answer.
            DeviceRefused: the device answers and refuses the session.
        """
        ...


DeviceT = TypeVar("DeviceT", bound=DeviceSettings)
DeviceT_contra = TypeVar("DeviceT_contra", bound=DeviceSettings, contravariant=True)


class DriverKind(Protocol[DeviceT]):
    """One protocol: what a driver package registers. It lives as long as the gateway."""

    @property
    def settings(self) -> type[DeviceT]:
        """The settings of a device of this protocol."""
        ...

    def driver(self, device: DeviceT, clock: Clock) -> Driver[Any]:
        """A driver for one device. Devices behind one connection share it and its limits.

        The scan groups in `device` may come without their tags: those are handed to `plan`, and not kept twice.
        """
        ...


@runtime_checkable
class SharesConnection(Protocol[DeviceT_contra]):
    """What a `DriverKind` also offers when several devices can be behind one connection."""

    def connection(self, device: DeviceT_contra) -> Hashable:
        """Devices with an equal answer share one connection, and the time of it."""
        ...


@runtime_checkable
class Inspectable(Protocol):
    """What a `Session` also offers when an address can be read in several ways, for `tidegate read`."""

    async def inspect(self, tag: Any) -> Sequence[tuple[str, str]]:
        """Every way to read a tag's address now, as (how, value). Raises as `Session.read`."""
        ...


@runtime_checkable
class Subscribable(Protocol):
    """What a `Session` also offers when the device can notify changes."""

    async def receive_notifications(self, plan: Any, on_notification: Callable[[Notification], None]) -> NoReturn:
        """Receive every change of the plan's tags, the current values first, until the session is lost.

        Raises as `Session.read`, also when the device is silent for longer than agreed.
        """
        ...


@runtime_checkable
class SubscriptionPlanner(Protocol):
    """What a `Driver` also offers when it has to know how a scan group is subscribed, besides its tags."""

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
    """What a `Session` also offers when the device knows units, ranges and texts of its tags."""

    async def tag_metadata(self, plan: Any) -> Sequence[TagMetadata]:
        """What it says about each tag of a plan; nothing at all where the settings do not ask. Raises as `read`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowseEntry:
    """One thing that a device has below a path.

    Attributes:
        name: what it is called there.
        path: what `Browsable.browse` takes to show what is below it; empty where nothing is.
        type: its type in the words of the protocol.
        value: its current value, as text; empty where it has none or it was not asked for.
        tag: keys and values of a tag in a configuration (address, type, unit, ...); empty where it cannot be read.
    """

    name: str
    path: str = ""
    type: str = ""
    value: str = ""
    tag: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Browsable(Protocol):
    """What a `Session` also offers when the device can list what it has, for `tidegate browse`."""

    async def browse(self, path: str) -> Sequence[BrowseEntry]:
        """What is right below a path, "" being the top. Raises as `Session.read`, and LookupError for no such path."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovered:
    """One device that was found.

    Attributes:
        port: where it answered.
        what: what it is, in one line.
        details: more of it, as (label, text).
        device: keys and values of a device in a configuration (host, port, unit, ...), without `name` and `driver`.
    """

    port: int
    what: str
    details: tuple[tuple[str, str], ...] = ()
    device: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Discoverable(Protocol):
    """What a `DriverKind` also offers when its devices can be found on a network, for `tidegate discover`."""

    async def discover(self, host: str, pause: Callable[[], Awaitable[None]]) -> Sequence[Discovered]:
        """Look for devices of this protocol at one host, gently: one connection, one request at a time.

        `pause` is awaited before each connection and each request. A host without such a device is an empty answer.
        """
        ...


@runtime_checkable
class UsesCertificates(Protocol):
    """What a `Driver` also offers when its sessions depend on certificates, which expire."""

    def certificates(self) -> Sequence[Certificate]:
        """Certificates known at present: ours, and the device's since the last session."""
        ...
