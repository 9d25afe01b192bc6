"""A buffer in memory: what the forwarder reads from, without a disk."""

from __future__ import annotations

from collections.abc import Iterable

from edge.seal import Encoding, RecordType, cose

_EPOCH = b"epoch\0\0\0"


def unsigned_record(seq: int, kind: RecordType = RecordType.DATA, payload_bytes: int = 40) -> bytes:
    """A record of the right shape without a valid signature, for code that does not verify it."""
    kind = kind if seq else RecordType.EPOCH
    start = cose.header_start(cose.ES256, bytes(8), "urn:tidegate:line-4", kind, _EPOCH)
    prev = bytes([seq % 255 + 1]) * 32 if seq else cose.NO_PREVIOUS
    protected, payload = cose.protected_and_payload(start, seq, prev, Encoding.PLAIN, bytes(payload_bytes))
    return cose.build(protected, payload, bytes(64))


class MemorySource:
    """A `Source` whose records are numbered as they were appended.

    Attributes:
        records: what is stored, by number.
        acknowledged: every number that was declared delivered.
    """

    def __init__(self, records: Iterable[bytes] = ()) -> None:
        self.records = dict(enumerate(records))
        self.acknowledged: set[int] = set()
        self._end = len(self.records)

    def append(self, record: bytes) -> int:
        """Store a record; returns its number."""
        self.records[self._end] = record
        self._end += 1
        return self._end - 1

    def drop(self, number: int) -> None:
        """Lose a record, as a full buffer does."""
        self.records.pop(number, None)

    @property
    def is_delivered(self) -> bool:
        """Whether all that is stored was declared delivered."""
        return self.records.keys() <= self.acknowledged

    def durable_end(self) -> int:
        """See `Source.durable_end`."""
        return self._end

    def oldest(self) -> int:
        """See `Source.oldest`."""
        return min(self.records, default=self._end)

    def undelivered(self) -> Iterable[tuple[int, int]]:
        """See `Source.undelivered`."""
        return [(number, number) for number in sorted(self.records) if number not in self.acknowledged]

    async def read(self, number: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """See `Source.read`."""
        found: list[tuple[int, bytes]] = []
        for at in range(max(number, self.oldest()), self._end):
            if (record := self.records.get(at)) is not None:
                max_bytes -= len(record)
                if found and max_bytes < 0:
                    break
                found.append((at, record))
        return found

    def acknowledge(self, first: int, last: int) -> None:
        """See `Source.acknowledge`."""
        self.acknowledged.update(range(first, last + 1))
