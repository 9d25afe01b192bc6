"""The verifier: records in any order, from any number of gateways, end with the same verdicts."""

# Theory of operation
#
# A record is a COSE_Sign1 (RFC 9052, 4.2) with a payload in deterministic CBOR (RFC 8949, 4.2.1). Its protected header
# names issuer, chain (`epoch`), place in the chain (`seq`), key id, and the SHA-256 of the record before it (`prev`).
# docs/explanation/record-format.md defines the format, the rules for keys and the verdicts.
#
# What is known of a chain (`ChainState`), and what changes it:
#   identity      The key that signs EPOCH and CHECKPOINT. It is provisional while only a pinned key is known, and final
#                 once the EPOCH is authentic. A final identity never changes.
#   session keys  EPOCH, KEY and CHECKPOINT introduce the key for the records after them, up to the next introduction.
#                 A key is settled at a place when no record is absent between its introduction and that place: an
#                 absent record may have been a KEY.
#   runs          Accepted records, joined while each `prev` is the hash of the record before.
#   linked        Those of them that were accepted by their hash only.
#   undecided     Records whose verdict may still change, in bounded memory; the oldest keep the verdict they have.
#   claims        Hashes that an authentic record states for other places: `prev`, and the head that an EPOCH names.
#   forks         Places for which two different hashes are authentic or claimed.
#
# How a record gets its verdict:
#   1. Bytes that are not exactly one record: GARBAGE. Bytes seen before: DUPLICATE. Only cose.parse and the search for
#      the certificates of an EPOCH read bytes whose signature has not been verified.
#   2. The keys allowed at its place are tried (RFC 9052, 4.4; ECDSA signatures with a high S are refused). If one of
#      them signed it, the payload is decoded and the record is accepted: AUTHENTIC. It is GARBAGE when the payload is
#      not in the format, UNTRUSTED when no trusted authority vouches for the identity of an EPOCH, and FORK when a
#      CHECKPOINT contradicts its own place.
#   3. If none of them signed it: UNTRUSTED when another known key did, or when it names a key that is not allowed and
#      the key is settled; ALTERED when it names an allowed key; UNVERIFIABLE while its key is not known. The verdict is
#      final when the key is settled; until then the record is undecided.
#   4. An accepted record may introduce a key. Undecided records after it are checked again, and records accepted under
#      a key that it supersedes become UNTRUSTED.
#   5. From a run that contains an identity-signed record the hashes lead back: an UNVERIFIABLE record that has the hash
#      which the first record of the run names is LINKED. Once its key is known the signature decides; a link never
#      repairs an ALTERED record.
#   6. Two authentic records for one place, or an authentic record that another one contradicts by hash: FORK. Both are
#      kept, and the place stays in the report.
#
# Fast mode checks identity-signed records and hashes: all other records stay undecided until step 5 reaches them. Only
# a report checks the signatures of those that it does not reach.
#
# What can never happen:
#   - A record without the signature of a key allowed at its place is AUTHENTIC.
#   - A rejected record, or a flood of invented chains, changes the state of a chain or takes memory without a bound.
#   - The order of arrival changes the final verdicts. An AUTHENTIC record can still fall, by a KEY that arrives late.
#   - An absent record goes unreported when a later record, a later EPOCH or a witness proves that it existed. Whether
#     records followed the last one held is not known (TAIL_UNKNOWN), unless that is a STOP (CLOSED).

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Container
from typing import Any

import cbor2

from edge.intervals import Interval, IntervalSet
from edge.seal.cbor import Unknown
from edge.seal.codec import decode, unpack
from edge.seal.cose import MAX_SEQ, Envelope, parse
from edge.seal.payloads import Checkpoint, Epoch, KeyChange, Loss
from edge.seal.record import Garbage, Malformed, RecordType
from edge.verify.chain_state import ChainState, stated_ns
from edge.verify.report import PartOfChain, Report, absences_of, places_of, report_on
from edge.verify.trust import Trust, allowed_keys, check_signature, may_go_on, refusal
from edge.verify.undecided import UndecidedRecord, UndecidedRecords
from edge.verify.verdicts import Absence, Judgement, Verdict
from edge.verify.window import EVERYTHING, Window

