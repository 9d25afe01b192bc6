"""A gateway that stands still: each hole is a GAP with its cause, and the verifier finds the same holes by itself."""

from __future__ import annotations

import signal
import threading

from edge.model import StatusCode
from tests.faults.gateway.site_under_test import Process, Site

STOPPED_S = 1.5


def stop_for(process: Process, stopped_s: float) -> None:
    """SIGSTOP, and SIGCONT after a while."""
    process.send(signal.SIGSTOP)
    threading.Event().wait(stopped_s)
    process.send(signal.SIGCONT)


def test_a_gateway_that_was_suspended_says_so_for_each_group_that_missed_scans(site: Site) -> None:
    site.add_counter("mixer")
    site.add_counter("filler", every="50 ms")
    site.add_counter("silo", every="10 s")
    site.mosquitto()
    site.relay()
    gateway = site.gateway()
    least = {"mixer": 50, "filler": 20, "silo": 1}
    site.wait(lambda: all(len(site.served(name)) >= count for name, count in least.items()), "scans")
    counts = {name: len(site.served(name)) for name in ("mixer", "filler")}
    stop_for(gateway, STOPPED_S)
    site.wait(lambda: all(len(site.served(name)) > count + 20 for name, count in counts.items()), "more scans")
    told = site.stop_and_archive(gateway)

    for name in ("mixer", "filler"):
        long = [gap for gap in told.gaps(name) if gap.to_ns is not None and gap.to_ns - gap.from_ns > STOPPED_S * 1e9]
        [suspended] = [gap for gap in long if gap.status == StatusCode.BAD_OUT_OF_SERVICE]
        assert suspended.detail.startswith("the gateway was suspended")
    assert not told.gaps("silo")
    [epoch] = site.verify(site.archive)["epochs"]
    coverage = {each["name"].partition(" ")[0]: each for each in epoch["coverage"]}
    assert set(coverage) == {"mixer", "filler", "silo"}
    assert coverage["silo"]["holes"] == 0
    for name in ("mixer", "filler"):
        assert coverage[name]["holes_ns"] > STOPPED_S * 1e9
        assert (coverage[name]["unexplained"], coverage[name]["not_held"]) == (0, 0)
