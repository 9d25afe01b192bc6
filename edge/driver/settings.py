"""The settings that all protocols share: tags, scan groups and devices."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

from edge.model import DataType, TimeKind
from edge.settings import Check, Interval, Len, MaxLen, MinLen, Number, Pattern, Settings
from edge.units import PERCENT, DurationNs, parse_date

IdentityMode = Literal["auto", "always", "never"]
Criticality = Literal["product", "process", "safety", "none"]

_TEXT_BYTES = 1024  # For a driver that does not know the length of its texts.


@dataclass(frozen=True, kw_only=True)
class TagSettings(Settings):
    """What every protocol's tags have in common. A driver adds `address` and its own keys."""

    name: Annotated[str, Len(1, 200), Pattern(r"^[^/#+\s\x00-\x1f][^#+\x00-\x1f]*$")]
    """Name of the tag, unique in its device; slashes make a hierarchy; without + or #."""
    unit: Annotated[str, MaxLen(100)] = ""
    """Engineering unit as a UCUM code, such as Cel, bar or /min."""
    scale: Number = 1.0
    """Factor from the raw value to the engineering unit; the raw value is what is recorded."""
    divisor: Number = 1.0
    """The raw value is divided by it, as manuals with a gain of 10, 100 or 1000 mean it."""
    offset: Number = 0.0
    """Added after `scale` and `divisor`."""
    range: tuple[float, float] | None = None
    """Lowest and highest plausible value in the engineering unit; outside it a value is UNCERTAIN, never dropped."""
    deadband: str | float = 0.0
    """How far a value may move before it is stored again: in the engineering unit, or "2 %" of `range`.

    0 stores every change.
    """
    at_most_every: DurationNs = 0
    """Shortest time between two reports of this tag; a change of quality is always reported."""
    at_least_every: DurationNs = 60 * 10**9
    """Longest time until a value that did not move is stored again; 0 stores every scan."""
    description: Annotated[str, MaxLen(1000)] = ""
    """Free text for the catalogue."""
    instrument: Annotated[str, MaxLen(100)] = ""
    """Id of the instrument behind the tag, such as TT-4711."""
    serial: Annotated[str, MaxLen(100)] = ""
    """Serial number of the instrument."""
    criticality: Criticality | None = None
    """What an error of the instrument would touch: product, process or safety, or none of them."""
    calibration_certificate: Annotated[str, MaxLen(200)] = ""
    """Certificate of its last calibration."""
    calibrated_on: Annotated[str, Check(parse_date)] = ""
    """Day of its last calibration, such as 2026-03-31."""
    calibration_due: Annotated[str, Check(parse_date)] = ""
    """Day by which it has to be calibrated again."""
    tolerance: Annotated[str, MaxLen(100)] = ""
    """Largest error that the calibration allows, as the procedure writes it, such as "0.5 Cel"."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale == 0 or self.divisor == 0:
            raise ValueError(f"{'divisor' if self.scale else 'scale'} must not be 0: every value would be lost")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range must go from low to high, got {list(self.range)}")
        if self.at_least_every and self.at_most_every > self.at_least_every:
            raise ValueError("at_most_every is longer than at_least_every")
        _ = self.deadband_in_unit

    @classmethod
    def guesses(cls, address: str) -> Sequence[Mapping[str, str]]:  # noqa: ARG003
        """Keys with which `tidegate read` tries an address that nothing else is said of; none where it says enough."""
        return ()

    @property
    def data_type(self) -> DataType:
        """The type of the raw value."""
        raise NotImplementedError

    @property
    def time_kind(self) -> TimeKind | None:
        """What the nanoseconds of an int64 say, where the type is a date, a time or a duration."""
        return None

    @property
    def scale_tag(self) -> str:
        """The tag of the same scan group that gives the power of ten of this one."""
        return ""

    @property
    def factor(self) -> float:
        """What the raw value is multiplied with; a duration, raw in ns, is in s before `scale`."""
        factor = self.scale / self.divisor
        return factor * 1e-9 if self.time_kind is TimeKind.DURATION else factor

    @property
    def address_text(self) -> str:
        """The address as it is configured, for the catalogue."""
        raise NotImplementedError

    def places(self, device: Any, levels: Sequence[str] = ()) -> Sequence[Hashable]:  # noqa: ARG002
        """Where it is on its device, for each way to write that: two tags that share one are the same value.

        Args:
            levels: of a browsed tag, the names of all levels down to it, from the root.
        """
        return [self.address_text]

    @property
    def value_bytes(self) -> int:
        """Largest size of a value in a record, in bytes."""
        return _TEXT_BYTES if self.data_type is DataType.TEXT else self.data_type.numpy.itemsize

    @cached_property
    def deadband_in_unit(self) -> float:
        """The deadband as an absolute distance in the engineering unit."""
        if not isinstance(self.deadband, str):
            deadband = float(self.deadband)
        elif not (share := PERCENT.fullmatch(self.deadband)):
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
    """CSV file beside this one with more tags, one a row; its header names the keys.

    A column `every` makes a scan group of each other interval.
    """

    @property
    def is_subscribed(self) -> bool:
        """Whether the device notifies changes, at most once per `every`; the session is then `Subscribable`."""
        return False

    @property
    def sign_of_life(self) -> int:
        """How often, in ns, the device notifies where nothing changes; 0 where it is polled."""
        return 0


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
    ask_identity: IdentityMode = "auto"
    """Whether the device is asked what it is, after the first values of each session.

    auto: not if it once gave no answer, or was lost after the question.
    """
    clock_limit: Annotated[DurationNs, Interval(ge=10**6)] | None = None
    """How far the device's clock may differ from the gateway's before it is an event; by default not checked."""

    @property
    def place(self) -> str:
        """Where the device is, in words; two devices of one driver at one place are one. Empty: it may be several."""
        return ""

    @property
    def where(self) -> str:
        """The address for people; empty where there is none."""
        return self.place

    @property
    def reached_at(self) -> Hashable:
        """The host or line that answers for the device; scans of devices with the same one begin apart where they can.

        Empty: the device answers for itself alone. See `edge.units.machine_at`.
        """
        return ""

    @property
    def tolerated(self) -> Sequence[str]:
        """Deviations from the protocol that the settings accept, in their words; an event at the start names them."""
        return ()
