"""What is wrong in a snapshot: each problem with its cause and what would help, and one word of verdict.

They are made of the snapshot alone, so that screen, JSON and service manager say the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

from edge.errors import ErrorCode
from edge.health.relay_snapshot import IssuerStatus, RelayStatus, SinkStatus
from edge.health.snapshot import (
    BufferStatus,
    CalibrationStatus,
    ClockStatus,
    DeviceStatus,
    GroupStatus,
    StatusSnapshot,
    UplinkStatus,
)
from edge.terminal import age
from edge.units import counted, format_size

Verdict = Literal["OK", "DEGRADED", "DOWN", "UNKNOWN"]
"""DOWN: nothing is recorded, or received. DEGRADED: something is not as it should be. UNKNOWN: it cannot be said."""

_S, _H, _DAY = 10**9, 3600 * 10**9, 86_400 * 10**9
_LATE_INTERVALS, _LATE_NS = 10, 60 * _S
_UNACKNOWLEDGED_NS = 30 * _S
_UNSEALED_NS = 900 * _S  # Three of the longest heartbeats that can be set.
_NEARLY_FULL = 0.7
_ROOM_NS = 7 * _DAY
_SINK_LATE_NS = 60 * _S
_INSTRUMENTS_NAMED = 3
_MAKE_ROOM = "bring the broker back, or raise buffer.limit"
_EXPIRES_SOON_NS, _EXPIRES_NOW_NS = 30 * _DAY, 7 * _DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        subject: the device, gateway, relay, or part: buffer, uplink, clock, broker, archive, view, sink.
        state: DOWN or DEGRADED; NOTICE is for what a person should know and that leaves the verdict as it is.
        text: what is wrong, and why.
        remedy: what would help; empty where the text says it.
        code: what `tidegate explain` calls it.
    """

    subject: str
    state: Literal["DOWN", "DEGRADED", "NOTICE"]
    text: str
    code: str
    remedy: str = ""

    @property
    def sentence(self) -> str:
        """The whole problem as one line."""
        return f"{self.subject}: {self.text}" + (f"; {self.remedy}" if self.remedy else "") + f" ({self.code})"


def verdict_of(snapshot: StatusSnapshot, problems: tuple[Problem, ...]) -> Verdict:
    """The state of the whole process in one word."""
    devices, relay = snapshot.devices, snapshot.relay
    names = {device.name for device in devices}  # A device may be called as a part is.
    down = {problem.subject for problem in problems if problem.state == "DOWN"} - names
    if down & {"buffer", "gateway", "broker", "archive", "sink kafka"} or (
        devices and all(device.state in ("down", "resting") for device in devices)
    ):
        return "DOWN"
    if any(problem.state != "NOTICE" for problem in problems):
        return "DEGRADED"
    if devices and all(device.state == "connecting" for device in devices):
        return "UNKNOWN"
    return "UNKNOWN" if relay is not None and not relay.issuers else "OK"


def problems_of(snapshot: StatusSnapshot, command_version: str = "") -> tuple[Problem, ...]:
    """All problems, the worst first; with a version, also that the running process has another one."""
    found = [
        *_gateway(snapshot, command_version),
        *(problem for device in snapshot.devices for problem in _device(device)),
        *(_buffer(snapshot.buffer) if snapshot.buffer else ()),
        *(_uplink(snapshot.uplink) if snapshot.uplink else _uplink_apart(snapshot)),
        *(_clock(snapshot.clock) if snapshot.clock else ()),
        *(_relay(snapshot.relay) if snapshot.relay else ()),
        *(_sinks(snapshot.relay) if snapshot.relay else ()),
        *_certificates(snapshot),
        *(_calibration(snapshot.calibration) if snapshot.calibration else ()),
    ]
    return tuple(sorted(found, key=lambda problem: ("DOWN", "DEGRADED", "NOTICE").index(problem.state)))


