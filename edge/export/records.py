"""The records of a batch, byte for byte: those that hold its blocks, and what is needed to verify and to read them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge.files import named_in_errors
from edge.report.batch import BatchSlice
from edge.seal import Checkpoint, Context, Data, RecordType
from edge.verify import Judgement, Verdict

_PROOFS = (RecordType.EPOCH, RecordType.KEY, RecordType.CHECKPOINT)
_SAID_AGAIN = (RecordType.CATALOG, RecordType.CONTEXT, RecordType.CHECKPOINT)


class _Place(NamedTuple):
    path: Path
    offset: int
    length: int


class SliceRecords:
    """Follows the verdicts of a collector; afterwards writes the records of a batch, each chain in order of sealing.

    Besides those with blocks of the batch or its boundary: EPOCH and KEY records of their chains, the first CHECKPOINT
    with each session key, the catalogues and the contexts of the batch once each, and what happened meanwhile: events,
    gaps, losses, clock and configuration. A record of the batch takes some 300 bytes of memory.
    """

    def __init__(self, batch: BatchSlice) -> None:
        self._batch = batch
        self._of_batch: defaultdict[tuple[str, bytes], dict[int, _Place]] = defaultdict(dict)
        self._others: defaultdict[tuple[str, bytes], dict[int, tuple[_Place, RecordType]]] = defaultdict(dict)
        self._said: set[tuple[str, bytes, int]] = set()
        self._waiting: dict[bytes, _Place] = {}  # Records whose key may come later, by their hash.

    def note(self, path: Path, offset: int, length: int, judgements: list[Judgement]) -> None:
        """The verdicts on a record, as `Collector` gives them to its follower."""
        for number, each in enumerate(judgements):
            place = _Place(path, offset, length) if number == 0 else self._waiting.pop(each.hash, None)
            chain = each.issuer, each.epoch
            if each.verdict is not Verdict.AUTHENTIC:
                if each.type is None:  # It had been accepted.
                    self._of_batch[chain].pop(each.seq, None)
                    self._others[chain].pop(each.seq, None)
                elif place is not None and each.verdict is Verdict.UNVERIFIABLE:
                    self._waiting[each.hash] = place
            elif place is not None and each.type is not None:
                self._keep(each, each.type, place)

    def _keep(self, judgement: Judgement, kind: RecordType, place: _Place) -> None:
        chain, content = (judgement.issuer, judgement.epoch), judgement.content
        if isinstance(content, Data):
            if self._batch.has(*chain, content):
                self._of_batch[chain][judgement.seq] = place
            return
        if isinstance(content, Context) and self._batch.part(*chain, (content.number,)) == "outside":
            return
        # A restart names its session key in a CHECKPOINT; others repeat it.
        what = content.session.fingerprint if isinstance(content, Checkpoint) else judgement.payload
        said = (*chain, hash(what))
        if kind in _SAID_AGAIN and said in self._said:
            return
        self._said.add(said)
        self._others[chain][judgement.seq] = place, kind

    def write(self, file: Path) -> int:
        """Write them; returns how many have blocks of the batch or its boundary. Raises OSError."""
        with file.open("wb", buffering=1 << 20) as out:
            for place in self._in_order():
                with named_in_errors(place.path), place.path.open("rb") as archived:
                    out.write(os.pread(archived.fileno(), place.length, place.offset))
        return sum(map(len, self._of_batch.values()))

    def _in_order(self) -> Iterator[_Place]:
        for chain, of_batch in self._of_batch.items():
            if not of_batch:
                continue
            first, last = min(of_batch), max(of_batch)
            more = {seq: place for seq, (place, kind) in self._others[chain].items()
                    if kind in (*_PROOFS, *_SAID_AGAIN) or first <= seq <= last}  # fmt: skip
            yield from (place for _, place in sorted({**more, **of_batch}.items()))
