"""A session of the historian: each parcel becomes rows of PostgreSQL, with its mark, in one transaction."""

# Theory of operation
#
# A row is a scan, not a value: its values are arrays that go from numpy to COPY whole. The schema, the views that make
# readings of it, and the roles are in configs/historian, and a database administrator installs them: this account owns
# nothing, and makes and drops days by two functions.
#
# The key of a block has its time in it, because days are partitions. What is written already is therefore looked up and
# left out before the COPY, which would end at the first row that is there. Two relays may write the same records into
# one database: where both do so at once, one transaction fails, and looks again.
#
# Where the database refuses a row for what is in it, the parcel is written record by record, each behind a savepoint.
# What is refused then stands in the table `refused`, and the mark goes on.

from __future__ import annotations

import asyncio
import ssl
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import asyncpg

from edge.errors import ConfigError
from edge.logs import get_logger
from edge.relay.sinks.historian_rows import (
    BlockRow,
    GroupArrays,
    Latest,
    block_rows,
    block_time_ns,
    catalogue_tags,
    signed,
)
from edge.relay.sinks.other_rows import TABLES, other_rows
from edge.relay.sinks.postgres_copy import stream
from edge.relay.sinks.sink import Parcel, Place, SinkRecord, SinkUnreachable
from edge.seal import Data
from edge.tls import TlsFiles, explain

log = get_logger(__name__)

_CHUNK_BYTES = 2**19
_DAY_NS = 86_400 * 10**9
APPLY = "have its administrator apply configs/historian/schema.sql"
# SQLSTATE, or its class, to what a person can do; those after the line need a person.
_REMEDIES = {
    "53100": "its disk is full: free or add space",
    "53300": "it has no connection free: raise max_connections, or end others",
    "57P0": "it is shutting down or starting",
    "25006": "it is read-only: a standby, or default_transaction_read_only is set",
    "28": "it does not let us in: is the password right, and is there a line for the account in pg_hba.conf?",
    "3D000": "there is no such database: create it, and " + APPLY,
    "3F000": "it has no schema tidegate: " + APPLY,
    "42P01": "a table is not there: " + APPLY,
    "42883": "a function is not there: " + APPLY,
    "42501": "GRANT tidegate_writer to the account",
}
# A context is sealed again each hour: it is one row, also where the record that it was taken from has fallen.
_ON_CONFLICT = {
    "batch": f"(gateway, epoch, number) DO UPDATE SET (seq, {TABLES['batch']}, fallen) = (excluded.seq, "
             f"excluded.{TABLES['batch'].replace(', ', ', excluded.')}, NULL) WHERE batch.fallen IS NOT NULL",
}  # fmt: skip
_FOR_LONG = ("28", "3D", "3F", "42", "25006")


_OF_A_ROW = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.RaiseError,
             asyncpg.ProgramLimitExceededError)  # fmt: skip
_EPOCH = date(1970, 1, 1)


Connection: TypeAlias = asyncpg.Connection
Keep = Callable[[Connection], Awaitable[None]]


class Rename(NamedTuple):
    """A tag of a gateway that had another name, and perhaps another device."""

    gateway: str
    was_device: str
    was: str
    device: str
    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorianPlan:
    """Where the historian is, and how it is reached.

    Attributes:
        relay: the name under which this relay keeps its mark.
        host: a name, an address, or the folder of a local socket.
        keep_days: how many days stay; None for all.
    """

    name: str
    relay: str
    host: str
    port: int = 5432
    database: str = "tidegate"
    account: str = "tidegate"
    password: Callable[[], str] | None = None
    tls: TlsFiles | None = None
    renames: Sequence[Rename] = ()
    keep_days: int | None = None


