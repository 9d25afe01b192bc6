"""A clock that is wrong or set is a fact to be put on record, never a reason to stop reading."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.cli import cli
from edge.clock import TimeState
from edge.model import StatusCode
from edge.seal import Data, Gap, TimeChange
from hil.wall_clock import WallClock
from tests.faults.gateway.site_under_test import NAME, Site, Told
from tests.support.chrony import asking, chronyd, free_udp_port, serving

HOUR_S = 3600
AT_2040 = 2_208_988_800
MIDNIGHT_S = 1_798_761_600
"""The end of 2026-12-31."""
STEPS_S = (0.002, -0.002, 0.05, -0.05, 1, -1, 60, -60, 3600, -3600)
NS = 10**9


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


def test_with_a_clock_at_1970_it_reads_and_says_what_the_times_are_worth(site: Site, clock: WallClock) -> None:
    site.add_counter("mixer")
    site.settings["clock"]["require"] = "bounded"
    clock.shift(60 - int(time.time()))
    site.mosquitto()
    site.relay()

    gateway = site.gateway(environment=clock.environment)
    site.wait_for_scans()
    status = site.wait_for_status(lambda status: status.clock.utc_ns, "a status")
    told = site.stop_and_archive(gateway)

    assert status.clock.state == "UNKNOWN"
    assert status.clock.bound_ns is None
    assert {data.time.state for data in told.all(Data)} == {TimeState.UNKNOWN}
    assert all(0 < data.utc_ns < HOUR_S * NS for data in told.all(Data))
    assert told.codes("mixer") == {StatusCode.UNCERTAIN}
    assert len({int(block.vectors[0][0]) for block in told.blocks("mixer")}) >= 20
    site.verify(site.archive)


@pytest.mark.requirement("REQ-TIME-04")
def test_a_gateway_that_started_in_1970_says_later_what_time_it_was(
    site: Site, clock: WallClock, tmp_path: Path
) -> None:
    """Without a battery: it reads at once, and once chronyd has set the clock its first times are corrected."""
    site.add_counter("mixer")
    site.mosquitto()
    site.relay()
    clock.shift(60 - int(time.time()))
    port = free_udp_port()
    with chronyd(tmp_path / "server", *serving(port)), chronyd(tmp_path / "client", *asking(port)) as client:
        site.settings["clock"] = {"require": "any", "chrony": client.udp}
        gateway = site.gateway(environment=clock.environment)
        site.wait_for_scans()
        assert site.wait_for_status(lambda status: status.clock.utc_ns, "a status").clock.state == "UNKNOWN"
        clock.shift(0)
        status = site.wait_for_status(lambda status: status.clock.bound_ns is not None, "the clock to be trusted")
        site.wait_for_scans()
        told = site.stop_and_archive(gateway)

    assert (status.clock.source, status.clock.reference, status.clock.steps) == ("chrony", "127.0.0.1", 1)
    [step] = [change for change in told.all(TimeChange) if change.step_ns]
    [first, second] = [change for change in told.all(TimeChange) if change.correction_ns is not None]
    assert first.correction_ns is not None
    assert second.correction_ns is not None
    assert abs(first.correction_ns - step.step_ns) < NS
    assert abs(second.correction_ns) < NS
    site.verify(site.archive)
    trust, zone = ["--trust", str(site.trust)], ["--zone", "UTC"]
    verified = CliRunner().invoke(cli, ["verify", str(site.archive), *trust]).stdout
    [line] = [line for line in verified.splitlines() if line.startswith("  CLOCK")]
    assert "times from 1970-01-01T00:0" in line
    assert f"corrected, they are {time.gmtime().tm_year}" in line
    of_1970 = ["--from", "1970-01-01T00:00", "--to", "1970-01-02T00:00"]
    reported = CliRunner().invoke(cli, ["report", str(site.archive), *trust, *zone, *of_1970]).stdout
    assert "corrected, they are" in " ".join(reported.split())


def test_times_beyond_2038_are_sealed_archived_verified_and_reported(site: Site, clock: WallClock) -> None:
    """2^31 s after 1970 is 2038-01-19: nothing here counts seconds in 32 bits."""
    site.add_counter("mixer")
    clock.shift(AT_2040 - int(time.time()))
    site.mosquitto()
    site.relay()
    gateway = site.gateway(environment=clock.environment)
    site.wait_for_scans()
    told = site.stop_and_archive(gateway)

    assert all(AT_2040 * NS < data.utc_ns < (AT_2040 + HOUR_S) * NS for data in told.all(Data))
    assert told.values("mixer") == sorted(set(told.values("mixer")))
    [epoch] = site.verify(site.archive)["epochs"]
    assert AT_2040 * NS < epoch["first_ns"] < epoch["last_ns"]
    words = ["report", str(site.archive), "--trust", str(site.trust), "--zone", "UTC", "--json",
             "--from", "2040-01-01T00:00", "--to", "2040-01-02T00:00"]  # fmt: skip
    report = json.loads(CliRunner().invoke(cli, words).stdout)
    [of_gateway] = report["gateways"]
    assert of_gateway["quality"]["good"] >= len(told.values("mixer"))


@pytest.mark.requirement("REQ-TIME-03", "REQ-TRAIL-04")
def test_a_clock_that_is_set_is_on_record_with_both_sides(site: Site, clock: WallClock) -> None:
    site.add_counter("mixer")
    site.mosquitto()
    site.relay()
    gateway = site.gateway(environment=clock.environment)
    site.wait_for_scans()

    clock.shift(-HOUR_S)
    site.wait_for_status(lambda status: status.clock.steps == 1, "the step to be noticed")
    site.wait_for_scans()
    clock.shift(HOUR_S)
    site.wait_for_status(lambda status: status.clock.steps == 2, "the second step to be noticed")
    site.wait_for_scans()
    told = site.stop_and_archive(gateway)

    steps = [change for change in told.all(TimeChange) if change.step_ns]
    assert [round(change.step_ns / NS / HOUR_S, 3) for change in steps] == [-1, 2]
    assert [change.after.state for change in steps] == [TimeState.DISRUPTED] * 2
    assert len(told.events("time.step")) + sum(event.data.get("count", 0) for event in told.events("time.step")) >= 2
    assert told.values("mixer") == sorted(set(told.values("mixer")))
    site.assert_times_are_true(told, "mixer")
    for data in told.all(Data):
        assert abs(data.utc_ns - data.boot_ns - data.time.offset_ns) < NS // 1000
    site.verify(site.archive)


def stamped(told: Told, name: str) -> list[tuple[int, int] | TimeChange]:
    """(boot time, UTC) of each reading of a device, and each step of the clock, in the order of the chain."""
    of_device = {number for number, group in enumerate(told.catalogue.groups) if group.device == name}
    found: list[tuple[int, int] | TimeChange] = []
    for content in (each.content for each in told.judgements):
        if isinstance(content, TimeChange) and content.step_ns:
            found.append(content)
        elif isinstance(content, Data):
            blocks = [block for block in content.blocks(told.catalogues[content.catalogue]) if block.group in of_device]
            found += [(block.sampled_at_ns, block.sampled_at_ns + content.time.offset_ns) for block in blocks]
    return found


def disordered(told: Told, name: str) -> list[object]:
    """Neighbours whose order in UTC contradicts that in boot time, without a TIME record between them."""
    return [
        (one, other)
        for one, other in pairwise(stamped(told, name))
        if isinstance(one, tuple) and isinstance(other, tuple) and not (one[0] < other[0] and one[1] < other[1])
    ]


@pytest.mark.requirement("REQ-TIME-03")
def test_steps_of_a_millisecond_to_an_hour_are_each_on_record_and_keep_the_order(site: Site, clock: WallClock) -> None:
    site.add_counter("mixer")
    site.mosquitto()
    site.relay()
    gateway = site.gateway(environment=clock.environment)
    site.wait_for_scans()
    ahead_s = 0.0
    for number, step_s in enumerate(STEPS_S, 1):
        ahead_s += step_s
        clock.shift(ahead_s)
        site.wait_for_status(lambda status, number=number: status.clock.steps == number, f"step {number}")
        site.wait_for_scans(5)
    told = site.stop_and_archive(gateway)

    steps = [change for change in told.all(TimeChange) if change.step_ns]
    assert [round(change.step_ns / NS, 3) for change in steps] == pytest.approx(STEPS_S, abs=0.0011)
    assert {change.after.state for change in steps} == {TimeState.DISRUPTED}
    assert disordered(told, "mixer") == []
    assert told.values("mixer") == sorted(set(told.values("mixer")))
    site.assert_times_are_true(told, "mixer")
    site.verify(site.archive)


@pytest.mark.requirement("REQ-TIME-05")
@pytest.mark.parametrize(("leap_s", "at_s"), [(-1, MIDNIGHT_S), (1, MIDNIGHT_S - 1)], ids=["insert", "delete"])
def test_over_a_leap_second_order_days_and_report_are_right(
    site: Site, clock: WallClock, leap_s: int, at_s: int
) -> None:
    """The kernel sets the clock by a second; the relay's clock goes through the same."""
    site.add_counter("mixer")
    clock.shift(at_s - 30 - time.time())
    site.mosquitto()
    site.relay(environment=clock.environment)
    gateway = site.gateway(environment=clock.environment)
    site.wait_for_scans()
    ahead_s = at_s - 1 - time.time()
    clock.shift(ahead_s)
    site.wait(lambda: time.time() + ahead_s >= at_s, "the leap second")
    clock.shift(ahead_s + leap_s)
    site.wait_for_status(lambda status: status.clock.steps == 2, "the leap second to be noticed")
    site.wait(lambda: time.time() + ahead_s + leap_s > MIDNIGHT_S, "the next day")
    site.wait_for_scans()
    told = site.stop_and_archive(gateway)

    chain = stamped(told, "mixer")
    [*_, leap] = [each for each in chain if isinstance(each, TimeChange)]
    place = chain.index(leap)
    before, after = (
        [each[1] / NS for each in part if isinstance(each, tuple)] for part in (chain[:place], chain[place:])
    )
    assert round(leap.step_ns / NS, 3) == pytest.approx(leap_s, abs=0.0011)
    assert (after[0] < before[-1]) == (leap_s < 0), "23:59:59 comes twice where one is inserted"
    assert disordered(told, "mixer") == []
    assert told.values("mixer") == sorted(set(told.values("mixer")))
    assert sorted(path.stem for path in (site.archive / NAME).glob("*.rec")) == ["2026-12-31", "2027-01-01"]
    for first, end, low_s in (
        ("2026-12-31", "2027-01-01", MIDNIGHT_S - 86_400),
        ("2027-01-01", "2027-01-02", MIDNIGHT_S),
    ):
        words = ["report", str(site.archive), "--trust", str(site.trust), "--zone", "UTC", "--json",
                 "--from", f"{first}T00:00", "--to", f"{end}T00:00"]  # fmt: skip
        [of_gateway] = json.loads(CliRunner().invoke(cli, words).stdout)["gateways"]
        of_day = [each for each in (*before, *after) if low_s <= each < low_s + 86_400]
        assert of_day
        assert of_gateway["quality"]["good"] == len(of_day)
    site.verify(site.archive)