def _gateway(snapshot: StatusSnapshot, command_version: str) -> Iterator[Problem]:
    running, role = snapshot.gateway.version, "relay" if snapshot.gateway.role == "relay" else "gateway"
    if snapshot.chain and (snapshot.chain.last_sealed_age_ns or 0) > _UNSEALED_NS:
        since = age(snapshot.chain.last_sealed_age_ns)
        yield Problem(subject="gateway", state="DOWN", code=ErrorCode.NOTHING_STORED.id,
                      text=f"no record was stored for {since}",
                      remedy="look into its log, and start it again")  # fmt: skip
    if name := snapshot.gateway.unapplied:
        age_ns = snapshot.gateway.unapplied_age_ns
        text = f"{name} is not what runs{'' if age_ns is None else f', since {age(age_ns)}'}"
        remedy = "tidegate diff shows how, tidegate apply takes it into use"
        if waiting := snapshot.gateway.waits_for_start:
            text += f": {', '.join(waiting)} cannot change while it runs"
            remedy = "the next start takes all of it into use, for whom and why is kept"
        elif snapshot.gateway.apply:
            text += f": {snapshot.gateway.apply}"
        is_alarm = snapshot.gateway.regulated and age_ns is not None and not snapshot.gateway.waits_for_start
        yield Problem(subject="configuration", state="DEGRADED" if is_alarm else "NOTICE",
                      code=ErrorCode.NOT_APPLIED.id, text=text, remedy=remedy)  # fmt: skip
    if command_version and running and running != command_version:
        yield Problem(subject=role, state="NOTICE", code=ErrorCode.VERSION_DIFFERS.id,
                      remedy=f"start the {role} again to run what is installed",
                      text=f"version {running} runs, and this command is {command_version}")  # fmt: skip


def _device(device: DeviceStatus) -> Iterator[Problem]:
    tags, bad = (sum(getattr(group, field) for group in device.scan_groups) for field in ("tags", "bad_tags"))
    if device.state in ("down", "resting"):
        since = "" if device.gap_age_ns is None else f" for {age(device.gap_age_ns)}"
        reason = f": {device.reason}" if device.reason else ""
        text = f"no answer{since}, {counted(bad, 'tag')} BAD{reason}"
        code = device.code or ErrorCode.DEVICE_LOST.id  # A process of an earlier version says none.
        yield Problem(subject=device.name, state="DOWN", text=text, code=code)
        return
    if device.state == "connecting":
        return
    unknown = sum(group.unknown_address_tags for group in device.scan_groups)
    if device.reason:
        code = (ErrorCode.DEVICE_ADDRESS if unknown == tags else ErrorCode.DEVICE_BAD_VALUES).id
        yield Problem(subject=device.name, state="DEGRADED", text=device.reason, code=code)
    elif unknown:
        named = [name for group in device.scan_groups for name in group.unknown_addresses][:3]
        more = ", ..." if unknown > len(named) else ""
        others = f"; {bad - unknown:,} more BAD" if bad > unknown else ""
        where = f"the device has no such address ({', '.join(named)}{more})"
        yield Problem(subject=device.name, state="DEGRADED", code=ErrorCode.DEVICE_ADDRESS.id,
                      remedy="correct their addresses in the configuration",
                      text=f"{unknown:,} of {counted(tags, 'tag')} BAD: {where}{others}")  # fmt: skip
    elif bad:
        yield Problem(subject=device.name, state="DEGRADED", text=f"{bad:,} of {counted(tags, 'tag')} BAD",
                      code=ErrorCode.DEVICE_BAD_VALUES.id, remedy=f"see why with --tags {device.name}")  # fmt: skip
    if device.is_clock_off:
        yield Problem(subject=device.name, state="NOTICE", text=f"its clock is {device.clock_words}",
                      code=ErrorCode.DEVICE_CLOCK.id,
                      remedy="set it, or give it the time server of this machine")  # fmt: skip
    for group in device.scan_groups:
        if _is_late(group):
            since = age(group.last_scan_age_ns)
            yield Problem(subject=device.name, state="DEGRADED", code=ErrorCode.DEVICE_LATE.id,
                          text=f"scan group {group.name} was not read for {since}")  # fmt: skip


def _is_late(group: GroupStatus) -> bool:
    return (group.last_scan_age_ns or 0) > max(_LATE_INTERVALS * group.every_ns, _LATE_NS)


