"""The intake of a record: verified first, then archived or quarantined, then handed to the view.

It runs in the archive's thread and never waits for the network.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import cbor2

from edge.logs import get_logger
from edge.relay.archive import Archive, RecordLocation, is_gateway_name
from edge.relay.follow import SHOWN_TYPES, ArchivedRecord
from edge.seal import Envelope, Garbage, RecordType, parse
from edge.seal.record import ISSUER_PREFIX
from edge.verify import Judgement, Verdict, Verifier

log = get_logger(__name__)

_REFUSED = frozenset({Verdict.GARBAGE, Verdict.ALTERED, Verdict.UNTRUSTED})
_PROVES_NOTHING = _REFUSED | {Verdict.DUPLICATE}
_UNDECIDED = frozenset({Verdict.UNVERIFIABLE, Verdict.LINKED})
_UNKNOWN = "unknown"

_LOG_AGAIN_AFTER_NS = 60 * 10**9


class ReceivedMessage(NamedTuple):
    """A message of the broker, and UTC of its arrival."""

    topic: str
    data: bytes
    arrived_ns: int


@dataclass(slots=True)
class IssuerCounts:
    """Verdicts on one gateway since the relay started.

    Attributes:
        refused: messages that were not judged, because they name no gateway.
        epoch: of the newest authentic record, as is `seq`.
    """

    refused: int = 0
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    epoch: bytes = b""
    seq: int = 0


class NewRecord(NamedTuple):
    """An authentic record that arrived for the first time."""

    issuer: str
    is_stop: bool


class Intake:
    """Verifies records and archives those that are to be kept.

    Attributes:
        counts: by issuer.
        archived_records: since the start.
        archived_bytes: since the start.
        is_verifier_in_doubt: judging a record failed; what the verifier knows must not outlive this process.
    """

    def __init__(
        self, archive: Archive, quarantine: Quarantine, verifier: Verifier, is_trusted: Callable[[str], bool]
    ) -> None:
        self._archive = archive
        self._quarantine = quarantine
        self._verifier = verifier
        self._is_trusted = is_trusted
        self._undecided: dict[bytes, tuple[Verdict, ArchivedRecord]] = {}
        self._log_again_ns: dict[tuple[str, str], int] = {}
        self.counts: dict[str, IssuerCounts] = {}
        self.archived_records = 0
        self.archived_bytes = 0
        self.is_verifier_in_doubt = False

    def take(self, messages: Iterable[ReceivedMessage]) -> tuple[list[ArchivedRecord], list[NewRecord]]:
        """Verify each message and hold what is to be archived for `Archive.sync`.

        Returns the records that can be shown, and the authentic ones that are new.
        """
        to_show: list[ArchivedRecord] = []
        new: list[NewRecord] = []
        for message in messages:
            self._take(message, to_show, new)
        return to_show, new

    def _take(self, message: ReceivedMessage, to_show: list[ArchivedRecord], new: list[NewRecord]) -> None:
        try:
            frame = parse(message.data)
        except Garbage:
            frame = None  # The verifier says why.
        if frame is not None and not _is_gateway(frame.issuer):
            self._refuse(message, f"no gateway can have the name {frame.issuer!r}")
            return
        undecided_bytes = self._verifier.undecided_bytes
        first, *later = self._judge(message.data, frame)
        first = self._refuse_untrusted(first)
        # Signed by a key that only a later record names: a missing KEY record may still prove it.
        is_undecided = first.verdict is Verdict.UNTRUSTED and self._verifier.undecided_bytes > undecided_bytes
        location = self._keep(first, message, is_undecided=is_undecided)
        self._count(first, location, message.arrived_ns, to_show, new)
        for judgement in later:
            self._update_verdict(judgement, to_show)

    def replay(self, records: Iterable[tuple[RecordLocation, bytes]]) -> list[ArchivedRecord]:
        """Verify what is in the archive already; returns the records that can be shown."""
        to_show: list[ArchivedRecord] = []
        for location, data in records:
            first, *later = self._judge(data)
            self._count(first, location, 0, to_show, [])
            for judgement in later:
                self._update_verdict(judgement, to_show)
        return to_show

    def _judge(self, data: bytes, frame: Envelope | None = None) -> list[Judgement]:
        try:
            return self._verifier.add(data, frame)
        except Exception as error:
            # The broker would bring it again after every start: one record must not stop those of other gateways.
            self.is_verifier_in_doubt = True
            log.exception("record cannot be judged; please report it with the quarantine")
            digest = hashlib.sha256(data).digest()
            return [Judgement(Verdict.GARBAGE, "", b"", 0, None, digest, reason=f"judging it failed: {error!r}")]

    def _refuse(self, message: ReceivedMessage, reason: str) -> None:
        """Put a message aside that is not judged."""
        self.counts.setdefault(_UNKNOWN, IssuerCounts()).refused += 1
        self._quarantine.put(
            message.data, verdict="REFUSED", reason=reason, topic=message.topic, arrived_ns=message.arrived_ns
        )
        if self._pass_rate_limit(_UNKNOWN, "refused", message.arrived_ns):
            log.error("record refused", reason=reason, topic=message.topic, count=self.counts[_UNKNOWN].refused)

    def _refuse_untrusted(self, judgement: Judgement) -> Judgement:
        """A record that cannot be verified yet is kept only for a gateway that a trust anchor can vouch for."""
        if judgement.verdict is not Verdict.UNVERIFIABLE or self._is_trusted(judgement.issuer):
            return judgement
        return replace(judgement, verdict=Verdict.UNTRUSTED, reason="no trust anchor speaks for this gateway")

    def _keep(self, judgement: Judgement, message: ReceivedMessage, *, is_undecided: bool) -> RecordLocation | None:
        verdict = judgement.verdict
        if verdict in _REFUSED and not (is_undecided and self._is_trusted(judgement.issuer)):
            self._quarantine.put(
                message.data, verdict=verdict.value, reason=judgement.reason, topic=message.topic,
                arrived_ns=message.arrived_ns,
            )  # fmt: skip
            self._log(judgement, message.topic, message.arrived_ns)
            return None
        if verdict is Verdict.DUPLICATE:
            return None
        location = self._archive.append(
            judgement.issuer.removeprefix(ISSUER_PREFIX), judgement.epoch, judgement.seq, judgement.hash, message.data,
            arrived_ns=message.arrived_ns,
        )  # fmt: skip
        self.archived_records += 1
        self.archived_bytes += len(message.data)
        if verdict is Verdict.FORK:
            self._log(judgement, message.topic, message.arrived_ns)
        return location

    def _count(
        self,
        judgement: Judgement,
        location: RecordLocation | None,
        arrived_ns: int,
        to_show: list[ArchivedRecord],
        new: list[NewRecord],
    ) -> None:
        counts = self._counts_of(judgement)
        counts.verdicts[judgement.verdict] += 1
        if location is None or judgement.verdict is Verdict.DUPLICATE:
            return
        record = ArchivedRecord(location, arrived_ns)
        if judgement.verdict in _UNDECIDED or judgement.verdict in _REFUSED:
            self._undecided[judgement.hash] = judgement.verdict, record
            return
        counts.epoch, counts.seq = judgement.epoch, max(judgement.seq, counts.seq * (counts.epoch == judgement.epoch))
        new.append(NewRecord(judgement.issuer, judgement.type is RecordType.STOP))
        if judgement.verdict is Verdict.AUTHENTIC and judgement.type in SHOWN_TYPES:
            to_show.append(record)

    def _update_verdict(self, judgement: Judgement, to_show: list[ArchivedRecord]) -> None:
        """An earlier record has another verdict now."""
        before, record = self._undecided.pop(judgement.hash, (None, None))
        if before is not None and record is not None:
            verdicts = self._counts_of(judgement).verdicts
            verdicts[before] -= 1
            verdicts[judgement.verdict] += 1
            if judgement.verdict in _UNDECIDED:
                self._undecided[judgement.hash] = judgement.verdict, record
        if judgement.verdict in _REFUSED or judgement.verdict is Verdict.FORK:
            self._log(judgement, "", 0)
        elif record and judgement.verdict is Verdict.AUTHENTIC and judgement.type in SHOWN_TYPES:
            to_show.append(record)

    def _log(self, judgement: Judgement, topic: str, now_ns: int) -> None:
        if not self._pass_rate_limit(judgement.issuer, judgement.verdict, now_ns):
            return
        log.error(
            f"record {judgement.verdict.value.lower()}", issuer=judgement.issuer, epoch=judgement.epoch.hex(),
            seq=judgement.seq, reason=judgement.reason, topic=topic,
            count=self._counts_of(judgement).verdicts[judgement.verdict] + 1,
        )  # fmt: skip

    def _pass_rate_limit(self, issuer: str, what: str, now_ns: int) -> bool:
        """The first at once, and then one a minute while they continue."""
        key = (issuer if issuer in self.counts else _UNKNOWN, what)
        if now_ns < self._log_again_ns.get(key, 0):
            return False
        self._log_again_ns[key] = now_ns + _LOG_AGAIN_AFTER_NS
        return True

    def _counts_of(self, judgement: Judgement) -> IssuerCounts:
        # A flood of invented names must not use memory, also when each comes twice.
        is_known = judgement.issuer in self.counts or judgement.verdict not in _PROVES_NOTHING
        return self.counts.setdefault(judgement.issuer if is_known else _UNKNOWN, IssuerCounts())


def _is_gateway(issuer: str) -> bool:
    return issuer.startswith(ISSUER_PREFIX) and is_gateway_name(issuer.removeprefix(ISSUER_PREFIX))


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