def test_a_clock_that_fell_back_while_the_gateway_was_off_makes_no_gap_that_ends_before_it_begins(
    site: Site, clock: WallClock
) -> None:
    """An EVENT says how far behind, the GAP has no end, and the report of the verifier tells of both."""
    site.add_counter("mixer")
    first = site.gateway("acquire")
    site.wait_for_scans()
    first.kill()
    clock.shift(-14 * 24 * HOUR_S)

    second = site.gateway("acquire", clock.environment)
    site.wait_for_scans()
    assert second.stop() == 0

    told = site.told(site.buffered())
    [gap] = told.gaps(None, is_open=True)
    [event] = told.events("time.behind")
    assert "the clock is behind" in gap.detail
    assert not told.gaps(None)
    assert all(each.to_ns is None or each.to_ns > each.from_ns for each in told.all(Gap))
    assert event.data["last_ns"] == gap.from_ns
    assert 0 < 14 * 24 * HOUR_S - int(str(event.data["behind_ns"])) / NS < HOUR_S
    assert second.said("time.behind")[0]["level"] == "error"
    [epoch] = site.verify(site.buffer)["epochs"]
    [(_, behind_ns)] = epoch["set_back"]
    assert behind_ns == event.data["behind_ns"]
    assert [each["unexplained"] for each in epoch["coverage"]] == [0]
    text = CliRunner().invoke(cli, ["verify", str(site.buffer), "--trust", str(site.trust)]).stdout
    [line] = [line for line in text.splitlines() if line.startswith("  CLOCK")]
    assert "by a clock 14 d behind the records before" in line
    assert "all scan groups: 1 of unknown length" in text