class HistorianSession:
    """A connection on which parcels are written: see `edge.relay.sinks.sink.SinkSession`."""

    def __init__(self, plan: HistorianPlan, connection: asyncpg.Connection, mark: str, address: str) -> None:
        self._plan, self._connection, self._address = plan, connection, address
        self.mark = mark
        self._known: set[tuple[str, bytes]] = set()  # Catalogues in the database.
        self._days: set[int] = set()
        self._dropped_to = date.min

    @contextmanager
    def connected(self) -> Iterator[asyncpg.Connection]:
        """The connection, for what is kept beside rows. Raises SinkUnreachable where that fails."""
        with failures(self._address, self._plan.tls):
            yield self._connection

    async def write(self, parcel: Parcel, keep: Keep | None = None) -> int:
        """See `SinkSession.write`; in the same transaction `keep` stores something else than the mark."""
        keep = keep or partial(self._keep, parcel.mark)
        with self.connected():
            try:
                async with self._connection.transaction():
                    await self._write(parcel, parcel.records)
                    await keep(self._connection)
                refused = 0
            except _OF_A_ROW:
                refused = await self._write_singly(parcel, keep)
            await self._drop_days(max((_until_ns(record) for record in parcel.records), default=0))
        self.mark = parcel.mark
        return refused

    async def _write_singly(self, parcel: Parcel, keep: Keep) -> int:
        """Write each record behind a savepoint; returns how many the database refuses."""
        refused = 0
        self._forget()
        async with self._connection.transaction():
            await self._write(parcel, ())
            for record in parcel.records:
                try:
                    async with self._connection.transaction():
                        await self._write(None, [record])
                except _OF_A_ROW as error:
                    self._forget()
                    refused += 1
                    place = record.place
                    log.error("record refused by a sink", sink=self._plan.name, gateway=place.gateway,  # noqa: TRY400
                              epoch=place.epoch.hex(), seq=place.seq, reason=str(error))  # fmt: skip
                    await self._connection.execute(
                        "INSERT INTO tidegate.refused VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                        place.gateway, place.epoch, signed(place.seq), str(error),
                    )  # fmt: skip
            await keep(self._connection)
        return refused

    def _forget(self) -> None:
        """Look again what is there: a transaction was taken back, or somebody else dropped a day."""
        self._days.clear()
        self._known.clear()

    async def _write(self, parcel: Parcel | None, records: Sequence[SinkRecord]) -> None:
        if parcel is not None and (parcel.fallen or parcel.anew):
            await self._change(parcel)
        data = [record for record in records if record.catalogue is not None]
        if data:
            await self._write_blocks(data)
        others: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for record in records:
            place = record.place
            for table, values in other_rows(record):
                others[table].append((place.gateway, place.epoch, place.seq, *values))
        for table, rows in others.items():
            numbers = ", ".join(f"${n + 1}" for n in range(len(rows[0])))
            await self._connection.executemany(
                f"INSERT INTO tidegate.{table} (gateway, epoch, seq, {TABLES[table]}) VALUES ({numbers}) "  # noqa: S608
                f"ON CONFLICT {_ON_CONFLICT.get(table, 'DO NOTHING')}", [tuple(map(_argument, row)) for row in rows],
            )  # fmt: skip

    async def _keep(self, mark: str, connection: asyncpg.Connection) -> None:
        await connection.execute(
            "INSERT INTO tidegate.mark VALUES ($1, $2) ON CONFLICT (relay) DO UPDATE SET mark = excluded.mark",
            self._plan.relay, mark,
        )  # fmt: skip

    async def _change(self, parcel: Parcel) -> None:
        """Mark what has fallen, and remove what is written anew."""
        places = [place for place, _ in parcel.fallen]
        at = "(gateway, epoch, seq) IN (SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[]))"
        for table in ("block", *TABLES):
            await self._connection.execute(
                f"UPDATE tidegate.{table} r SET fallen = w.verdict FROM "  # noqa: S608
                "unnest($1::text[], $2::bytea[], $3::bigint[], $4::text[]) w(gateway, epoch, seq, verdict) "
                "WHERE (r.gateway, r.epoch, r.seq) = (w.gateway, w.epoch, w.seq)",
                *_columns(places), [verdict.value for _, verdict in parcel.fallen],
            )  # fmt: skip
            if parcel.anew:
                await self._connection.execute(f"DELETE FROM tidegate.{table} WHERE {at}", *_columns([*parcel.anew]))  # noqa: S608
        # What is newest is found again with the next values.
        changed = list({place.gateway for place in [*places, *parcel.anew]})
        await self._connection.execute("DELETE FROM tidegate.latest WHERE gateway = ANY($1)", changed)

    # Sample blocks

    async def _write_blocks(self, records: Sequence[SinkRecord]) -> None:
        groups = {}
        for record in records:
            assert isinstance(record.content, Data) and record.catalogue is not None  # noqa: PT018
            key = record.place.gateway, record.content.catalogue
            if key not in groups:
                groups[key] = [GroupArrays(group) for group in record.catalogue.groups]
                await self._add_catalogue(*key, record)
        rows = await asyncio.to_thread(_rows_of, records, groups)
        written = await self._written(rows)
        new = [row.data for place, own in rows.items() if place not in written for row in own]
        await self._add_days({row.t_ns // _DAY_NS for own in rows.values() for row in own})
        if new:
            await self._copy("block", new)
            await self._show_latest([each for each in records if each.place not in written], groups)

    async def _add_catalogue(self, gateway: str, digest: bytes, record: SinkRecord) -> None:
        if (gateway, digest) in self._known or record.catalogue is None:
            return
        is_there = "SELECT EXISTS (SELECT FROM tidegate.catalogue WHERE (gateway, catalogue) = ($1, $2))"
        if not await self._connection.fetchval(is_there, gateway, digest):
            tags = await asyncio.to_thread(catalogue_tags, record.catalogue)
            await self._connection.execute("SELECT tidegate.add_catalogue($1, $2, $3)", gateway, digest, tags)
            for each in self._plan.renames:
                await self._connection.execute("SELECT tidegate.rename_tag($1, $2, $3, $4, $5)", *each)
        self._known.add((gateway, digest))

    async def _written(self, rows: dict[Place, list[BlockRow]]) -> set[Place]:
        """The places of which rows are there that have not fallen."""
        times = [row.t_ns // 1000 for own in rows.values() for row in own]
        found = await self._connection.fetch(
            "SELECT DISTINCT b.gateway, b.epoch, b.seq FROM tidegate.block b "
            "JOIN unnest($1::text[], $2::bytea[], $3::bigint[]) w(gateway, epoch, seq) USING (gateway, epoch, seq) "
            "WHERE b.t BETWEEN to_timestamp($4::bigint / 1000000.0) AND to_timestamp($5::bigint / 1000000.0)",
            *_columns([*rows]), min(times), max(times),
        )  # fmt: skip
        return {Place(gateway, epoch, seq % 2**64) for gateway, epoch, seq in found}

    async def _add_days(self, days: set[int]) -> None:
        for day in sorted(days - self._days):
            await self._connection.execute("SELECT tidegate.add_day($1)", _EPOCH + timedelta(days=day))
            self._days.add(day)

    async def _drop_days(self, newest_ns: int) -> None:
        """Drop what is older than is kept: by the newest value, and no earlier than by the clock of this machine."""
        if self._plan.keep_days is None or not newest_ns:
            return
        today = _EPOCH + timedelta(days=min(newest_ns, time.time_ns()) // _DAY_NS)
        if today > self._dropped_to:
            before = today - timedelta(days=self._plan.keep_days)
            dropped = await self._connection.fetchval("SELECT tidegate.drop_days($1)", before)
            self._dropped_to = today
            self._days.clear()
            if dropped:
                log.info("days dropped from a sink", sink=self._plan.name, days=dropped, before=str(before))

    async def _show_latest(
        self, records: Sequence[SinkRecord], groups: dict[tuple[str, bytes], list[GroupArrays]]
    ) -> None:
        """Keep the table latest: read, merged and written once for each scan group of a parcel."""
        shown: dict[tuple[str, bytes, int], list[SinkRecord]] = {}
        for record in records:
            assert isinstance(record.content, Data)
            for _, number, *_ in record.content.wire_blocks:
                shown.setdefault((record.place.gateway, record.content.catalogue, number), []).append(record)
        keys = [[*column] for column in zip(*shown, strict=True)]
        at = "(gateway, catalogue, scan_group) IN (SELECT * FROM unnest($1::text[], $2::bytea[], $3::int[]))"
        kept = await self._connection.fetch(f"DELETE FROM tidegate.latest WHERE {at} RETURNING *", *keys)  # noqa: S608
        before = {(each["gateway"], each["catalogue"], each["scan_group"]): each for each in kept}
        rows = await asyncio.to_thread(_latest_rows, records, groups, before)
        await self._copy("latest", rows)

    async def _copy(self, table: str, rows: Sequence[bytes]) -> None:
        data = stream(rows)

        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(data), _CHUNK_BYTES):
                yield data[at : at + _CHUNK_BYTES]

        await self._connection.copy_to_table(table, schema_name="tidegate", source=chunks(), format="binary")


@contextmanager
def failures(address: str, tls: TlsFiles | None) -> Iterator[None]:
    """Whatever keeps a database from being written, as a sentence. Raises SinkUnreachable."""
    try:
        yield
    except asyncpg.PostgresError as error:
        state = error.sqlstate or ""
        remedy = next((words for code, words in _REMEDIES.items() if state.startswith(code)), "")
        reason = f"{error}; {remedy}" if remedy else str(error)
        raise SinkUnreachable(f"{address}: {reason}", is_for_long=state.startswith(_FOR_LONG)) from error
    except ssl.SSLError as error:
        raise SinkUnreachable(f"{address}: {explain(error, tls)}") from error
    except (OSError, asyncpg.InterfaceError, ConfigError) as error:  # A time that ran out is an OSError.
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error) or "it does not answer"
        raise SinkUnreachable(f"{address} cannot be reached: {reason}") from error


def _argument(value: Any) -> Any:
    return signed(value) if type(value) is int else value


def _columns(places: Sequence[Place]) -> list[list[Any]]:
    """Three arguments, an array each."""
    return [[each.gateway for each in places], [each.epoch for each in places], [signed(each.seq) for each in places]]


def _until_ns(record: SinkRecord) -> int:
    return record.content.until_ns if isinstance(record.content, Data) else 0


def _rows_of(
    records: Sequence[SinkRecord], groups: dict[tuple[str, bytes], list[GroupArrays]]
) -> dict[Place, list[BlockRow]]:
    rows = {}
    for record in records:
        assert isinstance(record.content, Data)
        rows[record.place] = list(block_rows(record, groups[record.place.gateway, record.content.catalogue]))
    return rows


def _latest_rows(
    records: Sequence[SinkRecord], groups: dict[tuple[str, bytes], list[GroupArrays]],
    before: dict[tuple[str, bytes, int], Any],
) -> list[bytes]:  # fmt: skip
    latest: dict[tuple[str, bytes, int], Latest] = {}
    for record in records:
        data = record.content
        assert isinstance(data, Data)
        for block in data.blocks(record.catalogue):
            key = record.place.gateway, data.catalogue, block.group
            if key not in latest:
                latest[key] = Latest(groups[key[:2]][block.group], before.get(key))
            latest[key].take(block, block_time_ns(data, block))
    return [each.row(*key) for key, each in latest.items()]