def _buffer(buffer: BufferStatus) -> Iterator[Problem]:
    if buffer.state == "full":
        text = "full, and readings are refused (buffer.when_full: stop)"
        yield Problem(subject="buffer", state="DOWN", text=text, code=ErrorCode.BUFFER_FULL.id, remedy=_MAKE_ROOM)
    elif buffer.state == "memory":
        text = buffer.reason or "records are in memory only"
        yield Problem(subject="buffer", state="DEGRADED", text=text, code=ErrorCode.BUFFER_DISK.id)
    if buffer.dropped_last_hour:
        yield Problem(
            subject="buffer", state="DEGRADED", code=ErrorCode.BUFFER_FILLING.id, remedy=_MAKE_ROOM,
            text=f"{counted(buffer.dropped_last_hour, 'record')} lost in the last hour: there was no room for them",
        )  # fmt: skip
    elif buffer.dropped_records:
        text = f"{counted(buffer.dropped_records, 'record')} lost since the start; the loss is on record"
        yield Problem(subject="buffer", state="NOTICE", text=text, code=ErrorCode.BUFFER_FILLING.id)
    share = buffer.undelivered_bytes / buffer.limit_bytes if buffer.limit_bytes else 0
    if share >= _NEARLY_FULL and buffer.state != "full":
        room = room_of(buffer)
        when = f", room for {age(room)}" if room is not None else ""
        yield Problem(subject="buffer", state="DEGRADED", text=f"{share:.0%} full of what is not delivered{when}",
                      code=ErrorCode.BUFFER_FILLING.id, remedy=_MAKE_ROOM)  # fmt: skip
    if buffer.corrupt_records:
        text = f"{counted(buffer.corrupt_records, 'record')} found damaged on disk since the start"
        yield Problem(subject="buffer", state="NOTICE", text=text, code=ErrorCode.BUFFER_DAMAGED.id,
                      remedy="check the disk")  # fmt: skip


def room_of(buffer: BufferStatus) -> int | None:
    """For how long records fit that nothing takes away, in nanoseconds; None while the rate is not known."""
    if not buffer.bytes_per_day:
        return None
    return max(0, buffer.limit_bytes - buffer.undelivered_bytes) * _DAY // buffer.bytes_per_day


def _uplink(uplink: UplinkStatus) -> Iterator[Problem]:
    kept = f"{counted(uplink.waiting, 'record')} kept"
    waits_ns, answered_ns = uplink.oldest_waiting_age_ns or 0, uplink.last_acknowledged_age_ns
    if uplink.state == "down":
        yield Problem(subject="uplink", state="DEGRADED", text=f"{uplink.reason} ({kept})",
                      code=uplink.code or ErrorCode.BROKER_LOST.id,
                      remedy="start the broker, or correct uplink.mqtt")  # fmt: skip
    elif uplink.state == "no_subscriber":
        yield Problem(subject="uplink", state="DEGRADED", code=ErrorCode.BROKER_NO_SUBSCRIBER.id,
                      remedy="start the relay",
                      text=f"the broker takes records and nobody subscribes ({kept})")  # fmt: skip
    elif uplink.state == "refused":
        yield Problem(subject="uplink", state="DEGRADED", text=f"{uplink.reason} ({kept})",
                      code=uplink.code or ErrorCode.BROKER_REFUSED.id)  # fmt: skip
    elif waits_ns > _UNACKNOWLEDGED_NS and (answered_ns is None or answered_ns > _UNACKNOWLEDGED_NS):
        since = "anything" if answered_ns is None else f"anything for {age(answered_ns)}"
        yield Problem(subject="uplink", state="DEGRADED", text=f"the broker has not acknowledged {since} ({kept})",
                      code=ErrorCode.BROKER_LOST.id, remedy="look into the broker's log")  # fmt: skip
    elif uplink.unread_last_hour:
        yield Problem(
            subject="uplink", state="DEGRADED", code=ErrorCode.BROKER_NO_SUBSCRIBER.id,
            remedy="start the relay, or set no_subscriber: keep",
            text=f"in the last hour nobody subscribed to {counted(uplink.unread_last_hour, 'record')}, "
            "and the settings count them as delivered",
        )  # fmt: skip


def _uplink_apart(snapshot: StatusSnapshot) -> Iterator[Problem]:
    if snapshot.gateway.role == "acquire":
        yield Problem(subject="uplink", state="DEGRADED", text="the process that sends does not answer",
                      code=ErrorCode.SENDER_SILENT.id, remedy="start tidegate run --role forward")  # fmt: skip


