"""Which records of an archive hold readings of the range, and their readings in columns."""

# Theory of operation
#
# Files are read twice. The first time every record gets its verdict, which may change until the last one has come, and
# the place of each record of the range is kept: 36 bytes, and some 300 for one that is not authentic at once. By then
# the catalogues are known too, and by how much the clock was wrong. The second time only those places are read, chain
# after chain in the order of sealing, whatever the order of arrival was.

from __future__ import annotations

import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import numpy as np

from edge.clock import TimeState
from edge.files import named_in_errors
from edge.model import Catalogue
from edge.relay.reading_columns import BlockReadings, BlockTime, Corrected, SourcedBlock, readings_of
from edge.report.batch import BatchSlice, Part
from edge.seal import Data, Garbage, Malformed, RecordType, TimeChange, Unknown, decode_frame, parse
from edge.seal.record import ISSUER_PREFIX
from edge.verify import Judgement, Verdict
from edge.verify.window import Window


class _Record(NamedTuple):
    """Where a record lies: number of its file, offset, length; number of its chain, its place there; and which it is of
    those that claim this place, by the begin of its hash."""

    file: int
    offset: int
    length: int
    chain: int
    seq: int
    hash: int

    @property
    def identity(self) -> tuple[int, int, int]:
        """What tells it from all others."""
        return self.chain, self.seq, self.hash


