"""The state of a gateway or relay: one snapshot, published as status, as metrics and on a terminal."""

from edge.health.certificates import CertificateMonitor, HeldCertificate
from edge.health.last_hour import SAMPLE_EVERY_S, LastHour
from edge.health.metrics import serve_metrics
from edge.health.notify import Notifier, StatusLine, Watchdog
from edge.health.relay_snapshot import IssuerStatus, RelayStatus, SinkStatus, ViewStatus
from edge.health.snapshot import (
    BufferStatus,
    CalibrationStatus,
    CertificateStatus,
    ChainStatus,
    ClockStatus,
    ConfigurationStatus,
    ContextStatus,
    DeviceIdentity,
    DeviceStatus,
    EventStatus,
    GapStatus,
    GatewayStatus,
    GroupStatus,
    InstrumentStatus,
    RecentStatus,
    RefusedTopic,
    StatusSnapshot,
    TagStatus,
    UplinkStatus,
    disk_written_bytes,
    resident_bytes,
)
from edge.health.status import StatusServer, read_status
from edge.health.thresholds import Thresholds

__all__ = [
    "SAMPLE_EVERY_S",
    "BufferStatus",
    "CalibrationStatus",
    "CertificateMonitor",
    "CertificateStatus",
    "ChainStatus",
    "ClockStatus",
    "ConfigurationStatus",
    "ContextStatus",
    "DeviceIdentity",
    "DeviceStatus",
    "EventStatus",
    "GapStatus",
    "GatewayStatus",
    "GroupStatus",
    "HeldCertificate",
    "InstrumentStatus",
    "IssuerStatus",
    "LastHour",
    "Notifier",
    "RecentStatus",
    "RefusedTopic",
    "RelayStatus",
    "SinkStatus",
    "StatusLine",
    "StatusServer",
    "StatusSnapshot",
    "TagStatus",
    "Thresholds",
    "UplinkStatus",
    "ViewStatus",
    "Watchdog",
    "disk_written_bytes",
    "read_status",
    "resident_bytes",
    "serve_metrics",
]
