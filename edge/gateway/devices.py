"""The devices of a configuration: planned in any thread, then polled in the event loop.

While the gateway runs, a device whose settings are the same in a new configuration goes on with what it has: its
session, its grid and its counts. Only the numbers of its scan groups may be others then.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Sequence
from dataclasses import dataclass, field, replace
from random import SystemRandom
from typing import Any

from edge.backoff import Backoff
from edge.clock import Clock, Timekeeper
from edge.config.catalogue import catalogue_groups
from edge.config.settings import GatewaySettings
from edge.driver import DeviceSettings, Driver, DriverKind, SharesConnection, load, plan_group
from edge.gateway import settings_map
from edge.model import Catalogue, CatalogueGroup, CatalogueTag
from edge.scan import (
    DeviceClockMonitor,
    DevicePoller,
    LoopMonitor,
    PolledGroup,
    Questions,
    ScanGroup,
    Scheduler,
    Sink,
    SubscribedGroup,
)


@dataclass(frozen=True, slots=True)
class ConfiguredDevice:
    """A device of the configuration: its poller, the delays before its next session, its driver, and its address."""

    poller: DevicePoller
    backoff: Backoff
    driver_name: str
    driver: Driver[Any]
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDevice:
    """A device that is not polled yet.

    Attributes:
        first: number of its first scan group.
        settings: without the tags.
        groups: with their plans; none where the device is polled already, with the same settings.
        shares: what tells its connection from others.
    """

    first: int
    settings: DeviceSettings
    driver: Driver[Any] | None = None
    groups: Sequence[ScanGroup] = ()
    shares: Hashable = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSite:
    """All devices, in the order of the configuration, and the catalogue of their scan groups."""

    devices: Sequence[PlannedDevice]
    catalogue: Catalogue


def plan_site(settings: GatewaySettings, clock: Clock, polled: Container[str] = ()) -> PlannedSite:
    """Plan all devices but those that are `polled` already; a driver gets the settings of its device without the tags.

    Raises:
        ConfigError: a device cannot be used as configured.
    """
    devices: list[PlannedDevice] = []
    catalogue: list[CatalogueGroup] = []
    kinds: dict[str, DriverKind[Any]] = {}
    known: dict[CatalogueTag, CatalogueTag] = {}  # Devices of a kind have the same tags.
    phases_ns = settings_map.phases_ns(settings)
    for wanted in settings.devices:
        first = len(catalogue)
        without_tags = replace(wanted, scan_groups=[replace(group, tags=()) for group in wanted.scan_groups])
        catalogued = catalogue_groups(wanted, known)
        catalogue += catalogued
        if wanted.name in polled:
            devices.append(PlannedDevice(first=first, settings=without_tags))
            continue
        kind = kinds.get(wanted.driver) or kinds.setdefault(wanted.driver, load(wanted.driver))
        driver = kind.driver(without_tags, clock)
        groups: list[ScanGroup] = []
        for number, (group, each) in enumerate(zip(wanted.scan_groups, catalogued, strict=True), first):
            plan = plan_group(driver, group)
            groups.append(
                SubscribedGroup(number, each, plan, urgent=group.urgent)
                if group.is_subscribed
                else PolledGroup(number, each, plan, urgent=group.urgent, phase_ns=phases_ns[number])
            )
        shares = kind.connection(wanted) if isinstance(kind, SharesConnection) else wanted.name
        devices.append(PlannedDevice(first=first, settings=without_tags, driver=driver, groups=groups,
                                     shares=(wanted.driver, shares)))  # fmt: skip
    return PlannedSite(devices=devices, catalogue=Catalogue(path=settings.gateway.path, groups=tuple(catalogue)))


@dataclass(slots=True, kw_only=True)
class PollerFactory:
    """Makes the pollers of planned devices; those that share a connection share their questions."""

    clock: Clock
    scheduler: Scheduler
    timekeeper: Timekeeper
    sink: Sink
    loop_monitor: LoopMonitor
    _questions: dict[Hashable, Questions] = field(default_factory=dict)

    def device(self, planned: PlannedDevice) -> ConfiguredDevice:
        """The device with its poller, whose counts begin now."""
        settings = planned.settings
        assert planned.driver is not None
        poller = DevicePoller(
            settings.name, planned.driver, planned.groups, clock=self.clock, timer=self.scheduler, sink=self.sink,
            loop_monitor=self.loop_monitor, identity=settings.ask_identity,
            clock_monitor=DeviceClockMonitor(settings.clock_limit, self.timekeeper.utc_of),
            questions=self._questions.setdefault(planned.shares, Questions(self.clock)),
        )  # fmt: skip
        backoff = Backoff(SystemRandom(), settings.retry, settings.retry_limit)
        return ConfiguredDevice(poller, backoff, settings.driver, planned.driver, settings.where)
