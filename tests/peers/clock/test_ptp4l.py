"""What a real ptp4l says of real grandmasters, and what becomes of it when they change.

With linuxptp 4, where this machine's is older:
`.ci/debian/linuxptp trixie FOLDER && PATH=FOLDER/bin:$PATH pytest tests/peers/clock`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from edge.clock import (
    ChronySource,
    KernelSource,
    PtpSource,
    SourceReport,
    SourceSilent,
    SystemClock,
    Timekeeper,
    TimeQuality,
    TimeSource,
    TimeState,
)
from hil.ptp import Grandmaster, PtpClock
from tests.support.chrony import asking, chronyd, free_udp_port, serving
from tests.support.ptp import PtpNetwork
from tests.support.waiting import LIMIT_S


@dataclass
class Followed:
    """A gateway's ptp4l, which follows one grandmaster; another is there to replace it."""

    gateway: PtpClock
    good: PtpClock
    other: PtpClock
    source: PtpSource

    def ask_until(self, condition: Callable[[SourceReport], object]) -> SourceReport:
        """The first report that meets a condition."""
        return asyncio.run(self._ask_until(condition))

    async def _ask_until(self, condition: Callable[[SourceReport], object]) -> SourceReport:
        report = None
        try:
            async with asyncio.timeout(2 * LIMIT_S):
                while True:
                    try:
                        report = await self.source.ask()
                    except SourceSilent as error:
                        if "changing" not in str(error):
                            raise
                        continue
                    if condition(report):
                        return report
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(report) from None


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    folder = tmp_path_factory.mktemp("ptp")
    with PtpNetwork(folder) as on:
        gateway, good, other = (on.clock(name) for name in ("gateway", "good", "other"))
        gateway.follow()
        source = PtpSource(
            SystemClock(), str(gateway.asked_at), own_name=str(folder / "own.sock"),
            stamped_by=None if gateway.asked_at == gateway.socket else "system",
        )  # fmt: skip
        yield Followed(gateway, good, other, source)


@pytest.fixture
def followed(network: Followed) -> Followed:
    """Locked to the good grandmaster, within its specification."""
    if network.other.runs:
        network.other.kill()
    if network.good.runs:
        network.good.say(Grandmaster())
    else:
        network.good.lead()
    is_followed = (TimeState.SYNCHRONIZED, network.good.identity, 0x21)
    network.ask_until(lambda report: (report.state, report.reference, report.accuracy) == is_followed)
    return network


def test_a_slave_in_lock_gives_a_bound(followed) -> None:
    report = followed.ask_until(lambda report: report.bound_ns is not None)

    assert (report.source, report.state, report.reference) == (
        TimeSource.PTP4L, TimeState.SYNCHRONIZED, followed.good.identity,
    )  # fmt: skip
    assert (report.stratum, report.accuracy, report.utc_tai_s) == (6, 0x21, 37)
    assert report.bound_ns >= 100 + abs(int(report.detail["offset_ns"])) + int(report.detail["path_delay_ns"])


def test_a_dead_grandmaster_is_noticed_although_ptp4l_keeps_its_offset(followed) -> None:
    followed.good.kill()
    gone = followed.ask_until(lambda report: report.bound_ns is None)
    first, second = (followed.gateway.manage("GET TIME_STATUS_NP").splitlines() for _ in range(2))

    assert (gone.state, gone.may_hold) == (TimeState.HOLDOVER, True)
    assert gone.detail["reason"] == "ptp4l follows no grandmaster: its port is LISTENING"
    assert [line for line in first if "master_offset" in line or "ingress" in line] == [
        line for line in second if "master_offset" in line or "ingress" in line
    ]


def test_another_grandmaster_is_on_record(followed) -> None:
    followed.other.lead(Grandmaster(accuracy=0x25), priority=50)
    report = followed.ask_until(lambda report: report.reference == followed.other.identity and report.bound_ns)

    assert report.accuracy == 0x25
    assert report.bound_ns is not None
    assert report.bound_ns >= 10_000


