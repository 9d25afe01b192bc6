"""What is not held although it existed."""

from __future__ import annotations

from edge.verify.history import History
from edge.verify.spans import Spans
from edge.verify.verdicts import Absence, RangeVerdict


def absences_of(history: History, declared: Spans, first: int, last: int) -> list[Absence]:
    """The exact ranges of a chain that are absent between two places, `declared` being what LOSS records name."""
    held, end = history.held(), history.runs.last
    absences = []
    for verdict, low, high in (
        (RangeVerdict.MISSING, first, min(end, last)),
        (RangeVerdict.TRUNCATED, max(first, end + 1), min(history.existed_to, last)),
    ):
        for from_seq, to_seq in held.outside(low, high):
            parts = [(span, verdict) for span in declared.outside(from_seq, to_seq)]
            parts += [(span, RangeVerdict.DECLARED_LOST) for span in declared.within(from_seq, to_seq)]
            absences += [Absence(kind, history.issuer, history.epoch, *span) for span, kind in sorted(parts)]
    return absences
