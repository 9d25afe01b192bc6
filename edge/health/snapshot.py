"""The state of a running gateway or relay at one moment, and its form as JSON.

Counts begin with the process. Ages are measured in boot time when the snapshot is taken, so that steps of the wall
clock do not matter; an age is None while the event has not happened. A part that a role does not have is None.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import orjson

from edge.health.relay_snapshot import RelayStatus
from edge.units import format_duration

if TYPE_CHECKING:
    from pydantic import TypeAdapter


_BLOCK_BYTES = 512  # Of getrusage(2).


def resident_bytes() -> int:
    """Memory that this process has in use."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()


def disk_written_bytes() -> int | None:
    """What this process made the kernel write to disks since it started; None where the kernel has counted nothing.

    By whole pages, as disks wear: a short record that is synced alone is one of 4 KiB. What is reserved and never
    written does not count, nor what a file system adds of its own.
    """
    return resource.getrusage(resource.RUSAGE_SELF).ru_oublock * _BLOCK_BYTES or None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatus:
    """The process. `role` is run, acquire, forward or relay; at `control_socket` commands have devices asked, and
    at `live_socket` all values can be asked for, and nothing else.

    `disk_written_bytes` is what it wrote to disks since it started, in whole pages, without what a file system adds;
    `disk_bytes_per_day` is that at the rate of the last hour. Both are None where the kernel does not count it, the
    second in the first minute, too. `configuration` is the SHA-256 of the one that runs; `unapplied` names its file or
    directory where that is another by now, or is just applied; `apply` says what the last apply does or left undone,
    and `waits_for_start` has the sections that only a start takes into use. `regulated`: a change needs a reason, or
    an approval, and a file that was edited and not applied is more than a notice.
    """

    name: str
    path: str = ""
    role: str = "run"
    version: str = ""
    pid: int = 0
    uptime_ns: int = 0
    resident_bytes: int = 0
    disk_written_bytes: int | None = None
    disk_bytes_per_day: int | None = None
    log_warnings: int = 0
    log_errors: int = 0
    control_socket: str = ""
    live_socket: str = ""
    configuration: str = ""
    unapplied: str = ""
    unapplied_age_ns: int | None = None
    apply: str = ""
    waits_for_start: tuple[str, ...] = ()
    regulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStatus:
    """What disciplines the clock, and how far it may be off now; None where no bound can be given.

    Attributes:
        boot_ns: the boot time of the same moment, which counts from the boot `boot_id`: what readings are stamped with.
        steps: how often the clock was set since the start.
        unmet: the requirement of the configuration that the clock does not meet; values are UNCERTAIN then.
        state_age_ns: for how long the state holds, or the process runs where it held before; None where that is not
            known.
        reference: the server or grandmaster that the source follows.
        stratum: NTP stratum or PTP clockClass of the source; 0 where it has none.
        measured_age_ns: time since the source last measured the clock; None where it never did, or does not say.
        leap: the leap second that the source announces.
        is_smeared: whether the bound allows for a leap second that may be smeared now.
        reason: why the state is what it is; empty where the clock is synchronized.
    """

    utc_ns: int
    source: str
    state: str
    boot_ns: int = 0
    boot_id: str = ""
    bound_ns: int | None = None
    steps: int = 0
    unmet: str = ""
    state_age_ns: int | None = None
    reference: str = ""
    stratum: int = 0
    measured_age_ns: int | None = None
    leap: Literal["", "insert", "delete"] = ""
    is_smeared: bool = False
    reason: str = ""

    @property
    def words(self) -> str:
        """The state, and how far the clock may be off."""
        off = "how far it is off is not known" if self.bound_ns is None else f"within {self.within} of UTC"
        return f"{self.state.lower().replace('_', ' ')}, {off}"

    @property
    def within(self) -> str:
        """The bound."""
        return "an unknown time" if self.bound_ns is None else format_duration(self.bound_ns)

    @property
    def remedy(self) -> str:
        """What to do; empty where nothing has to be done."""
        source, state = self.source.lower(), self.state
        if state == "UNKNOWN":
            return "set the clock, and let chrony keep it: it shows a year that cannot be"
        if state == "DISRUPTED":
            return "wait until its source has measured the clock again; if it does not, see chronyc sources"
        if source == "ptp4l" and (state != "SYNCHRONIZED" or self.bound_ns is None):
            return "see the log of ptp4l, and whether its grandmaster is up"
        if source == "chrony" and state != "SYNCHRONIZED":
            return "see chronyc sources: give it a server that it reaches"
        if self.bound_ns is None:
            return "set up chrony on this machine, with a time server that it reaches"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainStatus:
    """What was sealed; `fingerprint` is the identity that signs, `epoch` and `hash` are hexadecimal."""

    fingerprint: str = ""
    epoch: str = ""
    seq: int = 0
    hash: str = ""
    records: int = 0
    record_bytes: int = 0
    readings: int = 0
    last_sealed_age_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferStatus:
    """The buffer on disk; the number of undelivered records is known to the sending side only.

    `undelivered_bytes` is the size of the segments that hold undelivered records; `reason` says why records are in
    memory only, and what would help. `bytes_per_day` is what is stored, at the rate of the last hour; None in the first
    minute.
    """

    directory: str = ""
    state: Literal["ok", "full", "memory"] = "ok"
    reason: str = ""
    records: int = 0
    stored_bytes: int = 0
    limit_bytes: int = 0
    undelivered_records: int | None = 0
    undelivered_bytes: int = 0
    bytes_per_day: int | None = None
    dropped_records: int = 0
    dropped_last_hour: int = 0
    corrupt_records: int = 0
    syncs: int = 0
    sync_failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedTopic:
    """A topic whose records the broker does not take; `reason` says what would help."""

    topic: str
    reason_code: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkStatus:
    """The uplink; `acknowledged` counts records that the broker accepted and that have a subscriber.

    `waiting` is how many records are not delivered, those in flight included, and `oldest_waiting_age_ns` for how long
    the oldest of them is stored, or the process runs where it was stored before (`is_older_than_process`).
    `unread_last_hour` are records that count as delivered although nobody subscribed, as the settings say.
    `to_resend` is how many delivered records go once more, because the broker may have lost them or someone asked. The
    state is `up` only while the broker takes the records of all topics; else `reason` says why not and what would help,
    and `code` is what `tidegate explain` calls that.
    """

    broker: str = ""
    state: Literal["up", "no_subscriber", "refused", "down"] = "down"
    reason: str = ""
    code: str = ""
    connects: int = 0
    published: int = 0
    published_bytes: int = 0
    acknowledged: int = 0
    refused: int = 0
    no_subscriber: int = 0
    unread_last_hour: int = 0
    waiting: int = 0
    oldest_waiting_age_ns: int | None = None
    is_older_than_process: bool = False
    resent: int = 0
    to_resend: int = 0
    in_flight: int = 0
    last_acknowledged_age_ns: int | None = None
    refused_topics: tuple[RefusedTopic, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TagStatus:
    """One value for display: scaled, with its unit and its text; what is sealed is the raw value.

    `range` is the lowest and the highest plausible value, in the unit.
    """

    tag: str
    value: bool | int | float | str | None
    unit: str = ""
    quality: Literal["GOOD", "UNCERTAIN", "BAD"] = "GOOD"
    status: int = 0
    text: str = ""
    range: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupStatus:
    """One scan group; `values` holds its first current values, or all where they were asked for.

    `bad_tags` have no good value; of `unknown_address_tags` the device does not have the address, and
    `unknown_addresses` names the first of them. Each of `due_scans` is a scan, or skipped, or failed, but for one that
    is under way.
    """

    name: str
    every_ns: int
    tags: int
    due_scans: int = 0
    scans: int = 0
    skipped_scans: int = 0
    failed_scans: int = 0
    not_good_tags: int = 0
    bad_tags: int = 0
    unknown_address_tags: int = 0
    unknown_addresses: tuple[str, ...] = ()
    last_scan_age_ns: int | None = None
    last_scan_took_ns: int | None = None
    values: tuple[TagStatus, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceIdentity:
    """The identity that a device reports, and since when (UTC); a text that it does not report is empty."""

    vendor: str = ""
    product: str = ""
    firmware: str = ""
    serial: str = ""
    more: Mapping[str, str] = field(default_factory=dict)
    since_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStatus:
    """One device; `resting` is one that is only tried with the longest delay, and `address` is for people.

    `reason` says why the device is not up, or why none of its values is good; `code` is what `tidegate explain` calls
    that. `missed_last_hour` are scans that were
    skipped or failed. `clock_off_ns` is how far the device's own clock is ahead of the gateway's (negative: behind),
    and `clock_unsure_ns` how far that may be wrong; None where it does not say its time. `clock_limit_ns` is the limit
    of the configuration.
    """

    name: str
    driver: str
    address: str = ""
    state: Literal["connecting", "up", "down", "resting"] = "connecting"
    reason: str = ""
    code: str = ""
    connects: int = 0
    violations: int = 0
    missed_last_hour: int = 0
    gap_age_ns: int | None = None
    clock_off_ns: int | None = None
    clock_unsure_ns: int | None = None
    clock_limit_ns: int | None = None
    identity: DeviceIdentity | None = None
    scan_groups: tuple[GroupStatus, ...] = ()

    @property
    def is_clock_off(self) -> bool:
        """Whether the device's clock is beyond its limit for certain."""
        off_ns, limit_ns = self.clock_off_ns, self.clock_limit_ns
        return off_ns is not None and limit_ns is not None and abs(off_ns) - (self.clock_unsure_ns or 0) > limit_ns

    @property
    def clock_words(self) -> str:
        """How far the device's clock is off the gateway's; empty where it does not say its time."""
        if self.clock_off_ns is None:
            return ""
        side = "ahead" if self.clock_off_ns > 0 else "behind"
        over = f", over its limit of {format_duration(self.clock_limit_ns or 0)}" if self.is_clock_off else ""
        unsure = format_duration(self.clock_unsure_ns or 0)
        return f"{format_duration(abs(self.clock_off_ns))} {side}, known to {unsure}{over}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateStatus:
    """A certificate, or a revocation list, that a session depends on.

    `whose` is ours, the device's, the broker's, the database's, the same for an authority (our authority's), or
    revocation list. `device` is the device, or the view or sink of a relay; empty for one of the whole gateway or
    relay. `exception` is what was accepted of it only because the settings say so.
    """

    whose: str
    name: str
    device: str = ""
    expires_at_ns: int
    exception: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentStatus:
    """An instrument, and the last day for which its calibration is valid, such as 2026-03-31."""

    name: str
    certificate: str
    due: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationStatus:
    """The instruments behind tags: how many, and of how many the calibration is overdue, or due within 30 days.

    `first` are those that are due first, overdue ones before.
    """

    instruments: int
    overdue: int = 0
    due_soon: int = 0
    first: tuple[InstrumentStatus, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStatus:
    """Something that happened, as a sentence; `issuer` is the gateway, of a relay, and `device` may be empty."""

    at_ns: int
    severity: Literal["info", "warning", "error"]
    text: str
    device: str = ""
    issuer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GapStatus:
    """A stretch in which scan groups of a device were not read, or of all devices where it is empty."""

    from_ns: int
    to_ns: int
    text: str
    device: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationStatus:
    """A configuration that was taken into use: by whom, why, and how many values changed, some of them in words."""

    at_ns: int
    digest: str
    who: str
    why: str
    changes: int
    shown: tuple[str, ...] = ()
    issuer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentStatus:
    """The newest of what went on record since `since_ns` (UTC), the newest last.

    `events` are EVENT and LOSS records, and gaps of all devices. `gaps` have ended; they are all since `gaps_since_ns`.
    """

    since_ns: int
    gaps_since_ns: int
    events: tuple[EventStatus, ...] = ()
    gaps: tuple[GapStatus, ...] = ()
    configurations: tuple[ConfigurationStatus, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextStatus:
    """What a unit is doing (ISA-88): each member with its text, empty where it is blank, None where it is not known.

    `number` is what its readings name, 0 before the first read; `unknown` says why members are not known.
    """

    unit: str
    number: int
    members: Mapping[str, str | None]
    unknown: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """The members that are known and not blank, and why others are not known."""
        parts = [f"{member} {text}" for member, text in self.members.items() if text]
        parts += [f"{member} not known, because {why}" for member, why in self.unknown.items()]
        return f"{self.unit}: {', '.join(parts) or 'all blank'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSnapshot:
    """A gateway or relay at one moment."""

    gateway: GatewayStatus
    clock: ClockStatus | None = None
    chain: ChainStatus | None = None
    buffer: BufferStatus | None = None
    uplink: UplinkStatus | None = None
    relay: RelayStatus | None = None
    devices: tuple[DeviceStatus, ...] = ()
    certificates: tuple[CertificateStatus, ...] = ()
    recent: RecentStatus | None = None
    calibration: CalibrationStatus | None = None
    contexts: tuple[ContextStatus, ...] = ()

    def headline(self) -> str:
        """What the process does, and what keeps it from doing all of it, in one line."""
        parts = ["sending"] if self.gateway.role == "forward" else []
        if self.devices:
            answering = sum(device.state == "up" for device in self.devices)
            parts.append(f"{answering} of {len(self.devices)} devices answer")
        if self.buffer and self.buffer.state != "ok":
            parts.append(f"buffer {self.buffer.state}" + (f": {self.buffer.reason}" if self.buffer.reason else ""))
        if self.uplink and self.uplink.state != "up":
            parts.append(f"uplink {self.uplink.state.replace('_', ' ')}: {self.uplink.reason}")
        if self.relay and self.gateway.role == "relay":
            parts.append("receiving" if self.relay.state == "up" else f"broker {self.relay.state}: {self.relay.reason}")
            parts += [f"archive {words}"] if (words := self.relay.unwritable) else []
            if (view := self.relay.view) is not None:
                parts += [f"view {view.state}: {view.reason}"] if view.state != "up" else []
                parts += [f"view {view.left_out}"] if view.is_behind else []
            parts += [f"sink {each.name} down: {each.reason}" for each in self.relay.sinks if each.state != "up"]
        return "; ".join(parts)

    def to_json(self) -> bytes:
        """One JSON document."""
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, document: bytes) -> StatusSnapshot:
        """The inverse of `to_json`; raises ValueError for anything else."""
        return _snapshots().validate_json(document)


@cache
def _snapshots() -> TypeAdapter[StatusSnapshot]:
    from pydantic import TypeAdapter  # Only readers need it: a gateway never imports it for this.

    return TypeAdapter(StatusSnapshot)
