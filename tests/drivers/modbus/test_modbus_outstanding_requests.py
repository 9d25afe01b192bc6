"""What may be asked while an answer is overdue, and what each frame tells about the outstanding before it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.address import Table, parse_range
from drivers.modbus.codec import Request, identification_request, read_request
from drivers.modbus.late_answers import OutstandingRequests, probes_for, shape_of
from drivers.modbus.settings import ModbusLimits

UNIT = 7
ONE = read_request(UNIT, 3, 100, 1)
TEN = read_request(UNIT, 3, 200, 10)
IDENTIFY = identification_request(UNIT, 1, 0)
REFUSAL_OF_IDENTIFY = bytes((UNIT, 43 | 0x80, 1))


def answer_to(request: Request) -> bytes:
    size = request.end - request.offset
    return bytes((request.unit, request.function, size)) + bytes(size)


@pytest.fixture
def outstanding() -> OutstandingRequests:
    """Those of a unit that is known to answer function 43, by a refusal."""
    outstanding = OutstandingRequests({UNIT: ModbusLimits()})
    outstanding.add(IDENTIFY, 0.0, 1.0)
    outstanding.take_answer(REFUSAL_OF_IDENTIFY)
    outstanding.add_probe(IDENTIFY)
    return outstanding


def test_an_unknown_unit_is_probed_first() -> None:
    """Its probes are known before they are needed, and answers to an earlier process are recognised."""
    outstanding = OutstandingRequests({UNIT: ModbusLimits()})
    part = outstanding.next_request(TEN, 0.0)
    outstanding.add(part, 0.0, 1.0)
    outstanding.take_answer(answer_to(part))
    outstanding.add_probe(part)

    assert (part.first, part.count) == (200, 2)
    assert outstanding.next_request(TEN, 0.0) is TEN


def test_waiting_for_silence_takes_the_time_that_long_answers_take_on_a_slow_line() -> None:
    """And never ends earlier than after the timeout."""
    outstanding = OutstandingRequests({UNIT: ModbusLimits()})
    outstanding.add(TEN, 0.0, 9.0)
    outstanding.suspend(UNIT, 18.0)
    outstanding.wait_for_silence(8.0)
    soon = outstanding.ready_at_s(UNIT)
    outstanding.wait_for_silence(10.0, UNIT)

    assert (soon, outstanding.ready_at_s(UNIT)) == (18.0, 19.0)


def test_an_outstanding_shape_is_not_sent_again_before_a_probe_is_answered(outstanding: OutstandingRequests) -> None:
    outstanding.add(ONE, 0.0, 1.0)
    probe = outstanding.next_request(ONE, 2.0)
    outstanding.add(probe, 2.0, 1.0)
    outstanding.take_answer(REFUSAL_OF_IDENTIFY)

    assert probe is IDENTIFY
    assert outstanding.next_request(ONE, 2.0) is ONE


def test_another_shape_may_be_sent(outstanding: OutstandingRequests) -> None:
    outstanding.add(ONE, 0.0, 1.0)

    assert outstanding.next_request(TEN, 2.0) is TEN


def test_an_answer_proves_nothing_about_later_requests(outstanding: OutstandingRequests) -> None:
    outstanding.add(TEN, 0.0, 1.0)
    outstanding.add(ONE, 2.0, 1.0)

    assert outstanding.take_answer(answer_to(TEN))
    assert not outstanding.is_outstanding(UNIT, shape_of(TEN))
    assert outstanding.is_outstanding(UNIT, shape_of(ONE))


def test_one_answer_to_two_requests_leaves_one_outstanding(outstanding: OutstandingRequests) -> None:
    for at_s in (0.0, 2.0):
        outstanding.add(ONE, at_s, 1.0)

    assert not outstanding.take_answer(answer_to(ONE))
    assert outstanding.is_outstanding(UNIT, shape_of(ONE))


def test_a_refusal_may_belong_to_any_request_of_its_function(outstanding: OutstandingRequests) -> None:
    outstanding.add(ONE, 0.0, 1.0)
    outstanding.add(TEN, 2.0, 1.0)

    assert outstanding.take_answer(bytes((UNIT, 0x83, 2)))
    assert not outstanding.is_outstanding(UNIT, shape_of(ONE))
    assert outstanding.is_outstanding(UNIT, shape_of(TEN))


def test_an_unsolicited_answer_may_come_again(outstanding: OutstandingRequests) -> None:
    outstanding.mark_suspect(UNIT, shape_of(ONE), 0.0)

    assert not outstanding.take_answer(answer_to(ONE))
    assert outstanding.next_request(ONE, 2.0) is IDENTIFY


def test_a_late_answer_ends_the_suspension_of_its_unit(outstanding: OutstandingRequests) -> None:
    outstanding.add(ONE, 0.0, 1.0)
    outstanding.suspend(UNIT, 2.0)
    before = outstanding.ready_at_s(UNIT)
    outstanding.take_answer(answer_to(ONE))

    assert (before, outstanding.ready_at_s(UNIT), outstanding.ready_at_s(8)) == (2.0, 0.0, 0.0)


def test_nothing_is_outstanding_for_more_than_a_minute(outstanding: OutstandingRequests) -> None:
    outstanding.add(ONE, 0.0, 1.0)

    assert outstanding.next_request(ONE, 60.9) is IDENTIFY
    assert outstanding.next_request(ONE, 61.1) is ONE


def test_a_unit_that_answers_no_probe_gets_the_wanted_request_when_all_were_tried() -> None:
    outstanding = OutstandingRequests({UNIT: ModbusLimits(hole=2)})
    sent = []
    for _ in range(5):
        sent.append(outstanding.next_request(ONE, 0.0))
        outstanding.add(sent[-1], 0.0, 1.0)

    assert [request.count for request in sent] == [2, 1, 3, 1, 1]


@given(
    table=st.sampled_from(Table),
    first=st.integers(0, 65535),
    count=st.integers(1, 125),
    hole=st.integers(0, 124),
    most=st.integers(1, 125),
    forbidden=st.lists(st.integers(0, 65535), max_size=3),
)
def test_a_probe_reads_nothing_that_must_not_be_read(
    table: Table, first: int, count: int, hole: int, most: int, forbidden: list[int]
) -> None:
    step = 16 if table.is_bits else 1
    count = min(count, most, 65536 - first)
    ranges = [f"{table.label} {address}" for address in forbidden if not first <= address < first + count]
    limits = ModbusLimits(hole=hole, registers=most, bits=most, forbidden=ranges)
    wanted = read_request(UNIT, table.function, first, count)

    for other in probes_for(wanted, limits):
        last = other.first + other.count - 1
        assert other.function == wanted.function
        assert shape_of(other) != shape_of(wanted) or table.is_bits
        assert 1 <= other.count <= most or other.count < count
        assert other.count <= count + hole * step
        assert other.first >= 0
        assert last <= 65535
        assert not any(parse_range(text).touches(table, other.first, last) for text in ranges)
        assert (other.first, last) >= (first, first) or last == first + count - 1
