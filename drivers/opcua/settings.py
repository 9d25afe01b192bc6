"""Settings of an OPC UA server and its tags."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from math import prod
from typing import Annotated, Literal
from urllib.parse import urlsplit

from drivers.opcua.address import Address, PathAddress, parse_address
from edge.driver import DeviceSettings, ScanGroupSettings, TagSettings
from edge.model import DataType, TimeKind
from edge.references import Certificate, Location, Secret
from edge.settings import Check, Interval, Len, MinLen, Settings
from edge.units import DurationNs, check_host, machine_at

TypeName = Literal["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32",
                   "float64", "text", "datetime", "enumeration"]  # fmt: skip
DATA_TYPES = {data_type.label: data_type for data_type in DataType} | {
    "datetime": DataType.INT64,
    "enumeration": DataType.INT32,
}
TYPES = {
    "Boolean": "bool", "SByte": "int8", "Byte": "uint8", "Int16": "int16", "UInt16": "uint16", "Int32": "int32",
    "UInt32": "uint32", "Int64": "int64", "UInt64": "uint64", "Float": "float32", "Double": "float64",
    "String": "text", "LocalizedText": "text", "DateTime": "datetime", "enumeration": "enumeration",
}  # fmt: skip
_SHOWN_AS_THEY_ARE = {
    "Guid": "text", "ByteString": "text", "XmlElement": "text", "NodeId": "text", "ExpandedNodeId": "text",
    "QualifiedName": "text", "StatusCode": "uint32",
}  # fmt: skip
TAG_TYPES = TYPES | _SHOWN_AS_THEY_ARE
"""The type of a tag for each built-in type that can be read as one value."""
DEFAULT_PORT = 4840

_TEXT_FRAME_BYTES = 3  # The frame of a text in a record.
_SOURCE_TIME_BYTES = 8  # The source timestamp in the record of each value.
_MEMBER = re.compile(r"(?P<name>[^.\[\]]+)(?:\[(?P<index>\d+)\])?")
_INDEX = re.compile(r"(?P<first>\d{1,9})(?:\.\.(?P<last>\d{1,9}))?", re.ASCII)
_ELEMENTS_LIMIT = 65_535
_SHORT = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")

Member = tuple[str, int | None]
"""(name of a member, element of it if it is an array)."""


@dataclass(frozen=True, kw_only=True)
class OpcuaTag(TagSettings):
    """One value of an OPC UA server."""

    address: Annotated[str, Check(parse_address)]
    """Which node: "nsu=http://vendor.example/x;s=Line4.Temp" (also i=, g=, b=), or by its browse path from the root,
    "/Objects/{http://vendor.example/x}Line4/{http://vendor.example/x}Temp". Short names for the URIs are in the
    device's `namespaces`: "nsu=x;s=Line4.Temp", "/Objects/x:Line4/x:Temp". A namespace is never given by its index,
    but for namespace 0: "i=2258"."""
    type: TypeName
    """Type of the value; datetime is recorded as UTC nanoseconds in an int64, an enumeration as an int32."""
    index: Annotated[int | str | Sequence[int | str] | None, Check(parse_index)] = None
    """Element of an array, counted from 0; [row, column] in a matrix. A range is one tag for each of its elements:
    `index: 0..9` of Level makes Level[0] to Level[9], `index: [0..1, 0..2]` six tags of a matrix."""
    field: Annotated[str, Len(1, 1000), Check(parse_field)] | None = None
    """Member of a structure: "Position", "Axis.Position" or, in an array of it, "Axes[2].Position"."""
    length: Annotated[int, Interval(ge=1, le=4000)] = 1000
    """Most bytes of a text as UTF-8; a longer one is BAD."""

    @cached_property
    def parsed_address(self) -> Address:
        """The address, parsed; its namespaces may be short names."""
        return parse_address(self.address)

    def places(self, device: OpcuaDevice, levels: Sequence[str] = ()) -> Sequence[Hashable]:
        """See `TagSettings.places`: by the node, and by the names that lead to it from the Objects folder."""
        address = self.parsed_address.within(device.namespaces)
        names = [name for _, name in address.steps] if isinstance(address, PathAddress) else ["Objects", *levels]
        ways = [str(address), "/".join(names) if len(names) > 1 else ""]
        return [(way, self.element, self.members) for way in ways if way]

    @cached_property
    def elements(self) -> tuple[range, ...]:
        """The index, one range for each dimension; empty where the value is the whole."""
        return parse_index(self.index)

    @property
    def element(self) -> tuple[int, ...] | None:
        """The index of the only element."""
        return tuple(numbers.start for numbers in self.elements) or None

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """The way into a structure; empty where the value is the whole."""
        return () if self.field is None else parse_field(self.field)

    @property
    def data_type(self) -> DataType:
        """The type of the raw value."""
        return DATA_TYPES[self.type]

    @property
    def time_kind(self) -> TimeKind | None:
        """See `TagSettings.time_kind`."""
        return TimeKind.UTC if self.type == "datetime" else None

    @property
    def address_text(self) -> str:
        """The address as the engineer wrote it, with element and member."""
        element = f"[{','.join(map(str, self.element))}]" if self.element else ""
        return self.address + element + (f".{self.field}" if self.field else "")

    @property
    def value_bytes(self) -> int:
        """See `TagSettings.value_bytes`."""
        value_bytes = self.length + _TEXT_FRAME_BYTES if self.type == "text" else super().value_bytes
        return (value_bytes + _SOURCE_TIME_BYTES) * prod(map(len, self.elements))


def parse_index(index: int | str | Sequence[int | str] | None) -> tuple[range, ...]:
    """The range of each dimension; empty for None. Raises ValueError."""
    if index is None:
        return ()
    items = [index] if isinstance(index, int) else re.split(r"[\s,;]+", index) if isinstance(index, str) else index
    if not items:
        raise ValueError("needs a number, or several for a matrix")
    matches = [_INDEX.fullmatch(str(item)) for item in items]
    if not all(matches):
        raise ValueError(
            f"counts from 0, got {index!r}: write 3, a range such as 0..9, or [1, 2] and [0..1, 0..2] in a matrix"
        )
    ranges = tuple(range(int(match["first"]), int(match["last"] or match["first"]) + 1) for match in matches if match)
    if not all(ranges):
        raise ValueError(f"{index!r} ends before it begins")
    if prod(map(len, ranges)) > _ELEMENTS_LIMIT:
        raise ValueError(f"{index!r} has {prod(map(len, ranges))} elements; a scan group holds up to {_ELEMENTS_LIMIT}")
    return ranges


def _expanded(tag: OpcuaTag) -> Iterator[OpcuaTag]:
    """A tag for each element of a range; a tag of one element or of the whole as it is."""
    if prod(map(len, tag.elements)) == 1:
        yield tag
        return
    for element in product(*tag.elements):
        yield replace(tag, name=f"{tag.name}[{','.join(map(str, element))}]", index=element)


def parse_field(text: str) -> tuple[Member, ...]:
    """The members that `text` spells, or ValueError."""
    matches = [_MEMBER.fullmatch(part) for part in text.split(".")]
    if not all(matches):
        raise ValueError(f'{text!r} is no member of a structure; write "Axis.Position" or "Axes[2].Position"')
    return tuple((match["name"], int(match["index"]) if match["index"] else None) for match in matches if match)


@dataclass(frozen=True, kw_only=True)
class OpcuaSubscription(Settings):
    """How the server watches the tags of a scan group for us."""

    sampling: DurationNs | None = None
    """How often the server looks at each value; by default the group's `every`. 0 is as fast as it can."""
    queue: Annotated[int, Interval(ge=1, le=10_000)] = 10
    """Values of one tag that the server keeps until the next notification.

    Of more it drops the oldest, which is an event.
    """
    keep_alive: Annotated[DurationNs, Interval(ge=10**8)] = 10 * 10**9
    """The server gives a sign of life at least this often.

    After this time and the `timeout` without one, the session is lost.
    """
    deadband: Literal["server", "none"] = "none"
    """Whether the server applies the tag's `deadband`; otherwise it sends every change."""


