"""What chronyd may answer, and what somebody else may answer in its place."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import ChronySource, ClockStep, SourceSilent, SystemClock, Timekeeper, TimeState
from edge.clock.chrony import READING_NS, Tracking, judge, parse, request
from edge.testing.clock import ManualClock

MS = 10**6
S = 10**9
UTC_NS = 1_767_225_600 * S


def chrony_float(seconds: float) -> int:
    """Seconds in chronyd's own float."""
    exponent = 0
    while abs(seconds) >= 0.5 and exponent < 63:
        seconds, exponent = seconds / 2, exponent + 1
    while abs(seconds) < 0.25 and exponent > -64 and seconds:
        seconds, exponent = seconds * 2, exponent - 1
    return (exponent & 0x7F) << 25 | round(seconds * 2**25) & 0x1FFFFFF


def answer(
    sequence: int,
    *,
    version: int = 6,
    reply: int = 5,
    status: int = 0,
    leap: int = 0,
    updated_ns: int = UTC_NS,
    correction_s: float = 0.25,
    delay_s: float = 0.5,
    dispersion_s: float = 0.125,
    interval_s: float = 4.0,
    last_offset_s: float = 0.0,
    reference: bytes = b"\x0a\x00\x00\x01",
    family: int = 1,
) -> bytes:
    header = struct.pack("!BBBBHHHHHHIII", version, 2, 0, 0, 33, reply, status, 0, 0, 0, sequence, 0, 0)
    values = (correction_s, last_offset_s, 0.0, 0.0, 0.0, 0.0, delay_s, dispersion_s, interval_s)
    body = struct.pack("!4s16sHHHHIII", reference, bytes(16), family, 0, 2, leap, 0, updated_ns // S, updated_ns % S)
    return header + body + struct.pack("!9I", *map(chrony_float, values))


def tracking(**changes: object) -> Tracking:
    known = {
        "reference": b"\x0a\x00\x00\x01", "stratum": 2, "leap": 0, "updated_utc_ns": UTC_NS, "correction_ns": -MS,
        "moved_ns": 0, "root_delay_ns": 4 * MS, "root_dispersion_ns": 3 * MS, "interval_ns": 4 * S,
    }  # fmt: skip
    return Tracking(**{**known, **changes})  # type: ignore[arg-type]


def test_an_answer_is_read_to_the_nanosecond() -> None:
    read = parse(answer(7, correction_s=-0.25), 7)

    assert read == tracking(correction_ns=-250 * MS, root_delay_ns=500 * MS, root_dispersion_ns=125 * MS)


def test_the_request_is_no_shorter_than_its_answer() -> None:
    assert len(request(1)) >= len(answer(1))


@pytest.mark.parametrize(
    "stray", [b"", b"\x06", answer(8), answer(7, version=5)], ids=["empty", "short", "other", "old"]
)
def test_an_answer_to_another_question_is_passed_over(stray: bytes) -> None:
    assert parse(stray, 7) is None


@pytest.mark.parametrize(
    "bad",
    [
        answer(7, status=2),
        answer(7, reply=1),
        answer(7) + b"\x00",
        answer(7)[:-1],
        answer(7, leap=9),
        answer(7, delay_s=-1.0),
        answer(7, dispersion_s=-1.0),
        answer(7, interval_s=-1.0),
    ],
    ids=["refused", "other reply", "long", "short", "leap", "delay", "dispersion", "interval"],
)
def test_an_answer_that_cannot_be_is_no_answer(bad: bytes) -> None:
    with pytest.raises(SourceSilent):
        parse(bad, 7)


@given(data=st.binary(max_size=120), flips=st.lists(st.tuples(st.integers(0, 103), st.integers(1, 255)), max_size=8))
def test_no_datagram_breaks_the_reader(data: bytes, flips: list[tuple[int, int]]) -> None:
    flipped = bytearray(answer(7))
    for place, change in flips:
        flipped[place] ^= change
    for datagram in (data, bytes(flipped)):
        try:
            read = parse(datagram, 7)
        except SourceSilent:
            continue
        if read is not None:
            report = judge(read, read.interval_ns, UTC_NS)
            assert report.bound_ns is None or 0 <= report.bound_ns <= 10**18


def test_the_bound_is_half_the_delay_the_dispersion_and_what_is_left_to_correct() -> None:
    report = judge(tracking(), 4 * S, UTC_NS + S)

    assert (report.state, report.bound_ns) == (TimeState.SYNCHRONIZED, 2 * MS + 3 * MS + 1 * MS + READING_NS)


@pytest.mark.parametrize(
    ("reference", "family", "bounded"),
    [(b"PHC0", 0, False), (b"PTP1", 0, False), (b"PPS0", 0, True), (b"GPS", 0, True), (b"PHC0", 1, True)],
)
def test_what_chronyd_claims_of_a_hardware_clock_is_no_bound(reference: bytes, family: int, bounded: bool) -> None:
    """It is how far the system clock is off that of the card; the last is a server at 80.72.67.48."""
    read = parse(answer(7, reference=reference.ljust(4, b"\0"), family=family), 7)
    assert read is not None

    report = judge(read, 4 * S, UTC_NS + S)

    assert (report.state, report.bound_ns is not None) == (TimeState.SYNCHRONIZED, bounded)


@pytest.mark.parametrize(("age_s", "state"), [(32, TimeState.SYNCHRONIZED), (33, TimeState.HOLDOVER)])
def test_a_reference_is_gone_after_eight_update_intervals_whatever_chronyd_says(age_s: int, state: TimeState) -> None:
    report = judge(tracking(correction_ns=0), 4 * S, UTC_NS + age_s * S)

    assert report.state is state


def test_the_bound_of_a_reference_that_is_gone_grows_from_its_last_update() -> None:
    report = judge(tracking(correction_ns=0), 4 * S, UTC_NS + 1_000 * S)

    assert report.bound_ns == 5 * MS + 50 * MS + READING_NS


@pytest.mark.requirement("REQ-TIME-02")
@pytest.mark.parametrize("changes", [{"leap": 3}, {"updated_utc_ns": 0}])
def test_an_unsynchronized_chronyd_gives_no_bound(changes: dict[str, int]) -> None:
    """Its delay and dispersion of one second are placeholders."""
    report = judge(tracking(root_delay_ns=S, root_dispersion_ns=S, **changes), 4 * S, UTC_NS)

    assert (report.state, report.bound_ns) == (TimeState.FREE_RUNNING, None)


def test_the_age_of_a_reference_that_never_was_is_not_known() -> None:
    """It is not the age of 1970."""
    report = judge(tracking(updated_utc_ns=0, leap=3), 4 * S, UTC_NS)

    assert "age_ns" not in report.detail


@pytest.mark.requirement("REQ-TIME-02")
def test_a_chronyd_that_serves_its_own_clock_bounds_nothing() -> None:
    """With `local` it says synchronized, stratum 10, and a bound of nearly nothing."""
    report = judge(tracking(reference=b"\x7f\x7f\x01\x01", root_delay_ns=0, root_dispersion_ns=0), 4 * S, UTC_NS)

    assert (report.state, report.bound_ns) == (TimeState.FREE_RUNNING, None)
    assert "own clock" in str(report.detail["reason"])


def test_a_reference_from_the_future_is_not_believed() -> None:
    report = judge(tracking(), 4 * S, UTC_NS - 3600 * S)

    assert (report.state, report.bound_ns) == (TimeState.DISRUPTED, None)


def test_age_is_judged_on_the_clock_that_chronyd_steers_to() -> None:
    """While it slews a clock that is an hour slow, its own times are an hour ahead of ours."""
    report = judge(tracking(correction_ns=3600 * S), 4 * S, UTC_NS - 3600 * S)

    assert report.state is TimeState.SYNCHRONIZED
    assert report.bound_ns == 5 * MS + 3600 * S + READING_NS


@asynccontextmanager
async def _answering(answers: Callable[[int], list[bytes]]) -> AsyncIterator[str]:
    """A server on loopback that answers each request with these datagrams."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    server.bind(("127.0.0.1", 0))
    loop = asyncio.get_running_loop()

    def serve() -> None:
        asked, peer = server.recvfrom(512)
        for datagram in answers(int.from_bytes(asked[8:12], "big")):
            server.sendto(datagram, peer)

    loop.add_reader(server, serve)
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}"
    finally:
        loop.remove_reader(server)
        server.close()


async def test_the_answer_is_found_among_strays() -> None:
    def strays(sequence: int) -> list[bytes]:
        return [b"", answer(sequence ^ 1), answer(sequence)]

    async with _answering(strays) as address:
        report = await ChronySource(ManualClock(utc_ns=UTC_NS), address).ask()

    assert report.reference == b"\x0a\x00\x00\x01"


async def test_a_flood_of_strays_is_given_up() -> None:
    async with _answering(lambda sequence: [answer(sequence ^ 1)] * 50) as address:
        with pytest.raises(SourceSilent, match="answered something else"):
            await ChronySource(SystemClock(), address).ask()


async def test_a_silent_chronyd_is_given_up_after_a_second() -> None:
    async with _answering(lambda _: []) as address:
        with pytest.raises(SourceSilent, match="no answer"):
            await ChronySource(SystemClock(), address).ask()


async def test_no_chronyd_at_all_is_said_at_once() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"

    with pytest.raises(SourceSilent, match=r"chronyd does not answer at 127\.0\.0\.1.*refused"):
        await ChronySource(SystemClock(), address).ask()


async def test_no_socket_where_chronyd_should_be_is_said(tmp_path) -> None:
    with pytest.raises(SourceSilent, match="No such file"):
        await ChronySource(SystemClock(), str(tmp_path / "chronyd.sock")).ask()

    assert list(tmp_path.iterdir()) == []


async def test_one_short_interval_does_not_make_a_steady_reference_look_gone() -> None:
    """When chronyd changes its server, two updates may be close together; the next comes at the usual pace."""
    clock = ManualClock(utc_ns=UTC_NS)
    said = {"updated_ns": UTC_NS, "interval_s": 64.0}

    async with _answering(lambda sequence: [answer(sequence, correction_s=0.0, **said)]) as address:
        source = ChronySource(clock, address)
        await source.ask()
        clock.advance_ns(2 * S)
        said = {"updated_ns": UTC_NS + 2 * S, "interval_s": 2.0}
        await source.ask()
        clock.advance_ns(64 * S)

        assert (await source.ask()).state is TimeState.SYNCHRONIZED


async def test_a_step_of_the_clock_is_not_held_against_chronyd() -> None:
    """Chronyd measures it as a move of its server, unless it was chronyd that set the clock."""
    clock = ManualClock(utc_ns=UTC_NS)
    said: dict[str, float] = {"updated_ns": UTC_NS, "correction_s": 0.0, "delay_s": 0.0002, "dispersion_s": 0.0001}

    async with _answering(lambda sequence: [answer(sequence, **said)]) as address:  # type: ignore[arg-type]
        source = ChronySource(clock, address)
        await source.ask()
        clock.advance_ns(4 * S)
        clock.step_ns(-3600 * S)
        said |= {"updated_ns": UTC_NS + 4 * S, "correction_s": 3600.0, "last_offset_s": -3600.0}
        by_hand = await source.ask()
        clock.advance_ns(4 * S)
        clock.step_ns(3600 * S)
        said |= {"updated_ns": UTC_NS + 8 * S, "correction_s": 0.0, "last_offset_s": 0.0}
        by_chronyd = await source.ask()

    assert [by_hand.state, by_chronyd.state] == [TimeState.SYNCHRONIZED] * 2


async def test_what_was_measured_between_the_last_question_and_a_step_does_not_count_as_measured_after_it() -> None:
    clock = ManualClock(utc_ns=UTC_NS)
    said: dict[str, float] = {"updated_ns": UTC_NS, "correction_s": 0.0}
    steps: list[ClockStep] = []

    async with _answering(lambda sequence: [answer(sequence, **said)]) as address:  # type: ignore[arg-type]
        keeper = Timekeeper(clock, [ChronySource(clock, address)], b"", on_step=steps.append, on_event=lambda *_: None)
        await keeper.poll()
        clock.advance_ns(S)
        said |= {"updated_ns": UTC_NS + S}
        clock.step_ns(2 * S)
        for _ in range(2):
            await keeper.poll()
            disrupted = keeper.quality
        clock.advance_ns(S)
        said |= {"updated_ns": UTC_NS + 2 * S, "correction_s": -2.0, "last_offset_s": 2.0}
        await keeper.poll()

    assert [step.step_ns for step in steps if step.step_ns] == [2 * S]
    assert (disrupted.state, disrupted.bound_ns) == (TimeState.DISRUPTED, None)
    assert keeper.quality.state is TimeState.SYNCHRONIZED
    assert (keeper.quality.bound_ns or 0) >= 2 * S


async def test_a_server_whose_time_jumps_is_noticed_although_chronyd_does_not_say_so() -> None:
    clock = ManualClock(utc_ns=UTC_NS)
    said: dict[str, float] = {"updated_ns": UTC_NS, "correction_s": 0.0, "delay_s": 0.0002, "dispersion_s": 0.0001}

    async with _answering(lambda sequence: [answer(sequence, **said)]) as address:  # type: ignore[arg-type]
        source = ChronySource(clock, address)
        await source.ask()
        clock.advance_ns(4 * S)
        said |= {"updated_ns": UTC_NS + 4 * S, "correction_s": 0.5, "last_offset_s": -0.5}
        report = await source.ask()

    assert (report.state, report.bound_ns) == (TimeState.DISRUPTED, None)
    assert report.detail["jump_ns"] == 500 * MS
