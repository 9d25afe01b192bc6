"""The EtherNet/IP driver, as the gateway finds it by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from drivers.ethernetip.browse import discover
from drivers.ethernetip.connection import opened
from drivers.ethernetip.encapsulation import PORT
from drivers.ethernetip.imports import import_tag
from drivers.ethernetip.plan import EtherNetIpPlan, Suspects
from drivers.ethernetip.session import EtherNetIpSession
from drivers.ethernetip.settings import EtherNetIpDevice, EtherNetIpTag
from drivers.ethernetip.symbols import SymbolTable
from edge.clock import Clock
from edge.driver import DeviceSettings, Discovered, SourceTag, Target, found_at


class EtherNetIpDriver:
    """One device; see `edge.driver.Driver`."""

    def __init__(self, device: EtherNetIpDevice, clock: Clock) -> None:
        self._device, self._clock = device, clock
        self._symbol_table, self._suspects = SymbolTable(), Suspects()

    def plan(self, tags: Sequence[EtherNetIpTag]) -> EtherNetIpPlan:
        """See `edge.driver.Driver.plan`."""
        return EtherNetIpPlan(tags, self._device)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[EtherNetIpSession]:
        """See `edge.driver.Driver.connect`."""
        async with opened(self._device, self._clock) as session:
            yield EtherNetIpSession(session, self._device, self._clock, self._symbol_table, self._suspects)


class EtherNetIpKind:
    """EtherNet/IP; see `edge.driver.DriverKind`."""

    @property
    def settings(self) -> type[DeviceSettings]:
        """See `edge.driver.DriverKind.settings`."""
        return EtherNetIpDevice

    def import_tag(self, tag: SourceTag) -> Mapping[str, Mapping[str, Any]]:
        """See `edge.driver.ImportsTags`."""
        return import_tag(tag)

    def driver(self, device: EtherNetIpDevice, clock: Clock) -> EtherNetIpDriver:
        """See `edge.driver.DriverKind.driver`."""
        return EtherNetIpDriver(device, clock)

    async def discover(self, target: Target, pause: Callable[[], Awaitable[None]]) -> Sequence[Discovered]:
        """See `edge.driver.Discoverable.discover`."""
        ports = () if target.url else target.ports or (PORT,)
        return await found_at(ports, lambda port: discover(target.host, pause, port))