@dataclass(frozen=True, kw_only=True)
class OpcuaScanGroup(ScanGroupSettings):
    """Tags that are read together, or whose changes are sent together."""

    tags: Sequence[OpcuaTag] = ()
    """Tags written here."""
    subscribe: OpcuaSubscription | None = None
    """The server sends what changed, once per `every` at most; without it the tags are polled."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "tags", [one for tag in self.tags for one in _expanded(tag)])

    @property
    def is_subscribed(self) -> bool:
        """See `ScanGroupSettings.is_subscribed`."""
        return self.subscribe is not None

    @property
    def sign_of_life(self) -> int:
        """See `ScanGroupSettings.sign_of_life`."""
        return 0 if self.subscribe is None else max(self.every, self.subscribe.keep_alive)


@dataclass(frozen=True, kw_only=True)
class OpcuaSecurity(Settings):
    """How messages are protected (OPC 10000-7, security policies)."""

    policy: Literal["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"]
    """Security policy; there is no fall-back to another one."""
    mode: Literal["Sign", "SignAndEncrypt"] = "SignAndEncrypt"
    """Whether messages are signed only, or encrypted too."""


@dataclass(frozen=True, kw_only=True)
class OpcuaUser(Settings):
    """Who we are to the server: a name and a password, or a certificate and its key."""

    name: Annotated[str, MinLen(1)] | None = None
    """Name of the user."""
    password: Secret | None = None
    """Where the password is kept: `file:PATH` or `credential:NAME`."""
    certificate: Certificate | None = None
    """Certificate of the user, in PEM or DER."""
    key: Secret | None = None
    """Where its private key is kept, in PEM."""
    signature: Literal["sha256", "sha1"] = "sha256"
    """The weakest hash that the key may sign with; SHA-1 can be forged, and only old servers ask for it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        given = tuple(item is not None for item in (self.name, self.password, self.certificate, self.key))
        if given not in ((True, True, False, False), (False, False, True, True)):
            raise ValueError("a user is a name and a password, or a certificate and its key")


