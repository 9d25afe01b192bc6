"""What happens to a record that arrives: verified first, then archived or put aside, then shown.

It runs in a thread of its own, one batch at a time; nothing in here waits for the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from edge.logs import get_logger
from edge.relay.archive import Archive, Place
from edge.relay.follow import SHOWN_TYPES, Item
from edge.relay.quarantine import Quarantine
from edge.seal import RecordType
from edge.seal.record import ISSUER_PREFIX
from edge.verify import Judgement, Verdict, Verifier

log = get_logger(__name__)

_REFUSED = frozenset({Verdict.GARBAGE, Verdict.ALTERED, Verdict.UNTRUSTED})
_PROVES_NOTHING = _REFUSED | {Verdict.DUPLICATE}
_OPEN = frozenset({Verdict.UNVERIFIABLE, Verdict.LINKED})
_UNKNOWN = "unknown"

_SAID_AGAIN_AFTER_NS = 60 * 10**9


class Message(NamedTuple):
    """What came over the wire, and when."""

    topic: str
    data: bytes
    arrived_ns: int


@dataclass(slots=True)
class Tally:
    """One gateway since the relay started; `epoch` and `seq` are of the newest authentic record."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    epoch: bytes = b""
    seq: int = 0


class Heard(NamedTuple):
    """An authentic record arrived for the first time."""

    issuer: str
    is_stop: bool


class Intake:
    """Judges and keeps.

    Attributes:
        tallies: by issuer.
        archived_records: since the start.
        archived_bytes: since the start.
    """

    def __init__(
        self, archive: Archive, quarantine: Quarantine, verifier: Verifier, may_speak: Callable[[str], bool]
    ) -> None:
        self._archive = archive
        self._quarantine = quarantine
        self._verifier = verifier
        self._may_speak = may_speak
        self._undecided: dict[bytes, tuple[Verdict, Item]] = {}
        self._said_ns: dict[tuple[str, Verdict], int] = {}
        self.tallies: dict[str, Tally] = {}
        self.archived_records = 0
        self.archived_bytes = 0

    def take(self, messages: Iterable[Message]) -> tuple[list[Item], list[Heard]]:
        """Judge each message and hold what is to be archived for `Archive.sync`; what can be shown, who was heard."""
        items: list[Item] = []
        heard: list[Heard] = []
        for message in messages:
            waiting_bytes = self._verifier.waiting_bytes
            first, *later = self._verifier.add(message.data)
            first = self._refuse_stranger(first)
            # Signed by a key that is known from further on: a missing KEY may still prove it.
            is_open = first.verdict is Verdict.UNTRUSTED and self._verifier.waiting_bytes > waiting_bytes
            place = self._keep(first, message, is_open=is_open)
            self._follow(first, place, message.arrived_ns, items, heard)
            for judgement in later:
                self._rejudge(judgement, items)
        return items, heard

    def replay(self, records: Iterable[tuple[Place, bytes]]) -> list[Item]:
        """Judge what is in the archive already; what can be shown."""
        items: list[Item] = []
        for place, data in records:
            first, *later = self._verifier.add(data)
            self._follow(first, place, 0, items, [])
            for judgement in later:
                self._rejudge(judgement, items)
        return items

    def _refuse_stranger(self, judgement: Judgement) -> Judgement:
        """What cannot be verified yet is kept only where it may be later: for a gateway that somebody vouches for."""
        if judgement.verdict is not Verdict.UNVERIFIABLE or self._may_speak(judgement.issuer):
            return judgement
        return replace(judgement, verdict=Verdict.UNTRUSTED, reason="no trust anchor speaks for this gateway")

    def _keep(self, judgement: Judgement, message: Message, *, is_open: bool) -> Place | None:
        verdict = judgement.verdict
        if verdict in _REFUSED and not (is_open and self._may_speak(judgement.issuer)):
            self._quarantine.put(
                message.data, verdict=verdict.value, reason=judgement.reason, topic=message.topic,
                arrived_ns=message.arrived_ns,
            )  # fmt: skip
            self._say(judgement, message.topic, message.arrived_ns)
            return None
        if verdict is Verdict.DUPLICATE:
            return None
        place = self._archive.append(
            judgement.issuer.removeprefix(ISSUER_PREFIX), judgement.epoch, judgement.seq, judgement.hash, message.data,
            arrived_ns=message.arrived_ns,
        )  # fmt: skip
        self.archived_records += 1
        self.archived_bytes += len(message.data)
        if verdict is Verdict.FORK:
            self._say(judgement, message.topic, message.arrived_ns)
        return place

    def _follow(
        self, judgement: Judgement, place: Place | None, arrived_ns: int, items: list[Item], heard: list[Heard]
    ) -> None:
        tally = self._tally(judgement)
        tally.verdicts[judgement.verdict] += 1
        if place is None or judgement.verdict is Verdict.DUPLICATE:
            return
        item = Item(place, arrived_ns)
        if judgement.verdict in _OPEN or judgement.verdict in _REFUSED:
            self._undecided[judgement.hash] = judgement.verdict, item
            return
        tally.epoch, tally.seq = judgement.epoch, max(judgement.seq, tally.seq * (tally.epoch == judgement.epoch))
        heard.append(Heard(judgement.issuer, judgement.type is RecordType.STOP))
        if judgement.verdict is Verdict.AUTHENTIC and judgement.type in SHOWN_TYPES:
            items.append(item)

    def _rejudge(self, judgement: Judgement, items: list[Item]) -> None:
        """An earlier record has another verdict now."""
        before, item = self._undecided.pop(judgement.hash, (None, None))
        if before is not None and item is not None:
            verdicts = self._tally(judgement).verdicts
            verdicts[before] -= 1
            verdicts[judgement.verdict] += 1
            if judgement.verdict in _OPEN:
                self._undecided[judgement.hash] = judgement.verdict, item
        if judgement.verdict in _REFUSED or judgement.verdict is Verdict.FORK:
            self._say(judgement, "", 0)
        elif item and judgement.verdict is Verdict.AUTHENTIC and judgement.type in SHOWN_TYPES:
            items.append(item)

    def _say(self, judgement: Judgement, topic: str, now_ns: int) -> None:
        """Log it at once, and then once a minute while it goes on."""
        key = (judgement.issuer if judgement.issuer in self.tallies else _UNKNOWN, judgement.verdict)
        if now_ns < self._said_ns.get(key, 0):
            return
        self._said_ns[key] = now_ns + _SAID_AGAIN_AFTER_NS
        log.error(
            f"record {judgement.verdict.value.lower()}", issuer=judgement.issuer, epoch=judgement.epoch.hex(),
            seq=judgement.seq, reason=judgement.reason, topic=topic,
            count=self._tally(judgement).verdicts[judgement.verdict] + 1,
        )  # fmt: skip

    def _tally(self, judgement: Judgement) -> Tally:
        # A flood of invented names must leave nothing behind, also when each comes twice.
        is_known = judgement.issuer in self.tallies or judgement.verdict not in _PROVES_NOTHING
        return self.tallies.setdefault(judgement.issuer if is_known else _UNKNOWN, Tally())
