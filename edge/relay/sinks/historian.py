"""The historian: authentic values as rows of PostgreSQL. How it is reached; what is written is in the session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from edge.relay.sinks.historian_session import APPLY, HistorianPlan, HistorianSession, failures
from edge.relay.sinks.sink import SinkUnreachable
from edge.tls import Certificate, chain_of, in_use, load_context, with_peer

SCHEMA_VERSION = 3
_TIMEOUT_S = 10.0
_STATEMENT_TIMEOUT_S = 120.0
_POSTGRES = 13
_LOCK = 1_953_064_037  # Any number that nobody else takes.


class Historian:
    """The sink: see `edge.relay.sinks.sink.Sink`."""

    def __init__(self, plan: HistorianPlan) -> None:
        self._plan = plan
        self.name = plan.name
        self._chain: Sequence[bytes] = ()

    @property
    def address(self) -> str:
        """Where it is."""
        return f"{self._plan.database} at {self._plan.host}:{self._plan.port}"

    def certificates(self) -> Sequence[Certificate]:
        """Ours, and the database's of the last session."""
        return () if self._plan.tls is None else with_peer(in_use(self._plan.tls), self._chain, "the database's")

    @asynccontextmanager
    async def session(self) -> AsyncIterator[HistorianSession]:
        """Connect, and see whether the database is one that this version can write. Raises SinkUnreachable."""
        plan = self._plan
        connection: asyncpg.Connection | None = None
        try:
            with failures(self.address, plan.tls):
                context = None if plan.tls is None else await asyncio.to_thread(load_context, plan.tls)
                # With None it would look for files of the account.
                password = await asyncio.to_thread(plan.password) if plan.password else ""
                connection = await asyncpg.connect(
                    host=plan.host, port=plan.port, database=plan.database, user=plan.account,
                    password=password, ssl=context or False, timeout=_TIMEOUT_S,
                    command_timeout=_STATEMENT_TIMEOUT_S,
                    server_settings={"application_name": f"tidegate {plan.relay}", "timezone": "UTC"},
                )  # fmt: skip
                if context is not None:
                    self._chain = chain_of(connection._transport.get_extra_info("ssl_object"))  # noqa: SLF001
                mark = await self._prepare(connection)
            yield HistorianSession(plan, connection, mark, self.address)
        finally:
            if connection is not None:
                connection.terminate()

    async def _prepare(self, connection: asyncpg.Connection) -> str:
        """The mark of this relay, once the database is known to be one that it can write."""
        plan = self._plan
        if connection.get_server_version().major < _POSTGRES:
            raise SinkUnreachable(f"{self.address} is PostgreSQL {connection.get_server_version().major}: "
                                  f"{_POSTGRES} or newer is needed", is_for_long=True)  # fmt: skip
        found = await connection.fetchval("SELECT max(version) FROM tidegate.version")
        if found != SCHEMA_VERSION:
            older = found is None or found < SCHEMA_VERSION
            remedy = APPLY if older else "this relay writes no older one: install the Tidegate that made it"
            said = f"{self.address} has version {found} of the schema, and {SCHEMA_VERSION} is needed; {remedy}"
            raise SinkUnreachable(said, is_for_long=True)
        # It ends with the session, also where that was broken off.
        lock = f"SELECT pg_try_advisory_lock({_LOCK}, hashtext($1))"
        if not await connection.fetchval(lock, plan.relay):
            raise SinkUnreachable(
                f"{self.address}: another relay writes there under the name {plan.relay}; give each a name of its own"
            )
        for each in plan.renames:
            await connection.execute("SELECT tidegate.rename_tag($1, $2, $3, $4, $5)", *each)
        return await connection.fetchval("SELECT mark FROM tidegate.mark WHERE relay = $1", plan.relay) or ""
