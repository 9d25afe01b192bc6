from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from drivers.ethernetip import EtherNetIpKind
from drivers.ethernetip.settings import EtherNetIpDevice
from edge.clock import SystemClock
from edge.config.validate import settings_from
from edge.model import Reading, StatusCode, status_codes

Tags = Sequence[Mapping[str, Any] | tuple[str, str]]
DeviceMaker = Callable[..., EtherNetIpDevice]


@pytest.fixture
def make_device() -> DeviceMaker:
    """A device with one scan group; tags are (address, type) or dictionaries of settings."""

    def make(tags: Tags, **settings: Any) -> EtherNetIpDevice:
        rows = [dict(tag) if isinstance(tag, Mapping) else {"address": tag[0], "type": tag[1]} for tag in tags]
        for number, row in enumerate(rows):
            row.setdefault("name", f"tag-{number}")
        return settings_from(
            EtherNetIpDevice,
            {"name": "plc", "driver": "ethernetip", "host": "127.0.0.1", **settings}
            | {"scan_groups": [{"every": "100 ms", "tags": rows}]},
        )

    return make


class JumpingClock(SystemClock):
    """The machine's clock, ahead by as much as a test wants."""

    ahead_ns = 0

    def boot_ns(self) -> int:
        return super().boot_ns() + self.ahead_ns


class Client:
    """A driver and its plan for one device."""

    def __init__(self, device: EtherNetIpDevice) -> None:
        self.clock = JumpingClock()
        self.driver = EtherNetIpKind().driver(device, self.clock)
        self.tags = device.scan_groups[0].tags
        self.plan = self.driver.plan(self.tags)

    async def read(self, times: int = 1) -> list[Reading]:
        async with self.driver.connect() as session:
            return [await session.read(self.plan) for _ in range(times)]

    def values(self, reading: Reading) -> list[Any]:
        codes = status_codes(reading.status, len(self.tags))
        return [
            StatusCode(int(code)) if code else reading.vectors[vector][position]
            for (vector, position), code in zip(self.plan.layout.slots, codes, strict=True)
        ]


@pytest.fixture
def client() -> type[Client]:
    return Client
