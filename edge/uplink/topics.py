"""Which topic a record goes to, and where in its chain it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from edge.seal import RecordType, parse


class Label(NamedTuple):
    """What is written on the outside of a record."""

    topic: str
    is_checkpoint: bool
    epoch: bytes
    seq: int


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one gateway."""

    gateway: str

    @property
    def status(self) -> str:
        """Whether the gateway is online; retained."""
        return f"tidegate/v1/{self.gateway}/status"

    def label(self, record: bytes) -> Label:
        """Where a record goes; `Garbage` when it is none."""
        frame = parse(record)
        is_checkpoint = frame.type is RecordType.CHECKPOINT
        leaf = "checkpoint" if is_checkpoint else f"r/{frame.type.name.lower()}"
        return Label(f"tidegate/v1/{self.gateway}/{leaf}", is_checkpoint, frame.epoch, frame.seq)
