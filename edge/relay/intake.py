"""The intake of a record: verified first, then archived or quarantined, then handed to the view.

It runs in the archive's thread and never waits for the network.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import cbor2

from edge.logs import get_logger
from edge.relay.archive import Archive, RecordLocation, day_ns, is_gateway_name
from edge.relay.follow import SHOWN_TYPES, ArchivedRecord
from edge.relay.receive import gateway_of
from edge.relay.waiting import ReceivedMessage, Waiting
from edge.seal import ConfigChange, Data, Envelope, Event, Gap, Garbage, Loss, RecordType, parse
from edge.seal.record import ISSUER_PREFIX
from edge.verify import Judgement, Trust, Verdict, Verifier

log = get_logger(__name__)

_REFUSED = frozenset({Verdict.GARBAGE, Verdict.ALTERED, Verdict.UNTRUSTED})
_MAY_IMPROVE = frozenset({Verdict.UNVERIFIABLE, Verdict.UNTRUSTED})
_ACCEPTED = frozenset({Verdict.AUTHENTIC, Verdict.FORK})
_ARCHIVED = _ACCEPTED | {Verdict.LINKED}
_UNKNOWN = "unknown"

LOG_AGAIN_AFTER_NS = 60 * 10**9


@dataclass(slots=True)
class IssuerCounts:
    """Verdicts on one gateway since the relay started.

    Attributes:
        refused: messages without a verdict: of another gateway than their topic, or without room to wait.
        waiting: records that cannot be judged yet.
        epoch: of the newest authentic record, as is `seq`.
        until_ns: UTC of the newest value, by the gateway's clock, but no later than it arrived.
    """

    refused: int = 0
    waiting: int = 0
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    epoch: bytes = b""
    seq: int = 0
    until_ns: int = 0


@dataclass(frozen=True, slots=True)
class _Undecided:
    """A record whose verdict may change, and where it is counted; `record` is None while it waits."""

    counts: IssuerCounts
    verdict: Verdict
    record: ArchivedRecord | None


class NewRecord(NamedTuple):
    """An authentic record that arrived for the first time.

    Attributes:
        until_ns: UTC of its last value, by the gateway's clock; only of a DATA record that is the gateway's newest.
        told: what happened, where it says that.
    """

    issuer: str
    is_stop: bool
    until_ns: int | None
    told: Event | Gap | Loss | ConfigChange | None


class Intake:
    """Verifies records and archives those that are to be kept.

    Attributes:
        counts: by issuer.
        archived_records: since the start.
        archived_bytes: since the start.
        is_verifier_in_doubt: judging a record failed; what the verifier knows must not outlive this process.
    """

    def __init__(self, archive: Archive, waiting: Waiting, quarantine: Quarantine, verifier: Verifier) -> None:
        self._archive = archive
        self._waiting = waiting
        self._quarantine = quarantine
        self._verifier = verifier
        self._undecided: dict[bytes, _Undecided] = {}
        self._log_again_ns: dict[tuple[str, str], int] = {}
        self._to_show: list[ArchivedRecord] = []
        self._new: list[NewRecord] = []
        self.counts: dict[str, IssuerCounts] = {}
        self.archived_records = 0
        self.archived_bytes = 0
        self.is_verifier_in_doubt = False

    def take(self, messages: Iterable[ReceivedMessage]) -> tuple[list[ArchivedRecord], list[NewRecord]]:
        """Verify each message and hold what is to be archived for `Archive.sync`, and what waits for `Waiting.sync`.

        Returns the records that can be shown, and the authentic ones that are new.
        """
        for message in messages:
            self._take(message)
        taken = self._to_show, self._new
        self._to_show, self._new = [], []
        return taken

    def replay(self, records: Iterable[tuple[RecordLocation, bytes]]) -> list[ArchivedRecord]:
        """Verify what is in the archive already, and what waits; returns the records that can be shown."""
        for location, data in records:
            first, *later = self._judge(data, day_ns(location.day))
            self._note(first, ArchivedRecord(location, 0))
            for judgement in later:
                self._update_verdict(judgement)
        to_show, _ = self.take(self._waiting.stored())
        return to_show

    def change_trust(self, trust: Trust) -> list[str]:
        """Go on with other trust anchors; returns the issuers of which nothing more is accepted."""
        distrusted, changes = self._verifier.change_trust(trust)
        for judgement in changes:
            self._update_verdict(judgement)
        return distrusted

    def forget(self, issuer: str) -> None:
        """Know nothing of a gateway any more: another relay went on with it."""
        counts = self.counts.pop(issuer, None)
        self._undecided = {key: each for key, each in self._undecided.items() if each.counts is not counts}
        for digest in self._waiting.on_topic(records_topic(issuer)):
            self._waiting.take(digest)
        self._verifier.forget(issuer)

    def forget_decided(self) -> None:
        """Forget archived records that the verifier let go: their verdict stays as it is."""
        self._undecided = {key: each for key, each in self._undecided.items() if self._verifier.is_undecided(key)}

    def _take(self, message: ReceivedMessage) -> None:
        try:
            frame = parse(message.data)
        except Garbage:
            frame = None  # The verifier says why.
        if frame is not None and (reason := mismatch(frame.issuer, message.topic)):
            self._refuse(message, reason, _issuer_of_topic(message.topic))
            return
        first, *later = self._judge(message.data, message.arrived_ns, frame)
        self._keep(first, message)
        for judgement in later:
            self._update_verdict(judgement)

    def _judge(self, data: bytes, arrived_ns: int, frame: Envelope | None = None) -> list[Judgement]:
        try:
            return self._verifier.add(data, frame, arrived_ns)
        except Exception as error:
            # The broker would bring it again after every start: one record must not stop those of other gateways.
            self.is_verifier_in_doubt = True
            log.exception("record cannot be judged; please report it with the quarantine")
            digest = hashlib.sha256(data).digest()
            return [Judgement(Verdict.GARBAGE, "", b"", 0, None, digest, reason=f"judging it failed: {error!r}")]

    def _keep(self, judgement: Judgement, message: ReceivedMessage) -> None:
        verdict = judgement.verdict
        if verdict is Verdict.UNVERIFIABLE and not self._verifier.may_vouch_for(judgement.issuer):
            reason = "no trust anchor speaks for this gateway"
            judgement = replace(judgement, verdict=Verdict.UNTRUSTED, reason=reason)
        elif _waits(self._verifier, judgement):
            self._waiting.put(judgement.hash, message)
        elif verdict is Verdict.UNVERIFIABLE:
            self._refuse(message, judgement.reason, judgement.issuer)
            return
        if judgement.verdict in _ARCHIVED:
            self._note(judgement, self._append(judgement, message))
        else:
            self._note(judgement, None)
        if judgement.verdict in _REFUSED and judgement.hash not in self._waiting:
            self._put_aside(message, judgement.verdict, judgement.reason)
            self._log(judgement, message.topic, message.arrived_ns)
        elif judgement.verdict is Verdict.FORK:
            self._log(judgement, message.topic, message.arrived_ns)

    def _append(self, judgement: Judgement, message: ReceivedMessage) -> ArchivedRecord:
        location = self._archive.append(
            judgement.issuer.removeprefix(ISSUER_PREFIX), judgement.epoch, judgement.seq, judgement.hash, message.data,
            arrived_ns=message.arrived_ns,
        )  # fmt: skip
        self.archived_records += 1
        self.archived_bytes += len(message.data)
        return ArchivedRecord(location, message.arrived_ns)

    def _note(self, judgement: Judgement, record: ArchivedRecord | None) -> None:
        """Count the first verdict on a message, which is archived as `record`."""
        counts = self._counts_of(judgement)
        counts.verdicts[judgement.verdict] += 1
        if judgement.verdict is Verdict.DUPLICATE:
            return
        if self._verifier.is_undecided(judgement.hash):
            self._undecided[judgement.hash] = _Undecided(counts, judgement.verdict, record)
            counts.waiting += judgement.hash in self._waiting
        elif record is not None and judgement.verdict in _ACCEPTED:
            self._accepted(judgement, counts, record)

    def _accepted(self, judgement: Judgement, counts: IssuerCounts, record: ArchivedRecord) -> None:
        until_ns = judgement.content.until_ns if isinstance(judgement.content, Data) else None
        if not _is_newest(judgement, until_ns, counts):
            until_ns = None
        else:
            counts.epoch, counts.seq = judgement.epoch, judgement.seq
            if until_ns is not None:
                # A clock that was ahead must not let the chains after it look old for as long.
                counts.until_ns = min(until_ns, record.arrived_ns)
        told = judgement.content if isinstance(judgement.content, Event | Gap | Loss | ConfigChange) else None
        self._new.append(NewRecord(judgement.issuer, judgement.type is RecordType.STOP, until_ns, told))
        if judgement.verdict is Verdict.AUTHENTIC and judgement.type in SHOWN_TYPES:
            self._to_show.append(record)

    def _update_verdict(self, judgement: Judgement) -> None:
        """An earlier record has another verdict now."""
        before = self._undecided.pop(judgement.hash, None)
        record, topic = None, ""
        if before is None or before.record is not None:
            self._archive.changes.note(judgement.issuer.removeprefix(ISSUER_PREFIX), judgement.epoch, judgement.seq)
        if before is not None:
            record = before.record
            before.counts.verdicts[before.verdict] -= 1
            before.counts.waiting -= judgement.hash in self._waiting
            counts = self._counts_of(judgement)
            counts.verdicts[judgement.verdict] += 1
            if judgement.hash in self._waiting and not _waits(self._verifier, judgement):
                message = self._waiting.take(judgement.hash)
                topic = message.topic
                if judgement.verdict in _REFUSED:
                    self._put_aside(message, judgement.verdict, judgement.reason)
                else:
                    record = self._append(judgement, message)
            if self._verifier.is_undecided(judgement.hash):
                self._undecided[judgement.hash] = _Undecided(counts, judgement.verdict, record)
                counts.waiting += judgement.hash in self._waiting
            elif record is not None and judgement.verdict in _ACCEPTED:
                self._accepted(judgement, counts, record)
        if judgement.verdict in _REFUSED or judgement.verdict is Verdict.FORK:
            self._log(judgement, topic, 0)

    def _refuse(self, message: ReceivedMessage, reason: str, issuer: str) -> None:
        """Refuse a message that is not judged, and count it for this gateway."""
        counts = self.counts.setdefault(issuer if self._is_known(issuer) else _UNKNOWN, IssuerCounts())
        counts.refused += 1
        self._put_aside(message, "REFUSED", reason)
        if self._pass_rate_limit(issuer, "refused", message.arrived_ns):
            log.error("record refused", reason=reason, topic=message.topic, count=counts.refused)

    def _put_aside(self, message: ReceivedMessage, verdict: str, reason: str) -> None:
        self._quarantine.put(
            message.data, verdict=verdict, reason=reason, topic=message.topic, arrived_ns=message.arrived_ns
        )

    def _log(self, judgement: Judgement, topic: str, now_ns: int) -> None:
        if not self._pass_rate_limit(judgement.issuer, judgement.verdict, now_ns):
            return
        log.error(
            f"record {judgement.verdict.value.lower()}", issuer=judgement.issuer, epoch=judgement.epoch.hex(),
            seq=judgement.seq, reason=judgement.reason, topic=topic,
            count=self._counts_of(judgement).verdicts[judgement.verdict],
        )  # fmt: skip

    def _pass_rate_limit(self, issuer: str, what: str, now_ns: int) -> bool:
        """The first at once, and then one a minute while they continue."""
        key = (issuer if self._is_known(issuer) else _UNKNOWN, what)
        if now_ns < self._log_again_ns.get(key, 0):
            return False
        self._log_again_ns[key] = now_ns + LOG_AGAIN_AFTER_NS
        return True

    def _counts_of(self, judgement: Judgement) -> IssuerCounts:
        issuer = judgement.issuer if self._is_known(judgement.issuer) else _UNKNOWN
        counts = self.counts.get(issuer)
        if counts is None:
            counts = self.counts[issuer] = IssuerCounts()
        return counts

    def _is_known(self, issuer: str) -> bool:
        # A flood of invented names must not use memory.
        return issuer in self.counts or self._verifier.is_known(issuer)


def _waits(verifier: Verifier, judgement: Judgement) -> bool:
    """Whether a later record may still show that this one is authentic."""
    return judgement.verdict in _MAY_IMPROVE and verifier.is_undecided(judgement.hash)


def _is_newest(judgement: Judgement, until_ns: int | None, counts: IssuerCounts) -> bool:
    """Whether none accepted before it is newer: in one chain by its place, between chains by its time."""
    if judgement.epoch == counts.epoch or not counts.epoch:
        return judgement.seq >= counts.seq
    return until_ns is not None and until_ns > counts.until_ns


def records_topic(issuer: str) -> str:
    """The topic below which the records of a gateway come."""
    return f"tidegate/v1/{issuer.removeprefix(ISSUER_PREFIX)}/"


def _issuer_of_topic(topic: str) -> str:
    """The gateway whose account may publish on a topic; empty where it is none."""
    return ISSUER_PREFIX + gateway if (gateway := gateway_of(topic)) else ""


def mismatch(issuer: str, topic: str) -> str:
    """Why a record cannot have come from the gateway that it names; empty where it can."""
    if not issuer.startswith(ISSUER_PREFIX) or not is_gateway_name(issuer.removeprefix(ISSUER_PREFIX)):
        return f"no gateway can have the name {issuer!r}"
    if issuer != _issuer_of_topic(topic):
        return f"it names {issuer}, and came on a topic of another gateway"
    return ""


class Quarantine:
    """Messages that are proven not to be records of a trusted gateway: kept for inspection, never archived.

    A CBOR sequence of [arrived ns, verdict, reason, topic, bytes]; at half the limit the older half is deleted. A
    message that cannot be written is dropped: it is not a record, and it was counted and logged.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self.path = path
        self._half_bytes = limit_bytes // 2
        self._file: FileIO | None = None

    def put(self, data: bytes, *, verdict: str, reason: str, topic: str, arrived_ns: int) -> None:
        """Keep one message; over the limit the oldest are deleted."""
        item = cbor2.dumps([arrived_ns, verdict, reason, topic, data])
        try:
            self._file_for(len(item)).write(item)
        except OSError:
            self.close()

    def _file_for(self, more_bytes: int) -> FileIO:
        file = self._file = self._file or self.path.open("ab", buffering=0)
        if file.tell() + more_bytes <= self._half_bytes:
            return file
        self.close()
        self.path.replace(self.path.with_suffix(".older"))
        file = self._file = self.path.open("ab", buffering=0)
        return file

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
