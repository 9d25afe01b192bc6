"""The settings of a Modbus device, of the way to it, and of its tags."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from typing import Annotated, Literal

import numpy as np

from drivers.modbus.address import LAST_ADDRESS, Address, AddressRange, parse_address, parse_range
from drivers.modbus.encodings import ENCODINGS
from edge.driver import DeviceSettings, ScanGroupSettings, TagSettings
from edge.model import DataType, TimeKind
from edge.references import Certificate, Secret
from edge.settings import Check, Interval, MaxLen, MinLen, Pattern, Settings
from edge.units import DurationNs, Host, machine_at

Order = Literal["big", "little"]
FramingName = Literal["tcp", "rtu", "ascii"]
TypeName = Literal["bool", "uint8", "int8", "uint16", "int16", "uint24", "uint32", "int32", "uint48", "int48",
                   "uint64", "int64", "float32", "float64", "text", "bcd16", "bcd32", "mod10k32", "mod10k48",
                   "mod10k64", "signmag16", "signmag32", "datetime48", "datetime64", "datetime96", "cp56",
                   "datetime_bcd48", "datetime_bcd64", "date_bcd32", "unix32"]  # fmt: skip
Invalid = Literal["sunspec", "none"] | Sequence[int | float]

DATA_TYPES = {data_type.label: data_type for data_type in DataType} | {
    name: encoding.data_type for name, encoding in ENCODINGS.items()
}
_PORT, _TLS_PORT = 502, 802
_LINE_UNIT_LAST = 247
_CHARACTER_BYTES = 2  # Of latin-1, as UTF-8.


@dataclass(frozen=True, kw_only=True)
class ModbusTag(TagSettings):
    """One value of a Modbus device."""

    address: Annotated[str | int, Check(parse_address)]
    """Where it is: "holding 100", "input 5", "coil 7", "discrete 3" count from zero, "4x00101" and 400101 from one.

    "holding 100.3" is bit 3 of a register (0 is the least significant), "holding 100.0-3" its lowest four bits as a
    number, "holding 100.low" its low byte.
    """
    type: TypeName | None = None
    """Type of the value; needed for registers, while coils, discrete inputs and bits of a register are bool.

    Several bits are uint16. mod10k are four decimal digits a register, signmag a sign and a magnitude. Dates and times:
    datetime48 (month day, year hour, minute second; years from 1900), datetime64 (the same and milliseconds),
    datetime96 (year, month, day, hour, minute, second), cp56 (IEC 60870-5-4), datetime_bcd48 (yymmdd hhmmss),
    datetime_bcd64 (the same, milliseconds, weekday), date_bcd32 (yyyymmdd), unix32 (seconds since 1970, UTC).
    """
    word_order: Order | None = None
    """Which register of several comes first: big (most significant) or little; by default the device's."""
    byte_order: Order | None = None
    """Which byte of a register comes first: big (as the standard says) or little; by default the device's."""
    length: Annotated[int, Interval(ge=1, le=250)] | None = None
    """Characters of a text, two in a register."""
    encoding: Literal["ascii", "latin-1", "utf-8"] = "ascii"
    """Characters of a text."""
    padding: Literal["any", "nul", "space", "keep"] = "any"
    """What fills a text to its length, and is taken off: NUL and what follows it, spaces at the end, or both (any)."""
    invalid: Invalid | None = None
    """Raw values that mean "not available", such as [0x8000], or sunspec for those of SunSpec; they are BAD.

    By default the device's.
    """
    scale_from: Annotated[str, MaxLen(200)] = ""
    """Tag of the same scan group that gives the power of ten of this one, as the scale factors of SunSpec do. Both are
    read in one request and recorded raw; a scale outside -10 to 10 makes the value BAD."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_type()
        kind = self.kind
        if (kind == "text") != (self.length is not None):
            raise ValueError("a text needs its length in characters, and only a text has one")
        if kind == "text" and self.word_order is not None:
            raise ValueError("the registers of a text are always read in their order; byte_order may differ")
        if self.invalid is not None:
            invalid_values(kind, self.invalid)
        if self.scale_from:
            self._check_scaled()
        if self.last > LAST_ADDRESS:
            raise ValueError(f"{self.address!r} as {kind} ends at {self.last}, beyond the last address {LAST_ADDRESS}")

    def _check_scaled(self) -> None:
        if not self.data_type.is_number or self.time_kind is not None:
            raise ValueError(f"scale_from goes with numbers, which a {self.kind} is not")
        if (self.factor, self.offset) != (1, 0) or self.range or self.deadband_in_unit:
            raise ValueError("scale_from excludes scale, divisor, offset, range and deadband: its factor may change")

    @classmethod
    def guesses(cls, address: str) -> Sequence[Mapping[str, str]]:
        """See `TagSettings.guesses`: one, two and four registers."""
        try:
            where = parse_address(address)
        except ValueError:
            return ()
        if where.table.is_bits or where.bit is not None:
            return ()
        return [{"type": name} for name in (("uint8",) if where.half is not None else ("uint16", "uint32", "uint64"))]

    def _check_type(self) -> None:
        where, kind = self.parsed_address, self.type
        if where.bits > 1:
            if kind not in (None, "uint16"):
                raise ValueError(f"{self.address!r} is {where.bits} bits: its type is uint16, not {kind}")
        elif where.table.is_bits or where.bit is not None:
            if kind not in (None, "bool"):
                raise ValueError(f"{self.address!r} is one bit: its type is bool, not {kind}")
        elif kind is None:
            raise ValueError(f"{self.address!r} needs a type, such as float32 or uint16")
        elif kind == "bool":
            raise ValueError(f'a bool in a register needs its bit, such as "{where}.0"')
        if (kind in ("uint8", "int8")) != (where.half is not None):
            raise ValueError(f'"{Address(where.table, where.first)}.low" and ".high" go with uint8 and int8')

    @cached_property
    def parsed_address(self) -> Address:
        """Table, number and part of the address."""
        return parse_address(self.address)

    @property
    def kind(self) -> str:
        """The type, or its default."""
        return self.type or ("uint16" if self.parsed_address.bits > 1 else "bool")

    @property
    def data_type(self) -> DataType:
        """The type of the raw value."""
        return DATA_TYPES[self.kind]

    @property
    def time_kind(self) -> TimeKind | None:
        """See `TagSettings.time_kind`."""
        return ENCODINGS[self.kind].time_kind if self.kind in ENCODINGS else None

    @property
    def scale_tag(self) -> str:
        """See `TagSettings.scale_tag`."""
        return self.scale_from

    @property
    def address_text(self) -> str:
        """The address as it is written in the configuration."""
        return str(self.address)

    @property
    def value_bytes(self) -> int:
        """See `TagSettings.value_bytes`."""
        return super().value_bytes if self.length is None else _CHARACTER_BYTES * self.length + 3

    @property
    def count(self) -> int:
        """How many addresses the value occupies in its table."""
        if self.length is not None:
            return (self.length + 1) // 2
        if self.kind in ENCODINGS:
            return ENCODINGS[self.kind].registers
        return max(1, self.data_type.numpy.itemsize // 2)

    @property
    def last(self) -> int:
        """The last address of the value."""
        return self.parsed_address.first + self.count - 1


@dataclass(frozen=True, kw_only=True)
class ModbusScanGroup(ScanGroupSettings):
    """Tags that are read together."""

    tags: Sequence[ModbusTag] = ()
    """Tags written here."""


@dataclass(frozen=True, kw_only=True)
class ModbusLimits(Settings):
    """How gently the device is asked. Devices behind one host and port share a connection and the strictest limits."""

    registers: Annotated[int, Interval(ge=1, le=125)] = 125
    """Most registers in one request."""
    bits: Annotated[int, Interval(ge=1, le=2000)] = 2000
    """Most coils or discrete inputs in one request."""
    hole: Annotated[int, Interval(ge=0, le=124)] = 8
    """Registers that no tag needs and that may be read along to save a request; sixteen times as many for bits."""
    forbidden: Annotated[Sequence[str], Check(_parse_ranges)] = ()
    """Addresses that must never be read, not even along with others: "holding 200-210"."""
    gap: DurationNs = 0
    """Pause between an answer and the next request; on a line at least three and a half characters."""
    in_flight: Annotated[int, Interval(ge=1, le=16)] = 1
    """Requests under way at once on one connection; more than one only where the device is known to allow it."""
    connections: Annotated[int, Interval(ge=1, le=8)] = 1
    """Connections to one host and port; more than one only where several units share it."""
    timeout: Annotated[DurationNs, Interval(ge=10**6)] = 1 * 10**9
    """How long an answer may take, without the time it takes to travel along a serial line; noticed a tenth later at
    most."""
    connect_timeout: Annotated[DurationNs, Interval(ge=10**6)] = 3 * 10**9
    """How long a connection may take to open, or a device to dial in."""
    connect_delay: Annotated[DurationNs, Interval(le=20 * 10**9)] = 0
    """Pause between a connection and its first request. Some inverters need 1 s to 5 s, and do not answer otherwise."""
    retries: Annotated[int, Interval(ge=0, le=5)] = 1
    """How many times a unit that is busy, or whose answer was garbled, is asked again in a scan."""
    retry_refused: Annotated[DurationNs, Interval(ge=10**9)] = 60 * 10**9
    """Longest time until what a device refused is asked for again. The first time is a second, then it grows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gap and self.in_flight > 1:
            raise ValueError("a gap between requests and several in flight exclude each other")

    @cached_property
    def forbidden_ranges(self) -> tuple[AddressRange, ...]:
        """The forbidden addresses, parsed."""
        return _parse_ranges(self.forbidden)


