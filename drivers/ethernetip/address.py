"""Addresses as engineers write them: tag names, CIP attributes, and the route to the device."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

INDICES_MAX = 3
NAME_MAX = 40
_INDEX_MAX = 2**31 - 1
_PROGRAM = "Program:"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?::[A-Za-z0-9_]+){0,3}")
_PART = re.compile(r"(?P<name>[^\[\].]*)(?:\[(?P<indices>[^\]]*)\])?")
_SLICE = re.compile(r"(?P<head>.*\[(?:[\d\s]+,)*)\s*(?P<first>\d+)\s*\.\.\s*(?P<last>\d+)\s*(?P<tail>[\],].*)")
_BITS = re.compile(r"(?P<head>.*\.)(?P<first>\d+)\s*\.\.\s*(?P<last>\d+)(?P<tail>)")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+")
_ATTRIBUTE = re.compile(
    rf"cip\s+(?P<numbers>[\w/]+)(?:\s*\+\s*(?P<offset>{_NUMBER.pattern}))?"
    r"\s*(?:\[\s*(?P<index>[0-9]+)\s*\]|\.(?P<bit>[0-9]+))?"
)

_DATA_TABLE = re.compile(
    r"(?:(?:[ABCDFLNRT]|ST|MG|PD|PLS)\d{1,3}(?::\d+|(?=/\d))|[IOS]\d{0,3}:\d+)(?:[./].*)?", re.IGNORECASE
)
"""Files and elements of older controllers: N7:0, T4:0.ACC, B3/5, I:1/0. No tag of Logix is named so."""


@dataclass(frozen=True, slots=True)
class Part:
    """One name in an address, with the indices of an element."""

    name: str
    indices: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.name + (f"[{','.join(map(str, self.indices))}]" if self.indices else "")


@dataclass(frozen=True, slots=True)
class TagAddress:
    """A tag, an element, a member or a bit of one."""

    parts: tuple[Part, ...]
    bit: int | None = None

    def __str__(self) -> str:
        return ".".join(map(str, self.parts)) + (f".{self.bit}" if self.bit is not None else "")

    @property
    def indices(self) -> tuple[int, ...]:
        """Indices of the last name."""
        return self.parts[-1].indices

    def with_index(self, index: int) -> TagAddress:
        """The address of another element of the same array."""
        return TagAddress((*self.parts[:-1], replace(self.parts[-1], indices=(index,))))


@dataclass(frozen=True, slots=True)
class AttributeAddress:
    """An attribute of a CIP object; or one value in it, an element or a bit counted from a byte of it."""

    class_id: int
    instance: int
    attribute: int
    offset: int | None = None
    index: int | None = None
    bit: int | None = None

    def __str__(self) -> str:
        return (
            f"cip {self.class_id}/{self.instance}/{self.attribute}"
            + (f" +{self.offset}" if self.offset is not None else "")
            + (f"[{self.index}]" if self.index is not None else "")
            + (f".{self.bit}" if self.bit is not None else "")
        )

    @property
    def whole(self) -> AttributeAddress:
        """The attribute that it is in."""
        return AttributeAddress(self.class_id, self.instance, self.attribute)


Address = TagAddress | AttributeAddress

_BIT_MAX = 63
_ATTRIBUTE_BYTES_MAX = 0xFFFF
_EXAMPLES = '"Temperature", "Motor[3].Speed", "Program:Main.Level" or "Word.5", or "cip 1/1/7" for an attribute'


def parse_address(text: str) -> Address:
    """The address in `text`, or ValueError with a sentence that says what to write."""
    text = text.strip()
    if text == "cip" or text.startswith(("cip ", "cip\t")):
        return _attribute(text)
    if not text:
        raise ValueError(f"an address is missing; write {_EXAMPLES}")
    if _DATA_TABLE.fullmatch(text):
        raise ValueError(
            f"{text!r} is an address of an SLC, MicroLogix or PLC-5, which Tidegate does not speak; a Logix controller "
            'that replaced one has arrays instead, such as "N7[0]" or "T4[0].ACC"'
        )
    names = _split(text)
    bit = int(names.pop()) if len(names) > 1 and names[-1].isascii() and names[-1].isdecimal() else None
    if bit is not None and bit > _BIT_MAX:
        raise ValueError(f"{text!r}: an integer has the bits 0 (least significant) to {_BIT_MAX} at most")
    return TagAddress(tuple(_part(name, text) for name in names), bit)


def expand(text: str) -> dict[str, str]:
    """The addresses of a slice such as "Level[0..9]" or "Word.0..7", by "[0]" and so on; of a single address, by ""."""
    match = _SLICE.fullmatch(text) or _BITS.fullmatch(text)
    if match is None:
        return {"": text}
    first, last = int(match["first"]), int(match["last"])
    if last < first:
        raise ValueError(f"{text!r} ends before it begins")
    if last - first >= 65_535:
        raise ValueError(f"{text!r} has {last - first + 1} elements; a scan group holds up to 65535 tags")
    return {f"[{index}]": f"{match['head']}{index}{match['tail']}" for index in range(first, last + 1)}


def _split(text: str) -> list[str]:
    """The names between dots; a program and its tag are two."""
    if text.count("[") != text.count("]"):
        raise ValueError(f'{text!r}: an index is not closed; write it as "Level[3]" or "Level[1,2]"')
    if re.search(r"\d\s*\.\.", text):
        raise ValueError(f'{text!r}: a slice is one range of indices or bits, as in "Level[0..9]" or "Word.0..7"')
    names = text.split(".")
    if any(not name for name in names):
        raise ValueError(f"{text!r} has a dot with no name beside it; write {_EXAMPLES}")
    if names[0].lower().startswith(_PROGRAM.lower()) and len(names) == 1:
        raise ValueError(f'{text!r} names a program and no tag in it; write "{text}.Level"')
    return names


def _part(name: str, text: str) -> Part:
    match = _PART.fullmatch(name)
    if match is None or not _NAME.fullmatch(match["name"]):
        raise ValueError(f"{text!r}: {name!r} is not the name of a tag or member; write {_EXAMPLES}")
    if max(map(len, match["name"].split(":"))) > NAME_MAX:
        raise ValueError(f"{text!r}: a name has up to {NAME_MAX} characters, {name!r} has more")
    return Part(match["name"], tuple(_indices(match["indices"], text)) if match["indices"] is not None else ())


def _indices(written: str, text: str) -> Iterator[int]:
    digits = [index.strip() for index in written.split(",")]
    if not all(index.isdecimal() and index.isascii() for index in digits):
        raise ValueError(f'{text!r}: an index is a number from 0 on, as in "Level[3]" or "Level[1,2]"')
    if len(digits) > INDICES_MAX:
        raise ValueError(f"{text!r}: an array has up to {INDICES_MAX} dimensions, not {len(digits)}")
    for index in map(int, digits):
        if index > _INDEX_MAX:
            raise ValueError(f"{text!r}: the index {index} is too large")
        yield index


def _attribute(text: str) -> AttributeAddress:
    match = _ATTRIBUTE.fullmatch(text)
    numbers = match["numbers"].split("/") if match else []
    if match is None or len(numbers) != 3 or not all(_NUMBER.fullmatch(number) for number in numbers):
        raise ValueError(
            f'{text!r} is not an attribute; write class, instance and attribute, as in "cip 1/1/7" or "cip 0x2A/1/8", '
            'and of a longer one the byte, element or bit: "cip 4/100/3 +8", "cip 4/100/3[2]", "cip 4/100/3 +8.5"'
        )
    class_id, instance, attribute = map(_number, numbers)
    if max(class_id, instance, attribute) > 0xFFFF:
        raise ValueError(f"{text!r}: class, instance and attribute go up to 65535")
    offset, index, bit = (_number(match[name]) if match[name] else None for name in ("offset", "index", "bit"))
    if max(offset or 0, index or 0) > _ATTRIBUTE_BYTES_MAX or (bit or 0) > _BIT_MAX:
        raise ValueError(
            f"{text!r}: bytes and elements go up to {_ATTRIBUTE_BYTES_MAX}, bits from there on up to {_BIT_MAX}"
        )
    return AttributeAddress(class_id, instance, attribute, offset, index, bit)


def _number(text: str) -> int:
    return int(text, 16 if text[:2] in ("0x", "0X") else 10)


Route = tuple[tuple[int, int | str], ...]
_PORT_MAX = 14
_LINK_MAX = 255


def parse_route(text: str) -> Route:
    """Ports and links of a route such as "1,4,2,192.168.1.5,1,0", or ValueError."""
    steps = [step.strip() for step in text.split(",")]
    if len(steps) % 2 or not all(steps):
        raise ValueError(f'{text!r} is not a route; write port and link in turn, as in "1,0" for slot 0')
    return tuple((_port(port, text), _link(link, text)) for port, link in zip(steps[::2], steps[1::2], strict=True))


def _port(port: str, text: str) -> int:
    if not port.isdecimal() or not 1 <= int(port) <= _PORT_MAX:
        raise ValueError(f"{text!r}: {port!r} is not a port; 1 is the backplane, 2 the network of most modules")
    return int(port)


def _link(link: str, text: str) -> int | str:
    if link.isdecimal():
        if int(link) > _LINK_MAX:
            raise ValueError(f"{text!r}: a slot or node goes up to {_LINK_MAX}, not {link}")
        return int(link)
    if not link.isascii() or len(link) > 64 or " " in link:
        raise ValueError(f"{text!r}: {link!r} is neither a slot nor an address")
    return link
