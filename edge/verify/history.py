"""What is held of one chain: keys in force, accepted records, forks, and records whose verdict is still open."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from edge.seal.keys import PublicKey
from edge.seal.record import RecordType
from edge.verify.runs import Hashes, Run, Runs
from edge.verify.spans import Spans
from edge.verify.summary import Facts
from edge.verify.verdicts import Verdict

FOREVER = 2**64


@dataclass(slots=True)
class Pending:
    """A record whose verdict may still change; `tried` are the keys that did not sign it."""

    type: RecordType
    seq: int
    hash: bytes
    data: bytes
    verdict: Verdict
    reason: str
    tried: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Introduction:
    """Session keys that sign what follows a record: one, or those of both histories of a fork."""

    keys: tuple[bytes, ...]
    by_identity: bool


class History:
    """One chain of one issuer."""

    def __init__(
        self, issuer: str, epoch: bytes, hash_of: Callable[[bytes, int], bytes | None] | None, pages_kept: int
    ) -> None:
        self.issuer = issuer
        self.epoch = epoch
        self.identity: PublicKey | None = None
        self.is_identity_final = False
        self.runs = Runs()
        self.linked = Spans()
        self.hashes = Hashes(None if hash_of is None else lambda seq: hash_of(epoch, seq), pages_kept)
        self.forks: dict[int, dict[bytes, bool]] = {}
        self.claims: dict[int, set[bytes]] = {}
        self.existed_to = -1
        self.pool: dict[int, list[Pending]] = {}
        self.facts = Facts()
        self.rejected: Counter[Verdict] = Counter()
        self.out_of_order = 0
        self.identity_seqs: array[int] = array("Q")
        self.counters: array[int] = array("Q")
        self._intro_seqs: list[int] = []
        self._intros: dict[int, Introduction] = {}
        self._by_kid: dict[bytes, bytes] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held and nothing is known: records were seen, and none of them counted."""
        return (
            not (self.pool or self.claims or self.identity_seqs or self._intros or self.identity) and self.runs.last < 0
        )

    # Keys

    def known_key(self, kid: bytes) -> PublicKey | None:
        """A session key of this chain, in force anywhere."""
        raw = self._by_kid.get(kid)
        return None if raw is None else PublicKey(raw)

    def keys_at(self, seq: int) -> tuple[bytes, ...]:
        """The session keys in force at a place, as far as is known."""
        at = bisect_left(self._intro_seqs, seq)
        return self._intros[self._intro_seqs[at - 1]].keys if at else ()

    def is_settled(self, seq: int) -> bool:
        """Whether the key in force there can not be another one: nothing is missing since it was introduced."""
        at = bisect_left(self._intro_seqs, seq)
        if not at or not self.is_identity_final:
            return False
        start = self._intro_seqs[at - 1]
        run = self.runs.at(seq - 1)
        return run is not None and run.first <= start and not any(self.linked.within(start, seq - 1))

    def introduce(self, seq: int, key: bytes, *, by_identity: bool) -> bool:
        """Take a session key in; whether that supersedes one for records after it."""
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
        """Take a session key back: the record that introduced it does not count any more."""
        if self._intros.pop(seq, None) is not None:
            self._intro_seqs.remove(seq)

    def next_identity_introduction(self, seq: int) -> int:
        """Where, after a place, the identity states the key in force again."""
        later = self._intro_seqs[bisect_right(self._intro_seqs, seq) :]
        return next((each for each in later if self._intros[each].by_identity), FOREVER)

    def count_identity_signature(self, seq: int, counter: int) -> None:
        """Note the counter of an EPOCH or CHECKPOINT."""
        at = bisect_left(self.identity_seqs, seq)
        if at == len(self.identity_seqs) or self.identity_seqs[at] != seq:
            self.identity_seqs.insert(at, seq)
            self.counters.insert(at, counter)

    def is_anchored(self, run: Run) -> bool:
        """Whether an identity-signed record vouches for what the first record of a run names."""
        at = bisect_right(self.identity_seqs, run.last) - 1
        return at >= 0 and self.identity_seqs[at] >= run.first

    # Records

    def has(self, seq: int, digest: bytes) -> bool:
        """Whether this very record is held."""
        if self.runs.at(seq) is not None and self.hashes.get(seq) == digest:
            return True
        return self.forks.get(seq, {}).get(digest, False) or any(each.hash == digest for each in self.pool.get(seq, ()))

    def place(self, seq: int, prev: bytes, digest: bytes) -> list[int]:
        """Accept a record; the places where it makes a fork visible."""
        if self.runs.at(seq) is not None:
            held = self.hashes.get(seq)
            if held is None or held == digest:
                self.linked.remove(seq, seq)
                return []
            return [*self._fork(seq, held, digest), *self._claim(seq - 1, prev)]
        below, above = self.runs.at(seq - 1), self.runs.at(seq + 1)
        forked = []
        if below is not None and below.last_hash != prev:
            forked += self._fork(seq - 1, below.last_hash, claimed=prev)
        if above is not None and above.prev != digest:
            forked += self._fork(seq, digest, claimed=above.prev)
        for claimed in self.claims.get(seq, ()):
            forked += self._fork(seq, digest, claimed=claimed) if claimed != digest else []
        self.runs.insert(seq, prev, digest)
        self.hashes[seq] = digest
        return forked

    def claim(self, seq: int, digest: bytes) -> list[int]:
        """Someone trusted says what a record's hash is; the places where that makes a fork visible."""
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
        """Take an accepted record out; its hash."""
        digest = self.hashes.get(seq) or b""
        self.runs.cut(seq, self.hashes.get, digest)
        self.linked.remove(seq, seq)
        self.hashes.forget(seq)
        self.withdraw(seq)
        at = bisect_left(self.identity_seqs, seq)
        if at < len(self.identity_seqs) and self.identity_seqs[at] == seq:
            del self.identity_seqs[at], self.counters[at]
        return digest

    def authentic(self, first: int, last: int) -> Iterator[int]:
        """The accepted records of a range that are not merely linked."""
        for run in list(self.runs):
            for low, high in self.linked.outside(max(run.first, first), min(run.last, last)):
                yield from range(low, high + 1)

    def accepted(self) -> Spans:
        """Where an accepted record is held."""
        return Spans((run.first, run.last) for run in self.runs)

    def held(self) -> Spans:
        """Where a record is held that is accepted, or may still be."""
        spans = self.accepted()
        for seq, waiting in self.pool.items():
            if any(each.verdict is Verdict.UNVERIFIABLE for each in waiting):
                spans.add(seq, seq)
        return spans

    # Keeping

    def snapshot(self) -> dict[str, Any]:
        """Plain values to keep."""
        return {
            "issuer": self.issuer, "epoch": self.epoch, "identity": self.identity.raw if self.identity else None,
            "final": self.is_identity_final, "runs": self.runs.snapshot(),
            "linked": [list(each) for each in self.linked], "hashes": self.hashes.snapshot(), "forks": self.forks,
            "existed_to": self.existed_to,
            "claims": {seq: sorted(claims) for seq, claims in self.claims.items()}, "facts": self.facts.snapshot(),
            "rejected": {str(verdict): count for verdict, count in self.rejected.items()},
            "out_of_order": self.out_of_order,
            "signatures": [list(each) for each in zip(self.identity_seqs, self.counters, strict=True)],
            "intros": [[seq, list(self._intros[seq].keys), self._intros[seq].by_identity] for seq in self._intro_seqs],
        }  # fmt: skip

    def restore(self, kept: dict[str, Any]) -> None:
        """Take plain values back."""
        self.identity = PublicKey(kept["identity"]) if kept["identity"] else None
        self.is_identity_final = kept["final"]
        self.runs.restore(kept["runs"])
        self.linked = Spans((first, last) for first, last in kept["linked"])
        self.hashes.restore(kept["hashes"])
        self.forks = {seq: dict(hashes) for seq, hashes in kept["forks"].items()}
        self.existed_to = kept["existed_to"]
        self.claims = {seq: set(claims) for seq, claims in kept["claims"].items()}
        self.facts = Facts.restore(kept["facts"])
        self.rejected = Counter({Verdict(name): count for name, count in kept["rejected"].items()})
        self.out_of_order = kept["out_of_order"]
        self.identity_seqs = array("Q", (seq for seq, _ in kept["signatures"]))
        self.counters = array("Q", (counter for _, counter in kept["signatures"]))
        self._intro_seqs = [seq for seq, _, _ in kept["intros"]]
        self._intros = {seq: Introduction(tuple(keys), by) for seq, keys, by in kept["intros"]}
        self._by_kid = {PublicKey(key).kid: key for _, keys, _ in kept["intros"] for key in keys}
