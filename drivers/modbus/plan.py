"""Tags to the fewest requests: neighbours are read together, and small holes with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from drivers.modbus.address import AddressRange, Table
from drivers.modbus.codec import Request, read_request
from drivers.modbus.decode import Decoder, Field
from drivers.modbus.framing import FRAME_BYTES, line_timing
from drivers.modbus.settings import ModbusDevice, ModbusLimits, ModbusTag, check_limits, check_scale, invalid_values
from edge.driver import PlanCost
from edge.errors import ConfigError, Problem
from edge.model import Layout

_ANSWER_NS = 5 * 10**6  # Of an ordinary PLC, for estimates.


@dataclass(frozen=True, slots=True)
class Span:
    """The addresses of one tag in its table, `last` included.

    Tags and the tag that is their scale have the same span, so that they are always read from one answer.
    """

    tag: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Block:
    """Tags of one table that one request reads.

    Attributes:
        spans: by first address; never empty.
        offset: where the block's data begins in the image of a scan, always even.
    """

    table: Table
    first: int
    last: int
    spans: tuple[Span, ...]
    offset: int

    @property
    def count(self) -> int:
        """Bits or registers of the block."""
        return self.last - self.first + 1

    @property
    def data_bytes(self) -> int:
        """Bytes of the block's data."""
        return (self.count + 7) // 8 if self.table.is_bits else 2 * self.count

    @property
    def addresses(self) -> AddressRange:
        """The addresses of the block."""
        return AddressRange(self.table, self.first, self.last)


