"""What ptp4l may answer, and what is made of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import PtpSource, SourceReport, SourceSilent, TimeSource, TimeState
from edge.clock.phc import PhcReading
from edge.clock.ptp import ACCURACY_NS, Get, parse, request
from edge.testing.clock import ManualClock
from tests.support.ptp_scripted import (
    GRANDMASTER,
    LISTENING,
    MASTER,
    OTHER,
    PTP_TIMESCALE,
    SLAVE,
    TRACEABLE,
    UTC_OFFSET_VALID,
    Says,
    answer,
    scripted,
)

S = 10**9
SENDER = b"tidegate"


def test_a_question_is_54_bytes_and_a_get_that_stays_on_this_machine() -> None:
    asked = request(Get.TIME_STATUS_NP, 7, SENDER, domain=4)

    assert asked.hex(" ", 2) == (
        "0d02 0036 0400 0000 0000 0000 0000 0000 0000 0000 7469 6465 6761 7465 0001 0007 047f"
        " ffff ffff ffff ffff ffff 0000 0000 0001 0002 c000"
    )


@pytest.mark.parametrize(
    ("code", "limit_ns"),
    [(0x17, 1), (0x1D, 1), (0x1E, 3), (0x20, 25), (0x21, 100), (0x22, 250), (0x23, 1_000), (0x24, 2_500),
     (0x25, 10_000), (0x29, 10**6), (0x2C, 25 * 10**6), (0x2F, 10**9), (0x30, 10 * 10**9)],
)  # fmt: skip
def test_an_accuracy_is_its_upper_limit(code: int, limit_ns: int) -> None:
    assert ACCURACY_NS[code] == limit_ns


@pytest.mark.parametrize("code", [0x00, 0x16, 0x31, 0x32, 0x7F, 0x80, 0xFD, 0xFE, 0xFF])
def test_an_accuracy_without_an_upper_limit_is_unknown(code: int) -> None:
    assert code not in ACCURACY_NS


@given(
    get=st.sampled_from(Get),
    data=st.binary(max_size=200),
    flips=st.lists(st.tuples(st.integers(0, 80), st.integers(1, 255)), max_size=6),
)
def test_no_datagram_breaks_the_reader(get: Get, data: bytes, flips: list[tuple[int, int]]) -> None:
    flipped = bytearray(answer(request(get, 7, SENDER)))
    for place, change in flips:
        flipped[place % len(flipped)] ^= change

    for datagram in (data, bytes(flipped), bytes(flipped[: len(data)])):
        try:
            read = parse(datagram, get, 7, SENDER)
        except SourceSilent:
            continue
        assert read is None or len(read) >= 4


class Asked:
    """A source that asks a scripted ptp4l, and the clock that both are on."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.clock, self.says, self.path = ManualClock(), Says(), path
        self.phc = PhcReading(0, 0, 0)
        self.source = PtpSource(self.clock, str(path), phc=self._read_phc, **settings)

    def _read_phc(self, interface: str) -> PhcReading:
        assert interface == self.says.interface
        if not self.phc.phc_ns:
            raise PermissionError(13, "Permission denied")
        return self.phc

    async def warm_up(self, **says: Any) -> SourceReport:
        """Ask so often that what was measured is no longer doubled."""
        for _ in range(7):
            await self.ask(**says)
        return await self.ask(**says)

    async def ask(self, after_s: float = 1, **says: Any) -> SourceReport:
        """Let time pass, in which a Sync came unless its time is given; and ask."""
        self.clock.advance_ns(round(after_s * S))
        for name, value in {"ingress_ns": self.clock.utc_ns(), **says}.items():
            setattr(self.says, name, value)
        async with scripted(self.path, self.says):
            return await self.source.ask()


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path / "ptp4l")


@pytest.fixture
def new_asked(tmp_path: Path) -> Callable[..., Asked]:
    return lambda **settings: Asked(tmp_path / "ptp4l", **settings)


async def test_the_bound_is_accuracy_offset_and_path(asked) -> None:
    report = await asked.warm_up(offset_ns=-700, path_delay_ns=2_000.5, accuracy=0x21)

    assert (report.source, report.state) == (TimeSource.PTP4L, TimeState.SYNCHRONIZED)
    assert report.bound_ns == 100 + 700 + 2_001
    assert (report.reference, report.stratum, report.accuracy, report.utc_tai_s) == (GRANDMASTER, 6, 0x21, 37)


