"""DataValues of an answer or a notification: where a tag's value is, and its bytes as a column of values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from enum import IntEnum
from math import prod
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from drivers.opcua.address import Address
from drivers.opcua.binary import (
    DATE_TIME,
    EXTENSION_OBJECT,
    NAMES,
    NULL,
    STATUS_CODE,
    VARIANT,
    BinaryReader,
    DataValue,
    MalformedError,
    Namespaces,
    text_of,
)
from drivers.opcua.plan import ValueSelector
from drivers.opcua.settings import Member
from edge.model import NO_TIME, DataType, StatusCode, Times, Vector

_NAMES_SHOWN = 20


class Form(IntEnum):
    """How a structure is laid out (OPC 10000-3, 8.48); those with subtypes in their members are not read."""

    PLAIN = 0
    OPTIONAL = 1
    UNION = 2


@dataclass(frozen=True, slots=True)
class StructureField:
    """One member; `type` is the number of a built-in type, a structure, or None for a type that cannot be read."""

    name: str
    type: int | Structure | None
    is_array: bool = False
    is_optional: bool = False


@dataclass(slots=True)
class Structure:
    """A structure's DataType; its fields are filled in once the types of its members are known.

    Attributes:
        is_exact: whether a value with more bytes than its members have is of another type.
    """

    name: str
    form: Form = Form.PLAIN
    fields: list[StructureField] = dataclass_field(default_factory=list)
    is_exact: bool = False


class Located(NamedTuple):
    """Where a member is: `type` is the number of its built-in type."""

    type: int
    at: int


class NoSuchMemberError(Exception):
    """There is no such member; the message says which there are."""


Body = Mapping[str, Any]
"""The location of each member that is present: a scalar by its first byte, a structure as another Body, an array as a
sequence of either."""


def read_body(reader: BinaryReader, structure: Structure, depth: int = 0) -> Body:
    """Read the body of a structure.

    Raises:
        NoSuchMemberError: a member is of a type that cannot be read, so that all after it have no known place.
        MalformedError: the bytes do not fit the definition.
    """
    reader.enter_item(depth)
    return {known.name: _read_field(reader, known, depth) for known in _present_fields(reader, structure)}


def locate_member(structure: Structure, body: Body, members: Sequence[Member]) -> Located:
    """Find a member in a body. Raises NoSuchMemberError where the type has none of that name, or the body does not."""
    (name, index), rest = members[0], members[1:]
    kind = _member_field(structure, name, index).type
    location = body.get(name)
    if location is None or (index is not None and index >= len(location)):
        raise NoSuchMemberError(f"{name} is not there in this {structure.name}")
    if index is not None:
        location = location[index]
    if isinstance(kind, Structure):
        if rest:
            return locate_member(kind, location, rest)
        such_as = f"{name}{'' if index is None else f'[{index}]'}.{_first(kind)}"
        raise NoSuchMemberError(f"{name} is a structure; name a member of it, such as {such_as}")
    if rest:
        raise NoSuchMemberError(f"a {NAMES[kind or 0]} has no member {rest[0][0]}")
    return Located(kind or 0, location)


def _first(structure: Structure) -> str:
    return structure.fields[0].name if structure.fields else "Member"


def _member_field(structure: Structure, name: str, index: int | None) -> StructureField:
    for known in structure.fields:
        if known.name == name:
            if known.is_array != (index is not None):
                raise NoSuchMemberError(f"{name} is {f'an array; write {name}[0]' if known.is_array else 'no array'}")
            return known
    names = ", ".join(known.name for known in structure.fields[:_NAMES_SHOWN])
    raise NoSuchMemberError(f"{structure.name} has no member {name}; it has {names}")


def _present_fields(reader: BinaryReader, structure: Structure) -> Sequence[StructureField]:
    if structure.form is Form.PLAIN:
        return structure.fields
    switch = reader.uint32()
    if structure.form is Form.UNION:
        if switch > len(structure.fields):
            raise MalformedError(f"the member {switch} of a union of {len(structure.fields)}", reader.at - 4)
        return structure.fields[switch - 1 : switch] if switch else ()
    bits = iter(range(32))
    return [known for known in structure.fields if not known.is_optional or switch >> next(bits, 32) & 1]


def _read_field(reader: BinaryReader, known: StructureField, depth: int) -> Any:
    """Read one member; returns its location as in a `Body`."""
    kind = known.type
    if kind is None:
        raise NoSuchMemberError(f"{known.name} is of a type that cannot be read")
    if isinstance(kind, Structure):
        if not known.is_array:
            return read_body(reader, kind, depth + 1)
        return [read_body(reader, kind, depth + 1) for _ in range(reader.count(1))]
    return reader.elements(kind, depth) if known.is_array else reader.value(kind, depth)


BAD_NO_DATA = 0x809B0000
BAD_INDEX_RANGE_NO_DATA = 0x80370000
BAD_NOT_SUPPORTED = 0x803D0000
_BINARY_BODY = 1

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
_SETTINGS_TYPES = {type_id: name for name, types in reversed(_TYPES.items()) for type_id in types}

Structures = Mapping[bytes, "Structure | Mapping[Address | None, Structure | None] | None"]
"""Types of structures by the NodeId of their encoding on the wire, and by variable where only its DataType says which
one it is; None where the server has no definition."""


@dataclass(frozen=True, slots=True)
class BadValue:
    """Why a tag has no value: its status, and what is wrong with the server or the settings, if anything is."""

    code: int
    reason: str = ""


def sentences_of(bad: Sequence[tuple[ValueSelector, BadValue]]) -> list[str]:
    """One sentence for each reason, however many tags have it: a range of an array is many."""
    names: dict[str, list[str]] = {}
    for selector, value in bad:
        if value.reason:
            names.setdefault(value.reason, []).append(selector.name)
    return [
        f"{first}{f' and {len(others)} more' if others else ''}: {reason}" for reason, (first, *others) in names.items()
    ]


class UnknownStructureError(Exception):
    """The definition of a structure was not requested yet; `address` is that of the variable that has one."""

    def __init__(self, encoding: bytes, address: Address | None) -> None:
        self.encoding, self.address = encoding, address
        super().__init__(encoding.hex())


def locate_value(
    reader: BinaryReader, found: DataValue, selector: ValueSelector, structures: Structures
) -> Located | BadValue:
    """Where a tag's value is.

    Raises:
        UnknownStructureError: the definition of a structure has to be requested first.
    """
    if found.type == NULL:
        return BadValue(BAD_NO_DATA)
    try:
        located = _element(reader, found, selector)
        if isinstance(located, Located) and selector.members:
            located = _member(reader, located, selector, structures)
    except MalformedError as error:
        return _mismatch(f"its structure is broken: {error}")
    except NoSuchMemberError as error:
        return _mismatch(str(error))
    if isinstance(located, Located) and located.type not in _TYPES[selector.type]:
        return _mismatch(f"the server has {_a(located.type)} where the settings say {selector.type}")
    return located


def _element(reader: BinaryReader, found: DataValue, selector: ValueSelector) -> Located | BadValue:
    """The whole value, or one element of an array."""
    starts = found.starts
    if selector.element is None:
        if starts is not None:
            return _mismatch(f"the server has an array of {len(starts)}; name one of them with `index`")
        return Located(found.type, found.at)
    if starts is None:
        return _mismatch(f"the server has {_a(found.type)} and no array, but the settings name an element")
    sizes = found.dimensions or (len(starts),)
    if len(sizes) != len(selector.element) or any(size < 0 for size in sizes) or prod(sizes) != len(starts):
        return _mismatch(f"the server has an array of {len(starts)} with the dimensions {list(sizes)}")
    number = 0
    for size, index in zip(sizes, selector.element, strict=True):
        if index >= size:
            return BadValue(BAD_INDEX_RANGE_NO_DATA, f"the server's array has {list(sizes)} elements")
        number = number * size + index
    located = Located(found.type, starts[number])
    return _within_variant(reader, located) if found.type == VARIANT else located


def _within_variant(reader: BinaryReader, located: Located) -> Located | BadValue:
    inner = DataValue()
    BinaryReader(reader.data, located.at, reader.end).variant(inner)
    if inner.type == NULL:
        return BadValue(BAD_NO_DATA)
    if inner.starts is not None or inner.type == VARIANT:
        return _mismatch("the element is an array itself")
    return Located(inner.type, inner.at)


def _member(
    reader: BinaryReader, located: Located, selector: ValueSelector, structures: Structures
) -> Located | BadValue:
    if located.type != EXTENSION_OBJECT:
        return _mismatch(f"the server has {_a(located.type)} and no structure, but the settings name a member")
    head = BinaryReader(reader.data, located.at, reader.end)
    head.node_id()
    encoding = reader.data[located.at : head.at]
    if reader.bodies.get(located.at, (0, -1))[1] < 0:
        return BadValue(BAD_NO_DATA)
    if reader.data[head.at] != _BINARY_BODY:
        return _mismatch("the server gives its structure as XML")
    structure = structures.get(encoding, {})
    if isinstance(structure, Mapping):
        if selector.address not in structure:
            raise UnknownStructureError(encoding, selector.address)
        structure = structure[selector.address]
    if structure is None:
        return BadValue(BAD_NOT_SUPPORTED, _NO_DEFINITION)
    return locate_member(structure, _decoded_body(reader, located.at, structure), selector.members)


def _decoded_body(reader: BinaryReader, at: int, structure: Structure) -> Body:
    """The members in a structure's body, which is read once, however many of them are tags.

    From then on the structure of the body is part of the layout, which the next message must match.
    """
    if at not in reader.decoded_bodies:
        first, size = reader.bodies[at]
        body = BinaryReader(reader.data, first, first + size)
        try:
            reader.decoded_bodies[at] = _read_whole_body(body, structure)
        except (MalformedError, NoSuchMemberError) as error:
            reader.decoded_bodies[at] = error
        else:
            reader.value_spans += body.value_spans
            reader.bodies |= body.bodies
    found = reader.decoded_bodies[at]
    if isinstance(found, Exception):
        raise found
    return cast("Body", found)


def _read_whole_body(reader: BinaryReader, structure: Structure) -> Body:
    found = read_body(reader, structure)
    if structure.is_exact and reader.at != reader.end:
        raise MalformedError(f"{reader.end - reader.at} bytes more than a {structure.name} has", reader.at)
    return found


def _mismatch(what: str) -> BadValue:
    return BadValue(StatusCode.BAD_DECODING_ERROR, what)


def _a(type_id: int) -> str:
    name = NAMES[type_id] if type_id < len(NAMES) else f"type {type_id}"
    written = f" (type: {_SETTINGS_TYPES[type_id]})" if type_id in _SETTINGS_TYPES else ""
    return f"{'an' if name[0] in 'AEIO' else 'a'} {name}{written}"


Image = NDArray[np.uint8]
"""The bytes of a message."""

BAD_OUT_OF_RANGE = 0x803C0000
BAD_ENCODING_LIMITS_EXCEEDED = 0x80080000

_UNIX_EPOCH = 116_444_736_000_000_000  # In 100 ns since 1601 (OPC 10000-6, 5.2.2.5).
_REACH = (2**63 - 1) // 100  # In 100 ns: the range of int64 nanoseconds.


class Field(NamedTuple):
    """Where one tag's value is in a message, and where it goes.

    Attributes:
        slot: (vector, position in it) of the reading.
        text_bytes: most bytes of a text.
    """

    tag: int
    slot: tuple[int, int]
    located: Located
    text_bytes: int


class Column:
    """Values of one vector that are of one built-in type.

    Attributes:
        values: those of the last message.
        bad: (tag, status) of those that are no valid value of their type.
    """

    def __init__(self, data: bytes, fields: Sequence[Field], data_type: DataType, namespaces: Namespaces) -> None:
        self.vector = fields[0].slot[0]
        self.positions = np.array([field.slot[1] for field in fields], np.intp)
        self.bad: tuple[tuple[int, int], ...] = ()
        self._tags = [field.tag for field in fields]
        if data_type is DataType.TEXT:
            self._gather = _gather_texts(data, fields)
            self._read: Callable[[bytes, bytes], Vector] = _texts(self, fields, namespaces)
        else:
            self._gather = _gather_fixed([field.located.at for field in fields], data_type.numpy.itemsize)
            is_date = fields[0].located.type == DATE_TIME
            self._read = self._dates if is_date else _numbers(data_type.numpy)
        self._raw = b""
        self.values: Vector = np.empty(0, data_type.numpy)

    def update(self, data: bytes, image: Image) -> bool:
        """Decode the values of another message of the same layout; returns whether any differs from before."""
        raw = self._gather(image)
        if raw == self._raw and len(self.values):
            return False
        self.values = self._read(data, raw)
        self._raw = raw
        return True

    def mark_bad(self, bad: Sequence[tuple[int, int]]) -> None:
        """Store (position in this column, status) of invalid values."""
        self.bad = tuple((self._tags[position], code) for position, code in bad)

    def _dates(self, data: bytes, raw: bytes) -> Vector:  # noqa: ARG002
        dates = unix_ns(np.frombuffer(raw, "<i8"))
        wrong = np.flatnonzero(dates == NO_TIME)
        dates[wrong] = 0
        self.mark_bad([(int(position), BAD_OUT_OF_RANGE) for position in wrong])
        return dates


class SourceTimes:
    """The source timestamps of the values.

    Attributes:
        order: the tag of each time, counted through all vectors one after the other.
    """

    def __init__(self, order: Sequence[int], starts: Sequence[int]) -> None:
        self.order = np.array(order, np.intp)
        self._gather = _gather_fixed(starts, 8)
        self._raw = b""
        self.times: Times = np.empty(0, np.int64)

    def update(self, image: Image) -> bool:
        """Decode the times of another message of the same layout; returns whether any differs from before."""
        raw = self._gather(image)
        if raw == self._raw:
            return False
        self._raw, self.times = raw, unix_ns(np.frombuffer(raw, "<i8"))
        return True


def unix_ns(file_times: NDArray[np.int64]) -> Times:
    """UTC nanoseconds of times in 100 ns since 1601; `NO_TIME` where there is none, or one out of range."""
    since_1970 = file_times - _UNIX_EPOCH
    if len(file_times) and since_1970.view(np.uint64).max() <= _REACH:  # Those before 1970 are large numbers there.
        return since_1970 * 100
    is_valid = (file_times > 0) & (since_1970 <= _REACH) & (since_1970 >= -_REACH)
    return np.where(is_valid, since_1970 * 100, NO_TIME)


def unix_time_ns(file_time: int) -> int | None:
    """The same of one time; None where there is none."""
    since_1970 = file_time - _UNIX_EPOCH
    return since_1970 * 100 if file_time > 0 and abs(since_1970) <= _REACH else None


def _gather_fixed(starts: Sequence[int], width: int) -> Callable[[Image], bytes]:
    """A function that copies `width` bytes from each start; equally spaced starts need no index array."""
    apart = np.diff(starts)
    if len(apart) and apart[0] >= width and (apart == apart[0]).all():
        items, first, stride = np.dtype((np.void, width)), starts[0], int(apart[0])
        return lambda image: np.ndarray(len(starts), items, image, first, (stride,)).tobytes()
    index = (np.array(starts, np.intp)[:, None] + np.arange(width, dtype=np.intp)).ravel()
    return lambda image: image.take(index).tobytes()


def _gather_texts(data: bytes, fields: Sequence[Field]) -> Callable[[Image], bytes]:
    spans = []
    for field in fields:
        reader = BinaryReader(data, field.located.at)
        reader.value(field.located.type)
        spans.append(np.arange(field.located.at, reader.at, dtype=np.intp))
    index = np.concatenate(spans)
    return lambda image: image.take(index).tobytes()


def _numbers(dtype: np.dtype[np.generic]) -> Callable[[bytes, bytes], Vector]:
    if dtype == np.bool_:
        return lambda _, raw: np.frombuffer(raw, np.uint8) != 0
    wire = dtype.newbyteorder("<")
    return lambda _, raw: np.frombuffer(raw, wire).astype(dtype, copy=False)


def _texts(column: Column, fields: Sequence[Field], namespaces: Namespaces) -> Callable[[bytes, bytes], Vector]:
    def read(data: bytes, raw: bytes) -> Vector:  # noqa: ARG001
        values = np.full(len(fields), "", object)
        bad: list[tuple[int, int]] = []
        for position, field in enumerate(fields):
            try:
                text = text_of(data, field.located.at, field.located.type, namespaces)
            except UnicodeDecodeError:
                bad.append((position, StatusCode.BAD_DECODING_ERROR))
                continue
            if len(text.encode()) > field.text_bytes:
                bad.append((position, BAD_ENCODING_LIMITS_EXCEEDED))
            else:
                values[position] = text
        column.mark_bad(bad)
        return values

    return read
