"""One polled scan group in one session: what to ask for now, and the reading that the answers make together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from drivers.opcua.answer import Answer, read_answer, read_header, read_rest
from drivers.opcua.columns import unix_time_ns
from drivers.opcua.layout import AnswerLayout, BadTags
from drivers.opcua.place import Structures
from drivers.opcua.plan import Node, OpcuaPlan
from drivers.opcua.request import ReadRequest
from drivers.opcua.text import Namespaces
from edge.model import NO_TIME, Layout, Reading, StatusRun, Times, Vector, status_runs

UNKNOWN = frozenset({0x80330000, 0x80340000, 0x80350000})
"""BadNodeIdInvalid, BadNodeIdUnknown, BadAttributeIdInvalid: there is nothing to read, today."""


class Part:
    """The nodes of one request, and the layout of its answers.

    What takes as many bytes in each answer comes first and has a layout of its own: texts that get longer behind it
    are learned again alone.

    Attributes:
        layouts: one for each stretch, learned from the last answer that did not fit the one before.
        is_new: the values are others, or elsewhere, than in the last reading; that a scan failed does not change it.
        has_new_times: the same of their source times.
    """

    def __init__(self, numbers: Sequence[int], nodes: Sequence[Node], tags: Layout, request: ReadRequest) -> None:
        self.request, self._tags = request, tags
        steady = next((at for at, node in enumerate(nodes) if not node.is_steady), len(nodes))
        numbered = list(zip(numbers, nodes, strict=True))
        self._stretches = [stretch for stretch in (numbered[:steady], numbered[steady:]) if stretch]
        self.layouts: list[AnswerLayout] = []
        self.is_new = self.has_new_times = False
        self.device_time_ns: int | None = None
        self._unknown: dict[int, int] = {}

    def take(self, data: bytes, handle: int, structures: Structures, namespaces: Namespaces) -> Mapping[int, int]:
        """Take an answer; the nodes that the server does not have, with the status it gives them.

        Raises:
            ServiceFaultError, ProtocolViolation: see `read_answer`.
            UnknownStructureError: the type of a structure has to be asked for first.
        """
        first = 0
        for number in range(len(self._stretches)):
            if number == len(self.layouts) or not self.layouts[number].fits(data, handle, first):
                self._learn(number, self._read(number, data, handle, first), structures, namespaces)
            first = self.layouts[number].end
        for layout in self.layouts:
            is_new, has_new_times = layout.take(data)
            self.is_new |= is_new
            self.has_new_times |= has_new_times
        self.device_time_ns = unix_time_ns(read_header(data)[0])
        unknown, self._unknown = self._unknown, {}
        return unknown

    def _read(self, number: int, data: bytes, handle: int, first: int) -> Answer:
        count = len(self._stretches[number])
        return read_rest(data, first, count) if number else read_answer(data, handle, self.request.count, count)

    def _learn(self, number: int, answer: Answer, structures: Structures, namespaces: Namespaces) -> None:
        numbers, nodes = zip(*self._stretches[number], strict=True)
        self.layouts[number:] = [AnswerLayout(answer, nodes, self._tags, structures, namespaces)]
        self.is_new = self.has_new_times = True
        found = zip(numbers, answer.results, strict=True)
        self._unknown |= {node: result.status for node, result in found if result.status in UNKNOWN}


class PolledPlan:
    """What is known of one plan from scan to scan.

    Attributes:
        parts: one for each request.
        missing: nodes of the plan that are not asked for, with their status.
        unresolved: why some of them are not, as sentences.
        retry_at_ns: boot time when they are asked for again.
        is_divided: whether the parts ask for all that is there, and for nothing else.
    """

    def __init__(self, plan: OpcuaPlan) -> None:
        self.plan = plan
        self.parts: tuple[Part, ...] = ()
        self.missing: dict[int, int] = {}
        self.unresolved: tuple[str, ...] = ()
        self.retry_at_ns = 0
        self.is_divided = False
        self._flat_ends = np.cumsum([len(tags) for tags in plan.layout.members], dtype=np.intp).tolist()
        self._vectors: tuple[Vector, ...] | None = None
        self._times: tuple[Times, ...] | None = None
        self._bad: tuple[BadTags, ...] | None = None
        self._status: tuple[StatusRun, ...] = ()
        self._told: frozenset[str] = frozenset()

    def divide(self, requests: Iterable[tuple[Sequence[int], ReadRequest]]) -> None:
        """Ask for these nodes with these requests from now on."""
        nodes, tags = self.plan.nodes, self.plan.layout
        self.parts = tuple(
            Part(numbers, [nodes[number] for number in numbers], tags, request) for numbers, request in requests
        )
        self._bad = self._times = None
        self.is_divided = True

    def miss(self, unknown: Mapping[int, int]) -> None:
        """Leave out nodes from the next scan on, given the status that the server gave them."""
        if unknown:
            self.missing |= unknown
            self.is_divided = False

    def reading(self, asked_at_ns: int, answered_at_ns: int) -> Reading:
        """What the last answers of all parts say together.

        When no value changed, `vectors` is the very same tuple as in the reading before.
        """
        device_times = [part.device_time_ns for part in self.parts if part.device_time_ns is not None]
        reading = Reading(
            self._take_vectors(),
            asked_at_ns,
            answered_at_ns,
            self._take_status(),
            self._take_sentences(),
            self._take_times(),
            device_times[-1] if device_times else None,
        )
        for part in self.parts:
            part.is_new = part.has_new_times = False
        return reading

    def _take_vectors(self) -> tuple[Vector, ...]:
        if self._vectors is not None and not any(part.is_new for part in self.parts) and self._bad is not None:
            return self._vectors
        vectors = self.plan.layout.empty()
        for part in self.parts:
            for layout in part.layouts:
                for column in layout.columns:
                    vectors[column.vector][column.positions] = column.values
        if self._vectors is None or not all(map(_is_same, vectors, self._vectors)):
            for vector in vectors:
                vector.setflags(write=False)
            self._vectors = vectors
        return self._vectors

    def _take_status(self) -> tuple[StatusRun, ...]:
        bad = tuple(layout.bad for part in self.parts for layout in part.layouts)
        if self._bad is not None and all(now is before for now, before in zip(bad, self._bad, strict=True)):
            return self._status
        codes = np.zeros(len(self.plan.layout), np.uint32)
        for number, code in self.missing.items():
            codes[[want.tag for want in self.plan.nodes[number].wants]] = code
        for tag, code in (pair for of_part in bad for pair in of_part):
            codes[tag] = code
        self._bad, self._status = bad, status_runs(codes)
        return self._status

    def _take_times(self) -> tuple[Times, ...] | None:
        if any(part.has_new_times for part in self.parts):
            flat = np.full(len(self.plan.layout), NO_TIME, np.int64)
            told = [layout.times for part in self.parts for layout in part.layouts if layout.times]
            for times in told:
                flat[times.order] = times.times
            ends = self._flat_ends
            self._times = tuple(flat[first:end] for first, end in zip([0, *ends], ends, strict=False)) if told else None
        return self._times

    def _take_sentences(self) -> tuple[str, ...]:
        """What is wrong now and was not in the scan before."""
        now = [*self.unresolved, *(text for part in self.parts for layout in part.layouts for text in layout.sentences)]
        new = tuple(text for text in now if text not in self._told)
        self._told = frozenset(now)
        return new


def _is_same(now: Vector, before: Vector) -> bool:
    return now.tobytes() == before.tobytes() if now.dtype != object else bool((now == before).all())
