"""Notifications as bytes: every value comes out as it went in, and broken bytes give none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.opcua.address import parse_address
from drivers.opcua.data_change import DataChangeDecoder
from drivers.opcua.plan import Node, ValueSelector
from drivers.opcua.services import following, is_before, read_publish
from edge.errors import ProtocolViolation
from edge.model import NO_TIME, DataType, Layout, StatusCode
from tests.drivers.opcua.notification_messages import SOURCE, SOURCE_NS, Item, published

TYPES = {"bool": 1, "int8": 2, "uint8": 3, "int16": 4, "uint16": 5, "int32": 6, "uint32": 7, "int64": 8, "uint64": 9,
         "float32": 10, "float64": 11, "text": 12}  # fmt: skip
NAMES = list(TYPES)
LABELS = {data_type.label: data_type for data_type in DataType}


def decoder(types: list[str]) -> DataChangeDecoder:
    nodes = [
        Node(parse_address(f"i={number}"), (ValueSelector(number, f"t{number}", kind, None, (), 100),))  # type: ignore[arg-type]
        for number, kind in enumerate(types)
    ]
    return DataChangeDecoder(nodes, Layout(tuple(LABELS[kind] for kind in types)), (), {})


def values_by_tag(types: list[str], data: bytes) -> list[tuple[int, Any, int, int]]:
    """(tag, value, status, source time) of all values, sorted by tag, and in order within a tag."""
    _, notification = read_publish(data, 5)
    assert notification is not None
    changes = decoder(types).decode(notification)
    layout = Layout(tuple(LABELS[kind] for kind in types))
    columns = zip(layout.members, changes.vectors, changes.positions, changes.codes, changes.source_times, strict=True)
    return [
        (int(members[position]), value if isinstance(value, str) else value.item(), int(code), int(time))
        for members, *of_vector in columns
        for value, position, code, time in zip(*of_vector, strict=True)
    ]


def values_of(kind: str) -> st.SearchStrategy[Any]:
    if kind == "bool":
        return st.booleans()
    if kind == "text":
        return st.text(max_size=5)
    if kind.startswith("float"):
        return st.floats(width=32)
    bits = int(kind.lstrip("uint"))
    low = 0 if kind.startswith("u") else -(2 ** (bits - 1))
    return st.integers(low, low + 2**bits - 1)


@st.composite
def notifications(draw: st.DrawFn) -> tuple[list[str], list[Item]]:
    types = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=8))
    items = []
    for handle in draw(st.lists(st.integers(0, len(types) - 1), max_size=20)):
        status = draw(st.sampled_from([None, 0, 0x40000000, 0x00000480]))
        source, server = draw(st.sampled_from([None, SOURCE])), draw(st.sampled_from([None, SOURCE + 1]))
        items.append(Item(handle, TYPES[types[handle]], draw(values_of(types[handle])), status, source, server))
    return types, items


@given(notifications())
def test_everything_is_told_once_and_in_order(case: tuple[list[str], list[Item]]) -> None:
    types, items = case

    changes = values_by_tag(types, published(1, items))

    for tag in range(len(types)):
        expected = [
            (tag, item.value, item.status or 0, SOURCE_NS if item.source else NO_TIME)
            for item in items
            if item.handle == tag
        ]
        assert str([one for one in changes if one[0] == tag]) == str(expected)  # NaN is not equal to itself.
    assert len(changes) == len(items)


@given(notifications(), st.data())
def test_a_message_that_ends_early_tells_nothing(case: tuple[list[str], list[Item]], data: st.DataObject) -> None:
    types, items = case
    whole = published(1, items)
    cut = whole[: data.draw(st.integers(0, len(whole) - 9))]

    with pytest.raises(ProtocolViolation):
        values_by_tag(types, cut)


@given(notifications(), st.data())
def test_a_flipped_byte_is_a_violation_or_a_value_and_nothing_else(
    case: tuple[list[str], list[Item]], data: st.DataObject
) -> None:
    types, items = case
    whole = bytearray(published(1, items))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))

    try:
        _, notification = read_publish(bytes(whole), 5)
        if notification is not None:
            decoder(types).decode(notification)
    except ProtocolViolation:
        pass


def test_a_value_of_another_type_is_bad_and_said() -> None:
    _, notification = read_publish(published(1, [Item(0, 11, 1.5), Item(1, 11, 2.5)]), 5)
    assert notification is not None

    changes = decoder(["float32", "float64"]).decode(notification)

    assert [codes.tolist() for codes in changes.codes] == [[StatusCode.BAD_DECODING_ERROR], [0]]
    assert "the server has a Double" in changes.sentences[0]


def test_an_item_that_nobody_asked_for_is_said_and_not_told() -> None:
    _, notification = read_publish(published(1, [Item(0, 11, 1.5), Item(9, 11, 2.5)]), 5)
    assert notification is not None

    changes = decoder(["float64"]).decode(notification)

    assert changes.vectors[0].tolist() == [1.5]
    assert "an item 9" in changes.sentences[0]


def test_the_overflow_bit_names_the_tag_only_with_its_info_type() -> None:
    """Without InfoType DataValue the bits mean nothing (OPC 10000-4, 7.39.1)."""
    items = [Item(0, 11, 1.0, 0x480), Item(1, 11, 1.0, 0x080), Item(2, 11, 1.0, 0x40000480)]
    _, notification = read_publish(published(1, items), 5)
    assert notification is not None

    assert decoder(["float64"] * 3).decode(notification).overflowed == (0, 2)


@pytest.mark.parametrize(("number", "next_number"), [(1, 2), (2**32 - 1, 1)])
def test_sequence_numbers_wrap_to_one(number: int, next_number: int) -> None:
    assert following(number) == next_number
    assert is_before(number, next_number)
    assert not is_before(next_number, number)
