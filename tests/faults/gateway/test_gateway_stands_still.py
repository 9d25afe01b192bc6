"""A gateway that stands still: each hole is a GAP with its cause, and the verifier finds the same holes by itself."""

from __future__ import annotations

import signal
import threading
from itertools import pairwise
from pathlib import Path

from edge.clock import TimeState
from edge.model import StatusCode
from edge.seal import Data
from hil.wall_clock import WallClock
from tests.faults.gateway.site_under_test import Process, Site
from tests.support.chrony import asking, chronyd, free_udp_port, serving

STOPPED_S, SLEPT_S = 1.5, 3600
S, ROUNDED_NS = 10**9, 1000


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


def test_a_machine_that_was_suspended_for_an_hour_is_known_by_its_gaps_and_its_clock(
    site: Site, tmp_path: Path
) -> None:
    """Boot time and UTC go on for an hour while nothing runs; monotonic time stands, and a device has hung up."""
    clock = WallClock(tmp_path)
    clock.shift(0)
    site.add_counter("mixer", every="200 ms")
    site.add_counter("filler", every="200 ms")
    site.mosquitto()
    site.relay()
    port = free_udp_port()
    with (
        chronyd(tmp_path / "server", *serving(port), environment=clock.environment),
        chronyd(tmp_path / "client", *asking(port), environment=clock.environment) as client,
    ):
        site.settings["clock"] = {"require": "bounded", "chrony": client.udp}
        gateway = site.gateway(environment=clock.environment)
        site.wait_for_status(lambda status: status.clock.state == "SYNCHRONIZED", "the clock to be trusted")
        site.wait_for_scans(5)
        gateway.send(signal.SIGSTOP)
        clock.suspend(SLEPT_S)
        site.plant.call(site.devices["filler"].cut)
        gateway.send(signal.SIGCONT)
        site.wait_for_scans(5)
        status = site.wait_for_status(lambda status: status.clock.state == "SYNCHRONIZED", "the clock to be trusted")
        site.wait_for_scans(5)
        told = site.stop_and_archive(gateway)

    [of_mixer], [of_filler] = (
        [each for each in told.gaps(name) if (each.to_ns or 0) - each.from_ns >= SLEPT_S * S]
        for name in ("mixer", "filler")
    )
    blocks, offset_ns = told.blocks("mixer"), told.all(Data)[0].time.offset_ns
    last, first = max(pairwise(blocks), key=lambda pair: pair[1].answered_at_ns - pair[0].answered_at_ns)
    assert (of_mixer.status, of_mixer.detail) == (StatusCode.BAD_OUT_OF_SERVICE, "the gateway was suspended")
    assert of_mixer.to_ns is not None
    assert abs(of_mixer.from_ns - offset_ns - last.answered_at_ns) <= ROUNDED_NS
    assert abs(of_mixer.to_ns - offset_ns - first.answered_at_ns) <= ROUNDED_NS
    assert of_filler.detail.startswith("the gateway was suspended")
    soon = [each for each in blocks if 0 <= each.answered_at_ns - first.answered_at_ns < 2 * S]
    assert len(soon) <= 12, "missed scans are not made up for"
    woken_ns = _woken_ns(told.all(Data))
    [before, after] = [[data.time for data in told.all(Data) if (data.boot_ns < woken_ns) == is_before and data.blocks]
                       for is_before in (True, False)]  # fmt: skip
    assert before[-1].state is TimeState.SYNCHRONIZED or before[-1].bound_ns is None
    assert after[0].state in (TimeState.DISRUPTED, TimeState.FREE_RUNNING), "or chronyd said first that it begins anew"
    assert after[0].bound_ns is None
    assert after[-1].state is TimeState.SYNCHRONIZED
    assert told.codes("mixer") >= {StatusCode.GOOD, StatusCode.UNCERTAIN}
    assert sum(group.skipped_scans for device in status.devices for group in device.scan_groups) > SLEPT_S * 5
    event, *_ = [each for each in told.events("time.state") if "suspended" in str(each.data.get("reason", ""))]
    assert event.data["to"] == "disrupted"
    site.verify(site.archive)


def _woken_ns(records: list[Data]) -> int:
    """Boot time just after the suspension: the longest stretch without a record ends with it."""
    times = [data.boot_ns for data in records]
    return max(pairwise(times), key=lambda pair: pair[1] - pair[0])[1]