async def test_what_was_measured_counts_twice_while_there_is_little_of_it(asked) -> None:
    """One small offset among large ones may be the first that is seen."""
    bounds = [(await asked.ask(offset_ns=700)).bound_ns for _ in range(9)]

    assert bounds == [100 + 2 * (700 + 2_000)] * 7 + [100 + 700 + 2_000] * 2


async def test_the_largest_offset_of_a_minute_counts(asked) -> None:
    await asked.warm_up(offset_ns=-9_000)
    within = [await asked.ask(offset_ns=0) for _ in range(60)]
    after = await asked.ask(offset_ns=0)

    assert {each.bound_ns for each in within} == {100 + 9_000 + 2_000}
    assert after.bound_ns == 100 + 2_000


async def test_the_bound_grows_with_the_age_of_the_last_sync(asked) -> None:
    fresh = await asked.ask()
    older = await asked.ask(2, ingress_ns=asked.clock.utc_ns())

    assert older.bound_ns == fresh.bound_ns + 2 * 50_000


async def test_a_configured_asymmetry_counts_in_place_of_the_path_delay(new_asked) -> None:
    report = await new_asked(asymmetry_ns=150).ask(offset_ns=0, path_delay_ns=5_000)

    assert report.bound_ns == 100 + 150


async def test_boundary_clocks_have_errors_that_only_the_operator_knows(asked, new_asked) -> None:
    unknown = await asked.ask(steps_removed=3)
    known = await new_asked(boundary_clock_ns=200).warm_up(steps_removed=3, offset_ns=0)

    assert (unknown.state, unknown.bound_ns, unknown.may_hold) == (TimeState.FREE_RUNNING, None, False)
    assert unknown.detail["reason"] == (
        "2 boundary clocks on the way: set clock.ptp_boundary_clock to what each may be off"
    )
    assert known.bound_ns == 100 + 2_000 + 2 * 200


@pytest.mark.parametrize(
    ("says", "state", "bounded"),
    [
        ({"clock_class": 6}, TimeState.SYNCHRONIZED, True),
        ({"clock_class": 7}, TimeState.HOLDOVER, True),
        ({"clock_class": 135}, TimeState.HOLDOVER, True),
        ({"clock_class": 52}, TimeState.FREE_RUNNING, False),
        ({"clock_class": 187}, TimeState.FREE_RUNNING, False),
        ({"clock_class": 13}, TimeState.FREE_RUNNING, False),
        ({"clock_class": 193}, TimeState.FREE_RUNNING, False),
        ({"clock_class": 248}, TimeState.FREE_RUNNING, False),
        ({"clock_class": 255}, TimeState.FREE_RUNNING, False),
        ({"clock_class": 0}, TimeState.FREE_RUNNING, False),
        ({"accuracy": 0xFE}, TimeState.FREE_RUNNING, False),
        ({"accuracy": 0x31}, TimeState.FREE_RUNNING, False),
        ({"flags": PTP_TIMESCALE | TRACEABLE}, TimeState.FREE_RUNNING, False),
        ({"flags": UTC_OFFSET_VALID | TRACEABLE}, TimeState.FREE_RUNNING, False),
        ({"flags": UTC_OFFSET_VALID | PTP_TIMESCALE}, TimeState.FREE_RUNNING, False),
    ],
    ids=str,
)
async def test_what_only_looks_like_a_bound_never_becomes_one(asked, says, state, bounded) -> None:
    """Of a grandmaster that was never within its specification, or does not say what its time is."""
    report = await asked.ask(**says)

    assert (report.state, report.bound_ns is not None) == (state, bounded)
    assert report.may_hold is bounded
    assert bool(report.detail.get("reason")) is (state is not TimeState.SYNCHRONIZED)


