"""Answers of a device to values: checked to the byte, located once, then decoded a whole scan at once."""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from drivers.ethernetip import cip
from drivers.ethernetip.address import TagAddress
from drivers.ethernetip.cip import (
    BOOL,
    BY_CODE,
    CHARS,
    LONG_TEXT,
    PARTIAL,
    PATH_SEGMENT,
    PATH_UNKNOWN,
    SHORT_TEXT,
    STRING,
    STRING_HANDLE,
    STRUCTURE,
    SUCCESS,
    TEXT_WIDTHS,
    TOO_LARGE,
    Question,
    Reply,
    reply_of,
    status_text,
    string_bytes,
    type_name,
)
from drivers.ethernetip.plan import Packet, Read, ValueField
from drivers.ethernetip.times import ENCODINGS, TimeColumn, TimeEncoding, encoding_of
from edge.errors import ProtocolViolation
from edge.model import DataType, Layout, StatusCode, Vector

_BIT_MASK = 0x0700  # Which bit of a byte a BOOL is: part of its type (1756-PM020, Tag type service parameter values).
_EMBEDDED = 0x1E
_NAMES_SHOWN = 3
_NO_SUCH_ADDRESS = {(PATH_SEGMENT, None), (PATH_UNKNOWN, None), (0x14, None), (0x16, None), (0xFF, 0x2104),
                    (0xFF, 0x2105), (0x1F, 0x8007), (0x20, 0x8018)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ValueLocation:
    """Where the value of a tag is in a packet; `code` is the type in the answer."""

    field: ValueField
    at: int
    code: int


@dataclass(slots=True)
class PacketResult:
    """The result of checking the answer to one packet.

    Attributes:
        locations: where values are.
        data_ranges: start and end of the bytes that may change from scan to scan.
        bad: status code by tag.
        violations: what was refused and why, as sentences.
        refused: reads without a value that have parts to read instead.
        fragmented: reads whose answer does not fit.
        is_mismatch: something has another type than expected: the program may have changed.
        is_changed: the program did change: no layout of a structure is valid.
        malformed: why nothing in the answer is usable: it is malformed, or a packet of several reads was refused.
    """

    locations: list[ValueLocation] = field(default_factory=list)
    data_ranges: list[tuple[int, int]] = field(default_factory=list)
    bad: dict[int, StatusCode] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    refused: list[Read] = field(default_factory=list)
    fragmented: list[Read] = field(default_factory=list)
    is_mismatch: bool = False
    is_changed: bool = False
    malformed: ProtocolViolation | None = None


def check_answer(packet: Packet, body: bytes, text: str) -> PacketResult:
    """The result of checking the answer to a packet; `text` names the device."""
    try:
        replies = list(_replies(packet, body))
    except ProtocolViolation as error:
        return PacketResult(malformed=error)
    result = PacketResult()
    for read, reply in zip(packet.reads, replies, strict=True):
        _check_reply(read, reply, body, result, text)
    return result


def _replies(packet: Packet, body: bytes) -> Iterator[Reply]:
    whole = reply_of(body, packet.question.data[0])
    if packet.question.data[0] != cip.MULTIPLE:
        yield whole
        return
    if whole.status not in (SUCCESS, _EMBEDDED):
        refusal = status_text(whole.status, whole.extended)
        raise ProtocolViolation("packet of several reads", "one that is accepted", refusal, body[:64])
    at, count = whole.start, len(packet.reads)
    if whole.end - at < 2 + 2 * count or struct.unpack_from("<H", body, at)[0] != count:
        raise ProtocolViolation("replies in a packet", count, f"{whole.end - at} bytes of others", body[:64])
    offsets = (*struct.unpack_from(f"<{count}H", body, at + 2), whole.end - at)
    for read, first, end in zip(packet.reads, offsets, offsets[1:], strict=False):
        if not 2 + 2 * count <= first < end <= whole.end - at:
            raise ProtocolViolation("offset of a reply", f"2 to {whole.end - at}, ascending", first, body[:64])
        yield reply_of(body, read.question.data[0], at + first, at + end)


def _check_reply(read: Read, reply: Reply, body: bytes, result: PacketResult, text: str) -> None:
    if read.expected_bytes:
        result.is_changed = body[reply.start : reply.end] != read.expected_bytes
        return
    if reply.status not in (SUCCESS, PARTIAL) or not (read.codes or reply.status == SUCCESS):
        _record_refusal(read, reply, result, text)
        return
    if not read.codes:
        _check_attribute(read, reply, body, result, text)
        return
    why, code, start = _type_of(read, reply, body)
    if not why and reply.status == PARTIAL:
        if reply.end - start < read.data_bytes:
            result.fragmented.append(read)
            return
        why = f"has more than the {read.data_bytes} bytes of {read.expected}; correct type or length"
    fields = read.fields
    if not why:
        why, fields = _locate(read, code, start, reply.end, result)
    if why:
        result.is_mismatch = True
        if read.parts:
            result.refused.append(read)
        else:
            _mark_bad(fields, StatusCode.BAD_DECODING_ERROR, result)
            result.violations.append(f"{text}: {read} {why}")


def _record_refusal(read: Read, reply: Reply, result: PacketResult, text: str) -> None:
    if reply.status == TOO_LARGE and read.codes:
        result.fragmented.append(read)
    if read.parts:
        result.refused.append(read)
        return
    is_missing = {(reply.status, None), (reply.status, reply.extended)} & _NO_SUCH_ADDRESS
    _mark_bad(read.fields, StatusCode.BAD_ADDRESS if is_missing else StatusCode.BAD_DEVICE_FAILURE, result)
    is_long = not read.codes and reply.status in (TOO_LARGE, PARTIAL)
    result.violations.append(
        f"{text}: {read} is refused: {status_text(reply.status, reply.extended)}"
        + ("; messaging: connected leaves more room for it" if is_long else "")
    )


def _mark_bad(fields: Sequence[ValueField], status: StatusCode, result: PacketResult) -> None:
    result.bad.update((one.tag, status) for one in fields)


def _check_attribute(read: Read, reply: Reply, body: bytes, result: PacketResult, text: str) -> None:
    """Check the size of an attribute, whose answer has no types, and locate the values in it."""
    size, beyond = reply.end - reply.start, []
    for one in read.fields:
        kind, code, least = one.cip_type, one.cip_type.code, one.size
        if kind is STRING:
            code = LONG_TEXT if one.is_part else _attribute_text(body, reply)
        if not kind.size and kind is not CHARS:
            least = TEXT_WIDTHS[code]
        if one.is_part and one.at + least > size:
            beyond.append(one)
        elif one.at + least > size or (kind.size and not one.is_part and size != kind.size):
            _mark_bad((one,), StatusCode.BAD_DECODING_ERROR, result)
            result.violations.append(
                f"{text}: {read} has {size} bytes of data, not {least}; correct type or length, or say where in it the "
                f'value begins, as in "{read} +0"'
            )
        else:
            held = replace(one, size=min(one.size, size - one.at) if one.is_part else size)
            result.locations.append(ValueLocation(held, reply.start + one.at, code))
    if beyond:
        _mark_bad(beyond, StatusCode.BAD_ADDRESS, result)
        ends = ", ".join(sorted({f"{one.cip_type.name} at byte {one.at}" for one in beyond})[:_NAMES_SHOWN])
        result.violations.append(f"{text}: {read} has {size} bytes, too few for {ends}; correct the address")
    # The length in front of a text that is the whole attribute says what kind of text it is.
    if all(one.is_part or one.cip_type.size for one in read.fields):
        result.data_ranges.append((reply.start, reply.end))


def _type_of(read: Read, reply: Reply, body: bytes) -> tuple[str, int, int]:
    """Why the type is wrong, or ""; the type; where the data begins."""
    if reply.end - reply.start < 2:
        return "came without a type", 0, reply.start
    (code,) = struct.unpack_from("<H", body, reply.start)
    if code & ~_BIT_MASK == BOOL.code:
        code = BOOL.code
    if code not in read.codes:
        return f"is {type_name(code)} on the controller, not {read.expected}; correct its type", code, reply.start
    if code != STRUCTURE:
        return "", code, reply.start + 2
    if reply.end - reply.start < 4:
        return "came without the handle of its structure", code, reply.start
    (handle,) = struct.unpack_from("<H", body, reply.start + 2)
    if why := _other_structure(read, handle, reply):
        return why, code, reply.start + 4
    return "", code, reply.start + 4


def _attribute_text(body: bytes, reply: Reply) -> int:
    """The type of a text attribute, which the answer does not name: a short text is recognised by its length byte."""
    size = reply.end - reply.start
    return SHORT_TEXT if size and body[reply.start] == size - 1 else LONG_TEXT


def _other_structure(read: Read, handle: int, reply: Reply) -> str:
    """Why it is not the structure that was expected, or ""."""
    size = reply.end - reply.start - 4
    if read.handle == STRING_HANDLE != handle:
        return f"is another structure, of {size} bytes, not STRING; where it is a string type, say its length"
    if read.handle is not None:
        return "" if handle == read.handle else f"is the structure 0x{handle:04X}, not {read.expected}"
    characters = read.fields[0].characters
    # A string type of another length is recognised by its size.
    if reply.status == SUCCESS and size != string_bytes(characters):
        return f"is a structure of {size} bytes, not a STRING of {characters}; correct type or length"
    return ""


def _locate(read: Read, code: int, start: int, end: int, result: PacketResult) -> tuple[str, tuple[ValueField, ...]]:
    """Add the locations of the values; why some cannot be there, or "", and which."""
    size = end - start
    is_text = code in (LONG_TEXT, SHORT_TEXT) or (code == STRUCTURE and read.handle is None)
    if not is_text:
        sizes = [encoding.size for encoding in ENCODINGS.get(code, ())]
        one_bytes = size if size in sizes else sizes[-1] if sizes else BY_CODE[code].size
        expected = read.elements * (read.element_bytes or one_bytes)
        if size != expected and not (expected < size <= read.whole_bytes and size % expected == 0):
            return f"has {size} bytes of data, not {expected}", read.fields
    if code not in (LONG_TEXT, SHORT_TEXT):  # Their length decides where the next reply begins.
        result.data_ranges.append((start, end))
    beyond = tuple(one for one in read.fields if one.at >= max(size, 1))
    for one in read.fields:
        if one not in beyond:
            held = replace(one, size=size if is_text else expected) if is_text or code in ENCODINGS else one
            result.locations.append(ValueLocation(held, start + one.at, code))
    bits = ", ".join(str(8 * one.at + (one.bit or 0)) for one in beyond)
    return (f"is {type_name(code)}, which has no bit {bits}" if beyond else ""), beyond


_FRAGMENTS_MIN, _FRAGMENT_BYTES_MIN = 4, 100
_STRUCTURE = struct.pack("<H", STRUCTURE)
_HEAD = bytes((cip.READ | cip.REPLY, 0, 0, 0))


def read_fragments(read: Read) -> Generator[Question, bytes, bytes]:
    """Read a tag in fragments (1756-PM020, Read Tag Fragmented Service): the answer as if it had been a single one.

    An error is returned as it came, and so is a malformed answer. Fragments that do not match, or have no end, give an
    answer of the wrong size.
    """
    assert isinstance(read.where, TagAddress)
    path, first, data = cip.symbolic_path(read.where.parts), b"", b""
    for _ in range(_FRAGMENTS_MIN + read.data_bytes // _FRAGMENT_BYTES_MIN):
        body = yield cip.read_fragment(path, read.elements, len(data))
        try:
            reply = reply_of(body, cip.READ_FRAGMENT)
        except ProtocolViolation:
            return body
        if reply.status not in (SUCCESS, PARTIAL):
            return bytes((cip.READ | cip.REPLY,)) + body[1:]
        head_bytes = 4 if body[reply.start : reply.start + 2] == _STRUCTURE else 2
        head, part = body[reply.start : reply.start + head_bytes], body[reply.start + head_bytes : reply.end]
        if first and head != first:
            break  # The type changed during the read.
        first, data = head, data + part
        if reply.status == SUCCESS:
            return _HEAD + first + data
        if not part or len(data) > read.data_bytes:
            break
    return _HEAD + first


Image = NDArray[np.uint8]
PADDING = bytes(8)
"""At the end of an image: the bytes that a tag without a value is decoded from."""


class AnswerPattern:
    """Every byte of an answer that is not data: statuses, types, handles, offsets, sizes."""

    def __init__(self, body: bytes, result: PacketResult) -> None:
        self.result = result
        self._mask = np.full(len(body), 0xFF, np.uint8)
        for start, end in result.data_ranges:
            self._mask[start:end] = 0
        self._fixed = (np.frombuffer(body, np.uint8) & self._mask).tobytes()

    def matches(self, body: bytes) -> bool:
        """Whether an answer differs from the first one in its data only."""
        return len(body) == len(self._fixed) and (np.frombuffer(body, np.uint8) & self._mask).tobytes() == self._fixed


class Decoder:
    """The compiled layout of the answers to one scan."""

    def __init__(self, layout: Layout, locations: Mapping[int, ValueLocation], image_bytes: int) -> None:
        """`locations` are those of tags that have a value, in the image of all answers."""
        self._columns = tuple(
            _column(data_type, [locations.get(int(tag)) for tag in tags], tags, image_bytes)
            for data_type, tags in zip(layout.vector_types, layout.members, strict=True)
        )

    def decode(self, image: bytes) -> tuple[tuple[Vector, ...], tuple[int, ...]]:
        """The vectors of a scan, and the tags whose text is malformed.

        The vectors are read-only and share nothing with the image, which ends with `PADDING`.
        """
        data = np.frombuffer(image, np.uint8)
        wrong: list[int] = []
        return tuple(column(data, wrong) for column in self._columns), tuple(wrong)


_Column = Callable[[Image, list[int]], Vector]


def _column(
    data_type: DataType, locations: Sequence[ValueLocation | None], tags: NDArray[np.intp], padding_at: int
) -> _Column:
    if data_type is DataType.TEXT:
        return _texts(locations, tags)
    at = np.array([padding_at if location is None else location.at for location in locations], np.intp)
    if data_type is DataType.BOOL:
        bits = [None if location is None else location.field.bit for location in locations]
        mask = np.array([0xFF if bit is None else 1 << bit for bit in bits], np.uint8)
        return lambda image, wrong: _read_only((image.take(at) & mask).astype(np.bool_))  # noqa: ARG005
    if data_type is DataType.INT64 and any(_encoding(location) for location in locations):
        return _times(locations, tags, at)
    dtype = data_type.numpy
    index = (at[:, None] + np.arange(dtype.itemsize)).ravel()
    return lambda image, wrong: _read_only(image.take(index).view(dtype))  # noqa: ARG005


def _encoding(location: ValueLocation | None) -> TimeEncoding | None:
    if location is None:
        return None
    held = location.field
    return encoding_of(held.cip_type.code if location.code == STRUCTURE else location.code, held.size)


def _times(locations: Sequence[ValueLocation | None], tags: NDArray[np.intp], at: NDArray[np.intp]) -> _Column:
    """Integers of 64 bits, of which some are dates, times or durations."""
    index = (at[:, None] + np.arange(8)).ravel()
    positions: dict[TimeEncoding, list[int]] = {}
    for position, location in enumerate(locations):
        if (encoding := _encoding(location)) is not None:
            positions.setdefault(encoding, []).append(position)
    columns = [TimeColumn(encoding, where, at[where].tolist()) for encoding, where in positions.items()]

    def decode(image: Image, wrong: list[int]) -> Vector:
        vector = image.take(index).view(np.int64)
        for column in columns:
            wrong.extend(tags[column.fill(image, vector)].tolist())
        return _read_only(vector)

    return decode


def _texts(locations: Sequence[ValueLocation | None], tags: NDArray[np.intp]) -> _Column:
    def decode(image: Image, wrong: list[int]) -> Vector:
        vector = np.full(len(locations), "", object)
        for position, location in enumerate(locations):
            if location is None:
                continue
            try:
                vector[position] = _text(image[location.at : location.at + location.field.size].tobytes(), location)
            except ValueError:
                wrong.append(int(tags[position]))
        return _read_only(vector)

    return decode


def _text(data: bytes, location: ValueLocation) -> str:
    """The text after its length, or ValueError."""
    if location.code == CHARS.code:
        return data[: location.field.characters].partition(b"\0")[0].rstrip(b" ").decode(location.field.encoding)
    width = TEXT_WIDTHS.get(location.code, 4)
    length = int.from_bytes(data[:width], "little")
    if length > min(location.field.characters, len(data) - width):
        raise ValueError(f"{length} characters in a text of {location.field.characters}")
    # One byte may pad it to a word.
    if location.code != STRUCTURE and not location.field.is_part and len(data) - width - length > 1:
        raise ValueError(f"{len(data)} bytes for a text of {length}")
    return data[width : width + length].decode(location.field.encoding)


def _read_only(vector: Vector) -> Vector:
    # An unchanged scan returns the vectors of the one before.
    vector.setflags(write=False)
    return vector
