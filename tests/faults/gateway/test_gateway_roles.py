"""Two processes that share nothing but the buffer directory do what one does, and neither reaches over the fence."""

from __future__ import annotations

from typing import Any

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
