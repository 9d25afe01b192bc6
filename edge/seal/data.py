"""DATA: the sample blocks of one commit.

This is the hot path: a block costs a few Python operations, a value costs none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cbor2
import numpy as np

from edge.clock import TimeQuality
from edge.model import NO_TIME, Catalogue, DataType, Layout, SampleBlock, Times, Vector
from edge.seal import cbor
from edge.seal.cbor import I64, U64, Unknown, as_array, as_bytes, as_elements, as_fields, as_int, as_text
from edge.seal.payloads import time_from_cbor, time_to_cbor
from edge.seal.record import Malformed, RecordType

COMPLETE, NOTIFICATION, CHANGES = 0, 1, 2
_HALF_US_NS = 500

# Little-endian typed arrays (RFC 8746, 2.1); booleans are sealed as bytes.
_TAGS = {"|b1": 64, "|u1": 64, "<u2": 69, "<u4": 70, "<u8": 71, "|i1": 72, "<i2": 77, "<i4": 78, "<i8": 79,
         "<f4": 85, "<f8": 86}  # fmt: skip
_DTYPES = {tag: np.dtype(code) for code, tag in _TAGS.items() if code != "|b1"}
_TAG_HEADS = {np.dtype(code): cbor.encode_head(cbor.TAG, tag) for code, tag in _TAGS.items()}
_POSITIONS = np.dtype("<u2")
_BLOCK_HEADS = [[bytes((0x80 + size, kind)) for kind in (COMPLETE, NOTIFICATION, CHANGES)] for size in (6, 7, 8)]
_EMPTY_LIST = b"\x80"
_NULL = b"\xf6"
_U32 = (0, 2**32 - 1)


@dataclass(frozen=True, slots=True)
class Data:
    """The payload of a DATA record.

    Attributes:
        utc_ns: UTC of `boot_ns`, which is the instant of the first block.
        catalogue: digest of the catalogue that the group numbers refer to.
        wire_blocks: those of a known kind, checked in shape; `blocks` makes sample blocks of them.
        numbers: the place of each of them among all blocks of the record.
    """

    type: ClassVar = RecordType.DATA
    utc_ns: int
    boot_ns: int
    time: TimeQuality
    catalogue: bytes
    wire_blocks: Sequence[Sequence[Any]]
    numbers: Sequence[int]

    @property
    def since_ns(self) -> int:
        """UTC at which the first of its values was asked for."""
        begins = (dt - rtt_us * _HALF_US_NS for _, _, dt, rtt_us, *_ in self.wire_blocks)
        return self.utc_ns + min(begins, default=0)

    @property
    def until_ns(self) -> int:
        """UTC at which the last of its values was read."""
        return self.utc_ns + max((end_ns for _, end_ns in self.ends()), default=0)

    def ends(self) -> Iterator[tuple[int, int]]:
        """(scan group, when its answer was complete, in ns from the first block) of each block."""
        return ((group, dt + rtt_us * _HALF_US_NS) for _, group, dt, rtt_us, *_ in self.wire_blocks)

    def blocks(self, catalogue: Catalogue | None = None) -> list[SampleBlock]:
        """The sample blocks; with the catalogue they have its data types and are checked against it.

        Without it booleans come as bytes.
        """
        layouts = None if catalogue is None else [group.layout for group in catalogue.groups]
        return [_block(wire, self.boot_ns, self.utc_ns, layouts) for wire in self.wire_blocks]


def encode_data(
    *, utc_ns: int, boot_ns: int, time: TimeQuality, catalogue: bytes, blocks: Sequence[SampleBlock]
) -> bytes:
    """The payload of a DATA record; without blocks it is a heartbeat.

    Args:
        utc_ns: UTC of `boot_ns`.
        boot_ns: the sampling instant of the first block.
        time: what is known about the clock.
        catalogue: digest of the catalogue.
        blocks: the scans.
    """
    parts = [
        b"\xa5\x01", cbor.encode_int(utc_ns), b"\x02", cbor.encode_int(boot_ns), b"\x03",
        cbor.encode(time_to_cbor(time)), b"\x04", cbor.encode_bytes(catalogue), b"\x05",
        cbor.encode_head(cbor.ARRAY, len(blocks)),
    ]  # fmt: skip
    for block in blocks:
        _encode_block(block, boot_ns, utc_ns, parts)
    return b"".join(parts)


def _encode_block(block: SampleBlock, boot_ns: int, utc_ns: int, parts: list[bytes]) -> None:
    asked, answered, positions, vectors = block.asked_at_ns, block.answered_at_ns, block.positions, block.vectors
    times, context = block.source_times, block.context
    kind = COMPLETE if positions is None else NOTIFICATION if block.is_notification else CHANGES
    parts += (
        _BLOCK_HEADS[2 if context else times is not None][kind],
        cbor.encode_int(block.group),
        cbor.encode_int((asked + answered) // 2 - boot_ns),
        cbor.encode_int(-((asked - answered) // 1000)),
        cbor.encode_head(cbor.ARRAY, len(vectors)),
    )
    if positions is None:
        for vector in vectors:
            _encode_vector(vector, parts)
    else:
        for vector, where in zip(vectors, positions, strict=True):
            if len(where):
                parts.append(b"\x82")
                _encode_vector(where, parts)
                _encode_vector(vector, parts)
            else:
                parts.append(_NULL)
    parts.append(cbor.encode(block.status) if block.status else _EMPTY_LIST)
    if times is not None:
        _encode_times(times, utc_ns, parts)
    elif context:
        parts.append(_NULL)
    if context:
        parts.append(cbor.encode_int(context[0]) if len(context) == 1 else cbor.encode(context))


def _encode_times(times: Sequence[Times], utc_ns: int, parts: list[bytes]) -> None:
    """Source times relative to the time of the record: small, similar numbers compress well."""
    parts.append(cbor.encode_head(cbor.ARRAY, len(times)))
    for each in times:
        if len(each):
            _encode_vector(np.where(each == NO_TIME, NO_TIME, each - utc_ns), parts)
        else:
            parts.append(_NULL)


def _encode_vector(vector: Vector, parts: list[bytes]) -> None:
    tag = _TAG_HEADS.get(vector.dtype)
    if tag is not None:
        parts += (tag, cbor.encode_head(cbor.BLOB, vector.nbytes), vector.tobytes())
    elif vector.dtype.kind == "O":
        parts.append(cbor.encode_head(cbor.ARRAY, len(vector)))
        parts += map(cbor.encode_text, vector)
    else:
        _encode_vector(vector.astype(vector.dtype.newbyteorder("<")), parts)


def data_from_cbor(value: object, unknown: Unknown) -> Data:
    """The content of a DATA record, checked in shape. Raises Malformed."""
    f = as_fields(value, 5, unknown)
    blocks = as_array(f[5])
    numbers = [number for number, block in enumerate(blocks) if _check_block(block, unknown)]
    wire_blocks = blocks if len(numbers) == len(blocks) else [blocks[number] for number in numbers]
    time = time_from_cbor(f[3], unknown)
    return Data(as_int(f[1], I64), as_int(f[2], I64), time, as_bytes(f[4], 8), wire_blocks, numbers)


def _check_block(wire: object, unknown: Unknown) -> bool:
    """Whether the kind of a block is known; the block is checked in any case."""
    fields = as_array(wire)
    kind = as_int(fields[0] if fields else None)
    if kind not in (COMPLETE, NOTIFICATION, CHANGES):
        unknown.skip(f"block kind {kind}", fields)
        return False
    _, group, dt, rtt_us, vectors, status, *more = as_elements(wire, 6, unknown, more=2)
    as_int(group, _U32)
    as_int(dt, I64)
    as_int(rtt_us, _U32)
    counts = [_check_values(vector, kind, unknown) for vector in as_array(vectors)]
    _check_status(status, unknown)
    if kind == NOTIFICATION and status and max(first + count for first, count, *_ in status) > sum(counts):
        raise Malformed(f"a status beyond the {sum(counts)} values of a notification")
    if more and not (more[0] is None and len(fields) > 7):
        _check_times(more[0], counts)
    if len(more) > 1 and not _context(more[1]) and not (more[1] is None and len(fields) > 8):
        unknown.skip("element 8", more[1])
    return True


def _context(given: object) -> tuple[int, ...]:
    """The eighth element: the number of a context, or those before and after a change; empty where it is neither."""
    numbers: list[Any] = given if type(given) is list and len(given) == 2 else [given]
    return tuple(numbers) if all(type(number) is int and 0 <= number <= U64[1] for number in numbers) else ()


def context_of(wire: Sequence[Any]) -> tuple[int, ...]:
    """The context that a block of `Data.wire_blocks` names, as `SampleBlock.context` has it."""
    return _context(wire[7]) if len(wire) > 7 else ()


def _check_values(vector: object, kind: int, unknown: Unknown) -> int:
    """The number of values of one data type in a block."""
    if kind == COMPLETE:
        return _check_vector(vector)
    if vector is None:
        return 0
    where, values = as_elements(vector, 2, unknown)
    return _check_changes(where, values, is_ascending=kind == CHANGES)


def _check_times(times: object, counts: Sequence[int]) -> None:
    for each, count in zip(as_array(times, len(counts)), counts, strict=True):
        if each is None:
            found = 0
        elif type(each) is cbor2.CBORTag and each.tag == _TAGS["<i8"]:
            found = _check_vector(each)
        else:
            raise Malformed("source times as a typed array of 64-bit numbers were expected")
        if found != count:
            raise Malformed(f"{count} source times were expected, one for each value, got {found}")


def _check_status(status: object, unknown: Unknown) -> None:
    for run in as_array(status):
        first, count, code = as_elements(run, 3, unknown)
        if as_int(first, _U32) + as_int(count, (1, _U32[1])) > _U32[1] or not as_int(code, _U32):
            raise Malformed(f"a run of status codes that are not good was expected, got {run}")


def _check_vector(vector: object) -> int:
    """The number of values of a typed array or an array of texts."""
    if type(vector) is cbor2.CBORTag:
        dtype = _DTYPES.get(vector.tag)
        if dtype is None:
            raise Malformed(f"tag {vector.tag} is not allowed")
        size, rest = divmod(len(as_bytes(vector.value)), dtype.itemsize)
        if rest:
            raise Malformed(f"a typed array ends in the middle of a {dtype} value")
        return size
    for each in as_array(vector):
        as_text(each)
    return len(vector)  # type: ignore[arg-type]


def _check_changes(where: object, values: object, *, is_ascending: bool) -> int:
    count = _check_vector(where)
    if type(where) is not cbor2.CBORTag or where.tag != _TAGS["<u2"] or not count:
        raise Malformed("positions as a typed array of 16-bit numbers were expected")
    places = np.frombuffer(where.value, _POSITIONS)
    if is_ascending and not (places[1:] > places[:-1]).all():
        raise Malformed("positions in ascending order were expected")
    if count != _check_vector(values):
        raise Malformed("one value for each position was expected")
    return count


def _block(wire: Sequence[Any], boot_ns: int, utc_ns: int, layouts: Sequence[Layout] | None) -> SampleBlock:
    kind, group, dt, rtt_us, encoded, status = wire[:6]
    middle, half = boot_ns + dt, rtt_us * _HALF_US_NS
    if kind == COMPLETE:
        positions = None
        vectors = tuple(map(_vector, encoded))
    else:
        pairs = [(_NOWHERE, _NOTHING) if each is None else tuple(map(_vector, each[:2])) for each in encoded]
        positions = tuple(where for where, _ in pairs)
        vectors = tuple(values for _, values in pairs)
    if layouts is not None:
        if group >= len(layouts):
            raise Malformed(f"scan group {group} is not in the catalogue")
        vectors = tuple(_typed(layouts[group], vectors, positions, () if kind == NOTIFICATION else status))
    runs = tuple((first, count, code) for first, count, code, *_ in status)
    times = tuple(_times(each, utc_ns) for each in wire[6]) if len(wire) > 6 and wire[6] is not None else None
    context = context_of(wire)
    is_notification = kind == NOTIFICATION
    return SampleBlock(group, middle - half, middle + half, vectors, positions, runs, times, is_notification, context)


def _times(encoded: Any, utc_ns: int) -> Times:
    if encoded is None:
        return _NEVER
    times = np.frombuffer(encoded.value, np.int64)
    return np.where(times == NO_TIME, NO_TIME, times + utc_ns)


_NOWHERE = np.empty(0, np.uint16)
_NOTHING = np.empty(0, np.uint8)
_NEVER = np.empty(0, np.int64)


def _vector(encoded: Any) -> Vector:
    if type(encoded) is cbor2.CBORTag:
        return np.frombuffer(encoded.value, _DTYPES[encoded.tag])
    texts = np.empty(len(encoded), object)
    texts[:] = encoded
    return texts


def _typed(
    layout: Layout, vectors: Sequence[Vector], positions: Sequence[Vector] | None, status: Sequence[Sequence[int]]
) -> Iterable[Vector]:
    if len(vectors) != len(layout.vector_types):
        raise Malformed(f"{len(layout.vector_types)} vectors were expected, got {len(vectors)}")
    if status and max(first + count for first, count, *_ in status) > len(layout):
        raise Malformed(f"a status beyond the {len(layout)} tags of the scan group")
    for at, (vector, data_type, tags) in enumerate(zip(vectors, layout.vector_types, layout.members, strict=True)):
        if positions is None and len(vector) != len(tags):
            raise Malformed(f"{len(tags)} values of {data_type.label} were expected, got {len(vector)}")
        if positions is not None and not len(vector):
            yield np.empty(0, data_type.numpy)
            continue
        if positions is not None and positions[at].max() >= len(tags):
            raise Malformed(f"a position beyond the {len(tags)} values of {data_type.label}")
        if not data_type.is_known:
            yield np.full(len(vector), None, object)
            continue
        if data_type is DataType.BOOL and vector.dtype == np.uint8 and vector.max(initial=0) <= 1:
            vector = vector.view(np.bool_)
        if vector.dtype != data_type.numpy:
            raise Malformed(f"values of {data_type.label} were expected, got {vector.dtype}")
        yield vector
