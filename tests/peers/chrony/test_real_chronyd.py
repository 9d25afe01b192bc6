"""What a real chronyd says, and what becomes of it when its server goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge.clock import ChronySource, SourceReport, SourceSilent, SystemClock, TimeState

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


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
async def test_a_synchronized_chronyd_gives_a_bound(start_chronyd, serving, served_by, free_port, door) -> None:
    async with start_chronyd(*serving(free_port)), start_chronyd(*served_by(free_port)) as client:
        report = await _ask_until(ChronySource(SystemClock(), getattr(client, door)), TimeState.SYNCHRONIZED)

        assert report.bound_ns is not None
        assert report.bound_ns > 0, report  # After the first few samples chronyd itself may be unsure by seconds.
        assert (report.stratum, report.reference) == (4, bytes([127, 0, 0, 1]))
        assert sorted(path.name for path in Path(client.unix).parent.iterdir() if "tidegate" in path.name) == []


async def test_a_chronyd_that_never_had_a_server_gives_no_bound(start_chronyd) -> None:
    async with start_chronyd("port 0") as client:
        report = await _ask_until(ChronySource(SystemClock(), client.udp), TimeState.FREE_RUNNING)

        assert report.bound_ns is None


async def test_a_dead_server_is_noticed_although_chronyd_still_says_normal(
    start_chronyd, serving, served_by, free_port
) -> None:
    async with start_chronyd(*serving(free_port)) as server, start_chronyd(*served_by(free_port)) as client:
        source = ChronySource(SystemClock(), client.udp)
        good = await _ask_until(source, TimeState.SYNCHRONIZED)
        await server.kill()

        gone = await _ask_until(source, TimeState.HOLDOVER)

        assert gone.leap == 0
        assert int(gone.detail["age_ns"]) <= 10 * max(int(gone.detail["interval_ns"]), 10**9)
        assert good.bound_ns is not None
        assert gone.bound_ns is not None
        assert gone.bound_ns >= int(gone.detail["age_ns"]) * 50_000 // 10**9


async def test_a_server_that_is_five_seconds_off_is_part_of_the_bound(
    start_chronyd, serving, served_by, free_port
) -> None:
    """Chronyd is told to leave the clock alone, so what it would correct stays an error of ours."""
    assert LIBRARIES, "install the package libfaketime"
    ahead = {"LD_PRELOAD": str(LIBRARIES[0]), "FAKETIME": "+5.0s"}
    async with (
        start_chronyd(*serving(free_port), environment=ahead),
        start_chronyd(*served_by(free_port)) as client,
    ):
        report = await _ask_until(ChronySource(SystemClock(), client.udp), TimeState.SYNCHRONIZED)

        assert report.bound_ns is not None
        assert report.bound_ns >= abs(report.correction_ns)
        assert abs(report.correction_ns - 5 * 10**9) < 10**8
