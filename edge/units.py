"""Durations, sizes and percentages with their units, and names of hosts, for settings and output."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from ipaddress import IPv6Address, ip_address
from typing import Annotated, Any

from edge.settings import Check, Len, Parse

_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9,
       "d": 86400 * 10**9}  # fmt: skip
_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
          "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}  # fmt: skip
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-zµ]+)\s*")

UCUM = {
    "°C": "Cel", "degC": "Cel", "deg C": "Cel", "DegC": "Cel", "°F": "[degF]", "degF": "[degF]", "deg F": "[degF]",
    "Ω": "Ohm", "ohm": "Ohm", "ohms": "Ohm", "rpm": "/min", "RPM": "/min", "1/min": "/min", "U/min": "/min",
    "kWh": "kW.h", "Wh": "W.h", "MWh": "MW.h", "VA": "V.A", "kVA": "kV.A",
    "m³": "m3", "m^3": "m3", "m³/h": "m3/h", "m^3/h": "m3/h", "m²": "m2", "m^2": "m2", "m/s²": "m/s2",
    "µS/cm": "uS/cm", "μS/cm": "uS/cm", "µm": "um", "μm": "um", "µA": "uA", "μA": "uA", "psi": "[psi]", "PSI": "[psi]",
    "sec": "s", "in": "[in_i]", "ft": "[ft_i]", "lb": "[lb_av]",
    "hrs": "h", "N·m": "N.m", "Nm": "N.m", "percent": "%", "pct": "%", "‰": "[ppth]", "ppm": "[ppm]",
    "pH": "[pH]",
}  # fmt: skip
"""UCUM codes of units as they are often written."""

_HOST = re.compile(r"[\w.:%-]+")
PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


def _parse(value: object, units: dict[str, int], example: str) -> int:
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        if value == 0 and not isinstance(value, bool):
            return 0
        raise ValueError(f'needs a number with a unit, such as "{example}", got {value!r}')
    number, unit = match.groups()
    if unit not in units:
        raise ValueError(f"unknown unit {unit!r} in {value!r}; known are {', '.join(units)}")
    return round(float(number) * units[unit])


def parse_duration_ns(value: object) -> int:
    """Nanoseconds of a duration such as "100 ms"; 0 needs no unit."""
    return _parse(value, _NS, "100 ms")


def parse_size_bytes(value: object) -> int:
    """Bytes of a size such as "20 GB"; 0 needs no unit."""
    return _parse(value, _BYTES, "20 GB")


def parse_date(text: str) -> date | None:
    """The day in a text such as "2026-03-31"; None for an empty one."""
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise ValueError(f"{text!r} is no day; write year, month and day, such as 2026-03-31") from None


def parse_share(value: object) -> float:
    """Fraction of a share such as "50 %"."""
    match = PERCENT.fullmatch(value) if isinstance(value, str) else None
    if match is None or not 0 < float(match[1]) <= 100:
        raise ValueError(f'needs a share above 0 and up to 100, such as "50 %", got {value!r}')
    return float(match[1]) / 100


def _schema(units: dict[str, int], example: str) -> dict[str, Any]:
    pattern = rf"^\s*\d+(\.\d+)?\s*({'|'.join(units)})\s*$"
    text = {"type": "string", "pattern": pattern, "examples": [example]}
    return {"anyOf": [text, {"const": 0}]}


DurationNs = Annotated[int, Parse(parse_duration_ns, _schema(_NS, "100 ms"))]
"""A duration in nanoseconds, written with its unit."""

SizeBytes = Annotated[int, Parse(parse_size_bytes, _schema(_BYTES, "20 GB"))]
"""A size in bytes, written with its unit."""

Share = Annotated[float, Parse(parse_share, {"type": "string", "pattern": PERCENT.pattern, "examples": ["50 %"]})]
"""A fraction, written in percent."""


def check_host(host: str) -> str:
    """The name or address of a host. Raises ValueError for a text that is neither."""
    try:
        if ":" in host:
            IPv6Address(host)
        is_valid = _HOST.fullmatch(host) is not None and bool(host.encode("idna"))
    except ValueError:  # Also UnicodeError: a label of a name has 1 to 63 characters.
        is_valid = False
    if not is_valid:
        raise ValueError(f"{host!r} is not the name or address of a host; write it alone: no port, brackets or slashes")
    return host


def server_address(text: str) -> tuple[str, int]:
    """Host and port of a server, of a text such as kafka-1:9093 or [::1]:9093. Raises ValueError for another one."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f"must be a host and a port, such as kafka-1:9093, got {text!r}")
    return check_host(host.removeprefix("[").removesuffix("]")), int(port)


Host = Annotated[str, Len(1, 253), Check(check_host)]
"""The name of a host, or its address."""


def listening_address(text: str) -> tuple[str, int]:
    """Address and port to listen on, of a text such as 127.0.0.1:9464 or [::1]:9464; port 0 stands for a free one.

    Raises:
        ValueError: it is no such text; a name is none, because it may stand for an address of another machine.
    """
    host, _, port = text.rpartition(":")
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        address = None
    if address is None or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"must be an address and a port, such as 127.0.0.1:9464, got {text!r}")
    return str(address), int(port)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by a loopback address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def machine_at(host: str, port: int) -> str:
    """The host, for `DeviceSettings.reached_at`; on this machine, the port too.

    What answers at a loopback address is a tunnel, a proxy or a simulator: each port of it is a device of its own.
    """
    return f"{host}:{port}" if is_loopback(host) else host.lower()


def format_duration(duration_ns: int) -> str:
    """A duration with its unit, for output."""
    for unit in ("d", "h", "min", "s", "ms", "us"):
        if duration_ns >= 1000 * _NS[unit]:
            return f"{duration_ns / _NS[unit]:,.0f} {unit}"
        if duration_ns >= _NS[unit]:
            return f"{duration_ns / _NS[unit]:.3g} {unit}"
    return f"{duration_ns} ns"


def format_utc(utc_ns: int, *, decimals: int = 0) -> str:
    """UTC as RFC 3339, for output: with no decimals of a second, with 3 or with 6; what no calendar has, in ns."""
    seconds, rest_ns = divmod(utc_ns, 10**9)
    try:
        time = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // 1000, tzinfo=None)
    except (ValueError, OverflowError, OSError):
        return f"{utc_ns} ns"
    return time.isoformat(timespec={0: "seconds", 3: "milliseconds", 6: "microseconds"}[decimals]) + "Z"


def counted(number: int, what: str) -> str:
    """A number of things: "1 record", "39 records"."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def format_value(value: bool | int | float | str | None) -> str:
    """A value as text for output; a dash for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def format_size(size_bytes: int) -> str:
    """A size with its unit, for output."""
    for unit in ("TB", "GB", "MB", "kB"):
        if size_bytes >= _BYTES[unit]:
            return f"{size_bytes / _BYTES[unit]:.3g} {unit}"
    return f"{size_bytes} B"
