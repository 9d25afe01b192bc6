"""The status as a plugin of Nagios and its relatives gives it: an exit code, one line, and figures with their limits.

Critical is what loses data or soon will, and what records or receives nothing: reasons to wake somebody. A warning is
everything else that needs a person. Limits are added to the verdict and never take from it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

from edge.health.problems import StatusAnswer, archive_room_of, room_of
from edge.health.relay_snapshot import RelayStatus
from edge.health.snapshot import BufferStatus, StatusSnapshot
from edge.terminal import printable

_DAY_NS = 86_400 * 10**9
_SHOWN = 3
_TEXT_LIMIT = 1000  # Agents such as NRPE cut what is longer, and the figures with it.
_RANGE = re.compile(r"(@?)(?:(~|-?\d+(?:\.\d+)?)?:)?(-?\d+(?:\.\d+)?)?")


class Code(IntEnum):
    """The exit codes of the Monitoring Plugins Development Guidelines."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def rank(self) -> int:
        """How much it outweighs: a warning says more than that something is not known yet."""
        return (Code.OK, Code.UNKNOWN, Code.WARNING, Code.CRITICAL).index(self)


_OF_VERDICT = {"OK": Code.OK, "DEGRADED": Code.WARNING, "DOWN": Code.CRITICAL, "UNKNOWN": Code.UNKNOWN}


