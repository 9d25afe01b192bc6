"""`tidegate relay`: receive, verify and archive on the IT side."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import click

from edge import logs
from edge.cli.log_sentences import log_sentence
from edge.clock import Clock, SystemClock
from edge.config.check import load_relay
from edge.config.settings import BrokerSettings, KafkaSettings, RelaySection, RelaySettings, TlsSettings
from edge.config.sockets import served_at
from edge.errors import ArchiveRemoved, ConfigError
from edge.health import (
    GatewayStatus,
    IssuerStatus,
    Notifier,
    RelayStatus,
    StatusLine,
    StatusServer,
    StatusSnapshot,
    Watchdog,
    resident_bytes,
    serve_metrics,
)
from edge.logs import get_logger
from edge.mqtt.access import BrokerAccess
from edge.references import Reference, tls_files
from edge.relay.follow import ViewPlan
from edge.relay.relay import GatewayReport, Relay, RelayPlan
from edge.relay.retention import RetentionPlan
from edge.relay.set_aside import set_aside
from edge.relay.sinks.sink import Sink
from edge.seal.signed_file import FileSigner
from edge.syslog import Syslog
from edge.tls import TlsFiles, load_context
from edge.units import format_size
from edge.verify import Verdict

if TYPE_CHECKING:
    from edge.kafka.client import KafkaAccess
    from edge.relay.scale.intake import IntakePlan, KafkaIntake
    from edge.relay.scale.worker import Worker
    from edge.relay.sinks.historian import Historian

log = get_logger(__name__)

T = TypeVar("T")
Role = Literal["all", "intake", "worker"]

_loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
with suppress(ImportError):
    from uvloop import new_event_loop as _loop_factory

_IN_FLIGHT = 512  # Messages unacknowledged at once, of the broker and of ours.
_REJECTED = (Verdict.GARBAGE, Verdict.ALTERED, Verdict.UNTRUSTED, Verdict.FORK)


@click.command(
    epilog="""\b
Example:
  tidegate relay configs/relay.yaml
  tidegate relay /etc/tidegate/relay.yaml --log json
  tidegate relay /etc/tidegate/relay.yaml --set-aside
  tidegate relay /etc/tidegate/intake-1.yaml --role intake
  tidegate relay /etc/tidegate/worker-1.yaml --role worker

