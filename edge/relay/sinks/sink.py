"""What a sink is: it takes parcels of authentic records, in the order of the archive, and keeps its own mark.

A parcel and its mark become durable together, or neither does. After a crash what follows the mark comes again, so a
sink tells by its key (gateway, epoch, seq) what it has already.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from edge.errors import ErrorCode, TidegateError
from edge.model import Catalogue
from edge.seal import RecordType
from edge.seal.codec import Payload
from edge.tls import Certificate
from edge.verify import Verdict


class Place(NamedTuple):
    """A place of a gateway's chain: the key of everything that a sink writes."""

    gateway: str
    epoch: bytes
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkRecord:
    """An authentic record.

    Attributes:
        content: its decoded payload.
        catalogue: the one that a DATA record names; None for all others.
        has_unknown: it holds something that only a later version knows.
    """

    place: Place
    type: RecordType
    content: Payload
    catalogue: Catalogue | None = None
    has_unknown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """What a sink writes at once.

    Attributes:
        records: to write, unless their place is written already.
        anew: places whose verdict changed and whose record is among `records`: what was written there is replaced.
        fallen: places that hold no authentic record any more, and why: what was written there is marked.
        mark: what the sink has to give back after a restart, stored with the rest; JSON.
    """

    records: Sequence[SinkRecord]
    anew: frozenset[Place] = frozenset()
    fallen: Sequence[tuple[Place, Verdict]] = ()
    mark: str


class SinkSession(Protocol):
    """A connection to a sink.

    Attributes:
        mark: that of the last parcel that is durable; empty for a sink that is new.
    """

    mark: str

    async def write(self, parcel: Parcel) -> int:
        """Make a parcel durable; returns how many of its records the sink refused for good, having said which.

        Raises:
            SinkUnreachable: nothing of the parcel was written; it comes again.
        """


class Sink(Protocol):
    """Where authentic values go.

    Attributes:
        name: what status, metrics and log call it.
        address: where it is, for a person.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def address(self) -> str: ...  # noqa: D102

    def session(self) -> AbstractAsyncContextManager[SinkSession]:
        """A session. Raises SinkUnreachable."""

    def certificates(self) -> Sequence[Certificate]:
        """Those that its sessions depend on, ours and the peer's. Reads files: not for the event loop."""


class SinkUnreachable(TidegateError):
    """Time or operations heal it: the archive has everything, and the sink goes on from its mark.

    Attributes:
        is_for_long: a person has to act, so that trying each second is of no use.
    """

    default_code = ErrorCode.SINK_BEHIND

    def __init__(self, reason: str, *, is_for_long: bool = False) -> None:
        super().__init__(reason)
        self.is_for_long = is_for_long
