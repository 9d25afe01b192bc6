"""What is not here: ranges that are missing while the relay runs, and gateways that fell silent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

SILENT_AFTER_HEARTBEATS = 2.5


class Missing(NamedTuple):
    """Records that existed and are not here, first and last included; `epoch` is hexadecimal."""

    issuer: str
    epoch: str
    first: int
    last: int
    is_declared: bool

    @property
    def records(self) -> int:
        """How many."""
        return self.last - self.first + 1

    def overlaps(self, other: Missing) -> bool:
        """Whether they have a record in common."""
        same_chain = (self.issuer, self.epoch, self.is_declared) == (other.issuer, other.epoch, other.is_declared)
        return same_chain and self.first <= other.last and other.first <= self.last


class Change(NamedTuple):
    """Something to say once: a range opened or closed, a gateway fell silent or is back."""

    kind: Literal["opened", "closed", "silent", "back"]
    issuer: str
    missing: Missing | None = None


class Completeness:
    """Remembers what was said, so that each change is said once."""

    def __init__(self, heartbeat_ns: int) -> None:
        self._silent_after_ns = int(heartbeat_ns * SILENT_AFTER_HEARTBEATS)
        self._heard_ns: dict[str, int] = {}
        self._stopped: set[str] = set()
        self.silent: set[str] = set()
        self.missing: tuple[Missing, ...] = ()

    def heard(self, issuer: str, now_ns: int, *, is_stop: bool = False) -> None:
        """A record of this gateway arrived; after STOP its silence means nothing."""
        self._heard_ns[issuer] = now_ns
        (self._stopped.add if is_stop else self._stopped.discard)(issuer)

    def age_ns(self, issuer: str, now_ns: int) -> int | None:
        """How long ago a record of this gateway arrived."""
        heard_ns = self._heard_ns.get(issuer)
        return None if heard_ns is None else now_ns - heard_ns

    def changes(self, missing: Iterable[Missing], now_ns: int) -> Iterator[Change]:
        """What changed since the last look: a range that only shrinks is still the same."""
        before, self.missing = self.missing, tuple(missing)
        yield from (Change("opened", gap.issuer, gap) for gap in _not_in(before, self.missing))
        yield from (Change("closed", gap.issuer, gap) for gap in _not_in(self.missing, before))
        for issuer, heard_ns in self._heard_ns.items():
            is_silent = now_ns - heard_ns > self._silent_after_ns and issuer not in self._stopped
            if is_silent and issuer not in self.silent:
                self.silent.add(issuer)
                yield Change("silent", issuer)
            elif not is_silent and issuer in self.silent:
                self.silent.discard(issuer)
                yield Change("back", issuer)


def _not_in(known: Iterable[Missing], gaps: Iterable[Missing]) -> list[Missing]:
    """Ranges that have no record in common with a known one."""
    others = set(gaps) - set(known)
    return [gap for gap in gaps if gap in others and not any(gap.overlaps(one) for one in known)]
