"""The messages of one scan: one for each tag, or one for the device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.model import (
    NO_TIME,
    Catalogue,
    CatalogueGroup,
    CatalogueTag,
    DataType,
    SampleBlock,
    StatusCode,
    in_unit,
    json_value,
    shown_status,
    status_runs,
)
from edge.relay.shapes import BlockOrigin, Messages
from edge.relay.unified_namespace import UnifiedNamespace

NS = 10**9
NOON_NS = 1_750_000_000 * NS + 123_456_789
CODES = [0, StatusCode.BAD_TIMEOUT, 0xC0000000, StatusCode.UNCERTAIN, 0x00960000]
TAG = CatalogueTag(name="speed", data_type=DataType.FLOAT32, address="1", unit="/min")
SCALED = replace(TAG, name="level", scale=0.1, offset=3.0)
VALVE = replace(TAG, name="valve", data_type=DataType.UINT8, unit="", texts=((0, "closed"), (1, 'op"en')))
WIDE = replace(VALVE, name="état", data_type=DataType.UINT64)
FLAG = replace(VALVE, name="a/flag", data_type=DataType.BOOL)
TAGS = [TAG, SCALED, VALVE, WIDE, FLAG]


def rfc3339(utc_ns: int) -> str:
    return f"{np.datetime64(utc_ns, 'ns')}Z"


def catalogue_of(*tags: CatalogueTag, name: str = "1s") -> Catalogue:
    return Catalogue(path="p", groups=(CatalogueGroup(device="mixer", name=name, interval_ns=NS, tags=tags),))


def published(view: UnifiedNamespace, catalogue: Catalogue, block: SampleBlock, where: BlockOrigin) -> list[Messages]:
    return list(view.messages(b"digest", catalogue, block, where))


def by_topic(messages: list[Messages]) -> dict[str, Any]:
    """Payloads, of which the last one of a topic stays."""
    pairs = [pair for each in messages for pair in zip(each.topics, each.payloads, strict=True)]
    return {topic[2:].decode(): orjson.loads(payload) for topic, payload in pairs}


def expected_payload(tag: CatalogueTag, raw: Any, code: int, source_ns: int, where: BlockOrigin) -> dict[str, Any]:
    """What the message of a tag says of one value: the scalar way."""
    value = json_value(in_unit(raw, tag.scale, tag.offset), tag.data_type)
    code = shown_status(code, value)
    value = None if code >> 31 else value
    texts = {json_value(number, tag.data_type): text for number, text in tag.texts}
    payload = {
        "t": rfc3339(where.utc_ns), "v": value, "q": ["good", "uncertain", "bad", "bad"][code >> 30], "sc": code,
        "u": tag.unit, "tu": where.uncertainty_ns, "h": where.arrived_ns - where.utc_ns > 5 * NS, "src": where.source,
    }  # fmt: skip
    if source_ns != NO_TIME and value is not None:
        payload["st"] = rfc3339(source_ns)
    if text := texts.get(value):
        payload["x"] = text
    return payload | ({"unknown": True} if where.has_unknown else {})


@given(data=st.data())
def test_every_message_is_what_the_scalar_way_says(data: st.DataObject) -> None:
    """Its keys in their order, and whole numbers as whole numbers."""
    tags = [replace(tag, name=str(n)) for n, tag in enumerate(data.draw(st.lists(st.sampled_from(TAGS), min_size=1)))]
    catalogue = catalogue_of(*tags)
    layout = catalogue.groups[0].layout
    elements = {"f": st.floats(width=32), "u": st.integers(0, 2), "b": st.booleans()}
    vectors = tuple(
        data.draw(arrays(kind.numpy, len(members), elements=elements[kind.numpy.kind]))
        for kind, members in zip(layout.vector_types, layout.members, strict=True)
    )
    times = tuple(
        data.draw(arrays(np.int64, len(members), elements=st.sampled_from([NO_TIME, NOON_NS - 7, NOON_NS - NS])))
        for members in layout.members
    )
    codes = np.array([data.draw(st.sampled_from(CODES)) for _ in tags], np.uint32)
    age_ns, bound_ns = data.draw(st.sampled_from([1, 6 * NS])), data.draw(st.sampled_from([None, 1500]))
    where = BlockOrigin("00ff/7/0/0", NOON_NS, bound_ns, NOON_NS + age_ns, has_unknown=data.draw(st.booleans()))
    block = SampleBlock(0, 1000, 2000, vectors, None, status_runs(codes), times)

    found = published(UnifiedNamespace("plant"), catalogue, block, where)

    expected = {}
    for number, tag in enumerate(tags):
        vector, place = layout.slots[number]
        said = expected_payload(tag, vectors[vector][place], int(codes[number]), int(times[vector][place]), where)
        expected[f"plant/p/mixer/{tag.name}"] = orjson.dumps(said | ({"v": None} if said["v"] != said["v"] else {}))
    assert {topic: orjson.dumps(payload) for topic, payload in by_topic(found).items()} == expected


MIXER = catalogue_of(TAG, SCALED, VALVE, name="every 1/2 s")
GROUP_TOPIC = "plant/p/mixer/every 1%2F2 s"


def scan(speed: float = 1.5, level: float = 10.0, valve: int = 1, *, codes: tuple[int, ...] = (0, 0, 0)) -> SampleBlock:
    vectors = (np.array([valve], np.uint8), np.array([speed, level], np.float32))
    return SampleBlock(0, 1000, 2000, vectors, None, status_runs(np.array(codes, np.uint32)))


def at(number: int) -> BlockOrigin:
    utc_ns = NOON_NS + number * NS
    return BlockOrigin(f"00ff/{number}/0/0", utc_ns, 1500, utc_ns + 1, "00ff", number)


def device_view(*, is_retained: bool) -> UnifiedNamespace:
    return UnifiedNamespace("plant", shape="device", is_retained=is_retained)


def test_a_device_says_all_of_a_scan_in_one_message_and_its_units_once() -> None:
    [about, first] = published(device_view(is_retained=True), MIXER, scan(), at(1))

    assert by_topic([about]) == {
        f"{GROUP_TOPIC}/tags": {
            "speed": {"u": "/min"}, "level": {"u": "/min"}, "valve": {"u": "", "x": {"0": "closed", "1": 'op"en'}},
        }
    }  # fmt: skip
    assert by_topic([first]) == {
        GROUP_TOPIC: {
            "t": "2025-06-15T15:06:41.123456789Z", "tu": 1500, "h": False, "src": "00ff/1/0/0",
            "values": {"valve": 1, "speed": 1.5, "level": 4.0}, "bad": {},
        }
    }  # fmt: skip


@pytest.mark.parametrize(
    ("is_retained", "values"), [(True, {"valve": 1, "speed": 2.5, "level": 4.0}), (False, {"speed": 2.5})]
)
def test_only_a_message_that_is_not_retained_is_a_fragment(*, is_retained: bool, values: dict[str, float]) -> None:
    """Who subscribes late gets what is retained, and takes it for the whole."""
    slow = catalogue_of(*(replace(tag, at_least_every_ns=60 * NS) for tag in MIXER.groups[0].tags), name="every 1/2 s")
    view = device_view(is_retained=is_retained)
    published(view, slow, scan(), at(1))

    [moved] = published(view, slow, scan(speed=2.5), at(2))
    unmoved = published(view, slow, scan(speed=2.5), at(3))

    assert by_topic([moved])[GROUP_TOPIC]["values"] == values
    assert moved.is_retained == is_retained
    assert unmoved == []


def test_units_are_retained_also_where_values_are_not() -> None:
    about, values = published(device_view(is_retained=False), MIXER, scan(), at(1))

    assert (about.is_retained, values.is_retained) == (True, False)


def test_a_device_names_what_is_not_good_beside_its_values() -> None:
    block = scan(level=float("nan"), codes=(int(StatusCode.BAD_TIMEOUT), 0, 0x00960000))

    found = by_topic(published(device_view(is_retained=True), MIXER, block, at(1)))[GROUP_TOPIC]

    assert found["values"] == {"valve": 1, "speed": None, "level": None}
    assert found["bad"] == {"speed": StatusCode.BAD_TIMEOUT}
    assert found["uncertain"] == {"level": StatusCode.UNCERTAIN_OUT_OF_RANGE}
    assert found["good"] == {"valve": 0x00960000}


def test_a_value_that_never_came_is_no_good_value_in_a_message_with_all_tags() -> None:
    """A relay that starts in the middle of a chain gets what moved first."""
    nowhere = np.array([], np.uint16)
    block = SampleBlock(0, 1000, 2000, (np.array([], np.uint8), np.array([2.5], np.float32)), (nowhere, np.array([0])))

    found = by_topic(published(device_view(is_retained=True), MIXER, block, at(1)))[GROUP_TOPIC]

    assert found["values"] == {"valve": None, "speed": 2.5, "level": None}
    assert found["bad"] == dict.fromkeys(["valve", "level"], StatusCode.BAD_WAITING_FOR_INITIAL_DATA)


def test_a_notification_with_several_values_of_a_tag_is_as_many_messages() -> None:
    nothing = np.array([], np.uint16)
    block = SampleBlock(
        0, 1000, 2000,
        (np.array([], np.uint8), np.array([1.0, 7.0, 2.0], np.float32)),
        (nothing, np.array([0, 1, 0], np.uint16)),
        is_notification=True,
    )  # fmt: skip

    _, first, second = published(device_view(is_retained=False), MIXER, block, at(1))

    assert by_topic([first])[GROUP_TOPIC]["values"] == {"speed": 1.0, "level": 3.7}
    assert by_topic([second])[GROUP_TOPIC]["values"] == {"speed": 2.0}
