"""A test stand: a peer, a recording proxy, and the driver under test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.config.validate import settings_from
from edge.driver import DeviceSettings, Driver, DriverKind, plan_group
from edge.testing.conformance.subject import Peer, Subject
from edge.testing.proxy import RecordingProxy

EVENT_TIMEOUT_S = 20.0
"""Timeout of the suite for events that must happen; long, because the wait ends with the event."""

NOWHERE = 9
"""A port without a listener."""


@dataclass(slots=True)
class Stand:
    """A running device and its driver; `proxy` is None if nothing is recorded."""

    subject: Subject
    number: int
    peer: Peer
    proxy: RecordingProxy | None
    settings: DeviceSettings
    driver: Driver[Any]

    def plan(self) -> Any:
        """A plan of the device's first scan group."""
        return plan_group(self.driver, self.settings.scan_groups[0])


def settings_of(
    subject: Subject,
    kind: DriverKind[Any],
    number: int,
    port: int,
    tags: Sequence[Mapping[str, Any]],
    group: Mapping[str, Any] | None = None,
) -> DeviceSettings:
    """Settings of a device with one scan group, validated as in a configuration."""
    device = {
        "name": f"device-{number}",
        "driver": subject.driver,
        **subject.device(number, port),
        "scan_groups": [{"every": "20 ms", "tags": list(tags), **(group or {})}],
    }
    settings: DeviceSettings = settings_from(kind.settings, device, Path())
    return settings


@asynccontextmanager
async def stand(
    subject: Subject,
    number: int = 0,
    *,
    kind: DriverKind[Any] | None = None,
    tags: Sequence[Mapping[str, Any]] | None = None,
    group: Mapping[str, Any] | None = None,
    is_recorded: bool = False,
) -> AsyncIterator[Stand]:
    """A running peer and its driver; with a proxy between them if it `is_recorded` and the peer has a TCP port."""
    kind = kind or subject.kind()
    async with AsyncExitStack() as stack:
        peer = await stack.enter_async_context(subject.peer(number))
        proxy = RecordingProxy("127.0.0.1", peer.port) if is_recorded and peer.port else None
        if proxy is not None:
            await stack.enter_async_context(proxy)
        port = proxy.port if proxy else peer.port
        settings = settings_of(subject, kind, number, port, subject.tags if tags is None else tags, group)
        yield Stand(subject, number, peer, proxy, settings, kind.driver(settings, subject.clock))
