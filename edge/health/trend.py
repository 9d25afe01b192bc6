"""The values of each tag in the last minutes, one cell a second, and their trend as characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from edge.health.snapshot import StatusSnapshot, TagStatus


class Hole(Enum):
    """What a cell holds where there is no number."""

    NOTHING = " "
    GAP = "gap"
    BAD = "x"


Cell = float | Hole

_CELLS_LIMIT = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Characters:
    """How trends and arrows are drawn; `levels` from the lowest to the highest."""

    levels: str
    gap: str
    arrow: str
    cut: str


BLOCKS = Characters(levels="▁▂▃▄▅▆▇", gap="░", arrow="─▶", cut="─x")
ASCII = Characters(levels="_.-=*#", gap="/", arrow="->", cut="-x")


class Trends:
    """Takes a status as often as it comes, and keeps the last of each second."""

    def __init__(self) -> None:
        self._now_s = 0
        self._cells: dict[tuple[str, str], dict[int, Cell]] = {}

    def note(self, at_s: float, gateway: StatusSnapshot) -> None:
        """Take the values of a status, for this second and those since the last."""
        since_s, self._now_s = min(self._now_s + 1, int(at_s)), int(at_s)
        for device in gateway.devices:
            is_gap = device.state != "up" and device.gap_age_ns is not None
            for tag in (tag for group in device.scan_groups for tag in group.values):
                cells = self._cells.setdefault((device.name, tag.tag), {})
                cell = Hole.GAP if is_gap else cell_of(tag)
                cells.update(dict.fromkeys(range(since_s, self._now_s + 1), cell))
                cells.pop(self._now_s - _CELLS_LIMIT, None)

    def last(self, device: str, tag: str, width: int) -> list[Cell]:
        """The cells of the last seconds, as many as the width."""
        cells = self._cells.get((device, tag), {})
        return [cells.get(second, Hole.NOTHING) for second in range(self._now_s - width + 1, self._now_s + 1)]


def cell_of(tag: TagStatus) -> Cell:
    """What a value is in a trend."""
    if tag.quality == "BAD":
        return Hole.BAD
    return float(tag.value) if isinstance(tag.value, bool | int | float) else Hole.NOTHING


def draw(cells: Sequence[Cell], characters: Characters) -> str:
    """One character a cell, between the lowest and the highest number; what is no number is never bridged."""
    numbers = [cell for cell in cells if not isinstance(cell, Hole)]
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)
    levels = characters.levels
    marks = {Hole.NOTHING: " ", Hole.GAP: characters.gap, Hole.BAD: "x"}

    def mark(cell: Cell) -> str:
        if isinstance(cell, Hole):
            return marks[cell]
        share = (cell - low) / (high - low) if high > low else 0.5
        return levels[min(int(share * len(levels)), len(levels) - 1)]

    return "".join(map(mark, cells))
