"""Values of data change notifications, in columns (OPC 10000-4, 7.25.2).

Most values are numbers in their expected type: one pass finds where each begins, and a few gathers take them all. The
others are read one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.opcua.binary import DATE_TIME, NULL, WIDTHS, BinaryReader, MalformedError, Namespaces
from drivers.opcua.datavalue import BadValue, Column, Field, Structures, locate_value, sentences_of, unix_ns
from drivers.opcua.plan import Node, ValueSelector
from drivers.opcua.services import NotificationMessage, violation
from edge.model import NO_TIME, DataType, Layout, Times, Vector

OVERFLOW = 0x0480
"""InfoType DataValue and the overflow bit (OPC 10000-4, 7.39.1)."""
_OVERFLOW_MASK = 0x0C80

_VALUE, _STATUS, _SOURCE = 0x01, 0x02, 0x04
_FIXED = range(1, 12)  # Boolean to Double.
_PLAIN_TYPES = {"bool": 1, "int8": 2, "uint8": 3, "int16": 4, "uint16": 5, "int32": 6, "uint32": 7, "int64": 8,
                "uint64": 9, "float32": 10, "float64": 11, "enumeration": 6}  # fmt: skip
_OTHER_PARTS = ((0x02, 4), (0x04, 8), (0x10, 2), (0x08, 8), (0x20, 2))
_MASK_AT, _ENCODING_AT, _VALUE_AT = 4, 5, 6


def _sizes() -> list[int]:
    """Bytes of a MonitoredItemNotification by its mask and its Variant's encoding, as one number; 0 where they vary."""
    sizes = [0] * 2**16
    for encoding in _FIXED:
        for mask in range(_VALUE, 0x40, 2):
            parts = sum(size for bit, size in _OTHER_PARTS if mask & bit)
            sizes[mask | encoding << 8] = _VALUE_AT + WIDTHS[encoding] + parts
    return sizes


_SIZES = _sizes()
_WIDTHS = np.array([WIDTHS.get(type_id, 0) for type_id in range(256)], np.intp)


@dataclass(frozen=True, slots=True)
class DecodedChanges:
    """The values of one message, in the shape of `edge.model.Notification`; `nodes` are those that it has values of."""

    vectors: tuple[Vector, ...]
    positions: tuple[NDArray[np.uint16], ...]
    codes: tuple[NDArray[np.uint32], ...]
    source_times: tuple[Times, ...]
    overflowed: tuple[int, ...] = ()
    sentences: tuple[str, ...] = ()
    nodes: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))


@dataclass(slots=True)
class _SingleValues:
    """Values that were read one by one, as lists; `order` is the position among all values of the message."""

    order: list[int] = field(default_factory=list)
    tags: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    fields: list[Field] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)


