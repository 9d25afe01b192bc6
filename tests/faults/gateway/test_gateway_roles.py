"""Two processes that share nothing but the buffer directory do what one does, and neither reaches over the fence."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any
from urllib.request import urlopen

from edge.testing.proxy import RecordingProxy
from tests.faults.gateway.site_under_test import Site


def test_two_processes_joined_by_the_buffer_deliver_everything_whichever_is_killed(site: Site) -> None:
    site.add_counter("mixer")
    site.mosquitto()
    site.relay()
    acquire, forward = site.gateway("acquire"), site.gateway("forward")
    site.wait_for_scans()

    acquire.kill()
    acquire = site.gateway("acquire")
    site.wait_for_scans()
    forward.kill()
    site.wait_for_scans()
    forward = site.gateway("forward")
    site.wait_for_scans()
    codes = [acquire.stop()]
    site.wait_until_archived()
    codes.append(forward.stop())

    told = site.told(site.archived())
    assert codes == [0, 0]
    assert len(told.gaps(None)) == 1
    site.assert_accounted_for(told, "mixer")
    assert site.verify(site.archive)["epochs"][0]["tail"] == "CLOSED"


def test_the_device_side_never_reaches_the_broker_nor_the_network_side_a_device(site: Site) -> None:
    device = site.add_counter("mixer")
    site.mosquitto()
    site.relay()
    proxy: Any = site.plant.enter(RecordingProxy("127.0.0.1", site.broker_port))
    site.settings["uplink"]["mqtt"]["port"] = proxy.port

    acquire = site.gateway("acquire")
    site.wait_for_scans()
    assert acquire.stop() == 0
    calls_of_acquire, requests = len(proxy.recordings), device.received
    forward = site.gateway("forward")
    site.wait_until_archived()
    assert forward.stop() == 0

    assert calls_of_acquire == 0
    assert len(proxy.recordings) == 1
    assert (device.received, device.connections_most) == (requests, 1)


def test_each_role_serves_metrics_at_a_port_of_its_own(site: Site) -> None:
    """Both read the same file: the second could not listen, and did not start."""
    site.add_counter("mixer")
    site.mosquitto()
    port = two_free_ports()
    site.settings["status"] = {"metrics": f"127.0.0.1:{port}"}

    halves = site.gateway("acquire"), site.gateway("forward")
    of_acquire, of_forward = (metrics(number) for number in (port, port + 1))

    assert ("tidegate_uplink" in of_acquire, "tidegate_uplink" in of_forward) == (False, True)
    assert [half.stop() for half in halves] == [0, 0]


def two_free_ports() -> int:
    """The first of two neighbours."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            with suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port


def metrics(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
    return text
