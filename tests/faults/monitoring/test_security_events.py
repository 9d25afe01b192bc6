"""What gateways and a relay send to the system's log: the processes themselves, each event for its cause."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edge.mqtt.codec import PacketType, packet
from tests.faults.gateway.site_under_test import sites
from tests.faults.monitoring.plant import Plant, device
from tests.support.faulty_broker import FaultyBroker

_ID = re.compile(r'tidegate\[\d+\]: (TG-S\d\d) \[tidegate gateway="([^"]*)"')


class Collector:
    """A syslog that keeps which events came from whom."""

    def __init__(self, path: Path) -> None:
        self.events: set[tuple[str, str]] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def has(self, *events: tuple[str, str]) -> bool:
        with suppress(BlockingIOError):
            while True:
                [event] = _ID.findall(self._socket.recv(4096).decode())
                self.events.add(event)
        return self.events.issuperset(events)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    collector = Collector(tmp_path / "log")
    yield collector
    collector.close()


@pytest.fixture
def plant(tmp_path: Path, collector: Collector) -> Iterator[Plant]:
    for site in sites(tmp_path):
        yield Plant(site, str(tmp_path / "log"))


def test_each_security_event_reaches_the_systems_log(plant: Plant, collector: Collector) -> None:
    site, mixer = plant.site, device("mixer", plant.devices["good"].port)
    plant.broker("tidegate/v1/line-1/r/event")
    plant.make_certificate("stranger", 30, authority="stranger")
    plant.trust_in("line-1")
    plant.relay("relay-1", port=site.broker_port, view_port=site.broker_port)
    plant.wait_for("relay-1", "tidegate_relay_up")
    hostile: FaultyBroker = plant.site.plant.enter(FaultyBroker())

    plant.gateway("line-1", mixer)
    (plant.directory / "line-2").mkdir()
    plant.gateway("line-2", mixer, uplink=plant.uplink("stranger"))
    first = {("TG-S15", "line-1"), ("TG-S02", "line-1"), ("TG-S09", "line-2"), ("TG-S01", "line-2")}
    site.wait(lambda: collector.has(*first), f"{first}, and not only {collector.events}")
    seen = set(collector.events)
    for name, uplink in (("line-1", plant.uplink(port=hostile.port)), ("line-2", plant.uplink())):
        plant.processes[name].stop()
        plant.gateway(name, mixer, uplink=uplink)
    site.wait(lambda: hostile.received["CONNECT"], "line-1 to connect")
    site.plant.call(lambda: hostile.inject(packet(PacketType.PUBLISH << 4, b"\0\1x\0y")))
    second = {("TG-S08", "line-1"), ("TG-S04", "line-1"), ("TG-S06", "relay-1")}
    site.wait(lambda: collector.has(*second), f"{second}, and not only {collector.events}")
    shutil.copy(plant.directory / "line-2/identity.pub.pem", plant.trust)
    site.wait(lambda: collector.has(("TG-S07", "relay-1")), "the relay to say that its trust changed")

    assert not {event for event in seen if event[0] in {"TG-S03", "TG-S04", "TG-S08", "TG-S10"}}