class DataChangeDecoder:
    """Decodes the messages of one subscription; the client handle of an item is the number of its node in the plan."""

    def __init__(self, nodes: Sequence[Node], layout: Layout, namespaces: Namespaces, structures: Structures) -> None:
        self._nodes, self._layout = nodes, layout
        self._namespaces, self._structures = namespaces, structures
        self._plain = np.zeros(len(nodes), np.uint8)
        self._tag = np.zeros(len(nodes), np.intp)
        for number, node in enumerate(nodes):
            selector = node.selectors[0]
            self._tag[number] = selector.tag
            if len(node.selectors) == 1 and selector.element is None and not selector.members:
                self._plain[number] = _PLAIN_TYPES.get(selector.type, NULL)
        self._vector = np.array([vector for vector, _ in layout.slots], np.intp)
        self._position = np.array([position for _, position in layout.slots], np.uint16)

    def decode(self, notification: NotificationMessage) -> DecodedChanges:
        """The values of a message.

        Raises:
            ProtocolViolation: the bytes are no such message.
            UnknownStructureError: the definition of a structure has to be requested first.
        """
        data = notification.data
        singles = _SingleValues()
        starts: list[NDArray[np.intp]] = []
        orders: list[NDArray[np.intp]] = []
        nodes: list[NDArray[np.uint32]] = []
        order = 0
        try:
            for first, end in notification.changes:
                items, others = _items(data, first, end)
                handles = _at(data, "<u4")[items]
                nodes.append(handles)
                is_plain = self._are_plain(handles, np.frombuffer(data, np.uint8)[items + _ENCODING_AT])
                is_plain[others] = False
                orders.append(np.flatnonzero(is_plain) + order)
                starts.append(items[is_plain])
                for number in np.flatnonzero(~is_plain).tolist():
                    self._read_value(data, int(items[number]), end, order + number, singles)
                order += len(items)
        except MalformedError as error:
            raise violation("notification", error, data) from error
        changes = self._columns(data, _joined(starts, np.intp), _joined(orders, np.intp), singles)
        return DecodedChanges(
            *changes, self._overflowed(changes[1], changes[2]), tuple(singles.sentences), _joined(nodes, np.uint32)
        )

    def bad_values(self, codes: Sequence[tuple[int, int]]) -> DecodedChanges:
        """Bad values for (node, status) without a monitored item."""
        singles = _SingleValues()
        for node, code in codes:
            for selector in self._nodes[node].selectors:
                _add_single(singles, len(singles.order), selector.tag, code, NO_TIME)
        nothing = np.empty(0, np.intp)
        nodes = np.array([node for node, _ in codes], np.uint32)
        return DecodedChanges(*self._columns(b"", nothing, nothing, singles), nodes=nodes)

    def _are_plain(self, handles: NDArray[np.uint32], encodings: NDArray[np.uint8]) -> NDArray[np.bool_]:
        known = handles < len(self._plain)
        expected = self._plain[np.where(known, handles, 0)]
        is_plain: NDArray[np.bool_] = known & (expected == encodings) & (expected != NULL)
        return is_plain

    def _read_value(self, data: bytes, at: int, end: int, order: int, singles: _SingleValues) -> None:
        """Read one value that is not a plain number, with all its tags."""
        reader = BinaryReader(data, at, end)
        handle = reader.uint32()
        if handle >= len(self._nodes):
            singles.sentences.append(f"the server told of an item {handle} that nobody asked for")
            return
        found = reader.data_value()
        source_ns = NO_TIME
        if found.source_at >= 0:
            source_ns = int(unix_ns(np.frombuffer(data, "<i8", 1, found.source_at))[0])
        wrong: list[tuple[ValueSelector, BadValue]] = []
        for selector in self._nodes[handle].selectors:
            located = None if found.status >> 31 else locate_value(reader, found, selector, self._structures)
            code = found.status
            if isinstance(located, BadValue):
                code = located.code
                wrong.append((selector, located))
            elif located is not None:
                # By its position among these values: a tag that changed several times comes several times.
                slot = len(singles.order)
                singles.fields.append(
                    Field(slot, (int(self._vector[selector.tag]), slot), located, selector.text_bytes)
                )
            _add_single(singles, order, selector.tag, code, source_ns)
        singles.sentences += sentences_of(wrong)

    def _columns(
        self, data: bytes, starts: NDArray[np.intp], orders: NDArray[np.intp], singles: _SingleValues
    ) -> tuple[tuple[Vector, ...], tuple[NDArray[np.uint16], ...], tuple[NDArray[np.uint32], ...], tuple[Times, ...]]:
        plain = _PlainNumbers(data, starts)
        tags = self._tag[plain.handles]
        vector_of = self._vector[tags]
        single = self._single_columns(data, singles)
        parts: list[tuple[Any, ...]] = []
        for vector, data_type in enumerate(self._layout.vector_types):
            here = np.flatnonzero(vector_of == vector)
            values = plain.values(here, data_type)
            columns = (values, self._position[tags[here]], plain.codes[here], plain.times[here])
            if singles.order:
                columns = _merged(orders[here], columns, *single[vector])
            parts.append(columns)
        vectors, positions, codes, times = zip(*parts, strict=True) if parts else ((), (), (), ())
        return vectors, positions, codes, times

    def _single_columns(self, data: bytes, singles: _SingleValues) -> list[tuple[NDArray[np.intp], tuple[Any, ...]]]:
        """For each vector, the order of the values that were read one by one, and their columns."""
        if not singles.order:
            return []
        tags = np.array(singles.tags, np.intp)
        codes = np.array(singles.codes, np.uint32)
        times = np.array(singles.times, np.int64)
        order = np.array(singles.order, np.intp)
        values: list[Vector] = []
        for vector, data_type in enumerate(self._layout.vector_types):
            held: Vector = np.full(len(tags), "" if data_type is DataType.TEXT else 0, data_type.numpy)
            for column in _read_columns(data, singles.fields, vector, data_type, self._namespaces):
                held[column.positions] = column.values
                for slot, code in column.bad:
                    codes[slot] = code
            values.append(held)
        result = []
        for vector in range(len(values)):
            here = np.flatnonzero(self._vector[tags] == vector)
            columns = (values[vector][here], self._position[tags[here]], codes[here], times[here])
            result.append((order[here], columns))
        return result

    def _overflowed(
        self, positions: Sequence[NDArray[np.uint16]], codes: Sequence[NDArray[np.uint32]]
    ) -> tuple[int, ...]:
        tags: set[int] = set()
        for members, places, changes in zip(self._layout.members, positions, codes, strict=True):
            if changes.any():
                tags.update(members[places[(changes & _OVERFLOW_MASK) == OVERFLOW]].tolist())
        return tuple(sorted(tags))


