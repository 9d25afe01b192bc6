"""A clock that stands still, and a time source whose reports the test sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from edge.clock import ClockStep, SourceReport, SourceSilent, Timekeeper, TimeSource, TimeState
from edge.testing.clock import ManualClock

MS = 10**6
S = 10**9
SYNCHRONIZED = SourceReport(
    source=TimeSource.CHRONY, state=TimeState.SYNCHRONIZED, bound_ns=5 * MS, update=1, reference=b"\x0a\x00\x00\x01"
)


class Scripted:
    """A time source; None is silence."""

    def __init__(self) -> None:
        self.report: SourceReport | None = SYNCHRONIZED

    def now(self, **changes: object) -> None:
        self.report = replace(self.report or SYNCHRONIZED, **changes)  # type: ignore[arg-type]

    async def ask(self) -> SourceReport:
        if self.report is None:
            raise SourceSilent("nobody answers at 127.0.0.1:323")
        return self.report


class Watched:
    """A timekeeper and what it has reported."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.source = Scripted()
        self.steps: list[ClockStep] = []
        self.events: list[tuple[str, Mapping[str, str | int | None]]] = []
        self.keeper = Timekeeper(
            self.clock,
            [self.source],
            b"0123456789abcdef",
            on_step=self.steps.append,
            on_event=lambda kind, subject, data: self.events.append((kind, data)),
        )

    @property
    def state(self) -> TimeState:
        return self.keeper.quality.state

    async def poll(self, after_ns: int = S, **changes: object) -> None:
        """Let time pass, and ask a source that has measured the clock meanwhile."""
        self.clock.advance_ns(after_ns)
        if self.source.report is not None:
            self.source.now(**{"update": self.clock.boot_ns(), **changes})
        await self.keeper.poll()


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def new_watched() -> Callable[[ManualClock], Watched]:
    return Watched
