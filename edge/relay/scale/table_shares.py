"""Shares in a compacted topic, for workers without a database. Its partitions are those of the topic of records.

What is taken of a share is written last: where a worker ends before that, the next owner takes some records again. A
row has the generation of its owner, and who reads a share leaves out what an owner wrote that another had followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

import cbor2

from edge.kafka.client import KafkaAccess
from edge.kafka.table import Table
from edge.logs import get_logger
from edge.relay.scale.shares import Claimed, Rows, Share
from edge.relay.sinks.sink import Parcel

log = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_SHARE = "/share"  # No gateway has such a name.


class TableShares:
    """See `Shares`."""

    def __init__(self, kafka: KafkaAccess, topic: str) -> None:
        self._kafka, self._topic = kafka, topic

    @asynccontextmanager
    async def session(self) -> AsyncIterator[TableSession]:
        """See `Shares.session`."""
        thread = ThreadPoolExecutor(1, "shares")
        try:
            table = await asyncio.get_running_loop().run_in_executor(thread, Table, self._kafka, self._topic)
            yield TableSession(table, thread)
        finally:
            thread.shutdown(wait=False)


class TableSession:
    """See `SharesSession`."""

    def __init__(self, table: Table, thread: ThreadPoolExecutor) -> None:
        self._table, self._thread = table, thread

    async def claim(self, partition: int) -> Claimed:
        """See `SharesSession.claim`."""
        share, rows = _folded(partition, await self._in_thread(self._table.read, partition))
        share.generation += 1
        await self._in_thread(self._table.write, partition, [_row(share)])
        return Claimed(share, rows)

    async def store(self, parcel: Parcel, shares: Sequence[Share], rows: Mapping[int, Rows]) -> None:  # noqa: ARG002
        """See `SharesSession.store`; values are not kept here."""
        for share in shares:
            kept = [(key, None if value is None else cbor2.dumps([share.generation, value]))
                    for key, value in rows[share.partition].items()]  # fmt: skip
            await self._in_thread(self._table.write, share.partition, [*kept, _row(share)])

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **kwargs))


def _row(share: Share) -> tuple[str, bytes]:
    return _SHARE, cbor2.dumps([share.generation, [share.next_offset, share.last_hash]])


def _folded(partition: int, written: Sequence[tuple[str, bytes | None]]) -> tuple[Share, dict[str, bytes]]:
    """A share as its owners left it."""
    share, rows = Share(partition, 0), dict[str, bytes]()
    for key, value in written:
        if value is None:
            rows.pop(key, None)
            continue
        try:
            generation, content = cbor2.loads(value)
        except (cbor2.CBORDecodeError, TypeError, ValueError):
            log.warning("content of a topic is not ours, and left out", partition=partition, key=key)
            continue
        if generation < share.generation:
            continue
        if key == _SHARE:
            share = Share(partition, generation, *content)
        else:
            rows[key] = content
    return share, rows
