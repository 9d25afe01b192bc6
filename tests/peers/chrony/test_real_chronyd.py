"""What a real chronyd says, and what becomes of it when its server goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge.clock import ChronySource, SourceReport, SourceSilent, SystemClock, TimeState
from tests.support.chrony import asking, chronyd, free_udp_port, serving
from tests.support.clock_scenarios import LOSSES, watch


async def _ask_until(source: ChronySource, state: TimeState) -> SourceReport:
    """What chronyd says once it says that; it measures once a second."""
    async with asyncio.timeout(40):
        while True:
            try:
                report = await source.ask()
            except SourceSilent:
                report = None
            if report is not None and report.state is state:
                return report
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("door", ["udp", "unix"])
async def test_a_synchronized_chronyd_gives_a_bound(tmp_path_factory: pytest.TempPathFactory, door: str) -> None:
    home, port = tmp_path_factory.mktemp("c"), free_udp_port()  # The name of a unix socket has room for 107 bytes.
    with chronyd(home / "s", *serving(port)), chronyd(home / "c", *asking(port)) as client:
        report = await _ask_until(ChronySource(SystemClock(), getattr(client, door)), TimeState.SYNCHRONIZED)

        assert report.bound_ns is not None
        assert report.bound_ns > 0, report  # After the first few samples chronyd itself may be unsure by seconds.
        assert (report.stratum, report.reference) == (4, bytes([127, 0, 0, 1]))
        assert sorted(path.name for path in Path(client.unix).parent.iterdir() if "tidegate" in path.name) == []


async def test_a_chronyd_that_never_had_a_server_gives_no_bound(tmp_path: Path) -> None:
    with chronyd(tmp_path, "port 0") as client:
        report = await _ask_until(ChronySource(SystemClock(), client.udp), TimeState.FREE_RUNNING)

        assert report.bound_ns is None
        assert "age_ns" not in report.detail


async def test_a_chronyd_that_serves_its_own_clock_gives_no_bound(tmp_path: Path) -> None:
    with chronyd(tmp_path, "local stratum 10", "port 0") as client:
        report = await _ask_until(ChronySource(SystemClock(), client.udp), TimeState.FREE_RUNNING)

        assert (report.bound_ns, report.leap) == (None, 0)


@pytest.mark.requirement("REQ-TIME-01")
def test_the_stated_bound_covers_the_true_error_whatever_servers_and_network_do(tmp_path: Path) -> None:
    """The clocks of the servers are known; chronyd itself says "Normal" through all of it."""
    outcomes = {each.name: each for each in asyncio.run(watch(tmp_path, 22, seed=1))}

    assert {name: each.uncovered for name, each in outcomes.items() if each.uncovered} == {}
    assert all(each.bounded for each in outcomes.values()), "a scenario that states no bound shows nothing"
    assert not any(outcomes[name].is_unrecognized for name in LOSSES)
    for name in ("server steps +0.4 s", "server steps -0.4 s", "server steps -20 ms"):
        assert {sample.state for sample in outcomes[name].samples} >= {TimeState.SYNCHRONIZED, TimeState.DISRUPTED}
