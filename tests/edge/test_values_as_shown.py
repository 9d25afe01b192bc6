"""One way from a raw value to what a person or a program sees."""

from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model import TimeKind, in_unit
from edge.units import format_value


@given(st.floats(width=32, allow_nan=False))
def test_a_float32_is_shown_in_its_shortest_decimals_and_loses_nothing(value: float) -> None:
    shown = in_unit(np.float32(value))

    assert np.float32(shown) == np.float32(value)
    assert len(digits(shown)) <= len(digits(float(np.float32(value))))


def digits(value: float) -> str:
    """Those that tell it from other numbers: 1e15 has one."""
    return repr(value).partition("e")[0].replace(".", "").strip("-0")


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


@pytest.mark.parametrize(
    ("ns", "kind", "text"),
    [
        (1_767_323_045_678_000_000, TimeKind.UTC, "2026-01-02T03:04:05.678Z"),
        (1_767_323_045_000_000_000, TimeKind.LOCAL, "2026-01-02T03:04:05"),
        (-1, TimeKind.UTC, "1969-12-31T23:59:59.999999999Z"),
        (-(2**63), TimeKind.LOCAL, "1677-09-21T00:12:43.145224192"),
        (2**63 - 1, TimeKind.UTC, "2262-04-11T23:47:16.854775807Z"),
        (1_767_312_000_000_000_000, TimeKind.DATE, "2026-01-02"),
        (0, TimeKind.TIME_OF_DAY, "00:00:00"),
        (86_399_999_000_000, TimeKind.TIME_OF_DAY, "23:59:59.999"),
    ],
)
def test_a_date_or_a_time_is_a_text_with_a_zone_where_it_has_one(ns: int, kind: TimeKind, text: str) -> None:
    assert in_unit(np.int64(ns), time_kind=kind) == text


def test_a_duration_is_a_number_in_seconds() -> None:
    assert in_unit(np.int64(1_500_000_000), 1e-9, 0, TimeKind.DURATION) == 1.5


@given(st.integers(-(2**63) // 1000 + 1, (2**63 - 1) // 1000))
def test_any_parser_of_iso_8601_reads_the_moment_back(us: int) -> None:
    shown = in_unit(np.int64(us * 1000), time_kind=TimeKind.UTC)

    since = datetime.fromisoformat(str(shown)) - datetime.fromisoformat("1970-01-01T00:00:00Z")
    assert (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds == us
