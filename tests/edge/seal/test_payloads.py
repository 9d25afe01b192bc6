"""What is sealed is what is read, and nothing else is read."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.clock import TimeQuality, TimeSource, TimeState
from edge.model import (
    NO_TIME,
    Catalogue,
    CatalogueGroup,
    CatalogueTag,
    DataType,
    Layout,
    SampleBlock,
    StatusRun,
    Times,
    Vector,
)
from edge.seal import (
    BufferState,
    CataloguePart,
    Checkpoint,
    ConfigChange,
    Data,
    EncodedCatalogue,
    Encoding,
    Epoch,
    EpochReason,
    Event,
    Gap,
    Head,
    KeyChange,
    Loss,
    LossReason,
    Malformed,
    RecordType,
    Severity,
    Stop,
    StopReason,
    TimeChange,
    catalogue_digest,
    decode,
    encode,
    encode_data,
    join_catalogue,
)
from edge.seal.codec import pack, unpack
from edge.seal.keys import SigningKey
from edge.seal.payloads import KeptPart
from tests.support.chains import TIME

SESSION = SigningKey.generate().public
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)
digests = st.binary(min_size=32, max_size=32)
times = st.builds(
    TimeQuality, source=st.sampled_from(TimeSource), state=st.sampled_from(TimeState), bound_ns=st.none() | u64,
    drift_ppb=u64, as_of_ns=i64, offset_ns=i64, leap=st.integers(0, 3), utc_tai_s=st.none() | i64,
    reference=st.binary(max_size=16), stratum=st.integers(0, 255), accuracy=st.none() | u64,
    boot_id=st.binary(max_size=16),
)  # fmt: skip
plain = st.recursive(
    st.none() | st.booleans() | i64 | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=30), inner, max_size=3),
    max_leaves=5,
).filter(lambda value: _depth(value) <= 4)
heads = st.builds(Head, epoch=st.binary(min_size=8, max_size=8), seq=u64, hash=digests)
payloads = st.one_of(
    st.builds(Epoch, session=st.just(SESSION), certificates=st.lists(st.binary(max_size=99), max_size=3).map(tuple),
              reason=st.sampled_from(EpochReason), previous=st.none() | heads, version=st.text(),
              build_hash=st.binary(), config_hash=st.binary(), boot_id=st.binary(),
              hardware=st.dictionaries(st.text(), st.text()), time=times, counter=u64),
    st.builds(KeyChange, session=st.just(SESSION), time=times),
    st.builds(Checkpoint, size=u64, head=digests, session=st.just(SESSION), time=times,
              buffer=st.builds(BufferState, oldest=u64, size_bytes=u64, undelivered=u64), counter=u64),
    st.builds(Event, at_ns=i64, kind=st.text(), severity=st.sampled_from(Severity), subject=st.text(),
              data=st.dictionaries(st.text(max_size=30), plain, max_size=4)),
    st.builds(Loss, first=st.integers(0, 10), last=st.integers(10, 2**63), from_ns=st.none() | i64,
              to_ns=st.none() | i64, records=u64, readings=st.none() | u64, reason=st.sampled_from(LossReason),
              hash_of_last=st.binary(max_size=32), epoch=st.none() | st.binary(min_size=8, max_size=8)),
    st.builds(Gap, group=st.none() | u32, from_ns=i64, to_ns=st.none() | i64, status=u32, detail=st.text()),
    st.builds(TimeChange, before=times, after=times, step_ns=i64, corrected_boot_ns=st.none() | st.tuples(i64, i64),
              correction_ns=st.none() | i64, bound_after_ns=st.none() | u64),
    st.builds(ConfigChange, at_ns=i64, account=st.text(), role=st.text(), key_id=st.binary(), why=st.text(),
              old_hash=st.binary(), new_hash=st.binary(),
              changes=st.lists(st.tuples(st.text(), st.text(), st.text()), max_size=3).map(tuple),
              approval=st.none() | st.binary(),
              kept=st.none() | st.builds(KeptPart, part=st.integers(0, 3), parts=st.integers(4, 2**63),
                                         packed=st.binary(), changes=st.none() | u64)),
    st.builds(Stop, reason=st.sampled_from(StopReason), time=times),
)  # fmt: skip


def decode_data(payload: bytes) -> Data:
    content = decode(RecordType.DATA, payload)
    assert isinstance(content, Data)
    return content


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


@given(payload=payloads)
def test_a_payload_comes_back_as_it_was(payload: Any) -> None:
    encoded = encode(payload)

    assert decode(payload.type, encoded) == payload
    assert cbor2.dumps(cbor2.loads(encoded), canonical=True) == encoded


@settings(max_examples=300)
@given(payload=payloads, at=st.integers(0, 2**16), bit=st.integers(0, 7))
def test_bytes_that_are_read_are_the_bytes_that_would_be_written(payload: Any, at: int, bit: int) -> None:
    encoded = bytearray(encode(payload))
    encoded[at % len(encoded)] ^= 1 << bit
    try:
        read = decode(payload.type, bytes(encoded))
    except Malformed:
        return
    assert encode(read) == bytes(encoded)  # type: ignore[arg-type]


@given(junk=st.binary(max_size=200), kind=st.sampled_from(RecordType))
def test_junk_is_malformed_and_nothing_worse(junk: bytes, kind: RecordType) -> None:
    try:
        decode(kind, junk)
    except Malformed:
        return


# DATA

U16, F32, I64 = (partial(cbor2.CBORTag, tag) for tag in (69, 85, 79))

numbers = {
    data_type: st.binary(min_size=8 * data_type.numpy.itemsize, max_size=8 * data_type.numpy.itemsize)
    for data_type in DataType
    if data_type.is_number
}


@st.composite
def blocks(draw: st.DrawFn) -> tuple[Layout, SampleBlock]:
    """A scan of at most 12 tags of any types, whole or with some changes, or a notification of it."""
    layout = Layout(tuple(draw(st.lists(st.sampled_from(DataType), min_size=1, max_size=12))))
    is_whole = draw(st.booleans())
    is_notification = not is_whole and draw(st.booleans())
    vectors: list[Vector] = []
    positions = []
    for data_type, tags in zip(layout.vector_types, layout.members, strict=True):
        place = st.integers(0, len(tags) - 1)
        where = draw(st.lists(place, max_size=6)) if is_notification else sorted(draw(st.sets(place)))
        count = len(tags) if is_whole else len(where)
        positions.append(np.array(where, np.uint16))
        vectors.append(_values(draw, data_type, count))
    asked = draw(st.integers(10**9, 10**12))
    answered = asked + draw(st.integers(0, 10**10))
    times = tuple(_source_times(draw, len(vector)) for vector in vectors) if draw(st.booleans()) else None
    return layout, SampleBlock(
        0, asked, answered, tuple(vectors), None if is_whole else tuple(positions),
        _runs(draw, sum(map(len, vectors)) if is_notification else len(layout)), times, is_notification,
    )  # fmt: skip


def _runs(draw: st.DrawFn, count: int) -> tuple[StatusRun, ...]:
    if not count or draw(st.booleans()):
        return ()
    first = draw(st.integers(0, count - 1))
    return ((first, draw(st.integers(1, count - first)), draw(st.integers(1, 2**32 - 1))),)


def _source_times(draw: st.DrawFn, count: int) -> Times:
    time = st.just(NO_TIME) | st.integers(-(2**60), 2**62)
    return np.array(draw(st.lists(time, min_size=count, max_size=count)), np.int64)


def _values(draw: st.DrawFn, data_type: DataType, count: int) -> Vector:
    if data_type is DataType.TEXT:
        texts = np.empty(count, object)
        texts[:] = draw(st.lists(st.text(max_size=8), min_size=count, max_size=count))
        return texts
    if data_type is DataType.BOOL:
        return np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), np.bool_)
    size = count * data_type.numpy.itemsize
    return np.frombuffer(draw(st.binary(min_size=size, max_size=size)), data_type.numpy)


def _catalogue(*layouts: Layout) -> Catalogue:
    groups = [
        CatalogueGroup(
            device="d", name=f"g{number}", interval_ns=10**9,
            tags=tuple(CatalogueTag(name=f"t{at}", data_type=each, address="") for at, each in enumerate(layout.types)),
        )
        for number, layout in enumerate(layouts)
    ]  # fmt: skip
    return Catalogue(path="acme/basel", groups=tuple(groups))


@pytest.mark.requirement("REQ-TYPE-02")
@given(case=blocks(), time=times)
def test_a_scan_comes_back_bit_by_bit(case: tuple[Layout, SampleBlock], time: TimeQuality) -> None:
    layout, block = case
    catalogue = _catalogue(layout)
    encoded = encode_data(
        utc_ns=1, boot_ns=block.sampled_at_ns, time=time, catalogue=catalogue_digest(catalogue), blocks=[block] * 2
    )
    read = decode_data(encoded)
    first, second = read.blocks(catalogue)

    assert (read.utc_ns, read.boot_ns, read.time) == (1, block.sampled_at_ns, time)
    assert first.sampled_at_ns == second.sampled_at_ns == block.sampled_at_ns
    assert first.asked_at_ns <= block.asked_at_ns
    assert first.answered_at_ns >= block.answered_at_ns - 1
    assert (first.group, first.status) == (block.group, block.status)
    assert (first.positions is None) == (block.positions is None)
    assert first.is_notification == block.is_notification
    assert [each.tolist() for each in first.source_times or ()] == [each.tolist() for each in block.source_times or ()]
    for vector, original in zip(first.vectors, block.vectors, strict=True):
        assert vector.dtype == original.dtype
        assert (
            vector.tolist() == original.tolist() if original.dtype == object else vector.tobytes() == original.tobytes()
        )
    if first.positions is not None and block.positions is not None:
        assert [list(each) for each in first.positions] == [list(each) for each in block.positions]
    again = encode_data(
        utc_ns=1, boot_ns=read.boot_ns, time=time, catalogue=read.catalogue, blocks=read.blocks(catalogue)
    )
    assert again == encoded


@given(case=blocks())
def test_our_encoder_writes_what_cbor2_would(case: tuple[Layout, SampleBlock]) -> None:
    encoded = encode_data(utc_ns=1, boot_ns=2, time=TIME, catalogue=bytes(8), blocks=[case[1]])

    assert cbor2.dumps(cbor2.loads(encoded), canonical=True) == encoded


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        ([-1, 0, 0, 0, [], []], "an integer of 0"),
        ([], "an integer of 0"),
        ([0, 0, 0, 0, []], "a list of 6 items"),
        ([0, 0, 0, 0, [], [], None], "a list of 0 items"),
        ([2, 0, 0, 0, [[U16(b"\1\0\0\0"), F32(bytes(8))]], []], "ascending"),
        ([1, 0, 0, 0, [[U16(b"\1\0\0\0"), F32(bytes(4))]], []], "one value for each position"),
        ([1, 0, 0, 0, [[U16(b"\1\0\0\0"), F32(bytes(8))]], [[1, 2, 1]]], "beyond the 2 values"),
        ([0, 0, 0, 0, [F32(bytes(8))], [], [I64(bytes(8))]], "2 source times were expected"),
        ([0, 0, 0, 0, [F32(bytes(8))], [], [None]], "2 source times were expected"),
        ([0, 0, 0, 0, [F32(bytes(8))], [], [F32(bytes(8))]], "64-bit numbers"),
        ([0, 0, 0, 0, [F32(bytes(8))], [], []], "a list of 1 items"),
    ],
)
def test_a_block_of_another_shape_is_malformed(wire: list[Any], why: str) -> None:
    payload = cbor2.loads(encode_data(utc_ns=5, boot_ns=2, time=TIME, catalogue=bytes(8), blocks=[]))

    with pytest.raises(Malformed, match=why):
        decode_data(cbor2.dumps(payload | {5: [wire]}, canonical=True))


def test_a_heartbeat_has_no_blocks() -> None:
    encoded = encode_data(utc_ns=5, boot_ns=2, time=TIME, catalogue=bytes(8), blocks=[])

    assert decode_data(encoded).blocks() == []


def test_big_endian_values_are_turned() -> None:
    block = SampleBlock(0, 0, 0, (np.array([1.5, -2], ">f8"),))
    [read] = decode_data(
        encode_data(utc_ns=5, boot_ns=0, time=TIME, catalogue=bytes(8), blocks=[block])
    ).blocks()  # fmt: skip

    assert read.vectors[0].tolist() == [1.5, -2]


@pytest.mark.parametrize(
    ("layout", "why"),
    [
        (Layout((DataType.FLOAT32,)), "1 values of float32"),
        (Layout((DataType.UINT16,) * 2), "values of uint16"),
        (Layout((DataType.FLOAT32, DataType.FLOAT32, DataType.BOOL)), "2 vectors"),
        (None, "is not in the catalogue"),
    ],
)
def test_a_scan_that_does_not_fit_the_catalogue_is_malformed(layout: Layout | None, why: str) -> None:
    block = SampleBlock(0, 0, 0, (np.zeros(2, np.float32),))
    data = decode_data(encode_data(utc_ns=5, boot_ns=0, time=TIME, catalogue=bytes(8), blocks=[block]))

    with pytest.raises(Malformed, match=why):
        data.blocks(_catalogue(layout) if layout else _catalogue())


# CATALOG

tags = st.builds(
    CatalogueTag, name=st.text(max_size=9), data_type=st.sampled_from(DataType), address=st.text(max_size=9),
    unit=st.text(max_size=5), scale=st.floats(allow_nan=False), offset=st.floats(allow_nan=False),
    range=st.none() | st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)),
    deadband=st.floats(0, 1e9), at_most_every_ns=st.integers(0, 2**62), at_least_every_ns=st.integers(0, 2**62),
    description=st.text(max_size=9),
)  # fmt: skip
groups = st.builds(
    CatalogueGroup, device=st.text(), name=st.text(), interval_ns=st.integers(0, 2**62),
    tags=st.lists(tags, max_size=4).map(tuple), sign_of_life_ns=st.integers(0, 2**62),
)  # fmt: skip


@given(path=st.text(), groups=st.lists(groups, max_size=4))
def test_a_catalogue_comes_back_as_it_was(path: str, groups: list[CatalogueGroup]) -> None:
    catalogue = Catalogue(path=path, groups=tuple(groups))
    parts = [decode(RecordType.CATALOG, each) for each in EncodedCatalogue.of(catalogue).payloads]

    assert join_catalogue(reversed([part for part in parts if isinstance(part, CataloguePart)])) == catalogue


def test_a_big_catalogue_travels_in_parts_that_fit_a_record() -> None:
    tag = CatalogueTag(name="x" * 100, data_type=DataType.FLOAT32, address="holding 100", description="y" * 100)
    groups = tuple(
        CatalogueGroup(device=f"d{n}", name="g", interval_ns=1, tags=(tag,) * 700, sign_of_life_ns=n) for n in range(3)
    )
    catalogue = Catalogue(path="p", groups=groups)
    payloads = EncodedCatalogue.of(catalogue).payloads
    parts = [decode(RecordType.CATALOG, each) for each in payloads]

    assert len(payloads) > 3
    assert max(map(len, payloads)) < 41_000
    assert join_catalogue([part for part in parts if isinstance(part, CataloguePart)]) == catalogue


def test_a_catalogue_with_a_part_missing_or_of_another_digest_is_malformed() -> None:
    tag = CatalogueTag(name="x" * 1000, data_type=DataType.FLOAT32, address="")
    catalogue = Catalogue(path="p", groups=(CatalogueGroup(device="d", name="g", interval_ns=1, tags=(tag,) * 100),))
    parts = [decode(RecordType.CATALOG, each) for each in EncodedCatalogue.of(catalogue).payloads]
    own = [part for part in parts if isinstance(part, CataloguePart)]
    forged = [replace(part, digest=bytes(8)) for part in own]

    with pytest.raises(Malformed, match="missing"):
        join_catalogue(own[:-1])
    with pytest.raises(Malformed, match="digest"):
        join_catalogue(forged)


# Packing


@given(payload=st.binary(max_size=500).map(lambda seed: seed * 20), enc=st.sampled_from(Encoding))
def test_a_packed_payload_comes_back(payload: bytes, enc: Encoding) -> None:
    used, packed = pack(payload, enc)

    assert unpack(packed, used) == payload
    assert len(packed) <= len(payload)


def test_what_does_not_get_shorter_stays_plain() -> None:
    noise = os.urandom(1000)

    assert pack(noise, Encoding.ZLIB) == pack(noise, Encoding.ZSTD) == (Encoding.PLAIN, noise)