class _PlainNumbers:
    """Numbers in their expected type, by the starts of their items."""

    def __init__(self, data: bytes, starts: NDArray[np.intp]) -> None:
        self._data, self._starts = data, starts
        image = np.frombuffer(data, np.uint8)
        self.handles = _at(data, "<u4")[starts] if len(starts) else np.empty(0, np.uint32)
        self.codes = np.zeros(len(starts), np.uint32)
        self.times = np.full(len(starts), NO_TIME, np.int64)
        if not len(starts):
            return
        masks = image[starts + _MASK_AT]
        after = starts + _VALUE_AT + _WIDTHS[image[starts + _ENCODING_AT]]
        if (masks & _STATUS).any():
            has = np.flatnonzero(masks & _STATUS)
            self.codes[has] = _at(data, "<u4")[after[has]]
            after[has] += 4
        has = np.flatnonzero(masks & _SOURCE)
        if len(has):
            self.times[has] = unix_ns(_at(data, "<i8")[after[has]])

    def values(self, here: NDArray[np.intp], data_type: DataType) -> Vector:
        """The values of one vector."""
        if not len(here):
            return np.empty(0, data_type.numpy)
        if data_type is DataType.BOOL:
            flags: Vector = np.frombuffer(self._data, np.uint8)[self._starts[here] + _VALUE_AT] != 0
            return flags
        wire = data_type.numpy.newbyteorder("<")
        return _at(self._data, wire)[self._starts[here] + _VALUE_AT].astype(data_type.numpy, copy=False)


def _items(data: bytes, first: int, end: int) -> tuple[NDArray[np.intp], list[int]]:
    """Where each item of a DataChangeNotification begins, and the numbers of those of variable size."""
    reader = BinaryReader(data, first, end)
    count = max(0, reader.count(5))
    at = reader.at
    if count and (uniform := _uniform(data, at, end, count)) is not None:
        return uniform, []
    starts: list[int] = []
    others: list[int] = []
    last = end - _VALUE_AT
    for number in range(count):
        size = _SIZES[data[at + _MASK_AT] | data[at + _ENCODING_AT] << 8] if at <= last else 0
        starts.append(at)
        if size:
            at += size
        else:
            others.append(number)
            reader.at = at
            reader.enter_item(0)
            reader.uint32()
            reader.data_value()
            at = reader.at
    if at > end:
        raise MalformedError(f"{count} items announced, and fewer there", first)
    return np.array(starts, np.intp), others


def _uniform(data: bytes, at: int, end: int, count: int) -> NDArray[np.intp] | None:
    """As `_items`, if all have the layout of the first; otherwise None."""
    if at + _VALUE_AT > end:
        return None
    size = _SIZES[data[at + _MASK_AT] | data[at + _ENCODING_AT] << 8]
    if not size or at + size * count > end:
        return None
    items = np.frombuffer(data, np.uint8, size * count, at).reshape(count, size)
    is_alike = (items[:, _MASK_AT] == items[0, _MASK_AT]) & (items[:, _ENCODING_AT] == items[0, _ENCODING_AT])
    return np.arange(at, at + size * count, size, dtype=np.intp) if is_alike.all() else None


def _at(data: bytes, dtype: Any) -> NDArray[Any]:
    """A view of the bytes as numbers of a type, one starting at every byte."""
    width = np.dtype(dtype).itemsize
    return np.ndarray((max(0, len(data) - width + 1),), dtype, data, strides=(1,))


def _add_single(singles: _SingleValues, order: int, tag: int, code: int, source_ns: int) -> None:
    singles.order.append(order)
    singles.tags.append(tag)
    singles.codes.append(code)
    singles.times.append(source_ns)


def _read_columns(
    data: bytes, fields: Sequence[Field], vector: int, data_type: DataType, namespaces: Namespaces
) -> Iterator[Column]:
    """Columns of one vector's values that were read one by one, dates apart from the others."""
    of_vector = [known for known in fields if known.slot[0] == vector]
    for is_date in (False, True):
        group = [known for known in of_vector if (known.located.type == DATE_TIME) is is_date]
        if group:
            column = Column(data, group, data_type, namespaces)
            column.update(data, np.frombuffer(data, np.uint8))
            yield column


def _merged(
    order: NDArray[np.intp], plain: tuple[Any, ...], single_order: NDArray[np.intp], single: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Columns of both kinds of values, in the order of the message."""
    if not len(single_order):
        return plain
    by = np.argsort(np.concatenate((order, single_order)), kind="stable")
    return tuple(np.concatenate(pair)[by] for pair in zip(plain, single, strict=True))


def _joined(arrays: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays) if arrays else np.empty(0, dtype)