def _clock(clock: ClockStatus) -> Iterator[Problem]:
    why = f" ({clock.reason})" if clock.reason else ""
    if clock.unmet:
        text = f"{_words(clock.state)}, not {clock.unmet} as the configuration asks: every value is UNCERTAIN{why}"
        yield Problem(subject="clock", state="DEGRADED", text=text, code=ErrorCode.CLOCK_UNMET.id, remedy=clock.remedy)
    elif clock.remedy:
        yield Problem(subject="clock", state="NOTICE", text=f"{clock.words}{why}", code=ErrorCode.CLOCK_NOT_KEPT.id,
                      remedy=clock.remedy)  # fmt: skip


def _certificates(snapshot: StatusSnapshot) -> Iterator[Problem]:
    whole = "relay" if snapshot.gateway.role == "relay" else "gateway"
    for each in snapshot.certificates:
        subject, left_ns = each.device or whole, each.expires_at_ns - time.time_ns()
        whose = {"ours": "our certificate", "revocation list": "the revocation list of"}.get(each.whose)
        what = f"{whose or f'{each.whose} certificate'} {each.name}"
        when = f"expired {age(-left_ns)} ago" if left_ns <= 0 else f"expires in {age(left_ns)}"
        remedy = "renew it" if left_ns > 0 else "renew it, or set this machine's clock where that is wrong"
        if left_ns < _EXPIRES_SOON_NS:
            yield Problem(subject=subject, state="DEGRADED" if left_ns < _EXPIRES_NOW_NS else "NOTICE",
                          text=f"{what} {when}", code=ErrorCode.CERTIFICATE_ENDS.id, remedy=remedy)  # fmt: skip
        if each.exception:
            yield Problem(subject=subject, state="NOTICE", text=each.exception,
                          code=ErrorCode.CERTIFICATE_EXCEPTION.id)  # fmt: skip


def _calibration(calibration: CalibrationStatus) -> Iterator[Problem]:
    """What is due is no fault of the values, which stay as they are."""
    overdue, soon = calibration.overdue, calibration.due_soon
    if not (overdue or soon):
        return
    parts = [f"{counted(overdue, 'instrument')} overdue"] * (overdue > 0)
    parts += [f"{counted(soon, 'instrument')} due within 30 days"] * (soon > 0)
    first = calibration.first[:_INSTRUMENTS_NAMED]
    named = ", ".join(f"{each.name} on {each.due}" for each in first)
    more = ", ..." if overdue + soon > len(first) else ""
    yield Problem(subject="calibration", state="NOTICE", code=ErrorCode.CALIBRATION_DUE.id,
                  text=f"{', '.join(parts)}: {named}{more}",
                  remedy="calibrate, then write the new certificate and days in the configuration")  # fmt: skip


def _relay(relay: RelayStatus) -> Iterator[Problem]:
    if relay.state != "up":
        yield Problem(subject="broker", state="DOWN", text=f"nothing is received: {relay.reason}",
                      code=relay.code or ErrorCode.BROKER_LOST.id,
                      remedy="the gateways keep their records meanwhile")  # fmt: skip
    if relay.unwritable:
        yield Problem(subject="archive", state="DOWN", text=relay.unwritable, code=ErrorCode.ARCHIVE_DISK.id)
    room_ns = archive_room_of(relay)
    if room_ns is not None and room_ns < _ROOM_NS:
        yield Problem(subject="archive", state="DEGRADED", code=ErrorCode.ARCHIVE_DISK.id, remedy="free or add space",
                      text=f"{format_size(relay.free_bytes or 0)} free, room for {age(room_ns)}")  # fmt: skip
    if not relay.issuers:
        yield Problem(subject="gateways", state="NOTICE", text="none has sent a record yet",
                      code=ErrorCode.GATEWAY_SILENT.id,
                      remedy="look at one: tidegate status on its machine")  # fmt: skip
    for issuer in relay.issuers:
        yield from _issuer(issuer)
    if (view := relay.view) is not None:
        if view.state != "up":
            text = view.reason or f"its broker is {view.state}"
            yield Problem(subject="view", state="DEGRADED", text=text, code=ErrorCode.VIEW_BEHIND.id)
        if view.left_out:
            yield Problem(subject="view", state="DEGRADED" if view.is_behind else "NOTICE", text=view.left_out,
                          code=ErrorCode.VIEW_BEHIND.id)  # fmt: skip
        if view.skipped:
            text = f"{counted(view.skipped, 'record')} never shown: nothing says what is in them"
            yield Problem(subject="view", state="NOTICE", text=text, code=ErrorCode.VIEW_BEHIND.id)


