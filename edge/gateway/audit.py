"""The audit trail: what happened to the gateway itself, as EVENT records in the chain and as log lines.

A repeated event is folded: the first is recorded at once, those of the next minute as one with their count, at the time
of the last of them. In the log the ups and downs of devices and brokers are written each time, so that the last line
shows the current state. Begins and ends of batches and phases are never folded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from edge.clock import Clock
from edge.logs import get_logger

FOLD_NS = 60 * 10**9
FOLDED_LIMIT = 4096

log = get_logger(__name__)

Value = str | int | None
"""What an event may carry: never a secret, never a process value."""


class Severity(IntEnum):
    """Info marks a change, a warning heals by itself, an error asks for a person."""

    INFO = 0
    WARNING = 1
    ERROR = 2


class EventKind(Enum):
    """Every kind of event, with its severity and its meaning."""

    START = ("start", Severity.INFO, "The gateway started; the data name its version, boot and configuration.")
    STOP = ("stop", Severity.INFO, "The gateway was asked to stop.")
    SIGNAL = ("signal", Severity.INFO, "A signal asked to connect to the broker anew; who sent it is not known.")
    CONFIG_DIFFERS = (
        "config.differs",
        Severity.WARNING,
        "The files are not those of the configuration that runs; the data name its digest.",
    )
    CONFIG_ROLLED_BACK = (
        "config.rolled_back",
        Severity.ERROR,
        "A device of a new configuration did not come up in time, and the one before returned; the data say which.",
    )
    APPROVAL_REFUSED = (
        "approval.refused",
        Severity.ERROR,
        "A change was not applied: its approval was missing or not accepted; the data say who asked, and why not.",
    )
    APPROVERS_CHANGED = (
        "approvers.changed",
        Severity.WARNING,
        "The file of those who may approve a change is another; the data have its old and new SHA-256.",
    )
    CHAIN_NEW = (
        "chain.new",
        Severity.ERROR,
        "The chain on disk was not extended; a new one began and its EPOCH names the end of the old one.",
    )
    TIME_STATE = ("time.state", Severity.WARNING, "The clock's state changed.")
    TIME_SOURCE = ("time.source", Severity.INFO, "Another source disciplines the clock.")
    TIME_STEP = ("time.step", Severity.WARNING, "The wall clock stepped; a TIME record holds both sides.")
    TIME_BEHIND = (
        "time.behind",
        Severity.ERROR,
        "At the start the clock is behind the records. How long it was off is not known, and times occur twice.",
    )
    KEY_NEW = ("key.new", Severity.INFO, "The identity key was created; compare its fingerprint.")
    KEY_ROTATED = (
        "key.rotated",
        Severity.INFO,
        "The identity key was replaced on purpose: the old one names the fingerprint of the new one.",
    )
    UPLINK_UP = ("uplink.up", Severity.INFO, "The broker accepted the gateway.")
    UPLINK_DOWN = ("uplink.down", Severity.WARNING, "The broker is away; records wait in the buffer.")
    UPLINK_REFUSED = (
        "uplink.refused",
        Severity.ERROR,
        "The broker refused the gateway or a record; see the reason code.",
    )
    UPLINK_ACCEPTED = (
        "uplink.accepted",
        Severity.INFO,
        "The broker takes records of a topic again, and they have a subscriber.",
    )
    UPLINK_NO_SUBSCRIBER = (
        "uplink.no_subscriber",
        Severity.WARNING,
        "The broker took a record that has no subscriber; it stays in the buffer.",
    )
    UPLINK_INBOUND = (
        "uplink.inbound",
        Severity.ERROR,
        "The broker sent something else than acknowledgements; the connection was closed.",
    )
    RESEND = (
        "resend",
        Severity.INFO,
        "Delivered records are sent again: the data name the account that asked, how many they are, and their ranges.",
    )
    BUFFER_HIGH = ("buffer.high", Severity.WARNING, "The buffer is 70, 85 or 95 % full of undelivered records.")
    BUFFER_CORRUPT = ("buffer.corrupt", Severity.ERROR, "Records on disk were damaged; the range is declared lost.")
    BUFFER_SYNC = ("buffer.fsync", Severity.ERROR, "The disk refused to sync; the records were written again.")
    BUFFER_MEMORY = (
        "buffer.memory",
        Severity.ERROR,
        "The disk failed; records are kept in memory only and are lost with the power.",
    )
    DEVICE_UP = ("device.up", Severity.INFO, "The device answers.")
    DEVICE_DOWN = ("device.down", Severity.WARNING, "The device does not answer; a GAP is on record.")
    DEVICE_REFUSED = ("device.refused", Severity.ERROR, "The device answers and will not talk to the gateway.")
    DEVICE_PROTOCOL = (
        "device.protocol",
        Severity.WARNING,
        "An answer broke the protocol and was refused; the data name the field, what was expected and what came.",
    )
    DEVICE_TOLERATED = (
        "device.tolerated",
        Severity.INFO,
        "At the start: the configuration accepts what the device does against the protocol; the data name it.",
    )
    DEVICE_ADDRESS = (
        "device.address",
        Severity.ERROR,
        "The device does not have an address that the configuration names.",
    )
    DEVICE_IDENTITY = (
        "device.identity",
        Severity.WARNING,
        "Another device, or another firmware: the data name the old and the new, and since which connect.",
    )
    DEVICE_CLOCK = (
        "device.clock",
        Severity.WARNING,
        "The device's clock differs from the gateway's by more than its limit.",
    )
    DEVICE_OVERFLOW = (
        "device.overflow",
        Severity.WARNING,
        "The device dropped values before it sent them; its queue was too short.",
    )
    CERT_EXPIRING = (
        "cert.expiring",
        Severity.WARNING,
        "A certificate expires in 30, 7 or 1 days; without a new one its connection will be refused.",
    )
    CALIBRATION_DUE = (
        "calibration.due",
        Severity.WARNING,
        "The calibration of an instrument ends in 30 or 7 days, or with this one; its values keep their quality.",
    )
    CERT_EXPIRED = ("cert.expired", Severity.ERROR, "A certificate has expired: renew it.")
    SCAN_OVERRUN = (
        "poll.overrun",
        Severity.WARNING,
        "A scan was late by more than its interval; the next were skipped.",
    )

    BATCH_START = ("batch.start", Severity.INFO, "A batch began in the unit; when is within the bound of the data.")
    BATCH_END = ("batch.end", Severity.INFO, "A batch ended in the unit; when is within the bound of the data.")
    PHASE_START = ("phase.start", Severity.INFO, "A phase of a batch began; when is within the bound of the data.")
    PHASE_END = ("phase.end", Severity.INFO, "A phase of a batch ended; when is within the bound of the data.")

    def __init__(self, label: str, severity: Severity, meaning: str) -> None:
        self.label = label
        self.severity = severity
        self.meaning = meaning


KINDS = {kind.label: kind for kind in EventKind}

_NEVER_FOLDED = (EventKind.BATCH_START, EventKind.BATCH_END, EventKind.PHASE_START, EventKind.PHASE_END)
_LOGGED_EACH_TIME = (EventKind.DEVICE_UP, EventKind.DEVICE_DOWN, EventKind.UPLINK_UP, EventKind.UPLINK_DOWN)

_TOLD_APART_BY = ("reason_code", "group", "to", "percent", "is_in_memory", "whose", "name", "configuration", "new")
"""Data that make two events of a kind and subject two things: folded into one, the last would hide the others."""

RecordEvent = Callable[[int, str, int, str, Mapping[str, Value]], None]
"""Seals the (boot time, kind, severity, subject, data) of one event."""

_Key = tuple[EventKind, str, tuple[Value, ...]]


@dataclass(slots=True)
class _Repeats:
    recorded_at_ns: int
    count: int = 0
    first_at_ns: int = 0
    last_at_ns: int = 0
    data: Mapping[str, Value] = field(default_factory=dict)


class Audit:
    """Folds repeats, and writes to both the chain and the log."""

    def __init__(self, record_event: RecordEvent, clock: Clock) -> None:
        self._record_event = record_event
        self._clock = clock
        self._repeats: dict[_Key, _Repeats] = {}

    def event(self, kind: EventKind, subject: str = "", **data: Value) -> None:
        """Record what happens now; `subject` is the name of the device, file or broker it is about."""
        self.event_at(self._clock.boot_ns(), kind, subject, data)

    def event_at(self, at_ns: int, kind: EventKind, subject: str, data: Mapping[str, Value]) -> None:
        """Record what happened at a boot time."""
        self.flush()
        if kind in _NEVER_FOLDED:
            self._record_event(at_ns, kind.label, int(kind.severity), subject, data)
            _log(kind, subject, data)
            return
        key = kind, subject, tuple(data.get(name) for name in _TOLD_APART_BY)
        repeats = self._repeats.get(key)
        if repeats is not None:
            repeats.first_at_ns = repeats.first_at_ns if repeats.count else at_ns
            repeats.count += 1
            repeats.last_at_ns, repeats.data = at_ns, data
            if kind in _LOGGED_EACH_TIME:
                _log(kind, subject, data)
            return
        if len(self._repeats) >= FOLDED_LIMIT:
            self._record_repeats(next(iter(self._repeats)))
        self._repeats[key] = _Repeats(self._clock.boot_ns())
        self._record_event(at_ns, kind.label, int(kind.severity), subject, data)
        _log(kind, subject, data)

    def flush(self) -> None:
        """Record the repeats whose minute is over."""
        now_ns = self._clock.boot_ns()
        while self._repeats:
            key, oldest = next(iter(self._repeats.items()))
            if now_ns < oldest.recorded_at_ns + FOLD_NS:
                return
            self._record_repeats(key)
            if oldest.count:
                self._repeats[key] = _Repeats(now_ns)

    def close(self) -> None:
        """Record all repeats now, as the last events."""
        for key in tuple(self._repeats):
            self._record_repeats(key)

    async def run(self) -> None:
        """Record the repeats of each minute when it is over, until cancelled."""
        while True:
            await asyncio.sleep(FOLD_NS / 4 / 1e9)
            self.flush()

    def _record_repeats(self, key: _Key) -> None:
        kind, subject, _ = key
        repeats = self._repeats.pop(key)
        if not repeats.count:
            return
        data: dict[str, Value] = {**repeats.data, "count": repeats.count}
        if repeats.count > 1:
            data["span_ns"] = repeats.last_at_ns - repeats.first_at_ns
        self._record_event(repeats.last_at_ns, kind.label, int(kind.severity), subject, data)
        if kind not in _LOGGED_EACH_TIME:
            _log(kind, subject, data)


def _log(kind: EventKind, subject: str, data: Mapping[str, Value]) -> None:
    write = (log.info, log.warning, log.error)[kind.severity]
    write(kind.label, subject=subject, **data)
