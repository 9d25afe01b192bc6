"""What every MQTT packet is made of."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.mqtt import codec
from edge.mqtt.codec import MalformedPacket, PacketReader, Property, Splitter

_ALL = frozenset(Property)
_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
_values = {
    **dict.fromkeys(codec._BYTE, st.integers(0, 255)),
    **dict.fromkeys(codec._U16, st.integers(0, 65_535)),
    **dict.fromkeys(codec._U32, st.integers(0, 2**32 - 1)),
    **dict.fromkeys(codec._BINARY, st.binary(max_size=20)),
    Property.SUBSCRIPTION_IDENTIFIER: st.lists(st.integers(0, 268_435_455), min_size=1, max_size=3),
    Property.USER_PROPERTY: st.lists(st.tuples(_text, _text), min_size=1, max_size=3),
}
_properties = st.fixed_dictionaries({}, optional={key: _values.get(key, _text) for key in Property})
_packets = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=6)


@pytest.mark.parametrize(
    ("number", "encoded"),
    [(0, "00"), (127, "7f"), (128, "8001"), (16_383, "ff7f"), (16_384, "808001"), (268_435_455, "ffffff7f")],
)
def test_a_variable_byte_integer_is_written_as_in_the_standard(number: int, encoded: str) -> None:
    assert codec.encode_varint(number).hex() == encoded
    assert PacketReader(bytes.fromhex(encoded)).varint() == number


@pytest.mark.parametrize("encoded", ["8000", "ff8000", "80808080", "ffffffff7f", "80", ""])
def test_a_variable_byte_integer_in_another_form_is_refused(encoded: str) -> None:
    with pytest.raises(MalformedPacket):
        PacketReader(bytes.fromhex(encoded)).varint()


@given(_properties)
def test_properties_come_back_as_they_were_written(properties: dict[int, object]) -> None:
    reader = PacketReader(codec.encode_properties(properties))

    assert reader.properties(_ALL) == properties
    reader.expect_end()


def test_a_property_that_appears_twice_is_refused() -> None:
    with pytest.raises(MalformedPacket, match="twice"):
        PacketReader(b"\x06\x21\x00\x01\x21\x00\x02").properties(_ALL)


def test_a_property_without_a_place_in_its_packet_is_refused() -> None:
    with pytest.raises(MalformedPacket, match="no place"):
        PacketReader(b"\x03\x21\x00\x01").properties(frozenset())


@given(st.binary(max_size=60))
def test_any_bytes_are_properties_or_malformed(data: bytes) -> None:
    with suppress(MalformedPacket):
        PacketReader(data).properties(_ALL)


@given(_packets, st.data())
def test_packets_are_the_same_however_the_stream_is_cut(packets: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(codec.packet(first, body) for first, body in packets)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    splitter = Splitter(1_000)

    found = [
        packet for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) for packet in splitter.feed(stream[a:b])
    ]

    assert found == packets


def test_a_packet_over_the_limit_is_refused_before_it_is_held() -> None:
    with pytest.raises(MalformedPacket, match="at most 100"):
        Splitter(100).feed(b"\x40" + codec.encode_varint(100))


def test_a_length_of_five_bytes_is_refused() -> None:
    with pytest.raises(MalformedPacket, match="longer than four"):
        Splitter(100).feed(b"\x40\xff\xff\xff\xff\x01")