async def test_a_grandmaster_out_of_its_specification_drifts_from_what_it_was(asked) -> None:
    await asked.warm_up(offset_ns=0)
    await asked.ask(10, offset_ns=0, clock_class=52, accuracy=0xFE)
    drifting = await asked.ask(10, offset_ns=0)
    other = await asked.ask(1, grandmaster=OTHER)

    assert (drifting.state, drifting.bound_ns) == (TimeState.HOLDOVER, 100 + 2_000 + 20 * 50_000)
    assert (other.bound_ns, other.reference) == (None, OTHER)


@pytest.mark.parametrize("state", [1, 2, 3, 4, 5, 6, 7, 8, 10, 77])
async def test_a_port_that_is_not_a_slave_gives_no_bound(asked, state) -> None:
    """The rest stays as it was when the grandmaster died: gmPresent and the offset, too."""
    before = await asked.ask(states=[state])
    good = await asked.ask(states=[SLAVE])
    after = await asked.ask(states=[state])

    assert (before.state, before.bound_ns) == (TimeState.FREE_RUNNING, None)
    assert good.bound_ns is not None
    assert (after.state, after.bound_ns, after.may_hold) == (TimeState.HOLDOVER, None, True)


async def test_no_sync_for_eight_intervals_is_a_loss_although_the_port_is_still_a_slave(asked) -> None:
    await asked.ask(sync_log=1)
    last = asked.says.ingress_ns
    reports = [await asked.ask(ingress_ns=last) for _ in range(17)]

    assert [each.bound_ns is not None for each in reports] == [True] * 16 + [False]
    assert reports[-1].state is TimeState.HOLDOVER
    assert reports[-1].detail["reason"] == "the grandmaster has sent no Sync for 17 s"


async def test_the_port_that_follows_is_found(asked) -> None:
    report = await asked.ask(states=[MASTER, LISTENING, SLAVE])

    assert report.bound_ns is not None


async def test_a_grandmaster_that_changes_while_it_is_asked_gives_no_answer(asked) -> None:
    with pytest.raises(SourceSilent, match="changing"):
        await asked.ask(parent_grandmaster=OTHER)


async def test_with_hardware_stamps_the_system_clock_is_measured_against_that_of_the_card(asked) -> None:
    """The clock of the card is TAI: 37 s ahead of UTC."""
    asked.phc = PhcReading(asked.clock.utc_ns() + S + 37 * S - 4_000, asked.clock.utc_ns() + S, 600)
    report = await asked.ask(interface="enp1s0", offset_ns=0, path_delay_ns=0, ingress_ns=asked.phc.phc_ns)
    asked.phc = PhcReading(asked.clock.utc_ns() + S + 37 * S, asked.clock.utc_ns() + S, 600)
    later = await asked.ask(interface="enp1s0", offset_ns=0, ingress_ns=asked.phc.phc_ns)

    assert (report.bound_ns, report.correction_ns) == (100 + 4_000 + 300, -4_000)
    assert (later.bound_ns, later.correction_ns) == (report.bound_ns, 0)


async def test_a_clock_of_a_card_that_may_not_be_read_leaves_no_bound(asked) -> None:
    report = await asked.ask(interface="enp1s0")

    assert (report.bound_ns, report.state) == (None, TimeState.FREE_RUNNING)


async def test_a_hardware_clock_that_cannot_be_read_is_named(asked) -> None:
    await asked.ask(interface="enp1s0")
    report = await asked.ask(interface="enp1s0")

    assert report.detail["reason"] == "the clock of enp1s0 cannot be read: Permission denied"


async def test_a_sync_of_before_a_step_is_not_a_new_measurement(asked) -> None:
    """Syncs come many times a second: one between the last question and the step says nothing of the clock since."""
    first = await asked.ask()
    asked.clock.step_ns(5 * S)
    second = await asked.ask()
    third = await asked.ask()

    assert first.update == second.update != third.update


async def test_at_the_read_only_socket_the_configuration_says_which_clock_stamps(tmp_path) -> None:
    """Linuxptp 4 refuses PORT_PROPERTIES_NP there. A system clock in TAI would look like one that stamps in UTC."""

    def refusing(asked: bytes, says: Says) -> bytes:
        return answer(asked[:52] + b"\xc0\x0f" if asked[52:54] == b"\xc0\x04" else asked, says)

    path = str(tmp_path / "ptp4l")
    async with scripted(tmp_path / "ptp4l", Says(), refusing):
        with pytest.raises(SourceSilent, match=r"which clock stamps packets: set clock\.ptp_clock"):
            await PtpSource(ManualClock(), path).ask()
        by_system = await PtpSource(ManualClock(), path, stamped_by="system").ask()
        by_card = await PtpSource(ManualClock(), path, stamped_by="/dev/ptp77").ask()

    assert by_system.bound_ns is not None
    assert by_card.bound_ns is None


