"""Responses to Read requests to readings.

The layout of a response is learned from the first one and verified, byte for byte, on every other: masks, types,
lengths and statuses must be the same; the values between them are then copied from the same positions. A response
that differs is read value by value, and the layout is learned again from it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from drivers.opcua.binary import DATE_TIME, BinaryReader, DataValue, MalformedError, Namespaces
from drivers.opcua.datavalue import (
    BadValue,
    Column,
    Field,
    Image,
    SourceTimes,
    Structures,
    locate_value,
    sentences_of,
    unix_time_ns,
)
from drivers.opcua.plan import Node, OpcuaPlan, ValueSelector
from drivers.opcua.services import READ, ReadRequest, ServiceFaultError, response_head, violation
from edge.errors import ProtocolViolation
from edge.model import NO_TIME, Layout, Reading, StatusRun, Times, Vector, status_runs

_HEADER = struct.Struct("<qII")
_HEADER_AT = {1: 4, 2: 7}  # After the NodeId of the response's type, by that NodeId's encoding.
_KEPT_BYTES = 260


@dataclass(frozen=True, slots=True)
class ReadResponse:
    """A response, or a section of one: its reader, its first byte, and its DataValues."""

    reader: BinaryReader
    first: int
    results: list[DataValue]


def read_header(data: bytes) -> tuple[int, int, int]:
    """Timestamp in 100 ns since 1601, request handle and service result of a response of known layout."""
    device_time, handle, result = _HEADER.unpack_from(data, _HEADER_AT[data[0]])
    return device_time, handle, result


def read_response(data: bytes, handle: int, count: int, section: int | None = None) -> ReadResponse:
    """Read the response to the request with this handle for `count` nodes: all of it, or its first `section` values.

    Raises:
        ServiceFaultError: the server refused the request.
        ProtocolViolation: it is not the response to it, or no OPC UA.
    """
    reader = BinaryReader(data)
    try:
        head = response_head(reader, READ, handle)
        if head.result >> 30:
            raise ServiceFaultError(head.result)
        got = reader.count(1)
    except MalformedError as error:
        raise violation("answer", error, data) from error
    if got != count:
        raise ProtocolViolation("number of values", count, got, data[:_KEPT_BYTES])
    return _read_values(reader, 0, count if section is None else section, is_last=section in (None, count))


def read_remainder(data: bytes, first: int, count: int) -> ReadResponse:
    """Read the values from a byte to the end of a response. Raises ProtocolViolation."""
    return _read_values(BinaryReader(data, first), first, count, is_last=True)


def _read_values(reader: BinaryReader, first: int, count: int, *, is_last: bool) -> ReadResponse:
    try:
        results = [reader.data_value() for _ in range(count)]
        if is_last:
            _read_end(reader)
    except MalformedError as error:
        raise violation("answer", error, reader.data) from error
    return ReadResponse(reader, first, results)


def _read_end(reader: BinaryReader) -> None:
    for _ in range(max(0, reader.count(1))):
        reader.diagnostic_info()
    if reader.at != reader.end:
        raise MalformedError(f"{reader.end - reader.at} bytes too many", reader.at)


BadTags = tuple[tuple[int, int], ...]
"""(tag, status) of tags without a good value."""


@dataclass(frozen=True, slots=True)
class _LocatedValues:
    fields: list[Field]
    bad: BadTags
    sentences: tuple[str, ...]
    times: list[tuple[int, int]]


class ResponseLayout:
    """Where each value is in the responses to one request, or in one section of them.

    Attributes:
        first: first byte of the section.
        end: the byte after it.
        columns: the values of the last response.
        times: their source times, or None where the server gives none.
        sentences: what is wrong with the server or the settings.
    """

    def __init__(
        self, answer: ReadResponse, nodes: Sequence[Node], tags: Layout, structures: Structures, namespaces: Namespaces
    ) -> None:
        values = _locate_all(answer, nodes, tags, structures)
        self.columns = _columns(answer.reader.data, values.fields, tags, namespaces)
        self.times = SourceTimes(*zip(*values.times, strict=True)) if values.times else None
        self.sentences = values.sentences
        self.first, self.end = answer.first, answer.reader.at
        self._is_last = answer.reader.at == answer.reader.end
        self._result = read_header(answer.reader.data)[2]
        self._refused = values.bad
        self._bad = values.bad
        self._is_structure = _structure(answer)
        self._structure = (_image(answer.reader.data)[self.first : self.end] & self._is_structure).tobytes()

    @property
    def bad(self) -> BadTags:
        """Tags without a good value in the last response; the same object while they stay the same."""
        return self._bad

    def fits(self, data: bytes, handle: int, first: int = 0) -> bool:
        """Whether this section of the response to the request with this handle has this layout."""
        if first != self.first or (len(data) != self.end if self._is_last else len(data) < self.end):
            return False
        image = np.frombuffer(data, np.uint8, self.end - first, first)
        if (image & self._is_structure).tobytes() != self._structure:
            return False
        return first > 0 or read_header(data)[1:] == (handle, self._result)

    def update(self, data: bytes) -> tuple[bool, bool]:
        """Decode a response that fits; returns whether any value, and any source time, differs from before."""
        image = _image(data)
        changed = [column.update(data, image) for column in self.columns]
        if any(changed):
            bad = sum((column.bad for column in self.columns), self._refused)
            if bad != self._bad:
                self._bad = bad
        return any(changed), self.times is not None and self.times.update(image)


def _image(data: bytes) -> Image:
    return np.frombuffer(data, np.uint8)


def _structure(answer: ReadResponse) -> Image:
    """0xFF for each byte that must be the same in the next response."""
    reader, start = answer.reader, answer.first
    mask = np.full(reader.at - start, 0xFF, np.uint8)
    for first, size in reader.value_spans:
        mask[first - start : first - start + size] = 0
    for at, (first, size) in reader.bodies.items():
        if at not in reader.decoded_bodies:
            mask[first - start : first - start + max(0, size)] = 0
    return mask


def _locate_all(answer: ReadResponse, nodes: Sequence[Node], tags: Layout, structures: Structures) -> _LocatedValues:
    values = _LocatedValues([], (), (), [])
    order = {int(tag): at for at, tag in enumerate(np.concatenate(tags.members))}
    bad: list[tuple[int, int]] = []
    sentences: list[str] = []
    for node, found in zip(nodes, answer.results, strict=True):
        wrong: list[tuple[ValueSelector, BadValue]] = []
        for selector in node.selectors:
            if found.source_at >= 0:
                values.times.append((order[selector.tag], found.source_at))
            located = None if found.status >> 31 else locate_value(answer.reader, found, selector, structures)
            if isinstance(located, BadValue):
                bad.append((selector.tag, located.code))
                wrong.append((selector, located))
                continue
            if found.status:
                bad.append((selector.tag, found.status))
            if located is not None:
                values.fields.append(Field(selector.tag, tags.slots[selector.tag], located, selector.text_bytes))
        sentences += sentences_of(wrong)
    return _LocatedValues(values.fields, tuple(bad), tuple(sentences), values.times)


def _columns(data: bytes, fields: Sequence[Field], tags: Layout, namespaces: Namespaces) -> tuple[Column, ...]:
    groups: dict[tuple[int, bool], list[Field]] = {}
    for field in fields:
        groups.setdefault((field.slot[0], field.located.type == DATE_TIME), []).append(field)
    return tuple(
        Column(data, group, tags.vector_types[vector], namespaces) for (vector, _), group in sorted(groups.items())
    )


UNKNOWN = frozenset({0x80330000, 0x80340000, 0x80350000})
"""BadNodeIdInvalid, BadNodeIdUnknown, BadAttributeIdInvalid: the server has no such value now."""


class ReadChunk:
    """The nodes of one request, and the layout of its responses.

    Nodes of fixed size come first and have a section with a layout of its own, so that a text of another length needs
    only the layout of the section behind them to be learned again.

    Attributes:
        layouts: one for each section, learned from the last response that did not fit the layout before.
        is_new: values or their positions differ from the last reading; a failed scan leaves it as it is.
        has_new_times: the same for source times.
    """

    def __init__(self, numbers: Sequence[int], nodes: Sequence[Node], tags: Layout, request: ReadRequest) -> None:
        self.numbers, self.request, self._tags = numbers, request, tags
        steady = next((at for at, node in enumerate(nodes) if not node.has_fixed_size), len(nodes))
        numbered = list(zip(numbers, nodes, strict=True))
        self._sections = [section for section in (numbered[:steady], numbered[steady:]) if section]
        self.layouts: list[ResponseLayout] = []
        self.is_new = self.has_new_times = False
        self.device_time_ns: int | None = None
        self._unknown: dict[int, int] = {}

    def decode(self, data: bytes, handle: int, structures: Structures, namespaces: Namespaces) -> Mapping[int, int]:
        """Decode a response; returns the nodes that the server does not have, with their status.

        Raises:
            ServiceFaultError, ProtocolViolation: see `read_response`.
            UnknownStructureError: the definition of a structure has to be requested first.
        """
        first = 0
        for number in range(len(self._sections)):
            if number == len(self.layouts) or not self.layouts[number].fits(data, handle, first):
                self._read_limits(number, self._read(number, data, handle, first), structures, namespaces)
            first = self.layouts[number].end
        for layout in self.layouts:
            is_new, has_new_times = layout.update(data)
            self.is_new |= is_new
            self.has_new_times |= has_new_times
        self.device_time_ns = unix_time_ns(read_header(data)[0])
        unknown, self._unknown = self._unknown, {}
        return unknown

    def _read(self, number: int, data: bytes, handle: int, first: int) -> ReadResponse:
        count = len(self._sections[number])
        return read_remainder(data, first, count) if number else read_response(data, handle, self.request.count, count)

    def _read_limits(self, number: int, answer: ReadResponse, structures: Structures, namespaces: Namespaces) -> None:
        numbers, nodes = zip(*self._sections[number], strict=True)
        self.layouts[number:] = [ResponseLayout(answer, nodes, self._tags, structures, namespaces)]
        self.is_new = self.has_new_times = True
        found = zip(numbers, answer.results, strict=True)
        self._unknown |= {node: result.status for node, result in found if result.status in UNKNOWN}


class PolledPlan:
    """What is known of one plan from scan to scan.

    Attributes:
        chunks: one for each request.
        missing: nodes of the plan that are left out of the requests, with their status.
        begins: nodes before which a request is divided, because the server refused one with those on both sides.
        unresolved: why some of them are left out, as sentences.
        retry_at_ns: boot time when they are requested again.
        is_split: whether the chunks hold all nodes that the server has, and no others.
    """

    def __init__(self, plan: OpcuaPlan) -> None:
        self.plan = plan
        self.chunks: tuple[ReadChunk, ...] = ()
        self.missing: dict[int, int] = {}
        self.begins: set[int] = set()
        self.unresolved: tuple[str, ...] = ()
        self.retry_at_ns = 0
        self.is_split = False
        self._flat_ends = np.cumsum([len(tags) for tags in plan.layout.members], dtype=np.intp).tolist()
        self._blank = plan.layout.empty()
        self._no_times = np.full(len(plan.layout), NO_TIME, np.int64)
        self._vectors: tuple[Vector, ...] | None = None
        self._times: tuple[Times, ...] | None = None
        self._bad: tuple[BadTags, ...] | None = None
        self._status: tuple[StatusRun, ...] = ()
        self._reported: frozenset[str] = frozenset()

    def split(self, requests: Iterable[tuple[Sequence[int], ReadRequest]]) -> None:
        """Read these nodes with these requests from now on."""
        nodes, tags = self.plan.nodes, self.plan.layout
        self.chunks = tuple(
            ReadChunk(numbers, [nodes[number] for number in numbers], tags, request) for numbers, request in requests
        )
        self._bad = self._times = None
        self.is_split = True

    def exclude(self, unknown: Mapping[int, int]) -> None:
        """Leave out nodes from the next scan on; `unknown` is their status by number."""
        if unknown:
            self.missing |= unknown
            self.is_split = False

    def reading(self, asked_at_ns: int, answered_at_ns: int) -> Reading:
        """The reading of the last responses of all chunks.

        When no value changed, `vectors` is the very same tuple as in the reading before.
        """
        device_times = [chunk.device_time_ns for chunk in self.chunks if chunk.device_time_ns is not None]
        reading = Reading(
            self._merge_vectors(),
            asked_at_ns,
            answered_at_ns,
            self._merge_status(),
            self._new_sentences(),
            self._merge_times(),
            device_times[-1] if device_times else None,
        )
        for chunk in self.chunks:
            chunk.is_new = chunk.has_new_times = False
        return reading

    def _merge_vectors(self) -> tuple[Vector, ...]:
        if self._vectors is not None and not any(chunk.is_new for chunk in self.chunks) and self._bad is not None:
            return self._vectors
        vectors = tuple(blank.copy() for blank in self._blank)
        for chunk in self.chunks:
            for layout in chunk.layouts:
                for column in layout.columns:
                    vectors[column.vector][column.positions] = column.values
        if self._vectors is None or not all(map(_is_same, vectors, self._vectors)):
            for vector in vectors:
                vector.setflags(write=False)
            self._vectors = vectors
        return self._vectors

    def _merge_status(self) -> tuple[StatusRun, ...]:
        bad = tuple(layout.bad for chunk in self.chunks for layout in chunk.layouts)
        if self._bad is not None and all(now is before for now, before in zip(bad, self._bad, strict=True)):
            return self._status
        codes = np.zeros(len(self.plan.layout), np.uint32)
        for number, code in self.missing.items():
            codes[[selector.tag for selector in self.plan.nodes[number].selectors]] = code
        for tag, code in (pair for of_part in bad for pair in of_part):
            codes[tag] = code
        self._bad, self._status = bad, status_runs(codes)
        return self._status

    def _merge_times(self) -> tuple[Times, ...] | None:
        if any(chunk.has_new_times for chunk in self.chunks):
            flat = self._no_times.copy()
            given = [layout.times for chunk in self.chunks for layout in chunk.layouts if layout.times]
            for times in given:
                flat[times.order] = times.times
            ends = self._flat_ends
            self._times = (
                tuple(flat[first:end] for first, end in zip([0, *ends], ends, strict=False)) if given else None
            )
        return self._times

    def _new_sentences(self) -> tuple[str, ...]:
        """The sentences of this scan that the scan before did not have."""
        now = [
            *self.unresolved,
            *(text for chunk in self.chunks for layout in chunk.layouts for text in layout.sentences),
        ]
        new = tuple(text for text in now if text not in self._reported)
        self._reported = frozenset(now)
        return new


def _is_same(now: Vector, before: Vector) -> bool:
    return now.tobytes() == before.tobytes() if now.dtype != object else bool((now == before).all())
