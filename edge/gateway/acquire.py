"""The device side: poll, stamp, seal, store. It never sees the network side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from textwrap import shorten
from typing import NoReturn

from edge.buffer import BufferWriter, DirectoryLock, PosixDisk, Reader, Store
from edge.clock import Clock, RunTime, Timekeeper, boot_id
from edge.config.clock_sources import clock_sources
from edge.config.kept import KeptConfiguration
from edge.config.settings import GatewaySettings
from edge.driver import UsesCertificates
from edge.gateway import settings_map
from edge.gateway.audit import KINDS, Audit, EventKind
from edge.gateway.calibrations import CalibrationKeeper
from edge.gateway.configurations import ConfigurationRecorder, newest_configurations
from edge.gateway.devices import ConfiguredDevice, PlannedSite, PollerFactory, plan_site
from edge.gateway.resend import ResendRequest, accept_requests
from edge.gateway.sink import AcquisitionSink
from edge.gateway.supervise import supervise
from edge.health import CertificateMonitor, HeldCertificate
from edge.logs import get_logger
from edge.model import StatusCode
from edge.recent import Recent
from edge.recorder import Recorder, ResumeResult, resume_chain
from edge.recorder.device_info import DeviceInfo
from edge.recorder.losses import LossDeclarer
from edge.recorder.recorder import TEXT_LIMIT
from edge.scan import LoopMonitor, ScanGroup, Scheduler
from edge.seal import EncodedCatalogue, Event, Gap, IdentityKey, Origin, issuer_of
from edge.tasks import task_group
from edge.tls import in_use, named

_CANCELLED_AGAIN_S = 5.0  # Longer than a driver may take to close a session.

log = get_logger(__name__)


@asynccontextmanager
async def acquire(
    settings: GatewaySettings,
    digest: bytes,
    clock: Clock,
    kept: KeptConfiguration | None = None,
    approval: bytes | None = None,
) -> AsyncIterator[Acquisition]:
    """Open everything between the disk and the devices; only a clean end of the block records STOP.

    Args:
        digest: of the configuration's files, `kept` what is kept of it, and `approval` that of `require_reason`.

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
                pollers = PollerFactory(
                    clock=clock, scheduler=scheduler, timekeeper=timekeeper, sink=sink, loop_monitor=loop_monitor
                )
                planned = plan_site(settings, clock)
                device_info = await asyncio.to_thread(DeviceInfo, _learned(settings), planned.catalogue)
                calibrations = await asyncio.to_thread(CalibrationKeeper, _calibrations(settings), sink.record_event)
                began_ns = timekeeper.utc_of(clock.boot_ns())
                calibrations.use(await asyncio.to_thread(calibrations.plan, settings, began_ns))
                recorder = Recorder(
                    resumed.chain, writer, timekeeper, clock, device_info.catalogue,
                    settings_map.recorder_settings(settings), device_info.devices, calibrations.held.payloads,
                )  # fmt: skip
                kept_before = await asyncio.to_thread(newest_configurations, settings.gateway.state)
                recent = Recent(timekeeper.utc_of(clock.boot_ns()), configurations=kept_before)
                acquisition = Acquisition(
                    settings=settings, digest=digest, kept=kept, clock=clock, identity=identity, timekeeper=timekeeper,
                    store=store, pollers=pollers, devices=tuple(map(pollers.device, planned.devices)),
                    device_info=device_info, recorder=recorder,
                    audit=Audit(recorder.record_event, clock),
                    configurations=ConfigurationRecorder(
                        settings, recorder, recent, lambda: timekeeper.utc_of(clock.boot_ns())
                    ),
                    loss_declarer=LossDeclarer(writer, recorder, clock, planned.catalogue),
                    certificates=CertificateMonitor(sink.record_event), calibrations=calibrations, sink=sink,
                    recent=recent,
                )  # fmt: skip
                await acquisition.record_start(resumed, approval, is_new_identity=is_new)
                yield acquisition
                await acquisition.record_stop()


