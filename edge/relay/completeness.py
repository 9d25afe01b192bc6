"""Ranges of records that are missing while the relay runs, and gateways that fell silent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

SILENT_AFTER_HEARTBEATS = 2.5


class Missing(NamedTuple):
    """Records that existed and did not arrive, first and last included; `epoch` is hexadecimal."""

    issuer: str
    epoch: str
    first: int
    last: int
    is_declared: bool

    @property
    def records(self) -> int:
        """Number of records."""
        return self.last - self.first + 1

    def overlaps(self, other: Missing) -> bool:
        """Whether they have a record in common."""
        same_chain = (self.issuer, self.epoch, self.is_declared) == (other.issuer, other.epoch, other.is_declared)
        return same_chain and self.first <= other.last and other.first <= self.last


class CompletenessChange(NamedTuple):
    """A range opened or closed, or a gateway fell silent or is back."""

    kind: Literal["opened", "closed", "silent", "back"]
    issuer: str
    missing: Missing | None = None


class Completeness:
    """Compares with what was reported before, so that each change is reported once."""

    def __init__(self, heartbeat_ns: int) -> None:
        self._silent_after_ns = int(heartbeat_ns * SILENT_AFTER_HEARTBEATS)
        self._last_record_ns: dict[str, int] = {}
        self.stopped: set[str] = set()
        self.silent: set[str] = set()
        self.missing: tuple[Missing, ...] = ()

    def note_record(self, issuer: str, now_ns: int, *, is_stop: bool = False) -> None:
        """A record of this gateway arrived; after STOP its silence is expected."""
        self._last_record_ns[issuer] = now_ns
        (self.stopped.add if is_stop else self.stopped.discard)(issuer)

    def follow(self, issuers: Mapping[str, bool], now_ns: int) -> None:
        """Expect records of these gateways if they run, and of no others."""
        for issuer in self._last_record_ns.keys() - issuers.keys():
            del self._last_record_ns[issuer]
            self.silent.discard(issuer)
            self.stopped.discard(issuer)
        for issuer, is_running in issuers.items():
            if is_running:
                self._last_record_ns.setdefault(issuer, now_ns)

    def age_ns(self, issuer: str, now_ns: int) -> int | None:
        """Time since the last record of this gateway arrived; None before the first."""
        last_ns = self._last_record_ns.get(issuer)
        return None if last_ns is None else now_ns - last_ns

    def changes(self, missing: Iterable[Missing], now_ns: int) -> Iterator[CompletenessChange]:
        """What changed since the last call: a range that only shrinks is still the same."""
        before, self.missing = self.missing, tuple(missing)
        yield from (CompletenessChange("opened", gap.issuer, gap) for gap in _not_in(before, self.missing))
        yield from (CompletenessChange("closed", gap.issuer, gap) for gap in _not_in(self.missing, before))
        for issuer, last_ns in self._last_record_ns.items():
            is_silent = now_ns - last_ns > self._silent_after_ns and issuer not in self.stopped
            if is_silent and issuer not in self.silent:
                self.silent.add(issuer)
                yield CompletenessChange("silent", issuer)
            elif not is_silent and issuer in self.silent:
                self.silent.discard(issuer)
                yield CompletenessChange("back", issuer)


def _not_in(known: Iterable[Missing], gaps: Iterable[Missing]) -> list[Missing]:
    """Ranges that share no record with a known one."""
    others = set(gaps) - set(known)
    return [gap for gap in gaps if gap in others and not any(gap.overlaps(one) for one in known)]
