"""Each reading of a block comes out once, with its own value, status and time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model import NO_TIME, Catalogue, CatalogueGroup, CatalogueTag, DataType, SampleBlock, status_runs
from edge.relay.reading_columns import BAD, readings_of
from edge.seal import Data, Malformed, Unknown, encode_data
from edge.seal.cbor import decode
from edge.seal.data import data_from_cbor
from tests.support.chains import BOOT_NS, TIME, UTC_NS

TYPES = (DataType.FLOAT32, DataType.UINT64, DataType.FLOAT32, DataType.TEXT, DataType.BOOL)
CODES = st.sampled_from([0, 0, 0, 0x40940000, 0x80310000, 0x808B0000])


def catalogue(*types: DataType) -> Catalogue:
    tags = tuple(CatalogueTag(name=f"t{n}", data_type=each, address="1") for n, each in enumerate(types))
    return Catalogue(path="p", groups=(CatalogueGroup(device="d", name="g", interval_ns=10**9, tags=tags),))


CATALOGUE = catalogue(*TYPES)


def sealed(block: SampleBlock) -> Data:
    payload = encode_data(utc_ns=UTC_NS, boot_ns=BOOT_NS, time=TIME, catalogue=bytes(8), blocks=[block])
    return data_from_cbor(decode(payload), Unknown())


def values_of(types: tuple[DataType, ...], numbers: list[int]) -> tuple[Any, ...]:
    """A vector of each type with one value for each number: values that tell them apart."""
    made = {DataType.FLOAT32: np.float32, DataType.UINT64: np.uint64, DataType.BOOL: np.bool_}
    return tuple(
        np.array([f"text {each}" for each in numbers], object) if kind is DataType.TEXT
        else np.array([2**63 + each if kind is DataType.UINT64 else each for each in numbers], made[kind])
        for kind in types
    )  # fmt: skip


def rows(data: Data, found: Catalogue = CATALOGUE) -> list[tuple[int, str, object, int, int]]:
    """(row, tag, value or None, status, source time) of every reading."""
    return [
        (each.row, each.group.tags[tag].name, column.raw[at] if column.is_known[at] else None, int(column.codes[at]),
         NO_TIME if column.times is None else int(column.times[at]))
        for each in readings_of(data, found) for column in each.columns for at, tag in enumerate(column.tags.tolist())
    ]  # fmt: skip


@given(st.data())
def test_a_scan_gives_what_it_reports_and_what_was_bad(draw: st.DataObject) -> None:
    codes = np.array(draw.draw(st.lists(CODES, min_size=5, max_size=5)), np.uint32)
    reported = sorted(draw.draw(st.sets(st.integers(0, 4))))
    is_complete = draw.draw(st.booleans())
    layout = CATALOGUE.groups[0].layout
    positions, vectors = [], []
    for kind, members in zip(layout.vector_types, layout.members, strict=True):
        places = [at for at, tag in enumerate(members.tolist()) if is_complete or tag in reported]
        positions.append(np.array(places, np.uint16))
        vectors += values_of((kind,), [int(members[at]) for at in places])
    times = tuple(UTC_NS + np.arange(len(each), dtype=np.int64) for each in vectors)
    block = SampleBlock(0, BOOT_NS, BOOT_NS + 2000, tuple(vectors), None if is_complete else tuple(positions),
                        status_runs(codes), times)  # fmt: skip
    found = {name: (value, code) for _, name, value, code, _ in rows(sealed(block))}
    expected = {}
    for tag, kind in enumerate(TYPES):
        if is_complete or tag in reported or codes[tag] >= BAD:
            value = None if codes[tag] >= BAD else values_of((kind,), [tag])[0][0]
            expected[f"t{tag}"] = value, int(codes[tag])
    assert found == expected
    assert len(rows(sealed(block))) == len(expected)


def test_a_notification_gives_each_value_of_a_tag_in_its_turn() -> None:
    places = np.array([1, 0, 1, 1], np.uint16)
    nothing = np.empty(0, np.uint16)
    values = np.array([10, 20, 11, 12], np.float32)
    when = UTC_NS + np.arange(4, dtype=np.int64)
    empty = [np.empty(0, kind.numpy) for kind in (DataType.BOOL, DataType.UINT64)]
    block = SampleBlock(
        0, BOOT_NS, BOOT_NS, (*empty, values, np.empty(0, object)), (nothing, nothing, places, nothing),
        ((2, 1, 0x40000000), (3, 1, 0x80000000)), (*[np.empty(0, np.int64)] * 2, when, np.empty(0, np.int64)),
        is_notification=True,
    )  # fmt: skip
    assert rows(sealed(block)) == [
        (0, "t2", 10.0, 0, UTC_NS),
        (0, "t0", 20.0, 0, UTC_NS + 1),
        (1, "t2", 11.0, 0x40000000, UTC_NS + 2),
        (2, "t2", None, 0x80000000, UTC_NS + 3),
    ]


def test_the_time_of_a_block_is_its_middle_and_its_bound_grows() -> None:
    later = 10**11
    vectors = values_of((DataType.FLOAT32,), [1])
    [found] = readings_of(
        sealed(SampleBlock(0, BOOT_NS + later, BOOT_NS + later + 2000, vectors)), catalogue(DataType.FLOAT32)
    )
    assert found.time.utc_ns == UTC_NS + later + 1000
    assert found.time.boot_ns == BOOT_NS + later + 1000
    assert found.time.half_width_ns == 1000
    assert TIME.bound_ns is not None
    assert found.time.bound_ns == TIME.bound_at(found.time.boot_ns)
    assert found.time.uncertainty_ns == 1000 + found.time.bound_ns
    assert found.time.bound_ns > TIME.bound_ns


def test_values_of_a_later_type_are_not_known() -> None:
    later = catalogue(DataType.FLOAT32, DataType.from_code(77))
    block = SampleBlock(0, BOOT_NS, BOOT_NS, (*values_of((DataType.FLOAT32,), [1]), np.array([b"?"[0]], np.uint8)))
    assert rows(sealed(block), later) == [(0, "t0", 1.0, 0, NO_TIME), (0, "t1", None, 0, NO_TIME)]


def test_a_block_of_another_catalogue_is_refused() -> None:
    block = SampleBlock(0, BOOT_NS, BOOT_NS, values_of((DataType.FLOAT32,), [1]))
    with pytest.raises(Malformed, match="vectors were expected"):
        list(readings_of(sealed(block), CATALOGUE))
