"""What a device answers, as requests: found by asking, and kept.

A part that is refused, not answered or answered short is asked for in halves, down to single tags. When both halves are
answered, the part itself is asked for once more: it was a passing refusal, or the device does not answer so much at
once, or it does not answer across this place. The bridge tells the last two apart: the tags on both sides of the place.
Only what was refused alone is absent. The result outlives sessions: a new connection is no reason to search again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from drivers.modbus.codec import (
    BUSY,
    GATEWAY_FAILURES,
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    Request,
    read_request,
)
from drivers.modbus.plan import Block, ModbusPlan, Span
from drivers.modbus.transport import Fault
from edge.model import StatusCode

RETRIES_PER_SCAN = 8
_RETRY_FIRST_NS = 10**9
_SILENCES_MAX = 12  # In a row in a search: as many halves as 2,000 bits have. The rest of it is not searched.
_SILENT_SCANS = 3  # A part that was answered before is searched after so many silences in a row: one may be a loss.
_PASSING = (*BUSY, *GATEWAY_FAILURES, Fault.WRONG, Fault.GARBLED)  # They say nothing about addresses.

Outcome = Fault | int


@dataclass(frozen=True, slots=True, eq=False)
class RequestPart:
    """A block, or a part of it, as one request."""

    block: Block
    first: int
    last: int
    spans: tuple[Span, ...]
    request: Request

    @property
    def count(self) -> int:
        """Bits or registers of the part."""
        return self.last - self.first + 1

    @property
    def is_aligned(self) -> bool:
        """Whether the data of the answer has the alignment of the block: registers always, bits in a whole block."""
        return not self.block.table.is_bits or (self.first, self.last) == (self.block.first, self.block.last)

    def contains(self, other: RequestPart) -> bool:
        """Whether this part reads every address that `other` reads."""
        return self.block is other.block and self.first <= other.first and other.last <= self.last

    def __str__(self) -> str:
        return f"{self.block.table.label} {self.first}" + (f"-{self.last}" if self.last > self.first else "")


class Learned:
    """How much a unit answers at once: for registers (False) and bits (True), shared by its plans.

    Attributes:
        limits: the most that it answers, where it was found to have a limit.
        small: the small request that it answered last.
    """

    def __init__(self) -> None:
        self.small: RequestPart | None = None
        self.small_asked = 0
        self.limits: dict[bool, int] = {}
        self._largest = {False: 0, True: 0}
        self._untold: set[bool] = set()

    def note_answered(self, part: RequestPart) -> None:
        """Note how much was answered."""
        kind = part.block.table.is_bits
        if part.count > self._largest[kind]:
            self._largest[kind] = part.count
            if part.count > self.limits.get(kind, part.count):
                self.limits[kind] = part.count

    def note_too_large(self, part: RequestPart) -> bool:
        """Note that a part is not answered though its halves are; whether that is its size."""
        kind = part.block.table.is_bits
        if part.count <= self._largest[kind]:
            return False
        self.limits[kind] = self._largest[kind]
        self._untold.add(kind)
        return True

    def sentences(self) -> list[str]:
        """What was learned since the last call."""
        found = [("limits.bits", "bits") if kind else ("limits.registers", "registers") for kind in self._untold]
        limits = [self.limits[kind] for kind in self._untold]
        self._untold.clear()
        return [
            f"more than {limit} {noun} at once are not answered, and are not asked for any more; {key}: {limit} says "
            "so from the start"
            for (key, noun), limit in zip(found, limits, strict=True)
        ]


@dataclass(slots=True, eq=False)
class _Refusal:
    part: RequestPart
    outcome: Outcome
    delay_ns: int
    again_at_ns: int


@dataclass(slots=True, eq=False)
class _Failure:
    """A part that had no answer, and was split."""

    part: RequestPart
    halves: tuple[RequestPart, RequestPart]
    outcome: Outcome
    answered: int = 0


class RequestSet:
    """See the module; one for each plan.

    Attributes:
        is_plain: whether every part was answered when it was asked last, and its data is where it belongs: then there
            is nothing to do for a scan that is answered as well.
    """

    def __init__(self, plan: ModbusPlan, learned: Learned) -> None:
        self._plan, self.learned = plan, learned
        self._whole = [
            RequestPart(block, block.first, block.last, block.spans, request)
            for block, request in zip(plan.blocks, plan.requests, strict=True)
        ]
        self._parts = dict.fromkeys(self._whole)
        self._open = dict.fromkeys(self._whole)  # Those that were not answered yet, in the order to ask them.
        self._refused: dict[RequestPart, _Refusal] = {}
        self._split_from: dict[RequestPart, _Failure] = {}
        self._doubtful: dict[RequestPart, _Failure] = {}  # By the question that clears it up.
        self._trials: dict[RequestPart, RequestPart] = {}  # Parts of what is too large, by how much is tried.
        self._unanswerable: list[RequestPart] = []  # No request may contain them.
        self._silences: Counter[RequestPart] = Counter()
        self._silences_in_a_row = Counter[int]()  # By the offset of the block.
        self._again: list[RequestPart] = []  # Refused ones that are asked for in this scan.
        self._is_changed = False
        self.is_plain = False
        self._plain: tuple[RequestPart, ...] = ()  # All parts, while `is_plain`.
        self.image_bytes = plan.image_bytes + 8 * sum(b.data_bytes + 1 for b in plan.blocks if b.table.is_bits)

    def due(self, now_ns: int) -> tuple[RequestPart, ...]:
        """What to ask for in a scan that begins now."""
        if self.is_plain:
            return self._plain
        for part in [part for part in self._open if self._is_too_large(part)]:
            self._replace((part,), self._pieces(part))
        self._again = []
        if self._refused:
            again = [refusal for refusal in self._refused.values() if refusal.again_at_ns <= now_ns]
            silent = [refusal.part for refusal in again if refusal.outcome is Fault.UNANSWERED][:1]
            others = [refusal.part for refusal in again if refusal.outcome is not Fault.UNANSWERED]
            step = max(1, len(others) // RETRIES_PER_SCAN)  # From all blocks.
            self._again = [*others[::step][:RETRIES_PER_SCAN], *silent]
        answered = [part for part in self._parts if part not in self._open] if self._open else self._parts
        return tuple(answered or self._open or self._again)  # The others one by one: what harms should harm no other.

    def refused(self) -> dict[RequestPart, StatusCode]:
        """The parts that are asked for only now and then because they were refused, and the status of their tags."""
        return {part: status_of(refusal.outcome) for part, refusal in self._refused.items()}

    def is_open(self, part: RequestPart) -> bool:
        """Whether a part was never answered: when it is silent, that may be its size or a hole."""
        return part in self._open

    def is_answered(self, part: RequestPart) -> bool:
        """Whether a part was answered before."""
        return part in self._parts and part not in self._open

    def is_asked(self, part: RequestPart) -> bool:
        """Whether the next scan asks for it."""
        return part in self._parts

    def single_tags(self) -> list[RequestPart]:
        """Each tag as one request: those of parts that were answered, if there are any."""
        answered = [part for part in self._parts if part not in self._open]
        return [self._part(part.block, (span,)) for part in answered or self._whole for span in part.spans]

    @property
    def has_answered(self) -> bool:
        """Whether any part was answered."""
        return len(self._open) < len(self._parts)

    def note_answered(self, image: bytearray, part: RequestPart) -> None:
        """Note an answer: if the part was refused before, its block is asked for as planned again."""
        if not part.is_aligned:
            self._align(image, part)
        self.learned.note_answered(part)
        self._silences.pop(part, None)
        if part in self._refused:
            self._restore(part.block)
        elif (too_large := self._trials.pop(part, None)) is not None:
            self._try_more(too_large, too_large.count)
        elif (failure := self._doubtful.pop(part, None)) is not None:
            if part is not failure.part:
                self._judge(failure, is_bridged=True)
            else:  # It was a passing refusal.
                self._replace(tuple(known for known in self._parts if part.contains(known)), (part,))
                self._note_whole(part)
        elif part in self._open:
            del self._open[part]
            self._silences_in_a_row[part.block.offset] = 0
            self._note_whole(part)

    def note_fault(self, part: RequestPart, outcome: Outcome, now_ns: int) -> bool:
        """Note that a part has no data; whether it was refused and cannot be split, for the first time."""
        self.is_plain = False  # Also where the session is lost before `finish`.
        if (failure := self._doubtful.pop(part, None)) is not None:
            self._clear_up(failure, part)
        elif (too_large := self._trials.pop(part, None)) is not None:
            self._try_more(too_large, part.count)
        elif (refusal := self._refused.get(part)) is not None:
            refusal.delay_ns = min(2 * refusal.delay_ns, self._plan.limits.retry_refused)
            refusal.again_at_ns = now_ns + refusal.delay_ns
        elif part not in self._parts or outcome in _PASSING:
            pass
        elif outcome is Fault.UNANSWERED and not self._count_silence(part):
            self.postpone(part)
        else:
            return self._split_or_refuse(part, outcome, now_ns)
        return False

    def postpone(self, part: RequestPart) -> None:
        """From now on, ask for a part after all others."""
        self.is_plain = False
        for parts in (self._parts, self._open):
            if part in parts:
                del parts[part]
                parts[part] = None

    def next_question(self, tried: Collection[RequestPart]) -> RequestPart | None:
        """What to ask for next in the search for what the device answers, except for what was tried in this scan."""
        for questions in (self._doubtful, self._trials):
            if questions:
                return next(iter(questions))
        while (part := next((part for part in self._open if part not in tried), None)) is not None:
            if not self._is_too_large(part):
                return part
            self._replace((part,), self._pieces(part))
        return next((part for part in self._again if part in self._refused and part not in tried), None)

    def finish(self) -> None:
        """The end of a scan: neighbours that were split in a search are joined, where nothing speaks against it."""
        if self._is_changed and not self._open and not self._doubtful and not self._trials:
            self._join()
            self._is_changed = False
        self.is_plain = not (
            self._refused or self._open or self._silences or not all(part.is_aligned for part in self._parts)
        )
        self._plain = tuple(self._parts)

    # The search.

    def _count_silence(self, part: RequestPart) -> bool:
        """Count a silence; whether a search begins with it."""
        if part in self._open:
            self._silences_in_a_row[part.block.offset] += 1
            return True
        self._silences[part] += 1
        return self._silences[part] >= _SILENT_SCANS

    def _split_or_refuse(self, part: RequestPart, outcome: Outcome, now_ns: int) -> bool:
        self._silences.pop(part, None)
        is_searched = outcome != ILLEGAL_FUNCTION and self._silences_in_a_row[part.block.offset] < _SILENCES_MAX
        if is_searched and (halves := self._halves(part)):
            failure = _Failure(part, halves, outcome)
            self._split_from |= dict.fromkeys(halves, failure)
            self._replace((part,), halves)
            return False
        self._replace((part,), ())
        delay_ns = min(_RETRY_FIRST_NS, self._plan.limits.retry_refused)
        self._refused[part] = _Refusal(part, outcome, delay_ns, now_ns + delay_ns)
        self._unanswerable.append(part)
        return True

    def _note_whole(self, part: RequestPart) -> None:
        failure = self._split_from.pop(part, None)
        if failure is not None:
            failure.answered += 1
            if failure.answered == len(failure.halves):
                self._doubtful[failure.part] = failure

    def _clear_up(self, failure: _Failure, asked: RequestPart) -> None:
        """After a doubtful part, or the bridge in it, was not answered."""
        if asked is not failure.part:
            self._unanswerable.append(asked)
            return
        left, right = failure.halves
        bridge = self._part(asked.block, (left.spans[-1], right.spans[0]))
        if bridge.count < asked.count:
            self._doubtful[bridge] = failure
        else:
            self._judge(failure, is_bridged=left.last + 1 == right.first)

    def _judge(self, failure: _Failure, *, is_bridged: bool) -> None:
        if not (is_bridged and self.learned.note_too_large(failure.part)):
            self._unanswerable.append(failure.part)
        elif failure.outcome is not Fault.UNANSWERED:  # A limit to the register is not worth the timeouts.
            self._try_more(failure.part, failure.part.count)

    def _try_more(self, part: RequestPart, too_much: int) -> None:
        """Ask for as much of a part as is half way between the limit and what is too much."""
        limit = self.learned.limits[part.block.table.is_bits]
        reach = part.first + (limit + too_much) // 2
        trial = self._part(part.block, tuple(span for span in part.spans if span.last < reach))
        if limit < trial.count < too_much:
            self._trials[trial] = part

    # The parts.

    def _replace(self, old: Iterable[RequestPart], new: Sequence[RequestPart]) -> None:
        """New parts for old ones; those that were never answered are asked for first."""
        known = set(old)
        if not known.isdisjoint(self._open):
            self._open = dict.fromkeys((*new, *(part for part in self._open if part not in known)))
        elif len(new) > 1 or not known:
            self._open = dict.fromkeys((*new, *self._open))
        self._parts = dict.fromkeys((*(part for part in self._parts if part not in known), *new))
        self._is_changed = True

    def _restore(self, block: Block) -> None:
        whole = next(part for part in self._whole if part.block is block)
        for known in (self._parts, self._open, self._refused, self._split_from, self._doubtful, self._trials):
            for part in [part for part in known if part.block is block]:
                del known[part]
        self._unanswerable = [part for part in self._unanswerable if part.block is not block]
        self._silences.clear()
        self._silences_in_a_row[block.offset] = 0
        self._replace((), (whole,))

    def _join(self) -> None:
        known = {(part.block.offset, part.spans): part for part in self._parts}
        parts: list[RequestPart] = []
        for part in sorted(self._parts, key=lambda part: (part.block.offset, part.first)):
            for single in self._singles(part):
                wider = self._joined(parts[-1], single) if parts else None
                if wider is None:
                    parts.append(single)
                else:
                    parts[-1] = wider
        parts = [known.get((part.block.offset, part.spans), part) for part in parts]
        self._open = {part: None for part in parts if part not in self._parts}
        self._parts = dict.fromkeys(parts)
        self._silences.clear()

    def _joined(self, left: RequestPart, right: RequestPart) -> RequestPart | None:
        if left.block is not right.block:
            return None
        wider = self._part(left.block, (*left.spans, *right.spans))
        if self._is_too_large(wider) or any(wider.contains(part) for part in self._unanswerable):
            return None
        return wider

    def _is_too_large(self, part: RequestPart) -> bool:
        limit = self.learned.limits.get(part.block.table.is_bits, part.count)
        return part.count > limit and self._halves(part) is not None

    def _pieces(self, part: RequestPart) -> list[RequestPart]:
        halves = self._halves(part) if self._is_too_large(part) else None
        return [part] if halves is None else [piece for half in halves for piece in self._pieces(half)]

    def _halves(self, part: RequestPart) -> tuple[RequestPart, RequestPart] | None:
        starts = _starts(part.spans)
        if not starts:
            return None
        middle = min(starts, key=lambda start: abs(2 * start - len(part.spans)))
        return self._part(part.block, part.spans[:middle]), self._part(part.block, part.spans[middle:])

    def _singles(self, part: RequestPart) -> list[RequestPart]:
        edges = [0, *_starts(part.spans), len(part.spans)]
        return [self._part(part.block, part.spans[at:end]) for at, end in pairwise(edges)]

    def _part(self, block: Block, spans: tuple[Span, ...]) -> RequestPart:
        first, last = spans[0].first, max(span.last for span in spans)
        if (first, last) == (block.first, block.last):
            offset = block.offset
        elif block.table.is_bits:
            # Bits of a part have another alignment than in the block: they are received behind the image, and moved.
            offset = self._plan.image_bytes + 8 * block.offset + first - block.first
        else:
            offset = block.offset + 2 * (first - block.first)
        request = read_request(self._plan.unit, block.table.function, first, last - first + 1, offset)
        return RequestPart(block, first, last, spans, request)

    def _align(self, image: bytearray, part: RequestPart) -> None:
        # Move the bits of a part of a block to where they are in the whole block.
        request, block = part.request, part.block
        shift = part.first - block.first
        mask = (1 << request.count) - 1 << shift
        region = slice(block.offset, block.offset + block.data_bytes)
        bits = int.from_bytes(image[request.offset : request.end], "little") << shift & mask
        whole = int.from_bytes(image[region], "little") & ~mask | bits
        image[region] = whole.to_bytes(block.data_bytes, "little")


def _starts(spans: Sequence[Span]) -> list[int]:
    """Where spans can be parted: tags that share an address stay together, as a value is never put together from two
    answers."""
    starts, last = [], spans[0].last
    for at, span in enumerate(spans):
        if span.first > last:
            starts.append(at)
        last = max(last, span.last)
    return starts


def small_part(sets: Sequence[RequestSet], learned: Learned) -> RequestPart | None:
    """One tag, to ask whether the device answers at all: of what it answered before, and another one each time."""
    known = [requests for requests in sets if requests.has_answered] or sets
    tags = [part for requests in known for part in requests.single_tags()]
    learned.small_asked += 1
    return tags[-learned.small_asked % len(tags)] if tags else None


def status_of(outcome: Outcome) -> StatusCode:
    """The status of tags without data."""
    if isinstance(outcome, Fault):
        return StatusCode.BAD_NO_COMMUNICATION if outcome is Fault.UNANSWERED else StatusCode.BAD_DECODING_ERROR
    return StatusCode.BAD_ADDRESS if outcome in (ILLEGAL_ADDRESS, ILLEGAL_VALUE) else StatusCode.BAD_DEVICE_FAILURE
