"""What a later version adds to payloads is skipped and counted; everything else stays as strict as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType, Identity, SampleBlock, TimeKind
from edge.seal import (
    CataloguePart,
    Checkpoint,
    ConfigChange,
    Context,
    Data,
    Epoch,
    Event,
    Gap,
    KeyChange,
    KnownDevice,
    Loss,
    LossReason,
    Malformed,
    RecordType,
    Stop,
    TimeChange,
    Unknown,
    decode,
    encode,
    encode_data,
    encode_identities,
    join_catalogue,
)
from edge.seal.catalogue import EncodedCatalogue
from edge.seal.codec import LaterContent
from edge.seal.keys import SigningKey
from edge.seal.payloads import BufferState, certificates_of_epoch
from edge.seal.record import Head
from tests.support.chains import TIME

KEY = SigningKey.generate().public
TAGS = (CatalogueTag(name="t", data_type=DataType.FLOAT32, address="1", range=(0.0, 1.0), texts=((1, "on"),)),)
GROUP = CatalogueGroup(device="d", name="g", interval_ns=1, tags=TAGS, sign_of_life_ns=2)
CATALOGUE = Catalogue(path="p", groups=(GROUP,))
VALUES = np.zeros(2, np.float32)
BLOCKS = [
    SampleBlock(
        0, 10, 20, (VALUES,), status=((0, 1, 0x80000000),), source_times=(np.zeros(2, np.int64),), context=(7,)
    ),
    SampleBlock(0, 30, 40, (VALUES,), (np.array([0, 1], np.uint16),), context=(0, 7)),
]

PAYLOADS: dict[str, tuple[RecordType, bytes]] = {
    each.type.name: (each.type, encode(each))
    for each in (
        Epoch(session=KEY, certificates=(b"x" * 30,), previous=Head(bytes(8), 1, bytes(32)), time=TIME, counter=1),
        KeyChange(session=KEY, time=TIME),
        Checkpoint(size=1, head=bytes(32), session=KEY, time=TIME, buffer=BufferState(), counter=1),
        Event(at_ns=1, kind="start"),
        Context(
            number=7,
            unit="u",
            members={"batch": "B1", "phase": None},
            from_ns=1,
            to_ns=2,
            sources={"batch": ("d", "t")},
        ),
        Loss(first=1, last=2, from_ns=0, to_ns=1, records=2, readings=None, reason=LossReason.TOO_OLD, epoch=bytes(8)),
        Gap(group=None, from_ns=1, to_ns=None, status=0x80310000),
        TimeChange(before=TIME, after=TIME, corrected_boot_ns=(1, 2), correction_ns=5),
        ConfigChange(at_ns=1, account="root", old_hash=b"", new_hash=b"", changes=(("a", "b", "c"),)),
        Stop(time=TIME),
    )
}
PAYLOADS["DATA"] = (
    RecordType.DATA,
    encode_data(utc_ns=1, boot_ns=2, time=TIME, catalogue=bytes(8), blocks=BLOCKS),
)
PAYLOADS["CATALOG"] = (RecordType.CATALOG, EncodedCatalogue.of(CATALOGUE).payloads[0])
PAYLOADS["CATALOG of devices"] = (
    RecordType.CATALOG,
    encode_identities(bytes(8), "p", [KnownDevice("d", Identity(vendor="v"), 5)])[0],
)

Path = tuple[int, ...]
WORDS: dict[str, list[Path]] = {
    "EPOCH": [(3,), (10, 1), (10, 2)], "EVENT": [(3,)], "LOSS": [(7,)], "STOP": [(1,), (2, 1)],
    "TIME": [(1, 1), (2, 2)],
    "CATALOG": [(4, 0, 4, 0, 1)], "DATA": [(5, 0, 0), (3, 1)],
}  # fmt: skip
MAPS: dict[str, list[Path]] = {
    "EPOCH": [(10,)], "CHECKPOINT": [(4,), (5,)], "CONFIG": [(2,)], "TIME": [(1,), (2,)], "DATA": [(3,)],
}  # fmt: skip
ARRAYS: dict[str, list[Path]] = {
    "EPOCH": [(4,)], "TIME": [(4,)], "CONFIG": [(6, 0)], "CATALOG": [(4, 0), (4, 0, 4, 0), (4, 0, 4, 0, 6)],
    "CATALOG of devices": [(6, 0)], "DATA": [(5, 0), (5, 0, 5, 0), (5, 1, 4, 0)],
}  # fmt: skip
STRICT: dict[str, list[Path]] = {"EPOCH": [(1,)], "KEY": [(1,)], "CHECKPOINT": [(3,)]}

FLAT = (st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(width=16) | st.text(max_size=5)
        | st.binary(max_size=5))  # fmt: skip
PLAIN = FLAT | st.just(cbor2.CBORTag(69, b"\1\0"))
LATER = st.recursive(
    PLAIN, lambda item: st.lists(item, max_size=2) | st.dictionaries(st.integers(0, 2**64 - 1), item, max_size=2)
    | st.dictionaries(st.text(max_size=3), item, max_size=2), max_leaves=2,
)  # fmt: skip
BEYOND = [
    cbor2.undefined, cbor2.CBORSimpleValue(99), cbor2.CBORTag(81, bytes(8)), cbor2.CBORTag(69, b"\1"),
    cbor2.CBORTag(85, "text"), 2**64, -(2**63) - 1, {-1: 0}, {1: 0, "x": 0}, {b"x": 0}, {None: 0}, {1.5: 0},
    [[[[[[0]]]]]], [cbor2.undefined], {"x": cbor2.CBORTag(1, 0)},
]  # fmt: skip


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def _edited(name: str, edit: Callable[[Any], None]) -> tuple[RecordType, bytes]:
    kind, payload = PAYLOADS[name]
    value = cbor2.loads(payload)
    edit(value)
    return kind, cbor2.dumps(value, canonical=True)


def _places(table: dict[str, list[Path]]) -> list[tuple[str, Path]]:
    return [(name, path) for name, paths in table.items() for path in paths]


def _append(path: Path, *items: object) -> Callable[[Any], None]:
    return lambda value: _at(value, path).extend(items)


def _member(path: Path, key: object, item: object) -> Callable[[Any], None]:
    return lambda value: _at(value, path).update({key: item})


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_of_today_holds_nothing_unknown(name: str) -> None:
    unknown = Unknown()

    decode(*PAYLOADS[name], unknown)

    assert not unknown.words


@pytest.mark.parametrize(("name", "path"), [*((name, ()) for name in PAYLOADS), *_places(MAPS)])
@given(item=LATER, key=st.integers(20, 2**64 - 1))
def test_a_later_member_is_skipped_and_counted(name: str, path: Path, item: object, key: int) -> None:
    unknown = Unknown()

    content = decode(*_edited(name, _member(path, key, item)), unknown)

    assert content == decode(*PAYLOADS[name])
    assert list(unknown.words) == [f"member {key}"]


@pytest.mark.parametrize(("name", "path"), _places(ARRAYS))
@given(data=st.data())
def test_a_later_element_is_skipped_and_counted(name: str, path: Path, data: st.DataObject) -> None:
    unknown = Unknown()
    item = data.draw(LATER if len(path) < 3 else FLAT)  # A payload is at most 6 levels deep.

    content = decode(*_edited(name, _append(path, item)), unknown)

    assert _known(content) == _known(decode(*PAYLOADS[name]))
    assert [word.partition(" ")[0] for word in unknown.words] == ["element"]


@pytest.mark.parametrize("texts", [(), ((0, "none"),)])
@pytest.mark.parametrize("kind", [None, *TimeKind])
def test_the_kind_of_a_time_is_read_back_with_and_without_texts(
    kind: TimeKind | None, texts: tuple[tuple[int, str], ...]
) -> None:
    tag = CatalogueTag(name="t", data_type=DataType.INT64, address="1", time_kind=kind, texts=texts)
    catalogue = Catalogue(path="p", groups=(CatalogueGroup(device="d", name="g", interval_ns=1, tags=(tag,)),))
    unknown = Unknown()

    part = decode(RecordType.CATALOG, EncodedCatalogue.of(catalogue).payloads[0], unknown)

    assert isinstance(part, CataloguePart)
    assert join_catalogue([part]) == catalogue
    assert not unknown.words


@pytest.mark.parametrize("kind", [None, TimeKind.UTC])
@pytest.mark.parametrize("texts", [(), ((0, "none"),)])
def test_a_scale_tag_is_read_back_and_the_unit_is_not_that_of_the_raw_value(
    kind: TimeKind | None, texts: tuple[tuple[int, str], ...]
) -> None:
    """A reader that does not know of scale tags shows the raw value, and must not show it in the unit."""
    tag = CatalogueTag(
        name="t", data_type=DataType.INT64, address="1", unit="W", scale_tag="t_SF", time_kind=kind, texts=texts
    )
    catalogue = Catalogue(path="p", groups=(CatalogueGroup(device="d", name="g", interval_ns=1, tags=(tag,)),))
    unknown = Unknown()
    [payload] = EncodedCatalogue.of(catalogue).payloads

    part = decode(RecordType.CATALOG, payload, unknown)

    assert isinstance(part, CataloguePart)
    assert join_catalogue([part]) == catalogue
    assert not unknown.words
    wire = cbor2.loads(payload)[4][0][4][0]
    assert (wire[3], wire[4], wire[5], wire[13]) == ("", 1.0, 0.0, ["W", "t_SF"])


@pytest.mark.parametrize("power", [0, "x", [], ["W"], ["W", ""], ["W", 1], [1, "sf"], ["W", "sf", 0], None])
def test_a_scale_tag_that_is_not_as_it_should_be_is_unknown(power: object) -> None:
    unknown = Unknown()

    content = decode(*_edited("CATALOG", _append((4, 0, 4, 0), None, power)), unknown)

    assert _known(content) == _known(decode(*PAYLOADS["CATALOG"]))
    assert list(unknown.words) == ["element 14"]


@pytest.mark.parametrize("kind", [0, 6, 2**64 - 1, -1, True, 1.0, "x", [1], None, 1])
def test_a_kind_of_time_that_is_not_as_it_should_be_is_unknown(kind: object) -> None:
    """The tag is a float32, whose values are no nanoseconds whatever the kind says."""
    unknown = Unknown()

    content = decode(*_edited("CATALOG", _append((4, 0, 4, 0), kind)), unknown)

    assert _known(content) == _known(decode(*PAYLOADS["CATALOG"]))
    assert list(unknown.words) == ["element 13"]


def _known(content: object) -> object:
    """What this version makes of a payload."""
    if isinstance(content, Data):
        return [(repr(each.vectors), each.status, repr(each.positions)) for each in content.blocks()]
    return (content.groups, content.path) if isinstance(content, CataloguePart) else content


@pytest.mark.parametrize(("name", "path"), [*((name, ()) for name in PAYLOADS), *_places(MAPS)])
@pytest.mark.parametrize("item", BEYOND, ids=repr)
def test_a_later_member_beyond_the_limits_is_malformed(name: str, path: Path, item: object) -> None:
    with pytest.raises(Malformed):
        decode(*_edited(name, _member(path, 50, item)))


@pytest.mark.parametrize(("name", "path"), _places(ARRAYS))
@pytest.mark.parametrize("item", BEYOND, ids=repr)
def test_a_later_element_beyond_the_limits_is_malformed(name: str, path: Path, item: object) -> None:
    with pytest.raises(Malformed):
        decode(*_edited(name, _append(path, item)))


@pytest.mark.parametrize(("name", "path"), [*((name, ()) for name in PAYLOADS), *_places(MAPS), *_places(STRICT)])
@pytest.mark.parametrize("key", [0, -7, "x", b"x"])
def test_a_member_without_a_number_from_1_is_malformed(name: str, path: Path, key: object) -> None:
    with pytest.raises(Malformed):
        decode(*_edited(name, _member(path, key, 0)))


@pytest.mark.parametrize(("name", "path"), _places(STRICT))
def test_a_key_does_not_grow(name: str, path: Path) -> None:
    with pytest.raises(Malformed):
        decode(*_edited(name, _member(path, 5, 0)))


@pytest.mark.parametrize(("name", "path"), _places(WORDS))
@given(number=st.integers(100, 2**64 - 1))
def test_a_later_number_for_a_word_is_kept_and_counted(name: str, path: Path, number: int) -> None:
    def edit(value: Any) -> None:
        _at(value, path[:-1])[path[-1]] = number

    unknown = Unknown()

    decode(*_edited(name, edit), unknown)

    assert [word.endswith(f" {number}") for word in unknown.words] == [True]


@pytest.mark.parametrize(("name", "path"), _places(WORDS))
@pytest.mark.parametrize("number", [-1, 2**64, 1.0, True, "x", None])
def test_a_word_that_is_no_number_is_malformed(name: str, path: Path, number: object) -> None:
    def edit(value: Any) -> None:
        _at(value, path[:-1])[path[-1]] = number

    with pytest.raises(Malformed):
        decode(*_edited(name, edit))


def test_the_words_for_unknown_content_are_few() -> None:
    unknown = Unknown()

    decode(*_edited("EVENT", lambda value: value.update(dict.fromkeys(range(10, 5000), 0))), unknown)

    assert len(unknown.words) == Unknown.LIMIT


def test_a_block_of_a_later_kind_leaves_the_others_their_number() -> None:
    kind, payload = _edited("DATA", lambda value: value[5].insert(0, [9, "anything"]))

    content = decode(kind, payload)

    assert isinstance(content, Data)
    assert content.numbers == [1, 2]
    assert len(content.blocks()) == 2


def test_a_later_field_of_a_block_without_source_times_follows_a_null() -> None:
    def with_fields(*fields: object) -> SampleBlock:
        def edit(value: Any) -> None:
            value[5][1][6:] = fields

        content = decode(*_edited("DATA", edit))
        assert isinstance(content, Data)
        return content.blocks()[1]

    for known in (with_fields(None, 7), with_fields(None, 7, "later")):
        assert (known.source_times, known.context) == (None, (7,))
    assert with_fields(None, None, "later").context == ()
    with pytest.raises(Malformed):
        with_fields(None)


@pytest.mark.parametrize("context", [-1, "9", [1], [1, 2, 3], [1, "2"], [0, 2**64 - 1, None], {}, True, None])
def test_a_context_of_a_block_that_is_not_as_it_should_be_is_unknown_content(context: object) -> None:
    def edit(value: Any) -> None:
        value[5][1][7:] = [context]

    unknown = Unknown()
    content = decode(*_edited("DATA", edit), unknown)

    assert isinstance(content, Data)
    assert content.blocks()[1].context == ()
    assert list(unknown.words) == ["element 8"]


@pytest.mark.parametrize("payload", [{1: 0}, {1: 7, 2: 5}, {1: 7, 2: "u", 3: {"batch": 5}, 4: 1, 5: 2, 6: {}},
                                     {1: 7, 2: "u", 3: {}, 4: 1, 5: 2, 6: {"batch": ["d"]}}])  # fmt: skip
def test_a_context_of_another_form_is_unknown_content(payload: dict[int, object]) -> None:
    unknown = Unknown()

    assert isinstance(decode(RecordType.CONTEXT, cbor2.dumps(payload, canonical=True), unknown), LaterContent)
    assert list(unknown.words) == ["record type 11"]


@pytest.mark.parametrize(
    ("elements", "sign_of_life_ns", "unknown_count"),
    [([], 0, 0), ([5], 5, 0), ([5, "x"], 5, 1), ([None, "x"], 0, 1), ([None], 0, 1), ([-1], 0, 1), (["x"], 0, 1)],
)
def test_a_sign_of_life_that_is_not_as_it_should_be_is_unknown_content(
    elements: list[object], sign_of_life_ns: int, unknown_count: int
) -> None:
    unknown = Unknown()

    def edit(value: Any) -> None:
        value[4][0][5:] = elements

    part = decode(*_edited("CATALOG", edit), unknown)

    assert isinstance(part, CataloguePart)
    assert part.groups[0][1].sign_of_life_ns == sign_of_life_ns
    assert len(unknown.words) == unknown_count


def test_a_catalogue_with_later_elements_has_the_digest_of_all_its_elements() -> None:
    from edge.seal.catalogue import _digest

    def edit(value: Any) -> None:
        value[4][0].append("later")
        value[4][0][4][0] += [{1: 2}]
        value[1] = _digest("p", value[4])

    part = decode(*_edited("CATALOG", edit))

    assert isinstance(part, CataloguePart)
    assert join_catalogue([part]) == CATALOGUE


def test_values_of_a_later_data_type_are_null() -> None:
    def edit(value: Any) -> None:
        value[4][0][4].append([*value[4][0][4][0][:1], 77, *value[4][0][4][0][2:11]])

    part = decode(*_edited("CATALOG", edit))
    assert isinstance(part, CataloguePart)
    catalogue = Catalogue(path="p", groups=tuple(group for _, group in part.groups))
    block = SampleBlock(0, 1, 2, (np.ones(1, np.float32), np.ones(1, np.uint64)))
    data = decode(RecordType.DATA, encode_data(utc_ns=1, boot_ns=2, time=TIME, catalogue=part.digest, blocks=[block]))

    assert isinstance(data, Data)
    assert [each.tolist() for each in data.blocks(catalogue)[0].vectors] == [[1.0], [None]]


def test_the_certificates_of_an_epoch_are_found_in_a_larger_map() -> None:
    for members in (1, 20, 300):
        _, payload = _edited("EPOCH", lambda value, n=members: value.update(dict.fromkeys(range(100, 100 + n), 0)))
        assert certificates_of_epoch(payload) == [b"x" * 30]
