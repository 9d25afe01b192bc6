"""Records whose verdict may still change, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edge.seal.record import RecordType
from edge.verify.verdicts import Verdict

if TYPE_CHECKING:
    from edge.verify.chain_state import ChainState

SpaceOf = Callable[[str], str | None]
"""An issuer to the name of the space that its undecided records take; None where they are not held."""

CHAIN_BYTES = 4096  # About what a chain takes in memory of which nothing else is known.


@dataclass(slots=True)
class UndecidedRecord:
    """A record whose verdict may still change; `keys_tried` are the keys that did not sign it."""

    type: RecordType
    seq: int
    hash: bytes
    data: bytes
    verdict: Verdict
    reason: str
    keys_tried: tuple[bytes, ...] = ()
    arrived_ns: int | None = None
    size_bytes: int = 0


@dataclass(slots=True)
class _Space:
    """Records that share a limit, oldest first; `linked` has the hashes of those that are linked."""

    records: OrderedDict[bytes, tuple[ChainState, UndecidedRecord]] = field(default_factory=OrderedDict)
    linked: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    size_bytes: int = 0


class UndecidedRecords:
    """All undecided records; each is also in `undecided` of its chain.

    Args:
        limit_bytes: of each space.
        space_of: with it, a full space releases only records that are linked, and then refuses: the caller relies on
            every record that is held. Without it there is one space, which releases the oldest.
    """

    def __init__(self, limit_bytes: int, space_of: SpaceOf | None = None) -> None:
        self._limit_bytes = limit_bytes
        self._space_of = space_of
        self._spaces: dict[str, _Space] = {}
        self._space_by_hash: dict[bytes, _Space] = {}

    def __contains__(self, digest: object) -> bool:
        return digest in self._space_by_hash

    def add(self, chain: ChainState, record: UndecidedRecord) -> list[ChainState] | None:
        """Hold a record. Records that are released for it keep the verdict they have.

        Returns the chains of those, or None where there is no room for the record.
        """
        name = self._space_of(chain.issuer) if self._space_of else ""
        if name is None:
            return None
        space = self._spaces.setdefault(name, _Space())
        record.size_bytes = len(record.data) + (CHAIN_BYTES if chain.is_empty else 0)
        released = self._make_room(space, record.size_bytes)
        if self._space_of and space.size_bytes + record.size_bytes > self._limit_bytes:
            return None
        self._hold(space, chain, record)
        return released

    def _make_room(self, space: _Space, size_bytes: int) -> list[ChainState]:
        released = []
        candidates = space.linked if self._space_of else space.records
        while candidates and space.size_bytes + size_bytes > self._limit_bytes:
            chain, oldest = space.records[next(iter(candidates))]
            self.release(chain, oldest)
            if oldest.verdict is not Verdict.LINKED:
                chain.reject(oldest.seq, oldest.verdict)
            released.append(chain)
        return released

    def _hold(self, space: _Space, chain: ChainState, record: UndecidedRecord) -> None:
        chain.undecided.setdefault(record.seq, []).append(record)
        space.records[record.hash] = chain, record
        space.size_bytes += record.size_bytes
        self._space_by_hash[record.hash] = space
        self.change(record, record.verdict, record.reason)

    def change(self, record: UndecidedRecord, verdict: Verdict, reason: str) -> None:
        """Give a record another verdict."""
        record.verdict, record.reason = verdict, reason
        linked = self._space_by_hash[record.hash].linked
        if verdict is Verdict.LINKED:
            linked[record.hash] = None
        else:
            linked.pop(record.hash, None)

    def release(self, chain: ChainState, record: UndecidedRecord) -> None:
        """Hold a record no longer."""
        here = chain.undecided[record.seq]
        here.remove(record)
        if not here:
            del chain.undecided[record.seq]
        space = self._space_by_hash.pop(record.hash)
        del space.records[record.hash]
        space.linked.pop(record.hash, None)
        space.size_bytes -= record.size_bytes

    def snapshot(self, without: Container[bytes]) -> Iterator[list[Any]]:
        """Plain values for the snapshot of the verifier, without records that have these hashes."""
        for space in self._spaces.values():
            for chain, each in space.records.values():
                if each.hash not in without:
                    kind = [int(each.type), each.type.name]
                    yield [chain.issuer, chain.epoch, kind, each.seq, each.hash, each.data, str(each.verdict),
                           each.reason, each.arrived_ns]  # fmt: skip

    def restore(self, chain: ChainState, kept: list[Any]) -> None:
        """Restore one record from its values in `snapshot`, without issuer and epoch."""
        kind, seq, digest, data, verdict, reason, arrived_ns = kept
        record = UndecidedRecord(RecordType.of(*kind), seq, digest, data, Verdict(verdict), reason, (), arrived_ns)
        self.add(chain, record)
