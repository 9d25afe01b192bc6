"""Columns of values become the same JSON as each value does by itself."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.model import CatalogueGroup, CatalogueTag, DataType, TimeKind, Vector, in_unit, json_value
from edge.relay.json_columns import Units, scaled

NUMBERS = [data_type for data_type in DataType if data_type.is_number]
SCALES = st.sampled_from([1.0, 0.1, 0.01, 1 / 3, -2.0, 0.0, 1e300, 1e-9]) | st.floats(allow_nan=False, width=32)
OFFSETS = st.sampled_from([0.0, 5.0, -273.15]) | st.floats(allow_nan=False, width=32)


def rounded(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return scaled(values, np.ones(len(values)), np.full(len(values), -0.0))


def tag_of(data_type: DataType) -> CatalogueTag:
    return CatalogueTag(name="tag", data_type=data_type, address="1")


def group_of(*tags: CatalogueTag) -> CatalogueGroup:
    return CatalogueGroup(device="mixer", name="1s", interval_ns=10**9, tags=tags)


def texts_of(group: CatalogueGroup, raw: Vector) -> tuple[list[bytes], list[bool]]:
    texts, is_finite = Units(group).json_texts(raw, np.arange(len(raw)))
    return texts, is_finite.tolist()


def one_by_one(group: CatalogueGroup, raw: Vector) -> tuple[list[bytes], list[bool]]:
    """What the scalar functions make of each value, with its own kind of number."""
    values = [
        json_value(in_unit(value, tag.scale, tag.offset, tag.time_kind), tag.data_type)
        for value, tag in zip(raw, group.tags, strict=True)
    ]
    return list(map(orjson.dumps, values)), [not isinstance(each, float) or isfinite(each) for each in values]


def same_numbers(texts: list[bytes]) -> list[Any]:
    """Two spellings of a number are one, but a whole number is no float."""
    return [(type(value), value) for value in map(orjson.loads, texts)]


@pytest.mark.parametrize("data_type", NUMBERS)
@given(data=st.data())
def test_numbers_are_scaled_as_one_by_one(data_type: DataType, data: st.DataObject) -> None:
    raw = data.draw(arrays(data_type.numpy, st.integers(1, 8)))
    group = group_of(*(
        CatalogueTag(name=str(n), data_type=data_type, address="1", scale=data.draw(SCALES), offset=data.draw(OFFSETS))
        for n in range(len(raw))
    ))  # fmt: skip

    texts, is_finite = texts_of(group, raw)
    expected, expected_finite = one_by_one(group, raw)

    assert same_numbers(texts) == same_numbers(expected)
    assert is_finite == expected_finite


@given(
    arrays(np.float64, st.integers(1, 20), elements=st.floats())
    | arrays(np.float64, st.integers(1, 20), elements=st.integers(0, 65535).map(lambda raw: raw * 0.1))
    | arrays(np.float64, st.integers(1, 20), elements=st.integers(10**14, 10**15).map(lambda tie: (tie + 0.5) / 1e9))
)
def test_rounding_is_that_of_one_value(values: np.ndarray[Any, Any]) -> None:
    """To the last bit, also where the sixteenth digit is a five."""
    expected = np.array([float(f"{value:.15g}") for value in values.tolist()])

    assert np.array_equal(
        rounded(values).view(np.uint64)[~np.isnan(values)], expected.view(np.uint64)[~np.isnan(values)]
    )


@pytest.mark.parametrize("power", range(-30, 31))
def test_rounding_at_a_power_of_ten_is_that_of_one_value(power: int) -> None:
    exact = float(f"1e{power}")
    values = np.array([exact, -exact, np.nextafter(exact, 0), np.nextafter(exact, np.inf), exact * (1 - 1.5e-15)])

    assert rounded(values).tolist() == [float(f"{value:.15g}") for value in values.tolist()]


@given(st.lists(st.text()))
def test_texts_are_as_one_by_one(words: list[str]) -> None:
    words = [word for word in words if word.isprintable()]
    raw = np.empty(len(words), object)
    raw[:] = words

    assert texts_of(group_of(*(tag_of(DataType.TEXT),) * len(words)), raw)[0] == [orjson.dumps(word) for word in words]


@pytest.mark.parametrize("kind", [*TimeKind, None])
def test_dates_times_and_whole_numbers_of_one_type_are_as_one_by_one(kind: TimeKind | None) -> None:
    scale = 1e-9 if kind is TimeKind.DURATION else 1.0
    tags = [
        CatalogueTag(name="time", data_type=DataType.INT64, address="1", time_kind=kind, scale=scale),
        CatalogueTag(name="count", data_type=DataType.INT64, address="2"),
    ]
    group, raw = group_of(*tags), np.array([1_767_312_000_123_456_789, 7])

    assert texts_of(group, raw) == one_by_one(group, raw)
