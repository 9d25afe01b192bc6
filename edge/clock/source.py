"""The interface of time sources, and their report on the system clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from edge.clock.quality import TimeSource, TimeState
from edge.errors import ErrorCode, TidegateError


class SourceSilent(TidegateError):
    """The time source gave no usable answer; the next source is asked."""

    default_code = ErrorCode.CLOCK_SOURCE


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """One answer of a time source.

    Attributes:
        state: the state by the rules of this gateway, which the source's own flags do not decide.
        bound_ns: how far the system clock may be off now; None where the source cannot bound it.
        may_hold: whether the last bound may be held and grow where this report has none. Not while the clock is steered
            after what cannot be trusted.
        correction_ns: the source's time minus the system clock.
        update: changes with each new measurement of the source; None where every answer is a new measurement.
        detail: further data for events.
    """

    source: TimeSource
    state: TimeState
    bound_ns: int | None = None
    may_hold: bool = True
    correction_ns: int = 0
    update: int | None = None
    leap: int = 0
    utc_tai_s: int | None = None
    reference: bytes = b""
    stratum: int = 0
    accuracy: int | None = None
    detail: Mapping[str, int | str] = field(default_factory=dict)


class ClockSource(Protocol):
    """Reports how good the system clock is."""

    async def ask(self) -> SourceReport:
        """The current report, within a bounded time.

        Raises:
            SourceSilent: no answer, or no usable one.
        """
        ...
