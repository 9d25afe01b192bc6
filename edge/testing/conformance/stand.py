"""A device on the test stand: its peer, the recording proxy before it, and the driver that reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.config.validate import settings_from
from edge.driver import DeviceSettings, Driver, DriverKind, plan_group
from edge.testing.conformance.subject import Peer, Subject
from edge.testing.proxy import RecordingProxy

PATIENCE_S = 20.0
"""Timeout of the suite for events that must happen; long, because the wait ends with the event."""

NOWHERE = 9
"""A port without a listener."""


@dataclass(slots=True)
class Stand:
    """A device that runs, and its driver; `proxy` is None where there is no wire."""

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
    """A device of one scan group, validated as the configuration is."""
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
    """Start a peer, and make a driver for it; with a proxy between them if it `is_recorded` and there is a wire."""
    kind = kind or subject.kind()
    async with subject.peer(number) as peer:
        if is_recorded and peer.port:
            async with RecordingProxy("127.0.0.1", peer.port) as proxy:
                yield _stand(subject, number, peer, proxy, kind, tags, group)
        else:
            yield _stand(subject, number, peer, None, kind, tags, group)


def _stand(
    subject: Subject,
    number: int,
    peer: Peer,
    proxy: RecordingProxy | None,
    kind: DriverKind[Any],
    tags: Sequence[Mapping[str, Any]] | None,
    group: Mapping[str, Any] | None,
) -> Stand:
    port = proxy.port if proxy else peer.port
    settings = settings_of(subject, kind, number, port, subject.tags if tags is None else tags, group)
    return Stand(subject, number, peer, proxy, settings, kind.driver(settings, subject.clock))
