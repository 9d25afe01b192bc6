"""Stopping and starting a gateway is an ordinary thing: nothing is lost by it, and the chain goes on."""

from __future__ import annotations

from edge.seal import Data, Stop
from tests.faults.gateway.site_under_test import Site


def test_a_stop_is_sealed_and_the_next_start_continues_the_chain(site: Site) -> None:
    site.add_counter("mixer")
    site.mosquitto()
    site.relay()
    first = site.gateway()
    site.wait_for_scans()

    site.stop_and_archive(first)

    [epoch] = site.verify(site.archive)["epochs"]
    assert epoch["tail"] == "CLOSED"
    second = site.gateway()
    site.wait_for_scans()
    told = site.stop_and_archive(second)
    [continued] = site.verify(site.archive)["epochs"]
    assert continued["epoch"] == epoch["epoch"]
    assert continued["tail"] == "CLOSED"
    assert len(told.all(Stop)) == 2
    [gap] = told.gaps(None)
    assert gap.detail == "the gateway was stopped"
    assert gap.from_ns == told.all(Stop)[0].time.as_of_ns + told.all(Stop)[0].time.offset_ns
    assert gap.from_ns > max(data.utc_ns for data in told.all(Data) if data.utc_ns < gap.to_ns)
    site.assert_accounted_for(told, "mixer")


def test_a_backlog_that_a_stop_left_behind_is_delivered_by_the_next_start(site: Site) -> None:
    site.add_counter("mixer")
    first = site.gateway()
    site.wait_for_status(lambda status: status.uplink.state == "down", "the uplink to be down")
    site.wait_for_scans(50)
    code = first.stop()
    site.mosquitto()
    site.relay()

    told = site.stop_and_archive(site.gateway())

    assert code == 0
    site.assert_accounted_for(told, "mixer")
    assert site.verify(site.archive)["is_wholly_authentic"]