@dataclass(slots=True, kw_only=True)
class Acquisition:
    """The open device side; see `acquire`.

    Attributes:
        store: the buffer on disk; used by the writer's thread only, except for its pending records.
        devices: in the order of the configuration.
        device_info: what devices say beyond the configuration.
        recorder: seals what comes in.
        certificates: those that sessions with devices, the identity and readers of metrics depend on.
        calibrations: those of the instruments behind the tags.
        sink: receives blocks, gaps and events.
        recent: the newest of what went on record.
    """

    settings: GatewaySettings
    digest: bytes
    kept: KeptConfiguration | None
    clock: Clock
    identity: IdentityKey
    timekeeper: Timekeeper
    store: Store
    pollers: PollerFactory
    devices: Sequence[ConfiguredDevice]
    device_info: DeviceInfo
    recorder: Recorder
    audit: Audit
    configurations: ConfigurationRecorder
    loss_declarer: LossDeclarer
    certificates: CertificateMonitor
    calibrations: CalibrationKeeper
    sink: AcquisitionSink
    recent: Recent
    _tasks: asyncio.TaskGroup | None = None
    _polling: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _keeping: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        for device in self.devices:
            self._recall(device)
        self._use_device_info()
        self._use_contexts()
        self.recorder.on_backpressure_end = self._refresh
        self.recorder.on_context_event = lambda at_ns, kind, unit, data: self.audit.event_at(
            at_ns, KINDS[kind], unit, data
        )
        self.recorder.on_told = lambda content, device: self.recent.note(content, device, self.utc_ns())

    async def run(self) -> None:
        """Poll and store, until cancelled."""
        async with task_group() as tasks:
            tasks.create_task(self.timekeeper.run(), name="timekeeper")
            tasks.create_task(self.recorder.run(), name="recorder")
            tasks.create_task(self.loss_declarer.run(), name="losses")
            tasks.create_task(self.audit.run(), name="audit")
            tasks.create_task(self._watch_certificates(), name="certificates")
            tasks.create_task(self.calibrations.run(self.utc_ns), name="calibrations")
            tasks.create_task(accept_requests(self.settings.buffer_directory, self._record_resend), name="resend")
            self._tasks = tasks
            self._keeping = tasks.create_task(self.device_info.run(), name="device info")
            for device in self.devices:
                self._start(device)

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
        is_durable = (await self.recorder.record(event)).is_durable
        if is_durable:
            log.info(event.kind, subject=event.subject, **event.data)
        return is_durable

    # Devices that come and go while the gateway runs

    def _start(self, device: ConfiguredDevice) -> None:
        assert self._tasks is not None
        supervised = supervise(device.poller, device.backoff, self.clock, self.pollers.scheduler)
        self._polling[device.poller.name] = self._tasks.create_task(supervised, name=f"device/{device.poller.name}")

    async def _end(self, device: ConfiguredDevice) -> None:
        """End the session of a device; its driver may swallow a cancellation."""
        task = self._polling.pop(device.poller.name)
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=_CANCELLED_AGAIN_S)

    async def change(self, settings: GatewaySettings, digest: bytes, planned: PlannedSite) -> None:
        """Read the devices of another configuration from now on.

        Those without a plan are polled as before: no scan of theirs is skipped. The sessions of those that go, or have
        other settings, have ended before new ones begin, because a device may have room for one client only.
        """
        polled = {device.poller.name: device for device in self.devices}
        stay = {each.settings.name: each.first for each in planned.devices if each.driver is None}
        await self.device_info.close()
        info = await asyncio.to_thread(DeviceInfo, _learned(settings), planned.catalogue)
        encoded = await asyncio.to_thread(EncodedCatalogue.of, info.catalogue)
        held = await asyncio.to_thread(self.calibrations.plan, settings, self.utc_ns())
        going = [device for name, device in polled.items() if name not in stay]
        await asyncio.gather(*map(self._end, going))
        # From here to the last line nothing else runs: no block is sealed under the numbers of another catalogue.
        now_ns = self.clock.boot_ns()
        numbers: dict[int, int] = {}
        for device in going:
            device.poller.close(now_ns, "the configuration changed")
        for name, first in stay.items():
            numbers |= polled[name].poller.move(first, now_ns)
        self.calibrations.use(held)
        self.recorder.change_configuration(encoded, info.catalogue, info.devices, held.payloads)
        self.loss_declarer.note_catalogue(encoded.digest, planned.catalogue)
        for name in stay:
            polled[name].poller.moved(now_ns)
        new = [polled[each.settings.name] if each.driver is None else self.pollers.device(each)
               for each in planned.devices]  # fmt: skip
        self.settings, self.digest, self.devices = settings, digest, new
        before, self.device_info = self.device_info, info
        info.take_over(before, numbers)
        self._use_device_info()
        self._use_contexts()
        for device in new:
            if device.poller.name not in stay:
                self._recall(device)
                if device.poller.name in polled:
                    device.poller.begin_in_gap(now_ns, "its settings were changed, and it was not connected anew yet")
                self._start(device)

    def _recall(self, device: ConfiguredDevice) -> None:
        name = device.poller.name
        device.poller.recall_identity(
            has_answered=self.device_info.device(name) is not None, is_unanswered=self.device_info.is_unanswered(name)
        )

    def _use_device_info(self) -> None:
        self._update_groups()
        self.device_info.on_identity = self.recorder.record_identity
        self.device_info.on_catalogue = self._change_catalogue
        if self._tasks is not None and self._keeping is not None:
            self._keeping.cancel()
            self._keeping = self._tasks.create_task(self.device_info.run(), name="device info")
            self._open_sink()

    def _use_contexts(self) -> None:
        """Read the contexts of units, from the next answer of their devices on."""
        groups = self.groups()
        self.recorder.set_units(settings_map.units(self.settings, groups), self.device_info.catalogue)
        for group in groups:
            if group.number in self.recorder.contexts.sources:
                group.refresh()

    # What devices say beyond the configuration

    def _change_catalogue(self, catalogue: EncodedCatalogue) -> None:
        self.recorder.change_catalogue(catalogue)
        self.loss_declarer.note_catalogue(catalogue.digest, self.device_info.catalogue)
        self._update_groups()
        self._refresh()  # A reader that begins with this catalogue needs every value once.

    def _update_groups(self) -> None:
        for group in self.groups():
            group.catalogue = self.device_info.catalogue.groups[group.number]

    def _refresh(self) -> None:
        for device in self.devices:
            device.poller.refresh()

    # What goes on record at the start and at the end

    async def record_start(self, resumed: ResumeResult, approval: bytes | None, *, is_new_identity: bool) -> None:
        """Record what this run begins with; the chain's first record is durable when this returns."""
        now_ns = self.utc_ns()
        stored = self.recorder.store_first(resumed.first, _gaps_of_groups(resumed, now_ns))
        self.recorder.declare_lost(resumed.never_stored)
        self._record_start_events(resumed, now_ns, is_new_identity=is_new_identity)
        self._open_sink()
        await self.loss_declarer.declare(self.store.recovery.damages)
        await self.configurations.record_start(self.digest, self.kept, approval)
        if await self.recorder.wait_stored(stored):
            await self.recorder.save_counter()

    def _open_sink(self) -> None:
        self.sink.open(self.recorder, self.audit, self.device_info, self.certificates, self.timekeeper.utc_of)

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


def _learned(settings: GatewaySettings) -> Path:
    return settings.gateway.state / "learned.json"


def _calibrations(settings: GatewaySettings) -> Path:
    return settings.gateway.state / "calibrations.json"


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
