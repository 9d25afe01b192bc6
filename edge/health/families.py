"""Every metric: its name, its meaning, and where its value comes from in a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge.health.snapshot import StatusSnapshot

_NS = 1e9


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. `values` returns (label values, number or None); None is left out."""

    name: str
    meaning: str
    values: Callable[[StatusSnapshot], Iterable[tuple[Sequence[str], float | None]]]
    labels: tuple[str, ...] = ()

    @property
    def is_counter(self) -> bool:
        """Whether the metric only grows."""
        return self.name.endswith("_total")


def text_of(snapshot: StatusSnapshot) -> bytes:
    """All metrics of one snapshot in the Prometheus text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(snapshot))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, snapshot: StatusSnapshot) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            kind = CounterMetricFamily if family.is_counter else GaugeMetricFamily
            metric = kind(family.name, family.meaning, labels=family.labels)
            for labels, value in family.values(self._snapshot):
                if value is not None:
                    metric.add_metric(list(labels), value)
            if metric.samples:
                yield metric


def _of(
    part: str, field: str, scale: float = 1
) -> Callable[[StatusSnapshot], Iterable[tuple[Sequence[str], float | None]]]:
    """The values of one field of one part of the snapshot; empty where the role does not have that part."""

    def values(snapshot: StatusSnapshot) -> Iterator[tuple[Sequence[str], float | None]]:
        held: Any = getattr(snapshot, part)
        if held is not None:
            value = getattr(held, field)
            yield (), None if value is None else value / scale

    return values


def _up(part: str) -> Callable[[StatusSnapshot], Iterable[tuple[Sequence[str], float | None]]]:
    def values(snapshot: StatusSnapshot) -> Iterator[tuple[Sequence[str], float | None]]:
        held: Any = getattr(snapshot, part)
        if held is not None:
            yield (), float(held.state in ("up", "ok"))

    return values


def _archive_up(snapshot: StatusSnapshot) -> Iterable[tuple[Sequence[str], float | None]]:
    if snapshot.relay is not None:
        yield (), float(snapshot.relay.unwritable_since_ns is None)


def _view(field: str, scale: float = 1) -> Callable[[StatusSnapshot], Iterable[tuple[Sequence[str], float | None]]]:
    def values(snapshot: StatusSnapshot) -> Iterator[tuple[Sequence[str], float | None]]:
        if snapshot.relay is not None and snapshot.relay.view is not None:
            yield (), getattr(snapshot.relay.view, field) / scale

    return values


def _view_up(snapshot: StatusSnapshot) -> Iterable[tuple[Sequence[str], float | None]]:
    view = snapshot.relay.view if snapshot.relay else None
    return [] if view is None else [((), float(view.state == "up"))]


def _sink(field: str, scale: float = 1) -> Callable[[StatusSnapshot], Iterable[tuple[Sequence[str], float | None]]]:
    return lambda snapshot: (
        ((sink.name,), getattr(sink, field) / scale) for sink in (snapshot.relay.sinks if snapshot.relay else ())
    )


def _sink_up(snapshot: StatusSnapshot) -> Iterable[tuple[Sequence[str], float | None]]:
    return [((sink.name,), float(sink.state == "up")) for sink in (snapshot.relay.sinks if snapshot.relay else ())]


def _device(field: str) -> Callable[[StatusSnapshot], Iterable[tuple[Sequence[str], float | None]]]:
    return lambda snapshot: (((device.name,), getattr(device, field)) for device in snapshot.devices)


def _group(field: str, scale: float = 1) -> Callable[[StatusSnapshot], Iterable[tuple[Sequence[str], float | None]]]:
    def values(snapshot: StatusSnapshot) -> Iterator[tuple[Sequence[str], float | None]]:
        for device in snapshot.devices:
            for group in device.scan_groups:
                value = getattr(group, field)
                yield (device.name, group.name), None if value is None else value / scale

    return values


def _issuer(field: str, scale: float = 1) -> Callable[[StatusSnapshot], Iterable[tuple[Sequence[str], float | None]]]:
    def values(snapshot: StatusSnapshot) -> Iterator[tuple[Sequence[str], float | None]]:
        for issuer in snapshot.relay.issuers if snapshot.relay else ():
            value = getattr(issuer, field)
            yield (issuer.issuer,), None if value is None else value / scale

    return values


def _issuer_is(state: str) -> Callable[[StatusSnapshot], Iterable[tuple[Sequence[str], float | None]]]:
    return lambda snapshot: (
        ((issuer.issuer,), float(issuer.state == state))
        for issuer in (snapshot.relay.issuers if snapshot.relay else ())
    )


def _certificates(snapshot: StatusSnapshot) -> Iterable[tuple[Sequence[str], float | None]]:
    # Of several with the same labels the first to expire: a sample must be unique.
    ends: dict[tuple[str, str, str], float] = {}
    for each in snapshot.certificates:
        labels, end_s = (each.whose, each.name, each.device), each.expires_at_ns / _NS
        ends[labels] = min(ends.get(labels, end_s), end_s)
    return ends.items()


def _refused_topics(snapshot: StatusSnapshot) -> Iterable[tuple[Sequence[str], float | None]]:
    topics = snapshot.uplink.refused_topics if snapshot.uplink else ()
    return [((each.topic, f"0x{each.reason_code:02X}", each.reason), 1) for each in topics]


_DEVICE = ("device",)
_GROUP = ("device", "scan_group")
_ISSUER = ("issuer",)
_SINK = ("sink",)

FAMILIES: tuple[Family, ...] = (
    Family(
        "tidegate_info",
        "Always 1; the labels say which program this is.",
        lambda s: [((s.gateway.name, s.gateway.role, s.gateway.version), 1)],
        ("name", "role", "version"),
    ),
    Family("tidegate_uptime_seconds", "Time since the process started.", _of("gateway", "uptime_ns", _NS)),
    Family("tidegate_resident_bytes", "Memory in use.", _of("gateway", "resident_bytes")),
    Family(
        "tidegate_disk_written_bytes_total",
        "Bytes that this process wrote to disks, in whole pages and without what file systems add.",
        _of("gateway", "disk_written_bytes"),
    ),
    Family(
        "tidegate_disk_bytes_per_day",
        "The same at the rate of the last hour: how fast a disk wears. Absent in the first minute.",
        _of("gateway", "disk_bytes_per_day"),
    ),
    Family("tidegate_log_warnings_total", "Warnings logged: each heals by itself.", _of("gateway", "log_warnings")),
    Family("tidegate_log_errors_total", "Errors logged: each asks for a person.", _of("gateway", "log_errors")),
    Family(
        "tidegate_clock_synchronized",
        "1 while the clock is disciplined by a source that can be trusted.",
        lambda s: [((), float(s.clock.state == "SYNCHRONIZED"))] if s.clock else [],
    ),
    Family(
        "tidegate_clock_bound_seconds",
        "How far UTC may be off; absent when no bound can be given.",
        _of("clock", "bound_ns", _NS),
    ),
    Family("tidegate_clock_steps_total", "Steps of the wall clock.", _of("clock", "steps")),
    Family("tidegate_sealed_records_total", "Records sealed.", _of("chain", "records")),
    Family("tidegate_sealed_bytes_total", "Bytes of sealed records.", _of("chain", "record_bytes")),
    Family("tidegate_sealed_readings_total", "Tag values in sealed records.", _of("chain", "readings")),
    Family(
        "tidegate_last_sealed_age_seconds",
        "Time since the last record was sealed; above three heartbeats the gateway is stuck.",
        _of("chain", "last_sealed_age_ns", _NS),
    ),
    Family("tidegate_buffer_ok", "0 when the buffer is full or its disk fails.", _up("buffer")),
    Family("tidegate_buffer_stored_bytes", "Bytes in the buffer.", _of("buffer", "stored_bytes")),
    Family("tidegate_buffer_limit_bytes", "Bytes the buffer may use.", _of("buffer", "limit_bytes")),
    Family(
        "tidegate_buffer_undelivered_records", "Records waiting for delivery.", _of("buffer", "undelivered_records")
    ),
    Family(
        "tidegate_buffer_undelivered_bytes",
        "Bytes of the segments that hold something undelivered.",
        _of("buffer", "undelivered_bytes"),
    ),
    Family(
        "tidegate_buffer_dropped_records_total",
        "Records dropped before delivery; each range is declared by a LOSS record.",
        _of("buffer", "dropped_records"),
    ),
    Family("tidegate_buffer_corrupt_records_total", "Records found damaged on disk.", _of("buffer", "corrupt_records")),
    Family("tidegate_buffer_syncs_total", "Commits synced to disk.", _of("buffer", "syncs")),
    Family("tidegate_buffer_sync_failures_total", "Syncs that the disk refused.", _of("buffer", "sync_failures")),
    Family("tidegate_uplink_up", "1 while the broker takes the records of all topics.", _up("uplink")),
    Family(
        "tidegate_uplink_refused_topic",
        "1 for a topic whose records the broker does not take; `reason` says what would help.",
        _refused_topics,
        ("topic", "reason_code", "reason"),
    ),
    Family("tidegate_uplink_connects_total", "Connections made to the broker.", _of("uplink", "connects")),
    Family("tidegate_uplink_published_total", "Records sent, repeats included.", _of("uplink", "published")),
    Family("tidegate_uplink_published_bytes_total", "Bytes of records sent.", _of("uplink", "published_bytes")),
    Family(
        "tidegate_uplink_acknowledged_total",
        "Records the broker acknowledged, each once; after a start, those of the last resend window too.",
        _of("uplink", "acknowledged"),
    ),
    Family("tidegate_uplink_refused_total", "Records the broker refused.", _of("uplink", "refused")),
    Family("tidegate_uplink_no_subscriber_total", "Records that met no subscriber.", _of("uplink", "no_subscriber")),
    Family(
        "tidegate_uplink_resent_total",
        "Records sent again: after a lost connection, or because someone asked.",
        _of("uplink", "resent"),
    ),
    Family("tidegate_uplink_to_resend", "Delivered records that will be sent again.", _of("uplink", "to_resend")),
    Family("tidegate_uplink_in_flight", "Records sent and not yet acknowledged.", _of("uplink", "in_flight")),
    Family(
        "tidegate_uplink_last_acknowledged_age_seconds",
        "Time since the broker last acknowledged a record.",
        _of("uplink", "last_acknowledged_age_ns", _NS),
    ),
    Family(
        "tidegate_device_up",
        "1 while the device answers.",
        lambda s: (((device.name,), float(device.state == "up")) for device in s.devices),
        _DEVICE,
    ),
    Family("tidegate_device_connects_total", "Sessions opened with the device.", _device("connects"), _DEVICE),
    Family("tidegate_device_violations_total", "Answers refused by the checks.", _device("violations"), _DEVICE),
    Family(
        "tidegate_certificate_expiry_timestamp_seconds",
        "When a certificate expires, in seconds since 1970; renew it before.",
        _certificates,
        ("whose", "name", "device"),
    ),
    Family("tidegate_scans_total", "Scans made.", _group("scans"), _GROUP),
    Family(
        "tidegate_scans_skipped_total",
        "Due times that passed while the device was still answering.",
        _group("skipped_scans"),
        _GROUP,
    ),
    Family("tidegate_scans_failed_total", "Scans that got no answer.", _group("failed_scans"), _GROUP),
    Family("tidegate_not_good_tags", "Tags not GOOD in the last scan.", _group("not_good_tags"), _GROUP),
    Family("tidegate_last_scan_age_seconds", "Time since the last scan.", _group("last_scan_age_ns", _NS), _GROUP),
    Family("tidegate_last_scan_seconds", "How long the last scan took.", _group("last_scan_took_ns", _NS), _GROUP),
    Family("tidegate_relay_up", "1 while the relay is subscribed.", _up("relay")),
    Family("tidegate_relay_archive_up", "1 while the archive can be written.", _archive_up),
    Family("tidegate_relay_archived_records_total", "Records archived and durable.", _of("relay", "archived_records")),
    Family("tidegate_relay_archived_bytes_total", "Bytes archived.", _of("relay", "archived_bytes")),
    Family("tidegate_relay_archive_free_bytes", "Bytes free on the disk of the archive.", _of("relay", "free_bytes")),
    Family(
        "tidegate_relay_not_durable_messages", "Messages received and not durable yet.", _of("relay", "not_durable")
    ),
    Family(
        "tidegate_relay_behind_records",
        "Records in a worker's share of Kafka that it did not take yet.",
        _of("relay", "behind_records"),
    ),
    Family(
        "tidegate_relay_archive_lag_seconds",
        "How old the newest value was when the relay had it on disk: the relay's clock less the gateway's. "
        "0 also if the gateway's clock is ahead.",
        _issuer("lag_ns", _NS),
        _ISSUER,
    ),
    Family(
        "tidegate_relay_clock_ahead_seconds",
        "How far the gateway's clock must be ahead of the relay's, as the lag would be negative.",
        _issuer("clock_ahead_ns", _NS),
        _ISSUER,
    ),
    Family("tidegate_relay_view_up", "1 while the view's broker takes the values.", _view_up),
    Family(
        "tidegate_relay_view_behind",
        "1 while the view is too far behind, and of what waits shows only the newest value of each tag.",
        _view("is_behind"),
    ),
    Family("tidegate_relay_view_waiting_records", "Records archived and not shown yet.", _view("waiting")),
    Family(
        "tidegate_relay_view_lag_seconds",
        "Time since the first record that is not shown yet arrived, by the relay's clock; 0 where all are shown.",
        _view("oldest_age_ns", _NS),
    ),
    Family(
        "tidegate_relay_view_dropped_values_total",
        "Values never shown because the view was behind, and a newer one of their tag was there.",
        _view("dropped"),
    ),
    Family("tidegate_relay_view_skipped_records_total", "Records never shown in the view.", _view("skipped")),
    Family("tidegate_relay_sink_up", "1 while a sink takes what is archived.", _sink_up, labels=_SINK),
    Family(
        "tidegate_relay_sink_lag_seconds",
        "How long ago everything archived was in the sink, or since the start; 0 while it has everything.",
        _sink("lag_ns", _NS),
        labels=_SINK,
    ),
    Family(
        "tidegate_relay_sink_waiting_bytes", "Archived and not in the sink yet.", _sink("waiting_bytes"), labels=_SINK
    ),
    Family("tidegate_relay_sink_records_total", "Records written to the sink.", _sink("records"), labels=_SINK),
    Family(
        "tidegate_relay_sink_refused_records_total",
        "Records that the sink refused for good.",
        _sink("refused"),
        labels=_SINK,
    ),
    Family(
        "tidegate_relay_sink_skipped_records_total",
        "Records that no sink can take: damaged on disk, or their catalogue never came.",
        _sink("skipped"),
        labels=_SINK,
    ),
    Family("tidegate_relay_authentic_total", "Records with an unbroken signature.", _issuer("authentic"), _ISSUER),
    Family("tidegate_relay_duplicates_total", "Records already here.", _issuer("duplicates"), _ISSUER),
    Family("tidegate_relay_waiting_records", "Records that cannot be judged yet.", _issuer("waiting"), _ISSUER),
    Family("tidegate_relay_rejected_total", "Records that failed verification.", _issuer("rejected"), _ISSUER),
    Family("tidegate_relay_missing_records", "Records neither here nor declared lost.", _issuer("missing"), _ISSUER),
    Family("tidegate_relay_declared_lost_total", "Records declared lost.", _issuer("declared_lost"), _ISSUER),
    Family(
        "tidegate_relay_gateway_silent",
        "1 for a gateway that sends nothing for more than two heartbeats, and did not say that it stops.",
        _issuer_is("silent"),
        _ISSUER,
    ),
    Family(
        "tidegate_relay_gateway_stopped",
        "1 for a gateway that was asked to stop: the last record that it sent says so.",
        _issuer_is("stopped"),
        _ISSUER,
    ),
    Family(
        "tidegate_relay_last_record_age_seconds",
        "Time since the last record of this gateway.",
        _issuer("last_record_age_ns", _NS),
        _ISSUER,
    ),
)