def _parse_ranges(texts: Sequence[str]) -> tuple[AddressRange, ...]:
    return tuple(map(parse_range, texts))


@dataclass(frozen=True, kw_only=True)
class ModbusSerial(Settings):
    """A serial line, RS-485 or RS-232. All its units name the same settings."""

    port: Annotated[str, MinLen(1), Pattern("^/")]
    """Its device file. Those in /dev/serial/by-id stay the same when an adapter is unplugged and plugged in."""
    baud: Literal[1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600] = 19200
    """Bits per second."""
    parity: Literal["even", "odd", "none"] = "even"
    """The parity bit; even is the standard's default."""
    stop_bits: Literal[1, 2] | None = None
    """Stop bits; by default as the standard says: one, and two without a parity bit."""
    rs485: bool = False
    """Have the kernel switch the direction of an RS-485 driver by RTS; most adapters do it by themselves."""
    echo: bool = False
    """The adapter sends back what it is given, as on two-wire lines whose receiver stays on."""

    @property
    def stops(self) -> int:
        """Stop bits, or their default."""
        return self.stop_bits or (2 if self.parity == "none" else 1)

    def __str__(self) -> str:
        return f"{self.baud} baud, parity {self.parity}, {self.stops} stop bit" + ("s" if self.stops > 1 else "")


