"""The device side: poll, stamp, seal, store. It never sees the network side."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Hashable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from random import SystemRandom
from textwrap import shorten
from typing import Any, NoReturn

from edge.backoff import Backoff
from edge.buffer import BufferWriter, DirectoryLock, PosixDisk, Reader, Store
from edge.clock import Clock, RunTime, Timekeeper, boot_id
from edge.config.catalogue import catalogue_groups
from edge.config.clock_sources import clock_sources
from edge.config.kept import KeptConfiguration, digest_on_record, file_of, put_on_record
from edge.config.settings import GatewaySettings
from edge.driver import Driver, DriverKind, SharesConnection, UsesCertificates, load, plan_group
from edge.errors import BufferFull
from edge.files import account_name
from edge.gateway import settings_map
from edge.gateway.audit import Audit, EventKind
from edge.gateway.resend import ResendRequest, accept_requests
from edge.gateway.sink import AcquisitionSink
from edge.gateway.supervise import supervise
from edge.health import CertificateMonitor, HeldCertificate
from edge.logs import get_logger
from edge.model import Catalogue, CatalogueGroup, CatalogueTag, StatusCode
from edge.recorder import Recorder, ResumeResult, resume_chain
from edge.recorder.device_info import DeviceInfo
from edge.recorder.losses import LossDeclarer
from edge.recorder.recorder import TEXT_LIMIT
from edge.scan import (
    DeviceClockMonitor,
    DevicePoller,
    LoopMonitor,
    PolledGroup,
    Questions,
    ScanGroup,
    Scheduler,
    SubscribedGroup,
)
from edge.seal import ConfigChange, EncodedCatalogue, Event, Gap, IdentityKey, Origin, RecordType, encode, issuer_of
from edge.seal.payloads import KeptPart
from edge.tasks import task_group
from edge.tls import in_use, named

_PART_BYTES = 40_000  # Of a configuration, in one record.

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ConfiguredDevice:
    """A device of the configuration: its poller, the delays before its next session, and its driver."""

    poller: DevicePoller
    backoff: Backoff
    driver_name: str
    driver: Driver[Any]


@asynccontextmanager
async def acquire(
    settings: GatewaySettings, digest: bytes, clock: Clock, kept: KeptConfiguration | None = None
) -> AsyncIterator[Acquisition]:
    """Open everything between the disk and the devices; only a clean end of the block records STOP.

    Args:
        digest: of the configuration's files, and `kept` what is kept of it.

    Raises:
        ConfigError: the identity, the buffer or a device cannot be used as configured.
    """
    with DirectoryLock(settings.buffer_directory, "acquire"):
        identity, is_new = await asyncio.to_thread(settings_map.identity, settings)
        sink = AcquisitionSink(clock)
        sources = clock_sources(settings, clock)
        timekeeper = Timekeeper(
            clock, sources, boot_id(), on_step=sink.record_step, on_event=sink.record_event,
            poll_ns=settings.clock.poll, smear_ns=settings.clock.smear or 0,
        )  # fmt: skip
        await timekeeper.poll()
        disk = PosixDisk(settings.buffer_directory)
        store = await asyncio.to_thread(Store, disk, settings_map.limits(settings))

        def resume() -> ResumeResult:
            with closing(Reader(disk)) as reader:
                return resume_chain(
                    store, reader, identity, issuer=issuer_of(settings.gateway.name), time=timekeeper.quality,
                    is_new_identity=is_new, rules=settings_map.chain_rules(settings),
                    origin=Origin(version=_version(), config_hash=digest),
                    groups=sum(len(device.scan_groups) for device in settings.devices),
                )  # fmt: skip

        resumed = await asyncio.to_thread(resume)
        async with BufferWriter(store, sink.record_buffer_events) as writer:
            with Scheduler(clock) as scheduler, closing(RunTime()) as run_time:
                loop_monitor = LoopMonitor(clock, scheduler, run_time)
                devices, groups = compile_devices(settings, clock, scheduler, timekeeper, sink, loop_monitor)
                configured = Catalogue(path=settings.gateway.path, groups=groups)
                device_info = await asyncio.to_thread(DeviceInfo, settings.gateway.state / "learned.json", configured)
                recorder = Recorder(
                    resumed.chain, writer, timekeeper, clock, device_info.catalogue,
                    settings_map.recorder_settings(settings), device_info.devices,
                )  # fmt: skip
                acquisition = Acquisition(
                    settings=settings, digest=digest, kept=kept, clock=clock, identity=identity, timekeeper=timekeeper,
                    store=store, scheduler=scheduler, devices=devices, device_info=device_info, recorder=recorder,
                    audit=Audit(recorder.record_event, clock),
                    loss_declarer=LossDeclarer(writer, recorder, clock, configured),
                    certificates=CertificateMonitor(sink.record_event), sink=sink,
                )  # fmt: skip
                await acquisition.record_start(resumed, is_new_identity=is_new)
                yield acquisition
                await acquisition.record_stop()


def compile_devices(
    settings: GatewaySettings,
    clock: Clock,
    scheduler: Scheduler,
    timekeeper: Timekeeper,
    sink: AcquisitionSink,
    loop_monitor: LoopMonitor,
) -> tuple[list[ConfiguredDevice], tuple[CatalogueGroup, ...]]:
    """The devices with their plans, and all scan groups; a driver gets the settings of its device without the tags."""
    devices: list[ConfiguredDevice] = []
    catalogue: list[CatalogueGroup] = []
    kinds: dict[str, DriverKind[Any]] = {}
    asked: dict[Hashable, Questions] = {}
    known: dict[CatalogueTag, CatalogueTag] = {}  # Devices of a kind have the same tags.
    phases_ns = settings_map.phases_ns(settings)
    for wanted in settings.devices:
        kind = kinds.get(wanted.driver) or kinds.setdefault(wanted.driver, load(wanted.driver))
        without_tags = [replace(group, tags=()) for group in wanted.scan_groups]
        driver = kind.driver(replace(wanted, scan_groups=without_tags), clock)
        groups: list[ScanGroup] = []
        for group, catalogued in zip(wanted.scan_groups, catalogue_groups(wanted, known), strict=True):
            plan = plan_group(driver, group)
            number, urgent = len(catalogue), group.urgent
            groups.append(
                SubscribedGroup(number, catalogued, plan, urgent=urgent)
                if group.is_subscribed
                else PolledGroup(number, catalogued, plan, urgent=urgent, phase_ns=phases_ns[number])
            )
            catalogue.append(catalogued)
        shares = kind.connection(wanted) if isinstance(kind, SharesConnection) else wanted.name
        questions = asked.setdefault((wanted.driver, shares), Questions(clock))
        monitor = DeviceClockMonitor(wanted.clock_limit, timekeeper.utc_of)
        poller = DevicePoller(
            wanted.name, driver, groups, clock=clock, timer=scheduler, sink=sink, loop_monitor=loop_monitor,
            clock_monitor=monitor, identity=wanted.ask_identity, questions=questions,
        )  # fmt: skip
        backoff = Backoff(SystemRandom(), wanted.retry, wanted.retry_limit)
        devices.append(ConfiguredDevice(poller, backoff, wanted.driver, driver))
    return devices, tuple(catalogue)


@dataclass(slots=True, kw_only=True)
class Acquisition:
    """The open device side; see `acquire`.

    Attributes:
        store: the buffer on disk; used by the writer's thread only, except for its pending records.
        devices: in the order of the configuration.
        device_info: what devices say beyond the configuration.
        recorder: seals what comes in.
        certificates: those that sessions with devices, the identity and readers of metrics depend on.
        sink: receives blocks, gaps and events.
    """

    settings: GatewaySettings
    digest: bytes
    kept: KeptConfiguration | None
    clock: Clock
    identity: IdentityKey
    timekeeper: Timekeeper
    store: Store
    scheduler: Scheduler
    devices: Sequence[ConfiguredDevice]
    device_info: DeviceInfo
    recorder: Recorder
    audit: Audit
    loss_declarer: LossDeclarer
    certificates: CertificateMonitor
    sink: AcquisitionSink

    def __post_init__(self) -> None:
        for device in self.devices:
            device.poller.recall_identity(
                has_answered=self.device_info.device(device.poller.name) is not None,
                is_unanswered=self.device_info.is_unanswered(device.poller.name),
            )
        self._update_groups()
        self.device_info.on_identity = self.recorder.record_identity
        self.device_info.on_catalogue = self._change_catalogue
        self.recorder.on_backpressure_end = self._refresh

    async def run(self) -> None:
        """Poll and store, until cancelled."""
        async with task_group() as tasks:
            tasks.create_task(self.timekeeper.run(), name="timekeeper")
            tasks.create_task(self.recorder.run(), name="recorder")
            tasks.create_task(self.loss_declarer.run(), name="losses")
            tasks.create_task(self.audit.run(), name="audit")
            tasks.create_task(self.device_info.run(), name="device info")
            tasks.create_task(self._watch_certificates(), name="certificates")
            tasks.create_task(accept_requests(self.settings.buffer_directory, self._record_resend), name="resend")
            for device in self.devices:
                supervised = supervise(device.poller, device.backoff, self.clock, self.scheduler)
                tasks.create_task(supervised, name=f"device/{device.poller.name}")

    def utc_ns(self) -> int:
        """UTC now, as the timekeeper maps boot time."""
        return self.timekeeper.utc_of(self.clock.boot_ns())

    @property
    def dropped_records(self) -> int:
        """Records dropped before delivery, or never stored, since the start."""
        return self.loss_declarer.dropped_records + self.recorder.counts.lost_records

    def groups(self) -> list[ScanGroup]:
        """The scan groups of all devices, in the order of the catalogue."""
        return [group for device in self.devices for group in device.poller.groups]

    async def _watch_certificates(self) -> NoReturn:
        own = await asyncio.to_thread(named, self.identity.certificates, "ours")
        ours = [HeldCertificate("", each) for each in own]

        metrics = self.settings.status.metrics_files

        async def held() -> list[HeldCertificate]:
            shown = await asyncio.to_thread(in_use, metrics) if metrics else []
            return [*ours, *(HeldCertificate("", each) for each in shown)] + [
                HeldCertificate(device.poller.name, certificate)
                for device in self.devices
                if isinstance(device.driver, UsesCertificates)
                for certificate in device.driver.certificates()
            ]

        await self.certificates.run(held, self.utc_ns)

    async def _record_resend(self, request: ResendRequest, records: int) -> bool:
        """Record that delivered records are to be sent again; whether that is durable. Raises BufferFull."""
        event = Event(
            at_ns=self.utc_ns(), kind=EventKind.RESEND.label, subject=request.path.name,
            data={"account": request.account, "records": records, "ranges": shorten(request.spans, TEXT_LIMIT)},
        )  # fmt: skip
        is_durable = (await self.recorder.seal(RecordType.EVENT, encode(event))).is_durable
        if is_durable:
            log.info(event.kind, subject=event.subject, **event.data)
        return is_durable

    # What devices say beyond the configuration

    def _change_catalogue(self, catalogue: EncodedCatalogue) -> None:
        self.recorder.change_catalogue(catalogue)
        self._update_groups()
        self._refresh()  # A reader that begins with this catalogue needs every value once.

    def _update_groups(self) -> None:
        for group in self.groups():
            group.catalogue = self.device_info.catalogue.groups[group.number]

    def _refresh(self) -> None:
        for device in self.devices:
            device.poller.refresh()

    # What goes on record at the start and at the end

    async def record_start(self, resumed: ResumeResult, *, is_new_identity: bool) -> None:
        """Record what this run begins with; the chain's first record is durable when this returns."""
        now_ns = self.utc_ns()
        stored = self.recorder.store_first(resumed.first, _gaps_of_groups(resumed, now_ns))
        self.recorder.declare_lost(resumed.never_stored)
        self._record_start_events(resumed, now_ns, is_new_identity=is_new_identity)
        self.sink.open(self.recorder, self.audit, self.device_info, self.certificates, self.timekeeper.utc_of)
        await self.loss_declarer.declare(self.store.recovery.damages)
        await self._record_configuration()
        if await self.recorder.wait_stored(stored):
            await self.recorder.save_counter()

    def _record_start_events(self, resumed: ResumeResult, now_ns: int, *, is_new_identity: bool) -> None:
        fingerprint = self.identity.fingerprint
        if is_new_identity:
            self.audit.event(EventKind.KEY_NEW, str(self.settings.identity_key), fingerprint=fingerprint)
        self.audit.event(
            EventKind.START, self.settings.gateway.name, version=_version(), boot=boot_id().hex(),
            configuration=self.digest.hex(), fingerprint=fingerprint,
        )  # fmt: skip
        for device in self.settings.devices:
            if device.tolerated:
                self.audit.event(EventKind.DEVICE_TOLERATED, device.name, tolerates=", ".join(device.tolerated))
        if resumed.broken:
            self.audit.event(EventKind.CHAIN_NEW, self.settings.gateway.name, reason=resumed.broken)
        if resumed.stopped_at_ns is not None:
            behind_ns = resumed.stopped_at_ns - now_ns
            if behind_ns > 0:  # As after the clock's battery failed.
                times = {"behind_ns": behind_ns, "last_ns": resumed.stopped_at_ns, "now_ns": now_ns}
                self.audit.event(EventKind.TIME_BEHIND, "clock", **times)
            # What ends at a time that is not known has no end on record: it must not end before it begins.
            ended_ns = None if behind_ns > 0 else now_ns
            self.recorder.record_gap_in_utc(_off_gap(resumed, resumed.stopped_at_ns, ended_ns))

    async def _record_configuration(self) -> None:
        """Record and keep the configuration where it differs from that of the last start, or was not kept then."""
        old = await asyncio.to_thread(digest_on_record, self.settings.gateway.state)
        if old == self.digest and (self.kept is None or file_of(self.settings.gateway.state, old).exists()):
            return
        why = "kept from now on" if old == self.digest else "found at the start" if old else "first start"
        if old not in (b"", self.digest):
            account = account_name(os.getuid())
            log.info("configuration changed", old=old.hex(), new=self.digest.hex(), account=account)
        # A full disk does not prevent the start: the next one records the change again.
        with suppress(OSError, BufferFull):
            for change in self._configuration_records(old, why):
                await self.recorder.seal(RecordType.CONFIG, encode(change))
            packed = b"" if self.kept is None else self.kept.packed
            await asyncio.to_thread(put_on_record, self.settings.gateway.state, self.digest, packed)

    def _configuration_records(self, old: bytes, why: str) -> Iterator[ConfigChange]:
        """The change, with the first part of the configuration, and the further parts."""
        kept = self.kept or KeptConfiguration(packed=b"")
        parts = [kept.packed[at : at + _PART_BYTES] for at in range(0, len(kept.packed), _PART_BYTES)]
        change = ConfigChange(
            at_ns=self.utc_ns(), account=account_name(os.getuid()), role="start", why=why, old_hash=old,
            new_hash=self.digest, changes=kept.changes,
        )  # fmt: skip
        if not parts:
            yield change
        for number, part in enumerate(parts):
            of_it = KeptPart(number, len(parts), part, kept.count)
            yield replace(change, kept=of_it, changes=() if number else change.changes)

    async def record_stop(self) -> None:
        """Record a clean end: open gaps end, since the next start declares the time from here on for all groups.

        A device may answer what it was asked a little later: the time of the STOP is when polling ended.
        """
        stopped_at_ns = self.clock.boot_ns()
        for device in self.devices:
            device.poller.close(stopped_at_ns)
        await self.device_info.close()
        self.audit.event(EventKind.STOP)
        self.audit.close()
        await self.loss_declarer.trim()  # A STOP that only memory has room for is lost, with all that waits there.
        await self.recorder.close(stopped_at_ns)


def _off_gap(resumed: ResumeResult, from_ns: int, to_ns: int | None, group: int | None = None) -> Gap:
    """The time that the gateway was off, for all scan groups or for one."""
    detail = "the gateway was stopped" if resumed.was_clean else "the gateway ended without a STOP"
    if resumed.is_restored:
        detail = "the state was restored or copied, and what was read after that is not known here"
    if to_ns is None:
        detail += "; for how long is not known, because the clock is behind"
    status = int(StatusCode.BAD_OUT_OF_SERVICE)
    return Gap(group=group, from_ns=from_ns, to_ns=to_ns, status=status, detail=detail)


def _gaps_of_groups(resumed: ResumeResult, now_ns: int) -> Iterator[Gap]:
    """After a crash, one of each scan group since it was read; to the last sign of life where the clock is behind."""
    to_ns = max(now_ns, resumed.stopped_at_ns or now_ns)
    for number, from_ns in enumerate(resumed.unread_since_ns):
        if from_ns < to_ns:
            yield _off_gap(resumed, from_ns, to_ns, number)


@cache
def _version() -> str:
    return version("tidegate")
