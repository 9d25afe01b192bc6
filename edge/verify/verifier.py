"""The verifier: records in any order, from any number of gateways, end with the same verdicts."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import cbor2

from edge.seal.codec import decode, unpack
from edge.seal.cose import Frame, parse
from edge.seal.payloads import Checkpoint, Epoch, KeyChange, Loss
from edge.seal.record import Garbage, Malformed, RecordType
from edge.verify.absences import absences_of
from edge.verify.history import FOREVER, History, Pending
from edge.verify.judge import allowed_keys, judge, refusal
from edge.verify.report import Report, report_on
from edge.verify.spans import Spans
from edge.verify.trust import Trust
from edge.verify.verdicts import Absence, Judgement, Verdict
from edge.verify.waiting import Waiting

PENDING_BYTES = 64 * 2**20
HASH_PAGES_KEPT = 64
REMEMBERED_REJECTS = 16_384

HashOf = Callable[[bytes, int], bytes | None]
"""(epoch, seq) to the hash of an archived record, or None."""

Work = list[tuple[int, int]]
"""Ranges whose pending records are to be judged again."""


class Verifier:
    """Judges records as they come, and those before them again when a later one changes what is known.

    Memory is bounded by what is out of the ordinary: contiguous authentic records cost nothing each where `hash_of`
    can be asked for their hashes, and 32 bytes each where it can not.

    Args:
        trust: whose signature counts.
        fast: check identity signatures and hashes only, and call what they fix LINKED.
        pending_bytes: how much to hold of records whose key is not known yet; the oldest of them stay UNVERIFIABLE.
        hash_of: the caller's index of accepted records.
        hash_pages_kept: of how many times 256 records per chain to keep the hashes where `hash_of` can be asked.
    """

    def __init__(
        self, trust: Trust, *, fast: bool = False, pending_bytes: int = PENDING_BYTES, hash_of: HashOf | None = None,
        hash_pages_kept: int = HASH_PAGES_KEPT,
    ) -> None:  # fmt: skip
        self._trust = trust
        self._is_fast = fast
        self._defers = fast
        self._hash_of = hash_of
        self._hash_pages_kept = hash_pages_kept
        self._histories: dict[tuple[str, bytes], History] = {}
        self._declared: defaultdict[tuple[str, bytes], Spans] = defaultdict(Spans)
        self._waiting = Waiting(pending_bytes)
        self._rejects: OrderedDict[bytes, None] = OrderedDict()
        self._strays: Counter[Verdict] = Counter()

    def add(self, data: bytes) -> list[Judgement]:
        """Judge a record: first its own verdict, then those of earlier records that it changed."""
        digest = hashlib.sha256(data).digest()
        try:
            frame = parse(data)
        except Garbage as error:
            verdict = Verdict.DUPLICATE if digest in self._rejects else Verdict.GARBAGE
            self._strays[verdict] += 1
            self._remember(digest)
            return [Judgement(verdict, "", b"", error.offset, None, digest, reason=error.why)]
        history = self._history(frame.issuer, frame.epoch)
        if digest in self._rejects or history.has(frame.seq, digest):
            self._tally(history)[Verdict.DUPLICATE] += 1
            return [_judgement(frame, digest, Verdict.DUPLICATE, "the same bytes were seen before")]
        if frame.seq < history.runs.last:
            history.out_of_order += 1
        changes: list[Judgement] = []
        work: Work = []
        if self._defers and not frame.type.is_identity_signed:
            first = self._hold(history, frame, digest, data, Verdict.UNVERIFIABLE, "not checked yet", (), changes)
        else:
            verdict, reason, is_final, tried = judge(self._trust, history, frame)
            if verdict is Verdict.AUTHENTIC:
                first = self._accept(history, frame, digest, work, changes)
            elif is_final:
                first = self._reject(history, frame, digest, verdict, reason)
            else:
                first = self._hold(history, frame, digest, data, verdict, reason, tried, changes)
        if work and history.pool:
            self._judge_waiting(history, work, changes)
        return [first, *changes] if changes else [first]

    def witness(self, data: bytes) -> Judgement:
        """A CHECKPOINT held elsewhere, given after the records: it says what existed, and is not one of them."""
        digest = hashlib.sha256(data).digest()
        try:
            frame = parse(data)
        except Garbage as error:
            return Judgement(Verdict.GARBAGE, "", b"", error.offset, None, digest, reason=error.why)
        history = self._history(frame.issuer, frame.epoch)
        verdict, reason, _, _ = judge(self._trust, history, frame)
        if frame.type is not RecordType.CHECKPOINT:
            return _judgement(frame, digest, Verdict.UNVERIFIABLE, "not a checkpoint")
        if verdict is Verdict.AUTHENTIC:
            self._histories.setdefault((frame.issuer, frame.epoch), history)
            history.claim(frame.seq - 1, frame.prev)
            history.claim(frame.seq, digest)
        return _judgement(frame, digest, verdict, reason)

    @property
    def waiting_bytes(self) -> int:
        """How much is held of records whose verdict may still change."""
        return self._waiting.size_bytes

    def missing(self, issuer: str | None = None, epoch: bytes | None = None) -> list[Absence]:
        """Every range of records that is known to have existed and is not held, exactly."""
        absences = []
        for history in self._histories.values():
            if issuer in (None, history.issuer) and epoch in (None, history.epoch):
                absences += self._absent(history, 0, FOREVER)
        return absences

    def _absent(self, history: History, first: int, last: int) -> list[Absence]:
        return absences_of(history, self._declared[history.issuer, history.epoch], first, last)

    def report(self, *, epoch: bytes | None = None, first: int = 0, last: int | None = None) -> Report:
        """What is true of everything added so far, or of one chain or range of it."""
        if self._is_fast:
            self._judge_deferred()
        wanted = [each for each in self._histories.values() if epoch in (None, each.epoch)]
        to = FOREVER if last is None else last
        return report_on(
            [(each, self._absent(each, first, to)) for each in wanted], dict(self._strays), first=first, last=to
        )

    def _judge_deferred(self) -> None:
        self._defers = False
        for history in self._histories.values():
            self._judge_waiting(history, [(0, FOREVER)], [])
        self._defers = True

    # Judging

    def _history(self, issuer: str, epoch: bytes) -> History:
        history = self._histories.get((issuer, epoch))
        return history if history is not None else History(issuer, epoch, self._hash_of, self._hash_pages_kept)

    def _tally(self, history: History) -> Counter[Verdict]:
        # A history is kept for records that count or wait; a flood of invented epochs must leave nothing behind.
        return history.rejected if (history.issuer, history.epoch) in self._histories else self._strays

    def _forget_if_empty(self, history: History) -> None:
        if history.is_empty and self._histories.pop((history.issuer, history.epoch), None) is not None:
            self._strays += history.rejected

    def _remember(self, digest: bytes) -> None:
        self._rejects[digest] = None
        if len(self._rejects) > REMEMBERED_REJECTS:
            self._rejects.popitem(last=False)

    def _judge_waiting(self, history: History, work: Work, changes: list[Judgement]) -> None:
        while work:
            low, high = work.pop()
            places = range(low, high + 1) if high - low < len(history.pool) else sorted(history.pool)
            for seq in [each for each in places if low <= each <= high and each in history.pool]:
                for pending in tuple(history.pool.get(seq, ())):
                    if not self._defers or pending.type.is_identity_signed:
                        self._judge_again(history, pending, work, changes)

    def _judge_again(self, history: History, pending: Pending, work: Work, changes: list[Judgement]) -> None:
        frame = parse(pending.data)
        verdict, reason, is_final, tried = judge(self._trust, history, frame, pending.tried)
        if verdict is Verdict.AUTHENTIC:
            self._waiting.release(history, pending)
            changes.append(self._accept(history, frame, pending.hash, work, changes))
            return
        pending.tried = tried
        if pending.verdict is Verdict.LINKED:
            if verdict is Verdict.UNVERIFIABLE:
                return
            history.remove(pending.seq)
            self._drop_loose_links(history, changes)
        if is_final:
            self._waiting.release(history, pending)
            changes.append(self._reject(history, frame, pending.hash, verdict, reason))
        elif verdict is not pending.verdict:
            pending.verdict, pending.reason = verdict, reason
            changes.append(_judgement(frame, pending.hash, verdict, reason))

    # Verdicts

    def _accept(self, history: History, frame: Frame, digest: bytes, work: Work, changes: list[Judgement]) -> Judgement:
        try:
            payload = unpack(frame.payload, frame.enc)
            content = decode(frame.type, payload)
        except Malformed as error:
            return self._reject(history, frame, digest, Verdict.GARBAGE, f"signed, but {error}")
        refused = refusal(self._trust, frame, content)
        if refused is not None:
            return self._reject(history, frame, digest, *refused)
        self._histories.setdefault((frame.issuer, frame.epoch), history)
        forked = history.place(frame.seq, frame.prev, digest)
        if isinstance(content, Loss):
            self._declare(history, frame.seq, content)
        elif isinstance(content, Epoch | KeyChange | Checkpoint):
            self._take_key(history, frame, content, work, changes)
        history.facts.note(frame.type, frame.seq, content)
        run = history.runs.at(frame.seq)
        if history.pool and run is not None:
            work.append((frame.seq, run.last + 1))
            self._link(history, run.first, changes)
        for seq in forked:
            changes += self._fork_found(history, seq, digest)
        is_fork = frame.seq in history.forks
        return Judgement(
            Verdict.FORK if is_fork else Verdict.AUTHENTIC, frame.issuer, frame.epoch, frame.seq, frame.type, digest,
            payload, "another record claims this place" if is_fork else "", content,
        )  # fmt: skip

    def _fork_found(self, history: History, seq: int, digest: bytes) -> list[Judgement]:
        return [
            Judgement(Verdict.FORK, history.issuer, history.epoch, seq, None, held, reason="two histories meet here")
            for held, is_held in history.forks[seq].items()
            if is_held and held != digest
        ]

    def _reject(self, history: History, frame: Frame, digest: bytes, verdict: Verdict, reason: str) -> Judgement:
        self._tally(history)[verdict] += 1
        self._remember(digest)
        return _judgement(frame, digest, verdict, reason)

    def _hold(
        self, history: History, frame: Frame, digest: bytes, data: bytes, verdict: Verdict, reason: str,
        tried: tuple[bytes, ...], changes: list[Judgement],
    ) -> Judgement:  # fmt: skip
        self._histories.setdefault((frame.issuer, frame.epoch), history)
        for owner in self._waiting.add(history, Pending(frame.type, frame.seq, digest, data, verdict, reason, tried)):
            self._forget_if_empty(owner)
        if history.runs.at(frame.seq + 1) is not None:
            linked: list[Judgement] = []
            self._link(history, frame.seq + 1, linked)
            if linked:
                changes += linked[1:]
                return linked[0]
        return _judgement(frame, digest, verdict, reason)

    # Keys and links

    def _declare(self, history: History, seq: int, loss: Loss) -> None:
        is_own = loss.epoch in (None, history.epoch)
        last = min(loss.last, seq - 1) if is_own else loss.last
        if loss.first <= last:
            self._declared[history.issuer, history.epoch if is_own else loss.epoch or b""].add(loss.first, last)

    def _take_key(
        self, history: History, frame: Frame, content: Epoch | KeyChange | Checkpoint, work: Work,
        changes: list[Judgement],
    ) -> None:  # fmt: skip
        if isinstance(content, Epoch):
            self._settle_identity(history, frame, content, work, changes)
        elif isinstance(content, Checkpoint) and history.identity is None:
            history.identity = self._trust.pinned(frame.kid, frame.issuer)
        if not isinstance(content, KeyChange):
            history.count_identity_signature(frame.seq, content.counter)
        by_identity = frame.type.is_identity_signed
        supersedes = history.introduce(frame.seq, content.session.raw, by_identity=by_identity)
        until = history.next_identity_introduction(frame.seq)
        if supersedes and history.runs.last > frame.seq:
            self._drop(history, frame.seq + 1, until - 1, changes)
        if history.pool:
            work.append((frame.seq + 1, until))

    def _settle_identity(
        self, history: History, frame: Frame, epoch: Epoch, work: Work, changes: list[Judgement]
    ) -> None:
        if epoch.previous is not None:
            before = self._history(frame.issuer, epoch.previous.epoch)
            self._histories.setdefault((before.issuer, before.epoch), before)
            for seq in before.claim(epoch.previous.seq, epoch.previous.hash):
                changes += self._fork_found(before, seq, b"")
        if history.is_identity_final:
            return
        [identity], _ = allowed_keys(self._trust, history, frame)
        if history.identity not in (None, identity):
            self._drop(history, 1, FOREVER, changes, with_identity_signed=True)
        history.identity, history.is_identity_final = identity, True
        if history.pool:
            work.append((0, FOREVER))

    def _drop(
        self, history: History, first: int, last: int, changes: list[Judgement], *, with_identity_signed: bool = False
    ) -> None:
        """Take back what only a superseded key had signed."""
        kept = () if with_identity_signed else set(history.identity_seqs)
        for seq in list(history.authentic(first, last)):
            if seq not in kept:
                digest = history.remove(seq)
                history.rejected[Verdict.UNTRUSTED] += 1
                self._remember(digest)
                why = "signed by a key that had been superseded"
                changes.append(
                    Judgement(Verdict.UNTRUSTED, history.issuer, history.epoch, seq, None, digest, reason=why)
                )
        self._drop_loose_links(history, changes)

    def _link(self, history: History, seq: int, changes: list[Judgement]) -> None:
        """Walk back from a run that the identity vouches for, over records whose own key is unknown."""
        run = history.runs.at(seq)
        while run is not None and run.first > 0 and history.is_anchored(run) and not history.runs.at(run.first - 1):
            found = [each for each in history.pool.get(run.first - 1, ()) if each.hash == run.prev]
            if not found or found[0].verdict is not Verdict.UNVERIFIABLE:
                return
            pending = found[0]
            frame = parse(pending.data)
            for forked in history.place(pending.seq, frame.prev, pending.hash):
                changes += self._fork_found(history, forked, b"")
            history.linked.add(pending.seq, pending.seq)
            pending.verdict = Verdict.LINKED
            reason = "its key is not known, a later checkpoint fixes its bytes"
            changes.append(_judgement(frame, pending.hash, Verdict.LINKED, reason))
            if self._defers:
                self._read_linked(history, frame)
                self._waiting.release(history, pending)
            run = history.runs.at(pending.seq)

    def _read_linked(self, history: History, frame: Frame) -> None:
        """In fast mode the hashes count as the signature, also for what says that records are lost or the end."""
        if frame.type in (RecordType.LOSS, RecordType.STOP):
            try:
                content = decode(frame.type, frame.payload)
            except Malformed:
                return  # It says nothing, and is linked all the same.
            history.facts.note(frame.type, frame.seq, content)
            if isinstance(content, Loss):
                self._declare(history, frame.seq, content)

    def _drop_loose_links(self, history: History, changes: list[Judgement]) -> None:
        """Linked records that no identity-signed record reaches any more wait again."""
        for low, high in history.linked:
            for seq in range(high, low - 1, -1):
                run = history.runs.at(seq)
                if run is None or history.is_anchored(run):
                    continue
                history.remove(seq)
                for pending in history.pool.get(seq, ()):
                    if pending.verdict is Verdict.LINKED:
                        pending.verdict = Verdict.UNVERIFIABLE
                        changes.append(
                            _judgement(parse(pending.data), pending.hash, pending.verdict, "its key is not known yet")
                        )

    # Keeping

    def snapshot(self) -> bytes:
        """Everything known, to continue after a restart. Whoever keeps it is trusted with it."""
        return cbor2.dumps(
            {
                "histories": [each.snapshot() for each in self._histories.values()],
                "declared": [[*key, [list(span) for span in spans]] for key, spans in self._declared.items()],
                "waiting": list(self._waiting.snapshot()),
                "rejects": list(self._rejects),
                "strays": {str(verdict): count for verdict, count in self._strays.items()},
            }
        )

    def restore(self, kept: bytes) -> None:
        """Continue, in a new verifier with the same trust, from a snapshot."""
        state: dict[str, Any] = cbor2.loads(kept)
        for each in state["histories"]:
            history = self._history(each["issuer"], each["epoch"])
            history.restore(each)
            self._histories[history.issuer, history.epoch] = history
        for issuer, epoch, spans in state["declared"]:
            self._declared[issuer, epoch] = Spans((first, last) for first, last in spans)
        for issuer, epoch, *pending in state["waiting"]:
            self._waiting.restore(self._histories[issuer, epoch], pending)
        self._rejects = OrderedDict.fromkeys(state["rejects"])
        self._strays = Counter({Verdict(name): count for name, count in state["strays"].items()})


def _judgement(frame: Frame, digest: bytes, verdict: Verdict, reason: str) -> Judgement:
    return Judgement(verdict, frame.issuer, frame.epoch, frame.seq, frame.type, digest, reason=reason)
