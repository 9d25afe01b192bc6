"""What a time source says of the system clock, whatever its protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from edge.clock.quality import TimeSource, TimeState
from edge.errors import TidegateError


class SourceSilent(TidegateError):
    """The time source gave no answer that can be used; the next one is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """One answer of a time source.

    Attributes:
        state: the state by our own rules, not by the source's word.
        bound_ns: how far the system clock may be off now, or None where the source cannot say.
        correction_ns: what must be added to the system clock to get what the source believes.
        update: changes whenever the source has measured the clock anew; None where every answer is a new measurement.
        detail: what the source says beyond that, for events.
    """

    source: TimeSource
    state: TimeState
    bound_ns: int | None = None
    correction_ns: int = 0
    update: int | None = None
    leap: int = 0
    utc_tai_s: int | None = None
    reference: bytes = b""
    stratum: int = 0
    accuracy: int | None = None
    detail: Mapping[str, int | str] = field(default_factory=dict)


class ClockSource(Protocol):
    """Something that knows how good the system clock is."""

    async def ask(self) -> SourceReport:
        """What it knows now, within a bounded time.

        Raises:
            SourceSilent: no answer, or none that can be used.
        """
        ...
