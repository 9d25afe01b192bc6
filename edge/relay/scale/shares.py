"""How far each share of the gateways is taken, and what its next owner needs: kept where all workers reach it.

A share is a partition of the topic of records. Whoever claims it is its owner, and has its generation: an owner that
was away meanwhile, and does not know that another one claimed it, can store nothing any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from edge.errors import ErrorCode, TidegateError
from edge.relay.sinks.sink import Parcel

Rows = Mapping[str, bytes | None]
"""Contents by key; None for one to remove."""


class StaleOwner(TidegateError):
    """Another worker claimed a share: nothing was stored."""

    default_code = ErrorCode.SINK_BEHIND


@dataclass(slots=True)
class Share:
    """A partition, and how far it is taken.

    Attributes:
        generation: how often it was claimed.
        next_offset: of the first record that is not taken; None where none ever was.
        last_hash: SHA-256 of the record before that one.
    """

    partition: int
    generation: int
    next_offset: int | None = None
    last_hash: bytes = b""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A share as its owner before left it, with its rows: see `edge.relay.scale.worker_store`."""

    share: Share
    rows: dict[str, bytes] = field(default_factory=dict)


class SharesSession(Protocol):
    """A connection to where shares are kept."""

    async def claim(self, partition: int) -> Claimed:
        """Become the owner of a share."""

    async def store(self, parcel: Parcel, shares: Sequence[Share], rows: Mapping[int, Rows]) -> None:
        """Store how far shares are taken, what changed of their rows by partition, and values, where it keeps some.

        Raises:
            StaleOwner: one of them has another owner.
        """


class Shares(Protocol):
    """Where shares are kept."""

    def session(self) -> AbstractAsyncContextManager[SharesSession]:
        """Connect. Raises SinkUnreachable or KafkaUnreachable, also inside the block."""
