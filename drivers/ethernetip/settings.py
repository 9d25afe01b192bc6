"""What an engineer can say about an EtherNet/IP device and its tags."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Annotated, Literal

from drivers.ethernetip.address import Address, AttributeAddress, Route, TagAddress, expand, parse_address, parse_route
from drivers.ethernetip.cip import BOOL, BY_NAME, CHARS, STRING_CHARACTERS, STRING_CHARACTERS_MAX, CipType
from edge.driver import DeviceSettings, ScanGroupSettings, TagSettings
from edge.model import DataType, TimeKind
from edge.settings import Check, Interval, MinLen, Settings
from edge.units import DurationNs, Host, machine_at

TypeName = Literal["BOOL", "SINT", "INT", "DINT", "LINT", "USINT", "UINT", "UDINT", "ULINT", "REAL", "LREAL",
                   "BYTE", "WORD", "DWORD", "LWORD", "TIME", "TIME32", "LTIME", "DATE", "TIME_OF_DAY", "DATE_AND_TIME",
                   "DT", "LDT", "STRING", "SHORT_STRING", "CHARS"]  # fmt: skip
Family = Literal["logix", "micro800", "omron", "generic"]
_OMRON_CONNECTION_BYTES = 1994


@dataclass(frozen=True, kw_only=True)
class EtherNetIpTag(TagSettings):
    """One value of a controller or another CIP device."""

    address: Annotated[str, Check(_first)]
    """The tag as the controller names it: "Temperature", "Motor[3].Speed", "Program:Main.Level", "Local:1:I.Data".

    "Word.5" is bit 5 of an integer (0 is the least significant), "Level[0..9]" is ten tags, `name[0]` to `name[9]`,
    and "Word.0..7" is eight.
    "cip 1/1/7" is an attribute of any CIP object: class, instance, attribute. In one that holds many values, such as an
    assembly, "cip 4/100/3 +8" is the value from byte 8 on, "cip 4/100/3 +8.5" bit 5 of that byte and of those after
    it, "cip 4/100/3 +8[2]" the third of several values from there on.
    """
    type: TypeName
    """Type of the value, as the controller has it; an answer of another type is BAD.

    In an attribute, a text is a STRING (after a length of two bytes; one byte too where it is the whole attribute), a
    SHORT_STRING (after a length of one byte) or CHARS (`length` bytes, up to the first that is 0).
    A TIME, TIME32 or LTIME is a duration; of a tag, its encoding is read from the answer, also that of a date. DT and
    LDT are UTC, DATE_AND_TIME is the device's own time.
    """
    length: Annotated[int, Interval(ge=1, le=STRING_CHARACTERS_MAX)] | None = None
    """Most characters of a text; 82 by default."""
    encoding: Literal["ascii", "latin-1", "utf-8"] = "latin-1"
    """Characters of a text."""

    def __post_init__(self) -> None:
        super().__post_init__()
        where = _first(self.address)
        if where.bit is not None and self.type != "BOOL":
            raise ValueError(f"{self.address!r} is one bit of an integer: its type is BOOL, not {self.type}")
        if self.length is not None and not self.is_text:
            raise ValueError(f"only a text has a length; {self.type} has none")
        if isinstance(where, TagAddress) and self.is_text and self.type != "STRING":
            raise ValueError(f"type {self.type} is a text in an attribute; that of a tag is STRING")
        if self.cip_type is CHARS and self.length is None:
            raise ValueError("type CHARS needs a length: how many bytes the text has")
        if isinstance(where, AttributeAddress) and where.index is not None and not self.element_bytes:
            example = f'"{where.whole}.0..7"' if self.is_bool else f'"{where.whole} +8"'
            what = "BOOLs are bits: write which, as in" if self.is_bool else f"{self.type}s vary in size: write where"
            raise ValueError(f"{self.address!r}: {what} {example}")

    @cached_property
    def parsed_address(self) -> Address:
        """The address, parsed."""
        return parse_address(self.address)

    def places(self, device: DeviceSettings, levels: Sequence[str] = ()) -> Sequence[Hashable]:  # noqa: ARG002
        """See `TagSettings.places`: a controller takes names in upper and lower case."""
        return [str(self.parsed_address).lower()]

    @property
    def cip_type(self) -> CipType:
        """The type as CIP knows it."""
        return BY_NAME[self.type]

    @property
    def characters(self) -> int:
        """Most characters of a STRING."""
        return self.length or STRING_CHARACTERS

    @property
    def data_type(self) -> DataType:
        """The type of the raw value."""
        return self.cip_type.data_type

    @property
    def time_kind(self) -> TimeKind | None:
        """See `TagSettings.time_kind`."""
        return self.cip_type.time_kind

    @property
    def address_text(self) -> str:
        """The address as the engineer wrote it."""
        return self.address

    @property
    def is_text(self) -> bool:
        """Whether the value is a text."""
        return self.data_type is DataType.TEXT

    @property
    def element_bytes(self) -> int:
        """Bytes of one of several values in an attribute; 0 where they are bits, or vary."""
        return 0 if self.is_bool else self.characters if self.cip_type is CHARS else self.cip_type.size

    @property
    def value_bytes(self) -> int:
        """See `TagSettings.value_bytes`."""
        if not self.is_text:
            return super().value_bytes
        return (2 if self.encoding == "latin-1" else 1) * self.characters + 3

    @property
    def is_bool(self) -> bool:
        """Whether the value is one bit."""
        return self.cip_type is BOOL


@lru_cache(maxsize=4)  # A tag asks twice.
def _first(text: str) -> Address:
    """The address, or the first of a slice whose last one is an address too."""
    first, *others = expand(text).values()
    if others:
        parse_address(others[-1])
    return parse_address(first)


def _expanded(tag: EtherNetIpTag) -> Iterator[EtherNetIpTag]:
    for suffix, address in expand(tag.address).items():
        yield replace(tag, name=tag.name + suffix, address=address) if suffix else tag


@dataclass(frozen=True, kw_only=True)
class EtherNetIpScanGroup(ScanGroupSettings):
    """Tags that are read together."""

    tags: Sequence[EtherNetIpTag] = ()
    """Tags written here."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "tags", [one for tag in self.tags for one in _expanded(tag)])


