"""The layout of the answers to one request, or of a stretch of them, learned from one and verified on every other.

Whatever says where something is (masks, types, lengths, statuses) must be the same, byte for byte; what it frames is
then taken from where it was. An answer that differs is walked with care, and the layout is learned again from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivers.opcua.answer import Answer, read_header
from drivers.opcua.columns import Column, Field, Image, SourceTimes
from drivers.opcua.place import Refusal, Structures, place
from drivers.opcua.plan import Node
from drivers.opcua.text import Namespaces
from drivers.opcua.walk import DATE_TIME
from edge.model import Layout

BadTags = tuple[tuple[int, int], ...]
"""(tag, status) of tags without a good value."""


@dataclass(frozen=True, slots=True)
class _Placed:
    fields: list[Field]
    bad: BadTags
    sentences: tuple[str, ...]
    times: list[tuple[int, int]]


class AnswerLayout:
    """Where each value is in the answers to one request, or in one stretch of them.

    Attributes:
        first: where the stretch begins.
        end: the byte after it.
        columns: the values of the last answer that was taken.
        times: their source times, or None where the server gives none.
        sentences: what is wrong with the server or the settings.
    """

    def __init__(
        self, answer: Answer, nodes: Sequence[Node], tags: Layout, structures: Structures, namespaces: Namespaces
    ) -> None:
        placed = _place_all(answer, nodes, tags, structures)
        self.columns = _columns(answer.walk.data, placed.fields, tags, namespaces)
        self.times = SourceTimes(*zip(*placed.times, strict=True)) if placed.times else None
        self.sentences = placed.sentences
        self.first, self.end = answer.first, answer.walk.at
        self._is_last = answer.walk.at == answer.walk.end
        self._result = read_header(answer.walk.data)[2]
        self._refused = placed.bad
        self._bad = placed.bad
        self._is_structure = _structure(answer)
        self._structure = (_image(answer.walk.data)[self.first : self.end] & self._is_structure).tobytes()

    @property
    def bad(self) -> BadTags:
        """Tags without a good value in the last answer; the same object while nothing about them changes."""
        return self._bad

    def fits(self, data: bytes, handle: int, first: int = 0) -> bool:
        """Whether this stretch of the answer to the request with this handle begins here, and all is where it was."""
        if first != self.first or (len(data) != self.end if self._is_last else len(data) < self.end):
            return False
        if (_image(data)[first : self.end] & self._is_structure).tobytes() != self._structure:
            return False
        return first > 0 or read_header(data)[1:] == (handle, self._result)

    def take(self, data: bytes) -> tuple[bool, bool]:
        """Take the values of an answer that fits; whether any value, and any time, is another than before."""
        image = _image(data)
        changed = [column.update(data, image) for column in self.columns]
        if any(changed):
            bad = sum((column.bad for column in self.columns), self._refused)
            if bad != self._bad:
                self._bad = bad
        return any(changed), self.times is not None and self.times.update(image)


def _image(data: bytes) -> Image:
    return np.frombuffer(data, np.uint8)


def _structure(answer: Answer) -> Image:
    """0xFF for each byte that must be the same in the next answer."""
    walk, start = answer.walk, answer.first
    mask = np.full(walk.at - start, 0xFF, np.uint8)
    for first, size in walk.content:
        mask[first - start : first - start + size] = 0
    for at, (first, size) in walk.bodies.items():
        if at not in walk.opened:
            mask[first - start : first - start + max(0, size)] = 0
    return mask


def _place_all(answer: Answer, nodes: Sequence[Node], tags: Layout, structures: Structures) -> _Placed:
    placed = _Placed([], (), (), [])
    order = {int(tag): at for at, tag in enumerate(np.concatenate(tags.members))}
    bad: list[tuple[int, int]] = []
    sentences: list[str] = []
    for node, found in zip(nodes, answer.results, strict=True):
        for want in node.wants:
            if found.source_at >= 0:
                placed.times.append((order[want.tag], found.source_at))
            located = None if found.status >> 31 else place(answer.walk, found, want, structures)
            if isinstance(located, Refusal):
                bad.append((want.tag, located.code))
                sentences += [located.sentence] if located.sentence else []
                continue
            if found.status:
                bad.append((want.tag, found.status))
            if located is not None:
                placed.fields.append(Field(want.tag, tags.slots[want.tag], located, want.text_bytes))
    return _Placed(placed.fields, tuple(bad), tuple(sentences), placed.times)


def _columns(data: bytes, fields: Sequence[Field], tags: Layout, namespaces: Namespaces) -> tuple[Column, ...]:
    groups: dict[tuple[int, bool], list[Field]] = {}
    for field in fields:
        groups.setdefault((field.place[0], field.located.type == DATE_TIME), []).append(field)
    return tuple(
        Column(data, group, tags.vector_types[vector], namespaces) for (vector, _), group in sorted(groups.items())
    )
