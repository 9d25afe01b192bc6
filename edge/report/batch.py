"""The runs of batches that an archive holds, and to which part of one each block belongs."""

# Theory of operation
#
# A CONTEXT record says what a unit does from a change on, and each block of the unit names it by its number. A run is
# one stretch of one batch on one unit: contexts that follow each other with the same id, those before a restart of the
# gateway included. A context whose id is not known between two with the same id does not end a run; a blank id does,
# and an id that comes back later is another run.
#
# A block is of the batch by the number that it names, never by its time. One that was sampled while the unit changed
# names two numbers: where both are of the run it is of the batch, with one of them it is its boundary. A block whose
# context is not known is counted as unknown while the unit may have been in the run. All others are outside.

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from edge.relay.record_stream import split
from edge.seal import Context, Data, Epoch, Garbage, RecordType, parse
from edge.seal.data import context_of
from edge.seal.record import ISSUER_PREFIX
from edge.verify import Judgement, Trust, Verdict, Verifier
from edge.verify.chain_state import stated_ns
from edge.verify.window import Window

Part = Literal["batch", "boundary", "unknown", "outside"]
ContextKey = tuple[str, bytes, int]
"""The chain of a context, and its number in it."""
GroupKey = tuple[str, bytes, int]
"""A gateway by its issuer, the digest of a catalogue, and the number of a scan group in it."""

_MEMBERS = ("lot", "product", "recipe", "procedure", "unit_procedure", "operation", "phase", "state")
_SAYS_CONTEXTS = (RecordType.EPOCH, RecordType.KEY, RecordType.CHECKPOINT, RecordType.CONTEXT)


class Placed(NamedTuple):
    """A context with the chain that it is of."""

    issuer: str
    epoch: bytes
    context: Context

    @property
    def key(self) -> ContextKey:
        """What blocks of the chain name it by."""
        return self.issuer, self.epoch, self.context.number

    @property
    def batch(self) -> str | None:
        """The id of the batch: empty where there is none, None where it is not known."""
        text = self.context.members.get("batch", "")
        return None if text is None else trimmed(text)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """One stretch of a batch on a unit.

    Attributes:
        contexts: those with the id of the batch, in order.
        from_ns: UTC after which it began; it had begun at `began_ns`.
        ended_ns: UTC until which it went on; it had ended at `to_ns`. None where no end is on record.
    """

    issuer: str
    unit: str
    batch: str
    contexts: tuple[Placed, ...]
    from_ns: int
    ended_ns: int | None
    to_ns: int | None

    @property
    def began_ns(self) -> int:
        """When it had begun."""
        return self.contexts[0].context.to_ns

    def may_be_at(self, utc_ns: int) -> bool:
        """Whether the unit may have been in it."""
        return self.from_ns <= utc_ns and (self.to_ns is None or utc_ns <= self.to_ns)


def trimmed(text: str) -> str:
    """An id without blanks and NUL around it."""
    return text.strip("\0").strip().strip("\0")


def looks_like(text: str, other: str) -> bool:
    """Whether two different ids may be taken for the same by people: by width, form or case of their letters."""
    return text != other and _seen(text) == _seen(other)


