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
    LONG_TEXT,
    SHORT_TEXT,
    STRING,
    STRING_HANDLE,
    STRUCTURE,
    Question,
    string_bytes,
    type_name,
)
from drivers.ethernetip.plan import Field, Packet, Read
from edge.errors import ProtocolViolation
from edge.model import DataType, Layout, StatusCode, Vector

_BIT_MASK = 0x0700  # Which bit of a byte a BOOL is: part of its type (1756-PM020, Tag type service parameter values).
SUCCESS, PATH_SEGMENT, PATH_UNKNOWN, PARTIAL, NOT_SUPPORTED, TOO_LARGE = 0x00, 0x04, 0x05, 0x06, 0x08, 0x11
_EMBEDDED = 0x1E
_NO_SUCH_ADDRESS = {(PATH_SEGMENT, None), (PATH_UNKNOWN, None), (0x14, None), (0x16, None), (0xFF, 0x2104),
                    (0xFF, 0x2105)}  # fmt: skip
_TEXTS = {
    0x01: "connection failure",
    0x02: "resource unavailable",
    0x03: "invalid value",
    0x04: "there is no such tag or member",
    0x05: "there is no such tag or object",
    0x06: "it has more than fits in one answer",
    0x08: "service not supported",
    0x0A: "attribute list error",
    0x0C: "object state conflict",
    0x0F: "privilege violation: the tag's external access is None",
    0x10: "device state conflict",
    0x11: "the answer would be too large",
    0x13: "not enough data",
    0x14: "attribute not supported",
    0x16: "there is no such object",
    0x1E: "embedded service error",
    0x26: "path size invalid",
    0xFF: "general error",
}
_EXTENDED = {0x2104: "offset beyond the end of the tag", 0x2105: "there is no such element",
             0x2107: "another type of tag"}  # fmt: skip


def status_text(status: int, extended: int | None = None) -> str:
    """A general status in words (CIP Vol 1, appendix B-1)."""
    code = f"0x{status:02X}" + (f"/0x{extended:04X}" if extended is not None else "")
    text = _EXTENDED.get(extended or 0) or _TEXTS.get(status, "status not in the standard")
    return f"{text} (CIP status {code})"


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one question: its status, and where its data is in the packet."""

    status: int
    extended: int | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where the value of a tag is in a packet; `code` is the type it came with."""

    field: Field
    at: int
    code: int


@dataclass(slots=True)
class Verdict:
    """What one packet's answer means.

    Attributes:
        places: where values are.
        moving: from where to where data is that may change while all else stays.
        bad: status code by tag.
        sentences: what was refused and why.
        refused: reads that brought nothing, and may do better in parts.
        long: reads whose answer does not fit.
        is_mismatch: whether something is not of the type that was expected: the program may have changed.
        is_changed: whether the program certainly did: no layout of a structure counts.
    """

    places: list[Place] = field(default_factory=list)
    moving: list[tuple[int, int]] = field(default_factory=list)
    bad: dict[int, StatusCode] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)
    refused: list[Read] = field(default_factory=list)
    long: list[Read] = field(default_factory=list)
    is_mismatch: bool = False
    is_changed: bool = False


def reply_of(body: bytes, service: int, start: int = 0, end: int | None = None) -> Reply:
    """The reply in a part of an answer.

    Raises:
        ProtocolViolation: it is none, or the answer to another service.
    """
    end = len(body) if end is None else end
    if end - start < 4:
        raise ProtocolViolation("reply", "at least 4 bytes", end - start, body[start:end])
    if body[start] != service | cip.REPLY:
        raise ProtocolViolation(
            "reply service", f"0x{service | cip.REPLY:02X}", f"0x{body[start]:02X}", body[start:end][:64]
        )
    status, words = body[start + 2], body[start + 3]
    data = start + 4 + 2 * words
    if data > end:
        raise ProtocolViolation("extended status", "within the reply", f"{words} words", body[start:end][:64])
    extended = struct.unpack_from("<H", body, start + 4)[0] if words else None
    return Reply(status, extended, data, end)


def data_of(body: bytes, service: int) -> bytes | None:
    """The data of an answer to one question; None where it is refused. Raises as `reply_of`."""
    reply = reply_of(body, service)
    return body[reply.start : reply.end] if reply.status == SUCCESS else None


def judge(packet: Packet, body: bytes, text: str) -> Verdict:
    """What the answer to a packet means; `text` names the device.

    Raises:
        ProtocolViolation: it is not the answer to this packet.
    """
    verdict = Verdict()
    for read, reply in zip(packet.reads, _replies(packet, body), strict=True):
        _judge(read, reply, body, verdict, text)
    return verdict