@dataclass(frozen=True, kw_only=True)
class ModbusTls(Settings):
    """Modbus/TCP Security: TLS 1.2 or newer, the device's certificate and host name always verified."""

    ca: Certificate
    """PEM file of the authorities that the device's certificate may come from."""
    certificate: Certificate | None = None
    """PEM file with the gateway's certificate, which most devices ask for."""
    key: Secret | None = None
    """Its private key."""
    crl: Certificate | None = None
    """PEM file with revocation lists, one of each authority above the device's certificate; read at each connection."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key come together, or not at all")


@dataclass(frozen=True, kw_only=True)
class ModbusListen(Settings):
    """Where we wait for a device that connects to us, as many do behind a cellular modem."""

    address: Annotated[str, Check(ip_address)]
    """Address of the gateway that the device connects to; 0.0.0.0 for every network of this machine."""
    port: Annotated[int, Interval(ge=1, le=65535)]
    """TCP port of the gateway. Several devices may dial in there; their addresses tell them apart."""
    peers: Annotated[Sequence[str], MinLen(1), Check(_check_addresses)]
    """Addresses that the device may come from; a connection from any other is closed at once, and reported."""


def _check_addresses(texts: Sequence[str]) -> None:
    for text in texts:
        ip_address(text)


@dataclass(frozen=True, kw_only=True)
class ModbusDevice(DeviceSettings):
    """A device, or one unit of a line or behind a gateway, that speaks Modbus: at a `host`, on a `serial` line, or one
    that dials in (`listen`)."""

    driver: Literal["modbus"]
    """Modbus over TCP, TLS or a serial line."""
    host: Host | None = None
    """Address or name of the device, or of the converter in front of its serial line."""
    port: Annotated[int, Interval(ge=1, le=65535)] | None = None
    """TCP port; 502 by default, 802 with tls."""
    tls: ModbusTls | None = None
    """Talk to the host by Modbus/TCP Security."""
    serial: ModbusSerial | None = None
    """The serial line that the device is on, instead of a host."""
    listen: ModbusListen | None = None
    """Where the device dials in, instead of a host."""
    framing: FramingName | None = None
    """How requests are framed: tcp with transaction ids, rtu or ascii as on a serial line.

    By default tcp, and rtu on a serial line.
    """
    tolerate: Sequence[Literal["transaction", "unit", "length"]] = ()
    """What is accepted although it is wrong in the header of the device's answers.

    Then one request is sent at a time, and each timeout ends the connection, because a late answer could be taken for
    the next one.
    """
    unit: Annotated[int, Interval(ge=0, le=255)] = 1
    """Unit identifier; several units may share one host and port, or one line."""
    word_order: Order = "big"
    """Which register of several comes first, for tags without `word_order`."""
    byte_order: Order = "big"
    """Which byte of a register comes first, for tags without `byte_order`."""
    invalid: Literal["sunspec", "none"] = "none"
    """Whether SunSpec's values for "not available" are BAD, for tags without `invalid`."""
    limits: ModbusLimits = ModbusLimits()
    """How gently the device is asked."""
    scan_groups: Annotated[Sequence[ModbusScanGroup], MinLen(1)]
    """What is read together, and how often."""

    def __post_init__(self) -> None:
        super().__post_init__()
        ways = [way for way in ("host", "serial", "listen") if getattr(self, way) is not None]
        if len(ways) != 1:
            got = f"got {' and '.join(ways)}" if ways else "got none of them"
            raise ValueError(f"a device is at a host, on a serial line, or dials in (listen): one of them, {got}")
        if self.host is None and self.port is not None:
            raise ValueError("port goes with host; the port of a serial line or of listen is written in there")
        if self.tls is not None and (self.host is None or self.effective_framing != "tcp"):
            raise ValueError("tls goes with a host, and with framing tcp")
        if self.serial is not None and self.effective_framing == "tcp":
            raise ValueError("framing tcp does not go over a serial line: it is rtu or ascii there")
        if self.effective_framing != "tcp":
            self._check_line()
        if self.effective_framing != "tcp" or self.tolerate:
            self._check_one_request()
        if self.listen is not None and self.limits.connections > 1:
            raise ValueError("a device that dials in has one connection: limits.connections is 1 with listen")
        if self.listen is not None and self.limits.in_flight > 1:
            raise ValueError(
                "what a modem sends between answers looks like the end of one that was cut short, if several are "
                "under way: limits.in_flight is 1 with listen"
            )

    def _check_line(self) -> None:
        if not 1 <= self.unit <= _LINE_UNIT_LAST:
            raise ValueError(
                f"unit {self.unit} cannot be asked with framing {self.effective_framing}: units of a line are 1 to "
                f"{_LINE_UNIT_LAST}, and to 0 (everybody) nobody answers"
            )
        if self.tolerate:
            raise ValueError(
                f"tolerate is about the header of Modbus TCP, which framing {self.effective_framing} has not"
            )

    def _check_one_request(self) -> None:
        if self.limits.in_flight > 1 or self.limits.connections > 1:
            what = "tolerate relies on" if self.tolerate else f"framing {self.effective_framing} has"
            raise ValueError(f"{what} no transaction ids: limits.in_flight and limits.connections are 1 with it")

    @property
    def effective_framing(self) -> FramingName:
        """The framing, or its default."""
        return self.framing or ("rtu" if self.serial is not None else "tcp")

    @property
    def tcp_port(self) -> int:
        """The TCP port of the host, or its default."""
        return self.port or (_TLS_PORT if self.tls is not None else _PORT)

    @property
    def place(self) -> str:
        """See `DeviceSettings.place`."""
        if self.listen is not None:
            return ""
        return f"unit {self.unit} at " + (self.serial.port if self.serial else f"{self.host}:{self.tcp_port}")

    @property
    def reached_at(self) -> Hashable:
        """See `DeviceSettings.reached_at`."""
        return self.endpoint if self.host is None else machine_at(self.host, self.tcp_port)

    @property
    def endpoint(self) -> Hashable:
        """Identifies the connection: devices with an equal endpoint share it."""
        if self.serial is not None:
            return "serial", self.serial.port
        if self.listen is not None:
            return "listen", self.listen.address, self.listen.port, frozenset(self.listen.peers)
        return "host", self.host, self.tcp_port

    def differs_from(self, other: ModbusDevice) -> str:
        """What keeps a device from sharing its endpoint with another; empty where it can."""
        if self.serial != other.serial:
            return f"{self.serial} and {other.serial}"
        if self.effective_framing != other.effective_framing:
            return f"framing {self.effective_framing} and {other.effective_framing}"
        if set(self.tolerate) != set(other.tolerate):
            return f"tolerate {list(self.tolerate)} and {list(other.tolerate)}"
        if {"transaction", "unit"} <= set(self.tolerate) and self.unit != other.unit:
            return f"unit {self.unit} and {other.unit}, whose answers nothing would tell apart with tolerate"
        return "tls" if self.tls != other.tls else ""

    @property
    def tolerated(self) -> Sequence[str]:
        """See `DeviceSettings.tolerated`."""
        return self.tolerate


