"""What one reading of a hostile device gives, `tidegate run` gives within ten seconds, with default settings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.clock import SystemClock
from edge.config.validate import settings_from
from edge.driver import load
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation
from tests.support.field.run import PATIENCE_S, OddDevice, Ran, Started, run, site_in
from tests.support.hostile.behaviour import Behaviour, Protocol
from tests.support.hostile.tables import PROTOCOLS

WITHIN_NS = 10 * 10**9
ALL = [(protocol, behaviour) for protocol in PROTOCOLS for behaviour in protocol.behaviours]

pytestmark = [pytest.mark.timeout(400)]


@dataclass(frozen=True)
class Found:
    readable: list[str]
    ran: dict[str, Ran]
    delay_ns: int


def odd(protocol: Protocol, behaviour: Behaviour, started: Started, folder: Path) -> OddDevice:
    """A running one, with no other settings than those that say where it is and what it speaks."""
    name = f"{protocol.label} {behaviour.id}".lower().replace(" ", "-").replace("/", "-")
    own = folder / name
    own.mkdir(parents=True)
    peer = started.enter(behaviour.start(own))
    settings = {**protocol.settings, **peer.device, **behaviour.settings}
    settings.pop("limits", None)
    tags = [dict(tag.settings) for tag in behaviour.tags or protocol.tags]
    settings |= {"driver": protocol.name, "scan_groups": [{"every": "1 s", "tags": tags}]}
    return OddDevice(name, settings)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    folder = tmp_path_factory.mktemp("hostile")
    with site_in(folder) as site:
        with closing(Started(site)) as started:
            devices = [odd(*each, started, folder / "read") for each in ALL]
            readable = asyncio.run(read_all(devices))
            wanted = [each for each, device in zip(ALL, devices, strict=True) if device.name in readable]
        with closing(Started(site)) as started:
            devices = [odd(*each, started, folder / "run") for each in wanted]
            ran, delay_ns = run(site, devices, dict.fromkeys(readable, 0))
        yield Found(readable, ran, delay_ns)


async def read_all(devices: Sequence[OddDevice]) -> list[str]:
    """The names of those that give all their tags when they are asked once, as `tidegate read` asks."""

    async def is_read(device: OddDevice) -> bool:
        kind = load(device.settings["driver"])
        settings = settings_from(kind.settings, {"name": device.name, **device.settings}, Path())
        driver = kind.driver(settings, SystemClock())
        plan = driver.plan(settings.scan_groups[0].tags)
        try:
            async with asyncio.timeout(PATIENCE_S), driver.connect() as session:
                return not (await session.read(plan)).status
        except (DeviceUnreachable, DeviceRefused, ProtocolViolation, TimeoutError):
            return False

    are_read = await asyncio.gather(*map(is_read, devices))
    return [device.name for device, each in zip(devices, are_read, strict=True) if each]


def test_what_read_reads_run_reads_within_ten_seconds(found: Found) -> None:
    never = WITHIN_NS + found.delay_ns + 1
    missing = {
        name: [tag for tag in found.ran[name].tags if found.ran[name].first_good_ns.get(tag, never) >= never]
        for name in found.readable
    }

    assert found.readable
    assert {name: tags for name, tags in missing.items() if tags} == {}
