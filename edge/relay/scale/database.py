"""Shares in the historian's database: rows of values, chains and offset become durable together, or none of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from edge.relay.scale.shares import Claimed, Rows, Share, StaleOwner
from edge.relay.sinks.historian import Historian
from edge.relay.sinks.historian_session import Connection, HistorianSession
from edge.relay.sinks.sink import Parcel

_CLAIM = """INSERT INTO tidegate.share AS s (consumers, part, owner, generation) VALUES ($1, $2, $3, 1)
ON CONFLICT (consumers, part) DO UPDATE SET owner = excluded.owner, generation = s.generation + 1
RETURNING generation, next_offset, last_hash"""
_ADVANCE = """UPDATE tidegate.share s SET next_offset = w.next_offset, last_hash = w.last_hash
FROM unnest($2::int[], $3::bigint[], $4::bigint[], $5::bytea[]) w(part, generation, next_offset, last_hash)
WHERE s.consumers = $1 AND (s.part, s.generation) = (w.part, w.generation)"""
_KEEP = """INSERT INTO tidegate.carried VALUES ($1, $2, $3, $4)
ON CONFLICT (consumers, part, key) DO UPDATE SET value = excluded.value"""


class DatabaseShares:
    """See `Shares`; `group` tells workers of one database that share other gateways apart."""

    def __init__(self, historian: Historian, group: str, owner: str) -> None:
        self._historian, self._group, self._owner = historian, group, owner

    @asynccontextmanager
    async def session(self) -> AsyncIterator[DatabaseSession]:
        """See `Shares.session`."""
        async with self._historian.session() as session:
            yield DatabaseSession(session, self._group, self._owner)


class DatabaseSession:
    """See `SharesSession`."""

    def __init__(self, session: HistorianSession, group: str, owner: str) -> None:
        self._session, self._group, self._owner = session, group, owner

    async def claim(self, partition: int) -> Claimed:
        """See `SharesSession.claim`."""
        with self._session.connected() as connection:
            found = await connection.fetchrow(_CLAIM, self._group, partition, self._owner)
            assert found is not None
            rows = await connection.fetch(
                "SELECT key, value FROM tidegate.carried WHERE (consumers, part) = ($1, $2)", self._group, partition
            )
        share = Share(partition, found["generation"], found["next_offset"], found["last_hash"] or b"")
        return Claimed(share, {row["key"]: row["value"] for row in rows})

    async def store(self, parcel: Parcel, shares: Sequence[Share], rows: Mapping[int, Rows]) -> None:
        """See `SharesSession.store`."""

        async def with_rows(connection: Connection) -> None:
            columns = [[each.partition for each in shares], [each.generation for each in shares],
                       [each.next_offset for each in shares], [each.last_hash for each in shares]]  # fmt: skip
            advanced = await connection.execute(_ADVANCE, self._group, *columns)
            if advanced != f"UPDATE {len(shares)}":
                raise StaleOwner("another worker took over some of its gateways; what it did meanwhile counts nowhere")
            kept = [(self._group, part, key, value) for part, each in rows.items() for key, value in each.items()]
            await connection.executemany(_KEEP, [row for row in kept if row[3] is not None])
            gone = [row[:3] for row in kept if row[3] is None]
            await connection.executemany(
                "DELETE FROM tidegate.carried WHERE (consumers, part, key) = ($1, $2, $3)", gone
            )

        await self._session.write(parcel, with_rows)
