"""What stands in the tables of the historian for a record: configs/historian/schema.sql says what the columns mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.model import NO_TIME, Catalogue, CatalogueGroup, DataType, SampleBlock, Vector, status_codes, status_runs
from edge.relay.reading_columns import BAD, contexts_of
from edge.relay.sinks.other_rows import to_json
from edge.relay.sinks.postgres_copy import (
    NO_NUMBERS,
    NULL,
    encode_array,
    encode_bytes,
    encode_int2,
    encode_int4,
    encode_int8,
    encode_text,
    encode_texts,
    encode_time,
    optional,
    row,
)
from edge.relay.sinks.sink import SinkRecord
from edge.seal import Data
from edge.seal.data import CHANGES, COMPLETE, NOTIFICATION

_VECTORS: dict[str, np.dtype[Any]] = {
    "i8": np.dtype(np.int64),
    "f4": np.dtype(np.float32),
    "f8": np.dtype(np.float64),
    "txt": np.dtype(object),
}
_KINDS = {"i8": "int8", "f4": "float4", "f8": "float8"}


def signed(number: int) -> int:
    """A number of 64 bits as bigint has it: the upper half in two's complement."""
    return number - 2**64 if number >= 2**63 else number


def _vector_of(data_type: DataType) -> str:
    """The array that values of a type are in; empty for a type that this version does not know."""
    if not data_type.is_known:
        return ""
    return {DataType.FLOAT32: "f4", DataType.FLOAT64: "f8", DataType.TEXT: "txt"}.get(data_type, "i8")


class _Part(NamedTuple):
    """A vector of a layout: the array it is in, and its first slot there."""

    vector: str
    start: int
    members: NDArray[np.intp]


@dataclass(frozen=True)
class GroupArrays:
    """Where the values of a scan group are in the arrays of its rows."""

    group: CatalogueGroup

    @cached_property
    def parts(self) -> tuple[_Part, ...]:
        """Each vector of the layout."""
        filled = dict.fromkeys(["", *_VECTORS], 0)
        parts = []
        for data_type, members in zip(self.group.layout.vector_types, self.group.layout.members, strict=True):
            vector = _vector_of(data_type)
            parts.append(_Part(vector, filled[vector], members))
            filled[vector] += len(members)
        return tuple(parts)

    def arrays(self, vectors: Iterable[Vector]) -> dict[str, Vector]:
        """The values of a block by array, vector after vector."""
        found: dict[str, list[Vector]] = {vector: [] for vector in _VECTORS}
        for part, values in zip(self.parts, vectors, strict=True):
            if part.vector and len(values):
                found[part.vector].append(as_stored(part.vector, values))
        return {name: each[0] if len(each) == 1 else np.concatenate(each) if each else np.empty(0, _VECTORS[name])
                for name, each in found.items()}  # fmt: skip

    def tags(self, number: int) -> Iterator[dict[str, Any]]:
        """What the catalogue says of each tag, in the columns of the table catalogue; `number` is that of the group."""
        places: dict[int, tuple[str, int, int]] = {}
        for part in self.parts:
            for slot, tag in enumerate(part.members.tolist(), part.start):
                places[tag] = (part.vector, slot + 1, len(places) + 1)
        numbers = {tag.name: n for n, tag in enumerate(self.group.tags)}
        for n, tag in enumerate(self.group.tags):
            vector, slot, place = places[n]
            low, high = tag.range or (None, None)
            yield {
                "scan_group": number, "n": n, "device": self.group.device, "group_name": self.group.name,
                "interval_ns": self.group.interval_ns, "name": tag.name, "address": tag.address,
                "type": tag.data_type.label, "vector": vector or None, "slot": slot, "place": place, "unit": tag.unit,
                "scale": tag.scale, "offset": tag.offset, "low": low, "high": high, "deadband": tag.deadband,
                "description": tag.description, "texts": {str(key): value for key, value in tag.texts} or None,
                "time_kind": tag.time_kind and tag.time_kind.value, "scale_tag": numbers.get(tag.scale_tag),
            }  # fmt: skip


def as_stored(vector: str, values: Vector) -> Vector:
    """Values as the array has them: whole numbers and booleans in 64 bits, uint64 in two's complement."""
    if vector == "i8":
        return values.view(np.int64) if values.dtype == np.uint64 else values.astype(np.int64)
    return values


def catalogue_tags(catalogue: Catalogue) -> str:
    """All tags of a catalogue, as JSON."""
    groups = enumerate(catalogue.groups)
    return to_json([tag for number, group in groups for tag in GroupArrays(group).tags(number)])


class BlockRow(NamedTuple):
    """A row of the table block, and its time."""

    seq: int
    t_ns: int
    data: bytes


