"""A lake in a directory, for the conformance suite and its own tests."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from edge.model import Catalogue
from edge.relay.sinks import lake, lake_files
from edge.relay.sinks.lake import Lake, LakePlan, LakeSession
from edge.relay.sinks.lake_rows import Held, held
from edge.relay.sinks.sink import Place, SinkRecord, SinkSession
from edge.seal import Malformed


async def write_all(session: SinkSession) -> None:
    """Write what waits, though more may come for its hours."""
    assert isinstance(session, LakeSession)
    for bucket in session._open.values():
        bucket.is_due = True
    await session._write_due()


@dataclass
class LakeSubject:
    """A directory, and how its files are cut: by default after each record, so that nothing waits."""

    directory: Path
    patch: pytest.MonkeyPatch
    plan: LakePlan

    @classmethod
    def create(cls, directory: Path, patch: pytest.MonkeyPatch) -> LakeSubject:
        directory.mkdir()
        return cls(directory, patch, LakePlan(name="lake", directory=directory, rows=1))

    def sink(self, **changed: Any) -> Lake:
        return Lake(replace(self.plan, **changed))

    def kill(self, session: SinkSession) -> None:
        """What it has begun in its thread ends, and nothing after it begins."""

    def read(self, sql: str, dataset: str = "readings") -> list[tuple[Any, ...]]:
        """What whoever reads the files finds; `SELECT ... FROM rows`."""
        if not self.files(dataset):
            return []
        with duckdb.connect() as connection:
            pattern = str(self.directory / dataset / "**" / "*.parquet")
            connection.execute(f"CREATE VIEW rows AS SELECT * FROM read_parquet('{pattern}')")
            return connection.execute(sql).fetchall()

    def files(self, dataset: str = "readings") -> list[str]:
        """The names of the files, with their folders."""
        below = self.directory / dataset
        return sorted(str(path.relative_to(below)) for path in below.glob("**/*.parquet"))

    async def content(self) -> dict[Place, str]:
        found: dict[Place, str] = {}
        sql = {
            "readings": "SELECT gateway, epoch, seq, verdict FROM rows GROUP BY ALL HAVING count(*) = "
                        "count(DISTINCT (device, tag, block, row))",
            "events": 'SELECT gateway, epoch, seq, verdict FROM rows GROUP BY ALL HAVING count(*) = '
                      'count(DISTINCT "row")',
        }  # fmt: skip
        for dataset, query in sql.items():
            for gateway, epoch, seq, verdict in self.read(query, dataset):
                place = Place(gateway, bytes.fromhex(epoch), seq)
                assert place not in found
                found[place] = "" if verdict == "AUTHENTIC" else verdict
        return found

    def take_away(self) -> None:
        self.directory.rename(self.directory.with_name("elsewhere"))

    def bring_back(self) -> None:
        self.directory.with_name("elsewhere").rename(self.directory)

    def refuse(self, place: Place) -> None:
        """Files refuse hardly anything: test_lake.py has a record that they do."""

        def refused(record: SinkRecord, catalogue: Catalogue | None) -> Held:
            if record.place == place:
                raise Malformed("no file can say it")
            return held(record, catalogue)

        self.patch.setattr(lake, "held", refused)

    def fill(self) -> None:
        def no_room(path: Path) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        self.patch.setattr(lake_files, "_sync", no_room)

    def make_room(self) -> None:
        self.patch.undo()
