"""The symbol table of a controller: its tags, and how its structures are laid out (1756-PM020, Symbol and Template)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from drivers.ethernetip.cip import BOOL, BOOLS_IN_ELEMENT, BY_CODE, DWORD, STRUCTURE, printable, type_name
from edge.errors import ProtocolViolation

SYMBOLS_MAX = 30_000
MEMBERS_MAX = 4096
TEMPLATE_BYTES_MAX = 1 << 16
ALL_MEMBERS_MAX = 20_000
STRUCTURE_BYTES_MAX = 1 << 20
DEPTH_MAX = 16

_STRUCTURE_BIT, _SYSTEM_BIT, _DIMENSIONS_SHIFT = 0x8000, 0x1000, 13
_TEMPLATE_MASK, _CODE_MASK = 0x0FFF, 0x00FF
_SYMBOL_END = struct.Struct("<H3I")
_MEMBER = struct.Struct("<HHI")
_HIDDEN = ("ZZZZZZZZZZ", "__")
_USER_DEFINED = range(0x100, 0xF00)


@dataclass(frozen=True, slots=True)
class SymbolType:
    """The type of a symbol or member: elementary by its code or structure by its template, and array dimensions."""

    code: int
    template: int = 0
    dimensions: tuple[int, ...] = ()

    @classmethod
    def of(cls, word: int, dimensions: tuple[int, ...]) -> SymbolType:
        """The type that a symbol type word stands for."""
        if word & _STRUCTURE_BIT:
            return cls(STRUCTURE, word & _TEMPLATE_MASK, dimensions)
        return cls(word & _CODE_MASK, 0, dimensions)

    @property
    def is_structure(self) -> bool:
        """Whether it has members."""
        return self.code == STRUCTURE

    @property
    def is_bool_array(self) -> bool:
        """Whether it is an array of BOOL: the controller keeps 32 of them in an element."""
        return self.code == DWORD.code and len(self.dimensions) == 1

    @property
    def counts(self) -> tuple[int, ...]:
        """Elements in each dimension, as an engineer counts them."""
        return (BOOLS_IN_ELEMENT * self.dimensions[0],) if self.is_bool_array else self.dimensions

    @property
    def element(self) -> SymbolType:
        """The type of one element."""
        return SymbolType(BOOL.code) if self.is_bool_array else SymbolType(self.code, self.template)


@dataclass(frozen=True, slots=True)
class Symbol:
    """One tag of a controller or of a program; or a program itself."""

    name: str
    instance: int
    kind: SymbolType
    is_system: bool

    @property
    def is_program(self) -> bool:
        """Whether it is a program, with tags of its own."""
        return self.name.startswith("Program:")

    @property
    def is_tag(self) -> bool:
        """Whether it holds data, and not something of the system's."""
        name = self.name
        if self.is_system or name.startswith("__") or "Map:" in name or "Cxn:" in name:
            return False
        return ":" not in name or any(part in name for part in (":I", ":O", ":C", ":S"))


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a structure; `bit` is counted from the byte at `offset`."""

    name: str
    kind: SymbolType
    offset: int
    bit: int | None = None

    @property
    def is_hidden(self) -> bool:
        """Whether it is padding that only holds the bits of BOOL members."""
        return self.name.startswith(_HIDDEN) or not self.name


@dataclass(frozen=True, slots=True)
class Template:
    """The layout of a structure."""

    name: str
    handle: int
    size: int
    members: dict[str, Member]

    @property
    def is_user_defined(self) -> bool:
        """Whether its names show that it is neither Add-On-Defined nor Module-Defined."""
        names = self.name, next((member.name for member in self.members.values()), "")
        return not any(name.startswith("__") or ":" in name for name in names)

    @property
    def characters(self) -> int | None:
        """Most characters of a string type; None of any other structure."""
        shown = [member for member in self.members.values() if not member.is_hidden]
        if [member.name for member in shown] != ["LEN", "DATA"] or not shown[1].kind.dimensions:
            return None
        return shown[1].kind.dimensions[0]


@dataclass(slots=True)
class SymbolTable:
    """The tags and structures of a controller, kept through reconnects while its change counters stay the same.

    Attributes:
        counters: change counters of the program; None where the controller has none, or during a download.
        symbols: tags by their name in lower case, those of a program with its name in front.
        templates: by their number.
        requested: names in lower case that were looked for, found or not.
        undescribed: numbers of structures without a template, and why.
    """

    counters: bytes | None = None
    symbols: dict[str, Symbol] = field(default_factory=dict)
    templates: dict[int, Template] = field(default_factory=dict)
    requested: set[str] = field(default_factory=set)
    undescribed: dict[int, str] = field(default_factory=dict)

    def clear(self) -> None:
        """Forget all of it: the program changed."""
        self.symbols.clear()
        self.templates.clear()
        self.requested.clear()
        self.undescribed.clear()

    def is_user_defined(self, number: int) -> bool:
        """Whether a structure may be read as a whole: it and all nested ones are user-defined, or strings.

        In others, members are not always where their templates say (1756-PM020, Eliminate tags by applying rules).
        """
        stack, seen = [number], set[int]()
        while stack:
            number = stack.pop()
            template = self.templates.get(number)
            if template is None:
                return False
            if number in seen or template.characters is not None:
                continue
            if number not in _USER_DEFINED or not template.is_user_defined:
                return False
            seen.add(number)
            stack += [member.kind.template for member in template.members.values() if member.kind.is_structure]
        return True

    def type_text(self, kind: SymbolType) -> str:
        """A type for people, such as DINT[10] or Motor."""
        template = self.templates.get(kind.template) if kind.is_structure else None
        name = template.name if template else type_name(kind.element.code)
        return name + (f"[{','.join(map(str, kind.counts))}]" if kind.counts else "")


def parse_symbols(data: bytes, after: int) -> Iterator[Symbol]:
    """Symbols of one answer to Get_Instance_Attribute_List of name, type and dimensions.

    Raises:
        ProtocolViolation: they are malformed or lack an attribute, or not in ascending order from `after` on.
    """
    try:
        yield from _symbols(data, after)
    except ProtocolViolation:
        for attributes, size in (("name and type", 2), ("name", 0)):
            if _are_rows(data, size):
                raise ProtocolViolation(
                    "attributes in the list of tags", "name, type and dimensions", f"{attributes} only", data[:64]
                ) from None
        raise


def _are_rows(data: bytes, size: int) -> bool:
    """Whether these are whole symbols with this many bytes after their name."""
    at = 0
    while at + 6 <= len(data):
        at += 6 + int.from_bytes(data[at + 4 : at + 6], "little") + size
    return at == len(data)


def _symbols(data: bytes, after: int) -> Iterator[Symbol]:
    at = 0
    while at < len(data):
        if len(data) - at < 6:
            raise ProtocolViolation("symbol", "at least 6 bytes", len(data) - at, data[at:])
        instance, length = struct.unpack_from("<IH", data, at)
        end = at + 6 + length + _SYMBOL_END.size
        if end > len(data):
            raise ProtocolViolation("symbol", f"{end - at} bytes", len(data) - at, data[at:][:64])
        if instance < after:
            raise ProtocolViolation("instance of a symbol", f"from {after} on", instance, data[at:][:64])
        word, *sizes = _SYMBOL_END.unpack_from(data, at + 6 + length)
        dimensions = tuple(sizes[: min(word >> _DIMENSIONS_SHIFT & 3, 3)])
        name = printable(data[at + 6 : at + 6 + length])
        yield Symbol(name, instance, SymbolType.of(word, dimensions), bool(word & _SYSTEM_BIT))
        at, after = end, instance + 1


@dataclass(frozen=True, slots=True)
class TemplateAttributes:
    """The attributes of a template that are needed to read its definition."""

    handle: int
    members: int
    words: int
    size: int

    @property
    def definition_bytes(self) -> int:
        """Bytes of the definition to read (1756-PM020, Analysis - Client app)."""
        return 4 * self.words - 23


_ATTRIBUTES = struct.Struct("<HHHIHHIHHHHHH")
TEMPLATE_ATTRIBUTES = (4, 5, 2, 1)


def parse_template_attributes(data: bytes) -> TemplateAttributes:
    """An answer to Get_Attribute_List of `TEMPLATE_ATTRIBUTES`.

    Raises:
        ProtocolViolation: it is malformed, or of a structure beyond our limits.
    """
    if len(data) != _ATTRIBUTES.size:
        raise ProtocolViolation("attributes of a template", f"{_ATTRIBUTES.size} bytes", len(data), data[:64])
    count, a, s1, words, b, s2, size, c, s3, members, d, s4, handle = _ATTRIBUTES.unpack(data)
    if (count, a, b, c, d) != (4, *TEMPLATE_ATTRIBUTES) or s1 or s2 or s3 or s4:
        raise ProtocolViolation("attributes of a template", TEMPLATE_ATTRIBUTES, (a, b, c, d), data)
    found = TemplateAttributes(handle, members, words, size)
    if not (0 < members <= MEMBERS_MAX and 8 * members <= found.definition_bytes <= TEMPLATE_BYTES_MAX):
        raise ProtocolViolation("template", f"up to {MEMBERS_MAX} members in {TEMPLATE_BYTES_MAX} bytes",
                                f"{members} in {found.definition_bytes}", data)  # fmt: skip
    if not 0 < size <= STRUCTURE_BYTES_MAX:
        raise ProtocolViolation("size of a structure", f"1 to {STRUCTURE_BYTES_MAX}", size, data)
    return found


def parse_template(attributes: TemplateAttributes, data: bytes) -> Template:
    """The layout in the definition of a structure: infos of its members, then its name and theirs.

    Raises:
        ProtocolViolation: it is malformed.
    """
    if len(data) < 8 * attributes.members:
        raise ProtocolViolation("template", f"{attributes.members} members", f"{len(data)} bytes", data[:64])
    names = [printable(name) for name in data[8 * attributes.members :].split(b"\0")]
    title = names.pop(0).partition(";")[0]
    members = {}
    for number in range(attributes.members):
        info, word, offset = _MEMBER.unpack_from(data, 8 * number)
        name = names[number] if number < len(names) else ""
        member = _member(name, info, word, offset)
        if offset >= attributes.size:
            raise ProtocolViolation("offset of a member", f"below {attributes.size}", offset, data[:64])
        members[name.lower() or f" {number}"] = member
    return Template("STRING" if title == "ASCIISTRING82" else title, attributes.handle, attributes.size, members)


def _member(name: str, info: int, word: int, offset: int) -> Member:
    kind = SymbolType.of(word, ())
    if not kind.is_structure and kind.code == BOOL.code:
        return Member(name, kind, offset, bit=info)
    return Member(name, SymbolType.of(word, (info,) if info else ()), offset)


def element_bytes(kind: SymbolType, templates: dict[int, Template]) -> int | None:
    """Bytes of one element; None of a type that is not known."""
    if kind.is_structure:
        template = templates.get(kind.template)
        return template.size if template else None
    return BY_CODE[kind.code].size if kind.code in BY_CODE else None