def block_rows(record: SinkRecord, groups: list[GroupArrays]) -> Iterator[BlockRow]:
    """The rows of a DATA record, whose scan groups these are."""
    data, place = record.content, record.place
    assert isinstance(data, Data)
    key = encode_text(place.gateway), encode_bytes(place.epoch), encode_int8(signed(place.seq))
    digest = encode_bytes(data.catalogue)
    for number, block in zip(data.numbers, data.blocks(record.catalogue), strict=True):
        t_ns, own = block_time_ns(data, block), groups[block.group]
        kind = COMPLETE if block.positions is None else NOTIFICATION if block.is_notification else CHANGES
        arrays, is_known = own.arrays(block.vectors), [bool(part.vector) for part in own.parts]
        fields = [
            *key, encode_int4(number), encode_int2(kind), encode_int4(block.group), encode_int8(t_ns),
            encode_time(t_ns), encode_int8(block.answered_at_ns - block.asked_at_ns),
            optional(encode_int8, data.time.bound_at(block.sampled_at_ns)), digest,
            *encode_values(arrays), _positions(block, own),
            encode_array("int8", _joined(block.source_times, is_known)), encode_status(block.status), NULL,
            *(optional(encode_int8, number and signed(number)) for number in contexts_of(block)),
        ]  # fmt: skip
        yield BlockRow(place.seq, t_ns, row(fields))


def block_time_ns(data: Data, block: SampleBlock) -> int:
    """UTC of a block, by the clock of the gateway."""
    return data.utc_ns + block.sampled_at_ns - data.boot_ns


def encode_values(arrays: Mapping[str, Vector]) -> list[bytes]:
    """The fields i8, f4, f8 and txt."""
    return [*(encode_array(kind, arrays[name]) for name, kind in _KINDS.items()), encode_texts(arrays["txt"])]


def encode_status(runs: Iterable[tuple[int, int, int]]) -> bytes:
    """The field status: runs after each other."""
    return encode_array("int8", np.array([number for run in runs for number in run], np.int64))


def _positions(block: SampleBlock, own: GroupArrays) -> bytes:
    """The field positions: the number of each value's tag; null where all are there, empty where none is."""
    if block.positions is None:
        return NULL
    tags = [part.members[where] for part, where in zip(own.parts, block.positions, strict=True) if part.vector]
    return encode_array("int4", np.concatenate(tags)) if sum(map(len, tags)) else NO_NUMBERS


def _joined(times: tuple[NDArray[np.int64], ...] | None, is_known: list[bool]) -> Vector:
    kept = [each for each, known in zip(times or (), is_known, strict=False) if known]
    return np.concatenate(kept) if kept else np.empty(0, np.int64)


class Latest:
    """The newest value of each tag of a scan group, in the order of its catalogue."""

    def __init__(self, own: GroupArrays, kept: Mapping[str, Any] | None) -> None:
        self._own = own
        count = len(own.group.tags)
        sizes = dict.fromkeys(_VECTORS, 0)
        for part in own.parts:
            if part.vector:
                sizes[part.vector] = part.start + len(part.members)
        self._arrays: dict[str, Vector] = {
            name: np.full(sizes[name], "" if name == "txt" else 0, dtype) for name, dtype in _VECTORS.items()
        }
        self._times, self._codes = np.full(count, NO_TIME, np.int64), np.zeros(count, np.uint32)
        if kept is not None:
            for name, array in self._arrays.items():
                array[:] = kept[name] or []
            self._times[:] = kept["times"]
            runs = kept["status"] or []
            self._codes = status_codes([tuple(runs[at : at + 3]) for at in range(0, len(runs), 3)], count)

    def take(self, block: SampleBlock, t_ns: int) -> None:
        """Show a block; a value that is older than the one shown changes nothing."""
        newer = self._times <= t_ns
        if not block.is_notification:
            codes = status_codes(block.status, len(newer))
            self._codes[newer] = codes[newer]
            self._times[newer & (codes >= BAD)] = t_ns
            by_value = None
        else:
            assert block.positions is not None
            by_value = status_codes(block.status, sum(map(len, block.positions)))
        first = 0
        for number, (part, values) in enumerate(zip(self._own.parts, block.vectors, strict=True)):
            where = np.arange(len(values)) if block.positions is None else block.positions[number].astype(np.intp)
            tags = part.members[where]
            taken = newer[tags]
            if part.vector:
                self._arrays[part.vector][part.start + where[taken]] = as_stored(part.vector, values)[taken]
            self._times[tags[taken]] = t_ns
            if by_value is not None:
                self._codes[tags[taken]] = by_value[first : first + len(values)][taken]
            first += len(values)

    def row(self, gateway: str, digest: bytes, number: int) -> bytes:
        """The row of the table latest."""
        return row([
            encode_text(gateway), encode_bytes(digest), encode_int4(number), *encode_values(self._arrays),
            encode_status(status_runs(self._codes)), encode_array("int8", self._times),
        ])  # fmt: skip
