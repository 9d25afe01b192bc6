"""The state of a running gateway, gathered from its packages for status, metrics and display."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

from edge import logs
from edge.backoff import Backoff
from edge.clock.timekeeper import Require
from edge.gateway.history import missed_scans
from edge.health import (
    BufferStatus,
    CertificateStatus,
    ChainStatus,
    ClockStatus,
    ContextStatus,
    DeviceIdentity,
    DeviceStatus,
    GatewayStatus,
    GroupStatus,
    RefusedTopic,
    StatusSnapshot,
    TagStatus,
    UplinkStatus,
    disk_written_bytes,
    resident_bytes,
)
from edge.health.clock import clock_status
from edge.model import (
    CatalogueGroup,
    Quality,
    StatusCode,
    StatusRun,
    Vector,
    in_unit,
    json_value,
    name_of,
    power_of_ten,
    quality_of,
    shown_status,
    status_codes,
    text_of,
)
from edge.mqtt.reason_codes import explain
from edge.scan import DevicePoller, ScanGroup

if TYPE_CHECKING:
    from edge.buffer import Usage
    from edge.gateway.acquire import Acquisition
    from edge.gateway.apply import Applier
    from edge.gateway.daemon import Daemon
    from edge.gateway.devices import ConfiguredDevice
    from edge.gateway.forward import Forwarding
    from edge.seal import KnownDevice

_QUALITIES: tuple[Literal["GOOD"], Literal["UNCERTAIN"], Literal["BAD"]] = ("GOOD", "UNCERTAIN", "BAD")

_NAMES_SHOWN = 3
_PIECE_TAGS = 200


def snapshot_of(daemon: Daemon, live_tags: int = 0) -> StatusSnapshot:
    """The whole process at one moment, with the first current values of each scan group."""
    now_ns = daemon.clock.boot_ns()
    acquisition, forwarding = daemon.acquisition, daemon.forwarding
    return StatusSnapshot(
        gateway=_gateway(daemon, now_ns),
        clock=_clock(acquisition, now_ns) if acquisition else None,
        chain=_chain(acquisition, now_ns) if acquisition else None,
        buffer=_buffer(daemon, acquisition, now_ns) if acquisition else None,
        uplink=_uplink(daemon, forwarding, now_ns) if forwarding else None,
        devices=_devices(daemon, acquisition, live_tags, now_ns) if acquisition else (),
        certificates=tuple(_certificates(acquisition, forwarding)),
        recent=acquisition.recent.status() if acquisition else None,
        contexts=tuple(ContextStatus(**each._asdict()) for each in acquisition.recorder.contexts.status())
        if acquisition
        else (),
        calibration=acquisition.calibrations.status(acquisition.utc_ns()) if acquisition else None,
    )


async def values_of(daemon: Daemon, acquisition: Acquisition, device: str, tags: Sequence[str] = ()) -> bytes:
    """One device, or all where none is named, with all current values, or those of the named tags, as JSON.

    The values are converted in a thread: of many tags it takes longer than a scan may be late.

    Raises:
        LookupError: the gateway does not read that device.
    """
    now_ns = daemon.clock.boot_ns()
    chosen = [known for known in acquisition.devices if device in ("", known.poller.name)]
    if not chosen:
        raise LookupError(f"the running gateway {daemon.settings.gateway.name} has no device {device!r}")
    gateway = _gateway(daemon, now_ns)
    names = frozenset(tags)
    devices = [_device(daemon, acquisition, known, 0, now_ns) for known in chosen]
    values = [[_values(group) for group in known.poller.groups] for known in chosen]

    def convert() -> bytes:
        held = (
            replace(each, scan_groups=tuple(
                replace(group, values=_as_json(_tags(of_group, None, names)))
                for group, of_group in zip(each.scan_groups, of_device, strict=True)
            ))
            for each, of_device in zip(devices, values, strict=True)
        )  # fmt: skip
        return StatusSnapshot(gateway=gateway, devices=tuple(held)).to_json()

    return await asyncio.to_thread(convert)


@cache
def _version() -> str:
    return version("tidegate")  # It is read from files.


def _gateway(daemon: Daemon, now_ns: int) -> GatewayStatus:
    written, last_hour = disk_written_bytes(), daemon.history.last_hour
    return GatewayStatus(
        name=daemon.settings.gateway.name, path=daemon.settings.gateway.path,
        role="run" if daemon.role == "all" else daemon.role, version=_version(), pid=os.getpid(),
        uptime_ns=now_ns - daemon.started_ns, resident_bytes=resident_bytes(), disk_written_bytes=written,
        disk_bytes_per_day=None if written is None else last_hour.per_day("disk", written, now_ns),
        log_warnings=logs.counts["warning"], log_errors=logs.counts["error"],
        control_socket=str(daemon.control_socket) if daemon.acquisition else "",
        live_socket=str(daemon.live_socket) if daemon.acquisition else "",
        configuration=daemon.applier.digest.hex() if daemon.applier else "",
        regulated=daemon.settings.gateway.regulated, **_unapplied(daemon.applier, now_ns),
    )  # fmt: skip


def _unapplied(applier: Applier | None, now_ns: int) -> dict[str, Any]:
    if applier is None or (applier.differs_since_ns is None and not applier.why_not):
        return {}
    return {
        "unapplied": applier.path.name, "unapplied_age_ns": _age(applier.differs_since_ns, now_ns),
        "apply": applier.why_not, "waits_for_start": applier.waits_for_start,
    }  # fmt: skip


def _age(since_ns: int | None, now_ns: int) -> int | None:
    return None if since_ns is None else max(0, now_ns - since_ns)


def _clock(acquisition: Acquisition, now_ns: int) -> ClockStatus:
    require = Require(acquisition.settings.clock.require)
    return clock_status(acquisition.timekeeper, now_ns, require, acquisition.recorder.counts.steps)


def _chain(acquisition: Acquisition, now_ns: int) -> ChainStatus:
    recorder, head = acquisition.recorder, acquisition.recorder.chain.head
    return ChainStatus(
        fingerprint=acquisition.identity.fingerprint, epoch=head.epoch.hex(), seq=head.seq, hash=head.hash.hex(),
        records=recorder.counts.records, record_bytes=recorder.counts.record_bytes, readings=_readings(acquisition),
        last_sealed_age_ns=_age(recorder.sealed_at_ns, now_ns),
    )  # fmt: skip


def _readings(acquisition: Acquisition) -> int:
    return sum(group.counts.done * len(group.catalogue.tags) for group in acquisition.groups())


def _buffer(daemon: Daemon, acquisition: Acquisition, now_ns: int) -> BufferStatus:
    last_hour, dropped_records = daemon.history.last_hour, acquisition.dropped_records
    usage, losses, recorder = acquisition.recorder.usage, acquisition.loss_declarer, acquisition.recorder
    limit_bytes = acquisition.settings.buffer.limit
    directory = str(acquisition.settings.buffer_directory)
    undelivered = _undelivered(acquisition, usage, daemon.forwarding)
    if usage is None:
        return BufferStatus(directory=directory, limit_bytes=limit_bytes, undelivered_records=undelivered)
    reason = ""
    if usage.is_in_memory:
        why = acquisition.settings.buffer.lack_of_room(usage.free_bytes) or usage.failure
        reason = f"records are in memory only, and lost with the power: {why}"
    refusing: Literal["ok", "full"] = "full" if recorder.is_refusing else "ok"
    return BufferStatus(
        directory=directory, state="memory" if usage.is_in_memory else refusing, reason=reason,
        records=usage.durable_end - usage.oldest, stored_bytes=usage.used_bytes,
        limit_bytes=limit_bytes, undelivered_records=undelivered,
        undelivered_bytes=usage.undelivered_bytes,
        bytes_per_day=last_hour.per_day("bytes", recorder.counts.record_bytes, now_ns),
        dropped_records=dropped_records, dropped_last_hour=last_hour.growth("dropped", dropped_records),
        corrupt_records=losses.corrupt_records,
        syncs=recorder.counts.commits, sync_failures=acquisition.sink.sync_failures,
    )  # fmt: skip


def _undelivered(acquisition: Acquisition, usage: Usage | None, forwarding: Forwarding | None) -> int | None:
    if forwarding is not None:
        uplink = forwarding.snapshot()
        return uplink.waiting + uplink.in_flight
    # Without an uplink every record waits; an uplink in another process knows which, and this one does not.
    return usage.durable_end - usage.oldest if usage and acquisition.settings.uplink is None else None


def _uplink(daemon: Daemon, forwarding: Forwarding, now_ns: int) -> UplinkStatus:
    state, oldest, times = forwarding.snapshot(), forwarding.oldest_waiting(), daemon.history.storage_times
    codes, settings = state.reason_codes, daemon.settings.uplink
    is_unread_fine = settings is not None and settings.mqtt.no_subscriber == "delivered"
    age_ns, is_older = (None, False) if oldest is None or times is None else times.age_ns(oldest, now_ns)
    return UplinkStatus(
        broker=state.broker, state=state.state, reason=state.reason, code=state.code, connects=state.connects,
        published=state.published, published_bytes=state.published_bytes, acknowledged=state.delivered,
        refused=sum(count for code, count in codes.items() if code >= 0x80), no_subscriber=codes.get(0x10, 0),
        unread_last_hour=daemon.history.last_hour.growth("no subscriber", codes.get(0x10, 0)) if is_unread_fine else 0,
        waiting=state.waiting + state.in_flight, oldest_waiting_age_ns=age_ns, is_older_than_process=is_older,
        resent=state.resent, to_resend=state.to_resend, in_flight=state.in_flight,
        last_acknowledged_age_ns=_age(state.acknowledged_at_ns, now_ns),
        refused_topics=tuple(
            RefusedTopic(topic=topic, reason_code=code, reason=f"the broker {explain(code)}")
            for topic, code in sorted(state.refused_topics.items())
        ),
    )  # fmt: skip


def _devices(daemon: Daemon, acquisition: Acquisition, live_tags: int, now_ns: int) -> tuple[DeviceStatus, ...]:
    return tuple(_device(daemon, acquisition, device, live_tags, now_ns) for device in acquisition.devices)


def _device(
    daemon: Daemon, acquisition: Acquisition, device: ConfiguredDevice, tags: int | None, now_ns: int
) -> DeviceStatus:
    """A device with the first values of each scan group, or all."""
    poller = device.poller
    clock = poller.clock_monitor
    off_ns = None if clock is None else clock.off_ns
    missed = missed_scans(poller)  # This also brings the counts of the groups up to this moment.
    return DeviceStatus(
        name=poller.name, driver=device.driver_name, address=device.where, state=_state(poller, device.backoff),
        reason=poller.reason or _why_all_is_bad(poller), code=poller.code,
        connects=poller.connects, violations=poller.violations,
        missed_last_hour=daemon.history.last_hour.growth(f"missed {poller.name}", missed),
        gap_age_ns=_age(min((group.gap.from_ns for group in poller.groups if group.gap), default=None), now_ns),
        clock_off_ns=off_ns, clock_unsure_ns=None if off_ns is None or clock is None else clock.unsure_ns,
        clock_limit_ns=None if clock is None else clock.limit_ns,
        identity=_identity(acquisition.device_info.device(poller.name)),
        scan_groups=tuple(_group(group, tags, now_ns) for group in poller.groups),
    )  # fmt: skip


def _why_all_is_bad(poller: DevicePoller) -> str:
    """Why a device that answers gives no value at all; empty where it gives some, or has not been read yet."""
    codes: set[int] = set()
    for group in poller.groups:
        if group.reading is None or not group.status:
            return ""
        of_tags = status_codes(group.status, len(group.catalogue.tags)).tolist()
        if any(quality_of(code) is not Quality.BAD for code in of_tags):
            return ""
        codes.update(of_tags)
    named = ", ".join(sorted(name_of(code) for code in codes))
    said = [violation for group in poller.groups for violation in group.violations]
    more = f"; and {len(said) - 1} more" if len(said) > 1 else ""
    return f"it answers and every value is {named}" + (f": {said[0]}{more}" if said else "")


def _identity(known: KnownDevice | None) -> DeviceIdentity | None:
    if known is None:
        return None
    return DeviceIdentity(**known.identity.texts, more=dict(known.identity.more), since_ns=known.since_ns)


def _certificates(acquisition: Acquisition | None, forwarding: Forwarding | None) -> Iterator[CertificateStatus]:
    for each in (acquisition, forwarding):
        yield from (held.status() for held in (each.certificates.held if each is not None else ()))


def _state(poller: DevicePoller, backoff: Backoff) -> Literal["connecting", "up", "down", "resting"]:
    if poller.state.value == "down" and backoff.is_at_limit:
        return "resting"
    return poller.state.value


def _group(group: ScanGroup, live_tags: int | None, now_ns: int) -> GroupStatus:
    reading, counts = group.reading, group.counts
    unknown = [(first, count) for first, count, code in group.status if code == StatusCode.BAD_ADDRESS]
    named = (tag.name for first, count in unknown for tag in group.catalogue.tags[first : first + count])
    bad_tags = sum(count for _, count, code in group.status if quality_of(code) is Quality.BAD)
    return GroupStatus(
        name=group.name, every_ns=group.interval_ns, tags=len(group.catalogue.tags), scans=counts.done,
        due_scans=counts.due, skipped_scans=counts.skipped, failed_scans=counts.failed,
        not_good_tags=sum(count for _, count, _ in group.status),
        bad_tags=bad_tags if reading is not None else len(group.catalogue.tags),
        unknown_address_tags=sum(count for _, count in unknown), unknown_addresses=tuple(islice(named, _NAMES_SHOWN)),
        last_scan_age_ns=_age(reading.answered_at_ns if reading else None, now_ns),
        last_scan_took_ns=reading.answered_at_ns - reading.asked_at_ns if reading else None,
        values=() if live_tags == 0 else tuple(_tags(_values(group), live_tags)),
    )  # fmt: skip


def _as_json(tags: Iterator[TagStatus]) -> Any:
    """An array for `StatusSnapshot.to_json`, in pieces: while orjson writes one, no other thread runs, so no scan."""
    pieces = iter(lambda: tuple(islice(tags, _PIECE_TAGS)), ())
    return orjson.Fragment(b"[" + b",".join(orjson.dumps(piece)[1:-1] for piece in pieces) + b"]")


class _Values(NamedTuple):
    """The current values of a scan group, apart from what the next scan or notification changes."""

    catalogue: CatalogueGroup
    vectors: tuple[Vector, ...] | None
    status: tuple[StatusRun, ...]


def _values(group: ScanGroup) -> _Values:
    vectors = None if group.reading is None else tuple(vector.copy() for vector in group.reading.vectors)
    return _Values(group.catalogue, vectors, group.status)


def _unread(group: _Values, names: Set[str]) -> Iterator[TagStatus]:
    """The tags of a group that was never read: why a tag has no value is part of what is asked for."""
    codes = status_codes(group.status, len(group.catalogue.tags)).tolist()
    for tag, code in zip(group.catalogue.tags, codes, strict=True):
        if names and tag.name not in names:
            continue
        status = code or int(StatusCode.BAD_WAITING_FOR_INITIAL_DATA)
        yield TagStatus(tag=tag.name, value=None, unit=tag.unit, quality="BAD", status=status, range=tag.range)


def _tags(group: _Values, count: int | None, names: Set[str] = frozenset()) -> Iterator[TagStatus]:
    """The first tags, or all; of those only the named, where names are given."""
    vectors = group.vectors
    if vectors is None:
        if count is None:
            yield from _unread(group, names)
        return
    tags = group.catalogue.tags
    codes = status_codes(group.status, len(tags))[:count].tolist()
    slots = group.catalogue.layout.slots
    powers = {int(tag): power_of_ten(vectors[slots[scale][0]][slots[scale][1]])
              for tag, scale in zip(*group.catalogue.scales, strict=True)}  # fmt: skip
    for number, (tag, (vector, position), code) in enumerate(zip(tags[:count], slots, codes, strict=False)):
        if names and tag.name not in names:
            continue
        raw = vectors[vector][position] if quality_of(code) is not Quality.BAD else None
        value = None if raw is None else in_unit(raw, powers.get(number, tag.scale), tag.offset, tag.time_kind)
        text = "" if raw is None else text_of(raw, tag.texts)
        shown = shown_status(code, value)
        yield TagStatus(
            tag=tag.name, value=json_value(value, tag.data_type), unit=tag.unit,
            quality=_QUALITIES[quality_of(shown)], status=shown, text=text, range=tag.range,
        )  # fmt: skip
