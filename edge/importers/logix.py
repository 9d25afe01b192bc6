"""Tags of Logix controllers: projects and parts of them as L5X, and tag lists as CSV.

Structures become their members, down to values that can be read: by the data types and add-on instructions in it,
and where it describes no type (modules, predefined ones) by the decorated data of the tag itself. Hidden members,
which host the bits of a structure, are no tags. An alias is read at what it stands for.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from math import inf, prod
from typing import Any
from xml.etree.ElementTree import Element

from edge.driver import Origin, SourceTag
from edge.importers.found import Found, number, one_line, whole
from edge.importers.markup import origin_of
from edge.importers.tables import Table, text_of

TAGS_LIMIT = 200_000
"""Most tags of one file; arrays of structures multiply."""

_STRING = 82
_DEPTH = 32
_NOT_EXTERNAL = "its External Access is None: the controller lets nobody read it"
_BITS = ("EN", "TT", "DN"), ("CU", "CD", "DN", "OV", "UN"), ("EN", "EU", "DN", "EM", "ER", "UL", "IN", "FD")
_BUILT_IN = {"TIMER": (("PRE", "ACC"), _BITS[0]), "COUNTER": (("PRE", "ACC"), _BITS[1]),
             "CONTROL": (("LEN", "POS"), _BITS[2])}  # fmt: skip
_ATOMIC = frozenset({"BOOL", "SINT", "INT", "DINT", "LINT", "USINT", "UINT", "UDINT", "ULINT", "REAL", "LREAL",
                     "STRING", "LDT", "LTIME", "TIME", "TIME32", "DT"})  # fmt: skip
_ESCAPES = {"N": "\n", "L": "\n", "R": "\r", "T": "\t", "P": "\n", "Q": '"', "'": "'", "$": "$"}
_ESCAPE = re.compile(r"\$([0-9A-Fa-f]{4}|[NLRTPQnlrtpq'$])")
_PART = re.compile(r"([^.\[\]]+)(\[[\d,]+\])?")
_ARRAY = re.compile(r"(?P<type>[^\[]+)(?:\[(?P<sizes>[\d,]+)\])?")


@dataclass(frozen=True, slots=True)
class _Kind:
    """A type with its array, and what is said of it where it is used."""

    type: str
    sizes: tuple[int, ...] = ()
    is_external: bool = True
    reason: str = ""
    """Why it cannot be read; empty where it can."""


@dataclass(slots=True)
class _Texts:
    """What a tag says of its members, by operand in upper case: "" is the tag itself, then ".SPEED", "[3].SPEED"."""

    description: dict[str, str] = field(default_factory=dict)
    unit: dict[str, str] = field(default_factory=dict)
    low: dict[str, str] = field(default_factory=dict)
    high: dict[str, str] = field(default_factory=dict)

    def keys(self, operand: str) -> dict[str, Any]:
        """The keys of a tag."""
        operand = operand.upper()
        keys: dict[str, Any] = {"unit": self.unit.get(operand, "")}
        keys["description"] = one_line([self.description.get(operand, "")])
        with suppress(ValueError, KeyError):  # A limit that is not set, or is no number.
            low, high = number(self.low[operand]), number(self.high[operand])
            if -inf < low < high < inf:
                keys["range"] = [low, high]
        return keys


class _Controller:
    """The types and tags of a file, and the tags that they become."""

    def __init__(self, file: str, found: Found) -> None:
        self.file, self.found = file, found
        self.types: dict[str, dict[str, _Kind]] = {}
        self.strings: dict[str, int] = {}
        self.kinds: dict[tuple[str, str], _Kind] = {}  # By program and name, both in upper case.
        for name, (numbers, bits) in _BUILT_IN.items():
            self.types[name] = dict.fromkeys(numbers, _Kind("DINT")) | dict.fromkeys(bits, _Kind("BOOL"))

    def add(
        self, program: str, name: str, kind: _Kind, texts: _Texts, origin: Origin, data: Element | None = None
    ) -> None:
        """Add a tag, or all values in it."""
        self.kinds[program.upper(), name.upper()] = kind
        scope = f"Program:{program}." if program else ""
        levels = (program, name) if program else (name,)
        self._expand(scope + name, len(scope + name), levels, kind, texts, origin, data)

    def _expand(
        self, address: str, own: int, levels: tuple[str, ...], kind: _Kind, texts: _Texts, origin: Origin,
        data: Element | None,
    ) -> None:  # fmt: skip
        if len(self.found.tags) >= TAGS_LIMIT:
            return
        name = "/".join(levels)
        if not kind.is_external or kind.reason:
            self.found.left_out(origin, kind.reason or _NOT_EXTERNAL, name)
            return
        members, plain = self.types.get(kind.type.upper()), kind.type.upper()
        if plain in _ATOMIC or plain in self.strings:
            keys = texts.keys(address[own:])
            if plain in self.strings:
                keys["length"], plain = self.strings[plain], "STRING"
            tag = SourceTag(
                origin=origin, levels=levels, notation="logix", address=address, type=plain, sizes=kind.sizes, keys=keys
            )
            self.found.tags.append(tag)
        elif members is None and data is not None:
            self._decorated(address, own, levels, texts, origin, data)
        elif members is None:
            message = f"its type {kind.type} is not described in the file; export the whole project as L5X"
            self.found.left_out(origin, message, name)
        elif prod(kind.sizes) > TAGS_LIMIT or len(levels) > _DEPTH:
            self.found.left_out(origin, "it is too large, or contains itself", name)
        else:
            for index in product(*map(range, kind.sizes)):
                element = f"[{','.join(map(str, index))}]" if index else ""
                for member, below in members.items():
                    names = (*levels[:-1], levels[-1] + element, member)
                    self._expand(f"{address}{element}.{member}", own, names, below, texts, origin, None)

    def _decorated(
        self, address: str, own: int, levels: tuple[str, ...], texts: _Texts, origin: Origin, data: Element
    ) -> None:
        """Add the values of a structure whose type only its own data describes."""
        for each in data:
            part = each.get("Name", "")
            below, names = f"{address}.{part}" if part else address, (*levels, part) if part else levels
            sizes = _sizes(each.get("Dimensions", ""))
            kind = _Kind(each.get("DataType", ""), sizes)
            if each.tag in ("DataValueMember", "ArrayMember") or (
                each.tag == "Array" and each.find("*/Structure") is None
            ):
                has_structures = each.find("Element/Structure") is not None
                self._expand(below, own, names, kind, texts, origin, each if has_structures else None)
            elif each.tag == "Element" and (inside := each.find("Structure")) is not None:
                index = each.get("Index", "")
                self._decorated(address + index, own, (*levels[:-1], levels[-1] + index), texts, origin, inside)
            elif each.tag in ("Structure", "StructureMember", "Array"):
                self._decorated(below, own, names, texts, origin, each)

    def alias(self, program: str, name: str, target: str, texts: _Texts, origin: Origin) -> None:
        """Add an alias, at what it stands for."""
        kind = self._resolve(program, target)
        levels = (program, name) if program else (name,)
        first = _PART.match(target)
        is_local = bool(program and first and (program.upper(), first[1].upper()) in self.kinds)
        address = f"Program:{program}.{target}" if is_local and not target.startswith("Program:") else target
        if kind is None:
            message = f"it is an alias of {target}, whose type is not in the file"
            self.found.left_out(origin, message, "/".join(levels))
            return
        self._expand(address, len(address), levels, kind, texts, origin, None)

    def _resolve(self, program: str, target: str) -> _Kind | None:
        """The type of an operand such as Motor[3].Speed.5; None where it is not known."""
        if target.startswith("Program:"):
            program, _, target = target.removeprefix("Program:").partition(".")
        kind: _Kind | None = None
        for position, (part, index) in enumerate(_PART.findall(target)):
            if position == 0:
                kind = self.kinds.get((program.upper(), part.upper())) or self.kinds.get(("", part.upper()))
            elif part.isdecimal():
                return _Kind("BOOL")
            elif kind is not None:
                members = {each.upper(): below for each, below in self.types.get(kind.type.upper(), {}).items()}
                kind = members.get(part.upper())
            if kind is not None and index:
                kind = _Kind(kind.type, kind.sizes[index.count(",") + 1 :], kind.is_external, kind.reason)
        return kind


def _sizes(text: str) -> tuple[int, ...]:
    """The sizes of an array, as in "10 5" or "10,5"; none of "0"."""
    return tuple(size for digits in re.findall(r"\d+", text) if (size := whole(digits, 0)))


def _is_external(element: Element) -> bool:
    return element.get("ExternalAccess", "Read/Write") != "None"


def is_project(root: Element) -> bool:
    """Whether an XML file is an L5X."""
    return root.tag == "RSLogix5000Content"


def read_project(root: Element, file: str, found: Found) -> None:
    """Add the tags of an L5X to what was found."""
    controller = _Controller(file, found)
    for element in root.iter("DataType"):
        _data_type(controller, element)
    for element in (*root.iter("AddOnInstructionDefinition"), *root.iter("EncodedData")):
        _instruction(controller, element)
    if root.get("TargetType", "Controller") != "Controller" or root.get("ContainsContext") == "true":
        found.note(f"this is the export of a {root.get('TargetType')}: tags that it does not use are not in the file")
    for module in root.iter("Module"):
        _module(controller, module)
    scopes = [("", each) for each in root.findall("./Controller/Tags")]
    scopes += [(program.get("Name", ""), each) for program in root.iter("Program") for each in program.findall("Tags")]
    tags = [(program, tag) for program, each in scopes for tag in each.findall("Tag")]
    for program, tag in sorted(tags, key=lambda each: each[1].get("TagType") == "Alias"):  # They stand for others.
        if tag.get("TagType") == "Alias":
            controller.alias(program, tag.get("Name", ""), tag.get("AliasFor", ""), _texts(tag), origin_of(tag, file))
        else:
            _tag(controller, program, tag)
    if len(found.tags) >= TAGS_LIMIT:
        found.left_out(Origin(file), f"it has more than {TAGS_LIMIT:,} values; export programs one by one")


def _data_type(controller: _Controller, element: Element) -> None:
    name = element.get("Name", "").upper()
    if element.get("Family") == "StringFamily":
        sizes = [member.get("Dimension", "0") for member in element.iter("Member") if member.get("Name") == "DATA"]
        controller.strings[name] = whole(sizes[0], _STRING) if sizes else _STRING
        return
    controller.types[name] = {
        member.get("Name", ""): _Kind(
            "BOOL" if member.get("DataType") == "BIT" else member.get("DataType", ""),
            _sizes(member.get("Dimension", "")),
            _is_external(member),
        )
        for member in element.iter("Member")
        if member.get("Hidden") != "true"
    }


def _instruction(controller: _Controller, element: Element) -> None:
    """An add-on instruction, whose parameters and local tags are members; of a protected one, those that show."""
    name = element.get("Name", "") or element.get("EncodedType", "")
    members = {each.get("Name", ""): _member(each) for each in (*element.iter("Parameter"), *element.iter("LocalTag"))}
    if members:
        controller.types[name.upper()] = members
    elif element.tag == "EncodedData":
        what = element.get("EncodedType", "part")
        controller.found.left_out(
            origin_of(element, controller.file), f"this {what} is encrypted; only its owner can export it", name
        )


def _member(element: Element) -> _Kind:
    reason = "it is passed by reference: read the tag itself" if element.get("Usage") == "InOut" else ""
    sizes = _sizes(element.get("Dimensions", ""))
    return _Kind(element.get("DataType", ""), sizes, _is_external(element), reason)


def _module(controller: _Controller, module: Element) -> None:
    """The input, output and configuration tags of a module, named by its slot or by itself."""
    ports = [port for port in module.iter("Port") if port.get("Upstream") == "true"]
    is_in_slot = bool(ports) and ports[0].get("Type") not in ("Ethernet", "ControlNet", "DeviceNet")
    base = f"{module.get('ParentModule')}:{ports[0].get('Address')}" if is_in_slot else module.get("Name", "")
    for letter, kind in (("C", "ConfigTag"), ("I", "InputTag"), ("O", "OutputTag")):
        for tag in module.iter(kind):
            data = tag.find("Data[@Format='Decorated']")
            structure = data.find("Structure") if data is not None else None
            if structure is not None and data is not None:
                of_type = _Kind(structure.get("DataType", ""), (), _is_external(tag))
                origin = origin_of(tag, controller.file)
                suffix = tag.get("Suffix") or letter
                controller.add("", f"{base}:{suffix}", of_type, _texts(tag), origin, data)


def _tag(controller: _Controller, program: str, tag: Element) -> None:
    reason = "the file only refers to it" if tag.get("Use") == "Reference" or not tag.get("DataType") else ""
    kind = _Kind(tag.get("DataType", ""), _sizes(tag.get("Dimensions", "")), _is_external(tag), reason)
    data = tag.find("Data[@Format='Decorated']")
    controller.add(program, tag.get("Name", ""), kind, _texts(tag), origin_of(tag, controller.file), data)


def _texts(tag: Element) -> _Texts:
    texts = _Texts()
    texts.description[""] = _text(tag.find("Description"))
    for path, into in (("Comments/Comment", texts.description), ("EngineeringUnits/EngineeringUnit", texts.unit),
                       ("Mins/Min", texts.low), ("Maxes/Max", texts.high)):  # fmt: skip
        into |= {each.get("Operand", "").upper(): _text(each) for each in tag.findall(path)}
    return texts


def _text(element: Element | None) -> str:
    """A text, of a localised one the first language."""
    if element is None:
        return ""
    localised = next((each for each in element if (each.text or "").strip()), None)
    return ((localised.text if localised is not None else element.text) or "").strip()


def is_list(table: Table) -> bool:
    """Whether a table is a tag CSV of Logix Designer."""
    return any(
        [text_of(cell).upper() for cell in cells[:3]] == ["TYPE", "SCOPE", "NAME"] for _, cells in table.rows[:50]
    )


def read_list(table: Table, found: Found) -> None:
    """Add the tags of a CSV to what was found."""
    controller = _Controller(table.file, found)
    rows = [(row, [text_of(cell) for cell in cells] + [""] * 7) for row, cells in table.rows]
    comments: dict[tuple[str, str], dict[str, str]] = {}
    for _, (kind, scope, name, description, _, specifier, *_) in rows:
        if kind.upper() == "COMMENT":
            operand = specifier.upper().removeprefix(name.upper())
            comments.setdefault((scope.upper(), name.upper()), {})[operand] = unescaped(description)
    aliases = []
    for row, (kind, scope, name, description, data_type, specifier, attributes, *_) in rows:
        texts = _Texts({**comments.get((scope.upper(), name.upper()), {}), "": unescaped(description)})
        if kind.upper() == "TAG" and (match := _ARRAY.fullmatch(data_type)):
            is_external = not re.search(r"ExternalAccess\s*:=\s*None", attributes)
            of_type = _Kind(match["type"], _sizes(match["sizes"] or ""), is_external)
            controller.add(scope, name, of_type, texts, table.origin(row))
        elif kind.upper() == "ALIAS":
            aliases.append((scope, name, specifier, texts, table.origin(row)))
        elif kind.upper() == "TAG":
            found.left_out(table.origin(row), f"{data_type!r} is no type", name)
    for alias in aliases:
        controller.alias(*alias)


def unescaped(text: str) -> str:
    """A description without the escapes of a CSV: $N is a new line, $00E9 a character."""

    def character(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code, 16)) if len(code) == 4 else _ESCAPES[code.upper()]

    text = _ESCAPE.sub(character, text)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
