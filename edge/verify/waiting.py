"""Records whose verdict may still change, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from edge.seal.record import RecordType
from edge.verify.history import History, Pending
from edge.verify.verdicts import Verdict


class Waiting:
    """All of them, oldest first, also reachable by place through their histories."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._records: OrderedDict[bytes, tuple[History, Pending]] = OrderedDict()
        self.size_bytes = 0

    def add(self, history: History, pending: Pending) -> list[History]:
        """Keep a record. Where there is no room the oldest wait no longer: the verdict they have is their last.

        Returns whose they were.
        """
        owners = []
        history.pool.setdefault(pending.seq, []).append(pending)
        self._records[pending.hash] = history, pending
        self.size_bytes += len(pending.data)
        while self.size_bytes > self._limit_bytes:
            owner, oldest = next(iter(self._records.values()))
            self.release(owner, oldest)
            if oldest.verdict is not Verdict.LINKED:
                owner.rejected[oldest.verdict] += 1
            owners.append(owner)
        return owners

    def release(self, history: History, pending: Pending) -> None:
        """A record waits no longer."""
        here = history.pool[pending.seq]
        here.remove(pending)
        if not here:
            del history.pool[pending.seq]
        del self._records[pending.hash]
        self.size_bytes -= len(pending.data)

    def snapshot(self) -> Iterator[list[Any]]:
        """Plain values to keep."""
        for history, p in self._records.values():
            yield [history.issuer, history.epoch, int(p.type), p.seq, p.hash, p.data, str(p.verdict), p.reason]

    def restore(self, history: History, kept: list[Any]) -> None:
        """Take the plain values of one record back, without issuer and epoch."""
        kind, seq, digest, data, verdict, reason = kept
        self.add(history, Pending(RecordType(kind), seq, digest, data, Verdict(verdict), reason))
