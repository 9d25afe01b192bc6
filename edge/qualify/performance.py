"""Performance qualification: what the real site did in the last days, by its own records.

It is the report on those days, read from the archive of a relay or from the buffer of a gateway, with what only a
qualification asks for beside it. Memory does not grow with the days: of bounds a histogram is kept.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import orjson

from edge.buffer import PosixDisk, Reader
from edge.config.settings import GatewaySettings, RelaySettings
from edge.errors import ConfigError
from edge.qualify.checks import Check, Outcome, Task, named, perform
from edge.references import TrustPath
from edge.relay.archive import record_files
from edge.relay.removals import statements_in
from edge.report.answer import Asked, range_report
from edge.report.collect import Collector
from edge.report.facts import GapAnswer, GatewayAnswer, RangeReport
from edge.seal import Checkpoint, Data, Event, public_path_of
from edge.seal.record import ISSUER_PREFIX
from edge.terminal import age
from edge.units import counted, format_duration, format_size, format_utc
from edge.verify import Judgement, Trust, Verdict
from edge.verify.window import Window

DAY_NS = 86_400 * 10**9
_READ_BYTES = 1 << 20
_FRESH_NS = 600 * 10**9
_SLACK_NS = 60 * 10**9
_FINE = 8  # Steps of the histogram for each doubling: 9 %.
_OUTAGES_KEPT = 1000
_AWAY = ("uplink.down", "uplink.refused")


class Performance:
    """The checks of the last days.

    Args:
        settings: of the gateway or relay whose records are read.
        say: is told how far the reading is.
    """

    def __init__(
        self, settings: GatewaySettings | RelaySettings, days: int, version: str, say: Callable[[str], None]
    ) -> None:
        self._settings, self._days, self._version, self._say = settings, days, version, say
        self._now_ns = time.time_ns()
        self._window = Window(from_ns=self._now_ns - days * DAY_NS)
        self._bounds: Counter[int] = Counter()  # By the step of the histogram; -1 where none was known.
        self._highest: dict[str, tuple[int, int, int]] = {}  # Records and bytes that waited most, and when.
        self._outages: list[tuple[str, int, int | None, str]] = []
        self._outages_not_kept = 0
        self._report: RangeReport | None = None

    def run(self, folder: Path, on_check: Callable[[Check], None]) -> None:
        """Do all of them."""
        for task in self._tasks():
            on_check(perform(task, folder))

    def _tasks(self) -> list[Task]:
        days = counted(self._days, "day")
        return [
            Task(id="PQ-01", title="Records", requirements=("REQ-VERIFY-05",), look=self.records,
                 done=f"Verified every record of the last {days}.",
                 expected="All are authentic, and none is missing but by retention."),
            Task(id="PQ-02", title="Days on record", look=self.covered,
                 done="Compared what is held with the days asked for.",
                 expected=f"The record reaches back {days}, and up to now."),
            Task(id="PQ-03", title="Readings", requirements=("REQ-READ-01", "REQ-READ-02"), look=self.readings,
                 done="Counted readings that were due, done and missed, and the causes of gaps.",
                 expected="What is missed lies in declared gaps."),
            Task(id="PQ-04", title="Outages of the uplink", requirements=("REQ-SEND-01",), look=self.outages,
                 done="Looked for when the broker was away or refused records.", expected="Each outage has ended."),
            Task(id="PQ-05", title="Clock", requirements=("REQ-TIME-01",), look=self.clock,
                 done="Took the bound of the clock's error of each record.", expected="A bound is known throughout."),
            Task(id="PQ-06", title="Buffer", requirements=("REQ-BUF-02",), look=self.buffer,
                 done="Looked in the checkpoints for how much waited, and for losses.",
                 expected="Nothing was dropped."),
        ]  # fmt: skip

    def records(self) -> Outcome:
        """All of them, verified."""
        report = self._read()
        raw = orjson.dumps(report, option=orjson.OPT_INDENT_2)
        if not report.gateways:
            return Outcome("nothing is on record yet", held=False, raw=raw, suffix="json")
        missing = {each.gateway: sum(one.records for one in each.complete.missing if not one.is_removed)
                   for each in report.gateways}  # fmt: skip
        said = [f"{each.gateway}: {each.unaltered.valid:,} of {counted(each.unaltered.records, 'record')} authentic, "
                f"{missing[each.gateway]:,} missing" for each in report.gateways]  # fmt: skip
        held = all(each.unaltered.is_unaltered and each.unaltered.records for each in report.gateways)
        return Outcome(named(said), held and not any(missing.values()), raw, "json")

    def covered(self) -> Outcome:
        """From when to when."""
        gateways, wrong = self._read().gateways, []
        begin_ns = self._window.from_ns or 0
        for each in gateways:
            first_ns, last_ns = each.held_from_ns or self._now_ns, each.held_to_ns or 0
            if first_ns > begin_ns + _SLACK_NS:
                wrong.append(f"{each.gateway} is on record since {format_utc(first_ns)} only")
            if last_ns < self._now_ns - _FRESH_NS:
                wrong.append(f"{each.gateway} is on record up to {format_utc(last_ns)} only")
        said = f"{counted(len(gateways), 'gateway')} on record since {format_utc(begin_ns)} or before"
        return Outcome(named(wrong) or said, bool(gateways) and not wrong)

    def readings(self) -> Outcome:
        """Due, done and missed."""
        lines, gaps = [], Counter[str]()
        due = done = undeclared = 0
        for gateway in self._read().gateways:
            for each in gateway.devices:
                due, done = due + each.due, done + (each.received if each.due else 0)
                lines.append(f"{gateway.gateway}/{each.device}: {each.due:,} due, {each.received:,} received")
            for gap in _inside(gateway):
                undeclared += not gap.is_declared
                gaps[gap.reason] += 1
                when = f"not read from {format_utc(gap.from_ns)} for {_length(gap)}"
                lines.append(f"{gateway.gateway}/{gap.device or 'all devices'}: {when}: {gap.reason}")
        causes = ", ".join(f"{number} x {reason}" for reason, number in gaps.most_common(3))
        said = f"{due:,} due, {done:,} done, {max(due - done, 0):,} missed; {counted(sum(gaps.values()), 'gap')}"
        said += f" ({causes})" if causes else ""
        return Outcome(said + (f"; {undeclared} not declared" if undeclared else ""), not undeclared and bool(lines),
                       "\n".join(lines))  # fmt: skip

    def outages(self) -> Outcome:
        """When the broker was away."""
        self._read()
        lines = [f"{gateway}: from {format_utc(from_ns)} {f'for {age(to_ns - from_ns)}' if to_ns else 'on'}: {reason}"
                 for gateway, from_ns, to_ns, reason in self._outages]  # fmt: skip
        still = sum(to_ns is None for _, _, to_ns, _ in self._outages)
        longest = max((to_ns - from_ns for _, from_ns, to_ns, _ in self._outages if to_ns is not None), default=0)
        count = len(self._outages) + self._outages_not_kept
        said = counted(count, "outage") + (f", the longest {age(longest)}" if longest else "")
        return Outcome(said + (f"; {still} did not end" if still else ""), not still, "\n".join(lines))

    def clock(self) -> Outcome:
        """Percentiles of the bound."""
        self._read()
        known = sorted((step, number) for step, number in self._bounds.items() if step >= 0)
        total, unknown = sum(number for _, number in known), self._bounds[-1]
        told = ", ".join(f"{share:g} %: {format_duration(_percentile(known, total, share))}"
                         for share in (50, 95, 99, 100)) if total else "none"  # fmt: skip
        lines = [f"up to {format_duration(_upper_ns(step))}: {number}" for step, number in known]
        words = f"bounds of {counted(total, 'record')}: {told}; unknown in {unknown:,}"
        return Outcome(words, total > 0 and not unknown, "\n".join(lines))

    def buffer(self) -> Outcome:
        """How much waited most."""
        gateways = self._read().gateways
        said = [f"{name}: {records:,} records waited most, {format_size(size)} held, at {format_utc(at_ns)}"
                for name, (records, size, at_ns) in sorted(self._highest.items())]  # fmt: skip
        lost = [f"{each.gateway}: {text}" for each in gateways for text in each.complete.losses]
        return Outcome(named([*lost, *said]) or "no checkpoint is on record", bool(said) and not lost,
                       "\n".join([*lost, *said]))  # fmt: skip

    # Reading

    def _read(self) -> RangeReport:
        if self._report is None:
            self._report = self._read_from(self._window)
            begins = [each.held_from_ns or 0 for each in self._report.gateways]
            if begins and min(begins) > (self._window.from_ns or 0):  # Before the first record nothing was due.
                self._report = self._read_from(Window())
        return self._report

    def _read_from(self, window: Window) -> RangeReport:
        self._bounds.clear()
        self._highest.clear()
        self._outages.clear()
        settings, trust = self._settings, Trust.load(self._anchors())
        collector = Collector(trust, window, follower=self._note)
        if isinstance(settings, GatewaySettings):
            self._read_buffer(collector, settings.buffer_directory)
        else:
            archive = settings.relay.archive
            if archive is None:
                raise ConfigError("an intake has no archive: qualify the relay that archives")
            files = record_files(archive, None)
            for path in files:
                self._say(f"{path.parent.name}/{path.name}")
                collector.read(path)
            collector.note_removals(trust, statements_in(list(dict.fromkeys(each.parent for each in files)), None))
        return range_report(collector, Asked(
            zone="", version=self._version, command="tidegate qualify", made_at_ns=self._now_ns, trust=(),
            not_reported=(), with_tags=None,
        ))  # fmt: skip

    def _anchors(self) -> tuple[TrustPath, ...]:
        if isinstance(self._settings, RelaySettings):
            return self._settings.relay.trust
        key = self._settings.identity_key
        if key.kind != "file":
            raise ConfigError("the identity key is a credential: qualify the performance where the relay archives")
        return (TrustPath(public_path_of(Path(key.name))),)

    def _read_buffer(self, collector: Collector, directory: Path) -> None:
        with closing(Reader(PosixDisk(directory))) as reader:
            number, end = reader.oldest(), reader.durable_end()
            while number < end and (batch := reader.read(number, _READ_BYTES)):
                self._say(f"record {batch[-1][0]:,} of {end:,}")
                for each, data in batch:
                    collector.take(directory, each, data)
                number = batch[-1][0] + 1

    def _note(self, path: Path, offset: int, length: int, judgements: list[Judgement]) -> None:  # noqa: ARG002
        for each in judgements:
            content, gateway = each.content, each.issuer.removeprefix(ISSUER_PREFIX)
            if each.verdict is not Verdict.AUTHENTIC:
                continue
            if isinstance(content, Data) and self._is_inside(content.utc_ns):
                bound_ns = content.time.bound_at(content.boot_ns)
                self._bounds[-1 if bound_ns is None else _step_of(bound_ns)] += 1
            elif isinstance(content, Checkpoint):
                at_ns = content.time.as_of_ns + content.time.offset_ns
                held = content.buffer
                if self._is_inside(at_ns) and held.undelivered >= self._highest.get(gateway, (0, 0, 0))[0]:
                    self._highest[gateway] = held.undelivered, held.size_bytes, at_ns
            elif isinstance(content, Event) and self._is_inside(content.at_ns):
                self._note_event(gateway, content)

    def _note_event(self, gateway: str, event: Event) -> None:
        open_at = next((at for at in range(len(self._outages) - 1, -1, -1)
                        if self._outages[at][0] == gateway and self._outages[at][2] is None), None)  # fmt: skip
        if event.kind in ("uplink.up", "uplink.accepted") and open_at is not None:
            name, from_ns, _, reason = self._outages[open_at]
            self._outages[open_at] = name, from_ns, event.at_ns, reason
        elif event.kind in _AWAY and open_at is None:
            if len(self._outages) < _OUTAGES_KEPT:
                self._outages.append((gateway, event.at_ns, None, str(event.data.get("reason", event.kind))))
            else:
                self._outages_not_kept += 1

    def _is_inside(self, at_ns: int) -> bool:
        return self._window.side(0, at_ns, at_ns) == 0


def _inside(gateway: GatewayAnswer) -> list[GapAnswer]:
    return [each for each in gateway.complete.gaps if each.is_inside]


def _length(gap: GapAnswer) -> str:
    return "a time that has not ended" if gap.to_ns is None else age(gap.to_ns - gap.from_ns)


def _step_of(bound_ns: int) -> int:
    """The step of the histogram that a bound is in."""
    bits = max(bound_ns, 1).bit_length() - 1
    return _FINE * bits + (max(bound_ns, 1) * _FINE >> bits) - _FINE


def _upper_ns(step: int) -> int:
    """The largest bound of a step."""
    bits, part = divmod(step, _FINE)
    return ((part + _FINE + 1) << bits) // _FINE


def _percentile(known: list[tuple[int, int]], total: int, share: float) -> int:
    """The bound that this share of records does not exceed, from above and to 13 %."""
    seen = 0
    for step, number in known:
        seen += number
        if 100 * seen >= share * total:
            return _upper_ns(step)
    return _upper_ns(known[-1][0])
