"""Everything a relay has on disk, used by one thread: archive, verifier, quarantine, and their state over a restart.

The snapshot is a cache: without it everything is read from the archive again.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cbor2

from edge.files import replace_file
from edge.logs import get_logger
from edge.relay.archive import Archive, RecordLocation, gateways
from edge.relay.completeness import Missing
from edge.relay.follow import UNFINISHED_LIMIT, ArchivedRecord, Follower, ViewPlan, ViewState
from edge.relay.intake import Intake, NewRecord, Quarantine
from edge.relay.removals import Statement, apply_statements, statements_in
from edge.relay.retention import Content, Due, NotRemovable, RetentionPlan, remove
from edge.relay.unified_namespace import UnifiedNamespace
from edge.relay.waiting import ReceivedMessage, Waiting
from edge.seal.record import ISSUER_PREFIX, RELAY_PREFIX
from edge.verify import RangeVerdict, Trust, Verdict, Verifier
from edge.verify.trust import TrustFile

_FORMAT = 6

log = get_logger(__name__)


class RelayStore:
    """The archive of a relay, and what was learned from it.

    Args:
        directory: the archive; created when it does not exist.
        trust: files and directories of trust anchors.
        quarantine_bytes: most bytes of refused messages that are kept.
        waiting_bytes: most bytes of one gateway's records that cannot be judged yet.
        view: how the unified namespace is shown; None without a view.
        retention: how long records are kept; its key is trusted with what was removed.
        is_shown_later: what is taken is shown by the relay that opens the archive next; `view` is None.

    Attributes:
        archived_records: durable since the start, as are `archived_bytes`.

    Raises:
        ConfigError: the archive or a trust anchor cannot be used.
    """

    def __init__(
        self, directory: Path, trust: Sequence[TrustFile], *, quarantine_bytes: int, waiting_bytes: int,
        view: ViewPlan | None, retention: RetentionPlan | None = None, is_shown_later: bool = False,
    ) -> None:  # fmt: skip
        anchors = Trust.load(trust)
        self._snapshot_path = directory / "relay.snapshot"
        self._archive = Archive(directory)
        for path, recovered in self._archive.recovered.items():
            log.warning("archive recovered", file=str(path), torn_bytes=recovered.torn_bytes, indexed=recovered.indexed)
        snapshot = load_snapshot(self._snapshot_path)
        verifier = Verifier(anchors, hash_of=self._hash_of, pending_bytes=waiting_bytes, holds_for_good=True)
        if snapshot:
            verifier.restore(snapshot.verifier)
        self._quarantine = Quarantine(directory / "quarantine.cbor", quarantine_bytes)
        self._verifier = verifier
        self._waiting = Waiting(directory / "waiting.cbor")
        self.intake = Intake(self._archive, self._waiting, self._quarantine, verifier)
        self._distrusted: list[str] = []
        self.change_trust(anchors)
        self._to_show: list[ArchivedRecord] = []
        before = snapshot.view if snapshot and is_shown_later else ViewState([], [], {})
        self._view_before, self._is_shown_later = before, is_shown_later
        self._shown_later = deque(before.unfinished, UNFINISHED_LIMIT)
        self._is_verifier_ahead = False
        self.archived_records = self.archived_bytes = 0
        self.follower: Follower | None = None
        if view is not None:
            shown_ns = snapshot.view.shown_ns if snapshot else None
            namespace = UnifiedNamespace(view.prefix, shown_ns, shape=view.shape, is_retained=view.is_retained)
            self.follower = Follower(namespace, self._archive.read, view.waiting_records)
        self._resume(snapshot)
        stated_by = Trust.load(trust)
        if retention is not None:
            stated_by.pin(retention.signer.public, RELAY_PREFIX + retention.relay)
        _, refused = apply_statements(self._verifier, stated_by, statements_in([directory]))
        for each in refused:
            log.error("statement of removal does not count; what it names is missing", file=each.file,
                      reason=each.reason)  # fmt: skip

    def take(self, messages: Iterable[ReceivedMessage]) -> list[NewRecord]:
        """Verify messages and hold those to keep for `sync`; returns the authentic records that are new."""
        # If this fails midway the verifier knows records that the archive does not have: no snapshot may be taken.
        self._is_verifier_ahead = True
        to_show, new = self.intake.take(messages)
        self._is_verifier_ahead = False
        self._to_show += to_show
        return new

    def change_trust(self, trust: Trust) -> None:
        """Go on with other trust anchors: what was archived stays, and the archive is not read again."""
        for each in trust.anchors():
            log.info("trusted", kind=each.kind, name=each.name, gateway=each.gateway or "any",
                     fingerprint=each.certificate or each.fingerprint)  # fmt: skip
        distrusted = self.intake.change_trust(trust)
        for issuer in distrusted:
            if issuer not in self._distrusted:
                log.error("gateway no longer trusted: no trust file vouches for its identity", issuer=issuer)
        self._distrusted = distrusted

    def sync(self) -> None:
        """Make everything taken durable, and hand it to the view; after an OSError it may be repeated."""
        self._archive.sync()
        self._waiting.sync()
        self.archived_records, self.archived_bytes = self.intake.archived_records, self.intake.archived_bytes
        if self.follower is not None:
            self.follower.add(self._to_show)
        elif self._is_shown_later:
            self._shown_later.extend(self._to_show)
        self._to_show.clear()

    def remove(self, due: Due, content: Content, plan: RetentionPlan, now_ns: int) -> Statement:
        """Remove what need not stay of a day file. Raises NotRemovable where a record is not verified, and OSError."""
        for epoch, first, last in content.runs:
            if not self._verifier.holds(ISSUER_PREFIX + due.path.parent.name, epoch, first, last):
                raise NotRemovable(f"not all of seq {first} to {last} of chain {epoch.hex()} are verified")
        statement = remove(content, due.rule, plan, now_ns)
        if self.follower is not None:
            self.follower.forget(due.path.parent.name, due.path.stem)
        return statement

    def durable_ends(self) -> dict[str, tuple[str, int]]:
        """For each gateway its newest day, and how much of that file is durable."""
        return self._archive.durable_ends()

    def standing(self, places: Iterable[tuple[str, bytes, int]]) -> list[Verdict]:
        """The verdict on what is archived at each place (gateway, epoch, seq); UNTRUSTED where nothing counts."""
        return [self._verifier.standing(ISSUER_PREFIX + gateway, epoch, seq) for gateway, epoch, seq in places]

    def newest_ns(self) -> int:
        """UTC that the newest record of any gateway states; 0 where there is none."""
        return max((epoch.last_ns or 0 for epoch in self._verifier.report().epochs), default=0)

    def running_issuers(self) -> list[str]:
        """Issuers whose newest chain did not end with STOP: their records are expected."""
        tails = {}
        for epoch in sorted(self._verifier.report().epochs, key=lambda each: each.tail_ns or 0):
            tails[epoch.issuer] = epoch.tail
        return [issuer for issuer, tail in tails.items() if tail is not RangeVerdict.CLOSED]

    def owned_issuers(self) -> Mapping[str, bool] | None:
        """The issuers that others may go on with later, and if they ran; None where all are this relay's for good."""
        return None

    def missing(self) -> list[Missing]:
        """Every range that is known to have existed and did not arrive, declared lost or not."""
        return [
            Missing(gap.issuer, gap.epoch.hex(), gap.first, gap.last, gap.verdict is RangeVerdict.DECLARED_LOST)
            for gap in self._verifier.missing()
            if gap.verdict is not RangeVerdict.REMOVED
        ]

    def save(self) -> None:
        """Write the snapshot; raises OSError."""
        self.sync()
        if self._is_verifier_ahead or self.intake.is_verifier_in_doubt:
            return
        later = self._view_before._replace(unfinished=[*self._shown_later])
        view = self.follower.state() if self.follower else later
        self.intake.forget_decided()
        verifier = self._verifier.snapshot(without=self._waiting)
        snapshot = RelaySnapshot(ends=self._archive.ends(), verifier=verifier, view=view)
        save_snapshot(self._snapshot_path, snapshot)

    def close(self) -> None:
        """Save and close."""
        try:
            self.save()
        finally:
            self._quarantine.close()
            self._waiting.close()
            self._archive.close()

    def _hash_of(self, issuer: str, epoch: bytes, seq: int) -> bytes | None:
        return self._archive.hash_of(issuer.removeprefix(ISSUER_PREFIX), epoch, seq)

    def _resume(self, snapshot: RelaySnapshot | None) -> None:
        """Verify the records that the archive has and the snapshot has not."""
        if snapshot and self.follower is not None:
            self.follower.restore(snapshot.view)
        self._to_show += self.intake.replay(self._records_after(snapshot))
        self.sync()

    def _records_after(self, snapshot: RelaySnapshot | None) -> Iterator[tuple[RecordLocation, bytes]]:
        ends = snapshot.ends if snapshot else {}
        for gateway in gateways(self._archive.directory):
            yield from self._archive.since(gateway, *ends.get(gateway, ("", 0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySnapshot:
    """The state of a relay after every record up to `ends`.

    Attributes:
        ends: for each gateway, the day and the offset up to which its records are included.
        verifier: the verifier's own snapshot.
        view: the state of the view.
    """

    ends: dict[str, tuple[str, int]]
    verifier: bytes
    view: ViewState


def save_snapshot(path: Path, snapshot: RelaySnapshot) -> None:
    """Replace the snapshot on disk, whole or not at all. Raises OSError."""
    view = [list(snapshot.view.catalogues), list(snapshot.view.unfinished), snapshot.view.shown_ns]
    content = cbor2.dumps([_FORMAT, snapshot.ends, snapshot.verifier, view])
    replace_file(path, hashlib.sha256(content).digest() + content, 0o640)


def load_snapshot(path: Path) -> RelaySnapshot | None:
    """The snapshot on disk; None unless it is whole and of this version."""
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        return None
    content = stored[32:]
    if hashlib.sha256(content).digest() != stored[:32]:
        return None
    version, *state = cbor2.loads(content)
    if version != _FORMAT:
        return None
    ends, verifier, (catalogues, unfinished, shown_ns) = state
    view = ViewState(
        [RecordLocation(*location) for location in catalogues],
        [ArchivedRecord(RecordLocation(*location), arrived_ns) for location, arrived_ns in unfinished],
        shown_ns,
    )
    ends = {gateway: (day, offset) for gateway, (day, offset) in ends.items()}
    return RelaySnapshot(ends=ends, verifier=verifier, view=view)