def _sinks(relay: RelayStatus) -> Iterator[Problem]:
    for sink in relay.sinks:
        yield from _sink(sink, is_only=relay.is_intake)


def _sink(sink: SinkStatus, *, is_only: bool) -> Iterator[Problem]:
    """Problems of a sink; where it is the only one, as of an intake, nothing is kept without it."""
    subject, lost = f"sink {sink.name}", sink.refused + sink.skipped
    if sink.state != "up":
        yield Problem(subject=subject, state="DOWN" if is_only else "DEGRADED", text=sink.reason,
                      code=sink.code or ErrorCode.SINK_BEHIND.id)  # fmt: skip
    elif sink.lag_ns > _SINK_LATE_NS and not is_only:
        text = f"{age(sink.lag_ns)} behind the archive, {format_size(sink.waiting_bytes)} to go"
        yield Problem(subject=subject, state="NOTICE", text=text, code=ErrorCode.SINK_BEHIND.id)
    if lost and not is_only:
        yield Problem(subject=subject, state="DEGRADED", code=ErrorCode.SINK_BEHIND.id,
                      text=f"{counted(lost, 'record')} of the archive not written since the start",
                      remedy="its log says which, and why")  # fmt: skip


def archive_room_of(relay: RelayStatus) -> int | None:
    """For how long the archive has room, in nanoseconds; None while the rate or the space is not known."""
    if not relay.bytes_per_day or relay.free_bytes is None:
        return None
    return relay.free_bytes * _DAY // relay.bytes_per_day


def _issuer(issuer: IssuerStatus) -> Iterator[Problem]:
    name = issuer_name(issuer)
    if issuer.state == "silent":
        yield Problem(subject=name, state="DEGRADED", text=f"no record for {age(issuer.last_record_age_ns)}",
                      code=ErrorCode.GATEWAY_SILENT.id,
                      remedy="look at it: tidegate status on its machine")  # fmt: skip
    if issuer.missing:
        yield Problem(subject=name, state="DEGRADED", text=f"{counted(issuer.missing, 'record')} missing",
                      code=ErrorCode.RECORDS_MISSING.id,
                      remedy="where that number does not fall: tidegate resend on its machine")  # fmt: skip
    if issuer.rejected:
        text = f"{counted(issuer.rejected, 'record')} refused: altered, or not of a trusted key"
        yield Problem(subject=name, state="DEGRADED", text=text, code=ErrorCode.RECORDS_REFUSED.id,
                      remedy="the log says why; relay.trust names the keys")  # fmt: skip
    if issuer.waiting:
        yield Problem(subject=name, state="NOTICE",
                      text=f"{counted(issuer.waiting, 'record')} cannot be judged before others arrive",
                      code=ErrorCode.RECORDS_MISSING.id)  # fmt: skip
    if issuer.declared_lost:
        text = f"{counted(issuer.declared_lost, 'record')} lost at the gateway, as it declares"
        yield Problem(subject=name, state="NOTICE", text=text, code=ErrorCode.RECORDS_MISSING.id)
    if issuer.clock_ahead_ns:
        ahead = age(issuer.clock_ahead_ns)
        yield Problem(subject=name, state="NOTICE", code=ErrorCode.CLOCKS_DIFFER.id, remedy="compare both clocks",
                      text=f"its clock is {ahead} ahead of ours, or more; its lag is not known")  # fmt: skip


def issuer_name(issuer: IssuerStatus) -> str:
    """The name of a gateway, as its configuration has it."""
    return issuer.issuer.removeprefix("urn:tidegate:")


def _words(state: str) -> str:
    return state.lower().replace("_", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusAnswer(StatusSnapshot):
    """What `tidegate status --json` prints: the snapshot, judged."""

    verdict: Verdict
    problems: tuple[Problem, ...]

    @classmethod
    def of(cls, snapshot: StatusSnapshot, command_version: str = "") -> StatusAnswer:
        """The snapshot with its problems, as a command of that version finds them."""
        problems = problems_of(snapshot, command_version)
        parts = {each.name: getattr(snapshot, each.name) for each in fields(StatusSnapshot)}
        return cls(**parts, verdict=verdict_of(snapshot, problems), problems=problems)
