"""The relay: from the broker to the archive, and from there to the view.

A record is acknowledged to the broker only after it is durable in the archive. Messages that arrive during one sync are
written together by the next, so that the disk sets the pace and one sync serves many records.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import SystemRandom
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from edge.backoff import Backoff
from edge.clock import Clock, SystemClock
from edge.errors import ConfigError
from edge.files import replace_file
from edge.health import (
    SAMPLE_EVERY_S,
    CertificateMonitor,
    HeldCertificate,
    LastHour,
    RecentStatus,
    SinkStatus,
    ViewStatus,
    disk_written_bytes,
)
from edge.logs import get_logger
from edge.mqtt.access import BrokerAccess
from edge.ranges import RecordRange, ranges_to_text
from edge.recent import Recent, joined
from edge.relay.completeness import Completeness, CompletenessChange, Missing
from edge.relay.connection import RETRY_LIMIT_NS
from edge.relay.follow import Follower, ViewPlan, ViewPublisher
from edge.relay.intake import IssuerCounts
from edge.relay.retention import NotRemovable, RetentionPlan, due, examine
from edge.relay.sinks.feed import SinkFeed
from edge.relay.sinks.sink import Sink
from edge.relay.source import FromBroker, Source, SourceState
from edge.relay.waiting import ReceivedMessage
from edge.seal import ConfigChange, Event, Gap, Loss
from edge.seal.record import ISSUER_PREFIX
from edge.tasks import task_group
from edge.tls import TlsFiles, in_use, with_peer
from edge.verify import Trust
from edge.verify.trust import TrustFile, state_of

log = get_logger(__name__)

_CHECK_INTERVAL_S = 1.0
_ALIKE_LOGGED = 3
_SNAPSHOT_INTERVAL_S = 60.0
_TRUST_INTERVAL_S = 5.0
_RETENTION_INTERVAL_S = 600.0

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayPlan:
    """The settings of a relay, checked and ready for use.

    Attributes:
        trust: files and directories of trust anchors.
        broker: where messages come from, unless the relay is given another source.
        heartbeat_ns: the longest silence of a gateway that works.
        quarantine_bytes: most bytes of refused messages that are kept.
        waiting_bytes: most bytes of one gateway's records that cannot be judged yet.
        missing_to: a file that is kept to the ranges that are missing.
        metrics: the files with which metrics are served, for their expiry.
        kafka: the files with which a worker reaches Kafka, for theirs.
        retention: what is removed from the archive; None where it is kept for ever.
        sinks: where authentic values go besides.
        gateways: the only ones that are received from, and whose silence or missing records matter; all where empty.
    """

    archive: Path
    trust: Sequence[TrustFile]
    broker: BrokerAccess | None = None
    view: ViewPlan | None = None
    heartbeat_ns: int = 10 * 10**9
    quarantine_bytes: int = 64 * 2**20
    waiting_bytes: int = 16 * 2**20
    missing_to: Path | None = None
    metrics: TlsFiles | None = None
    kafka: TlsFiles | None = None
    retention: RetentionPlan | None = None
    sinks: Sequence[Sink] = ()
    gateways: Sequence[str] = ()

    def is_for(self, issuer: str) -> bool:
        """Whether a gateway is one that is received from."""
        return not self.gateways or issuer.removeprefix(ISSUER_PREFIX) in self.gateways


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayReport:
    """One gateway as the relay sees it; `missing_records` neither arrived nor were declared lost.

    Attributes:
        waiting: records that cannot be judged yet.
        lag_ns: by the relay's clock, how old the newest value was when it became durable, negative where the gateway's
            clock is ahead of it; None before the first since the start.
    """

    issuer: str
    counts: IssuerCounts
    waiting: int
    missing_records: int
    declared_lost: int
    is_silent: bool
    is_stopped: bool
    lag_ns: int | None
    last_record_age_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayReport:
    """The state of a relay.

    Attributes:
        acknowledged: messages that are durable or refused for good.
        not_durable: messages received and not durable yet.
        behind: records that are there and were not received yet; None where that is not known.
        archived_records: durable, as are `archived_bytes`.
        bytes_per_day: what is archived, at the rate of the last hour; None in the first minute.
        disk_written_bytes: what the process wrote to disks; None where the kernel does not count it.
        disk_bytes_per_day: the same at the rate of the last hour.
        free_bytes: on the disk of the archive; None where that is not known.
        unwritable_since_ns: UTC since the archive cannot be written, and `unwritable_reason` why; None while it can.
        certificates: those that its connections depend on.
        recent: the newest of what gateways recorded.
    """

    broker: str
    state: SourceState
    reason: str
    code: str
    acknowledged: int
    not_durable: int
    behind: int | None
    archived_records: int
    archived_bytes: int
    bytes_per_day: int | None
    disk_written_bytes: int | None
    disk_bytes_per_day: int | None
    free_bytes: int | None
    unwritable_since_ns: int | None
    unwritable_reason: str
    gateways: tuple[GatewayReport, ...]
    missing: tuple[Missing, ...]
    view: ViewStatus | None
    sinks: tuple[SinkStatus, ...]
    certificates: tuple[HeldCertificate, ...]
    recent: RecentStatus


class Relay:
    """Receives, verifies, archives and shows records while its block is open and `run` runs."""

    def __init__(self, plan: RelayPlan, clock: Clock | None = None, source: Source | None = None) -> None:
        self._chains: dict[str, tuple[bytes, ...]] = {}
        self._certificates = CertificateMonitor(log_expiry)
        if plan.broker is not None:
            plan = replace(plan, broker=self._observed("", plan.broker))
        if plan.view is not None:
            plan = replace(plan, view=replace(plan.view, broker=self._observed("view", plan.view.broker)))
        self._plan = plan
        self._clock = clock or SystemClock()
        if source is None:
            assert plan.broker is not None
            source = FromBroker(plan.broker, self._clock, plan.gateways)
        self._source = source
        self._started_ns = self._clock.utc_ns()
        self._disk = ThreadPoolExecutor(1, "archive")
        self._completeness = Completeness(plan.heartbeat_ns)
        self._publisher: ViewPublisher | None = None
        self._feeds: list[SinkFeed] = []
        self._checks = 0
        self._written: list[RecordRange] | None = None  # In the file of missing ranges.
        self._lag_ns: dict[str, int] = {}
        self._recent: dict[str, Recent] = {}
        self._unwritable_since_ns: int | None = None
        self._unwritable_reason = ""
        self._last_hour = LastHour(self._clock.boot_ns(), {})
        self._free_bytes: int | None = None

    async def __aenter__(self) -> Self:
        """Open the archive and verify what it holds since the last snapshot. Raises ConfigError."""
        plan = self._plan
        try:
            self._trust = await self._state_of_trust()
            self.store = await self._source.open(self.in_store, lambda kind: kind(
                plan.archive, plan.trust, quarantine_bytes=plan.quarantine_bytes,
                waiting_bytes=plan.waiting_bytes, view=plan.view, retention=plan.retention,
            ))  # fmt: skip
        except BaseException:
            self._disk.shutdown(wait=False)
            raise
        if plan.view is not None and self.store.follower is not None:
            self._publisher = ViewPublisher(plan.view, self.store.follower, self._clock)
        self._feeds = [SinkFeed(each, plan.archive, self.store, self.in_store, self._clock,
                                self._certificates.check_soon) for each in plan.sinks]  # fmt: skip
        for issuer in filter(plan.is_for, await self.in_store(self.store.running_issuers)):
            self.store.intake.counts.setdefault(issuer, IssuerCounts())
            self._completeness.note_record(issuer, self._clock.boot_ns())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.in_store(self.store.close)
        finally:
            self._disk.shutdown(wait=False)
            self._source.close()
            if self._publisher is not None:
                self._publisher.close()
            for feed in self._feeds:
                feed.close()

    async def run(self) -> None:
        """Work until cancelled."""
        async with task_group() as tasks:
            tasks.create_task(self._source.run(self), name="receive")
            tasks.create_task(self._check_completeness(), name="check")
            tasks.create_task(self._sample(), name="sample")
            tasks.create_task(self._save_snapshots(), name="save")
            tasks.create_task(self._watch_trust(), name="trust")
            tasks.create_task(self._certificates.run(self._held, self._clock.utc_ns), name="certificates")
            if self._plan.retention is not None:
                tasks.create_task(self._remove_old(self._plan.retention), name="retention")
            if self._publisher is not None:
                tasks.create_task(self._publisher.run(), name="view")
            for feed in self._feeds:
                tasks.create_task(feed.run(), name="sink")

    def progress(self) -> int:
        """A number that changes while the relay can reach its archive, for the watchdog."""
        return self._checks

    def report(self) -> RelayReport:
        """The state of the relay."""
        source = self._source.status
        intake, written, now_ns = self.store.intake, disk_written_bytes(), self._clock.boot_ns()
        return RelayReport(
            broker=source.address,
            state=source.state,
            reason=source.reason,
            code=source.code,
            acknowledged=source.acknowledged,
            not_durable=self._source.not_durable,
            behind=self._source.behind,
            archived_records=self.store.archived_records,
            archived_bytes=self.store.archived_bytes,
            bytes_per_day=self._last_hour.per_day("bytes", self.store.archived_bytes, now_ns),
            disk_written_bytes=written,
            disk_bytes_per_day=None if written is None else self._last_hour.per_day("disk", written, now_ns),
            free_bytes=self._free_bytes,
            unwritable_since_ns=self._unwritable_since_ns,
            unwritable_reason=self._unwritable_reason,
            gateways=tuple(self._gateway(issuer, counts) for issuer, counts in intake.counts.items()),
            missing=self._completeness.missing,
            view=self._view(self._publisher, self.store.follower) if self._publisher and self.store.follower else None,
            sinks=tuple(feed.status() for feed in self._feeds),
            certificates=self._certificates.held,
            recent=joined([each.status() for each in self._recent.values()], self._started_ns),
        )

    def _view(self, publisher: ViewPublisher, follower: Follower) -> ViewStatus:
        oldest_ns, now_ns = follower.oldest_ns, self._clock.utc_ns()
        age_ns = 0 if oldest_ns is None else max(0, now_ns - (oldest_ns or self._started_ns))
        return ViewStatus(
            state=publisher.state,
            reason=publisher.reason,
            is_behind=publisher.is_behind,
            waiting=follower.unfinished,
            oldest_age_ns=age_ns,
            dropped=follower.dropped,
            skipped=follower.skipped,
        )

    def _gateway(self, issuer: str, counts: IssuerCounts) -> GatewayReport:
        gaps = [gap for gap in self._completeness.missing if gap.issuer == issuer]
        return GatewayReport(
            issuer=issuer,
            counts=counts,
            waiting=counts.waiting,
            missing_records=sum(gap.records for gap in gaps if not gap.is_declared),
            declared_lost=sum(gap.records for gap in gaps if gap.is_declared),
            is_silent=issuer in self._completeness.silent,
            is_stopped=issuer in self._completeness.stopped,
            lag_ns=self._lag_ns.get(issuer),
            last_record_age_ns=self._completeness.age_ns(issuer, self._clock.boot_ns()),
        )

    async def keep(self, messages: Sequence[ReceivedMessage]) -> None:
        """See `Keeper.keep`."""
        arrived_ns = self._clock.utc_ns()
        new = await self.in_store(self.store.take, messages)
        await self.sync()
        durable_ns = self._clock.utc_ns()
        for record in new:
            if self._plan.is_for(record.issuer):
                self._completeness.note_record(record.issuer, self._clock.boot_ns(), is_stop=record.is_stop)
            if record.until_ns is not None:
                self._lag_ns[record.issuer] = durable_ns - record.until_ns
            if record.told is not None:
                self._note_told(record.issuer, record.told, arrived_ns)
        if self._publisher is not None:
            self._publisher.wake()
        for feed in self._feeds:
            feed.wake()

    def _note_told(self, issuer: str, told: Event | Gap | Loss | ConfigChange, arrived_ns: int) -> None:
        if isinstance(told, Gap) and told.group is not None:
            return  # Its device is told of by events.
        if (recent := self._recent.get(issuer)) is None:
            recent = self._recent[issuer] = Recent(self._started_ns, issuer.removeprefix(ISSUER_PREFIX))
        recent.note(told, "", arrived_ns)

    async def sync(self) -> None:
        """Make records durable, and repeat until the disk accepts them: the broker keeps what is not acknowledged."""
        backoff = Backoff(SystemRandom(), limit_ns=RETRY_LIMIT_NS)
        while True:
            try:
                await self.in_store(self.store.sync)
            except OSError as error:
                reason = error.strerror or str(error)
                if reason != self._unwritable_reason:  # Once, not on every attempt.
                    log.error("archive cannot be written; nothing is acknowledged until it can", reason=reason)  # noqa: TRY400
                self._unwritable_since_ns = self._unwritable_since_ns or self._clock.utc_ns()
                self._unwritable_reason = reason
            else:
                if self._unwritable_since_ns is not None:
                    log.info("archive can be written again")
                self._unwritable_since_ns, self._unwritable_reason = None, ""
                return
            await asyncio.sleep(backoff.next_ns() / 1e9)

    async def _check_completeness(self) -> None:
        while True:
            if (owned := self.store.owned_issuers()) is not None:
                self._completeness.follow(owned, self._clock.boot_ns())
            missing = [each for each in await self.in_store(self.store.missing) if self._plan.is_for(each.issuer)]
            self._checks += 1
            if self._plan.missing_to is not None:
                await self._write_missing(self._plan.missing_to, missing)
            log_changes(self._completeness.changes(missing, self._clock.boot_ns()))
            await asyncio.sleep(_CHECK_INTERVAL_S)

    async def _sample(self) -> None:
        """Take what the status says of the last hour, and of the room on the disk."""
        while True:
            try:
                self._free_bytes = (await self.in_store(shutil.disk_usage, self._plan.archive)).free
            except OSError:
                self._free_bytes = None
            await asyncio.sleep(SAMPLE_EVERY_S)
            counters = {"bytes": self.store.archived_bytes, "disk": disk_written_bytes() or 0}
            self._last_hour.note(self._clock.boot_ns(), counters)

    async def _write_missing(self, path: Path, missing: Sequence[Missing]) -> None:
        ranges = [RecordRange(each.issuer, bytes.fromhex(each.epoch), each.first, each.last)
                  for each in missing if not each.is_declared]  # fmt: skip
        if ranges == self._written:
            return
        try:
            await self.in_store(replace_file, path, ranges_to_text(ranges).encode(), 0o644)
            self._written = ranges
        except OSError as error:
            log.warning("missing ranges not written; the next check tries again", file=str(path), reason=str(error))

    async def _save_snapshots(self) -> None:
        while True:
            await asyncio.sleep(_SNAPSHOT_INTERVAL_S)
            try:
                await self.in_store(self.store.save)
            except OSError as error:
                log.warning("snapshot not written; the next start reads more of the archive", reason=str(error))

    async def _remove_old(self, plan: RetentionPlan) -> None:
        """Remove day files that are due; receiving goes on meanwhile."""
        stay: set[Path] = set()
        while True:
            # A clock that is ahead must not make everything old: the gateways' clocks have a say.
            now_ns = min(self._clock.utc_ns(), await self.in_store(self.store.newest_ns))
            for each in await asyncio.to_thread(due, self._plan.archive, plan, now_ns):
                if each.path in stay:
                    continue
                name = f"{each.path.parent.name}/{each.path.name}"
                try:
                    content = await asyncio.to_thread(examine, each.path)
                    if content.ranges:
                        stated = await self.in_store(self.store.remove, each, content, plan, self._clock.utc_ns())
                        log.info("records removed by retention", file=name, records=stated.records, rule=each.rule)
                    else:
                        stay.add(each.path)
                except NotRemovable as error:
                    stay.add(each.path)
                    log.warning("not removed by retention", file=name, reason=str(error))
                except OSError as error:
                    log.warning("not removed by retention", file=name, reason=error.strerror or str(error))
            await asyncio.sleep(_RETENTION_INTERVAL_S)

    async def _watch_trust(self) -> None:
        """Read the trust files again once they changed; receiving goes on meanwhile."""
        while True:
            await asyncio.sleep(_TRUST_INTERVAL_S)
            found = await self._state_of_trust()
            if found == self._trust:
                continue
            self._trust = found
            try:
                trust = await asyncio.to_thread(Trust.load, self._plan.trust)
            except ConfigError as error:
                log.error("trust files not used; those read before stay in force", reason=str(error))  # noqa: TRY400
                continue
            await self.in_store(self.store.change_trust, trust)
            await self.sync()
            log.info("trust files read again", files=len(found), revocation_lists=trust.authorities.revocation_lists)

    def _observed(self, part: str, broker: BrokerAccess) -> BrokerAccess:
        """The same broker, whose certificates are noted at each connection."""

        def note(chain: Sequence[bytes]) -> None:
            self._chains[part] = tuple(chain)
            self._certificates.check_soon()

        return replace(broker, on_chain=note)

    async def _held(self) -> list[HeldCertificate]:
        brokers = {"": self._plan.broker, "view": self._plan.view.broker if self._plan.view else None}
        found: list[HeldCertificate] = []
        for part, broker in brokers.items():
            if broker is not None and broker.tls is not None:
                ours = await asyncio.to_thread(in_use, broker.tls)
                chain = self._chains.get(part, ())
                found += [HeldCertificate(part, each) for each in with_peer(ours, chain, "the broker's")]
        for files in filter(None, (self._plan.metrics, self._plan.kafka)):
            found += [HeldCertificate("", each) for each in await asyncio.to_thread(in_use, files)]
        for sink in self._plan.sinks:
            found += [HeldCertificate(sink.name, each) for each in await asyncio.to_thread(sink.certificates)]
        # All connections may have the same authority, and those to brokers the same broker.
        return list({each.certificate: each for each in reversed(found)}.values())[::-1]

    async def _state_of_trust(self) -> list[tuple[str, int, int, int]]:
        try:
            return await asyncio.to_thread(state_of, self._plan.trust)
        except OSError:
            return []  # `Trust.load` says why.

    async def in_store(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function of the archive in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, lambda: function(*args, **kwargs))


def log_expiry(kind: str, subject: str, data: Mapping[str, str | int]) -> None:
    """Log that a certificate ends soon, or has ended."""
    write = log.error if kind == "cert.expired" else log.warning
    whose = "the relay's" if data["whose"] == "ours" else data["whose"]
    write(kind, subject=subject, **{**data, "whose": whose})


def log_changes(changes: Iterable[CompletenessChange]) -> None:
    """Log changes; of many alike the first, and how many more: one that catches up fills hundreds of ranges."""
    alike: dict[tuple[str, str, bool], list[CompletenessChange]] = {}
    for change in changes:
        is_declared = change.missing is not None and change.missing.is_declared
        alike.setdefault((change.kind, change.issuer, is_declared), []).append(change)
    for (kind, issuer, is_declared), each in alike.items():
        for change in each[:_ALIKE_LOGGED]:
            _log_change(change)
        if more := each[_ALIKE_LOGGED:]:
            write = log.warning if kind == "opened" else log.info
            words = "no longer missing" if kind == "closed" else "lost" if is_declared else "missing"
            records = sum(change.missing.records for change in more if change.missing)
            write(f"more records {words}", issuer=issuer, ranges=len(more), records=records)


def _log_change(change: CompletenessChange) -> None:
    gap = change.missing
    match change.kind, gap:
        case "opened", Missing(is_declared=True):
            log.warning("records lost, and declared so by the gateway", **gap._asdict())
        case "opened", Missing():
            where = f"--epoch {gap.epoch} --from {gap.first} --to {gap.last}"
            log.warning("records missing", **gap._asdict(), remedy=f"on the gateway: tidegate resend BUFFER {where}")
        case "closed", Missing():
            log.info("records no longer missing", **gap._asdict())
        case "silent", _:
            log.warning("gateway silent: its tail is unknown", issuer=change.issuer)
        case _:
            log.info("gateway heard again", issuer=change.issuer)
