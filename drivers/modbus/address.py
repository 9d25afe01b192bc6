"""Addresses as engineers write them; the notation says whether counting starts at zero or one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Literal, cast

LAST_ADDRESS = 65535


class Table(Enum):
    """The four tables of a device: name, function code that reads it, prefix of one-based addresses."""

    COIL = ("coil", 1, "0")
    DISCRETE = ("discrete", 2, "1")
    HOLDING = ("holding", 3, "4")
    INPUT = ("input", 4, "3")

    def __init__(self, label: str, function: int, prefix: str) -> None:
        self.label = label
        self.function = function
        self.prefix = prefix

    @property
    def is_bits(self) -> bool:
        """Whether an address of this table is one bit; otherwise it is a register of 16."""
        return self in (Table.COIL, Table.DISCRETE)


Half = Literal["high", "low"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a value begins, counted from zero as on the wire.

    `bit` or `half` name a part of one register: `bits` bits from `bit` on, of which 0 is the least significant.
    """

    table: Table
    first: int
    bit: int | None = None
    half: Half | None = None
    bits: int = 1

    def __str__(self) -> str:
        part = f".{self.bit}" if self.bit is not None else f".{self.half}" if self.half else ""
        if self.bit is not None and self.bits > 1:
            part += f"-{self.bit + self.bits - 1}"
        return f"{self.table.label} {self.first}{part}"


@dataclass(frozen=True, slots=True)
class AddressRange:
    """Neighbouring addresses of one table, `last` included."""

    table: Table
    first: int
    last: int

    def touches(self, table: Table, first: int, last: int) -> bool:
        """Whether any address of `first` to `last` lies in this range."""
        return self.table is table and first <= self.last and self.first <= last

    def __str__(self) -> str:
        return f"{self.table.label} {self.first}" + (f"-{self.last}" if self.last > self.first else "")


_LABELS = {table.label: table for table in Table}
_PREFIXES = {table.prefix: table for table in Table}
_NUMBER = r"(?P<number>0[xX][0-9a-fA-F]+|\d+)"
_PART = r"(?:\.(?P<part>\d+(?:-\d+)?|high|low))?"
_ZERO_BASED = re.compile(rf"(?P<table>[a-zA-Z]+)\s+{_NUMBER}{_PART}")
_ONE_BASED = re.compile(rf"(?P<table>[0134])x(?P<number>\d{{5,6}}){_PART}")
_SIX_DIGITS = re.compile(rf"(?P<table>[134])(?P<number>\d{{5}}){_PART}")  # Beyond the last address: counted from one.
_BARE = re.compile(r"(?P<digits>\d+)(?:\.\w+)?")
_RANGE = re.compile(
    r"(?P<table>[a-zA-Z]+)\s+(?P<first>0[xX][0-9a-fA-F]+|\d+)(?:\s*-\s*(?P<last>0[xX][0-9a-fA-F]+|\d+))?"
)

_EXAMPLES = '"holding 100" (counted from zero) or "4x00101" (counted from one)'


def parse_address(written: str | int) -> Address:
    """The address as it is written, also as a bare number; ValueError says what to write instead."""
    text = str(written).strip()
    if match := _ONE_BASED.fullmatch(text) or _SIX_DIGITS.fullmatch(text):
        table, first = _PREFIXES[match["table"]], int(match["number"]) - 1
        if not 0 <= first <= LAST_ADDRESS:
            raise ValueError(f"{text!r} counts from one, up to {table.prefix}x{LAST_ADDRESS + 1:05}")
    elif match := _ZERO_BASED.fullmatch(text):
        table, first = _table(match["table"], text), _number(match["number"], text)
    else:
        raise ValueError(_why_not(text))
    return _with_part(Address(table, first), match["part"], text)


def parse_range(text: str) -> AddressRange:
    """The range in `text`, such as "holding 200-210"; ValueError says what to write instead."""
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'{text!r} is not a range of addresses; write it as "holding 200-210", counted from zero')
    table, first = _table(match["table"], text), _number(match["first"], text)
    last = _number(match["last"], text) if match["last"] else first
    if last < first:
        raise ValueError(f"{text!r} ends before it begins")
    return AddressRange(table, first, last)


def _table(label: str, text: str) -> Table:
    if label.lower() not in _LABELS:
        raise ValueError(f"{text!r} names no table of a Modbus device; they are {', '.join(_LABELS)}")
    return _LABELS[label.lower()]


def _number(digits: str, text: str) -> int:
    number = int(digits, 16 if digits[:2] in ("0x", "0X") else 10)
    if number > LAST_ADDRESS:
        raise ValueError(f"{text!r} is beyond the last address, {LAST_ADDRESS}")
    return number


def _with_part(address: Address, part: str | None, text: str) -> Address:
    if part is None:
        return address
    if address.table.is_bits:
        raise ValueError(f"{text!r}: a {address.table.label} is one bit and has no parts")
    if part in ("high", "low"):
        return Address(address.table, address.first, half=cast("Half", part))
    first, _, last = part.partition("-")
    low, high = sorted((int(first), int(last or first)))
    if high > 15:
        raise ValueError(f"{text!r}: a register has the bits 0 (least significant) to 15")
    return Address(address.table, address.first, bit=low, bits=high - low + 1)


def _why_not(text: str) -> str:
    match = _BARE.fullmatch(text)
    if match is None:
        return f"{text!r} is not a Modbus address; write {_EXAMPLES}"
    digits = match["digits"]
    table = _PREFIXES.get(digits[0])
    one_based = int(digits[1:] or "0")
    if table is None or len(digits) not in (5, 6) or not 1 <= one_based <= LAST_ADDRESS + 1:
        return f"{text!r} does not say which table is meant; write {_EXAMPLES}"
    readings = [f'"{table.prefix}x{one_based:05}" ({table.label} {one_based - 1}, counted from zero)']
    if int(digits) <= LAST_ADDRESS:
        readings.append(f'"{table.label} {int(digits)}"')
    return f"{text!r} can be read in more than one way; write {' or '.join(readings)}"
