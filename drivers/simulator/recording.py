"""Recordings in CSV: a column of times, and columns of values to replay."""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.model import DataType, Vector

_BOOLS = {"true": True, "false": False, "1": True, "0": False}
_LIMIT_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Column:
    """Values of one column; where `is_missing` is true, the cell is empty and the value is a placeholder."""

    values: Vector
    is_missing: NDArray[np.bool_]


@dataclass(frozen=True)
class Recording:
    """A table of texts; its times are nanoseconds since the first row. ValueErrors begin with file, line and column."""

    file: str
    header: Sequence[str]
    lines: Sequence[int]
    rows: Sequence[Sequence[str]]
    times_ns: Sequence[int]

    @classmethod
    def read(cls, path: Path, time: str = "") -> Recording:
        """Read a file into memory; `time` is the name of the column of times, by default the first."""
        header, lines, rows = _table(path)
        if time and time not in header:
            raise ValueError(f"{path}:1:1: no column is called {time!r}; there are {', '.join(header)}")
        at = header.index(time) if time else 0
        times = list(_times(path, lines, [row[at] for row in rows], at))
        return cls(str(path), header, lines, rows, [moment - times[0] for moment in times])

    def column(self, name: str, data_type: DataType) -> Column:
        """One column, converted to a type. Raises ValueError for the first cell of another type."""
        if name not in self.header:
            raise ValueError(f"{self.file}:1:1: no column is called {name!r}; there are {', '.join(self.header)}")
        at = self.header.index(name)
        values = np.zeros(len(self.rows), data_type.numpy)
        for number, (line, row) in enumerate(zip(self.lines, self.rows, strict=True)):
            try:
                values[number] = _value(row[at], data_type)
            except (ValueError, OverflowError) as error:
                sentence = f"{row[at]!r} is not of the type {data_type.label}"
                raise ValueError(f"{self.file}:{line}:{at + 1}: {sentence}") from error
        return Column(values, np.array([not row[at] for row in self.rows]))

    def row_at(self, elapsed_ns: int, *, loops: bool) -> int:
        """The latest row at this time; the last row of a loop lasts as long as the one before it."""
        last = self.times_ns[-1]
        if loops and len(self.times_ns) > 1:
            elapsed_ns %= 2 * last - self.times_ns[-2]
        return bisect_right(self.times_ns, elapsed_ns) - 1


def _table(path: Path) -> tuple[list[str], list[int], list[list[str]]]:
    lines: list[int] = []
    rows: list[list[str]] = []
    header: list[str] = []
    for line, cells in _cells(path):
        if not header:
            header = cells
            _check_header(path, header)
        elif len(cells) != len(header):
            column = min(len(cells), len(header)) + 1
            raise ValueError(f"{path}:{line}:{column}: {len(cells)} cells under {len(header)} headings")
        else:
            lines.append(line)
            rows.append(cells)
    if not rows:
        raise ValueError(f"{path}: holds no rows; the first names the columns, each other is one moment")
    return header, lines, rows


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            raise ValueError(f"{path}: is larger than {_LIMIT_BYTES // 2**20} MiB; a recording is kept in memory")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            line = 1
            for cells in reader:
                if cells:
                    yield line, [cell.strip() for cell in cells]
                line = reader.line_num + 1
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not text in UTF-8: {error.reason} at byte {error.start}") from error
    except csv.Error as error:
        raise ValueError(f"{path}:{line}:1: this is not CSV: {error}") from error


def _check_header(path: Path, header: Sequence[str]) -> None:
    for column, name in enumerate(header, 1):
        if not name:
            raise ValueError(f"{path}:1:{column}: this column has no name")
        if name in header[: column - 1]:
            raise ValueError(f"{path}:1:{column}: the column {name!r} is there twice")


def _times(path: Path, lines: Sequence[int], cells: Sequence[str], column: int) -> Iterator[int]:
    moment_of = _seconds if _is_number(cells[0]) else _date
    last: int | None = None
    for line, cell in zip(lines, cells, strict=True):
        try:
            moment = moment_of(cell)
        except (ValueError, OverflowError) as error:
            wanted = "a number of seconds" if moment_of is _seconds else "a date and time as in ISO 8601"
            raise ValueError(f"{path}:{line}:{column + 1}: {cell!r} is not {wanted}") from error
        if last is not None and moment <= last:
            raise ValueError(f"{path}:{line}:{column + 1}: the time {cell!r} is not later than the one before")
        last = moment
        yield moment


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _seconds(cell: str) -> int:
    return round(float(cell) * 1e9)


def _date(cell: str) -> int:
    moment = datetime.fromisoformat(cell)
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86_400 + since.seconds) * 10**6 + since.microseconds) * 1_000


def _value(cell: str, data_type: DataType) -> bool | int | float | str:
    if data_type is DataType.TEXT:
        return cell
    if not cell:
        return 0
    if data_type is DataType.BOOL:
        if cell.lower() not in _BOOLS:
            raise ValueError(cell)
        return _BOOLS[cell.lower()]
    return float(cell) if data_type.numpy.kind == "f" else int(cell)
