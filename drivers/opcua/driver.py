"""The OPC UA driver, as its entry point names it.

asyncua takes a quarter of a second and 40 MB to import: a thread does it before the first session, so that a
configuration is checked without it, and other devices' scans are not delayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from drivers.opcua.imports import import_tag
from drivers.opcua.plan import OpcuaPlan, SubscriptionPlan
from drivers.opcua.services import ChunkSize
from drivers.opcua.settings import OpcuaDevice, OpcuaScanGroup, OpcuaTag
from edge.clock import Clock
from edge.driver import DeviceSettings, Discovered, SourceTag, Target
from edge.errors import ConfigError
from edge.tls import Certificate

if TYPE_CHECKING:
    from drivers.opcua.connection import KeptSession
    from drivers.opcua.publish import SubscriptionMemory
    from drivers.opcua.session import OpcuaSession


class OpcuaDriver:
    """One server; see `edge.driver.Driver`."""

    def __init__(self, device: OpcuaDevice, clock: Clock) -> None:
        self._device, self._clock = device, clock
        self._chunk = ChunkSize()
        self._memories: dict[SubscriptionPlan, list[SubscriptionMemory]] = {}
        self._kept: KeptSession | None = None
        self._certificates: tuple[Certificate, ...] = ()

    def plan(self, tags: Sequence[OpcuaTag]) -> OpcuaPlan:
        """See `edge.driver.Driver.plan`. Raises ValueError where a tag's namespace stands for nothing."""
        return OpcuaPlan(tags, self._device)

    def plan_subscription(self, group: OpcuaScanGroup) -> SubscriptionPlan:
        """See `edge.driver.SubscriptionPlanner.plan_subscription`."""
        return SubscriptionPlan(group, self._device)

    def connect(self) -> AbstractAsyncContextManager[OpcuaSession]:
        """See `edge.driver.Driver.connect`."""
        return self._connected()

    def certificates(self) -> Sequence[Certificate]:
        """See `edge.driver.UsesCertificates.certificates`: those of the last session, opened or refused."""
        return self._certificates

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[OpcuaSession]:
        setup, session_module = await _loaded("session_setup"), await _loaded("session")
        self._kept = kept = self._kept or setup.KeptSession()
        async with setup.open_session(self._device, self._clock, self._note_certificates, kept) as connection:
            yield session_module.OpcuaSession(connection, self._device, self._clock, self._chunk, self._memories)

    def _note_certificates(self, certificates: Sequence[Certificate]) -> None:
        self._certificates = tuple(certificates)


class OpcuaKind:
    """OPC UA; see `edge.driver.DriverKind`."""

    @property
    def settings(self) -> type[DeviceSettings]:
        """See `edge.driver.DriverKind.settings`."""
        return OpcuaDevice

    def import_tag(self, tag: SourceTag) -> Mapping[str, Mapping[str, Any]]:
        """See `edge.driver.ImportsTags`."""
        return import_tag(tag)

    def driver(self, device: OpcuaDevice, clock: Clock) -> OpcuaDriver:
        """See `edge.driver.DriverKind.driver`. Raises ConfigError where asyncua is not installed."""
        if find_spec("asyncua") is None:
            raise ConfigError(
                "driver opcua needs the library asyncua, which is not installed here:"
                " install the Debian package tidegate-opcua, or tidegate[opcua] with pip"
            )
        return OpcuaDriver(device, clock)

    async def discover(self, target: Target, pause: Callable[[], Awaitable[None]]) -> Sequence[Discovered]:
        """See `edge.driver.Discoverable.discover`."""
        found: Sequence[Discovered] = await (await _loaded("discovery")).discover(target, pause)
        return found


async def _loaded(module: str) -> ModuleType:
    """A module of this driver that needs the protocol library."""
    return await asyncio.to_thread(import_module, f"drivers.opcua.{module}")