It runs until SIGTERM or Ctrl-C. Exit code 78: the configuration cannot be used."""
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--role",
    type=click.Choice(["all", "intake", "worker"]),
    default="all",
    show_default=True,
    help="intake: pass records on to Kafka instead. worker: take a share of them from there.",
)
@click.option("--missing-to", type=click.Path(path_type=Path, dir_okay=False),
              help="Keep the ranges that are missing in a file, for tidegate resend on the gateway.")  # fmt: skip
@click.option("--log", "log_format", type=click.Choice(["auto", "json", "console"]), help="How log lines look.")
@click.option("--json", "as_json", is_flag=True, help="Log lines as JSON; short for --log json.")
@click.option("--set-aside", "is_setting_aside", is_flag=True,
              help="Do not receive: move records that cannot be proven out of the archive, and end.")  # fmt: skip
def command(
    config: Path, *, role: Role, missing_to: Path | None, log_format: logs.Format | None, as_json: bool,
    is_setting_aside: bool,
) -> None:  # fmt: skip
    """Receive records from the broker, verify them, and keep those that are authentic.

    CONFIG is a relay's configuration file.
    """
    settings = load_relay(config)
    if is_setting_aside:
        _set_aside(settings)
        return
    syslog = None if settings.log.syslog == "off" else Syslog(settings.log.syslog, settings.relay.name, log_sentence)
    logs.configure(settings.log.level, "json" if as_json else log_format or settings.log.format, say=log_sentence,
                   send=syslog.take if syslog else None)  # fmt: skip
    try:
        with asyncio.Runner(loop_factory=_loop_factory) as runner:
            runner.run(_run(settings, role, missing_to))
    except ArchiveRemoved as removed:  # Raised once more when the archive is closed.
        log.error("archive removed", reason=str(removed))  # noqa: TRY400 - The sentence says it all.
        raise click.ClickException(str(removed)) from None


def _set_aside(settings: RelaySettings) -> None:
    archive = needed(settings.relay.archive, "archive")
    for result in set_aside(archive, settings.relay.trust):
        if not result.authentic:
            words = "none of its records is authentic with these trust anchors, so nothing was moved"
        elif not result.moved:
            words = "nothing to move"
        else:
            where = archive / "aside" / result.gateway
            words = f"{result.moved:,} records ({format_size(result.moved_bytes)}) moved to {where}"
        if result.authentic and result.kept:
            words += f"; {result.kept:,} that nothing proves yet stay, because a trusted chain may still link them"
        click.echo(f"{result.gateway}: {words}")


def needed(value: T | None, key: str) -> T:
    """A setting of the relay that this role needs. Raises ConfigError where it is not written."""
    if value is None:
        raise ConfigError(f"relay.{key} is missing; without it a relay has another role: see tidegate relay --help")
    return value


def plan(settings: RelaySettings, role: Role = "all") -> RelayPlan:
    """The settings of the relay, ready for use. Raises ConfigError."""
    relay = settings.relay
    shown = relay.views.unified_namespace
    view = None
    if shown is not None:
        where = "relay.views.unified_namespace.mqtt.tls" if shown.mqtt else "relay.mqtt.tls"
        broker = _address(shown.mqtt or needed(relay.mqtt, "mqtt"), f"tidegate-view-{relay.name}", where)
        view = ViewPlan(
            broker=broker,
            prefix=shown.prefix,
            shape=shown.shape,
            qos=shown.qos,
            is_retained=shown.retain,
            waiting_records=shown.waiting_records,
        )
    return RelayPlan(
        archive=needed(relay.archive, "archive"),
        trust=relay.trust,
        broker=None if role == "worker" else _from_broker(relay),
        view=view,
        waiting_bytes=relay.waiting_limit,
        metrics=relay.status.metrics_files,
        kafka=_files(needed(relay.kafka, "kafka").tls, "relay.kafka.tls") if role == "worker" else None,
        retention=_retention(relay),
        sinks=tuple(_sinks(relay, role)),
        gateways=tuple(relay.gateways),
    )


def intake_plan(settings: RelaySettings) -> IntakePlan:
    """The settings of an intake, ready for use. Raises ConfigError."""
    from edge.relay.scale.intake import IntakePlan

    relay = settings.relay
    kafka = needed(relay.kafka, "kafka")
    return IntakePlan(
        broker=_from_broker(relay),
        kafka=kafka_access(kafka, relay.name),
        topic=f"{kafka.prefix}records",
        partitions=kafka.partitions,
        gateways=tuple(relay.gateways),
        quarantine=relay.quarantine,
        metrics=relay.status.metrics_files,
    )


def worker(settings: RelaySettings, clock: Clock) -> Worker:
    """Where a worker takes its records from. Raises ConfigError.

    What it takes is kept with the rows of the historian; without one, in a topic.
    """
    from edge.kafka.member import MemberPlan
    from edge.relay.scale.database import DatabaseShares
    from edge.relay.scale.table_shares import TableShares
    from edge.relay.scale.worker import Worker

    relay = settings.relay
    kafka = needed(relay.kafka, "kafka")
    access = kafka_access(kafka, relay.name)
    historian = _historian(relay)
    shares = (
        TableShares(access, f"{kafka.prefix}chains")
        if historian is None
        else DatabaseShares(historian, kafka.group, relay.name)
    )
    records = MemberPlan(kafka=access, topic=f"{kafka.prefix}records", partitions=kafka.partitions,
                         group=kafka.group, name=relay.name)  # fmt: skip
    return Worker(records, shares, clock)


def _from_broker(relay: RelaySection) -> BrokerAccess:
    return _address(needed(relay.mqtt, "mqtt"), f"tidegate-relay-{relay.name}", "relay.mqtt.tls")


def kafka_access(kafka: KafkaSettings, relay: str) -> KafkaAccess:
    """The way to Kafka, with the name of the relay as client id. Raises ConfigError."""
    from edge.kafka.client import KafkaAccess

    sasl = kafka.sasl
    return KafkaAccess(
        servers=tuple(kafka.servers),
        client_id=f"tidegate-{relay}",
        tls=_files(kafka.tls, "relay.kafka.tls"),
        mechanism=sasl.mechanism if sasl else None,
        account=sasl.account if sasl else "",
        password=partial(_secret, sasl.password) if sasl else str,
    )


def _historian(relay: RelaySection) -> Historian | None:
    if (to := relay.sinks.historian) is None:
        return None
    from edge.relay.sinks.historian import Historian
    from edge.relay.sinks.historian_session import HistorianPlan, Rename

    files = _files(to.tls, "relay.sinks.historian.tls")
    return Historian(HistorianPlan(
        name="historian", relay=relay.name, host=to.host, port=to.port, database=to.database, account=to.account,
        password=partial(_secret, to.password) if to.password else None, tls=files,
        renames=[Rename(each.gateway, each.was_device or each.device, each.was, each.device, each.tag)
                 for each in to.renames],
        keep_days=_days(to.keep),
    ))  # fmt: skip


def _sinks(relay: RelaySection, role: Role) -> Iterator[Sink]:
    """The sinks that are set: a new one is a section of the settings, and some lines here.

    A worker writes its historian itself, with what it took.
    """
    if role != "worker" and (historian := _historian(relay)) is not None:
        yield historian
    if (lake := relay.sinks.lake) is not None:
        from edge.relay.sinks.lake import Lake, LakePlan

        yield Lake(LakePlan(name="lake", directory=lake.directory, keep_days=_days(lake.keep)))
    if (stream := relay.sinks.stream) is not None:
        from edge.relay.sinks.stream import Stream, StreamPlan

        kafka = needed(relay.kafka, "kafka")
        yield Stream(StreamPlan(
            name="stream", access=kafka_access(kafka, relay.name), prefix=kafka.prefix,
            mark=needed(relay.archive, "archive") / "stream.mark", timeout_s=stream.timeout / 1e9,
        ))  # fmt: skip


def _days(keep_ns: int | None) -> int | None:
    """The days that hold so long a time."""
    return None if keep_ns is None else -(-keep_ns // (86_400 * 10**9))


def _secret(reference: Reference) -> str:
    return reference.read().decode().strip()


def _retention(relay: RelaySection) -> RetentionPlan | None:
    keep = relay.archive_keep
    if keep is None:
        return None
    signer = FileSigner(keep.key.read(), f"relay.archive_keep.key: {keep.key}")
    return RetentionPlan(relay=relay.name, signer=signer, age_ns=keep.age, size_bytes=keep.size)


async def _run(settings: RelaySettings, role: Role, missing_to: Path | None) -> None:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await _serve(settings, role, missing_to)
    except asyncio.CancelledError:
        task.uncancel()


async def _serve(settings: RelaySettings, role: Role, missing_to: Path | None) -> None:
    clock = SystemClock()
    started_ns = clock.boot_ns()
    notifier = Notifier.from_environment()
    async with AsyncExitStack() as stack:
        stack.callback(notifier.close)
        relay: Relay | KafkaIntake
        if role == "intake":
            from edge.relay.scale.intake import KafkaIntake

            relay = intake = await stack.enter_async_context(KafkaIntake(intake_plan(settings), clock))
            snapshot = partial(_intake_snapshot, settings, intake)
        else:
            source = worker(settings, clock) if role == "worker" else None
            relay = whole = await stack.enter_async_context(
                Relay(replace(plan(settings, role), missing_to=missing_to), clock, source)
            )
            snapshot = partial(_snapshot, settings, whole)
        stack.callback(notifier.stopping)

        def state() -> StatusSnapshot:
            return snapshot(clock.boot_ns() - started_ns)

        await stack.enter_async_context(StatusServer(_status_socket(settings.relay), state))
        status = settings.relay.status
        if status.metrics is not None:
            await stack.enter_async_context(serve_metrics(status.metrics, state, status.metrics_files))
        gc.freeze()  # The garbage collector need not scan again what lives as long as the process.
        notifier.ready("receiving")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(Watchdog(notifier, relay.progress).run(), name="watchdog")
            tasks.create_task(relay.run(), name="relay")
            tasks.create_task(StatusLine(notifier, lambda: state().headline()).run(), name="status line")


def _status_socket(relay: RelaySection) -> Path:
    return relay.status.socket or served_at(relay.name, "status", relay.own_socket)


def _process(settings: RelaySettings, uptime_ns: int) -> GatewayStatus:
    return GatewayStatus(
        name=settings.relay.name,
        role="relay",
        version=version("tidegate"),
        pid=os.getpid(),
        uptime_ns=uptime_ns,
        resident_bytes=resident_bytes(),
        log_warnings=logs.counts["warning"],
        log_errors=logs.counts["error"],
    )


def _intake_snapshot(settings: RelaySettings, intake: KafkaIntake, uptime_ns: int) -> StatusSnapshot:
    certificates = tuple(each.status() for each in intake.certificates)
    return StatusSnapshot(gateway=_process(settings, uptime_ns), relay=intake.status(), certificates=certificates)


def _snapshot(settings: RelaySettings, relay: Relay, uptime_ns: int) -> StatusSnapshot:
    report = relay.report()
    return StatusSnapshot(
        gateway=replace(
            _process(settings, uptime_ns),
            disk_written_bytes=report.disk_written_bytes,
            disk_bytes_per_day=report.disk_bytes_per_day,
        ),
        relay=RelayStatus(
            broker=report.broker,
            state=report.state,
            reason=report.reason,
            code=report.code,
            archive=str(settings.relay.archive),
            not_durable=report.not_durable,
            behind_records=report.behind,
            archived_records=report.archived_records,
            archived_bytes=report.archived_bytes,
            bytes_per_day=report.bytes_per_day,
            free_bytes=report.free_bytes,
            unwritable_since_ns=report.unwritable_since_ns,
            unwritable_reason=report.unwritable_reason,
            issuers=tuple(map(_issuer, report.gateways)),
            view=report.view,
            sinks=report.sinks,
        ),
        certificates=tuple(each.status() for each in report.certificates),
        recent=report.recent,
    )


def _issuer(report: GatewayReport) -> IssuerStatus:
    verdicts = report.counts.verdicts
    return IssuerStatus(
        issuer=report.issuer,
        state="stopped" if report.is_stopped else "silent" if report.is_silent else "up",
        epoch=report.counts.epoch.hex(),
        seq=report.counts.seq,
        records=verdicts.total() - verdicts[Verdict.DUPLICATE] + report.counts.refused,
        authentic=verdicts[Verdict.AUTHENTIC],
        duplicates=verdicts[Verdict.DUPLICATE],
        waiting=report.waiting,
        rejected=sum(verdicts[verdict] for verdict in _REJECTED) + report.counts.refused,
        missing=report.missing_records,
        declared_lost=report.declared_lost,
        lag_ns=None if report.lag_ns is None else max(0, report.lag_ns),
        clock_ahead_ns=max(0, -(report.lag_ns or 0)),
        last_record_age_ns=report.last_record_age_ns,
    )


def _files(tls: Literal["off"] | TlsSettings, settings: str) -> TlsFiles | None:
    if tls == "off":
        return None
    files = tls_files(tls.ca, tls.certificate, tls.key, tls.crl, settings=settings, minimum="1.2")
    load_context(files)  # What cannot be used is said at the start; later ones are said when they are needed.
    return files


def _address(broker: BrokerSettings, client_id: str, settings: str) -> BrokerAccess:
    return BrokerAccess(
        host=broker.host,
        port=broker.port,
        client_id=client_id,
        tls=_files(broker.tls, settings),
        username=broker.username,
        password=broker.password.read().strip() if broker.password else None,
        keep_alive_s=broker.keep_alive // 10**9,
        in_flight=_IN_FLIGHT,
    )
