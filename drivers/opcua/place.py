"""What a tag wants of a DataValue: where it is in the answer, or why there is no value for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import cast

from drivers.opcua.plan import Want
from drivers.opcua.structure import Body, Located, NoSuchMemberError, Structure, locate_member, read_body
from drivers.opcua.walk import EXTENSION_OBJECT, NAMES, NULL, STATUS_CODE, VARIANT, Found, MalformedError, Walk
from edge.model import StatusCode

BAD_NO_DATA = 0x809B0000
BAD_INDEX_RANGE_NO_DATA = 0x80370000
BAD_NOT_SUPPORTED = 0x803D0000

_TYPES: dict[str, frozenset[int]] = {
    "bool": frozenset({1}), "int8": frozenset({2}), "uint8": frozenset({3}), "int16": frozenset({4}),
    "uint16": frozenset({5}), "int32": frozenset({6}), "uint32": frozenset({7, STATUS_CODE}), "int64": frozenset({8}),
    "uint64": frozenset({9}), "float32": frozenset({10}), "float64": frozenset({11}), "datetime": frozenset({13}),
    "enumeration": frozenset({6}), "text": frozenset({12, *range(14, 22)}),
}  # fmt: skip
_NO_DEFINITION = (
    "the server does not say what its structure is made of (older ones have dictionaries, and no DataTypeDefinition); "
    "read its members as nodes of their own, or have the server updated"
)
_WRITTEN = {type_id: name for name, types in reversed(_TYPES.items()) for type_id in types}

Structures = Mapping[bytes, Structure | None]
"""Types of structures by the NodeId of their encoding, as it is on the wire; None where nothing is known of it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """No value for a tag: its status, and a sentence if the server or the settings are wrong."""

    code: int
    sentence: str = ""


class UnknownStructureError(Exception):
    """A structure whose type was not asked for yet."""

    def __init__(self, encoding: bytes) -> None:
        self.encoding = encoding
        super().__init__(encoding.hex())


def place(walk: Walk, found: Found, want: Want, structures: Structures) -> Located | Refusal:
    """Where a tag's value is.

    Raises:
        UnknownStructureError: the type of a structure has to be asked for first.
    """
    if found.type == NULL:
        return Refusal(BAD_NO_DATA)
    try:
        located = _element(walk, found, want)
        if isinstance(located, Located) and want.members:
            located = _member(walk, located, want, structures)
    except MalformedError as error:
        return _wrong(want, f"its structure is broken: {error}")
    except NoSuchMemberError as error:
        return _wrong(want, str(error))
    if isinstance(located, Located) and located.type not in _TYPES[want.type]:
        return _wrong(want, f"the server has {_a(located.type)} where the settings say {want.type}")
    return located


def _element(walk: Walk, found: Found, want: Want) -> Located | Refusal:
    """The whole value, or one element of an array."""
    starts = found.starts
    if want.element is None:
        if starts is not None:
            return _wrong(want, f"the server has an array of {len(starts)}; name one of them with `index`")
        return Located(found.type, found.at)
    if starts is None:
        return _wrong(want, f"the server has {_a(found.type)} and no array, but the settings name an element")
    sizes = found.dimensions or (len(starts),)
    if len(sizes) != len(want.element) or any(size < 0 for size in sizes) or prod(sizes) != len(starts):
        return _wrong(want, f"the server has an array of {len(starts)} with the dimensions {list(sizes)}")
    number = 0
    for size, index in zip(sizes, want.element, strict=True):
        if index >= size:
            return Refusal(BAD_INDEX_RANGE_NO_DATA, f"{want.name}: the server's array has {list(sizes)} elements")
        number = number * size + index
    located = Located(found.type, starts[number])
    return _within_variant(walk, located, want) if found.type == VARIANT else located


def _within_variant(walk: Walk, located: Located, want: Want) -> Located | Refusal:
    inner = Found()
    Walk(walk.data, located.at, walk.end).variant(inner)
    if inner.type == NULL:
        return Refusal(BAD_NO_DATA)
    if inner.starts is not None or inner.type == VARIANT:
        return _wrong(want, "the element is an array itself")
    return Located(inner.type, inner.at)


def _member(walk: Walk, located: Located, want: Want, structures: Structures) -> Located | Refusal:
    if located.type != EXTENSION_OBJECT:
        return _wrong(want, f"the server has {_a(located.type)} and no structure, but the settings name a member")
    head = Walk(walk.data, located.at, walk.end)
    head.node_id()
    encoding = walk.data[located.at : head.at]
    if walk.bodies.get(located.at, (0, -1))[1] < 0:
        return Refusal(BAD_NO_DATA)
    if encoding not in structures:
        raise UnknownStructureError(encoding)
    structure = structures[encoding]
    if structure is None:
        return Refusal(BAD_NOT_SUPPORTED, f"{want.name}: {_NO_DEFINITION}")
    return locate_member(structure, _opened(walk, located.at, structure), want.members)


def _opened(walk: Walk, at: int, structure: Structure) -> Body:
    """The body of a structure, walked once, however many of its members are tags.

    From then on it is verified like everything else: whatever is in it must stay as it is, but its content.
    """
    if at not in walk.opened:
        first, size = walk.bodies[at]
        body = Walk(walk.data, first, first + size)
        try:
            walk.opened[at] = read_body(body, structure)
        except (MalformedError, NoSuchMemberError) as error:
            walk.opened[at] = error
        else:
            walk.content += body.content
            walk.bodies |= body.bodies
    found = walk.opened[at]
    if isinstance(found, Exception):
        raise found
    return cast("Body", found)


def _wrong(want: Want, what: str) -> Refusal:
    return Refusal(StatusCode.BAD_DECODING_ERROR, f"{want.name}: {what}")


def _a(type_id: int) -> str:
    name = NAMES[type_id] if type_id < len(NAMES) else f"type {type_id}"
    written = f" (type: {_WRITTEN[type_id]})" if type_id in _WRITTEN else ""
    return f"{'an' if name[0] in 'AEIO' else 'a'} {name}{written}"