@dataclass(frozen=True, kw_only=True)
class EtherNetIpLimits(Settings):
    """How gently the device is asked."""

    connection_bytes: Annotated[int, Interval(ge=100, le=4002)] = 4002
    """Most bytes in one message; a controller that takes no more than 504 is asked in such."""
    packet_tags: Annotated[int, Interval(ge=1, le=500)] = 400
    """Most reads in one packet."""
    hole: Annotated[int, Interval(ge=0, le=1000)] = 4
    """Elements of an array that no tag needs and that may be read along to save a request."""
    structures: Literal["auto", "members"] = "auto"
    """Read a structure as a whole where that is cheaper (auto), or always its members one by one."""
    gap: DurationNs = 0
    """Pause between an answer and the next request."""
    timeout: Annotated[DurationNs, Interval(ge=10**6)] = 2 * 10**9
    """How long an answer may take; noticed a tenth later at most."""
    connect_timeout: Annotated[DurationNs, Interval(ge=10**6)] = 5 * 10**9
    """How long a connection may take to open, session and all."""
    check_changes: Annotated[DurationNs, Interval(ge=10**6)] = 5 * 10**9
    """How often a controller is asked whether its program changed, where structures are read as a whole."""


@dataclass(frozen=True, kw_only=True)
class EtherNetIpDevice(DeviceSettings):
    """A Logix controller, a Micro800 or another CIP device that speaks EtherNet/IP."""

    driver: Literal["ethernetip"]
    """EtherNet/IP."""
    host: Host
    """Address or name of the device, or of the communication module in front of it."""
    port: Annotated[int, Interval(ge=1, le=65535)] = 44818
    """TCP port."""
    family: Family = "logix"
    """logix (ControlLogix, CompactLogix, GuardLogix), micro800, omron (NJ, NX, NY), or generic.

    A generic device, such as a drive, has CIP attributes.
    """
    slot: Annotated[int, Interval(ge=0, le=255)] | None = None
    """Slot of a Logix controller in its chassis; 0 where neither slot nor route is given."""
    route: Annotated[str, Check(parse_route)] | None = None
    """The way to the device instead of a slot, as port and link in turn: "1,0" or "1,4,2,192.168.1.5,1,0"."""
    messaging: Literal["connected", "unconnected"] | None = None
    """How questions are asked; generic devices are asked without a connection unless this says otherwise."""
    limits: EtherNetIpLimits = EtherNetIpLimits()
    """How gently the device is asked."""
    scan_groups: Annotated[Sequence[EtherNetIpScanGroup], MinLen(1)]
    """What is read together, and how often."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slot is not None and self.route is not None:
            raise ValueError("slot and route exclude each other: the route names the slot, as its last number")
        if self.family in ("micro800", "omron") and (self.slot is not None or self.route is not None):
            key = "slot" if self.slot is not None else "route"
            raise ValueError(f"{key} leads nowhere: a {self.family} has no chassis; leave it away")

    @property
    def where(self) -> str:
        """See `DeviceSettings.where`."""
        inside = f"slot {self.slot}" if self.slot is not None else f"route {self.route}" if self.route else ""
        return f"{inside} at {self.host}" if inside else self.host

    @property
    def reached_at(self) -> str:
        """See `DeviceSettings.reached_at`."""
        return machine_at(self.host, self.port)

    @cached_property
    def parsed_route(self) -> Route:
        """Ports and links to the device."""
        if self.route is not None:
            return parse_route(self.route)
        if self.slot is not None:
            return ((1, self.slot),)
        return ((1, 0),) if self.family == "logix" else ()

    @property
    def connection_bytes(self) -> int:
        """Most bytes in one message that are asked for."""
        return min(self.limits.connection_bytes, _OMRON_CONNECTION_BYTES if self.family == "omron" else 4002)

    @property
    def is_connected(self) -> bool:
        """Whether questions are asked on a connection."""
        return (self.messaging or ("unconnected" if self.family == "generic" else "connected")) == "connected"
