"""The state of a gateway or relay: one snapshot, published as status, as metrics and on a terminal."""

from edge.health.metrics import serve_metrics
from edge.health.notify import Notifier, Watchdog
from edge.health.snapshot import (
    BufferState,
    CertificateState,
    ChainState,
    ClockState,
    DeviceIdentity,
    DeviceState,
    GatewayState,
    GroupState,
    IssuerState,
    RelayState,
    Snapshot,
    TagState,
    UplinkState,
)
from edge.health.status import StatusServer, read_status

__all__ = [
    "BufferState",
    "CertificateState",
    "ChainState",
    "ClockState",
    "DeviceIdentity",
    "DeviceState",
    "GatewayState",
    "GroupState",
    "IssuerState",
    "Notifier",
    "RelayState",
    "Snapshot",
    "StatusServer",
    "TagState",
    "UplinkState",
    "Watchdog",
    "read_status",
    "serve_metrics",
]