def _replies(packet: Packet, body: bytes) -> Iterator[Reply]:
    whole = reply_of(body, packet.question.data[0])
    if packet.question.data[0] != cip.MULTIPLE:
        yield whole
        return
    if whole.status not in (SUCCESS, _EMBEDDED):
        for _ in packet.reads:
            yield whole
        return
    at, count = whole.start, len(packet.reads)
    if whole.end - at < 2 + 2 * count or struct.unpack_from("<H", body, at)[0] != count:
        raise ProtocolViolation("replies in a packet", count, f"{whole.end - at} bytes of others", body[:64])
    offsets = (*struct.unpack_from(f"<{count}H", body, at + 2), whole.end - at)
    for read, first, end in zip(packet.reads, offsets, offsets[1:], strict=False):
        if not 2 + 2 * count <= first < end <= whole.end - at:
            raise ProtocolViolation("offset of a reply", f"2 to {whole.end - at}, ascending", first, body[:64])
        yield reply_of(body, read.question.data[0], at + first, at + end)


def _judge(read: Read, reply: Reply, body: bytes, verdict: Verdict, text: str) -> None:
    if read.must_be:
        verdict.is_changed = body[reply.start : reply.end] != read.must_be
        return
    if reply.status not in (SUCCESS, PARTIAL) or not (read.codes or reply.status == SUCCESS):
        _excuse(read, reply, verdict, text)
        return
    why, code, start = _type_of(read, reply, body)
    if not why and reply.status == PARTIAL:
        if reply.end - start < read.data_bytes:
            verdict.long.append(read)
            return
        why = f"has more than the {read.data_bytes} bytes of {read.expected}; correct type or length"
    fields = read.fields
    if not why:
        why, fields = _place(read, code, start, reply.end, verdict)
    if why:
        verdict.is_mismatch = True
        if read.parts:
            verdict.refused.append(read)
        else:
            _spoil(fields, StatusCode.BAD_DECODING_ERROR, verdict)
            verdict.sentences.append(f"{text}: {read} {why}")


def _excuse(read: Read, reply: Reply, verdict: Verdict, text: str) -> None:
    if reply.status == TOO_LARGE and read.codes:
        verdict.long.append(read)
    if read.parts:
        verdict.refused.append(read)
        return
    is_missing = {(reply.status, None), (reply.status, reply.extended)} & _NO_SUCH_ADDRESS
    _spoil(read.fields, StatusCode.BAD_ADDRESS if is_missing else StatusCode.BAD_DEVICE_FAILURE, verdict)
    verdict.sentences.append(f"{text}: {read} is refused: {status_text(reply.status, reply.extended)}")


def _spoil(fields: Sequence[Field], status: StatusCode, verdict: Verdict) -> None:
    verdict.bad.update((one.tag, status) for one in fields)


def _type_of(read: Read, reply: Reply, body: bytes) -> tuple[str, int, int]:
    """Why the type is wrong, or "", the type, and where the data begins."""
    if not read.codes:
        kind = read.fields[0].cip_type
        return "", _attribute_text(body, reply) if kind is STRING else kind.code, reply.start
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
    """An attribute comes without a type: a text with one byte of length in front is known by that length."""
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
    # A string type of another length is known by the size that its length makes.
    if reply.status == SUCCESS and size != string_bytes(characters):
        return f"is a structure of {size} bytes, not a STRING of {characters}; correct type or length"
    return ""


def _place(read: Read, code: int, start: int, end: int, verdict: Verdict) -> tuple[str, tuple[Field, ...]]:
    """Note where the values are; why some cannot be there, or "", and which."""
    size = end - start
    is_text = code in (LONG_TEXT, SHORT_TEXT) or (code == STRUCTURE and read.handle is None)
    if not is_text:
        expected = read.elements * (read.element_bytes or BY_CODE[code].size)
        if size != expected:
            return f"has {size} bytes of data, not {expected}", read.fields
    if code not in (LONG_TEXT, SHORT_TEXT):  # Their length decides where the next reply begins.
        verdict.moving.append((start, end))
    beyond = tuple(one for one in read.fields if one.at >= max(size, 1))
    for one in read.fields:
        if one not in beyond:
            held = replace(one, size=size) if is_text else one
            verdict.places.append(Place(held, start + one.at, code))
    bits = ", ".join(str(8 * one.at + (one.bit or 0)) for one in beyond)
    return (f"is {type_name(code)}, which has no bit {bits}" if beyond else ""), beyond


_FRAGMENTS_MIN, _FRAGMENT_BYTES_MIN = 4, 100
_STRUCTURE = struct.pack("<H", STRUCTURE)
_HEAD = bytes((cip.READ | cip.REPLY, 0, 0, 0))


