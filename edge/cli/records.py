"""The records of an archive or a buffer as commands read them: all that can be read, or with keys what is proven."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from edge.cli.verify import EXPLAINED, is_of, stored
from edge.references import TrustPath
from edge.relay.removals import apply_statements, statements_in
from edge.seal import Garbage, Malformed, Payload, RecordType, decode_frame, parse
from edge.seal.record import ISSUER_PREFIX
from edge.verify import Judgement, RangeVerdict, Report, Trust, Verdict, Verifier
from edge.verify.logbook import Place

_ABSENT: dict[str, str] = {RangeVerdict.REMOVED: "removed by retention", RangeVerdict.DECLARED_LOST: "declared lost"}


class Found(NamedTuple):
    """A record, or with keys the verdict on one: first on the record that is read, then on those it changed.

    Attributes:
        content: None where it is not authentic.
        judgement: None where no key was given.
    """

    place: Place
    content: Payload | None
    judgement: Judgement | None = None

    @property
    def is_withdrawn(self) -> bool:
        """Whether it had been accepted, and is no longer."""
        return self.content is None and self.judgement is not None and self.judgement.type is None


class Records:
    """Reads the records in PATHS, once.

    Args:
        paths: archives, folders and files of archives, buffers.
        gateway: the only gateway that is asked about; None for all.
        anchors: whom to trust; without any nothing is verified.
        types: which records to give where nothing is verified.

    Attributes:
        remark: after reading, what is to be said of it: what is proven, and what was left out.
        is_whole: after reading, whether every record could be read, and with keys is authentic; what was declared
            lost, or removed by retention, is not held against it.
    """

    def __init__(
        self, paths: tuple[Path, ...], gateway: str | None, anchors: Sequence[TrustPath],
        types: Collection[RecordType],
    ) -> None:  # fmt: skip
        self._paths, self._gateway, self._types = paths, gateway, types
        self._trust = Trust.load(anchors) if anchors else None
        self._damaged = 0
        self.remark = ""
        self.is_whole = False

    def __iter__(self) -> Iterator[Found]:
        records = (each.data for each in stored(self._paths, self._gateway))
        return self._unproven(records) if self._trust is None else self._proven(records, self._trust)

    def _unproven(self, records: Iterator[bytes | None]) -> Iterator[Found]:
        for data in records:
            try:
                frame = parse(data or b"")
                if frame.type not in self._types:
                    continue
                if self._gateway in (None, frame.issuer.removeprefix(ISSUER_PREFIX)):
                    yield Found(Place(frame.issuer, frame.epoch, frame.seq), decode_frame(frame))
            except (Garbage, Malformed):
                self._damaged += 1
        damaged = self._damaged
        bad = f"; {damaged:,} piece{'s' * (damaged > 1)} cannot be read" if damaged else ""
        self.remark = f"Nothing was verified: --trust KEY shows only what is proven{bad}"
        self.is_whole = not damaged

    def _proven(self, records: Iterator[bytes | None], trust: Trust) -> Iterator[Found]:
        verifier = Verifier(trust)
        for data in records:
            if data is None:
                self._damaged += 1
                continue
            if self._gateway is not None and not is_of(data, self._gateway):
                continue
            for each in verifier.add(data):
                content = each.content if each.verdict is Verdict.AUTHENTIC else None
                yield Found(Place(each.issuer, each.epoch, each.seq), content, each)
        apply_statements(verifier, trust, statements_in(self._paths, self._gateway))
        report = verifier.report()
        self.remark = _remark(report, self._damaged)
        self.is_whole = report.is_wholly_authentic(EXPLAINED) and not self._damaged


def _remark(report: Report, damaged: int) -> str:
    counts = Counter(report.unattributed)
    absent: Counter[str] = Counter()
    unseen = 0
    for epoch in report.epochs:
        counts.update(epoch.verdicts)
        unseen += sum(after - before - 1 for before, after in epoch.counter_gaps)
        for verdict, first, last in epoch.absent:
            absent[_ABSENT.get(verdict, "missing")] += last - first + 1
    proven = counts.pop(Verdict.AUTHENTIC, 0)
    del counts[Verdict.DUPLICATE]
    counts[Verdict.GARBAGE] += damaged
    rest = [f"{count:,} {what}" for what, count in (*counts.items(), *sorted(absent.items())) if count]
    rest += [f"{unseen:,} signed by the identity and never delivered"] if unseen else []
    left_out = f"left out: {', '.join(rest)}" if rest else "nothing is left out"
    return f"{proven:,} records are proven, and what they say is shown; {left_out}"
