"""Screens fit their width: names give way, numbers and units stay whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from edge.terminal import RED, Column, age, fit_table, shorten, state, wrap

S, MIN, H, D = 10**9, 60 * 10**9, 3600 * 10**9, 86400 * 10**9

COLUMNS = (
    Column(title="device", least=8),
    Column(title="state"),
    Column(title="last scan", is_number=True),
    Column(title="takes", is_number=True, rank=1),
    Column(title="missed (1 h)", is_number=True, rank=2),
)


@pytest.mark.parametrize(
    ("age_ns", "words"),
    [(None, "never"), (400_000_000, "0.4 s"), (0, "0.0 s"), (9_940_000_000, "9.9 s"), (9_960_000_000, "9.9 s"),
     (10 * S, "10 s"),
     (119 * S, "119 s"), (12 * MIN + 59 * S, "12 min"), (2 * H, "2 h"), (2 * H + 5 * MIN, "2 h 5 min"),
     (3 * D + 4 * H, "3 d 4 h"), (400 * D, "400 d")],
)  # fmt: skip
def test_an_age_is_said_as_people_say_it(age_ns: int | None, words: str) -> None:
    assert age(age_ns) == words


@given(text=st.text(st.characters(categories=["L", "N", "Pd"])), width=st.integers(1, 80))
def test_a_shortened_name_fits_and_keeps_both_ends(text: str, width: int) -> None:
    short = shorten(text, width)

    assert cell_len(short) <= width
    assert short == text or width < 3 or "…" in short


def test_names_that_differ_at_the_end_still_differ() -> None:
    names = [f"utilities/building-7/{'very-' * 8}long/temperature-{number}" for number in range(9)]

    assert len({shorten(name, 24) for name in names}) == 9


@given(width=st.integers(12, 160))
def test_a_sentence_never_parts_a_number_from_its_unit(width: int) -> None:
    lines = wrap("utilities: no answer for 12 min (timed out), 3 tags BAD; buffer holds 3.2 GB, 98 % of 4 d", width, 4)

    assert all(not line.lstrip().startswith(("min", "GB", "%", "d")) for line in lines)
    assert all(len(line) <= max(width, 14) for line in lines)
    assert all(line.startswith("    ") for line in lines[1:])


@given(width=st.integers(30, 200))
def test_a_table_fits_and_says_which_columns_do_not(width: int) -> None:
    rows = [["x" * 60, state("DOWN"), "12 min", "1,234 ms", "720"], ["press", state("up"), "0.1 s", "12 ms", "0"]]

    table = fit_table(COLUMNS, rows, width)

    assert all(cell_len(str(line)) <= width for line in table.lines)
    assert "12 min" in str(table.lines[1])
    assert ("1,234 ms" in str(table.lines[1])) == ("takes" not in table.left_out)
    assert ("720" in str(table.lines[1])) == ("missed (1 h)" not in table.left_out)
    assert width < 80 or not table.left_out


def test_a_state_keeps_its_colour_in_a_table_and_text_in_brackets_is_no_markup() -> None:
    table = fit_table(COLUMNS[:2], [["[b]pump[/b]", state("DOWN")]], 40)

    assert str(table.lines[1]) == "[b]pump[/b]  DOWN"
    assert [str(span.style) for span in table.lines[1].spans] == [RED]


def test_good_has_no_colour() -> None:
    assert state("up") == Text("up")