def _seen(text: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(each for each in folded if unicodedata.category(each) != "Cf")


class Contexts:
    """Finds the contexts in the files of an archive, each verified; records of other types are passed over."""

    def __init__(self, trust: Trust) -> None:
        self._verifier = Verifier(trust)
        self._chains: dict[tuple[str, bytes], int] = {}
        self._found: dict[ContextKey, Placed] = {}
        self._places: defaultdict[tuple[str, bytes, int], list[ContextKey]] = defaultdict(list)

    def read(self, path: Path) -> None:
        """Read a file of records. Raises OSError."""
        with path.open("rb") as file:
            for piece in split(file):
                try:
                    if piece.data is None or parse(piece.data).type not in _SAYS_CONTEXTS:
                        continue
                except Garbage:
                    continue
                for each in self._verifier.add(piece.data):
                    self._note(each)

    def _note(self, judgement: Judgement) -> None:
        place = judgement.issuer, judgement.epoch, judgement.seq
        content = judgement.content
        if judgement.verdict is not Verdict.AUTHENTIC:
            for key in self._places.pop(place, ()) if judgement.type is None else ():  # It had been accepted.
                self._found.pop(key, None)
        elif isinstance(content, Epoch):
            self._chains[place[:2]] = stated_ns(content) or 0
        elif isinstance(content, Context):
            placed = Placed(judgement.issuer, judgement.epoch, content)
            self._found.setdefault(placed.key, placed)
            self._places[place].append(placed.key)

    @property
    def all(self) -> list[Placed]:
        """Each of them once, in the order of sealing."""
        return sorted(self._found.values(), key=lambda each: (
            each.issuer, self._chains.get(each.key[:2], each.context.to_ns), each.epoch, each.context.number,
        ))  # fmt: skip

    def runs(self) -> list[Run]:
        """The runs of all batches, by gateway, unit and time."""
        by_unit: defaultdict[tuple[str, str], list[Placed]] = defaultdict(list)
        for each in self.all:
            by_unit[each.issuer, each.context.unit].append(each)
        return [run for name in sorted(by_unit) for run in _runs(by_unit[name])]


def _runs(contexts: Iterable[Placed]) -> Iterator[Run]:
    """The runs of a unit."""
    held: list[Placed] = []  # Of the run that has not ended.
    from_ns = 0
    unknown: Placed | None = None  # The first since the last one that is known.
    is_first = True

    def run(end: Placed | None) -> Run:
        ended = unknown or end
        return Run(
            issuer=held[0].issuer, unit=held[0].context.unit, batch=held[0].batch or "", contexts=tuple(held),
            from_ns=from_ns, ended_ns=None if end is None or ended is None else ended.context.from_ns,
            to_ns=None if end is None else end.context.to_ns,
        )  # fmt: skip

    for each in contexts:
        batch = each.batch
        if batch is None:
            unknown = unknown or each
            continue
        if held and held[0].batch != batch:
            yield run(each)
            held = []
        if batch and not held:
            from_ns = (each if is_first or unknown is None else unknown).context.from_ns
        if batch:
            held.append(each)
        unknown, is_first = None, False
    if held:
        yield run(None)


class BatchSlice:
    """Which blocks of an archive are of some runs; and how many are, once all DATA records have come.

    Args:
        batch: the id that was asked for.
        runs: those that are reported on.
        contexts: all that the archive has.
        look_alikes: ids of other batches that people may take for it.
    """

    def __init__(
        self, batch: str, runs: Sequence[Run], contexts: Iterable[Placed], look_alikes: Sequence[str] = ()
    ) -> None:
        self.batch, self.runs, self.look_alikes = batch, tuple(runs), tuple(look_alikes)
        self._run_of = {each.key: number for number, run in enumerate(self.runs) for each in run.contexts}
        self._known: dict[ContextKey, tuple[str, bool]] = {
            each.key: (each.context.unit, each.batch is not None) for each in contexts
        }
        self._units: defaultdict[GroupKey, set[str]] = defaultdict(set)
        self._blocks: Counter[tuple[GroupKey, tuple[int, ...], Part]] = Counter()

    @property
    def issuers(self) -> tuple[str, ...]:
        """The gateways with a run."""
        return tuple(dict.fromkeys(run.issuer for run in self.runs))

    @property
    def window(self) -> Window:
        """The range that they lie in; open where one of them has not ended."""
        ends = [run.to_ns for run in self.runs]
        to_ns = None if None in ends else max(each for each in ends if each is not None)
        return Window(from_ns=min(run.from_ns for run in self.runs), to_ns=to_ns)

    def part(self, issuer: str, epoch: bytes, context: tuple[int, ...]) -> Part:
        """To which part a block belongs that names these numbers: unknown ones are outside here."""
        runs = [self._run_of.get((issuer, epoch, number)) for number in context]
        if not runs or all(each is None for each in runs):
            return "outside"
        return "batch" if None not in runs and len(set(runs)) == 1 else "boundary"

    def has(self, issuer: str, epoch: bytes, data: Data) -> bool:
        """Whether a record has blocks of the batch or its boundary."""
        return any(self.part(issuer, epoch, context_of(wire)) != "outside" for wire in data.wire_blocks)

    def take(self, issuer: str, epoch: bytes, data: Data) -> Data:
        """Count the blocks of a record; returns it with only those of the batch."""
        kept = []
        for at, wire in enumerate(data.wire_blocks):
            context = context_of(wire)
            group = issuer, data.catalogue, wire[1]
            part = self.part(issuer, epoch, context)
            found = [self._known.get((issuer, epoch, number), ("", False)) for number in context]
            for unit, _ in found:
                if unit:
                    self._units[group].add(unit)
            runs: tuple[int, ...] = ()
            if part != "outside":
                of_run = (self._run_of.get((issuer, epoch, number)) for number in context)
                runs = tuple({run for run in of_run if run is not None})
            elif not all(is_known for _, is_known in found):
                runs = tuple(number for number, run in enumerate(self.runs)
                             if run.issuer == issuer and run.may_be_at(data.utc_ns + wire[2]))  # fmt: skip
                part = "unknown" if runs else "outside"
            self._blocks[group, runs, part] += 1
            if part == "batch":
                kept.append(at)
        return replace(data, wire_blocks=[data.wire_blocks[at] for at in kept],
                       numbers=[data.numbers[at] for at in kept])  # fmt: skip

    def units_of(self, group: GroupKey) -> frozenset[str]:
        """The units that a scan group belonged to, by the contexts that its blocks name; a unit may be renamed."""
        return frozenset(self._units.get(group, ()))

    def unit_of(self, group: GroupKey) -> str:
        """The unit of the runs that a scan group belonged to; empty where there is none."""
        units = self.units_of(group)
        return next((run.unit for run in self.runs if run.issuer == group[0] and run.unit in units), "")

    def blocks(self, issuer: str) -> Iterator[tuple[GroupKey, Run | None, Part, int]]:
        """How many blocks of a gateway each scan group has of each part, and of which run; outside there is none."""
        for (group, numbers, part), count in self._blocks.items():
            if group[0] != issuer:
                continue
            runs = [self.runs[number] for number in numbers]
            if part == "unknown" and (units := self.units_of(group)):
                runs = [run for run in runs if run.unit in units]
            yield group, runs[0] if runs else None, part if runs else "outside", count


def gateway_of(run: Run) -> str:
    """The name of its gateway."""
    return run.issuer.removeprefix(ISSUER_PREFIX)


def members_text(members: Mapping[str, str | None]) -> str:
    """What a unit does, as people read it: "recipe R7, phase heat"; the batch goes without saying."""
    names = sorted(members, key=lambda name: (_MEMBERS.index(name) if name in _MEMBERS else len(_MEMBERS), name))
    said = [f"{name} {'not known' if (text := members[name]) is None else text}" for name in names
            if name != "batch" and members[name] != ""]  # fmt: skip
    return ", ".join(said) or "nothing more is said"
