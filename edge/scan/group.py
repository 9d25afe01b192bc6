"""One scan group while its device is watched: what is kept of each, and of a polled one when it is due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge.model import CatalogueGroup, Reading, SampleBlock, StatusCode, StatusRun
from edge.scan.pacer import Grid
from edge.scan.report import Reporter


@dataclass(slots=True)
class Counts:
    """Scans since the start: due = done + skipped + failed, and one more while a scan is under way.

    Skipped are due times that passed while the device was still answering; failed are those without an answer.
    """

    due: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.due + other.due, self.done + other.done, self.skipped + other.skipped, self.failed + other.failed
        )


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch a device does not answer, from its first failed request."""

    from_ns: int
    status: int
    detail: str


class Group:
    """A scan group of one device, polled or subscribed.

    Attributes:
        number: its place in the catalogue.
        reading: the values and times of now, for a live view; None until there are any.
        gap: the stretch without answers that the group is in.
    """

    def __init__(self, number: int, catalogue: CatalogueGroup, plan: Any, *, urgent: bool = False) -> None:
        self.number = number
        self.name = catalogue.name
        self.catalogue = catalogue
        self.plan = plan
        self.urgent = urgent
        self.interval_ns = catalogue.interval_ns
        self.counts = Counts()
        self.reading: Reading | None = None
        self.gap: Gap | None = None

    @property
    def status(self) -> tuple[StatusRun, ...]:
        """The tags that are not GOOD, as last reported."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Report every tag next time."""
        raise NotImplementedError

    def lost(self, since_ns: int, now_ns: int) -> SampleBlock:
        """The block that says that no tag can be read any more."""
        raise NotImplementedError

    def open_gap(self, from_ns: int, detail: str) -> Gap:
        """The device is silent since then."""
        self.gap = Gap(from_ns, int(StatusCode.BAD_NO_COMMUNICATION), detail)
        return self.gap

    def close_gap(self) -> Gap | None:
        """The device answers again; the gap that this ends."""
        gap, self.gap = self.gap, None
        return gap


class ScanGroup(Group):
    """A group that is polled; its number also decides where on the clock it is due.

    Attributes:
        due_ns: boot time of the next scan.
    """

    def __init__(self, number: int, catalogue: CatalogueGroup, plan: Any, *, urgent: bool = False) -> None:
        super().__init__(number, catalogue, plan, urgent=urgent)
        self.due_ns = 0
        self._reporter = Reporter(number, catalogue)
        self._grid = Grid.spread(number, catalogue.interval_ns)
        self._counted = 0  # Number of the last due time that is in the counts.
        self._is_overrun = False

    @property
    def status(self) -> tuple[StatusRun, ...]:
        """See `Group.status`."""
        return self._reporter.status

    def refresh(self) -> None:
        """See `Group.refresh`."""
        self._reporter.refresh()

    def lost(self, since_ns: int, now_ns: int) -> SampleBlock:
        """See `Group.lost`."""
        return self._reporter.lost(since_ns, now_ns)

    def start(self, now_ns: int) -> None:
        """Count due times from now on."""
        self._counted = self._grid.index(now_ns)

    def begin(self, now_ns: int) -> int:
        """A scan begins; by how much it is late when due times have newly begun to be skipped, else 0.

        What was missed is skipped and never made up for: a slow device is asked less often.
        """
        index = self._grid.index(now_ns)
        passed = index - self._counted
        late_ns = now_ns - self._grid.due_ns(self._counted + 1)
        self._counted = index
        self.counts.due += max(passed, 1)  # None has passed when a new session is tried out at once.
        self.counts.skipped += max(passed - 1, 0)
        was_overrun, self._is_overrun = self._is_overrun, passed > 1
        return late_ns if self._is_overrun and not was_overrun else 0

    def finish(self, reading: Reading, now_ns: int) -> SampleBlock:
        """The scan has its answer: what is to be sealed of it."""
        self.counts.done += 1
        self.reading = reading
        self.due_ns = self._grid.due_ns(self._grid.index(now_ns) + 1)
        return self._reporter.block(reading)

    def fail(self) -> None:
        """The scan that began gets no answer."""
        self.counts.failed += 1

    def count_failed(self, now_ns: int) -> None:
        """Count the due times that have passed without a device to ask."""
        index = self._grid.index(now_ns)
        self.counts.due += index - self._counted
        self.counts.failed += index - self._counted
        self._counted = index
