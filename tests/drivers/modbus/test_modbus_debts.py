"""What may be asked after a silence, so that a late answer is known for what it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.codec import identification_request, read_request
from drivers.modbus.debts import Debts, shape_of

requests = st.builds(
    lambda function, count: read_request(7, function, 100, count), st.sampled_from([1, 2, 3, 4]), st.integers(1, 125)
)


@given(owed=st.lists(requests, max_size=12), wanted=requests)
def test_the_question_after_silences_cannot_be_mistaken(owed: list, wanted: object) -> None:
    """It reads what was wanted or a part of it; its answer has a shape that nothing owed has, where there is one."""
    debts = Debts()
    for number, request in enumerate(owed):
        debts.owe(7, shape_of(request), float(number))

    asked = debts.question(wanted, 12.0)

    taken = {shape_of(request) for request in owed[-8:]}
    assert (asked.function, asked.first) == (wanted.function, wanted.first)
    assert asked.count <= wanted.count
    assert shape_of(asked) not in taken or (asked is wanted and shape_of(wanted) in taken)
    if wanted.function in (3, 4) and wanted.count > 8:
        assert shape_of(asked) not in taken


def test_one_register_has_only_silence() -> None:
    debts = Debts()
    request = read_request(7, 3, 100, 1)
    debts.owe(7, shape_of(request), 10.0, 2.0)

    assert debts.question(request, 12.0) is request
    assert (debts.free_at_s(7), debts.free_at_s(8)) == (12.0, 0.0)


def test_noise_while_a_unit_is_left_alone_makes_it_longer() -> None:
    debts = Debts()
    debts.owe(7, shape_of(read_request(7, 3, 0, 4)), 10.0, 2.0)

    debts.stir(11.5)
    debts.stir(20.0)

    assert debts.free_at_s(7) == 13.5


def test_a_late_answer_frees_the_unit_once() -> None:
    debts = Debts()
    debts.owe(7, shape_of(read_request(7, 3, 0, 1)), 10.0, 2.0)
    late = bytes((7, 3, 2, 0, 9))

    assert not debts.pay(bytes((7, 3, 4, 0, 9, 0, 9)))
    assert debts.pay(late)
    assert not debts.pay(late)
    assert debts.free_at_s(7) == 0.0


def test_a_late_refusal_pays_what_was_asked_with_its_function() -> None:
    debts = Debts()
    debts.owe(7, shape_of(read_request(7, 3, 0, 1)), 10.0)
    debts.owe(7, shape_of(read_request(7, 4, 0, 1)), 11.0)

    assert not debts.pay(bytes((7, 0x81, 2)))
    assert debts.pay(bytes((7, 0x84, 2)))
    assert not debts.is_owed(7, 3)  # What came before it will not come any more.


def test_debts_are_forgotten_after_a_minute() -> None:
    debts = Debts()
    request = read_request(7, 3, 0, 4)
    debts.owe(7, shape_of(request), 10.0)

    assert debts.question(request, 69.0) is not request
    assert debts.question(request, 71.0) is request


def test_identifications_differ_by_category() -> None:
    basic, regular = identification_request(7, 1, 0), identification_request(7, 2, 0)
    debts = Debts()
    debts.owe(7, shape_of(basic), 10.0)

    assert shape_of(basic) != shape_of(regular)
    assert debts.pay(bytes((7, 43, 14, 1, 0x81, 0, 0, 0)))
