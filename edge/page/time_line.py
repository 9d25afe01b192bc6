"""The time line: when devices, gateways and parts were not well in the last day, as the page's process saw it.

Everything is kept in boot time, which never steps, and given out in UTC as the clock is then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from edge.health.problems import StatusAnswer, issuer_name
from edge.terminal import printable
from edge.units import counted

_BLOCKS_LIMIT = 300
_LANES_LIMIT = 2000
_MARKS_APART_NS = 10 * 10**9

Kind = Literal["", "down", "degraded", "unknown", "away"]
"""Of a block: "" is well, unknown is not known yet, away is that the gateway did not say."""


@dataclass(slots=True)
class Block:
    """A stretch of a lane in which not all was well, or a moment with a count of what happened then."""

    from_ns: int
    to_ns: int | None
    kind: Kind
    text: str
    count: int = 0


class Lane:
    """One line of the time line."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.blocks: deque[Block] = deque(maxlen=_BLOCKS_LIMIT)

    def note(self, now_ns: int, kind: Kind, text: str = "", from_ns: int | None = None) -> None:
        """How it is now; `from_ns` where it is known to be so for longer."""
        last = next((block for block in reversed(self.blocks) if not block.count), None)
        if last is not None and last.to_ns is None:
            if last.kind == kind:
                last.text = text
                return
            last.to_ns = now_ns
        if kind:
            self.blocks.append(Block(now_ns if from_ns is None else from_ns, None, kind, text))

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

    def lane(self, kind: str, name: str) -> Lane:
        """The lane of a device, gateway or part."""
        key = (kind, name)
        if key not in self._lanes and len(self._lanes) >= _LANES_LIMIT:
            return Lane(name)  # It is not remembered.
        return self._lanes.setdefault(key, Lane(name))

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

        return [{"kind": kind, "name": lane.name, "blocks": list(blocks(lane))}
                for (kind, _), lane in self._lanes.items()]  # fmt: skip


def draw(line: TimeLine, now_ns: int, before: StatusAnswer | None, answer: StatusAnswer) -> None:
    """What this status adds to the time line."""
    grown = _growth(before, answer)
    problems = {problem.subject: problem for problem in reversed(answer.problems) if problem.state != "NOTICE"}
    for device in answer.devices:
        lane = line.lane("device", printable(device.name))
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
    _draw_gateways(line, now_ns, grown, answer)
    for name, kind, text in _parts(answer):
        line.lane("part", name).note(now_ns, kind, printable(text))
    for name, counter, what in (("buffer", "dropped", "lost record"), ("clock", "steps", "step")):
        if (count := grown(counter)) > 0:
            line.lane("part", name).mark(now_ns, "down" if name == "buffer" else "degraded", count, what)


def _draw_gateways(line: TimeLine, now_ns: int, grown: Callable[[str], int], answer: StatusAnswer) -> None:
    for issuer in answer.relay.issuers if answer.relay else ():
        lane = line.lane("gateway", printable(issuer_name(issuer)))
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
