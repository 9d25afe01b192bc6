"""The device side: poll, stamp, seal, store. It never sees the network side."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from random import SystemRandom
from types import TracebackType
from typing import Any, NoReturn, Self

from edge.backoff import Backoff
from edge.buffer import BufferEvent, BufferWriter, DirectoryLock, PosixDisk, Reader, Store
from edge.clock import Clock, boot_id
from edge.clock.timekeeper import Step, Timekeeper
from edge.config.catalogue import catalogue_groups
from edge.config.settings import GatewaySettings
from edge.driver import DriverKind, UsesCertificates, load, plan_group
from edge.errors import BufferFull
from edge.files import replace_file
from edge.gateway import settings_map
from edge.gateway.audit import Audit, EventKind
from edge.gateway.certificates import CHECK_INTERVAL_S, CertificateMonitor, HeldCertificate
from edge.gateway.supervise import supervise
from edge.model import Catalogue, CatalogueGroup, CatalogueTag, Identity, SampleBlock, StatusCode, TagMetadata
from edge.recorder import Recorder, ResumeResult, resume_chain
from edge.recorder.device_info import DeviceInfo
from edge.recorder.losses import LossDeclarer
from edge.scan import DeviceClockMonitor, DevicePoller, PolledGroup, ScanGroup, Scheduler, SubscribedGroup
from edge.seal import (
    ConfigChange,
    EncodedCatalogue,
    Gap,
    Origin,
    RecordType,
    encode,
    issuer_of,
)
from edge.tls import Certificate, expiries

_KINDS = {kind.label: kind for kind in EventKind}


@dataclass(frozen=True, slots=True)
class Polled:
    """A device, how it comes back when it is lost, the name of its driver, and what may know of certificates."""

    device: DevicePoller
    backoff: Backoff
    driver: str
    certified: object


class Acquisition:
    """Everything between the devices and the disk, while its block is open.

    Attributes:
        ledger: seals what comes in.
        polled: the devices, in the order of the configuration.
        learned: what devices say beyond the configuration.
        expiry: the certificates that conversations with devices, and the identity, depend on.
        store: the buffer on disk; used by the writer's thread only, except for what waits in memory.
    """

    def __init__(self, settings: GatewaySettings, digest: bytes, clock: Clock) -> None:
        self.settings, self.clock = settings, clock
        self.polled: list[Polled] = []
        self.sync_failures = 0
        self._digest = digest
        self._early: list[Callable[[], None]] | None = []  # What the clock has to say before there is a ledger.
        self._stack = AsyncExitStack()
        self._has_session = asyncio.Event()
        self.expiry = CertificateMonitor(self.record_event)

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A clean end is sealed; whatever else ends us is found by the next start."""
        try:
            if kind is None:
                self._close_gaps()
                self.audit.event(EventKind.STOP)
                self.audit.close()
                await self.ledger.close()
        finally:
            await self._stack.aclose()

    def _close_gaps(self) -> None:
        """What is silent at the end is not watched any more: the next start declares the rest, for all groups."""
        now_ns = self.clock.boot_ns()
        for group in (group for polled in self.polled for group in polled.device.groups):
            if (gap := group.close_gap()) is not None:
                self.record_gap(group.number, gap.from_ns, now_ns, gap.status, f"{gap.detail}; the gateway stopped")

    async def run(self) -> None:
        """Poll and keep, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.timekeeper.run(), name="timekeeper")
            tasks.create_task(self.ledger.run(), name="ledger")
            tasks.create_task(self.upkeep.run(), name="upkeep")
            tasks.create_task(self.audit.run(), name="audit")
            tasks.create_task(self.learned.run(), name="learned")
            tasks.create_task(self._watch_certificates(), name="certificates")
            for polled in self.polled:
                device = polled.device
                supervised = supervise(device, polled.backoff, self.clock, self.scheduler)
                tasks.create_task(supervised, name=f"device/{device.name}")

    # What scanning and the clock hand in

    def add_block(self, block: SampleBlock, *, urgent: bool) -> None:
        """One scan."""
        self.ledger.add_block(block, urgent=urgent)

    def record_gap(self, group: int, from_ns: int, to_ns: int | None, status: int, detail: str) -> None:
        """A silent stretch of a scan group."""
        self.ledger.record_gap(group, from_ns, to_ns, status, detail)

    def record_event(self, kind: str, subject: str, data: Mapping[str, Any]) -> None:
        """Something for the audit trail."""
        if self._early is not None:
            self._early.append(lambda: self.record_event(kind, subject, data))
        else:
            self.audit.event(_KINDS[kind], subject, **data)
            if kind == EventKind.DEVICE_UP.label:
                self._has_session.set()

    def record_identity(self, device: str, identity: Identity) -> None:
        """What a device says it is."""
        self.learned.set_identity(device, identity, self.timekeeper.utc_of(self.clock.boot_ns()))

    def record_tag_metadata(self, group: int, metadata: Sequence[TagMetadata]) -> None:
        """What a device says of its tags."""
        self.learned.set_tag_metadata(group, metadata)

    def uplink_event(self, kind: str, severity: str, data: Mapping[str, str | int]) -> None:  # noqa: ARG002
        """Something the network side has to say, where it is in the same process."""
        self.record_event(kind, "uplink", data)

    def _refresh(self) -> None:
        """What was not taken for a while was not reported: the next scans tell every value."""
        for polled in self.polled:
            polled.device.refresh()

    def _take_over_learned(self) -> None:
        """What was learned in an earlier run: a device that was swapped meanwhile is another."""
        for device in (polled.device for polled in self.polled):
            known = self.learned.device(device.name)
            device.identity = None if known is None else known.identity
        self._show_catalogue()

    def _change_catalogue(self, catalogue: EncodedCatalogue) -> None:
        self.ledger.change_catalogue(catalogue)
        self._show_catalogue()
        self._refresh()  # Whoever begins to read with this catalogue needs every value once.

    def _show_catalogue(self) -> None:
        for group in (group for polled in self.polled for group in polled.device.groups):
            group.catalogue = self.learned.catalogue.groups[group.number]

    async def _watch_certificates(self) -> NoReturn:
        """Look at the start, with each new session, and each hour."""
        own = await asyncio.to_thread(expiries, self.identity.certificates)
        ours = [HeldCertificate("", Certificate(whose="ours", name=name, expires_at_ns=end)) for name, end in own]
        while True:
            self._has_session.clear()
            self.expiry.look([*ours, *self._device_certificates()], self.timekeeper.utc_of(self.clock.boot_ns()))
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL_S):
                    await self._has_session.wait()

    def _device_certificates(self) -> Iterator[HeldCertificate]:
        for polled in self.polled:
            if isinstance(polled.certified, UsesCertificates):
                yield from (HeldCertificate(polled.device.name, each) for each in polled.certified.certificates())

    def _step(self, step: Step) -> None:
        if self._early is not None:
            self._early.append(lambda: self.ledger.record_step(step))
        else:
            self.ledger.record_step(step)

    def _buffer_changed(self, changes: Sequence[BufferEvent]) -> None:
        for change in changes:
            self.sync_failures += change.kind == "buffer.fsync"
            self.record_event(change.kind, "buffer", change.data)

    # Opening

    async def _open(self) -> None:
        settings = self.settings
        directory = settings.buffer_directory
        self._stack.enter_context(DirectoryLock(directory, "acquire"))
        self.identity, is_new = await asyncio.to_thread(settings_map.identity, settings)
        sources = settings_map.clock_sources(settings, self.clock)
        self.timekeeper = Timekeeper(
            self.clock, sources, boot_id(), on_step=self._step, on_event=self.record_event, poll_ns=settings.clock.poll
        )
        await self.timekeeper.poll()
        disk = PosixDisk(directory)
        self.store = await asyncio.to_thread(Store, disk, settings_map.limits(settings))
        opening = await asyncio.to_thread(self._open_chain, disk, is_new)
        self.writer = await self._stack.enter_async_context(BufferWriter(self.store, self._buffer_changed))
        self.scheduler = self._stack.enter_context(Scheduler(self.clock))
        configured = Catalogue(path=settings.gateway.path, groups=self._poll_devices())
        self.learned = await asyncio.to_thread(DeviceInfo, settings.gateway.state / "learned.json", configured)
        self._take_over_learned()
        self.ledger = Recorder(
            opening.chain, self.writer, self.timekeeper, self.clock, self.learned.catalogue,
            settings_map.ledger_rules(settings), self.learned.devices,
        )  # fmt: skip
        self.learned.on_identity, self.learned.on_catalogue = self.ledger.record_identity, self._change_catalogue
        self.audit = Audit(self.ledger.record_event, self.clock)
        self.upkeep = LossDeclarer(self.writer, self.ledger, self.clock, configured)
        self.ledger.on_backpressure_end = self._refresh
        begun = self.ledger.store_first(opening.first)
        self.ledger.declare_lost(opening.never_stored)
        early, self._early = self._early or [], None
        self._tell_start(opening, is_new)
        for tell in early:
            tell()
        await self.upkeep.declare(self.store.recovery.damages)
        await self._tell_configuration()
        await asyncio.wait([begun])
        await self.ledger.save_counter()

    def _open_chain(self, disk: PosixDisk, is_new: bool) -> ResumeResult:
        reader = Reader(disk)
        try:
            return resume_chain(
                self.store, reader, self.identity, issuer=issuer_of(self.settings.gateway.name),
                time=self.timekeeper.quality, is_new_identity=is_new, rules=settings_map.chain_rules(self.settings),
                origin=Origin(version=_version(), config_hash=self._digest),
            )  # fmt: skip
        finally:
            reader.close()

    def _poll_devices(self) -> tuple[CatalogueGroup, ...]:
        """Compile what is asked of each device; of its settings only what it takes to talk to it is kept."""
        kinds: dict[str, DriverKind] = {}
        described: list[CatalogueGroup] = []
        known: dict[CatalogueTag, CatalogueTag] = {}  # Devices of a kind have the same tags.
        for wanted in self.settings.devices:
            kind = kinds.get(wanted.driver) or kinds.setdefault(wanted.driver, load(wanted.driver))
            without_tags = [group.model_copy(update={"tags": ()}) for group in wanted.scan_groups]
            driver = kind.driver(wanted.model_copy(update={"scan_groups": without_tags}), self.clock)
            groups: list[ScanGroup] = []
            for group, catalogued in zip(wanted.scan_groups, catalogue_groups(wanted, known), strict=True):
                plan = plan_group(driver, group)
                make = SubscribedGroup if group.is_subscribed else PolledGroup
                groups.append(make(len(described), catalogued, plan, urgent=group.urgent))
                described.append(catalogued)
            limit_ns = wanted.clock_limit
            watch = None if limit_ns is None else DeviceClockMonitor(limit_ns, self.timekeeper.utc_of)
            device = DevicePoller(
                wanted.name, driver, groups, clock=self.clock, timer=self.scheduler, sink=self, clock_monitor=watch
            )
            backoff = Backoff(SystemRandom(), wanted.retry, wanted.retry_limit)
            self.polled.append(Polled(device, backoff, wanted.driver, driver))
        return tuple(described)

    # What goes on record at the start

    def _tell_start(self, opening: ResumeResult, is_new: bool) -> None:
        fingerprint = self.identity.fingerprint
        if is_new:
            self.audit.event(EventKind.KEY_NEW, str(self.settings.identity_key), fingerprint=fingerprint)
        self.audit.event(
            EventKind.START, self.settings.gateway.name, version=_version(), boot=boot_id().hex(),
            configuration=self._digest.hex(), fingerprint=fingerprint,
        )  # fmt: skip
        if opening.broken:
            self.audit.event(EventKind.CHAIN_NEW, self.settings.gateway.name, reason=opening.broken)
        if opening.stopped_at_ns is not None:
            self.ledger.record_gap_in_utc(self._gap_since(opening.stopped_at_ns, was_clean=opening.was_clean))

    def _gap_since(self, from_ns: int, *, was_clean: bool) -> Gap:
        to_ns = self.timekeeper.utc_of(self.clock.boot_ns())
        detail = "the gateway was stopped" if was_clean else "the gateway ended without a STOP"
        if to_ns < from_ns:  # As on a machine that lost its battery: no end is better than one before the beginning.
            to_ns, detail = from_ns, f"{detail}; for how long is not known, because the clock is behind"
        status = int(StatusCode.BAD_OUT_OF_SERVICE)
        return Gap(group=None, from_ns=from_ns, to_ns=to_ns, status=status, detail=detail)

    async def _tell_configuration(self) -> None:
        """A configuration that is not the one of the last start goes on record."""
        path = self.settings.gateway.state / "configuration.sha256"
        old = await asyncio.to_thread(_read_digest, path)
        if old == self._digest:
            return
        change = ConfigChange(
            at_ns=self.timekeeper.utc_of(self.clock.boot_ns()), account=_account(), role="start",
            why="found at the start" if old else "first start", old_hash=old, new_hash=self._digest,
        )  # fmt: skip
        # A full disk does not stop us: the next start tells of the change once more.
        with suppress(OSError, BufferFull):
            await self.ledger.seal(RecordType.CONFIG, encode(change))
            await asyncio.to_thread(replace_file, path, self._digest.hex().encode() + b"\n", 0o640)


@cache
def _version() -> str:
    return version("tidegate")


def _account() -> str:
    """Whose process this is, by the system's word and not by the environment's; a sandbox may have no name for it."""
    user = os.getuid()
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"uid {user}"


def _read_digest(path: Path) -> bytes:
    try:
        return bytes.fromhex(path.read_text("ascii").strip())
    except (OSError, ValueError):
        return b""
