from __future__ import annotations

from hypothesis import given
from hypothesis.strategies import integers, sets

from drivers.modbus.tcp import TransactionIds, Unmatched


@given(first=integers(0, 2**70), skip=integers(0, 70_000))
def test_ids_advance_and_are_never_zero(first: int, skip: int) -> None:
    ids = TransactionIds(first)

    issued = [ids.next() for _ in range(200)]

    assert len(set(issued)) == 200
    assert all(1 <= transaction <= 0xFFFF for transaction in issued)
    assert all(ids.was_issued(transaction) for transaction in issued)
    assert not ids.was_issued(0)
    assert not ids.was_issued(issued[-1] % 0xFFFF + 1)


@given(silent=sets(integers(0, 299), max_size=200))
def test_an_id_that_was_given_up_is_not_issued_while_its_answer_may_come(silent: set[int]) -> None:
    ids = TransactionIds(0)
    given_up = {transaction for number in range(300) if (transaction := ids.next()) and number in silent}
    for transaction in given_up:
        ids.give_up(transaction)

    around = {ids.next() for _ in range(0xFFFF - len(given_up))}

    assert around.isdisjoint(given_up)
    for transaction in given_up:
        assert ids.release(transaction) is Unmatched.LATE
        assert ids.release(transaction) is not Unmatched.LATE


def test_an_id_that_keeps_coming_unasked_is_never_issued() -> None:
    """A device that sends one frame again and again would some day send it as the answer to that request."""
    ids = TransactionIds(0)
    issued = []
    for number in range(2 * 0xFFFF):
        ids.release(1000)
        ids.release(2000 + number % 200)
        issued.append(ids.next())

    assert not set(issued) & {1000, *range(2000, 2200)}


def test_ids_never_run_out_however_many_are_given_up_or_come_unasked() -> None:
    ids = TransactionIds(0)

    for number in range(3 * 0xFFFF):
        ids.give_up(ids.next())
        ids.release(number % 0xFFFF + 1)

    assert ids.next()