def test_a_grandmaster_that_is_five_milliseconds_off_is_part_of_the_bound(followed) -> None:
    """The clock is not adjusted here, so what ptp4l would correct stays an error of ours."""
    followed.other.lead(priority=50, off_ns=5_000_000)
    report = followed.ask_until(lambda report: report.reference == followed.other.identity and report.bound_ns)

    assert report.bound_ns is not None
    assert report.bound_ns >= 4_900_000
    assert abs(report.correction_ns - 5_000_000) < 500_000


@pytest.mark.parametrize(
    ("says", "state", "bounded"),
    [
        (Grandmaster(clock_class=7), TimeState.HOLDOVER, True),
        (Grandmaster(clock_class=52, accuracy=0xFE), TimeState.HOLDOVER, True),
        (Grandmaster(clock_class=248, accuracy=0xFE), TimeState.FREE_RUNNING, False),
        (Grandmaster(accuracy=0xFE), TimeState.FREE_RUNNING, False),
        (Grandmaster(utc_offset_valid=False), TimeState.FREE_RUNNING, False),
        (Grandmaster(ptp_timescale=False), TimeState.FREE_RUNNING, False),
    ],
    ids=["holdover", "out of specification", "free", "accuracy unknown", "TAI only", "own timescale"],
)
def test_a_grandmaster_that_gets_worse_is_believed(followed, says, state, bounded) -> None:
    followed.good.say(says)
    report = followed.ask_until(lambda report: report.reference and report.state is not TimeState.SYNCHRONIZED)

    assert (report.state, report.bound_ns is not None, report.may_hold) == (state, bounded, bounded)
    assert report.detail["reason"]


def test_a_gateway_falls_from_ptp_to_ntp_and_returns(followed, tmp_path) -> None:
    """Of two sources the better one decides; each change is an event, and a bound is stated throughout."""
    events: list[tuple[str, str]] = []
    port = free_udp_port()
    with chronyd(tmp_path / "server", *serving(port)), chronyd(tmp_path / "client", *asking(port)) as client:
        chrony = ChronySource(SystemClock(), client.udp)
        keeper = Timekeeper(
            SystemClock(), [followed.source, chrony, KernelSource()], b"", on_step=lambda _: None,
            on_event=lambda kind, _, data: events.append((kind, f"{data['from']} to {data['to']}")),
        )  # fmt: skip
        qualities = [_poll_until(keeper, TimeSource.PTP4L)]
        asyncio.run(_until_synchronized(chrony))
        followed.good.kill()
        qualities.append(_poll_until(keeper, TimeSource.CHRONY))
        followed.good.lead()
        qualities.append(_poll_until(keeper, TimeSource.PTP4L))

    assert [each.state for each in qualities] == [TimeState.SYNCHRONIZED] * 3
    ours = followed.good.identity
    assert [each.reference for each in qualities] == [ours, bytes([127, 0, 0, 1]), ours]
    changes = [change for kind, change in events if kind == "time.source"]
    assert changes == ["none to ptp4l", "ptp4l to chrony", "chrony to ptp4l"]


def _poll_until(keeper: Timekeeper, source: TimeSource) -> TimeQuality:
    """The first quality by a source; until then there is a bound, if there was one."""

    async def poll() -> TimeQuality:
        async with asyncio.timeout(2 * LIMIT_S):
            while keeper.quality.source is not source:
                was_bounded = keeper.quality.bound_ns is not None
                await keeper.poll()
                assert keeper.quality.bound_ns is not None or not was_bounded, keeper.quality
                await asyncio.sleep(0.02)
        return keeper.quality

    return asyncio.run(poll())


async def _until_synchronized(source: ChronySource) -> None:
    async with asyncio.timeout(2 * LIMIT_S):
        while (await source.ask()).state is not TimeState.SYNCHRONIZED:  # noqa: ASYNC110 - it does not say
            await asyncio.sleep(0.05)
