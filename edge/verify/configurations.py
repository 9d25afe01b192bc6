"""Which configurations a gateway ran, by its CONFIG records: one after the other, and where one of them has no record.

A CONFIG record names the configuration before it, so the records of a gateway follow from each other. Where one does
not, a record is missing, or the gateway could not write it, as on a full disk. The EPOCH of a chain, the event of each
start and the further parts of a configuration name the one that runs, too: so that one without a record is seen even
where no record follows. Records may come in any order; their order is that of the chains, for clocks may be set back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from edge.seal import ConfigChange, Epoch, Event, Payload
from edge.seal.payloads import KeptPart
from edge.verify.chain_state import stated_ns
from edge.verify.logbook import Place
from edge.verify.verdicts import Judgement, Verdict


class KeptConfigurations:
    """The configurations that are on record, put together from their parts."""

    def __init__(self) -> None:
        # All parts of one recording have its time; the same configuration may be recorded again, and packed otherwise.
        self._parts: defaultdict[tuple[bytes, str, bytes, int], dict[int, tuple[Place, KeptPart]]] = defaultdict(dict)

    def note(self, place: Place, content: Payload) -> None:
        """Take a record."""
        if isinstance(content, ConfigChange) and (part := content.kept) is not None:
            self._parts[content.new_hash, place.issuer, place.epoch, content.at_ns][part.part] = place, part

    def withdraw(self, place: Place) -> None:
        """Forget what a record said."""
        for key, parts in list(self._parts.items()):
            for number in [each for each, (at, _) in parts.items() if at == place]:
                del parts[number]
            if not parts:
                del self._parts[key]

    def digests(self, begin: str = "") -> list[bytes]:
        """Of the configurations of which a part is held, those whose digest begins so, in hexadecimal."""
        return list(dict.fromkeys(digest for digest, *_ in self._parts if digest.hex().startswith(begin)))

    def held(self, digest: bytes) -> tuple[int, int]:
        """How many parts of a configuration are held, and of how many, where most are."""
        held = [(len(parts), next(iter(parts.values()))[1].parts) for parts in self._of(digest)]
        return max(held, default=(0, 0))

    def packed(self, digest: bytes) -> bytes | None:
        """The configuration as it is on record, or None where a part is not held."""
        for parts in self._of(digest):
            needed = next(iter(parts.values()))[1].parts
            if len(parts) == needed:
                return b"".join(parts[number][1].packed for number in range(needed))
        return None

    def _of(self, digest: bytes) -> Iterator[dict[int, tuple[Place, KeptPart]]]:
        return (parts for (of, *_), parts in self._parts.items() if of == digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the history: a change, a CONFIG record that is not proven, or a configuration without a record.

    Attributes:
        place: of the record; that of the next one held where a configuration has none.
        from_ns: UTC, and `to_ns` the same, of a change; between which a configuration without a record was taken into
            use, where that is known.
        change: what the record says, without the configuration itself; None where it is not proven, or missing.
        verdict: on the record; None where nothing was verified.
        reason: why it is not proven.
        unrecorded: digest of the configuration that has no record.
    """

    place: Place
    from_ns: int | None = None
    to_ns: int | None = None
    change: ConfigChange | None = None
    verdict: Verdict | None = None
    reason: str = ""
    unrecorded: bytes = b""

    @property
    def is_sound(self) -> bool:
        """Whether it is a change on a record that no verdict speaks against."""
        return self.change is not None and self.verdict in (None, Verdict.AUTHENTIC)


class _Named(NamedTuple):
    """A record that names the configuration that runs."""

    at_ns: int | None
    place: Place
    digest: bytes