def invalid_values(kind: str, invalid: Invalid) -> tuple[float, ...]:
    """The values of a type that mean that there is none. Raises ValueError where a number is none of the type."""
    dtype = DATA_TYPES[kind].numpy
    if invalid == "none" or (dtype.kind not in "iuf" and invalid == "sunspec"):
        return ()
    if dtype.kind not in "iuf":
        raise ValueError(f"invalid is a list of numbers, which a {kind} is not")
    if dtype.kind == "f":
        return (math.nan,) if invalid == "sunspec" else tuple(float(number) for number in invalid)
    limits = np.iinfo(dtype)
    low, high, patterns = int(limits.min), int(limits.max), 1 << limits.bits
    if invalid == "sunspec":
        return () if kind in ENCODINGS else (low or high,)
    # A pattern such as 0x8000 is the negative number that it stands for in a signed type.
    numbers = [number - patterns if high < number < patterns and low else number for number in invalid]
    if wrong := [number for number in numbers if number != int(number) or not low <= number <= high]:
        raise ValueError(f"invalid: {wrong[0]} is no value of the type {kind}")
    return tuple(numbers)


def check_scale(tag: ModbusTag, scale: ModbusTag | None) -> None:
    """Raise ValueError where a tag cannot have its `scale_from`; None is one that is not in the scan group."""
    if scale is None:
        raise ValueError(f"scale_from names {tag.scale_from!r}, which is no tag of this scan group")
    if (
        scale.kind not in ("int16", "uint16")
        or scale.scale_from
        or scale.parsed_address.table is not (tag.parsed_address.table)
    ):
        raise ValueError(f"scale_from names {tag.scale_from!r}, which is no int16 in the same table")


def check_limits(tags: Sequence[ModbusTag], limits: ModbusLimits) -> None:
    """Raise ValueError where a tag, or a tag and its scale, cannot be read at once within a device's limits."""
    table, address = tags[0].parsed_address.table, tags[0].address
    first, last = min(tag.parsed_address.first for tag in tags), max(tag.last for tag in tags)
    what = f"{address!r} and what shares its scale" if len(tags) > 1 else repr(address)
    if not table.is_bits and (count := last - first + 1) > limits.registers:
        raise ValueError(f"{what} takes {count} registers, the limit is {limits.registers}")
    for forbidden in limits.forbidden_ranges:
        if forbidden.touches(table, first, last):
            raise ValueError(f"{what} lies in the forbidden range {forbidden}")
