"""The historian on a real PostgreSQL, for the conformance suite and its own tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import asyncpg

from edge.relay.sinks.historian import Historian
from edge.relay.sinks.historian_session import HistorianPlan
from edge.relay.sinks.sink import Place, SinkSession
from tests.support.postgres import Postgres

_numbers = count(1)
_TABLES = ("block", "chain", "gap", "loss", "event", "config", "batch", "identity")


@dataclass
class PostgresSubject:
    """A database of its own on a server."""

    server: Postgres
    database: str
    plan: HistorianPlan

    @classmethod
    def create(cls, server: Postgres) -> PostgresSubject:
        database = f"plant_{next(_numbers)}"
        server.create(database)
        plan = HistorianPlan(name="historian", relay="dmz", host=server.socket, port=server.port, database=database)
        return cls(server, database, plan)

    def sink(self, **changed: Any) -> Historian:
        return Historian(replace(self.plan, **changed))

    def kill(self, session: SinkSession) -> None:
        session._connection.terminate()  # type: ignore[attr-defined]

    async def fetch(self, sql: str, *arguments: Any) -> list[Any]:
        connection = await asyncpg.connect(host=self.server.socket, port=self.server.port, user="postgres",
                                           database=self.database)  # fmt: skip
        try:
            return list(await connection.fetch(sql, *arguments))
        finally:
            await connection.close()

    async def content(self, *, without: str = "") -> dict[Place, str]:
        found = {}
        for table in (each for each in _TABLES if each != without):
            for row in await self.fetch(f"SELECT gateway, epoch, seq, fallen, count(*) FROM tidegate.{table} "
                                        "GROUP BY 1, 2, 3, 4"):  # fmt: skip
                place = Place(row["gateway"], row["epoch"], row["seq"])
                assert place not in found
                found[place] = row["fallen"] or ""
        return found

    def sql(self, text: str, account: str = "postgres") -> str:
        return self.server.psql(text, self.database, account)

    def take_away(self) -> None:
        self.server.stop()

    def bring_back(self) -> None:
        self.server.start()

    def refuse(self, place: Place) -> None:
        self.sql(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.seq = "
            f"{place.seq} THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$;"
            "CREATE TRIGGER no BEFORE INSERT ON tidegate.block FOR EACH ROW EXECUTE FUNCTION no()"
        )

    def fill(self) -> None:
        self.sql("CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION "
                 "'could not extend file' USING ERRCODE = '53100'; END $$;"
                 "CREATE TRIGGER full_disk BEFORE INSERT ON tidegate.event FOR EACH ROW "
                 "EXECUTE FUNCTION full_disk()")  # fmt: skip

    def make_room(self) -> None:
        self.sql("DROP TRIGGER full_disk ON tidegate.event")