PENDING_BYTES = 64 * 2**20
HASH_PAGES_KEPT = 64
REMEMBERED_REJECTS = 16_384

_INTRODUCING = (Epoch, KeyChange, Checkpoint)

HashOf = Callable[[str, bytes, int], bytes | None]
"""(issuer, epoch, seq) to the hash of an archived record, or None."""


class Verifier:
    """Gives each record a verdict as it comes, and earlier records a new one when a later record changes theirs.

    Contiguous authentic records take no memory each where `hash_of` can be asked for their hashes, and 32 bytes each
    where it cannot; everything else is bounded.

    Args:
        trust: the trust anchors.
        fast: check identity signatures and hashes only; records that the hashes reach are LINKED.
        pending_bytes: how much to hold of undecided records; the oldest of them keep their verdict.
        holds_for_good: undecided records are held until they are decided. `pending_bytes` is then the limit of each
            known gateway, and of all others together: what has no room there is UNVERIFIABLE and not held.
        hash_of: the caller's index of accepted records.
        hash_pages_kept: how many pages of 256 hashes to keep per chain where `hash_of` can be asked.
        window: what the report is about. With one, each rejected record takes 8 bytes.
    """

    def __init__(
        self, trust: Trust, *, fast: bool = False, pending_bytes: int = PENDING_BYTES, hash_of: HashOf | None = None,
        hash_pages_kept: int = HASH_PAGES_KEPT, window: Window = EVERYTHING, holds_for_good: bool = False,
    ) -> None:  # fmt: skip
        self._trust = trust
        self._is_fast = fast
        self._defers = fast
        self._hash_of = hash_of
        self._hash_pages_kept = hash_pages_kept
        self._window = window
        self._chains: dict[tuple[str, bytes], ChainState] = {}
        self._declared: defaultdict[tuple[str, bytes], IntervalSet] = defaultdict(IntervalSet)
        self._removed: defaultdict[tuple[str, bytes], IntervalSet] = defaultdict(IntervalSet)
        self._undecided = UndecidedRecords(pending_bytes, self._space_of if holds_for_good else None)
        self._proven: set[str] = set()  # Issuers of accepted records.
        self._rejects: OrderedDict[bytes, None] = OrderedDict()
        self._unattributed: Counter[Verdict] = Counter()

    def add(self, data: bytes, frame: Envelope | None = None, arrived_ns: int | None = None) -> list[Judgement]:
        """The verdict on a record, then the new verdicts of earlier records that it changed.

        Args:
            data: its exact bytes.
            frame: what `parse` made of them, where the caller asked already.
            arrived_ns: UTC before which it did not arrive. A revocation counts from then on, and without it from the
                time that the record states.
        """
        digest = hashlib.sha256(data).digest()
        try:
            frame = frame or parse(data)
        except Garbage as error:
            verdict = Verdict.DUPLICATE if digest in self._rejects else Verdict.GARBAGE
            self._unattributed[verdict] += 1
            self._remember(digest)
            return [Judgement(verdict, "", b"", error.offset, None, digest, reason=error.why)]
        chain = self._chain(frame.issuer, frame.epoch)
        if digest in self._rejects or chain.has(frame.seq, digest):
            self._count(chain, frame.seq, Verdict.DUPLICATE)
            return [_judgement(frame, digest, Verdict.DUPLICATE, "the same bytes were seen before")]
        if frame.seq < chain.runs.last:
            chain.out_of_order += 1
        changes: list[Judgement] = []
        recheck_ranges: list[Interval] = []
        if self._defers and not frame.type.is_identity_signed:
            first = self._hold(chain, frame, digest, data, Verdict.UNVERIFIABLE, "not checked yet", (), changes,
                               arrived_ns)  # fmt: skip
        else:
            verdict, reason, is_final, keys_tried = check_signature(self._trust, chain, frame)
            if verdict is Verdict.AUTHENTIC:
                first = self._accept(chain, frame, digest, recheck_ranges, changes, arrived_ns)
            elif is_final:
                first = self._reject(chain, frame, digest, verdict, reason)
            else:
                first = self._hold(chain, frame, digest, data, verdict, reason, keys_tried, changes, arrived_ns)
        if recheck_ranges and chain.undecided:
            self._recheck(chain, recheck_ranges, changes)
        return [first, *changes] if changes else [first]

    def witness(self, data: bytes) -> Judgement:
        """Take a CHECKPOINT that was held elsewhere, after the records: it proves what existed, and is not counted."""
        digest = hashlib.sha256(data).digest()
        try:
            frame = parse(data)
        except Garbage as error:
            return Judgement(Verdict.GARBAGE, "", b"", error.offset, None, digest, reason=error.why)
        chain = self._chain(frame.issuer, frame.epoch)
        verdict, reason, _, _ = check_signature(self._trust, chain, frame)
        if frame.type is not RecordType.CHECKPOINT:
            return _judgement(frame, digest, Verdict.UNVERIFIABLE, "not a checkpoint")
        if verdict is Verdict.AUTHENTIC:
            self._chains.setdefault((frame.issuer, frame.epoch), chain)
            chain.claim(frame.seq - 1, frame.prev)
            chain.claim(frame.seq, digest)
        return _judgement(frame, digest, verdict, reason)

    def note_removed(self, issuer: str, epoch: bytes, first: int, last: int) -> None:
        """A statement that counts says that these records were held and removed."""
        self._removed[issuer, epoch].add(first, last)

    def is_contradicted(self, issuer: str, epoch: bytes, last: int, digest: bytes) -> bool:
        """Whether the record after a place is held, and names another hash for that place."""
        after = self._chain(issuer, epoch).runs.at(last + 1)
        return after is not None and after.first == last + 1 and after.prev != digest

    def holds(self, issuer: str, epoch: bytes, first: int, last: int) -> bool:
        """Whether all records of a range are accepted, and no place of it has two histories."""
        chain = self._chain(issuer, epoch)
        is_forked = any(first <= seq <= last for seq in chain.forks)
        return not is_forked and not any(chain.accepted().missing(first, last))

    def standing(self, issuer: str, epoch: bytes, seq: int) -> Verdict:
        """The verdict on what is accepted at a place; UNTRUSTED where nothing is."""
        chain = self._chain(issuer, epoch)
        if chain.runs.at(seq) is None:
            return Verdict.UNTRUSTED
        return Verdict.FORK if seq in chain.forks else Verdict.LINKED if seq in chain.linked else Verdict.AUTHENTIC

    def change_trust(self, trust: Trust) -> tuple[list[str], list[Judgement]]:
        """Go on with other trust anchors; what was accepted stays, and what was refused may come again.

        Returns the issuers that have a chain of which no further record is accepted, and new verdicts as `add` does.
        """
        self._trust = trust
        self._rejects.clear()
        changes: list[Judgement] = []
        for chain in self._chains.values():
            chain.is_distrusted = not may_go_on(trust, chain)
            if chain.undecided:
                self._recheck(chain, [(0, MAX_SEQ)], changes)
        return sorted({chain.issuer for chain in self._chains.values() if chain.is_distrusted}), changes

    def may_vouch_for(self, issuer: str) -> bool:
        """Whether a trust anchor can be for this issuer."""
        return self._trust.may_vouch_for(issuer)

    def is_undecided(self, digest: bytes) -> bool:
        """Whether a record with this hash is held because its verdict may still change."""
        return digest in self._undecided

    def may_hold_place(self, frame: Envelope) -> bool:
        """Whether records of a trusted chain that are not held yet may still show that this one belongs to it."""
        chain = self._chain(frame.issuer, frame.epoch)
        is_after_stop = 0 <= chain.summary.stop_seq < frame.seq
        return chain.is_proven and chain.runs.at(frame.seq) is None and not is_after_stop

    def missing(self, issuer: str | None = None, epoch: bytes | None = None) -> list[Absence]:
        """Every range of records that is known to have existed and is not held, exactly."""
        absences = []
        for chain in self._chains.values():
            if issuer in (None, chain.issuer) and epoch in (None, chain.epoch):
                absences += self._absent(chain, 0, MAX_SEQ)
        return absences

    def _absent(self, chain: ChainState, first: int, last: int) -> list[Absence]:
        key = chain.issuer, chain.epoch
        return absences_of(chain, self._declared[key], self._removed[key], first, last)

    def report(self, *, epoch: bytes | None = None) -> Report:
        """What is true of everything added so far, or of one chain, within the window.

        Raises:
            SeveralChains: the window is a range of places, and there is more than one chain that has them.
        """
        if self._is_fast:
            self._recheck_deferred()
        wanted = [each for each in self._chains.values() if epoch in (None, each.epoch)]
        places = zip(wanted, places_of(wanted, self._window), strict=True)
        parts = [PartOfChain(chain, *at, self._absent(chain, *at)) for chain, at in places if at]
        return report_on(
            parts, wanted, dict(self._unattributed), self._window, self._trust.authorities.revocation_lists
        )

    def _recheck_deferred(self) -> None:
        self._defers = False
        for chain in self._chains.values():
            self._recheck(chain, [(0, MAX_SEQ)], [])
        self._defers = True

    # Bookkeeping

    def _chain(self, issuer: str, epoch: bytes) -> ChainState:
        chain = self._chains.get((issuer, epoch))
        return (
            chain
            if chain is not None
            else ChainState(
                issuer, epoch, self._hash_of, self._hash_pages_kept, keeps_places=self._window is not EVERYTHING
            )
        )

    def is_known(self, issuer: str) -> bool:
        """Whether a record of this gateway was accepted, or a trust anchor is bound to it."""
        return issuer in self._proven or self._trust.is_bound(issuer)

    def _space_of(self, issuer: str) -> str | None:
        if not self.may_vouch_for(issuer):
            return None
        return issuer if self.is_known(issuer) else ""

    def _count(self, chain: ChainState, seq: int, verdict: Verdict) -> None:
        # A chain is kept once a record of it is accepted or undecided: a flood of invented epochs must not stay.
        if (chain.issuer, chain.epoch) in self._chains:
            chain.reject(seq, verdict)
        else:
            self._unattributed[verdict] += 1

    def _forget_if_empty(self, chain: ChainState) -> None:
        if chain.is_empty and self._chains.pop((chain.issuer, chain.epoch), None) is not None:
            self._unattributed += chain.rejected

    def _remember(self, digest: bytes) -> None:
        self._rejects[digest] = None
        if len(self._rejects) > REMEMBERED_REJECTS:
            self._rejects.popitem(last=False)

    # Verdicts

    def _recheck(self, chain: ChainState, ranges: list[Interval], changes: list[Judgement]) -> None:
        while ranges:
            low, high = ranges.pop()
            places = range(low, high + 1) if high - low < len(chain.undecided) else sorted(chain.undecided)
            for seq in [each for each in places if low <= each <= high and each in chain.undecided]:
                for record in tuple(chain.undecided.get(seq, ())):
                    if not self._defers or record.type.is_identity_signed:
                        self._recheck_record(chain, record, ranges, changes)

    def _recheck_record(
        self, chain: ChainState, record: UndecidedRecord, recheck_ranges: list[Interval], changes: list[Judgement]
    ) -> None:
        frame = parse(record.data)
        verdict, reason, is_final, keys_tried = check_signature(self._trust, chain, frame, record.keys_tried)
        if verdict is Verdict.AUTHENTIC:
            self._undecided.release(chain, record)
            changes.append(self._accept(chain, frame, record.hash, recheck_ranges, changes, record.arrived_ns))
            return
        record.keys_tried = keys_tried
        if record.verdict is Verdict.LINKED:
            if verdict is Verdict.UNVERIFIABLE:
                return
            chain.remove(record.seq)
            self._drop_loose_links(chain, changes)
        if is_final:
            self._undecided.release(chain, record)
            changes.append(self._reject(chain, frame, record.hash, verdict, reason))
        elif verdict is not record.verdict:
            self._undecided.change(record, verdict, reason)
            changes.append(_judgement(frame, record.hash, verdict, reason))

    def _accept(
        self,
        chain: ChainState,
        frame: Envelope,
        digest: bytes,
        recheck_ranges: list[Interval],
        changes: list[Judgement],
        arrived_ns: int | None,
    ) -> Judgement:
        unknown = Unknown()
        try:
            payload = unpack(frame.payload, frame.enc)
            content = decode(frame.type, payload, unknown)
        except Malformed as error:
            return self._reject(chain, frame, digest, Verdict.GARBAGE, f"signed, but {error}")
        refused = refusal(self._trust, chain, frame, content, arrived_ns)
        if refused is not None:
            return self._reject(chain, frame, digest, *refused)
        self._chains.setdefault((frame.issuer, frame.epoch), chain)
        self._proven.add(frame.issuer)
        forked = chain.accept(frame.seq, frame.prev, digest)
        if isinstance(content, Loss):
            self._declare(chain, frame.seq, content)
        elif isinstance(content, _INTRODUCING):
            self._introduce_key(chain, frame, content, recheck_ranges, changes)
        chain.summary.note(frame.type, frame.seq, content, unknown, self._window)
        run = chain.runs.at(frame.seq)
        if chain.undecided and run is not None:
            recheck_ranges.append((frame.seq, run.last + 1))
            self._link(chain, run.first, changes)
        for seq in forked:
            changes += self._fork_found(chain, seq, digest)
        is_fork = frame.seq in chain.forks
        return Judgement(
            Verdict.FORK if is_fork else Verdict.AUTHENTIC, frame.issuer, frame.epoch, frame.seq, frame.type, digest,
            payload, "another record claims this place" if is_fork else "", content, tuple(unknown.words),
        )  # fmt: skip

    def _fork_found(self, chain: ChainState, seq: int, digest: bytes) -> list[Judgement]:
        return [
            Judgement(Verdict.FORK, chain.issuer, chain.epoch, seq, None, held, reason="two histories meet here")
            for held, is_held in chain.forks.get(seq, {}).items()
            if is_held and held != digest
        ]

    def _reject(self, chain: ChainState, frame: Envelope, digest: bytes, verdict: Verdict, reason: str) -> Judgement:
        self._count(chain, frame.seq, verdict)
        self._remember(digest)
        return _judgement(frame, digest, verdict, reason)

    def _hold(
        self, chain: ChainState, frame: Envelope, digest: bytes, data: bytes, verdict: Verdict, reason: str,
        keys_tried: tuple[bytes, ...], changes: list[Judgement], arrived_ns: int | None,
    ) -> Judgement:  # fmt: skip
        record = UndecidedRecord(frame.type, frame.seq, digest, data, verdict, reason, keys_tried, arrived_ns)
        released = self._undecided.add(chain, record)
        if released is None:
            self._count(chain, frame.seq, Verdict.UNVERIFIABLE)
            return _judgement(frame, digest, Verdict.UNVERIFIABLE, f"{reason}, and there is no room for it to wait")
        self._chains.setdefault((frame.issuer, frame.epoch), chain)
        for owner in released:
            self._forget_if_empty(owner)
        if chain.runs.at(frame.seq + 1) is not None:
            linked: list[Judgement] = []
            self._link(chain, frame.seq + 1, linked)
            if linked:
                changes += linked[1:]
                return linked[0]
        return _judgement(frame, digest, verdict, reason)

    # Keys and links

    def _declare(self, chain: ChainState, seq: int, loss: Loss) -> None:
        is_own = loss.epoch in (None, chain.epoch)
        last = min(loss.last, seq - 1) if is_own else loss.last
        if loss.first <= last:
            self._declared[chain.issuer, chain.epoch if is_own else loss.epoch or b""].add(loss.first, last)

    def _introduce_key(
        self, chain: ChainState, frame: Envelope, content: Epoch | KeyChange | Checkpoint,
        recheck_ranges: list[Interval], changes: list[Judgement],
    ) -> None:  # fmt: skip
        if isinstance(content, Epoch):
            self._settle_identity(chain, frame, content, recheck_ranges, changes)
        elif isinstance(content, Checkpoint) and chain.identity is None:
            chain.identity = self._trust.pinned(frame.kid, frame.issuer)
        if not isinstance(content, KeyChange):
            chain.count_identity_signature(frame.seq, content.counter)
        by_identity = frame.type.is_identity_signed
        supersedes = chain.introduce(frame.seq, content.session.raw, by_identity=by_identity)
        until = chain.next_identity_introduction(frame.seq)
        if supersedes and chain.runs.last > frame.seq:
            self._drop(chain, frame.seq + 1, until - 1, changes)
        if chain.undecided:
            recheck_ranges.append((frame.seq + 1, until))

    def _settle_identity(
        self, chain: ChainState, frame: Envelope, epoch: Epoch, recheck_ranges: list[Interval], changes: list[Judgement]
    ) -> None:
        if epoch.previous is not None:
            before = self._chain(frame.issuer, epoch.previous.epoch)
            self._chains.setdefault((before.issuer, before.epoch), before)
            before.next_epoch = chain.epoch
            for seq in before.claim(epoch.previous.seq, epoch.previous.hash):
                changes += self._fork_found(before, seq, b"")
        if chain.is_identity_final:
            return
        [identity], _ = allowed_keys(self._trust, chain, frame)
        if chain.identity not in (None, identity):
            self._drop(chain, 1, MAX_SEQ, changes, with_identity_signed=True)
        chain.identity, chain.is_identity_final = identity, True
        chain.certificates, chain.began_ns = tuple(epoch.certificates), stated_ns(epoch) or 0
        if chain.undecided:
            recheck_ranges.append((0, MAX_SEQ))

    def _drop(
        self, chain: ChainState, first: int, last: int, changes: list[Judgement], *, with_identity_signed: bool = False
    ) -> None:
        """Take back the records that only a superseded key had signed."""
        kept = () if with_identity_signed else set(chain.identity_seqs)
        for seq in list(chain.authentic(first, last)):
            if seq not in kept:
                digest = chain.remove(seq)
                chain.reject(seq, Verdict.UNTRUSTED)
                self._remember(digest)
                why = "signed by a key that had been superseded"
                changes.append(Judgement(Verdict.UNTRUSTED, chain.issuer, chain.epoch, seq, None, digest, reason=why))
        self._drop_loose_links(chain, changes)

    def _link(self, chain: ChainState, seq: int, changes: list[Judgement]) -> None:
        """Follow the hashes back from a run with an identity-signed record, over records whose own key is unknown."""
        run = chain.runs.at(seq)
        while run is not None and run.first > 0 and chain.is_anchored(run) and not chain.runs.at(run.first - 1):
            found = [each for each in chain.undecided.get(run.first - 1, ()) if each.hash == run.prev]
            if not found or found[0].verdict is not Verdict.UNVERIFIABLE:
                return
            record = found[0]
            frame = parse(record.data)
            for forked in chain.accept(record.seq, frame.prev, record.hash):
                changes += self._fork_found(chain, forked, b"")
            chain.linked.add(record.seq, record.seq)
            reason = "its key is not known, a later checkpoint fixes its bytes"
            self._undecided.change(record, Verdict.LINKED, reason)
            changes.append(_judgement(frame, record.hash, Verdict.LINKED, reason))
            if self._defers:
                self._read_linked(chain, frame)
                self._undecided.release(chain, record)
            run = chain.runs.at(record.seq)

    def _read_linked(self, chain: ChainState, frame: Envelope) -> None:
        """In fast mode the hashes replace the signature: a LOSS or STOP that they reach is believed."""
        if frame.type in (RecordType.LOSS, RecordType.STOP):
            unknown = Unknown()
            try:
                content = decode(frame.type, frame.payload, unknown)
            except Malformed:
                return  # It is linked all the same, and declares nothing.
            chain.summary.note(frame.type, frame.seq, content, unknown, self._window)
            if isinstance(content, Loss):
                self._declare(chain, frame.seq, content)

    def _drop_loose_links(self, chain: ChainState, changes: list[Judgement]) -> None:
        """Linked records that no identity-signed record reaches any more are undecided again."""
        for low, high in chain.linked:
            for seq in range(high, low - 1, -1):
                run = chain.runs.at(seq)
                if run is None or chain.is_anchored(run):
                    continue
                chain.remove(seq)
                for record in chain.undecided.get(seq, ()):
                    if record.verdict is Verdict.LINKED:
                        self._undecided.change(record, Verdict.UNVERIFIABLE, "its key is not known yet")
                        changes.append(_judgement(parse(record.data), record.hash, record.verdict, record.reason))

    # Snapshot

    def snapshot(self, without: Container[bytes] = (), issuer: str | None = None) -> bytes:
        """Everything known, to continue after a restart. It must be stored where only the verifier can write.

        Args:
            without: hashes of undecided records that will be added again.
            issuer: only what is known of this one, for another verifier to go on with. That one's `hash_of` may not
                know its records: it finds a second history only among the newest of a chain.
        """
        waiting = [each for each in self._undecided.snapshot(without) if issuer in (None, each[0])]
        named = {(issuer, epoch) for issuer, epoch, *_ in waiting}
        chains = [each for key, each in self._chains.items()
                  if issuer in (None, each.issuer) and (each.is_proven or key in named)]  # fmt: skip
        return cbor2.dumps(
            {
                "histories": [each.snapshot(moves=issuer is not None) for each in chains],
                "declared": [[*key, [list(span) for span in spans]] for key, spans in self._declared.items()
                             if issuer in (None, key[0])],
                "waiting": waiting,
                "rejects": list(self._rejects) if issuer is None else [],
                "strays": {str(verdict): count for verdict, count in self._unattributed.items() if issuer is None},
            }
        )  # fmt: skip

    def restore(self, snapshot: bytes) -> None:
        """Continue from a snapshot, in a verifier with the same trust that knows nothing of the issuers in it."""
        state: dict[str, Any] = cbor2.loads(snapshot)
        for each in state["histories"]:
            chain = self._chain(each["issuer"], each["epoch"])
            chain.restore(each)
            chain.is_distrusted = not may_go_on(self._trust, chain)
            self._chains[chain.issuer, chain.epoch] = chain
            if chain.is_proven:
                self._proven.add(chain.issuer)
        for issuer, epoch, spans in state["declared"]:
            self._declared[issuer, epoch] = IntervalSet((first, last) for first, last in spans)
        for issuer, epoch, *record in state["waiting"]:
            self._undecided.restore(self._chains[issuer, epoch], record)
        self._rejects.update(dict.fromkeys(state["rejects"]))
        self._unattributed.update({Verdict(name): count for name, count in state["strays"].items()})

    def has_stopped(self, issuer: str) -> bool:
        """Whether the newest chain of an issuer ended with STOP."""
        chains = [chain for chain in self._chains.values() if chain.issuer == issuer]
        newest = max(chains, key=lambda chain: chain.summary.tail_ns or 0, default=None)
        return newest is not None and 0 <= newest.summary.stop_seq == newest.runs.last

    def forget(self, issuer: str) -> None:
        """Know nothing of an issuer any more: another verifier went on with it."""
        for key in [key for key in self._chains if key[0] == issuer]:
            chain = self._chains.pop(key)
            for record in [each for records in chain.undecided.values() for each in records]:
                self._undecided.release(chain, record)
            self._declared.pop(key, None)
        self._proven.discard(issuer)

    def linked(self, issuer: str) -> list[UndecidedRecord]:
        """Records that are accepted by their hash only, and may become authentic."""
        return [record for chain in self._chains.values() if chain.issuer == issuer
                for records in chain.undecided.values() for record in records
                if record.verdict is Verdict.LINKED]  # fmt: skip


def _judgement(frame: Envelope, digest: bytes, verdict: Verdict, reason: str) -> Judgement:
    return Judgement(verdict, frame.issuer, frame.epoch, frame.seq, frame.type, digest, reason=reason)
