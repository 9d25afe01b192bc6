"""The newest of what went on record, in bounded memory and as sentences, for the status of a gateway or relay."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable

from edge.health import ConfigurationStatus, EventStatus, GapStatus, RecentStatus
from edge.seal import ConfigChange, Event, Gap, Loss
from edge.sentences import CHANGES_SHOWN, change_count, changed, device_of, responsible, sentence, severity_of
from edge.units import format_utc

EVENTS_KEPT = 100
CONFIGURATIONS_KEPT = 20
GAPS_KEPT = 200
_TEXT_LIMIT = 500  # Devices and brokers may say more.
_MERGED = 50  # So many gaps back, one may be of the same stretch as another scan group's.


class Recent:
    """The newest events, configurations and ended gaps of one gateway, in the order of their times."""

    def __init__(
        self, since_ns: int, issuer: str = "", *, configurations: Iterable[ConfigurationStatus] = ()
    ) -> None:  # fmt: skip
        """`configurations` are known from before."""
        self._since_ns, self._gaps_since_ns, self._issuer = since_ns, since_ns, issuer
        self._events: list[EventStatus] = []
        self._configurations = deque(configurations, CONFIGURATIONS_KEPT)
        self._gaps: list[GapStatus] = []
        self._losses: dict[tuple[bytes | None, int], EventStatus] = {}
        self._status: RecentStatus | None = None

    def note(self, content: Event | Gap | Loss | ConfigChange, device: str, now_ns: int) -> None:
        """Keep what was recorded; `device` is that of a gap, or empty where it is of all."""
        self._status = None
        match content:
            case Event():
                self._add_event(content, content.at_ns, device_of(content))
            case Loss():
                # The same loss is declared again, and grows: the newest declaration says all of it.
                key = (content.epoch, content.first)
                if (before := self._losses.pop(key, None)) in self._events:
                    self._events.remove(before)
                self._losses = {**dict(list(self._losses.items())[-_MERGED:]),
                                key: self._add_event(content, content.to_ns or now_ns)}  # fmt: skip
            case Gap():
                if not device:
                    self._add_event(content, content.to_ns or content.from_ns)
                if content.to_ns is not None:
                    self._add_gap(content.from_ns, content.to_ns, content.detail, device)
            case ConfigChange():
                self._add_configuration(content)

    def _add_event(self, content: Event | Gap | Loss, at_ns: int, device: str = "") -> EventStatus:
        severity = severity_of(content).name.lower()
        event = EventStatus(
            at_ns=at_ns, severity=severity, text=_short(sentence(content, _time)), device=device,  # type: ignore[arg-type]
            issuer=self._issuer,
        )  # fmt: skip
        insort(self._events, event, key=lambda each: each.at_ns)
        del self._events[:-EVENTS_KEPT]
        return event

    def _add_gap(self, from_ns: int, to_ns: int, text: str, device: str) -> None:
        """Gaps of the scan groups of a device that overlap are one."""
        for number in range(len(self._gaps) - 1, max(-1, len(self._gaps) - _MERGED), -1):
            gap = self._gaps[number]
            if gap.device == device and gap.from_ns <= to_ns and from_ns <= gap.to_ns:
                from_ns, to_ns = min(from_ns, gap.from_ns), max(to_ns, gap.to_ns)
                del self._gaps[number]
        insort(self._gaps, GapStatus(from_ns=from_ns, to_ns=to_ns, text=_short(text), device=device),
               key=lambda each: each.to_ns)  # fmt: skip
        for gap in self._gaps[:-GAPS_KEPT]:
            self._gaps_since_ns = max(self._gaps_since_ns, gap.to_ns)
        del self._gaps[:-GAPS_KEPT]

    def _add_configuration(self, change: ConfigChange) -> None:
        if change.kept is not None and change.kept.part > 0:
            return  # A further part of the same configuration.
        self._configurations.append(ConfigurationStatus(
            at_ns=change.at_ns, digest=change.new_hash.hex(), who=responsible(change), why=change.why,
            changes=change_count(change), shown=tuple(changed(*each) for each in change.changes[:CHANGES_SHOWN]),
            issuer=self._issuer,
        ))  # fmt: skip

    def status(self) -> RecentStatus:
        """What is kept now."""
        if self._status is None:
            self._status = RecentStatus(
                since_ns=self._since_ns, gaps_since_ns=self._gaps_since_ns, events=tuple(self._events),
                gaps=tuple(self._gaps), configurations=tuple(self._configurations),
            )  # fmt: skip
        return self._status


def joined(all_: list[RecentStatus], since_ns: int, events: int = 2 * EVENTS_KEPT) -> RecentStatus:
    """What several gateways have, of each as much."""
    each = max(5, events // max(1, len(all_)))
    return RecentStatus(
        since_ns=since_ns, gaps_since_ns=since_ns,
        events=tuple(sorted((event for one in all_ for event in one.events[-each:]), key=lambda event: event.at_ns)),
        configurations=tuple(sorted(
            (change for one in all_ for change in one.configurations[-each:]), key=lambda change: change.at_ns
        )[-events:]),
    )  # fmt: skip


def _time(utc_ns: int) -> str:
    return format_utc(utc_ns).replace("T", " ").replace("Z", " UTC")


def _short(text: str) -> str:
    return text if len(text) <= _TEXT_LIMIT else f"{text[: _TEXT_LIMIT - 1]}\N{HORIZONTAL ELLIPSIS}"
