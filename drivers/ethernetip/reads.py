"""Tags to reads: what is the same is asked once, and neighbouring elements of an array together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from drivers.ethernetip import codec
from drivers.ethernetip.address import AttributeAddress, TagAddress
from drivers.ethernetip.codec import Question
from drivers.ethernetip.settings import EtherNetIpTag
from drivers.ethernetip.types import (
    BOOL,
    BOOLS_IN_ELEMENT,
    DWORD,
    INTEGERS,
    LONG_TEXT,
    SHORT_TEXT,
    STRING,
    STRING_CHARACTERS,
    STRING_HANDLE,
    STRUCTURE,
    CipType,
    string_bytes,
    type_name,
)

_INTEGER_BYTES_MAX = 8
_REPLY_BYTES = 4  # Service, status and the size of an extended status.
_TYPE_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One tag's value in the data of a read.

    Attributes:
        tag: number of the tag in the scan group.
        at: byte of the data where it begins.
        bit: number of a bit, counted from that byte's least significant one.
        size: bytes of a text, its length included.
    """

    tag: int
    at: int
    cip_type: CipType
    bit: int | None = None
    size: int = 0
    characters: int = 0
    encoding: str = "latin-1"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Read:
    """One question and what its answer must be.

    Attributes:
        where: what is read, or the first element of it.
        codes: the types that the answer may have; empty for an attribute, which comes without one.
        element_bytes: bytes of each element; 0 where only the answer tells.
        handle: of the structure that the answer must be.
        data_bytes: bytes of the data, at most.
        parts: what to read instead when this is refused; empty where nothing can be done.
        must_be: what the answer has to be, to the byte, for whole structures to count; empty for a read of tags.
    """

    where: TagAddress | AttributeAddress
    question: Question
    codes: frozenset[int]
    elements: int
    element_bytes: int
    data_bytes: int
    fields: tuple[Field, ...]
    handle: int | None = None
    parts: tuple[Read, ...] = ()
    must_be: bytes = b""

    @property
    def is_whole(self) -> bool:
        """Whether it is of whole structures, whose layout has to be known."""
        return self.handle is not None and self.handle != STRING_HANDLE

    @property
    def answer_bytes(self) -> int:
        """Most bytes of the answer."""
        return _REPLY_BYTES + (_TYPE_BYTES if self.codes else 0) + self.data_bytes

    @property
    def cost_bytes(self) -> int:
        """Bytes on the wire, both ways."""
        return 4 + len(self.question.data) + self.answer_bytes

    @property
    def expected(self) -> str:
        """The type of the answer, for people."""
        if self.is_whole:
            return f"the structure 0x{self.handle:04X}"
        if self.codes == INTEGERS:
            return "an integer"
        is_string = LONG_TEXT in self.codes or self.handle is not None
        return "STRING" if is_string else " or ".join(map(type_name, sorted(self.codes)))

    def __str__(self) -> str:
        if not isinstance(self.where, TagAddress) or self.elements == 1:
            return str(self.where)
        (first,) = self.where.indices
        return f"{str(self.where).removesuffix(']')}..{first + self.elements - 1}]"


def singles(tags: Iterable[tuple[int, EtherNetIpTag]], *, is_logix: bool) -> list[Read]:
    """One read for each thing that has to be read; tags of the very same thing share it."""
    found: dict[tuple[object, ...], Read] = {}
    for number, tag in tags:
        read = _single(number, tag, is_logix=is_logix)
        # One answer serves all bits of a word; of anything else, what it must be is part of the question.
        key = str(read.where).lower(), read.codes, read.data_bytes, None if tag.is_bool and read.codes else tag.cip_type
        if key in found:
            known = found[key]
            read = replace(known, fields=known.fields + read.fields, data_bytes=max(known.data_bytes, read.data_bytes))
        found[key] = read
    return list(found.values())


def structure_read(where: TagAddress, handle: int, size: int, fields: Iterable[Field], parts: Sequence[Read]) -> Read:
    """A whole structure instead of its members."""
    return Read(
        where=where,
        question=codec.read_tag(codec.symbolic_path(where.parts), 1),
        codes=frozenset((STRUCTURE,)),
        elements=1,
        element_bytes=size,
        data_bytes=size,
        fields=tuple(fields),
        handle=handle,
        parts=tuple(parts),
    )