class Selection:
    """Follows the verdicts of a collector; afterwards reads what it selected.

    Args:
        window: the range; a block whose corrected time lies in it belongs to it as well.
        admitted: verdicts besides AUTHENTIC whose readings are wanted.
        batch: whose blocks to give, whatever their time; without it those of the range are.

    Attributes:
        catalogues: digests of those that name the tags of the range.
        left_out: records that may hold readings of the range which are not given, by the reason.
    """

    def __init__(self, window: Window, admitted: Collection[Verdict] = (), batch: BatchSlice | None = None) -> None:
        self._batch = batch
        self._window, self._admitted = window, frozenset((Verdict.AUTHENTIC, *admitted))
        self._files: dict[Path, int] = {}
        self._chains: dict[tuple[str, bytes], int] = {}
        self._places = tuple(array(code) for code in ("I", "Q", "I", "I", "Q", "Q"))
        self._fallen: dict[tuple[int, int, int], Verdict] = {}
        self._others: dict[bytes, tuple[_Record, Verdict]] = {}  # By the hash of the record.
        self._changes: dict[tuple[int, int, int], TimeChange] = {}
        self.catalogues: set[bytes] = set()
        self.left_out: Counter[str] = Counter()

    def note(self, path: Path, offset: int, length: int, judgements: list[Judgement]) -> None:
        """The verdicts on a record, as `Collector` gives them to its follower."""
        for number, each in enumerate(judgements):
            if each.verdict in (Verdict.DUPLICATE, Verdict.GARBAGE):
                continue
            chain = self._chains.setdefault((each.issuer, each.epoch), len(self._chains))
            identity = chain, each.seq, int.from_bytes(each.hash[:8])
            record, _ = self._others.pop(each.hash, (None, None))
            if not number:
                file = self._files.setdefault(path, len(self._files))
                record = _Record(file, offset, length, *identity)
            if each.verdict is not Verdict.AUTHENTIC:
                if record is None:  # It had been accepted.
                    self._fallen[identity] = each.verdict
                elif each.type in (RecordType.DATA, None):
                    self._others[each.hash] = record, each.verdict
            elif isinstance(each.content, TimeChange):
                self._changes[identity] = each.content
            elif record is not None and isinstance(each.content, Data) and self._may_be_inside(each, each.content):
                self.catalogues.add(each.content.catalogue)
                for column, value in zip(self._places, record, strict=True):
                    column.append(value)

    def _may_be_inside(self, judgement: Judgement, data: Data) -> bool:
        if not data.wire_blocks:
            return False
        if self._batch is not None:
            return self._batch.has(judgement.issuer, judgement.epoch, data)
        is_right = data.time.state is TimeState.SYNCHRONIZED  # Else the right time may be any.
        return not is_right or self._window.side(0, data.since_ns, data.until_ns) == 0

    def read(
        self, catalogues: Mapping[bytes, Catalogue], progress: Callable[[int, int], None] | None = None, *,
        part: Part = "batch",
    ) -> Iterator[SourcedBlock]:  # fmt: skip
        """The blocks of the range, or of a part of the batch, once every file was read.

        `progress` is called with (records done, of them all).
        """
        self.left_out.clear()
        corrections = self._corrections()
        chains = list(self._chains)
        with _Records(list(self._files)) as records:
            for number, count, record, verdict in self._in_order(chains):
                if progress is not None and not number % 256:
                    progress(number, count)
                issuer, epoch = chains[record.chain]
                for readings, data, is_unknown in self._readings(records.read(record), verdict, catalogues):
                    corrected = corrections[record.chain].of(readings.time, data.time.boot_id)
                    if self._batch is not None:
                        is_wanted = self._batch.part(issuer, epoch, readings.block.context) == part
                    else:
                        is_wanted = self._is_inside(readings.time.utc_ns) or bool(
                            corrected and self._is_inside(corrected.utc_ns)
                        )
                    if is_wanted:
                        yield SourcedBlock(
                            gateway=issuer.removeprefix(ISSUER_PREFIX), epoch=epoch.hex(), seq=record.seq,
                            verdict=verdict, readings=readings, corrected=corrected, is_unknown=is_unknown,
                            catalogue=data.catalogue,
                        )  # fmt: skip

    def _is_inside(self, utc_ns: int) -> bool:
        return self._window.side(0, utc_ns, utc_ns) == 0

    def _readings(
        self, record: bytes, verdict: Verdict, catalogues: Mapping[bytes, Catalogue]
    ) -> Iterator[tuple[BlockReadings, Data, bool]]:
        unknown = Unknown()
        try:
            data = decode_frame(parse(record), unknown, is_verified=verdict is Verdict.AUTHENTIC)
            if not isinstance(data, Data) or not data.wire_blocks:
                return
            catalogue = catalogues.get(data.catalogue)
            if catalogue is None:
                self.left_out["the list of their tags is not held"] += 1
                return
            blocks = list(readings_of(data, catalogue))
        except (Garbage, Malformed):
            self.left_out["they cannot be decoded"] += 1
            return
        yield from ((readings, data, bool(unknown.words)) for readings in blocks)

    def _in_order(self, chains: list[tuple[str, bytes]]) -> Iterator[tuple[int, int, _Record, Verdict]]:
        """Records with their verdicts: by gateway, chain after chain as they came, and by place."""
        others = [each for each in self._others.values() if each[1] in self._admitted]
        for _, verdict in self._others.values():
            if verdict not in self._admitted:
                self.left_out[f"they are {verdict}"] += 1
        added = zip(*(record for record, _ in others), strict=True) if others else [()] * len(self._places)
        columns = [np.concatenate((np.array(held, held.typecode), np.array(more, held.typecode)))
                   for held, more in zip(self._places, added, strict=True)]  # fmt: skip
        turns = sorted(range(len(chains)), key=lambda chain: (chains[chain][0], chain))
        rank = np.argsort(np.array(turns, np.intp)) if turns else np.empty(0, np.intp)
        order = np.lexsort((columns[4], rank[columns[3]]))
        held = len(self._places[0])
        for number, at in enumerate(order.tolist()):
            record = _Record(*(int(column[at]) for column in columns))
            verdict = self._fallen.get(record.identity, Verdict.AUTHENTIC)
            if at >= held:
                verdict = others[at - held][1]
            elif verdict not in self._admitted:
                self.left_out[f"they are {verdict}"] += 1
                continue
            yield number, len(order), record, verdict

    def _corrections(self) -> defaultdict[int, _Corrections]:
        found: defaultdict[int, _Corrections] = defaultdict(_Corrections)
        for identity, change in sorted(self._changes.items(), key=lambda each: each[0]):
            if identity not in self._fallen:
                found[identity[0]].changes.append(change)
        return found


class _Corrections:
    """What one chain says of its earlier times."""

    def __init__(self) -> None:
        self.changes: list[TimeChange] = []

    def of(self, time: BlockTime, boot_id: bytes) -> Corrected | None:
        """The right time of a block, by the last TIME record that corrects it."""
        for change in reversed(self.changes):
            if change.corrected_boot_ns is None or change.correction_ns is None or change.after.boot_id != boot_id:
                continue
            first, last = change.corrected_boot_ns
            if first <= time.boot_ns <= last:
                bound_ns = change.bound_after_ns
                uncertainty_ns = None if bound_ns is None else bound_ns + time.half_width_ns
                return Corrected(time.utc_ns + change.correction_ns, uncertainty_ns)
        return None


class _Records:
    """Reads records; one file is open at a time."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._number = -1
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def read(self, record: _Record) -> bytes:
        """The bytes of a record. Raises OSError."""
        path = self._paths[record.file]
        with named_in_errors(path):
            if record.file != self._number or self._file is None:
                self.__exit__()
                self._number, self._file = record.file, path.open("rb")
            return os.pread(self._file.fileno(), record.length, record.offset)
