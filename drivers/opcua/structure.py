"""Structures by their definition (OPC 10000-6, 5.2.6): where a member is in the body of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from drivers.opcua.settings import Member
from drivers.opcua.walk import NAMES, MalformedError, Walk

_NAMES_SHOWN = 20


class Form(IntEnum):
    """How a structure is laid out (OPC 10000-3, 8.48); those with subtypes in their members are not read."""

    PLAIN = 0
    OPTIONAL = 1
    UNION = 2


@dataclass(frozen=True, slots=True)
class StructureField:
    """One member; `type` is a built-in type by number, a structure, or None for what cannot be read."""

    name: str
    type: int | Structure | None
    is_array: bool = False
    is_optional: bool = False


@dataclass(slots=True)
class Structure:
    """A type of structures; its fields are filled in once those of its members are known."""

    name: str
    form: Form = Form.PLAIN
    fields: list[StructureField] = field(default_factory=list)


class Located(NamedTuple):
    """Where a member is: `type` is the number of its built-in type."""

    type: int
    at: int


class NoSuchMemberError(Exception):
    """There is no such member; the text says what there is instead."""


Body = Mapping[str, Any]
"""Where the members that are there are: a scalar by its first byte, a structure as another Body, an array as a sequence
of either."""


def read_body(walk: Walk, structure: Structure, depth: int = 0) -> Body:
    """Pass the body of a structure.

    Raises:
        NoSuchMemberError: a member is of a type that cannot be read, and nothing after it can be found.
        MalformedError: the bytes do not fit the definition.
    """
    walk.enter(depth)
    return {known.name: _pass_field(walk, known, depth) for known in _fields_there(walk, structure)}


def locate_member(structure: Structure, body: Body, members: Sequence[Member]) -> Located:
    """Find a member in a body. Raises NoSuchMemberError where there is none of that name, or it is not there today."""
    (name, index), rest = members[0], members[1:]
    kind = _checked(structure, name, index).type
    place = body.get(name)
    if place is None or (index is not None and index >= len(place)):
        raise NoSuchMemberError(f"{name} is not there in this {structure.name}")
    if index is not None:
        place = place[index]
    if isinstance(kind, Structure):
        if rest:
            return locate_member(kind, place, rest)
        such_as = f"{name}{'' if index is None else f'[{index}]'}.{_first(kind)}"
        raise NoSuchMemberError(f"{name} is a structure; name a member of it, such as {such_as}")
    if rest:
        raise NoSuchMemberError(f"a {NAMES[kind or 0]} has no member {rest[0][0]}")
    return Located(kind or 0, place)


def _first(structure: Structure) -> str:
    return structure.fields[0].name if structure.fields else "Member"


def _checked(structure: Structure, name: str, index: int | None) -> StructureField:
    for known in structure.fields:
        if known.name == name:
            if known.is_array != (index is not None):
                raise NoSuchMemberError(f"{name} is {f'an array; write {name}[0]' if known.is_array else 'no array'}")
            return known
    names = ", ".join(known.name for known in structure.fields[:_NAMES_SHOWN])
    raise NoSuchMemberError(f"{structure.name} has no member {name}; it has {names}")


def _fields_there(walk: Walk, structure: Structure) -> Sequence[StructureField]:
    if structure.form is Form.PLAIN:
        return structure.fields
    switch = walk.uint32()
    if structure.form is Form.UNION:
        if switch > len(structure.fields):
            raise MalformedError(f"the member {switch} of a union of {len(structure.fields)}", walk.at - 4)
        return structure.fields[switch - 1 : switch] if switch else ()
    bits = iter(range(32))
    return [known for known in structure.fields if not known.is_optional or switch >> next(bits, 32) & 1]


def _pass_field(walk: Walk, known: StructureField, depth: int) -> Any:
    """Pass one member; where it is, as in a `Body`."""
    kind = known.type
    if kind is None:
        raise NoSuchMemberError(f"{known.name} is of a type that cannot be read")
    if isinstance(kind, Structure):
        if not known.is_array:
            return read_body(walk, kind, depth + 1)
        return [read_body(walk, kind, depth + 1) for _ in range(walk.count(1))]
    return walk.elements(kind, depth) if known.is_array else walk.value(kind, depth)