def unchanged(counters: bytes) -> Read:
    """What tells that a controller still has the program that its structures are known from."""
    question = codec.changes()
    return Read(where=AttributeAddress(codec.CHANGES, 1, 1), question=question, codes=frozenset(), elements=1,
                element_bytes=0, data_bytes=len(counters), fields=(), must_be=counters)  # fmt: skip


def members_of(read: Read) -> Iterator[Read]:
    """What to read instead where no layout of a structure counts any more."""
    if read.is_whole:
        for part in read.parts:
            yield from members_of(part)
    elif not read.must_be:
        yield read


def merge(reads: Iterable[Read], *, hole: int, data_bytes_max: int) -> list[Read]:
    """Elements of one array that lie close together, read together."""
    arrays: dict[object, list[Read]] = {}
    merged: list[Read] = []
    for read in reads:
        # Elements in a row go on in the next row of an array of several dimensions: there, an index beyond the end
        # would bring the value of another element.
        where = read.where
        if isinstance(where, TagAddress) and len(where.indices) == 1 and read.element_bytes and read.elements == 1:
            array = str(where.with_index(0)).lower()
            arrays.setdefault((array, read.codes, read.handle, read.element_bytes), []).append(read)
        else:
            merged.append(read)
    for elements in arrays.values():
        elements.sort(key=_index)
        run: list[Read] = []
        for read in elements:
            if run and not _is_near(run, read, hole, data_bytes_max):
                merged.append(_joined(run))
                run = []
            run.append(read)
        merged.append(_joined(run))
    return sorted(merged, key=lambda read: min(field.tag for field in read.fields))


def _is_near(run: Sequence[Read], read: Read, hole: int, data_bytes_max: int) -> bool:
    count = _index(read) - _index(run[0]) + 1
    return _index(read) - _index(run[-1]) - 1 <= hole and count * read.element_bytes <= data_bytes_max


def _joined(run: Sequence[Read]) -> Read:
    first = run[0]
    if len(run) == 1:
        return first
    assert isinstance(first.where, TagAddress)
    start = _index(first)
    elements = _index(run[-1]) - start + 1
    fields = tuple(
        replace(field, at=field.at + (_index(read) - start) * read.element_bytes)
        for read in run
        for field in read.fields
    )
    return replace(
        first,
        question=codec.read_tag(codec.symbolic_path(first.where.parts), elements),
        elements=elements,
        data_bytes=elements * first.element_bytes,
        fields=fields,
        parts=tuple(run),
    )


def _index(read: Read) -> int:
    assert isinstance(read.where, TagAddress)
    return read.where.indices[0]


def _single(number: int, tag: EtherNetIpTag, *, is_logix: bool) -> Read:
    where, kind = tag.place, tag.cip_type
    field = Field(tag=number, at=0, cip_type=kind, characters=tag.characters, encoding=tag.encoding)
    if isinstance(where, AttributeAddress):
        size = kind.size or 2 + tag.characters
        return Read(where=where, question=codec.get_single(where), codes=frozenset(), elements=1, element_bytes=0,
                    data_bytes=size, fields=(field,))  # fmt: skip
    codes, size, handle = frozenset((kind.code,)), kind.size, None
    if where.bit is not None:
        field = replace(field, at=where.bit // 8, bit=where.bit % 8)
        where, codes, size = TagAddress(where.parts), INTEGERS, 0
    elif kind is BOOL and where.indices and is_logix:
        index = where.indices[-1]
        field = replace(field, at=index % BOOLS_IN_ELEMENT // 8, bit=index % 8)
        where, codes, size = where.with_index(index // BOOLS_IN_ELEMENT), frozenset((DWORD.code,)), DWORD.size
    elif kind is STRING:
        codes = frozenset((STRUCTURE, LONG_TEXT, SHORT_TEXT))
        if tag.length is None and is_logix:
            handle, size = STRING_HANDLE, string_bytes(STRING_CHARACTERS)
            field = replace(field, size=size)
    return Read(
        where=where,
        question=codec.read_tag(codec.symbolic_path(where.parts), 1),
        codes=codes,
        elements=1,
        element_bytes=size,
        data_bytes=size or (string_bytes(tag.characters) if kind is STRING else _INTEGER_BYTES_MAX),
        fields=(field,),
        handle=handle,
    )