@dataclass(frozen=True, kw_only=True)
class OpcuaLimits(Settings):
    """How gently the server is asked."""

    timeout: Annotated[DurationNs, Interval(ge=10**6)] = 5 * 10**9
    """How long an answer may take."""
    connect_timeout: Annotated[DurationNs, Interval(ge=10**6)] = 10 * 10**9
    """How long it may take to open a session."""
    nodes_per_read: Annotated[int, Interval(ge=0, le=100_000)] = 0
    """Most nodes in one request; 0 is what the server allows, and at most 1000."""
    in_flight: Annotated[int, Interval(ge=1, le=16)] = 1
    """Requests under way at once."""
    gap: DurationNs = 0
    """Pause between an answer and the next request."""
    retry_unknown: Annotated[DurationNs, Interval(ge=10**9)] = 60 * 10**9
    """How often a node that the server does not have is asked for again."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gap and self.in_flight > 1:
            raise ValueError("a gap between requests and several in flight exclude each other")


@dataclass(frozen=True, kw_only=True)
class OpcuaDevice(DeviceSettings):
    """An OPC UA server."""

    driver: Literal["opcua"]
    """OPC UA, binary over TCP."""
    url: Annotated[str, Check(split_url)]
    """Where it is: "opc.tcp://host:4840", with a path if the server has one; "host:4840" means the same."""
    security: Literal["none"] | OpcuaSecurity
    """How messages are protected: a policy and a mode, or the word none, which lets anyone on the network read and
    change them."""
    certificates: Location | None = None
    """Directory with the gateway's certificate and the trusted servers', from `tidegate keys opcua create`.

    Only an anonymous session without security needs none.
    """
    host_check: Literal["always", "issued", "never"] = "issued"
    """Whose certificates must have the host of `url` in them.

    always: those of all servers. issued: those trusted by their authority. never: none.
    """
    certificate_uri: Annotated[str, MinLen(1)] | None = None
    """Application URI in the server's certificate, where the server calls itself by another one: an exception that
    `status` shows. Without it such a server is refused."""
    user: OpcuaUser | None = None
    """The gateway's user at the server; anonymous by default."""
    namespaces: Annotated[Mapping[str, str], Check(_check_namespaces)] = field(default_factory=dict)
    """Short names for namespace URIs in addresses: {x: "http://vendor.example/x"}."""
    retry_limit: DurationNs = 10 * 10**9
    """Longest delay between two attempts on a server that stays away."""
    facts: bool = False
    """Ask the server for units, ranges, descriptions and the texts of enumerations, for the catalogue."""
    limits: OpcuaLimits = OpcuaLimits()
    """How gently the server is asked."""
    scan_groups: Annotated[Sequence[OpcuaScanGroup], MinLen(1)]
    """What is read or sent together, and how often."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "url", _with_scheme(self.url))
        if self.certificates is None and (self.security != "none" or self.user is not None):
            raise ValueError("`certificates` is missing: the directory with our certificate and those that we trust")
        for group in self.scan_groups:
            for tag in group.tags:
                check_namespaces(tag, self.namespaces)

    @property
    def host(self) -> str:
        """Host name or address of the server."""
        return split_url(self.url)[0]

    @property
    def port(self) -> int:
        """TCP port of the server."""
        return split_url(self.url)[1]

    @property
    def where(self) -> str:
        """See `DeviceSettings.where`."""
        return self.url.removeprefix("opc.tcp://")

    @property
    def reached_at(self) -> str:
        """See `DeviceSettings.reached_at`."""
        return machine_at(self.host, self.port)


def _check_namespaces(namespaces: Mapping[str, str]) -> None:
    for short, uri in namespaces.items():
        if not _SHORT.fullmatch(short):
            raise ValueError(f"a short name has letters, digits, - and _, and starts with a letter, got {short!r}")
        if not uri:
            raise ValueError(f"{short} stands for no namespace")


def _with_scheme(url: str) -> str:
    return url if "://" in url else f"opc.tcp://{url}"


def split_url(url: str) -> tuple[str, int]:
    """Host and port of an "opc.tcp" URL, or ValueError."""
    example = 'write it as "opc.tcp://host:4840" or "opc.tcp://host:4840/path"'
    parts = urlsplit(_with_scheme(url))
    try:
        host, port = parts.hostname, parts.port or DEFAULT_PORT
    except ValueError:
        raise ValueError(f"{url!r} has no valid port; {example}") from None
    if parts.scheme != "opc.tcp" or not host:
        raise ValueError(f"{url!r} is not the address of an OPC UA server; {example}")
    if parts.username is not None:
        raise ValueError("a user does not belong into the URL, where everybody sees the password; use `user`")
    return check_host(host), port


def check_namespaces(tag: OpcuaTag, namespaces: Mapping[str, str]) -> None:
    """Raise ValueError where a tag's address uses an undefined short name."""
    try:
        tag.parsed_address.within(namespaces)
    except ValueError as error:
        raise ValueError(f"tag {tag.name}: {error}") from None
