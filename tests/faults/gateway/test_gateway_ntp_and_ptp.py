"""A gateway that runs goes over from NTP to PTP and back: nothing is restarted, and what it sealed says when.

chronyd, the ptp4l of the gateway and its grandmaster are real, and leave the machine's clock alone. So the test sets
the gateway's clock at each change, as ptp4l or chronyd would where their times differ.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from edge.clock import TimeSource, TimeState
from edge.health import StatusSnapshot
from edge.seal import Data, TimeChange
from hil.wall_clock import WallClock
from tests.faults.gateway.site_under_test import Site, Told
from tests.support.chrony import asking, chronyd, free_udp_port, serving
from tests.support.ptp import PtpNetwork

DIFFERENCE_S = 0.2
NS = 10**9


def test_a_running_gateway_goes_over_from_ntp_to_ptp_and_back(site: Site, tmp_path: Path) -> None:
    clock, port = WallClock(tmp_path / "clock"), free_udp_port()
    (tmp_path / "ptp").mkdir()
    site.add_counter("mixer")
    site.mosquitto()
    site.relay()
    with (
        chronyd(tmp_path / "server", *serving(port)),
        chronyd(tmp_path / "client", *asking(port)) as client,
        PtpNetwork(tmp_path / "ptp") as network,
    ):
        slave, grandmaster = network.clock("gateway"), network.clock("grandmaster")
        slave.follow()
        site.settings["clock"] = {
            "require": "bounded", "chrony": client.udp, "ptp": str(slave.asked_at), "ptp_clock": "system"
        }  # fmt: skip
        gateway = site.gateway(environment=clock.environment)
        _wait_until_kept(site, "chrony", steps=0)
        grandmaster.lead()
        _wait_until_kept(site, "ptp4l", steps=0)
        clock.shift(-DIFFERENCE_S)
        _wait_until_kept(site, "ptp4l", steps=1)
        grandmaster.kill()
        _wait_until_kept(site, "chrony", steps=1)
        clock.shift(0)
        _wait_until_kept(site, "chrony", steps=2)
        told = site.stop_and_archive(gateway)

    by_ntp, by_ptp = TimeSource.CHRONY, TimeSource.PTP4L
    kept = [data.time.source for data in told.all(Data) if data.time.state is TimeState.SYNCHRONIZED]
    assert [source for source, _ in groupby(kept)] == [by_ntp, by_ptp, by_ntp]
    steps = [change for change in told.all(TimeChange) if change.step_ns]
    assert [(round(each.step_ns / NS, 2), each.before.source) for each in steps] == [
        (-DIFFERENCE_S, by_ptp), (DIFFERENCE_S, by_ntp)
    ]  # fmt: skip
    corrected = [change.after.source for change in told.all(TimeChange) if change.correction_ns is not None]
    assert [source for source, _ in groupby(corrected)] == [by_ptp, by_ntp]
    changes = [(event.data["from"], event.data["to"]) for event in told.events("time.source")]
    assert [to for _, to in changes][-3:] == ["chrony", "ptp4l", "chrony"]
    assert told.values("mixer") == sorted(set(told.values("mixer")))
    assert _out_of_order(told) == []
    site.assert_times_are_true(told, "mixer")
    site.verify(site.archive)


def _wait_until_kept(site: Site, source: str, *, steps: int) -> None:
    """Wait until the clock is kept by a source, and for readings from then on."""

    def is_kept(status: StatusSnapshot) -> bool:
        return (status.clock.source, status.clock.steps, status.clock.state) == (source, steps, "SYNCHRONIZED")

    site.wait_for_status(is_kept, f"the clock to be kept by {source}")
    site.wait_for_scans()


def _out_of_order(told: Told) -> list[int]:
    """The UTC of each reading that is before that of the one before it, without a TIME record between them."""
    found, last_ns = [], 0
    for each in told.judgements:
        if isinstance(each.content, TimeChange) and each.content.step_ns:
            last_ns = 0
        elif isinstance(each.content, Data):
            for block in each.content.blocks(told.catalogues[each.content.catalogue]):
                utc_ns = block.sampled_at_ns + each.content.time.offset_ns
                found += [utc_ns] if utc_ns < last_ns else []
                last_ns = utc_ns
    return found
