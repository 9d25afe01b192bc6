"""Chains: keys that change, records that are absent, and histories that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.vectors.content import (
    FIRST,
    NEXT_SESSION,
    begin,
    case,
    checkpoint,
    event,
    key_change,
)
from tests.support.vectors.wire import CHECKPOINT, EVENT, KEY, Case


def cases() -> Iterator[Case]:
    """Chains."""
    yield from _keys()


def _keys() -> Iterator[Case]:
    chain = begin()
    chain.add(EVENT, event(1))
    chain.add(KEY, key_change(NEXT_SESSION))
    chain.session = NEXT_SESSION
    chain.add(EVENT, event(2))
    chain.add(CHECKPOINT, checkpoint(chain))
    chain.add(EVENT, event(3))
    first, before, _, after, check, last = chain.records
    yield case("keys/change", "A KEY brings the next session key.", chain.records, "AAAAAA", wholly=True)
    yield case("keys/key-is-lost", "Without the KEY the key after it is not known, but a CHECKPOINT leads to it.",
               [first, before, after, check, last], "AALAA", absent=[(FIRST, "MISSING", 2, 2)])  # fmt: skip
    yield case("keys/key-and-checkpoint-are-lost", "Without KEY and CHECKPOINT the records after them cannot be "
               "verified.", [first, before, after, last], "AA??")  # fmt: skip
