"""The state of one chain: keys in force, accepted records, forks, undecided records, and a summary of its contents."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field, fields
from typing import Any

from edge.intervals import IntervalSet
from edge.seal.catalogue import CataloguePart
from edge.seal.cbor import I64, Unknown
from edge.seal.codec import Payload
from edge.seal.cose import MAX_SEQ
from edge.seal.data import Data
from edge.seal.keys import PublicKey
from edge.seal.payloads import Checkpoint, ConfigChange, Epoch, Event, Gap, KeyChange, Stop, TimeChange
from edge.seal.record import RecordType
from edge.sentences import stretch_of
from edge.verify.runs import UNKNOWN, Hashes, Run, Runs
from edge.verify.undecided import UndecidedRecord
from edge.verify.verdicts import Verdict
from edge.verify.window import Bounds, Window

_WRONG_NS, _CORRECTED_KEPT = 10**9, 100  # Of times that were corrected later.
_MOVED_HASHES = 64


@dataclass(slots=True)
class Introduction:
    """Session keys that sign what follows a record: one key, or those of both sides of a fork."""

    keys: tuple[bytes, ...]
    by_identity: bool


class ChainState:
    """One chain of one issuer. The head of `verifier` describes what it holds."""

    def __init__(
        self, issuer: str, epoch: bytes, hash_of: Callable[[str, bytes, int], bytes | None] | None, pages_kept: int,
        *, keeps_places: bool = False,
    ) -> None:  # fmt: skip
        self._keeps_places = keeps_places
        self.issuer = issuer
        self.epoch = epoch
        self.identity: PublicKey | None = None
        self.is_identity_final = False
        self.certificates: tuple[bytes, ...] = ()  # Those that its EPOCH gives for the identity, leaf first.
        self.began_ns = 0  # UTC that its EPOCH states.
        self.is_distrusted = False  # The trust anchors changed, and no longer vouch for the identity.
        self.runs = Runs()
        self.linked = IntervalSet()
        self.hashes = Hashes(None if hash_of is None else lambda seq: hash_of(issuer, epoch, seq), pages_kept)
        self.forks: dict[int, dict[bytes, bool]] = {}
        self.claims: dict[int, set[bytes]] = {}
        self.existed_to = -1
        self.next_epoch = b""  # The chain whose EPOCH names this one as the one before it.
        self.undecided: dict[int, list[UndecidedRecord]] = {}
        self.summary = ChainSummary()
        self.rejected: Counter[Verdict] = Counter()
        self.rejected_at: defaultdict[Verdict, array[int]] = defaultdict(lambda: array("Q"))
        self.out_of_order = 0
        self.identity_seqs: array[int] = array("Q")
        self.counters: array[int] = array("Q")
        self._intro_seqs: list[int] = []
        self._intros: dict[int, Introduction] = {}
        self._by_kid: dict[bytes, bytes] = {}

    @property
    def is_proven(self) -> bool:
        """Whether a record is accepted, or an accepted record of another chain names this one."""
        return bool(self.claims or self.identity_seqs or self._intros or self.identity) or self.runs.last >= 0

    @property
    def is_empty(self) -> bool:
        """Whether no record is accepted or undecided, and nothing is known of the chain."""
        return not self.undecided and not self.is_proven

    # Keys

    def known_key(self, kid: bytes) -> PublicKey | None:
        """The session key of this chain with this id, wherever it is in force."""
        raw = self._by_kid.get(kid)
        return None if raw is None else PublicKey(raw)

    def keys_at(self, seq: int) -> tuple[bytes, ...]:
        """The session keys in force at a place, as far as they are known."""
        at = bisect_left(self._intro_seqs, seq)
        return self._intros[self._intro_seqs[at - 1]].keys if at else ()

    def is_superseded(self, seq: int, key: bytes) -> bool:
        """Whether a session key was in force before the one in force at a place."""
        at = bisect_left(self._intro_seqs, seq)
        return any(key in self._intros[each].keys for each in self._intro_seqs[: max(0, at - 1)])

    def is_settled(self, seq: int) -> bool:
        """Whether the key in force at a place is certain: no record is missing since it was introduced."""
        at = bisect_left(self._intro_seqs, seq)
        if not at or not self.is_identity_final:
            return False
        start = self._intro_seqs[at - 1]
        run = self.runs.at(seq - 1)
        return run is not None and run.first <= start and not any(self.linked.within(start, seq - 1))

    def introduce(self, seq: int, key: bytes, *, by_identity: bool) -> bool:
        """Add a session key; returns whether it supersedes another one for the records after it."""
        self._by_kid[PublicKey(key).kid] = key
        known = self._intros.get(seq)
        if known is not None:
            known.keys = known.keys if key in known.keys else (*known.keys, key)
            return False
        in_force = self.keys_at(seq)
        if in_force == (key,) and by_identity and self._reaches_introduction(seq):
            return False
        insort(self._intro_seqs, seq)
        self._intros[seq] = Introduction((key,), by_identity)
        return key not in in_force

    def _reaches_introduction(self, seq: int) -> bool:
        run = self.runs.at(seq)
        return run is not None and run.first <= self._intro_seqs[bisect_left(self._intro_seqs, seq) - 1]

    def withdraw(self, seq: int) -> None:
        """Remove a session key: the record that introduced it is no longer accepted."""
        if self._intros.pop(seq, None) is not None:
            self._intro_seqs.remove(seq)

    def next_identity_introduction(self, seq: int) -> int:
        """The first place after `seq` at which the identity states the key in force."""
        later = self._intro_seqs[bisect_right(self._intro_seqs, seq) :]
        return next((each for each in later if self._intros[each].by_identity), MAX_SEQ + 1)

    def count_identity_signature(self, seq: int, counter: int) -> None:
        """Record the counter of an EPOCH or CHECKPOINT."""
        at = bisect_left(self.identity_seqs, seq)
        if at == len(self.identity_seqs) or self.identity_seqs[at] != seq:
            self.identity_seqs.insert(at, seq)
            self.counters.insert(at, counter)

    def is_anchored(self, run: Run) -> bool:
        """Whether a run contains an identity-signed record, which fixes every hash before it."""
        at = bisect_right(self.identity_seqs, run.last) - 1
        return at >= 0 and self.identity_seqs[at] >= run.first

    # Records

    def has(self, seq: int, digest: bytes) -> bool:
        """Whether a record with this hash is accepted or undecided."""
        if self.runs.at(seq) is not None and self.hashes.get(seq) == digest:
            return True
        return self.forks.get(seq, {}).get(digest, False) or any(
            each.hash == digest for each in self.undecided.get(seq, ())
        )

    def accept(self, seq: int, prev: bytes, digest: bytes) -> list[int]:
        """Accept a record; returns the places at which it makes a fork visible."""
        if self.runs.at(seq) is not None:
            held = self.hashes.get(seq)
            if held is None or held == digest:
                self.linked.discard(seq, seq)
                return []
            return [*self._fork(seq, held, digest), *self._claim(seq - 1, prev)]
        below, above = self.runs.at(seq - 1), self.runs.at(seq + 1)
        forked = []
        if below is not None and below.last_hash not in (prev, UNKNOWN):
            forked += self._fork(seq - 1, below.last_hash, claimed=prev)
        if above is not None and above.prev != digest:
            forked += self._fork(seq, digest, claimed=above.prev)
        for claimed in self.claims.get(seq, ()):
            forked += self._fork(seq, digest, claimed=claimed) if claimed != digest else []
        self.runs.insert(seq, prev, digest)
        self.hashes[seq] = digest
        return forked

    def reject(self, seq: int, verdict: Verdict) -> None:
        """Count a record that is not accepted."""
        self.rejected[verdict] += 1
        if self._keeps_places:
            self.rejected_at[verdict].append(seq)

    def claim(self, seq: int, digest: bytes) -> list[int]:
        """Record the hash that an authentic record states for a place; returns the places at which it shows a fork."""
        self.existed_to = max(self.existed_to, seq)
        return self._claim(seq, digest)

    def _claim(self, seq: int, digest: bytes) -> list[int]:
        self.claims.setdefault(seq, set()).add(digest)
        run = self.runs.at(seq)
        held = None if run is None else self.hashes.get(seq)
        return [] if held is None or held == digest else self._fork(seq, held, claimed=digest)

    def _fork(self, seq: int, *held: bytes, claimed: bytes | None = None) -> list[int]:
        is_new = seq not in self.forks
        hashes = self.forks.setdefault(seq, {})
        hashes.update(dict.fromkeys(held, True))
        if claimed is not None:
            hashes.setdefault(claimed, False)
        return [seq] if is_new else []

    def remove(self, seq: int) -> bytes:
        """Remove an accepted record; returns its hash."""
        digest = self.hashes.get(seq) or b""
        run = self.runs.at(seq)
        if run is not None and run.first == seq:
            self._unclaim(seq - 1, run.prev)
        self.runs.cut(seq, self.hashes.get, digest)
        self.linked.discard(seq, seq)
        self.hashes.forget(seq)
        self.withdraw(seq)
        at = bisect_left(self.identity_seqs, seq)
        if at < len(self.identity_seqs) and self.identity_seqs[at] == seq:
            del self.identity_seqs[at], self.counters[at]
        return digest

    def _unclaim(self, seq: int, digest: bytes) -> None:
        """End a fork that only a record showed which is no longer accepted."""
        hashes = self.forks.get(seq, {})
        if hashes.get(digest) is False and digest not in self.claims.get(seq, ()):
            del hashes[digest]
            if len(hashes) == 1:
                del self.forks[seq]

    def authentic(self, first: int, last: int) -> Iterator[int]:
        """The accepted records of a range whose signature was checked."""
        for run in list(self.runs):
            for low, high in self.linked.missing(max(run.first, first), min(run.last, last)):
                yield from range(low, high + 1)

    def accepted(self) -> IntervalSet:
        """The places of accepted records."""
        return IntervalSet((run.first, run.last) for run in self.runs)

    def held(self) -> IntervalSet:
        """The places of records that are accepted, or may still be."""
        spans = self.accepted()
        for seq, records in self.undecided.items():
            if any(each.verdict is Verdict.UNVERIFIABLE for each in records):
                spans.add(seq, seq)
        return spans

    # Snapshot

    def snapshot(self, *, moves: bool) -> dict[str, Any]:
        """Plain values for the snapshot of the verifier; of one that moves, only the newest hashes."""
        hashes = {} if moves else self.hashes.snapshot()
        recent = self.hashes.recent(self.runs.last, _MOVED_HASHES) if moves else []
        return {
            "issuer": self.issuer, "epoch": self.epoch, "identity": self.identity.raw if self.identity else None,
            "final": self.is_identity_final, "certificates": self.certificates,
            "began_ns": self.began_ns, "runs": self.runs.snapshot(),
            "linked": [list(each) for each in self.linked], "hashes": hashes, "recent": recent, "forks": self.forks,
            "existed_to": self.existed_to, "next": self.next_epoch,
            "claims": {seq: sorted(claims) for seq, claims in self.claims.items()}, "facts": self.summary.snapshot(),
            "rejected": {str(verdict): count for verdict, count in self.rejected.items()},
            "out_of_order": self.out_of_order,
            "signatures": [list(each) for each in zip(self.identity_seqs, self.counters, strict=True)],
            "intros": [[seq, list(self._intros[seq].keys), self._intros[seq].by_identity] for seq in self._intro_seqs],
        }  # fmt: skip

    def restore(self, kept: dict[str, Any]) -> None:
        """Restore from the values of `snapshot`."""
        self.identity = PublicKey(kept["identity"]) if kept["identity"] else None
        self.is_identity_final = kept["final"]
        self.certificates, self.began_ns = tuple(kept["certificates"]), kept["began_ns"]
        self.runs.restore(kept["runs"])
        self.linked = IntervalSet((first, last) for first, last in kept["linked"])
        self.hashes.restore(kept["hashes"])
        self.hashes.restore_recent(self.runs.last, kept["recent"])
        self.forks = {seq: dict(hashes) for seq, hashes in kept["forks"].items()}
        self.existed_to, self.next_epoch = kept["existed_to"], kept["next"]
        self.claims = {seq: set(claims) for seq, claims in kept["claims"].items()}
        self.summary = ChainSummary.restore(kept["facts"])
        self.rejected = Counter({Verdict(name): count for name, count in kept["rejected"].items()})
        self.out_of_order = kept["out_of_order"]
        self.identity_seqs = array("Q", (seq for seq, _ in kept["signatures"]))
        self.counters = array("Q", (counter for _, counter in kept["signatures"]))
        self._intro_seqs = [seq for seq, _, _ in kept["intros"]]
        self._intros = {seq: Introduction(tuple(keys), by) for seq, keys, by in kept["intros"]}
        self._by_kid = {PublicKey(key).kid: key for _, keys, _ in kept["intros"] for key in keys}


@dataclass(slots=True)
class SilentGroup:
    """The gaps of one scan group: number and length of those that ended, and the starts of those that are open.

    The end of a gap may arrive before its start: `ended_ns` holds the starts of those.
    """

    closed: int = 0
    silent_ns: int = 0
    open_ns: set[int] = field(default_factory=set)
    ended_ns: set[int] = field(default_factory=set)

    def note(self, gap: Gap) -> None:
        """Count a GAP."""
        if gap.to_ns is None:
            self._match(gap.from_ns, self.ended_ns, self.open_ns)
        else:
            self.closed += 1
            self.silent_ns += gap.to_ns - gap.from_ns
            self.note_end(gap.from_ns)

    def note_end(self, from_ns: int) -> None:
        """Count a gap as ended, and no more: it ended before the time that is asked for."""
        self._match(from_ns, self.open_ns, self.ended_ns)

    def _match(self, from_ns: int, there: set[int], here: set[int]) -> None:
        if from_ns in there:
            there.remove(from_ns)
        else:
            here.add(from_ns)


@dataclass(slots=True)
class ChainSummary:
    """One chain's time coverage, worst clock bound, scans and gaps."""

    types: Counter[str] = field(default_factory=Counter)
    unknown: int = 0  # Records with content that only a later version knows, and below some words for it.
    unknown_words: dict[str, None] = field(default_factory=dict)
    blocks: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    tail_seq: int = -1
    tail_ns: int | None = None
    newest_ns: int = 0
    bounds: Bounds = field(default_factory=Bounds)
    worst_bound_ns: int | None = None
    unbounded: int = 0
    stop_seq: int = -1
    gaps: dict[int | None, SilentGroup] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)  # Names of the scan groups, from the newest catalogue.
    set_back: list[list[int]] = field(default_factory=list)  # [UTC, ns behind the records] of starts of the gateway.
    corrected: list[list[int]] = field(default_factory=list)  # Of `Stretch`, those that were wrong; -1: no bound.

    def note(self, kind: RecordType, seq: int, content: Payload, unknown: Unknown, window: Window) -> None:
        """Count an authentic record; of what it says, only what lies in the window."""
        if kind is RecordType.STOP:
            self.stop_seq = max(self.stop_seq, seq)
        if isinstance(content, CataloguePart):
            self.names |= {number: f"{group.device} {group.name}" for number, group in content.groups}
        span = _span(content)
        if span is not None and not isinstance(content, Gap):
            self.newest_ns = span[1]
            if seq > self.tail_seq:
                self.tail_seq, self.tail_ns = seq, span[1]
        # A record that states no time came after the one before it, in the order of arrival.
        side = window.side(seq, *(span or (self.newest_ns, self.newest_ns)))
        if isinstance(content, Data):
            self.bounds.note(side, seq)
        if side == 0:
            self._note_content(kind, content, span, unknown)
        elif side < 0 and isinstance(content, Gap) and window.is_time:
            self.gaps.setdefault(content.group, SilentGroup()).note_end(content.from_ns)

    def _note_content(self, kind: RecordType, content: Payload, span: tuple[int, int] | None, unknown: Unknown) -> None:
        self.types[kind.name] += 1
        if unknown.words:
            self._note_unknown(kind, unknown)
        if isinstance(content, Gap):
            self.gaps.setdefault(content.group, SilentGroup()).note(content)
        elif span is not None:
            self.first_ns = span[0] if self.first_ns is None else min(self.first_ns, span[0])
            self.last_ns = span[1] if self.last_ns is None else max(self.last_ns, span[1])
        if isinstance(content, Data):
            self._note_data(content)
        elif isinstance(content, TimeChange):
            stretch = stretch_of(content)
            if stretch and abs(stretch.correction_ns) >= _WRONG_NS and len(self.corrected) < _CORRECTED_KEPT:
                self.corrected.append([-1 if each is None else each for each in astuple(stretch)])
        elif isinstance(content, Event) and content.kind == "time.behind":
            behind_ns = content.data.get("behind_ns")
            self.set_back.append([content.at_ns, behind_ns if isinstance(behind_ns, int) else 0])

    def _note_unknown(self, kind: RecordType, unknown: Unknown) -> None:
        self.unknown += 1
        for word in unknown.words:
            if len(self.unknown_words) < Unknown.LIMIT:
                self.unknown_words[f"{kind.name}: {word}"] = None

    def _note_data(self, data: Data) -> None:
        self.blocks += len(data.wire_blocks)
        bound_ns = data.time.bound_at(data.boot_ns)
        if bound_ns is None:
            self.unbounded += 1
        elif self.worst_bound_ns is None or bound_ns > self.worst_bound_ns:
            self.worst_bound_ns = bound_ns

    def snapshot(self) -> dict[str, Any]:
        """Plain values for the snapshot of the verifier."""
        kept = {each.name: getattr(self, each.name) for each in fields(self)}
        gaps = [[group, gap.closed, gap.silent_ns, list(gap.open_ns), list(gap.ended_ns)]
                for group, gap in self.gaps.items()]  # fmt: skip
        return {**kept, "types": dict(self.types), "gaps": gaps, "bounds": list(astuple(self.bounds))}

    @classmethod
    def restore(cls, kept: dict[str, Any]) -> ChainSummary:
        """Restore from the values of `snapshot`."""
        gaps = {group: SilentGroup(closed, silent_ns, set(opened), set(ended))
                for group, closed, silent_ns, opened, ended in kept["gaps"]}  # fmt: skip
        bounds = Bounds(*kept["bounds"])
        return cls(**{**kept, "types": Counter(kept["types"]), "gaps": gaps, "bounds": bounds})


def stated_ns(content: Payload) -> int | None:
    """UTC that a record states, or None where it states no time."""
    span = _span(content)
    return None if span is None else span[0]


def _span(content: Payload) -> tuple[int, int] | None:
    """UTC from which to which a record speaks, or None where it states no time."""
    match content:
        case Data():
            wires = content.wire_blocks
            return content.utc_ns, content.utc_ns + (max(0, wires[-1][2]) if wires else 0)
        case Gap():
            return content.from_ns, I64[1] if content.to_ns is None else content.to_ns
        case Event() | ConfigChange():
            return content.at_ns, content.at_ns
        case Epoch() | KeyChange() | Checkpoint() | Stop() | TimeChange():
            time = content.after if isinstance(content, TimeChange) else content.time
            return (time.as_of_ns + time.offset_ns,) * 2
    return None
