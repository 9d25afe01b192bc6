"""The requests of a plan that a device answers.

A refused request is split until only the illegal address is left out, which is asked for again from time to time. The
result outlives sessions: a new connection is no reason to search again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.modbus.codec import ILLEGAL_ADDRESS, Request, read_request
from drivers.modbus.plan import Block, ModbusPlan, Span
from edge.model import StatusCode

RETRIES_PER_SCAN = 8


@dataclass(frozen=True, slots=True, eq=False)
class RequestPart:
    """A block, or a part of it, as one request."""

    block: Block
    first: int
    last: int
    spans: tuple[Span, ...]
    request: Request

    @property
    def is_whole(self) -> bool:
        """Whether this is the whole block."""
        return self.first == self.block.first and self.last == self.block.last

    @property
    def is_aligned(self) -> bool:
        """Whether the data of the answer has the alignment of the block: registers always, bits in a whole block."""
        return not self.block.table.is_bits or self.is_whole

    def contains(self, other: RequestPart) -> bool:
        """Whether this part reads every address that `other` reads."""
        return self.block is other.block and self.first <= other.first and other.last <= self.last

    def __str__(self) -> str:
        return f"{self.block.table.label} {self.first}" + (f"-{self.last}" if self.last > self.first else "")


@dataclass(frozen=True, slots=True)
class _Refusal:
    part: RequestPart
    code: int
    again_at_ns: int


class RequestSet:
    """See the module; one for each plan."""

    def __init__(self, plan: ModbusPlan) -> None:
        self._plan = plan
        self._whole = [
            RequestPart(block, block.first, block.last, block.spans, request)
            for block, request in zip(plan.blocks, plan.requests, strict=True)
        ]
        self._parts: tuple[RequestPart, ...] = tuple(self._whole)
        self._refused_alone: list[_Refusal] = []
        self._refused: list[RequestPart] = []
        self.image_bytes = plan.image_bytes + 8 * sum(b.data_bytes + 1 for b in plan.blocks if b.table.is_bits)

    def due(self, now_ns: int) -> tuple[RequestPart, ...]:
        """What to ask for in a scan that begins now."""
        if self._refused_alone:
            again = [refusal for refusal in self._refused_alone if refusal.again_at_ns <= now_ns][:RETRIES_PER_SCAN]
            self._refused_alone = [refusal for refusal in self._refused_alone if refusal not in again]
            self._parts += tuple(refusal.part for refusal in again)
        return self._parts

    @property
    def has_refusals(self) -> bool:
        """Whether a block is not asked for as planned, because the device refused it or a part of it."""
        return bool(self._refused)

    def refused_alone(self) -> list[tuple[RequestPart, StatusCode]]:
        """The parts that are not asked for because they were refused, and the status of their tags."""
        return [(refusal.part, _status(refusal.code)) for refusal in self._refused_alone]

    def mark_answered(self, image: bytearray, part: RequestPart) -> None:
        """Note an answer: if the part was refused before, its block is asked for as planned again."""
        if not part.is_aligned:
            self._align(image, part)
        if any(known.contains(part) and part.contains(known) for known in self._refused):
            self._restore(part.block)

    def split_refused(self, part: RequestPart, code: int, now_ns: int) -> Sequence[RequestPart]:
        """The halves of a refused part, to be asked for instead; none when it cannot be split."""
        self._refused.append(part)
        halves = self._split(part)
        self._parts = (*self._without(part), *halves)
        if not halves:
            self._refused_alone.append(_Refusal(part, code, now_ns + self._plan.limits.retry_refused))
        return halves

    def join_parts(self) -> None:
        """Join neighbours that were split in the search for an illegal address, where that is not between them."""
        joined: list[RequestPart] = []
        for part in sorted(self._parts, key=lambda part: (part.block.offset, part.first)):
            together = self._joined(joined[-1], part) if joined else None
            if together is None:
                joined.append(part)
            else:
                joined[-1] = together
        self._parts = tuple(joined)

    def postpone(self, part: RequestPart) -> None:
        """From now on, ask for a part that was not answered after all others."""
        self._parts = (*self._without(part), part)

    def clear(self, image: bytearray, part: RequestPart) -> None:
        """Remove the data of an earlier scan where a part was not answered."""
        request = part.request
        image[request.offset : request.end] = bytes(request.end - request.offset)
        if not part.is_aligned:
            self._align(image, part)

    def _restore(self, block: Block) -> None:
        self._refused = [part for part in self._refused if part.block is not block]
        self._refused_alone = [refusal for refusal in self._refused_alone if refusal.part.block is not block]
        whole = next(part for part in self._whole if part.block is block)
        self._parts = (*(part for part in self._parts if part.block is not block), whole)

    def _without(self, part: RequestPart) -> tuple[RequestPart, ...]:
        return tuple(known for known in self._parts if known is not part)

    def _align(self, image: bytearray, part: RequestPart) -> None:
        # Move the bits of a part of a block to where they are in the whole block.
        request, block = part.request, part.block
        shift = part.first - block.first
        mask = (1 << request.count) - 1 << shift
        region = slice(block.offset, block.offset + block.data_bytes)
        bits = int.from_bytes(image[request.offset : request.end], "little") << shift & mask
        whole = int.from_bytes(image[region], "little") & ~mask | bits
        image[region] = whole.to_bytes(block.data_bytes, "little")

    def _split(self, part: RequestPart) -> tuple[RequestPart, ...]:
        # Tags of the same addresses, such as bits of one register, stay together.
        starts = [i for i, span in enumerate(part.spans)
                  if i and (span.first, span.last) != (part.spans[i - 1].first, part.spans[i - 1].last)]  # fmt: skip
        if not starts:
            return ()
        middle = min(starts, key=lambda start: abs(2 * start - len(part.spans)))
        return self._part(part.block, part.spans[:middle]), self._part(part.block, part.spans[middle:])

    def _joined(self, left: RequestPart, right: RequestPart) -> RequestPart | None:
        if left.block is not right.block:
            return None
        together = self._part(left.block, tuple(sorted({*left.spans, *right.spans}, key=_order)))
        return None if any(together.contains(refused) for refused in self._refused) else together

    def _part(self, block: Block, spans: tuple[Span, ...]) -> RequestPart:
        first, last = spans[0].first, max(span.last for span in spans)
        if (first, last) == (block.first, block.last):
            offset = block.offset
        elif block.table.is_bits:
            # Bits of a part have another alignment than in the block: they are received behind the image, and moved.
            offset = self._plan.image_bytes + 8 * block.offset + first - block.first
        else:
            offset = block.offset + 2 * (first - block.first)
        request = read_request(self._plan.unit, block.table.function, first, last - first + 1, offset)
        return RequestPart(block, first, last, spans, request)


def _order(span: Span) -> tuple[int, int, int]:
    return span.first, span.last, span.tag


def _status(code: int) -> StatusCode:
    return StatusCode.BAD_ADDRESS if code == ILLEGAL_ADDRESS else StatusCode.BAD_DEVICE_FAILURE