@dataclass(frozen=True, slots=True)
class Range:
    """The values that are fine, as the guidelines write them: 10, 10:, ~:10, 10:20, @10:20; all where it is empty."""

    text: str = ""
    low: float = float("-inf")
    high: float = float("inf")
    is_inside_bad: bool = False

    @classmethod
    def parse(cls, text: str) -> Range:
        """The inverse of `text`. Raises ValueError."""
        match = _RANGE.fullmatch(text)
        if match is None or not text.strip("@:"):
            raise ValueError(f"{text!r} is no range; write 10 (from 0 to 10 is fine), 10: (10 and more) or 10:20")
        low = float("-inf") if match[2] == "~" else float(match[2] or 0)
        high = float(match[3]) if match[3] else float("inf")
        if low > high:
            raise ValueError(f"{text!r} is no range: it goes from high to low")
        return cls(text, low, high, bool(match[1]))

    def is_met(self, value: float) -> bool:
        """Whether the value is fine."""
        return (self.low <= value <= self.high) != self.is_inside_bad


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of the line.

    Attributes:
        unit: as the guidelines have it: s, %, B, or none.
        value: from a snapshot; None where the process has no such part, or it is not known yet.
    """

    name: str
    meaning: str
    value: Callable[[StatusSnapshot], float | None]
    unit: str = ""
    warning: Range = Range()
    critical: Range = Range()

    def code(self, value: float) -> Code:
        """What the limits say of a value."""
        if not self.critical.is_met(value):
            return Code.CRITICAL
        return Code.OK if self.warning.is_met(value) else Code.WARNING


def _of_buffer(ask: Callable[[BufferStatus], float | None]) -> Callable[[StatusSnapshot], float | None]:
    return lambda snapshot: ask(snapshot.buffer) if snapshot.buffer else None


def _of_relay(ask: Callable[[RelayStatus], float | None]) -> Callable[[StatusSnapshot], float | None]:
    return lambda snapshot: ask(snapshot.relay) if snapshot.relay else None


def _of_devices(ask: Callable[[StatusSnapshot], float]) -> Callable[[StatusSnapshot], float | None]:
    return lambda snapshot: ask(snapshot) if snapshot.devices else None


def _days(room_ns: int | None) -> float | None:
    return None if room_ns is None else room_ns / _DAY_NS


def _certificate_days(snapshot: StatusSnapshot) -> float | None:
    ends = [each.expires_at_ns for each in snapshot.certificates]
    return (min(ends) - time.time_ns()) / _DAY_NS if ends else None


def _lag_s(relay: RelayStatus) -> float | None:
    lags = [issuer.lag_ns for issuer in relay.issuers if issuer.lag_ns is not None and issuer.state == "up"]
    return max(lags) / 1e9 if lags else None


def _share(buffer: BufferStatus) -> float | None:
    return 100 * buffer.undelivered_bytes / buffer.limit_bytes if buffer.limit_bytes else None


def _bad_tags(snapshot: StatusSnapshot) -> float:
    return sum(group.bad_tags for device in snapshot.devices for group in device.scan_groups)


FIGURES = (
    Figure(name="devices_down", meaning="devices that do not answer", warning=Range.parse("0"),
           value=_of_devices(lambda each: sum(one.state in ("down", "resting") for one in each.devices))),
    Figure(name="bad_tags", meaning="tags without a good value", value=_of_devices(_bad_tags)),
    Figure(name="buffer", meaning="share of `buffer.limit` that waits for the broker", unit="%",
           warning=Range.parse("70"), critical=Range.parse("90"), value=_of_buffer(_share)),
    Figure(name="buffer_days", meaning="how long the rest of the buffer lasts without a broker",
           value=_of_buffer(lambda buffer: _days(room_of(buffer)))),
    Figure(name="in_memory", meaning="1: records are in memory only, and lost with the power",
           critical=Range.parse("0"), value=_of_buffer(lambda buffer: buffer.state == "memory")),
    Figure(name="lost", meaning="records lost in the last hour", critical=Range.parse("0"),
           value=_of_buffer(lambda buffer: buffer.dropped_last_hour)),
    Figure(name="waiting", meaning="records that wait for the broker",
           value=lambda snapshot: snapshot.uplink.waiting if snapshot.uplink else None),
    Figure(name="waiting_age", meaning="for how long the oldest of them does", unit="s",
           value=lambda snapshot: (snapshot.uplink.oldest_waiting_age_ns or 0) / 1e9 if snapshot.uplink else None),
    Figure(name="clock_error", meaning="how far the clock may be off", unit="s",
           value=lambda each: each.clock.bound_ns / 1e9 if each.clock and each.clock.bound_ns is not None else None),
    Figure(name="gateways_silent", meaning="gateways that send no records", warning=Range.parse("0"),
           value=_of_relay(lambda relay: sum(one.state == "silent" for one in relay.issuers))),
    Figure(name="missing", meaning="records that have not arrived", warning=Range.parse("0"),
           value=_of_relay(lambda relay: sum(one.missing for one in relay.issuers))),
    Figure(name="refused", meaning="records that nothing proves", warning=Range.parse("0"),
           value=_of_relay(lambda relay: sum(one.rejected for one in relay.issuers))),
    Figure(name="lag", meaning="how old the newest value of the slowest gateway was when it was archived", unit="s",
           value=_of_relay(_lag_s)),
    Figure(name="archive_days", meaning="how long the disk of the archive lasts", warning=Range.parse("7:"),
           critical=Range.parse("1:"), value=_of_relay(lambda relay: _days(archive_room_of(relay)))),
    Figure(name="certificate_days", meaning="until the first certificate in use expires", warning=Range.parse("30:"),
           critical=Range.parse("7:"), value=_certificate_days),
)  # fmt: skip
"""Every figure with its limits by default."""


def limited(warning: Mapping[str, Range], critical: Mapping[str, Range]) -> tuple[Figure, ...]:
    """The figures with other limits. Raises LookupError for a name that no figure has."""
    known = {figure.name for figure in FIGURES}
    for name in (*warning, *critical):
        if name not in known:
            raise LookupError(f"no figure is called {name!r}; there are {', '.join(sorted(known))}")
    return tuple(
        replace(figure, warning=warning.get(figure.name, figure.warning),
                critical=critical.get(figure.name, figure.critical))
        for figure in FIGURES
    )  # fmt: skip


def check_line(answer: StatusAnswer, figures: Iterable[Figure] = FIGURES) -> tuple[Code, str]:
    """The exit code and the line of a status."""
    known = [(figure, value) for figure in figures if (value := figure.value(answer)) is not None]
    of_verdict = _OF_VERDICT[answer.verdict]
    code = max([of_verdict, *(figure.code(value) for figure, value in known)], key=lambda each: each.rank)
    reasons = [] if code is of_verdict else [_phrase(figure, value) for figure, value in known
                                             if figure.code(value) is code]  # fmt: skip
    if code is not Code.OK:
        reasons += [problem.sentence for problem in answer.problems]
    return code, f"{line(code, answer.gateway.name, reasons or [_summary(answer)])} | {' '.join(_data(known))}"


def line(code: Code, name: str, reasons: list[str]) -> str:
    """The line without figures; of many reasons the first few."""
    more = f"; and {len(reasons) - _SHOWN:,} more" if len(reasons) > _SHOWN else ""
    text = printable(f"{name}: {'; '.join(reasons[:_SHOWN])}").replace("|", "/")
    return f"TIDEGATE {code.name} - {text if len(text) <= _TEXT_LIMIT else text[:_TEXT_LIMIT] + '…'}{more}"


def _summary(answer: StatusSnapshot) -> str:
    parts = [answer.headline() or "running"]
    if answer.uplink:
        parts.append(f"uplink {answer.uplink.state.replace('_', ' ')}")
    if answer.relay:
        parts.append(f"{sum(issuer.state == 'up' for issuer in answer.relay.issuers):,} gateways up")
    return ", ".join(parts)


def _phrase(figure: Figure, value: float) -> str:
    limit = figure.warning if figure.critical.is_met(value) else figure.critical
    return f"{figure.name} is {_number(value)}{figure.unit}, fine is {limit.text}"


def _data(known: Iterable[tuple[Figure, float]]) -> Iterator[str]:
    for figure, value in known:
        most = "100" if figure.unit == "%" else ""
        least = "" if figure.name == "certificate_days" else "0"
        limits = f"{figure.warning.text};{figure.critical.text};{least};{most}"
        yield f"{figure.name}={_number(value)}{figure.unit};{limits}".rstrip(";")


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(int(value))
