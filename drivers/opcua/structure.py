"""Structures by their definition (OPC 10000-6, 5.2.6): where a member is in the body of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from drivers.opcua.settings import Member
from drivers.opcua.walk import NAMES, WIDTHS, MalformedError, Walk

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


def locate_member(walk: Walk, structure: Structure, members: Sequence[Member]) -> Located:
    """Pass the body of a structure, and find one of its members on the way.

    Raises:
        NoSuchMemberError: it has none of that name, or it is not there today.
        MalformedError: the bytes do not fit the definition.
    """
    located = _pass_structure(walk, structure, members, 0)
    if located is None:
        raise NoSuchMemberError(f"{members[0][0]} is not there in this {structure.name}")
    return located


def _pass_structure(walk: Walk, structure: Structure, members: Sequence[Member], depth: int) -> Located | None:
    """Pass one structure; what was looked for, if it is there."""
    walk.enter(depth)
    name, index = members[0] if members else ("", None)
    if members:
        _check_member(structure, name, index)
    located = None
    for of_structure in _fields_there(walk, structure):
        if of_structure.name == name:
            located = _pass_field(walk, of_structure, index, members[1:], depth) or located
        else:
            _pass_field(walk, of_structure, None, (), depth)
    return located


def _check_member(structure: Structure, name: str, index: int | None) -> None:
    for known in structure.fields:
        if known.name == name:
            if known.is_array != (index is not None):
                raise NoSuchMemberError(f"{name} is {f'an array; write {name}[0]' if known.is_array else 'no array'}")
            return
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


def _pass_field(
    walk: Walk, of_structure: StructureField, index: int | None, rest: Sequence[Member], depth: int
) -> Located | None:
    """Pass one member; where it is, or its element, or the member of it, if there is one."""
    kind = of_structure.type
    if kind is None:
        raise NoSuchMemberError(f"{of_structure.name} is of a type that cannot be read")
    if not of_structure.is_array:
        return _pass_one(walk, kind, rest, depth)
    located = None
    for number in range(walk.count(WIDTHS.get(kind, 1) if isinstance(kind, int) else 1)):
        if number == index:
            located = _pass_one(walk, kind, rest, depth)
        else:
            _pass_one(walk, kind, (), depth)
    return located


def _pass_one(walk: Walk, kind: int | Structure, rest: Sequence[Member], depth: int) -> Located | None:
    if isinstance(kind, Structure):
        return _pass_structure(walk, kind, rest, depth + 1)
    at = walk.value(kind, depth)
    if rest:
        raise NoSuchMemberError(f"a {NAMES[kind]} has no member {rest[0][0]}")
    return Located(kind, at)