def whole_of(read: Read) -> Generator[Question, bytes, bytes]:
    """The answer to a read as if it had come in one piece; an error as it came.

    What does not belong together, or has no end, comes as a piece of the wrong size.
    """
    assert isinstance(read.where, TagAddress)
    path, first, data = cip.symbolic_path(read.where.parts), b"", b""
    for _ in range(_FRAGMENTS_MIN + read.data_bytes // _FRAGMENT_BYTES_MIN):
        body = yield cip.read_fragment(path, read.elements, len(data))
        reply = reply_of(body, cip.READ_FRAGMENT)
        if reply.status not in (SUCCESS, PARTIAL):
            return bytes((cip.READ | cip.REPLY,)) + body[1:]
        head_bytes = 4 if body[reply.start : reply.start + 2] == _STRUCTURE else 2
        head, part = body[reply.start : reply.start + head_bytes], body[reply.start + head_bytes : reply.end]
        if first and head != first:
            break  # Changed while it was read: neither the one nor the other.
        first, data = head, data + part
        if reply.status == SUCCESS:
            return _HEAD + first + data
        if not part or len(data) > read.data_bytes:
            break
    return _HEAD + first


Image = NDArray[np.uint8]
NOTHING = bytes(8)
"""Behind the answers in an image: what a tag without a value is read from."""


class Shape:
    """Every byte of an answer that is not data: statuses, types, handles, offsets, sizes."""

    def __init__(self, body: bytes, verdict: Verdict) -> None:
        self.verdict = verdict
        self._mask = np.full(len(body), 0xFF, np.uint8)
        for start, end in verdict.moving:
            self._mask[start:end] = 0
        self._fixed = (np.frombuffer(body, np.uint8) & self._mask).tobytes()

    def fits(self, body: bytes) -> bool:
        """Whether an answer differs from the first one in its data only."""
        return len(body) == len(self._fixed) and (np.frombuffer(body, np.uint8) & self._mask).tobytes() == self._fixed


class Decoder:
    """The compiled layout of the answers to one scan."""

    def __init__(self, layout: Layout, places: Mapping[int, Place], image_bytes: int) -> None:
        """`places` are those of tags that have a value, in the image of all answers."""
        self._columns = tuple(
            _column(data_type, [places.get(int(tag)) for tag in tags], tags, image_bytes)
            for data_type, tags in zip(layout.vector_types, layout.members, strict=True)
        )

    def decode(self, image: bytes) -> tuple[tuple[Vector, ...], tuple[int, ...]]:
        """The vectors of a scan, and the tags whose text is none.

        The vectors are read-only and share nothing with the image, which ends with `NOTHING`.
        """
        data = np.frombuffer(image, np.uint8)
        wrong: list[int] = []
        return tuple(column(data, wrong) for column in self._columns), tuple(wrong)


_Column = Callable[[Image, list[int]], Vector]


def _column(data_type: DataType, places: Sequence[Place | None], tags: NDArray[np.intp], nothing_at: int) -> _Column:
    if data_type is DataType.TEXT:
        return _texts(places, tags)
    at = np.array([nothing_at if place is None else place.at for place in places], np.intp)
    if data_type is DataType.BOOL:
        bits = [None if place is None else place.field.bit for place in places]
        mask = np.array([0xFF if bit is None else 1 << bit for bit in bits], np.uint8)
        return lambda image, wrong: _sealed((image.take(at) & mask).astype(np.bool_))  # noqa: ARG005
    dtype = data_type.numpy
    index = (at[:, None] + np.arange(dtype.itemsize)).ravel()
    return lambda image, wrong: _sealed(image.take(index).view(dtype))  # noqa: ARG005


def _texts(places: Sequence[Place | None], tags: NDArray[np.intp]) -> _Column:
    def decode(image: Image, wrong: list[int]) -> Vector:
        vector = np.full(len(places), "", object)
        for position, place in enumerate(places):
            if place is None:
                continue
            try:
                vector[position] = _text(image[place.at : place.at + place.field.size].tobytes(), place)
            except ValueError:
                wrong.append(int(tags[position]))
        return _sealed(vector)

    return decode


def _text(data: bytes, place: Place) -> str:
    """A text with its length in front, or ValueError."""
    width = {LONG_TEXT: 2, SHORT_TEXT: 1}.get(place.code, 4)
    length = int.from_bytes(data[:width], "little")
    if length > min(place.field.characters, len(data) - width):
        raise ValueError(f"{length} characters in a text of {place.field.characters}")
    if place.code != STRUCTURE and len(data) - width - length > 1:  # One byte may fill it up to a whole word.
        raise ValueError(f"{len(data)} bytes for a text of {length}")
    return data[width : width + length].decode(place.field.encoding)


def _sealed(vector: Vector) -> Vector:
    # An unchanged scan hands out the vectors of the one before: nobody may write into them.
    vector.setflags(write=False)
    return vector
