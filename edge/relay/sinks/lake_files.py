"""The Parquet files of a lake: written whole, marked where a record fell, compacted and removed by the day.

    readings/gateway=NAME/day=DAY/hour=HH-EPOCH-FIRST-LAST.parquet    values; after compaction day-EPOCH-FIRST-LAST
    events/gateway=NAME/day=DAY/...                                   everything else that a record says
    .mark, .lock, .changing, .scratch       up to where; which relay; who changes files now; what is not whole yet

A file says in its metadata which records it holds.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import duckdb
import orjson

from edge.files import exchange, make_directory, sync_directory
from edge.intervals import IntervalSet
from edge.relay.sql_text import IN_ORDER, pattern, quoted

DATASETS = {"readings": "device, tag, time, epoch, seq, block, row", "events": "time, epoch, seq, row"}
"""Each with the order of its rows."""
UNDATED = "__HIVE_DEFAULT_PARTITION__"

_FORMAT = "FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2, USE_TMP_FILE false"
_KEY = "tidegate"
_SCRATCH = ".scratch"  # Not below a data set: what searches that for files finds hidden ones as well.
_SORTED_ROWS = 300_000
_NAME = re.compile(r"(?:hour=(\d\d)|day)-([0-9a-f]{16})-(\d+)-(\d+)(?:-\d+)?\.parquet")


class Hour(NamedTuple):
    """What goes into files of its own: an hour of a chain. `day` is empty for what has no time."""

    gateway: str
    day: str
    hour: str
    epoch: str


class LakeFiles:
    """The files below a directory. One thread at a time; raises OSError and duckdb.Error."""

    def __init__(self, directory: Path, memory: str = "100MB") -> None:
        self.directory = directory
        pattern(directory)  # What could be written and not be read is refused at once.
        self._duckdb = duckdb.connect(config={"memory_limit": memory, "temp_directory": str(directory / _SCRATCH)})
        for setting in IN_ORDER:
            self._duckdb.execute(f"SET {setting}")

    def close(self) -> None:
        """End duckdb."""
        self._duckdb.close()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Wait until no other process changes files: a relay writes, and a command compacts."""
        handle = os.open(self.directory / ".changing", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def clean(self) -> None:
        """Remove what a process left that was killed."""
        with self.changing():
            shutil.rmtree(self.directory / _SCRATCH, ignore_errors=True)
            for left in self.directory.glob("*/gateway=*/day=*/.*.new"):
                left.unlink()

    def _scratch(self, name: str) -> Path:
        path = self.directory / _SCRATCH / name
        shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(0o750, exist_ok=True)
        return path

    # Whole files

    def folder(self, dataset: str, hour: Hour) -> Path:
        """Where the files of an hour are."""
        return self.directory / dataset / f"gateway={quote(hour.gateway, safe='')}" / f"day={hour.day or UNDATED}"

    def write(
        self, dataset: str, hour: Hour, places: IntervalSet, query: str, tables: Mapping[str, Any],
        parameters: Mapping[str, str] | None = None,
    ) -> Path:  # fmt: skip
        """A new file; the name that it has is that of its first and last record."""
        folder = self.folder(dataset, hour)
        name = f"hour={hour.hour}-{hour.epoch}-{places.first[0]}-{places.end - 1}"
        make_directory(folder, 0o750)
        for table, columns in tables.items():
            self._duckdb.register(table, columns)
        try:
            with self.changing():
                path, number = folder / f"{name}.parquet", 1
                while path.exists():  # Others of its records were in between: its own would have been found there.
                    path, number = folder / f"{name}-{number}.parquet", number + 1
                self._copy(query, path, places, parameters)
                return path
        finally:
            for table in tables:
                self._duckdb.unregister(table)

    def _copy(self, query: str, path: Path, places: IntervalSet, parameters: Mapping[str, str] | None = None) -> None:
        draft = path.with_name(f".{path.name}.new")
        draft.unlink(missing_ok=True)
        about = quoted(orjson.dumps([*places]).decode())
        try:
            self._duckdb.execute(
                f"COPY ({query}) TO {quoted(str(draft))} ({_FORMAT}, KV_METADATA {{{_KEY}: {about}}})", parameters
            ).fetchall()
            _sync(draft)
            draft.rename(path)
        finally:
            draft.unlink(missing_ok=True)
        sync_directory(path.parent)

    # Which records are where

    def places(self, hour: Hour) -> IntervalSet:
        """The records of an hour that are in files."""
        found = IntervalSet()
        for dataset in DATASETS:
            for path in self._files(self.folder(dataset, hour), hour.epoch, hour.hour):
                for interval in self._places(path):
                    found.add(*interval)
        return found

    def _files(self, folder: Path, epoch: str, hour: str = "") -> Iterator[Path]:
        for path in sorted(folder.glob(f"*-{epoch}-*.parquet")):
            name = _NAME.fullmatch(path.name)
            if name and (not hour or name[1] in (None, hour)):
                yield path

    def _places(self, path: Path) -> IntervalSet:
        found = self._duckdb.execute(
            "SELECT value FROM parquet_kv_metadata($file) WHERE key = $key", {"file": pattern(path), "key": _KEY}
        ).fetchall()
        return IntervalSet(interval for (value,) in found for interval in orjson.loads(value))

    # Files that change

    def mark(self, gateway: str, epoch: str, fallen: Mapping[int, str], removed: Iterable[int]) -> None:
        """Say which records fell in the column verdict of their rows, and remove rows whose record is written anew."""
        removed = set(removed)
        numbers = sorted({*fallen, *removed})
        with self.changing():
            for dataset in DATASETS:
                for folder in self.folder(dataset, Hour(gateway, "", "", epoch)).parent.glob("day=*"):
                    for path in self._files(folder, epoch):
                        name = _NAME.fullmatch(path.name)
                        assert name is not None
                        if numbers[-1] >= int(name[3]) and numbers[0] <= int(name[4]):
                            self._change(path, fallen, removed)

    def _change(self, path: Path, fallen: Mapping[int, str], removed: set[int]) -> None:
        places = self._places(path)
        gone = {number for number in removed if number in places}
        verdicts: defaultdict[str, list[int]] = defaultdict(list)
        for number, verdict in fallen.items():
            if number in places:
                verdicts[verdict].append(number)
        if not gone and not verdicts:
            return
        for number in gone:
            places.discard(number, number)
        if not places:
            path.unlink()
            sync_directory(path.parent)
            return
        cases = " ".join(f"WHEN seq IN ({_list(numbers)}) THEN {quoted(each)}" for each, numbers in verdicts.items())
        verdict = f"CASE {cases} ELSE verdict END" if cases else "verdict"
        where = f"WHERE seq NOT IN ({_list(gone)})" if gone else ""
        self._copy(f"SELECT * REPLACE ({verdict} AS verdict) FROM {_read([path])} {where}", path, places)  # noqa: S608

    # Whole days

    def compact(self, day: str) -> list[tuple[int, int]]:
        """Make one file of those of each chain of a day; returns how many there were, and are, of each gateway."""
        counts = []
        with self.changing():
            for dataset, order in DATASETS.items():
                for folder in sorted((self.directory / dataset).glob(f"gateway=*/day={day}")):
                    before = sorted(folder.glob("*.parquet"))
                    by_epoch: defaultdict[str, list[Path]] = defaultdict(list)
                    for path in before:
                        if name := _NAME.fullmatch(path.name):
                            by_epoch[name[2]].append(path)
                    if len(by_epoch) < len(before):
                        self._replace(folder, by_epoch, order)
                    counts.append((len(before), len(by_epoch)))
        return counts

    def _replace(self, folder: Path, by_epoch: Mapping[str, list[Path]], order: str) -> None:
        new = self._scratch("compacted")
        new.mkdir(0o750)
        try:
            for epoch, paths in by_epoch.items():
                places = IntervalSet(interval for path in paths for interval in self._places(path))
                path = new / f"day-{epoch}-{places.first[0]}-{places.end - 1}.parquet"
                parts = []
                for number, where in enumerate(self._ranges(paths) if "tag" in order else [""]):
                    parts.append(new / f".{number}")
                    query = f"SELECT * FROM {_read(paths)} {where} ORDER BY {order}"  # noqa: S608
                    self._duckdb.execute(f"COPY ({query}) TO {quoted(str(parts[-1]))} ({_FORMAT})").fetchall()
                self._copy(f"SELECT * FROM {_read(parts)}", path, places)  # noqa: S608
                for part in parts:
                    part.unlink()
            exchange(new, folder)  # Whoever opens the folder finds the one or the other, and never both.
            sync_directory(folder.parent)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _ranges(self, paths: list[Path]) -> Iterator[str]:
        """Conditions that cut the rows of files into parts, in order, each of which can be sorted in memory."""
        tags = f"SELECT device, tag, count(*) FROM {_read(paths)} GROUP BY ALL ORDER BY ALL"  # noqa: S608
        counted = self._duckdb.execute(tags).fetchall()
        first, rows = counted[0][:2], 0
        for number, (device, tag, count) in enumerate(counted, 1):
            rows += count
            if rows >= _SORTED_ROWS or number == len(counted):
                low, high = (f"({quoted(each[0])}, {quoted(each[1])})" for each in (first, (device, tag)))
                where = f"WHERE (device, tag) BETWEEN {low} AND {high}"
                if first[0] == device:  # What a file says of its pages is said of each column by itself.
                    where += f" AND device = {quoted(device)} AND tag BETWEEN {quoted(first[1])} AND {quoted(tag)}"
                yield where
                first, rows = counted[min(number, len(counted) - 1)][:2], 0

    def remove_before(self, day: str) -> list[str]:
        """Remove the days before; returns which."""
        removed = set()
        with self.changing():
            for folder in self.directory.glob("*/gateway=*/day=*"):
                if (name := folder.name.removeprefix("day=")) < day and name != UNDATED:
                    gone = self._scratch("removed")
                    folder.rename(gone)
                    sync_directory(folder.parent)
                    shutil.rmtree(gone)
                    removed.add(name)
        return sorted(removed)

    def days(self) -> list[str]:
        """The days that there are."""
        names = {folder.name.removeprefix("day=") for folder in self.directory.glob("*/gateway=*/day=*")}
        return sorted(names - {UNDATED})


def is_day(text: str) -> bool:
    """Whether a text is a day as folders name it."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _read(paths: Iterable[Path]) -> str:
    """Whatever version of Tidegate wrote them: later ones have more columns."""
    listed = ", ".join(quoted(pattern(path)) for path in paths)
    return f"read_parquet([{listed}], hive_partitioning = false, union_by_name = true)"


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
