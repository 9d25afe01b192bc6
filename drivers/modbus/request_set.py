"""What a device has refused, and which requests are left to make.

A refused request is split until the bad address alone is left out; it is asked for again from time to time. What was
learnt outlives a session: a lost connection is no reason to ask for everything once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.modbus.codec import ILLEGAL_ADDRESS, Request, read_request
from drivers.modbus.plan import Block, ModbusPlan, Span
from edge.model import StatusCode

RETRIES_PER_SCAN = 8


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A block or a part of one, as one request."""

    block: Block
    first: int
    last: int
    spans: tuple[Span, ...]
    request: Request

    @property
    def is_whole(self) -> bool:
        """Whether this is all of its block."""
        return self.first == self.block.first and self.last == self.block.last

    @property
    def is_aligned(self) -> bool:
        """Whether the data of the answer lies as the block's would: registers always do, bits where bytes begin."""
        return not self.block.table.is_bits or self.is_whole

    def contains(self, other: Piece) -> bool:
        """Whether this piece reads every address that `other` does."""
        return self.block is other.block and self.first <= other.first and other.last <= self.last

    def __str__(self) -> str:
        return f"{self.block.table.label} {self.first}" + (f"-{self.last}" if self.last > self.first else "")


@dataclass(frozen=True, slots=True)
class _Refusal:
    piece: Piece
    code: int
    again_at_ns: int


class Blocks:
    """The requests of one plan that a device answers."""

    def __init__(self, plan: ModbusPlan) -> None:
        self._plan = plan
        self._whole = [
            Piece(block, block.first, block.last, block.spans, request)
            for block, request in zip(plan.blocks, plan.requests, strict=True)
        ]
        self._asked: tuple[Piece, ...] = tuple(self._whole)
        self._refused_alone: list[_Refusal] = []
        self._refused: list[Piece] = []
        self.image_bytes = plan.image_bytes + 8 * sum(b.data_bytes + 1 for b in plan.blocks if b.table.is_bits)

    def due(self, now_ns: int) -> tuple[Piece, ...]:
        """What to ask for in a scan that begins now."""
        if self._refused_alone:
            again = [refusal for refusal in self._refused_alone if refusal.again_at_ns <= now_ns][:RETRIES_PER_SCAN]
            self._refused_alone = [refusal for refusal in self._refused_alone if refusal not in again]
            self._asked += tuple(refusal.piece for refusal in again)
        return self._asked

    @property
    def is_troubled(self) -> bool:
        """Whether the device has ever refused something that is still not asked for as planned."""
        return bool(self._refused)

    def refused_alone(self) -> list[tuple[Piece, StatusCode]]:
        """What is not asked for because it was refused, and the status of its tags."""
        return [(refusal.piece, _status(refusal.code)) for refusal in self._refused_alone]

    def answered(self, image: bytearray, piece: Piece) -> None:
        """Take note of an answer: if the piece had been refused before, its block is whole again."""
        if not piece.is_aligned:
            self._place(image, piece)
        if any(known.contains(piece) and piece.contains(known) for known in self._refused):
            self._restore(piece.block)

    def refused(self, piece: Piece, code: int, now_ns: int) -> Sequence[Piece]:
        """The parts of a refused piece, to be asked for instead; none when it cannot be split."""
        self._refused.append(piece)
        parts = self._split(piece)
        self._asked = (*self._without(piece), *parts)
        if not parts:
            self._refused_alone.append(_Refusal(piece, code, now_ns + self._plan.limits.retry_refused))
        return parts

    def settle(self) -> None:
        """Join neighbours that were parted while looking for a bad address, where nothing refused lies in them."""
        joined: list[Piece] = []
        for piece in sorted(self._asked, key=lambda piece: (piece.block.offset, piece.first)):
            together = self._joined(joined[-1], piece) if joined else None
            if together is None:
                joined.append(piece)
            else:
                joined[-1] = together
        self._asked = tuple(joined)

    def postpone(self, piece: Piece) -> None:
        """Ask for a piece that was not answered after all others from now on."""
        self._asked = (*self._without(piece), piece)

    def blank(self, image: bytearray, piece: Piece) -> None:
        """Wipe what an earlier scan left where a piece was not answered."""
        request = piece.request
        image[request.offset : request.end] = bytes(request.end - request.offset)
        if not piece.is_aligned:
            self._place(image, piece)

    def _restore(self, block: Block) -> None:
        self._refused = [piece for piece in self._refused if piece.block is not block]
        self._refused_alone = [refusal for refusal in self._refused_alone if refusal.piece.block is not block]
        whole = next(piece for piece in self._whole if piece.block is block)
        self._asked = (*(piece for piece in self._asked if piece.block is not block), whole)

    def _without(self, piece: Piece) -> tuple[Piece, ...]:
        return tuple(asked for asked in self._asked if asked is not piece)

    def _place(self, image: bytearray, piece: Piece) -> None:
        # Move the bits of a part of a block to where the whole block would have them.
        request, block = piece.request, piece.block
        shift = piece.first - block.first
        mask = (1 << request.count) - 1 << shift
        region = slice(block.offset, block.offset + block.data_bytes)
        bits = int.from_bytes(image[request.offset : request.end], "little") << shift & mask
        whole = int.from_bytes(image[region], "little") & ~mask | bits
        image[region] = whole.to_bytes(block.data_bytes, "little")

    def _split(self, piece: Piece) -> tuple[Piece, ...]:
        # Tags of the very same addresses, such as bits of one register, cannot be told apart by asking.
        starts = [i for i, span in enumerate(piece.spans)
                  if i and (span.first, span.last) != (piece.spans[i - 1].first, piece.spans[i - 1].last)]  # fmt: skip
        if not starts:
            return ()
        middle = min(starts, key=lambda start: abs(2 * start - len(piece.spans)))
        return self._piece(piece.block, piece.spans[:middle]), self._piece(piece.block, piece.spans[middle:])

    def _joined(self, left: Piece, right: Piece) -> Piece | None:
        if left.block is not right.block:
            return None
        together = self._piece(left.block, tuple(sorted({*left.spans, *right.spans}, key=_order)))
        return None if any(together.contains(refused) for refused in self._refused) else together

    def _piece(self, block: Block, spans: tuple[Span, ...]) -> Piece:
        first, last = spans[0].first, max(span.last for span in spans)
        if (first, last) == (block.first, block.last):
            offset = block.offset
        elif block.table.is_bits:
            # Bits of a part lie otherwise than in the block: they arrive beside it and are put in their place.
            offset = self._plan.image_bytes + 8 * block.offset + first - block.first
        else:
            offset = block.offset + 2 * (first - block.first)
        request = read_request(self._plan.unit, block.table.function, first, last - first + 1, offset)
        return Piece(block, first, last, spans, request)


def _order(span: Span) -> tuple[int, int, int]:
    return span.first, span.last, span.tag


def _status(code: int) -> StatusCode:
    return StatusCode.BAD_ADDRESS if code == ILLEGAL_ADDRESS else StatusCode.BAD_DEVICE_FAILURE
