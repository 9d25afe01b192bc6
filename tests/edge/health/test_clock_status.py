"""What a status says of the clock: the source's words, its age, and what helps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len

from edge.cli.clock import ClockAnswer, device_clocks, lines
from edge.clock import Require, SourceReport, SourceSilent, Timekeeper, TimeSource, TimeState
from edge.health import ClockStatus, DeviceStatus, GatewayStatus, StatusSnapshot
from edge.health.clock import ask_clock, clock_status
from edge.health.problems import problems_of
from edge.testing.clock import ManualClock

S = 10**9
GOOD = SourceReport(
    source=TimeSource.CHRONY, state=TimeState.SYNCHRONIZED, bound_ns=1_240_000, reference=bytes([192, 0, 2, 7]),
    stratum=3, detail={"age_ns": 12 * S},
)  # fmt: skip

OVER = "1.5 min behind, known to 20 ms, over its limit of 2 s"


class Source:
    """Says what it is given; None is silence."""

    def __init__(self, report: SourceReport | None) -> None:
        self.report = report

    async def ask(self) -> SourceReport:
        if self.report is None:
            raise SourceSilent("chronyd does not answer at 127.0.0.1:323: Connection refused")
        return self.report


async def _status(report: SourceReport | None) -> ClockStatus:
    return await ask_clock([Source(report)], ManualClock(), Require.BOUNDED)


async def test_a_good_clock_needs_nothing() -> None:
    status = await _status(GOOD)

    assert (status.source, status.reference, status.measured_age_ns) == ("chrony", "192.0.2.7", 12 * S)
    assert (status.unmet, status.reason, status.remedy) == ("", "", "")
    assert status.state_age_ns is None


@pytest.mark.parametrize(("reference", "text"), [
    (b"GPS\0", "GPS"), (b"PPS2", "PPS2"), (bytes(4), ""), (bytes([10, 0, 0, 1]), "10.0.0.1"),
])  # fmt: skip
async def test_a_reference_is_shown_as_chronyd_shows_it(reference: bytes, text: str) -> None:
    assert (await _status(replace(GOOD, reference=reference))).reference == text


async def test_a_grandmaster_is_shown_as_ptp4l_shows_it() -> None:
    report = replace(GOOD, source=TimeSource.PTP4L, reference=bytes.fromhex("001122fffe334455"))

    assert (await _status(report)).reference == "001122.fffe.334455"


@pytest.mark.parametrize("report", [
    None,
    replace(GOOD, state=TimeState.FREE_RUNNING, bound_ns=None, detail={"reason": "no server"}),
    replace(GOOD, state=TimeState.DISRUPTED, bound_ns=None, may_hold=False, detail={"reason": "it jumped"}),
    replace(GOOD, state=TimeState.HOLDOVER, detail={"reason": "it jumped"}),
    replace(GOOD, source=TimeSource.KERNEL, bound_ns=None),
])  # fmt: skip
async def test_every_other_clock_says_why_and_what_helps(report: SourceReport | None) -> None:
    status = await _status(report)

    assert status.remedy
    assert status.reason or status.state == "SYNCHRONIZED"
    assert bool(status.unmet) == (status.bound_ns is None)


async def test_a_source_that_never_measured_has_no_age() -> None:
    assert (await _status(replace(GOOD, detail={}))).measured_age_ns is None


async def test_a_state_has_an_age_from_its_change_on() -> None:
    clock, source = ManualClock(), Source(GOOD)
    keeper = Timekeeper(clock, [source], b"", on_step=lambda _: None, on_event=lambda *_: None)
    await keeper.poll()
    clock.advance_ns(60 * S)
    await keeper.poll()
    assert clock_status(keeper, clock.boot_ns(), Require.ANY).state_age_ns == 60 * S
    source.report = None
    clock.advance_ns(S)
    await keeper.poll()
    clock.advance_ns(5 * S)

    status = clock_status(keeper, clock.boot_ns(), Require.ANY)

    assert (status.state, status.state_age_ns) == ("HOLDOVER", 5 * S)
    assert "chronyd does not answer" in status.reason


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("report", [GOOD, None])
async def test_the_screen_fits_a_terminal_and_says_all(report: SourceReport | None, width: int) -> None:
    status = await _status(report)
    answer = ClockAnswer(name="line-4", asked="sources", silence="no answer", require="bounded", clock=status,
                         remedy=status.remedy)  # fmt: skip

    screen = lines(answer, width)

    assert all(cell_len(line.plain) <= width for line in screen)
    said = " ".join(" ".join(line.plain.split()) for line in screen)
    for words in (status.words, status.reason, status.remedy, "asked its sources directly: no answer"):
        assert " ".join(words.split()) in said.replace(" > ", " ")


async def test_the_clocks_of_devices_are_shown_the_furthest_off_first() -> None:
    status = await _status(GOOD)
    devices = tuple(
        DeviceStatus(name=f"plc-{number}", driver="opcua", state="up", clock_off_ns=off_ns, clock_unsure_ns=S // 50,
                     clock_limit_ns=2 * S)
        for number, off_ns in enumerate((S, -90 * S, None, S // 10, 0, S // 5, S // 2))
    )  # fmt: skip
    answer = ClockAnswer(name="line-4", asked="gateway", silence="", require="bounded", clock=status, remedy="",
                         devices=device_clocks(devices))  # fmt: skip

    said = [line.plain for line in lines(answer, 80)]

    first = next(number for number, line in enumerate(said) if line.startswith("devices"))
    assert said[first : first + 6] == [
        f"devices  plc-1 {OVER}",
        "         plc-0 1 s ahead, known to 20 ms",
        "         plc-6 500 ms ahead, known to 20 ms",
        "         plc-5 200 ms ahead, known to 20 ms",
        "         plc-3 100 ms ahead, known to 20 ms",
        "         and 1 device less than that",
    ]
    assert all(cell_len(line.plain) <= 40 for line in lines(answer, 40))


def test_a_device_whose_clock_is_over_its_limit_is_noticed_and_no_other_is() -> None:
    def sentences(off_ns: int | None, limit_ns: int | None) -> list[str]:
        device = DeviceStatus(name="plc", driver="opcua", state="up", clock_off_ns=off_ns, clock_unsure_ns=S // 50,
                              clock_limit_ns=limit_ns)  # fmt: skip
        snapshot = StatusSnapshot(gateway=GatewayStatus(name="line-4"), devices=(device,))
        return [each.sentence for each in problems_of(snapshot) if each.subject == "plc"]

    assert sentences(-90 * S, 2 * S) == [
        f"plc: its clock is {OVER}; set it, or give it the time server of this machine (TG-D14)",
    ]
    assert sentences(2 * S + S // 100, 2 * S) == []
    assert sentences(90 * S, None) == []
    assert sentences(None, 2 * S) == []
