"""A scan group as reads, and the reads as packets: as many in one Multiple Service Packet as fit both ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from drivers.ethernetip import cip
from drivers.ethernetip.address import AttributeAddress, TagAddress
from drivers.ethernetip.cip import (
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
    Question,
    Routed,
    string_bytes,
    type_name,
)
from drivers.ethernetip.settings import EtherNetIpDevice, EtherNetIpTag
from edge.driver import PlanCost
from edge.errors import ConfigError, Problem
from edge.model import Layout

_INTEGER_BYTES_MAX = 8
_OMRON_ANSWER_BYTES = 1994
_REPLY_BYTES = 4  # Service, status and the size of an extended status.
_TYPE_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueField:
    """One tag's value in the data of a read.

    Attributes:
        tag: number of the tag in the scan group.
        at: byte of the data where it begins.
        bit: number of a bit, counted from that byte's least significant one.
        size: bytes of a text, its length included; of an attribute, of any value.
        is_part: an attribute holds other bytes besides it.
    """

    tag: int
    at: int
    cip_type: CipType
    bit: int | None = None
    size: int = 0
    characters: int = 0
    encoding: str = "latin-1"
    is_part: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Read:
    """One question and what its answer must be.

    Attributes:
        where: what is read, or the first element of it.
        codes: the types that the answer may have; empty for an attribute, whose answer has no type.
        element_bytes: bytes of each element; 0 where they depend on the answer.
        handle: of the structure that the answer must be.
        whole_bytes: most bytes of an answer that goes on behind the value; 0 where none may.
        data_bytes: most bytes of the data.
        parts: reads to use instead where this one is refused.
        expected_bytes: the exact answer without which no structure read is valid; empty for a read of tags.
    """

    where: TagAddress | AttributeAddress
    question: Question
    codes: frozenset[int]
    elements: int
    element_bytes: int
    data_bytes: int
    fields: tuple[ValueField, ...]
    handle: int | None = None
    whole_bytes: int = 0
    parts: tuple[Read, ...] = ()
    expected_bytes: bytes = b""

    @property
    def is_of_unknown_size(self) -> bool:
        """Whether the answer may have more bytes than the tags need."""
        return not self.codes and any(field.is_part for field in self.fields)

    @property
    def is_structure_read(self) -> bool:
        """Whether it reads structures as a whole, whose layout has to be known."""
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
        if self.is_structure_read:
            return f"the structure 0x{self.handle:04X}"
        if self.codes == INTEGERS:
            return "an integer"
        if self.fields and self.fields[0].cip_type.time_kind:
            return self.fields[0].cip_type.name
        is_string = LONG_TEXT in self.codes or self.handle is not None
        return "STRING" if is_string else " or ".join(map(type_name, sorted(self.codes)))

    def __str__(self) -> str:
        if not isinstance(self.where, TagAddress) or self.elements == 1:
            return str(self.where)
        (first,) = self.where.indices
        return f"{str(self.where).removesuffix(']')}..{first + self.elements - 1}]"


def change_check(counters: bytes) -> Read:
    """The read that is answered with these counters as long as the program did not change."""
    question = cip.changes()
    return Read(where=AttributeAddress(cip.CHANGES, 1, 1), question=question, codes=frozenset(), elements=1,
                element_bytes=0, data_bytes=len(counters), fields=(), expected_bytes=counters)  # fmt: skip


def members_of(read: Read) -> Iterator[Read]:
    """The reads to use instead where no layout of a structure is valid any more."""
    if read.is_structure_read:
        for part in read.parts:
            yield from members_of(part)
    elif not read.expected_bytes:
        yield read


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
        question=cip.read_tag(cip.symbolic_path(first.where.parts), elements),
        elements=elements,
        data_bytes=elements * first.element_bytes,
        fields=fields,
        parts=tuple(run),
    )


def _index(read: Read) -> int:
    assert isinstance(read.where, TagAddress)
    return read.where.indices[0]


def _single(number: int, tag: EtherNetIpTag, family: str) -> Read:
    is_logix = family == "logix"
    where, kind = tag.parsed_address, tag.cip_type
    field = ValueField(tag=number, at=0, cip_type=kind, characters=tag.characters, encoding=tag.encoding)
    if isinstance(where, AttributeAddress):
        at, size = where.offset or 0, kind.size or cip.TEXT_WIDTHS.get(kind.code, 2) + tag.characters
        if where.bit is not None:
            at, field = at + where.bit // 8, replace(field, bit=where.bit % 8)
        at += (where.index or 0) * tag.element_bytes
        field = replace(field, at=at, size=size, is_part=where != where.whole)
        return Read(where=where.whole, question=cip.get_single(where), codes=frozenset(), elements=1, element_bytes=0,
                    data_bytes=at + size, fields=(field,))  # fmt: skip
    codes, size, handle, whole_bytes = kind.codes, 0 if kind.time_kind else kind.size, None, 0
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
    if family == "omron" and field.bit is None:
        # W506, 8-7: for the name of an array comes all of it; a BOOL is a bit, and behind it is whether it is forced.
        whole_bytes = 0 if where.indices else _OMRON_ANSWER_BYTES
        if kind is BOOL:
            field, size, whole_bytes = replace(field, bit=0), 0, whole_bytes or 2
    return Read(
        where=where,
        question=cip.read_tag(cip.symbolic_path(where.parts), 1),
        codes=codes,
        elements=1,
        element_bytes=size,
        data_bytes=size or (string_bytes(tag.characters) if kind is STRING else _INTEGER_BYTES_MAX),
        fields=(field,),
        handle=handle,
        whole_bytes=whole_bytes,
    )


SEQUENCE_BYTES = 2
_FRAME_BYTES = 44
_REQUEST_BYTES = 24  # Of a request without its path.
_ANSWER_NS = 5 * 10**6  # Typical time of a controller for one packet, for estimates.
_NAMES_SHOWN = 3
_MEMBERS_WORTH_ASKING = 3  # From so many members on, reading the whole structure may be cheaper.


@dataclass(frozen=True, slots=True, eq=False)
class Packet:
    """One read alone, or many in one Multiple Service Packet; `is_fragmented` where one answer is not enough."""

    reads: tuple[Read, ...]
    question: Question
    is_fragmented: bool = False

    @property
    def answer_bytes(self) -> int:
        """Most bytes of the answer."""
        together = sum(read.answer_bytes for read in self.reads)
        return together if len(self.reads) == 1 else cip.MULTIPLE_ANSWER_BYTES + 2 * len(self.reads) + together

    def __str__(self) -> str:
        names = ", ".join(map(str, self.reads[:_NAMES_SHOWN])) + (", ..." if len(self.reads) > _NAMES_SHOWN else "")
        how = "in fragments" if self.is_fragmented else f"{len(self.reads)} read{'s' if len(self.reads) > 1 else ''}"
        return f"{names} ({how}, {len(self.question.data)} bytes asked, up to {self.answer_bytes} answered)"


class EtherNetIpPlan:
    """The reads of one scan group, planned without any knowledge from the device."""

    def __init__(self, tags: Sequence[EtherNetIpTag], device: EtherNetIpDevice) -> None:
        self.tags = tuple(tags)
        self.device = device
        self.layout = Layout(tuple(tag.data_type for tag in tags))
        # The device may grant only a smaller connection, or none.
        path_bytes_max = (
            min(self.message_bytes, Routed.question_bytes(cip.route_path(device.parsed_route))) - _REQUEST_BYTES
        )
        problems = [Problem(why, path=tag.name) for tag in tags if (why := _why_not(tag, device, path_bytes_max))]
        if problems:
            raise ConfigError(problems)
        self.reads = tuple(self.merged(self.singles(enumerate(self.tags))))

    def singles(self, tags: Iterable[tuple[int, EtherNetIpTag]]) -> list[Read]:
        """One read for each address of these numbered tags; tags with the same address share it."""
        found: dict[tuple[object, ...], Read] = {}
        for number, tag in tags:
            read = _single(number, tag, self.device.family)
            # One answer serves all bits of a word, and all values in an attribute; of other tags, only those with the
            # same type share a read.
            kind = None if tag.is_bool or not read.codes else tag.cip_type
            key = str(read.where).lower(), read.codes, read.data_bytes if read.codes else 0, kind
            if (known := found.get(key)) is not None:
                data_bytes = max(known.data_bytes, read.data_bytes)
                read = replace(known, fields=known.fields + read.fields, data_bytes=data_bytes)
            found[key] = read
        return list(found.values())

    def merged(self, reads: Iterable[Read]) -> list[Read]:
        """The reads with neighbouring elements of one array joined, through holes of up to `limits.hole` elements.

        A joined read fits in the smaller kind of connection too.
        """
        hole = self.device.limits.hole
        data_bytes_max = min(self.message_bytes, cip.UNCONNECTED_BYTES) - SEQUENCE_BYTES - 20
        arrays: dict[object, list[Read]] = {}
        merged: list[Read] = []
        for read in reads:
            # Of several dimensions, elements beyond the end of a row are those of the next row: an index that is too
            # large would return the value of another element.
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

    @property
    def message_bytes(self) -> int:
        """Most bytes of a message by the settings; the device may grant less."""
        if self.device.is_connected:
            return self.device.connection_bytes
        return Routed.question_bytes(cip.route_path(self.device.parsed_route))

    @property
    def packet_reads(self) -> int:
        """Most reads in one packet: only these are known to accept several, not all of them."""
        return self.device.limits.packet_tags if self.device.family in ("logix", "omron") else 1

    @property
    def has_fragments(self) -> bool:
        """Whether the device can give in fragments what does not fit in one answer."""
        return self.device.family != "omron"

    @cached_property
    def structured(self) -> frozenset[str]:
        """Tags of which several members are read, in lower case: to read their structure may save requests."""
        members: Counter[str] = Counter()
        if self.device.family != "logix" or self.device.limits.structures != "auto":
            return frozenset()
        for tag in self.tags:
            if isinstance(tag.parsed_address, TagAddress) and len(tag.parsed_address.parts) > scope_parts(
                tag.parsed_address
            ):
                members[base_name(tag.parsed_address)] += 1
        return frozenset(name for name, count in members.items() if count >= _MEMBERS_WORTH_ASKING)

    def cost(self) -> PlanCost:
        """See `edge.driver.Plan.cost`."""
        found = list(packets(self.reads, self.message_bytes, self.packet_reads))
        requests = sum(-(-packet.answer_bytes // self.message_bytes) for packet in found)
        return PlanCost(
            tags=len(self.tags),
            requests=requests,
            request_bytes=sum(_FRAME_BYTES + len(packet.question.data) for packet in found),
            answer_bytes=sum(_FRAME_BYTES + packet.answer_bytes for packet in found),
            took_ns=requests * _ANSWER_NS + max(0, requests - 1) * self.device.limits.gap,
        )

    def describe(self) -> Sequence[str]:
        """See `edge.driver.Plan.describe`."""
        return [str(packet) for packet in packets(self.reads, self.message_bytes, self.packet_reads)]


class Suspects:
    """The questions that a device does not bear: sessions end at them. It outlives the sessions that they cost.

    Attributes:
        halved: packets that are asked in halves, by their bytes.
        losses: sessions in a row that ended at a read, by its bytes; from `_SUSPECTED` on, it is asked alone and last.
        left_out: reads and queries that are not asked, by their bytes, and why.
        has_packets: whether packets of several reads are asked.
    """

    def __init__(self) -> None:
        self.halved = set[bytes]()
        self.losses = Counter[bytes]()
        self.left_out: dict[bytes, str] = {}
        self.has_packets = True


def scope_parts(where: TagAddress) -> int:
    """How many parts of the address name the tag; the others are members."""
    return 2 if where.parts[0].name.lower().startswith("program:") else 1


def base_name(where: TagAddress) -> str:
    """The name of the tag in an address, without elements and members, in lower case."""
    return ".".join(part.name for part in where.parts[: scope_parts(where)]).lower()


def packets(reads: Iterable[Read], message_bytes: int, packet_reads: int) -> Iterator[Packet]:
    """The reads, in their order, in as few packets as fit both ways."""
    room = message_bytes - SEQUENCE_BYTES
    together: list[Read] = []
    asked = answered = 0
    for read in reads:
        if read.answer_bytes > room or read.is_of_unknown_size:
            yield Packet((read,), read.question, is_fragmented=bool(read.codes))  # An attribute has no fragments.
            continue
        ask, answer = 2 + len(read.question.data), 2 + read.answer_bytes
        is_full = cip.MULTIPLE_REQUEST_BYTES + asked + ask > room or (
            cip.MULTIPLE_ANSWER_BYTES + answered + answer > room
        )
        if together and (is_full or len(together) == packet_reads):
            yield packet_of(together)
            together, asked, answered = [], 0, 0
        together.append(read)
        asked, answered = asked + ask, answered + answer
    if together:
        yield packet_of(together)


def packet_of(reads: Sequence[Read]) -> Packet:
    """These reads in one packet."""
    if len(reads) == 1:
        return Packet(tuple(reads), reads[0].question)
    return Packet(tuple(reads), cip.multiple([read.question for read in reads]))


def _why_not(tag: EtherNetIpTag, device: EtherNetIpDevice, path_bytes_max: int) -> str:
    """Why an address cannot be asked for, in the same words for all elements of a slice; or ""."""
    where = tag.parsed_address
    if not isinstance(where, TagAddress):
        return ""
    if device.family == "generic":
        return (
            'is a tag of a controller; a generic device has attributes, such as "cip 1/1/7", and a controller has '
            "family logix, micro800 or omron"
        )
    if where.bit is None and tag.is_bool and len(where.indices) > 1:
        return "is an element of an array of BOOL, which has one dimension; write one index"
    if len(cip.symbolic_path(where.parts)) > path_bytes_max:
        return f"is too long: names and indices take more than {path_bytes_max} bytes"
    return ""
