"""Backpressure: readings are refused while the buffer is full or the disk cannot keep up.

The refusal begins when the buffer refuses records, or when too many bytes are on their way to the disk. What was
gathered but not sealed is refused too. Records that were sealed and refused have used their seq, so they are remembered
until a LOSS declares them. Refusing ends once there is room and the losses are declared; a GAP then covers the time,
from the first reading that was refused, sealed or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from edge.model import SampleBlock
from edge.seal import Data, Loss, LossReason, Record, RecordType, decode_frame, parse

PENDING_BYTES_LIMIT = 64 << 20
"""Most bytes handed to the disk and not yet durable; beyond it readings are refused and a GAP declares it."""


class Backpressure:
    """Whether readings are refused, since when, and which records were lost.

    Attributes:
        pending_bytes: handed to the buffer and not yet durable.
        refused_from_ns: boot time at which the first refused reading was asked for; None while readings are accepted.
        lost: (first, last) seq of sealed records that the buffer refused and no LOSS declares yet.
        is_catalogue_lost: whether a catalogue or a context is among them.
    """

    def __init__(self) -> None:
        self.pending_bytes = 0
        self.refused_from_ns: int | None = None
        self.lost: list[tuple[int, int]] = []
        self.is_catalogue_lost = False

    @property
    def is_relieved(self) -> bool:
        """Whether the disk has caught up far enough to accept readings again."""
        return self.pending_bytes <= PENDING_BYTES_LIMIT // 2

    def refuse(self, from_ns: int, gathered: Iterable[SampleBlock]) -> None:
        """Accept no more readings; the gap begins with the first of those that have gathered."""
        known = [] if self.refused_from_ns is None else [self.refused_from_ns]
        self.refused_from_ns = min([from_ns, *known, *(block.asked_at_ns for block in gathered)])

    def add_lost(self, records: Sequence[Record]) -> None:
        """Remember sealed records that the buffer refused."""
        self.is_catalogue_lost |= any(record.type in (RecordType.CATALOG, RecordType.CONTEXT) for record in records)
        first, last = records[0].seq, records[-1].seq
        if self.lost and self.lost[-1][1] == first - 1:
            first = self.lost.pop()[0]
        self.lost.append((first, last))

    def take_lost(self) -> list[tuple[int, int]]:
        """Remove and return the ranges to declare."""
        lost, self.lost = self.lost, []
        return lost

    def end(self) -> int:
        """Accept readings again; the boot time since which they were refused."""
        from_ns, self.refused_from_ns = self.refused_from_ns, None
        assert from_ns is not None
        return from_ns


def sealed_blocks(records: Iterable[Record]) -> Iterator[SampleBlock]:
    """The blocks in records."""
    for record in records:
        content = decode_frame(parse(record.data))
        if isinstance(content, Data):
            yield from content.blocks()


def refused_loss(first: int, last: int) -> Loss:
    """The LOSS for records [first, last] that the buffer refused."""
    return Loss(
        first=first, last=last, from_ns=None, to_ns=None, records=last - first + 1, readings=None,
        reason=LossReason.BUFFER_FULL,
    )  # fmt: skip
