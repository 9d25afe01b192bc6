"""The time line: when devices, gateways and parts were not well in the last day.

It is what the page's process saw, once a second, and the gaps that the gateway has on record since its own start.
Everything is kept in boot time, which never steps, and given out in UTC as the clock is then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from edge.health import RecentStatus
from edge.health.problems import StatusAnswer, issuer_name
from edge.terminal import printable
from edge.units import counted

_BLOCKS_LIMIT = 300
_LANES_LIMIT = 2000
_GAP_NS = 10**9  # As each start has one of less: shorter ones could not be told from it.
_MARKS_APART_NS = 10 * 10**9

Kind = Literal["", "down", "gap", "degraded", "unknown", "away"]
"""Of a block: "" is well, gap is on record, unknown is not known yet, away is that the gateway did not say."""


@dataclass(slots=True)
class Block:
    """A stretch of a lane in which not all was well, or a moment with a count of what happened then."""

    from_ns: int
    to_ns: int | None
    kind: Kind
    text: str
    count: int = 0


class Lane:
    """One line of the time line, of which something is known since `since_ns`."""

    def __init__(self, name: str, since_ns: int) -> None:
        self.name, self.since_ns = name, since_ns
        self.blocks: deque[Block] = deque(maxlen=_BLOCKS_LIMIT)

    def note(self, now_ns: int, kind: Kind, text: str = "", from_ns: int | None = None) -> None:
        """How it is now; `from_ns` where it is known to be so for longer."""
        last = next((block for block in reversed(self.blocks) if block.to_ns is None), None)
        if last is not None:
            if last.kind == kind:
                last.text = text
                return
            last.to_ns = now_ns
        if kind:
            self.blocks.append(Block(now_ns if from_ns is None else from_ns, None, kind, text))

    def add_gap(self, from_ns: int, to_ns: int, text: str) -> None:
        """A gap that has ended, where it was not seen already."""
        for block in self.blocks:
            if block.kind in ("down", "gap") and block.from_ns <= to_ns and (block.to_ns or to_ns) >= from_ns:
                if block.kind == "gap":
                    block.from_ns, block.to_ns = min(block.from_ns, from_ns), max(block.to_ns or 0, to_ns)
                return
        self.blocks = deque(sorted((*self.blocks, Block(from_ns, to_ns, "gap", text)), key=lambda each: each.from_ns),
                            _BLOCKS_LIMIT)  # fmt: skip

    def mark(self, now_ns: int, kind: Kind, count: int, what: str) -> None:
        """Something that happened now, so many times."""
        last = self.blocks[-1] if self.blocks else None
        if last is not None and last.count and last.kind == kind and now_ns - (last.to_ns or 0) < _MARKS_APART_NS:
            last.to_ns, last.count = now_ns, last.count + count
            last.text = counted(last.count, what)
        else:
            self.blocks.append(Block(now_ns, now_ns, kind, counted(count, what), count))


class TimeLine:
    """The lanes in their order: parts that are gone stay until their blocks are a day old."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._gaps_until_ns = 0  # UTC.

    def lane(self, kind: str, name: str, now_ns: int) -> Lane:
        """The lane of a device, gateway or part."""
        key = (kind, name)
        if key not in self._lanes and len(self._lanes) >= _LANES_LIMIT:
            return Lane(name, now_ns)  # It is not remembered.
        return self._lanes.setdefault(key, Lane(name, now_ns))

    def take_gaps(self, recent: RecentStatus, utc_less_boot_ns: int, *, is_first: bool) -> None:
        """Longer gaps on record that are new here; the first time, what is known of the time before, too."""
        lanes = {lane.name: lane for (kind, _), lane in self._lanes.items() if kind == "device"}
        if is_first:
            for lane in lanes.values():
                lane.since_ns = min(lane.since_ns, recent.gaps_since_ns - utc_less_boot_ns)
        for gap in recent.gaps:
            if gap.to_ns > self._gaps_until_ns and gap.to_ns - gap.from_ns >= _GAP_NS:
                name = printable(gap.device)
                for lane in lanes.values() if not name else filter(None, [lanes.get(name)]):
                    lane.add_gap(gap.from_ns - utc_less_boot_ns, gap.to_ns - utc_less_boot_ns, printable(gap.text))
        self._gaps_until_ns = max([self._gaps_until_ns, *(gap.to_ns for gap in recent.gaps)])

    def away(self, now_ns: int, why: str) -> None:
        """Nothing is known of anything now."""
        for lane in self._lanes.values():
            lane.note(now_ns, "away", why)

    def shown(self, now_ns: int, span_ns: int, utc_less_boot_ns: int) -> list[dict[str, Any]]:
        """The blocks of a span, in UTC milliseconds."""
        since_ns = now_ns - span_ns

        def blocks(lane: Lane) -> Iterator[list[Any]]:
            for block in lane.blocks:
                if block.to_ns is None or block.to_ns >= since_ns:
                    ends = None if block.to_ns is None else (block.to_ns + utc_less_boot_ns) // 10**6
                    yield [(block.from_ns + utc_less_boot_ns) // 10**6, ends, block.kind, block.text]

        return [{"kind": kind, "name": lane.name, "since": (lane.since_ns + utc_less_boot_ns) // 10**6,
                 "blocks": list(blocks(lane))}
                for (kind, _), lane in self._lanes.items()]  # fmt: skip


def draw(line: TimeLine, now_ns: int, utc_ns: int, before: StatusAnswer | None, answer: StatusAnswer) -> None:
    """What this status, of this boot time and UTC, adds to the time line."""
    grown = _growth(before, answer)
    problems = {problem.subject: problem for problem in reversed(answer.problems) if problem.state != "NOTICE"}
    for device in answer.devices:
        lane = line.lane("device", printable(device.name), now_ns)
        problem = problems.get(device.name)
        if device.state in ("down", "resting"):
            since_ns = None if device.gap_age_ns is None else now_ns - device.gap_age_ns
            lane.note(now_ns, "down", f"no answer: {printable(device.reason)}", since_ns)
        elif device.state == "connecting":
            lane.note(now_ns, "unknown", "connecting")
        else:
            lane.note(now_ns, "degraded" if problem else "", printable(problem.text) if problem else "")
            if (missed := grown(f"device {device.name}")) > 0:
                lane.mark(now_ns, "degraded", missed, "missed scan")
    if answer.recent is not None:
        line.take_gaps(answer.recent, utc_ns - now_ns, is_first=before is None)
    _draw_gateways(line, now_ns, grown, answer)
    for name, kind, text in _parts(answer):
        line.lane("part", name, now_ns).note(now_ns, kind, printable(text))
    for name, counter, what in (("buffer", "dropped", "lost record"), ("clock", "steps", "step")):
        if (count := grown(counter)) > 0:
            line.lane("part", name, now_ns).mark(now_ns, "down" if name == "buffer" else "degraded", count, what)


def _draw_gateways(line: TimeLine, now_ns: int, grown: Callable[[str], int], answer: StatusAnswer) -> None:
    for issuer in sorted(answer.relay.issuers, key=issuer_name) if answer.relay else ():
        lane = line.lane("gateway", printable(issuer_name(issuer)), now_ns)
        is_silent = issuer.state == "silent"
        lane.note(now_ns, "degraded" if is_silent else "", "sends no records" if is_silent else "")
        if (missing := grown(f"missing {issuer.issuer}")) > 0:
            lane.mark(now_ns, "degraded", missing, "missing record")
        if (refused := grown(f"refused {issuer.issuer}")) > 0:
            lane.mark(now_ns, "down", refused, "refused record")


def _parts(answer: StatusAnswer) -> Iterable[tuple[str, Kind, str]]:
    """What a gateway or relay has besides devices or gateways, and how it is."""
    buffer, uplink, clock, relay = answer.buffer, answer.uplink, answer.clock, answer.relay
    if uplink is not None:
        yield "uplink", "" if uplink.state == "up" else "degraded", uplink.reason or uplink.state.replace("_", " ")
    elif answer.gateway.role == "acquire":
        yield "uplink", "unknown", "the process that sends does not answer"
    if buffer is not None:
        kind: Kind = "down" if buffer.state == "full" else "degraded" if buffer.state == "memory" else ""
        yield "buffer", kind, buffer.reason or f"it is {buffer.state}"
    if clock is not None:
        yield "clock", "degraded" if clock.unmet else "unknown" if clock.bound_ns is None else "", clock.words
    if relay is not None:
        yield "broker", "" if relay.state == "up" else "down", relay.reason
        yield "archive", "down" if relay.unwritable else "", relay.unwritable
        if (view := relay.view) is not None:
            yield "view", "" if view.state == "up" and not view.is_behind else "degraded", view.reason or view.left_out


def _growth(before: StatusAnswer | None, answer: StatusAnswer) -> Callable[[str], int]:
    """By how much a counter of the same process grew since the last status."""
    if before is None or before.gateway.pid != answer.gateway.pid:
        return lambda _: 0
    old, new = _totals(before), _totals(answer)
    return lambda name: new.get(name, 0) - old.get(name, new.get(name, 0))


def _totals(answer: StatusAnswer) -> dict[str, int]:
    totals = {
        f"device {device.name}": sum(group.skipped_scans + group.failed_scans for group in device.scan_groups)
        for device in answer.devices
    }
    if answer.relay is not None:
        totals |= {f"missing {issuer.issuer}": issuer.missing for issuer in answer.relay.issuers}
        totals |= {f"refused {issuer.issuer}": issuer.rejected for issuer in answer.relay.issuers}
    if answer.buffer is not None:
        totals["dropped"] = answer.buffer.dropped_records
    if answer.clock is not None:
        totals["steps"] = answer.clock.steps
    return totals