async def test_only_gets_are_sent_one_at_a_time_and_they_stay_on_this_machine(tmp_path) -> None:
    """With another action than GET, ptp4l's settings could change; with hops, questions would leave the machine."""
    source = PtpSource(ManualClock(), str(tmp_path / "ptp4l"), domain=3)
    async with scripted(tmp_path / "ptp4l", Says(states=[MASTER, SLAVE], domain=3)) as came:
        await source.ask()

    assert len(came) == 8
    for each in came:
        assert len(each) == 54
        assert (each[0], each[46] & 0x0F, each[44:46], each[48:52]) == (0x0D, 0, b"\x00\x00", b"\x00\x01\x00\x02")
        assert int.from_bytes(each[52:54], "big") in set(Get)


async def test_transport_specific_1_is_tried_when_ptp4l_does_not_answer(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("edge.clock.ptp._ANSWER_WITHIN_S", 0.05)
    source = PtpSource(ManualClock(), str(tmp_path / "ptp4l"))
    async with scripted(tmp_path / "ptp4l", Says(sdo=1)):
        with pytest.raises(SourceSilent, match="in domain 0: no answer"):
            await source.ask()
        monkeypatch.undo()
        report = await source.ask()

    assert report.source is TimeSource.PTP4L


@pytest.mark.parametrize(
    "bad",
    [
        lambda asked, says: answer(asked, says)[:-1],
        lambda asked, says: answer(asked, says)[:60],
        lambda asked, says: answer(asked, says)[:52] + b"\xc0\x03" + answer(asked, says)[54:],
        lambda asked, says: answer(asked[:52] + b"\xc0\x0f", says),
        lambda asked, says: asked,
        lambda asked, says: b"\x00",
    ],
    ids=["cut", "cut short", "another data set", "refused", "echo", "one byte"],
)
async def test_an_answer_that_cannot_be_is_no_answer(tmp_path, monkeypatch, bad) -> None:
    monkeypatch.setattr("edge.clock.ptp._ANSWER_WITHIN_S", 0.05)
    async with scripted(tmp_path / "ptp4l", Says(), bad):
        with pytest.raises(SourceSilent):
            await PtpSource(ManualClock(), str(tmp_path / "ptp4l")).ask()


async def test_no_socket_is_no_answer_and_nothing_is_left_behind(tmp_path) -> None:
    source = PtpSource(ManualClock(), str(tmp_path / "ptp4l"), own_name=str(tmp_path / "own.sock"))
    with pytest.raises(SourceSilent, match="No such file"):
        await source.ask()

    async with scripted(tmp_path / "ptp4l", Says()):
        assert (await source.ask()).source is TimeSource.PTP4L
    assert await asyncio.to_thread(lambda: list(tmp_path.iterdir())) == []


async def test_two_processes_ask_at_once_and_the_socket_of_one_that_was_killed_is_removed(tmp_path) -> None:
    """`tidegate doctor` beside a gateway: each has a socket of its own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as killed:
        killed.bind(str(tmp_path / "own.1.sock"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(tmp_path / "own.2.sock"))
        async with scripted(tmp_path / "ptp4l", Says()):
            await PtpSource(ManualClock(), str(tmp_path / "ptp4l"), own_name=str(tmp_path / "own.sock")).ask()
        left = await asyncio.to_thread(lambda: [each.name for each in tmp_path.iterdir()])

    assert left == ["own.2.sock"]


async def test_who_cannot_make_a_socket_there_is_answered_too(tmp_path) -> None:
    async with scripted(tmp_path / "ptp4l", Says()):
        source = PtpSource(ManualClock(), str(tmp_path / "ptp4l"), own_name="/proc/own.sock")
        assert (await source.ask()).source is TimeSource.PTP4L
