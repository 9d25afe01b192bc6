"""Transaction ids: they advance with every request, so an answer that comes late is known for what it is."""

from __future__ import annotations

_LAST = 0xFFFF
_REMEMBERED = 0x8000
_NEVER_ANSWERED_MAX = 256


class TransactionIds:
    """The ids of one line: they go on from connection to connection, as a gateway may answer what the last one asked.

    0 is never given out: it is what a careless device answers with.
    """

    def __init__(self, first: int) -> None:
        self._last = first % _LAST
        self._issued = 0
        self._never_answered: dict[int, None] = {}

    def next(self) -> int:
        """An id that no answer under way can bear."""
        transaction = self._last % _LAST + 1
        while transaction in self._never_answered:
            transaction = transaction % _LAST + 1
        self._last = transaction
        self._issued += 1
        return transaction

    def was_issued(self, transaction: int) -> bool:
        """Whether an earlier request had this id."""
        age = (self._last - transaction) % _LAST
        return transaction != 0 and age < min(self._issued, _REMEMBERED)

    def give_up(self, transaction: int) -> None:
        """Note that the answer never came: should it come late, it is told from all others."""
        self._never_answered[transaction] = None
        if len(self._never_answered) > _NEVER_ANSWERED_MAX:
            del self._never_answered[next(iter(self._never_answered))]

    def is_late(self, transaction: int) -> bool:
        """Whether this is an answer that was given up; it is, once."""
        return self._never_answered.pop(transaction, 0) is None
