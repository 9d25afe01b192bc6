"""What goes wrong at a moment, by the schedule."""

from __future__ import annotations

from collections.abc import Sequence

from drivers.simulator.settings import Failure, FailureKind


class Schedule:
    """Failures by the time since the device was switched on."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        self._failures = tuple(failures)

    def now(self, kind: FailureKind, elapsed_ns: int) -> list[Failure]:
        """The failures of a kind that last at this moment."""
        return [failure for failure in self._failures if failure.kind == kind and lasts(failure, elapsed_ns)]

    def is_now(self, kind: FailureKind, elapsed_ns: int) -> bool:
        """Whether one of this kind lasts at this moment."""
        return bool(self.now(kind, elapsed_ns))


def lasts(failure: Failure, elapsed_ns: int) -> bool:
    """Whether a failure has begun and is not over."""
    since_ns = elapsed_ns - failure.at
    if since_ns < 0:
        return False
    return (since_ns % failure.every if failure.every else since_ns) < failure.lasts
