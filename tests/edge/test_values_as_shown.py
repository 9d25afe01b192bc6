"""One way from a raw value to what a person or a program sees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model import in_unit
from edge.units import format_value


@given(st.floats(width=32, allow_nan=False))
def test_a_float32_is_shown_in_its_shortest_decimals_and_loses_nothing(value: float) -> None:
    shown = in_unit(np.float32(value))

    assert np.float32(shown) == np.float32(value)
    assert len(repr(shown)) <= len(repr(float(np.float32(value))))


@pytest.mark.parametrize(
    ("raw", "scale", "offset", "shown"),
    [
        (np.float32(37.186516), 1, 0, 37.186516),
        (np.uint16(1203), 0.1, 0, 120.3),
        (np.float32(0.1), 10, 273.15, 274.15),
        (np.int64(-(2**53) - 1), 1, 0, -(2**53) - 1),
        (np.bool_(True), 1, 0, True),
        ("LOT-77", 1, 0, "LOT-77"),
    ],
)
def test_a_value_in_its_unit(raw: object, scale: float, offset: float, shown: object) -> None:
    value = in_unit(raw, scale, offset)

    assert value == shown
    assert type(value) is type(shown)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (True, "true"), (7, "7"), (37.186516, "37.186516"), (1 / 3, "0.333333333333"), ("LOT-77", "LOT-77")],
)
def test_a_value_as_a_person_would_write_it(value: bool | float | str | None, text: str) -> None:
    assert format_value(value) == text
