"""The surface for driver authors: a driver is two verbs, and a session is one.

There is no `is_connected` to get wrong: a session exists while its block is open. There is no `write` to forbid.
A driver package registers one `DriverKind` object under the entry-point group `tidegate.drivers`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import EntryPoints, entry_points
from typing import Annotated, Any, NoReturn, Protocol, TypeVar, cast, runtime_checkable

from edge.clock import Clock
from edge.errors import ConfigError
from edge.model import DataType, Identity, Layout, Notification, Reading, TagMetadata
from edge.settings import Interval, Len, MaxLen, MinLen, Number, Pattern, Settings
from edge.tls import Certificate
from edge.units import DurationNs

_TEXT_BYTES = 1024  # For a driver that does not know how long its texts can get.
_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


@dataclass(frozen=True, kw_only=True)
class TagSettings(Settings):
    """What every protocol's tags have in common. A driver adds `address` and its own keys."""

    name: Annotated[str, Len(1, 200), Pattern(r"^[^/#+\s\x00-\x1f][^#+\x00-\x1f]*$")]
    """Name of the tag, unique in its device; slashes make a hierarchy; without + or #."""
    unit: Annotated[str, MaxLen(100)] = ""
    """Engineering unit as a UCUM code, such as Cel, bar or /min."""
    scale: Number = 1.0
    """Factor from the raw value to the engineering unit; the raw value is what is recorded."""
    offset: Number = 0.0
    """Added after `scale`."""
    range: tuple[float, float] | None = None
    """Lowest and highest plausible value in the engineering unit; outside it a value is UNCERTAIN, never dropped."""
    deadband: str | float = 0.0
    """How far a value may drift unreported: in the engineering unit, or "2 %" of `range`. 0 reports every change."""
    at_most_every: DurationNs = 0
    """Shortest time between two reports of this tag; a change of quality is reported all the same."""
    at_least_every: DurationNs = 60 * 10**9
    """Longest time an unmoved value goes unreported; 0 reports every scan."""
    description: Annotated[str, MaxLen(1000)] = ""
    """Free text for the catalogue."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale == 0:
            raise ValueError("scale must not be 0: every value would be lost")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range must go from low to high, got {list(self.range)}")
        if self.at_least_every and self.at_most_every > self.at_least_every:
            raise ValueError("at_most_every is longer than at_least_every")
        _ = self.deadband_in_unit

    @property
    def data_type(self) -> DataType:
        """The type of the raw value."""
        raise NotImplementedError

    @property
    def address_text(self) -> str:
        """The address as the engineer wrote it, for the catalogue."""
        raise NotImplementedError

    @property
    def value_bytes(self) -> int:
        """Most bytes that a value takes in a record."""
        return _TEXT_BYTES if self.data_type is DataType.TEXT else self.data_type.numpy.itemsize

    @cached_property
    def deadband_in_unit(self) -> float:
        """The deadband as an absolute distance in the engineering unit."""
        if not isinstance(self.deadband, str):
            deadband = float(self.deadband)
        elif not (share := _PERCENT.fullmatch(self.deadband)):
            raise ValueError(f'deadband is a number or a share of range such as "2 %", got {self.deadband!r}')
        elif self.range is None:
            raise ValueError("deadband in percent needs a range")
        else:
            deadband = float(share[1]) / 100 * (self.range[1] - self.range[0])
        if not 0 <= deadband < float("inf"):
            raise ValueError(f"deadband must be 0 or more, got {self.deadband}")
        return deadband


TagT = TypeVar("TagT", bound=TagSettings)


@dataclass(frozen=True, kw_only=True)
class ScanGroupSettings(Settings):
    """Tags of one device that are read together. A driver narrows `tags` to its own kind."""

    name: Annotated[str, MaxLen(200)] = ""
    """Name of the scan group; by default its interval."""
    every: Annotated[DurationNs, Interval(ge=10**6, le=86_400 * 10**9)]
    """Scan interval."""
    urgent: bool = False
    """Seal and send each scan at once instead of with the commit window."""
    tags: Sequence[Any] = ()
    """Tags written here."""
    tags_from: str | None = None
    """CSV file beside this one with more tags, one a row; its header names the keys."""

    @property
    def is_subscribed(self) -> bool:
        """Whether the device tells by itself what changed, at most once per `every`; the session is `Subscribable`."""
        return False


@dataclass(frozen=True, kw_only=True)
class DeviceSettings(Settings):
    """What every protocol's devices have in common. A driver adds where and how, and narrows `scan_groups`."""

    name: Annotated[str, Len(1, 100), Pattern(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the device, unique in the gateway: letters, digits, dots, dashes and underscores."""
    driver: str
    """The driver that speaks to it."""
    scan_groups: Annotated[Sequence[Any], MinLen(1)]
    """What is read together, and how often."""
    retry: DurationNs = 1 * 10**9
    """First delay before a lost device is tried again; it grows, jittered, up to `retry_limit`."""
    retry_limit: DurationNs = 60 * 10**9
    """Longest delay between two attempts on a device that stays away."""
    clock_limit: Annotated[DurationNs, Interval(ge=10**6)] | None = None
    """How far the device's own clock may be off ours before that is an event; without it nobody looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCost:
    """What a plan asks of a device; `took_ns` is an estimate for a device that answers in `answer_ns`."""

    tags: int
    requests: int
    request_bytes: int
    answer_bytes: int
    took_ns: int


class Plan(Protocol):
    """Addresses turned into requests, once."""

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
        """Ask for everything in the plan, once.

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
            DeviceUnreachable: nobody answers there.
            DeviceRefused: somebody answers, and will not talk to us.
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
    """What a `Session` also offers when the device can tell by itself what changed."""

    async def receive_notifications(self, plan: Any, on_notification: Callable[[Notification], None]) -> NoReturn:
        """Have every change of the plan's tags told, the values of now first, until the session is lost.

        Raises as `Session.read`, also when the device is silent for longer than it promised.
        """
        ...


@runtime_checkable
class SubscriptionPlanner(Protocol):
    """What a `Driver` also offers when it has to know how a scan group is subscribed, besides its tags."""

    def plan_subscription(self, group: Any) -> Plan:
        """The plan of a subscribed scan group, for `Subscribable.changes`. Raises as `Driver.plan`."""
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
        value: its value now, as text; empty where it has none or it was not asked for.
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
        """Those known now: ours, and the device's since the last session."""
        ...


GROUP = "tidegate.drivers"


def installed() -> tuple[str, ...]:
    """Names of the drivers found by entry point, without importing any."""
    return tuple(sorted({entry.name for entry in _registered()}))


def load(name: str) -> DriverKind[Any]:
    """Import one driver; the factory behind the entry point is called, so each gateway has its own.

    Raises:
        ConfigError: no such driver is installed, or its library is missing.
    """
    for entry in _registered().select(name=name):
        try:
            return cast("DriverKind[Any]", entry.load()())
        except ImportError as error:
            raise ConfigError(f"driver {name} cannot be loaded: {error}; install tidegate[{name}]") from error
    raise ConfigError(f"no driver is called {name!r}; installed are {', '.join(installed())}")


@cache
def _registered() -> EntryPoints:
    """The drivers of this installation; finding them goes through all packages, and it does not change."""
    return entry_points(group=GROUP)