class History:
    """Takes records in any order, and tells the steps from one configuration to the next."""

    def __init__(self) -> None:
        self._changes: dict[Place, tuple[ConfigChange, Verdict | None]] = {}
        self._named: dict[Place, _Named] = {}
        self._refused: dict[tuple[Place, bytes], Judgement] = {}
        self._previous: dict[tuple[str, bytes], bytes] = {}  # The chain before each chain.

    def note(self, place: Place, content: Payload, verdict: Verdict | None = None) -> None:
        """Take a record that is authentic, or that nobody verified."""
        match content:
            case ConfigChange() if content.kept is None or content.kept.part == 0:
                kept = None if content.kept is None else content.kept._replace(packed=b"")
                self._changes[place] = replace(content, kept=kept), verdict
            case ConfigChange():
                self._named[place] = _Named(content.at_ns, place, content.new_hash)
            case Epoch():
                if content.previous is not None:
                    self._previous[place.issuer, place.epoch] = content.previous.epoch
                self._named[place] = _Named(stated_ns(content), place, content.config_hash)
            case Event(kind="start"):
                digest = content.data.get("configuration")
                if isinstance(digest, str) and _is_hex(digest):
                    self._named[place] = _Named(content.at_ns, place, bytes.fromhex(digest))

    def refuse(self, place: Place, judgement: Judgement) -> None:
        """Take the verdict on a CONFIG record that is not authentic; a later verdict replaces it."""
        self._refused[place, judgement.hash] = judgement

    def accept(self, place: Place, digest: bytes) -> None:
        """A record that had been refused has become authentic."""
        self._refused.pop((place, digest), None)

    def withdraw(self, place: Place, judgement: Judgement) -> None:
        """Forget what a record said: its verdict has changed."""
        if place in self._changes:
            self.refuse(place, judgement)
        self._changes.pop(place, None)
        self._named.pop(place, None)

    def steps(self) -> list[Step]:
        """All steps; those of one gateway in the order of its chains, those of several by time."""
        found: list[tuple[int, Step]] = []
        places = {*self._changes, *self._named, *(place for place, _ in self._refused)}
        for issuer in sorted({place.issuer for place in places}):
            newest_ns = 0
            for step in self._steps_of([each for each in places if each.issuer == issuer]):
                newest_ns = max(newest_ns, step.from_ns or step.to_ns or 0)
                found.append((newest_ns, step))
        return [step for _, step in sorted(found, key=lambda each: each[0])]

    def _steps_of(self, places: Sequence[Place]) -> Iterator[Step]:
        refused: defaultdict[Place, list[Judgement]] = defaultdict(list)
        for (place, _), judgement in self._refused.items():
            refused[place].append(judgement)
        walk = _Walk()
        for place in self._in_order(places):
            for each in refused.get(place, ()):
                yield Step(place=place, verdict=each.verdict, reason=each.reason)
            if (named := self._named.get(place)) is not None and named.digest:
                yield from walk.name(named)
            if place in self._changes:
                yield from walk.change(place, *self._changes[place])
        yield from walk.end()

    def _in_order(self, places: Sequence[Place]) -> Iterator[Place]:
        """By their chains, each after the one before it, and by their places in them."""
        chains: defaultdict[bytes, list[Place]] = defaultdict(list)
        for place in places:
            chains[place.epoch].append(place)
        begins = {epoch: min((self._ns(each) for each in of), default=0) for epoch, of in chains.items()}
        done: set[bytes] = set()
        for epoch in sorted(chains, key=lambda each: begins[each]):
            line = []
            while epoch in chains and epoch not in done:
                done.add(epoch)
                line.append(epoch)
                epoch = self._previous.get((places[0].issuer, epoch), b"")
            for each in reversed(line):
                yield from sorted(chains[each], key=lambda place: place.seq)

    def _ns(self, place: Place) -> int:
        if place in self._changes:
            return self._changes[place][0].at_ns
        return (self._named[place].at_ns if place in self._named else None) or 2**63


@dataclass(slots=True)
class _Walk:
    """Goes from configuration to configuration of one gateway.

    Attributes:
        recorded: digest of the last one on record, and `since_ns` UTC of its record.
        replaced: digest of the one before that, as the record says.
        current: digest of the last one, with or without a record; empty before the first one.
        named: names a later one, of which no record has come yet: that of a start follows the event of the start.
    """

    recorded: bytes = b""
    replaced: bytes = b""
    since_ns: int | None = None
    current: bytes = b""
    named: _Named | None = None

    def name(self, named: _Named) -> Iterator[Step]:
        """A record names the configuration that runs."""
        if self.named is not None and self.named.digest != named.digest:
            yield from self.end()
        self.named = None if named.digest == self.current else self.named or named

    def change(self, place: Place, change: ConfigChange, verdict: Verdict | None) -> Iterator[Step]:
        """A record says that a configuration was taken into use."""
        if self.named is not None and self.named.digest != change.new_hash:
            yield from self.end()
        # A gateway that is killed before it has noted that the change is on record puts it there again.
        is_again = self.recorded == self.current == change.new_hash and change.old_hash == self.replaced
        if self.current and not is_again and change.old_hash not in (self.recorded, self.current):
            yield Step(place=place, from_ns=self.since_ns, to_ns=change.at_ns, unrecorded=change.old_hash,
                       reason="" if change.old_hash else "the record names none before it")  # fmt: skip
        yield Step(place=place, from_ns=change.at_ns, to_ns=change.at_ns, change=change, verdict=verdict)
        self.recorded = self.current = change.new_hash
        self.replaced = change.old_hash
        self.since_ns, self.named = change.at_ns, None

    def end(self) -> Iterator[Step]:
        """No record comes of the one that was named; what came before the first record held is not held against it."""
        named, self.named = self.named, None
        if named is None:
            return
        if self.current:
            yield Step(place=named.place, from_ns=named.at_ns, to_ns=named.at_ns, unrecorded=named.digest)
        self.current = named.digest


def _is_hex(text: str) -> bool:
    try:
        return bool(bytes.fromhex(text))
    except ValueError:
        return False
