"""What the page's process saw, in bounded memory: counters of a day, and ten minutes of all tags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

DAY_NS = 86_400 * 10**9
SAMPLE_NS = 5 * 10**9
_SAMPLES = DAY_NS // SAMPLE_NS
CELLS = 120
"""Cells of a trend, each of `SAMPLE_NS`: ten minutes."""
TAGS_LIMIT = 20_000
"""Most tags of which trends are kept."""


class Counters:
    """A row of numbers each `SAMPLE_NS` for a day, in columns; NaN is what is not known."""

    def __init__(self, names: Sequence[str], growing: Iterable[str]) -> None:
        self._names, self._growing = tuple(names), frozenset(growing)
        self._at_ns = np.zeros(_SAMPLES, np.int64)
        self._rows = np.full((_SAMPLES, len(self._names)), np.nan)
        self._count = 0

    def note(self, now_ns: int, values: Mapping[str, float | None]) -> None:
        """Keep a row."""
        place = self._count % _SAMPLES
        self._at_ns[place] = now_ns
        self._rows[place] = [np.nan if (value := values.get(name)) is None else value for name in self._names]
        self._count += 1

    def shown(self, now_ns: int, span_ns: int, points: int) -> dict[str, list[float | None]]:
        """So many points of a span: levels as they were last, of counters their growth in a second."""
        width_ns = span_ns // points
        first = now_ns // width_ns - points + 1
        rows: dict[int, tuple[int, np.ndarray[Any, Any]]] = {}
        for place in range(max(0, self._count - _SAMPLES), self._count):
            at_ns = int(self._at_ns[place % _SAMPLES])
            if (point := at_ns // width_ns - first) >= -1:
                rows[point] = at_ns, self._rows[place % _SAMPLES]
        shown: dict[str, list[float | None]] = {}
        for column, name in enumerate(self._names):
            values: list[float | None] = []
            for point in range(points):
                value = None
                if point in rows:
                    at_ns, row = rows[point]
                    value = float(row[column])
                    if name in self._growing:
                        before_ns, before = rows.get(point - 1, (at_ns, row))
                        grown = value - float(before[column])
                        value = grown * 1e9 / (at_ns - before_ns) if at_ns > before_ns and grown >= 0 else np.nan
                values.append(None if value is None or np.isnan(value) else float(f"{value:.6g}"))
            shown[name] = values
        return shown


NOTHING, NUMBER, BAD, GAP = range(4)


class Trends:
    """The values of the last ten minutes of each tag, one cell each `SAMPLE_NS`."""

    def __init__(self, tags: int) -> None:
        tags = min(tags, TAGS_LIMIT)
        self._values = np.zeros((CELLS, tags), np.float32)
        self._kinds = np.zeros((CELLS, tags), np.uint8)
        self.cell = 0

    def begin(self, now_ns: int) -> None:
        """Go on to the cell of this moment; what was not filled in between stays empty."""
        cell = now_ns // SAMPLE_NS
        for skipped in range(max(self.cell + 1, cell - CELLS + 1), cell + 1):
            self._kinds[skipped % CELLS] = NOTHING
        self.cell = cell

    def note(self, first: int, kinds: Sequence[int], values: Sequence[float]) -> None:
        """Fill this cell of neighbouring tags."""
        place, tags = self.cell % CELLS, self._values.shape[1]
        end = min(first + len(kinds), tags)
        if end > first:
            self._kinds[place, first:end] = kinds[: end - first]
            self._values[place, first:end] = values[: end - first]

    def last(self, tag: int, cells: int = CELLS) -> list[float | str | None]:
        """The last cells: a number, "x" for BAD, "g" for a gap, None for nothing."""
        if tag >= self._values.shape[1]:
            return [None] * cells
        places = [(self.cell - back) % CELLS for back in range(cells - 1, -1, -1)]
        kinds, values = self._kinds[places, tag].tolist(), self._values[places, tag].tolist()
        marks = {NOTHING: None, BAD: "x", GAP: "g"}
        return [float(f"{value:.6g}") if kind == NUMBER else marks[kind]
                for kind, value in zip(kinds, values, strict=True)]  # fmt: skip
