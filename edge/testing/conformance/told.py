"""What a subscribed device told, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge.model import DataType, Layout, Notification
from edge.testing.conformance.stand import PATIENCE_S
from edge.testing.conformance.subject import Value


class Told:
    """The last value and status of each tag, by what `changes` told."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._vectors = layout.empty()
        self._codes = [np.zeros(len(tags), np.uint32) for tags in layout.members]
        self._seen = [np.zeros(len(tags), bool) for tags in layout.members]
        self._all = asyncio.Event()

    def tell(self, changes: Notification) -> None:
        """Take one notification; one of the wrong form fails."""
        kinds, count = self._layout.vector_types, len(self._layout.vector_types)
        assert len(changes.vectors) == len(changes.positions) == len(changes.codes) == count, f"not {count} vectors"
        assert changes.asked_at_ns <= changes.answered_at_ns, "told before it was asked"
        for number, (kind, values, positions, codes) in enumerate(
            zip(kinds, changes.vectors, changes.positions, changes.codes, strict=True)
        ):
            assert len(values) == len(positions) == len(codes), "values, positions and codes of different lengths"
            assert values.dtype == kind.numpy, f"{values.dtype} instead of {kind.numpy}"
            assert kind is not DataType.TEXT or all(isinstance(text, str) for text in values), "a text that is none"
            self._vectors[number][positions] = values
            self._codes[number][positions] = codes
            self._seen[number][positions] = True
        if all(seen.all() for seen in self._seen):
            self._all.set()

    async def wait_until_all(self, telling: asyncio.Task[Any]) -> None:
        """Wait until every tag was told at least once; `telling` must not end before."""
        waiting = asyncio.create_task(self._all.wait())
        try:
            await asyncio.wait([waiting, telling], timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                telling.result()
            assert self._all.is_set(), "some tags were never told"
        finally:
            waiting.cancel()

    def assert_values(self, values: Sequence[Value]) -> None:
        """Every tag is good, and has these values."""
        for tag, value in enumerate(values):
            vector, position = self._layout.slots[tag]
            wanted = np.array([value], self._layout.types[tag].numpy)[0]
            assert self._codes[vector][position] == 0, f"tag {tag} is {self._codes[vector][position]:#010x}"
            assert self._vectors[vector][position] == wanted, f"tag {tag} is {self._vectors[vector][position]!r}"