class ModbusPlan:
    """One scan group of one unit as requests, and where each tag's value is in their answers."""

    def __init__(self, tags: Sequence[ModbusTag], device: ModbusDevice) -> None:
        _check(tags, device.limits)
        self.unit = device.unit
        self._frame_bytes, self._timing = FRAME_BYTES[device.effective_framing], line_timing(device)
        self.limits = device.limits
        self.layout = Layout(tuple(tag.data_type for tag in tags))
        self.blocks = _lay_out(tags, device.limits)
        self.image_bytes = sum(_even(block.data_bytes) for block in self.blocks)
        self.decoder = Decoder(self.layout, _fields(tags, self.blocks, device))

    @cached_property
    def requests(self) -> tuple[Request, ...]:
        """One request for each block."""
        return tuple(
            read_request(self.unit, block.table.function, block.first, block.count, block.offset)
            for block in self.blocks
        )

    def cost(self) -> PlanCost:
        """See `edge.driver.Plan.cost`."""
        count = len(self.requests)
        turns = -(-count // self.limits.in_flight)
        request_bytes = sum(self._frame_bytes(len(request.body)) for request in self.requests)
        answer_bytes = sum(self._frame_bytes(3 + request.end - request.offset) for request in self.requests)
        gap_ns = max(self.limits.gap, round(self._timing.silence_s * 1e9))
        travel_ns = round((request_bytes + answer_bytes) * self._timing.character_s * 1e9)
        return PlanCost(
            tags=len(self.layout),
            requests=count,
            request_bytes=request_bytes,
            answer_bytes=answer_bytes,
            took_ns=turns * _ANSWER_NS + max(0, count - 1) * gap_ns + travel_ns,
        )

    def describe(self) -> Sequence[str]:
        """See `edge.driver.Plan.describe`."""
        return [
            f"{block.addresses} ({_counted(block.count, 'bit' if block.table.is_bits else 'register')}, "
            f"{_counted(len(block.spans), 'tag')})"
            for block in self.blocks
        ]


def coalesce(
    spans: Sequence[Span], *, limit: int, hole: int, forbidden: Sequence[tuple[int, int]] = ()
) -> list[list[Span]]:
    """The fewest groups of spans of which one request can read each.

    Args:
        spans: tags of one table.
        limit: most addresses in a request.
        hole: most neighbouring addresses without a tag of the group.
        forbidden: (first, last) of addresses that no request may touch.
    """
    left = sorted(spans, key=lambda span: (span.first, span.last))
    groups: list[list[Span]] = []
    while left:
        # Some request has to read the first tag, and the one that begins with it reaches furthest.
        window_end = left[0].first + limit - 1
        group, rest, reach = [], [], left[0].first - 1
        for at, span in enumerate(left):
            is_apart = span.first - reach - 1 > hole or any(
                low < span.first and reach < high for low, high in forbidden
            )
            if span.first > window_end or is_apart:
                rest += left[at:]
                break
            if span.last > window_end:
                rest.append(span)
                continue
            group.append(span)
            reach = max(reach, span.last)
        groups.append(group)
        left = rest
    return groups


def _check(tags: Sequence[ModbusTag], limits: ModbusLimits) -> None:
    problems = []
    by_name = {tag.name: tag for tag in tags}
    for tag in tags:
        try:
            if tag.scale_from:
                check_scale(tag, by_name.get(tag.scale_from))
            check_limits([tag], limits)
        except ValueError as error:
            problems.append(Problem(str(error), path=tag.name))
    if not problems:
        for name, together in _scaled_together(tags).items():
            try:
                check_limits([tags[number] for number in together], limits)
            except ValueError as error:
                problems.append(Problem(str(error), path=name))
    if problems:
        raise ConfigError(problems)


def _scaled_together(tags: Sequence[ModbusTag]) -> dict[str, list[int]]:
    """The numbers of each scale and of the tags that it is for, by its name."""
    together: dict[str, list[int]] = {tag.scale_from: [] for tag in tags if tag.scale_from}
    for number, tag in enumerate(tags):
        if (name := tag.scale_from or tag.name) in together:
            together[name].append(number)
    return together


def _spans(tags: Sequence[ModbusTag]) -> list[Span]:
    together = _scaled_together(tags)
    spans = []
    for number, tag in enumerate(tags):
        those = [tags[other] for other in together.get(tag.scale_from or tag.name, (number,))]
        first, last = min(each.parsed_address.first for each in those), max(each.last for each in those)
        spans.append(Span(number, first, last))
    return spans


def _lay_out(tags: Sequence[ModbusTag], limits: ModbusLimits) -> tuple[Block, ...]:
    blocks: list[Block] = []
    everywhere = _spans(tags)
    offset = 0
    for table in sorted(Table, key=lambda table: table.function):
        spans = [span for span in everywhere if tags[span.tag].parsed_address.table is table]
        forbidden = [(gone.first, gone.last) for gone in limits.forbidden_ranges if gone.table is table]
        limit, hole = (limits.bits, 16 * limits.hole) if table.is_bits else (limits.registers, limits.hole)
        for group in coalesce(spans, limit=limit, hole=hole, forbidden=forbidden):
            last = max(span.last for span in group)
            block = Block(table, group[0].first, last, tuple(group), offset)
            offset += _even(block.data_bytes)
            blocks.append(block)
    return tuple(blocks)


def _fields(tags: Sequence[ModbusTag], blocks: Sequence[Block], device: ModbusDevice) -> list[Field]:
    """The fields of the tags, in their order."""
    fields: dict[int, Field] = {}
    numbers = {tag.name: number for number, tag in enumerate(tags)}
    for block in blocks:
        for span in block.spans:
            tag = tags[span.tag]
            distance = tag.parsed_address.first - block.first
            fields[span.tag] = Field(
                kind=tag.kind,
                at=block.offset + (distance // 8 if block.table.is_bits else 2 * distance),
                bit=distance % 8 if block.table.is_bits else tag.parsed_address.bit,
                bits=tag.parsed_address.bits,
                is_register=not block.table.is_bits,
                half=tag.parsed_address.half,
                characters=tag.length or 0,
                is_high_word_first=(tag.word_order or device.word_order) == "big",
                is_high_byte_first=(tag.byte_order or device.byte_order) == "big",
                encoding=tag.encoding,
                padding=tag.padding,
                invalid=invalid_values(tag.kind, device.invalid if tag.invalid is None else tag.invalid),
                scale=numbers[tag.scale_from] if tag.scale_from else None,
            )
    return [fields[tag] for tag in range(len(tags))]


def _even(size: int) -> int:
    return size + size % 2


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("s" if count != 1 else "")
