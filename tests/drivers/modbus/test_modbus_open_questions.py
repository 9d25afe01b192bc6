"""What may be asked while an answer is overdue, and what each frame tells about the questions before it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.address import Table, parse_range
from drivers.modbus.codec import Request, identification_request, read_request
from drivers.modbus.late_answers import OpenQuestions, resized, shape_of
from drivers.modbus.settings import ModbusLimits

UNIT = 7
ONE = read_request(UNIT, 3, 100, 1)
TEN = read_request(UNIT, 3, 200, 10)
WHAT = identification_request(UNIT, 1, 0)
REFUSAL_OF_WHAT = bytes((UNIT, 43 | 0x80, 1))


def answer_to(request: Request) -> bytes:
    size = request.end - request.offset
    return bytes((request.unit, request.function, size)) + bytes(size)


@pytest.fixture
def questions() -> OpenQuestions:
    """Of a unit that is known to answer function 43, if only by a refusal."""
    questions = OpenQuestions({UNIT: ModbusLimits()})
    questions.ask(WHAT, 0.0, 1.0)
    questions.hear(REFUSAL_OF_WHAT)
    questions.tell(WHAT)
    return questions


def test_a_unit_that_is_not_known_is_first_asked_for_less() -> None:
    """Which of its questions tell is found out before it matters; and what an earlier process asked is told from it."""
    questions = OpenQuestions({UNIT: ModbusLimits()})
    part = questions.next(TEN, 0.0)
    questions.ask(part, 0.0, 1.0)
    questions.hear(answer_to(part))
    questions.tell(part)

    assert (part.first, part.count) == (200, 2)
    assert questions.next(TEN, 0.0) is TEN


def test_what_is_open_is_not_asked_again_before_something_tells(questions: OpenQuestions) -> None:
    questions.ask(ONE, 0.0, 1.0)
    telling = questions.next(ONE, 2.0)
    questions.ask(telling, 2.0, 1.0)
    questions.hear(REFUSAL_OF_WHAT)

    assert telling is WHAT
    assert questions.next(ONE, 2.0) is ONE


def test_what_has_another_shape_may_be_asked(questions: OpenQuestions) -> None:
    questions.ask(ONE, 0.0, 1.0)

    assert questions.next(TEN, 2.0) is TEN


def test_an_answer_says_nothing_of_what_was_asked_later(questions: OpenQuestions) -> None:
    questions.ask(TEN, 0.0, 1.0)
    questions.ask(ONE, 2.0, 1.0)

    assert questions.hear(answer_to(TEN))
    assert not questions.is_open(UNIT, shape_of(TEN))
    assert questions.is_open(UNIT, shape_of(ONE))


def test_one_answer_to_two_questions_leaves_one_open(questions: OpenQuestions) -> None:
    for at_s in (0.0, 2.0):
        questions.ask(ONE, at_s, 1.0)

    assert not questions.hear(answer_to(ONE))
    assert questions.is_open(UNIT, shape_of(ONE))


def test_a_refusal_may_be_that_of_any_question_of_its_function(questions: OpenQuestions) -> None:
    questions.ask(ONE, 0.0, 1.0)
    questions.ask(TEN, 2.0, 1.0)

    assert questions.hear(bytes((UNIT, 0x83, 2)))
    assert not questions.is_open(UNIT, shape_of(ONE))
    assert questions.is_open(UNIT, shape_of(TEN))


def test_what_was_said_without_being_asked_for_may_be_said_again(questions: OpenQuestions) -> None:
    questions.distrust(UNIT, shape_of(ONE), 0.0)

    assert not questions.hear(answer_to(ONE))
    assert questions.next(ONE, 2.0) is WHAT


def test_a_late_answer_ends_the_time_for_which_a_unit_is_left_alone(questions: OpenQuestions) -> None:
    questions.ask(ONE, 0.0, 1.0)
    questions.leave_alone(UNIT, 2.0)
    before = questions.free_at_s(UNIT)
    questions.hear(answer_to(ONE))

    assert (before, questions.free_at_s(UNIT), questions.free_at_s(8)) == (2.0, 0.0, 0.0)


def test_nothing_is_open_for_more_than_a_minute(questions: OpenQuestions) -> None:
    questions.ask(ONE, 0.0, 1.0)

    assert questions.next(ONE, 60.9) is WHAT
    assert questions.next(ONE, 61.1) is ONE


def test_a_unit_that_never_told_is_asked_again_when_all_else_was_tried() -> None:
    questions = OpenQuestions({UNIT: ModbusLimits(hole=2)})
    asked = []
    for _ in range(5):
        asked.append(questions.next(ONE, 0.0))
        questions.ask(asked[-1], 0.0, 1.0)

    assert [request.count for request in asked] == [2, 1, 3, 1, 1]


@given(
    table=st.sampled_from(Table),
    first=st.integers(0, 65535),
    count=st.integers(1, 125),
    hole=st.integers(0, 124),
    most=st.integers(1, 125),
    forbidden=st.lists(st.integers(0, 65535), max_size=3),
)
def test_another_size_reads_nothing_that_must_not_be_read(
    table: Table, first: int, count: int, hole: int, most: int, forbidden: list[int]
) -> None:
    step = 16 if table.is_bits else 1
    count = min(count, most, 65536 - first)
    ranges = [f"{table.label} {address}" for address in forbidden if not first <= address < first + count]
    limits = ModbusLimits(hole=hole, registers=most, bits=most, forbidden=ranges)
    wanted = read_request(UNIT, table.function, first, count)

    for other in resized(wanted, limits):
        last = other.first + other.count - 1
        assert other.function == wanted.function
        assert shape_of(other) != shape_of(wanted) or table.is_bits
        assert 1 <= other.count <= most or other.count < count
        assert other.count <= count + hole * step
        assert other.first >= 0
        assert last <= 65535
        assert not any(parse_range(text).touches(table, other.first, last) for text in ranges)
        assert (other.first, last) >= (first, first) or last == first + count - 1
