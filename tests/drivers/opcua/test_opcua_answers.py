"""Values decoded from a response are those of the library's own decoder; a wrong response gives none."""

from __future__ import annotations

import math
import struct
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary, variant_to_binary
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drivers.opcua.address import NodeAddress
from drivers.opcua.decode import ResponseLayout, read_response
from drivers.opcua.plan import Node, ValueSelector
from drivers.opcua.services import ReadRequest, ServiceFaultError, node_id
from drivers.opcua.settings import DATA_TYPES
from edge.errors import ProtocolViolation
from edge.model import NO_TIME, Layout, StatusCode

T = ua.VariantType
HANDLE = 7
NAMESPACES = ("http://opcfoundation.org/UA/", "urn:own", "http://vendor.example/x")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(-(2**61), 2**61).map(lambda us: EPOCH + timedelta(microseconds=us // 1000))
TEXTS = st.text(max_size=12)
SCALARS: dict[str, tuple[T, st.SearchStrategy[Any]]] = {
    "bool": (T.Boolean, st.booleans()),
    "int8": (T.SByte, st.integers(-(2**7), 2**7 - 1)),
    "uint8": (T.Byte, st.integers(0, 2**8 - 1)),
    "int16": (T.Int16, st.integers(-(2**15), 2**15 - 1)),
    "uint16": (T.UInt16, st.integers(0, 2**16 - 1)),
    "int32": (T.Int32, st.integers(-(2**31), 2**31 - 1)),
    "uint32": (T.UInt32, st.integers(0, 2**32 - 1)),
    "int64": (T.Int64, st.integers(-(2**63), 2**63 - 1)),
    "uint64": (T.UInt64, st.integers(0, 2**64 - 1)),
    "float32": (T.Float, st.floats(width=32)),
    "float64": (T.Double, st.floats()),
    "text": (T.String, TEXTS),
    "datetime": (T.DateTime, MOMENTS),
    "enumeration": (T.Int32, st.integers(-(2**31), 2**31 - 1)),
}
AS_TEXT: dict[T, tuple[st.SearchStrategy[Any], Any]] = {
    T.Guid: (st.uuids(), str),
    T.ByteString: (st.binary(max_size=9), bytes.hex),
    T.XmlElement: (TEXTS.map(ua.XmlElement), lambda xml: xml.Value),
    T.LocalizedText: (
        st.builds(ua.LocalizedText, TEXTS, st.none() | TEXTS),
        lambda text: text.Text or "",
    ),
    T.QualifiedName: (st.builds(ua.QualifiedName, TEXTS, st.integers(0, 9)), lambda name: name.Name),
    T.StatusCode: (st.integers(0, 2**32 - 1).map(lambda code: ua.StatusCode(ua.UInt32(code))),
                   lambda code: f"{code.value:#010x}"),
    T.NodeId: (
        st.one_of(
            st.builds(ua.NodeId, st.integers(0, 2**32 - 1), st.integers(0, 2)),
            st.builds(ua.NodeId, st.text(min_size=1, max_size=9), st.integers(0, 2)),
            st.builds(ua.NodeId, st.uuids(), st.integers(0, 2)),
        ),
        None,
    ),
}  # fmt: skip


def message(values: list[ua.DataValue], handle: int = HANDLE, code: int = 0) -> bytes:
    response = ua.ReadResponse()
    response.ResponseHeader.RequestHandle = handle
    response.ResponseHeader.ServiceResult = ua.StatusCode(ua.UInt32(code))
    response.ResponseHeader.Timestamp = EPOCH
    response.Results = values
    return bytes(struct_to_binary(response))


def node(*selectors: ValueSelector) -> Node:
    return Node(NodeAddress("urn:own", "i", selectors[0].tag), selectors)


def selector(tag: int, kind: str, element: tuple[int, ...] | None = None) -> ValueSelector:
    return ValueSelector(tag, f"tag-{tag}", kind, element, (), 1000)  # type: ignore[arg-type]


class Taken:
    """The values of one response by tag, by a layout that was learned from another or the same one."""

    def __init__(self, layout: ResponseLayout, data: bytes, tags: Layout) -> None:
        layout.update(data)
        vectors = tags.empty()
        for column in layout.columns:
            vectors[column.vector][column.positions] = column.values
        self.values = [vectors[vector][position] for vector, position in tags.slots]
        self.codes = dict(layout.bad)
        flat = np.full(len(tags), NO_TIME)
        if layout.times is not None:
            flat[layout.times.order] = layout.times.times
        self.times = dict(zip(np.concatenate(tags.members).tolist(), flat.tolist(), strict=True))

    def same(self) -> tuple[Any, ...]:
        """Comparable, NaN included."""
        values = [None if tag in self.codes and self.codes[tag] >> 31 else repr(v) for tag, v in enumerate(self.values)]
        return values, self.codes, self.times  # type: ignore[return-value]


def tags_of(nodes: list[Node]) -> Layout:
    selectors = sorted((selector for node in nodes for selector in node.selectors), key=lambda selector: selector.tag)
    return Layout(tuple(DATA_TYPES[selector.type] for selector in selectors))


def learn(data: bytes, nodes: list[Node]) -> ResponseLayout:
    return ResponseLayout(read_response(data, HANDLE, len(nodes)), nodes, tags_of(nodes), {}, NAMESPACES)


def take(data: bytes, nodes: list[Node]) -> Taken:
    return Taken(learn(data, nodes), data, tags_of(nodes))


def nanoseconds(moment: datetime) -> int:
    since = moment - EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000


def expected(kind: str, value: Any) -> Any:
    if kind == "datetime":
        return nanoseconds(value)
    return np.float32(value) if kind == "float32" else value


def is_equal(got: Any, hoped: Any) -> bool:
    if isinstance(hoped, float | np.floating) and math.isnan(hoped):
        return math.isnan(got)
    return bool(got == hoped)


@st.composite
def data_values(draw: st.DrawFn) -> tuple[list[str], list[ua.DataValue]]:
    """Good and uncertain values of any type, with and without times."""
    kinds = draw(st.lists(st.sampled_from(sorted(SCALARS)), min_size=1, max_size=12))
    values = []
    for kind in kinds:
        variant_type, strategy = SCALARS[kind]
        value = ua.DataValue(ua.Variant(draw(strategy), variant_type))
        code = draw(st.sampled_from([0, 0, 0, 0x40000000, 0x80AB0000, 0x00960000]))
        values.append(
            ua.DataValue(
                value.Value,
                ua.StatusCode(ua.UInt32(code)),
                draw(st.none() | MOMENTS),
                draw(st.none() | MOMENTS),
                draw(st.none() | st.integers(0, 9999)),
                draw(st.none() | st.integers(0, 9999)),
            )
        )
    return kinds, values


@given(drawn=data_values())
def test_values_statuses_and_times_are_those_that_the_server_sent(
    drawn: tuple[list[str], list[ua.DataValue]],
) -> None:
    """All scalar types, any status, all 32 bits of it, and the time the server took each value."""
    kinds, values = drawn
    nodes = [node(selector(tag, kind)) for tag, kind in enumerate(kinds)]

    taken = take(message(values), nodes)

    for tag, (kind, value) in enumerate(zip(kinds, values, strict=True)):
        assert taken.codes.get(tag, 0) == value.StatusCode.value
        hoped = NO_TIME if value.SourceTimestamp is None else nanoseconds(value.SourceTimestamp)
        assert taken.times[tag] == hoped
        if not value.StatusCode.value >> 31:
            assert is_equal(taken.values[tag], expected(kind, value.Value.Value))


@given(data=st.data())
@pytest.mark.parametrize("kind", sorted(AS_TEXT, key=lambda kind: str(kind.name)), ids=lambda kind: kind.name)
def test_what_is_no_number_is_recorded_as_text(kind: T, data: st.DataObject) -> None:
    """Names, identifiers and bytes are read in their usual notation."""
    strategy, spelled = AS_TEXT[kind]
    value = data.draw(strategy)

    taken = take(message([ua.DataValue(ua.Variant(value, kind))]), [node(selector(0, "text"))])

    if spelled is not None:
        assert taken.values[0] == spelled(value)
    else:
        namespace = f"nsu={NAMESPACES[value.NamespaceIndex]};" if value.NamespaceIndex else ""
        letter = {int: "i", str: "s", uuid.UUID: "g"}[type(value.Identifier)]
        assert taken.values[0] == f"{namespace}{letter}={value.Identifier}"


@given(
    kind=st.sampled_from(sorted(SCALARS)),
    count=st.integers(1, 9),
    columns=st.integers(1, 3),
    data=st.data(),
)
def test_an_element_of_an_array_or_matrix_is_read_by_its_index(
    kind: str, count: int, columns: int, data: st.DataObject
) -> None:
    """Several tags share one node, and a missing element is BAD alone."""
    variant_type, strategy = SCALARS[kind]
    values = data.draw(st.lists(strategy, min_size=count * columns, max_size=count * columns))
    dimensions = [count, columns] if columns > 1 else None
    rows = [values[first : first + columns] for first in range(0, len(values), columns)] if dimensions else values
    element = data.draw(st.integers(0, count - 1)), data.draw(st.integers(0, columns - 1))
    index = element if dimensions else element[:1]
    beyond = (count, 0) if dimensions else (count,)
    nodes = [node(selector(0, kind, index), selector(1, kind, beyond), selector(2, kind))]

    taken = take(message([ua.DataValue(ua.Variant(rows, variant_type, dimensions, is_array=True))]), nodes)

    assert is_equal(taken.values[0], expected(kind, values[element[0] * columns + element[1]]))
    assert taken.codes == {1: 0x80370000, 2: StatusCode.BAD_DECODING_ERROR}


@given(kind=st.sampled_from(sorted(SCALARS)), other=st.sampled_from(sorted(SCALARS)), data=st.data())
def test_a_value_of_another_type_is_bad_alone_and_a_sentence_says_why(
    kind: str, other: str, data: st.DataObject
) -> None:
    """A type that changed never becomes a number."""
    variant_type, strategy = SCALARS[kind]
    value = ua.DataValue(ua.Variant(data.draw(strategy), variant_type))

    layout = learn(message([value, value]), nodes := [node(selector(0, kind)), node(selector(1, other))])

    taken = Taken(layout, message([value, value]), tags_of(nodes))
    is_same_type = SCALARS[other][0] is variant_type
    assert taken.codes == ({} if is_same_type else {1: StatusCode.BAD_DECODING_ERROR})
    assert len(layout.sentences) == (0 if is_same_type else 1)
    assert all(sentence.startswith("tag-1: the server has") for sentence in layout.sentences)


@given(drawn=data_values(), data=st.data())
@settings(max_examples=300)
def test_a_layout_takes_the_same_from_an_answer_as_a_careful_look_or_does_not_fit(
    drawn: tuple[list[str], list[ua.DataValue]], data: st.DataObject
) -> None:
    """The fast way reads the same as the slow one, whichever byte differs."""
    kinds, values = drawn
    nodes = [node(selector(tag, kind)) for tag, kind in enumerate(kinds)]
    original = message(values)
    layout = learn(original, nodes)
    layout.update(original)
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(0, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.just(len(changed)) | st.integers(0, len(changed)))
    answer = bytes(changed[:cut])

    fits = layout.fits(answer, HANDLE)
    try:
        decoded: Taken | None = take(answer, nodes)
    except (ProtocolViolation, ServiceFaultError):
        decoded = None

    assert not fits or decoded is not None
    if fits and decoded is not None:
        assert Taken(layout, answer, tags_of(nodes)).same() == decoded.same()


@given(drawn=data_values(), other=data_values())
def test_an_answer_with_other_types_or_lengths_does_not_fit(
    drawn: tuple[list[str], list[ua.DataValue]], other: tuple[list[str], list[ua.DataValue]]
) -> None:
    """The layout of one response is used for another only where every position is the same."""
    (kinds, values), (_, others) = drawn, other
    nodes = [node(selector(tag, kind)) for tag, kind in enumerate(kinds)]
    layout = learn(message(values), nodes)
    answer = message((others * len(values))[: len(values)])

    if layout.fits(answer, HANDLE):
        assert Taken(layout, answer, tags_of(nodes)).same() == take(answer, nodes).same()


@given(data=st.binary(max_size=200))
@example(data=message([]) + b"\0")
@example(data=message([])[:-8] + struct.pack("<i", 2**31 - 1))
def test_bytes_that_are_no_answer_are_a_protocol_violation(data: bytes) -> None:
    """No other error is raised, and nothing is allocated by a claimed length."""
    with pytest.raises((ProtocolViolation, ServiceFaultError)):
        read_response(data, HANDLE, 1)


def with_variant(variant: bytes) -> bytes:
    """An answer with one value whose bytes are these."""
    empty = message([])  # It ends with the number of values and the number of diagnostics.
    return empty[:-8] + struct.pack("<i", 1) + b"\x01" + variant + empty[-4:]


NESTED_VARIANTS = b"\x98\x01\x00\x00\x00" * 5_000 + b"\x01\x01"
NESTED_DATA_VALUES = b"\x97\x01\x00\x00\x00\x01" * 5_000 + b"\x01\x01"


@pytest.mark.parametrize(
    "variant",
    [
        b"\x8b" + struct.pack("<i", 2**31 - 1),
        b"\x8c" + struct.pack("<i", 2**31 - 1),
        b"\x0c" + struct.pack("<i", 2**31 - 1),
        b"\x0c" + struct.pack("<i", -2),
        b"\x8b" + struct.pack("<i", -2),
        b"\x0f" + struct.pack("<i", 2**31 - 1),
        b"\x16\x01\x00\x01\x00\x01" + struct.pack("<i", 2**31 - 1),
        b"\x16\x01\x00\x01\x00\x07",
        b"\x11\x09",
        b"\x15\xff",
        b"\x21\x01",
        b"\x41\x01",
        b"\x19" + b"\x40" * 5_000 + b"\x00",
        b"\x98" + struct.pack("<i", 300_000) + b"\x00" * 300_000,
        NESTED_VARIANTS,
        NESTED_DATA_VALUES,
    ],
    ids=range(16),
)
def test_lengths_counts_and_nesting_are_bounded_by_the_bytes_that_are_there(variant: bytes) -> None:
    """A hostile server loses its session, and costs no memory, stack or time."""
    with pytest.raises(ProtocolViolation):
        read_response(with_variant(variant), HANDLE, 1)


@pytest.mark.parametrize("dimensions", [[2, 3], [2**31 - 1, 2**31 - 1], [-1, -2], [0, 2], [2, 1, 1]])
def test_dimensions_that_do_not_multiply_to_the_elements_make_the_tag_bad(dimensions: list[int]) -> None:
    """An element is never read from where wrong dimensions point."""
    lie = struct.pack("<i", len(dimensions)) + b"".join(struct.pack("<i", size) for size in dimensions)
    variant = b"\xc6" + struct.pack("<iii", 2, 1, 2) + lie
    nodes = [node(selector(0, "int32", (0, 1)))]

    taken = take(with_variant(variant), nodes)

    assert taken.codes == {0: StatusCode.BAD_DECODING_ERROR}


def test_the_answer_to_another_request_is_never_taken() -> None:
    """A late answer has another handle, even if everything else is the same."""
    nodes = [node(selector(0, "float64"))]
    values = [ua.DataValue(ua.Variant(1.5, T.Double))]
    layout = learn(message(values), nodes)

    assert not layout.fits(message(values, handle=HANDLE + 1), HANDLE)
    with pytest.raises(ProtocolViolation, match="request handle: expected 7, got 8"):
        read_response(message(values, handle=HANDLE + 1), HANDLE, 1)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_values_than_was_asked_for_is_a_violation(count: int) -> None:
    """Values are known by their order: with one too few, the others would belong to other tags."""
    values = [ua.DataValue(ua.Variant(1.5, T.Double))] * count

    with pytest.raises(ProtocolViolation, match=f"number of values: expected 2, got {count}"):
        read_response(message(values), HANDLE, 2)


def test_a_refused_service_is_told_by_its_code_in_both_ways_servers_have() -> None:
    """As a ServiceFault, or as an answer whose header says so."""
    fault = ua.ServiceFault()
    fault.ResponseHeader.RequestHandle = HANDLE
    fault.ResponseHeader.ServiceResult = ua.StatusCode(ua.UInt32(0x80250000))

    for data in (bytes(struct_to_binary(fault)), message([], code=0x80250000)):
        with pytest.raises(ServiceFaultError) as caught:
            read_response(data, HANDLE, 1)
        assert caught.value.code == 0x80250000


@pytest.mark.parametrize(
    ("file_time", "code"), [(0, 0x803C0000), (-5, 0x803C0000), (2**63 - 1, 0x803C0000), (133 * 10**15, None)]
)
def test_a_date_beyond_what_nanoseconds_tell_is_bad(file_time: int, code: int | None) -> None:
    """1601, which many servers send for no date, does not become a date in another century."""
    nodes = [node(selector(0, "datetime"))]

    taken = take(with_variant(b"\x0d" + struct.pack("<q", file_time)), nodes)

    assert taken.codes.get(0) == code


def test_a_text_that_is_too_long_or_not_utf_8_is_bad_and_good_again_with_the_next_answer() -> None:
    """The bytes of a text may change without its length: it is decoded each time."""
    nodes = [Node(NodeAddress("urn:own", "i", 0), (ValueSelector(0, "tag-0", "text", None, (), 4),))]
    texts = [b"good", b"\xff\xfe\xfd\xfc", b"fine"]
    answers = [with_variant(b"\x0c" + struct.pack("<i", len(text)) + text) for text in texts]
    layout = learn(answers[0], nodes)

    codes = [Taken(layout, data, tags_of(nodes)).codes for data in answers if layout.fits(data, HANDLE)]

    assert codes == [{}, {0: StatusCode.BAD_DECODING_ERROR}, {}]
    too_long = with_variant(b"\x0c" + struct.pack("<i", 5) + b"12345")
    assert take(too_long, nodes).codes == {0: 0x80080000}


def test_no_value_and_a_value_within_a_variant() -> None:
    """A good answer without a value is BAD, and an array of anything is read by what each element is."""
    anything = ua.Variant([ua.Variant(1.5, T.Double), ua.Variant("x", T.String)], T.Variant, is_array=True)
    nodes = [
        node(selector(0, "float64")),
        node(selector(1, "float64", (0,)), selector(2, "text", (1,)), selector(3, "text", (0,))),
    ]

    taken = take(message([ua.DataValue(ua.Variant()), ua.DataValue(anything)]), nodes)

    assert taken.values[1:3] == [1.5, "x"]
    assert taken.codes == {0: 0x809B0000, 3: StatusCode.BAD_DECODING_ERROR}


ADDRESSES = st.one_of(
    st.builds(NodeAddress, st.just("u"), st.just("i"), st.integers(0, 2**32 - 1)),
    st.builds(NodeAddress, st.just("u"), st.just("s"), st.text(min_size=1, max_size=20)),
    st.builds(NodeAddress, st.just("u"), st.just("g"), st.uuids()),
    st.builds(NodeAddress, st.just("u"), st.just("b"), st.binary(min_size=1, max_size=20)),
)


@given(
    addresses=st.lists(ADDRESSES, max_size=9),
    index=st.integers(0, 2**16 - 1),
    handle=st.integers(0, 2**32 - 1),
    utc_ns=st.integers(0, 2**62),
)
def test_a_request_is_the_one_that_the_library_would_build(
    addresses: list[NodeAddress], index: int, handle: int, utc_ns: int
) -> None:
    """It requests source timestamps and MaxAge 0, with the session's token."""
    token = ua.NodeId(uuid.UUID(int=5), 3)
    from asyncua.ua.ua_binary import nodeid_to_binary

    request = ReadRequest([node_id(address.identifier, index) for address in addresses], nodeid_to_binary(token), 5_000)
    request.body(1, 1)
    read = struct_from_binary(ua.ReadRequest, Buffer(request.body(handle, utc_ns)))

    header, asked = read.RequestHeader, read.Parameters
    assert read.TypeId.Identifier == 631
    assert (header.RequestHandle, header.TimeoutHint, header.ReturnDiagnostics) == (handle, 5_000, 0)
    assert header.AuthenticationToken == token
    assert (asked.MaxAge, asked.TimestampsToReturn) == (0, ua.TimestampsToReturn.Source)
    assert [(item.NodeId.Identifier, item.NodeId.NamespaceIndex) for item in asked.NodesToRead] == [
        (address.identifier, index) for address in addresses
    ]
    assert all(item.AttributeId == ua.AttributeIds.Value and item.IndexRange is None for item in asked.NodesToRead)
    assert all(item.DataEncoding == ua.QualifiedName() for item in asked.NodesToRead)


def test_the_helper_of_these_tests_puts_a_variant_where_it_belongs() -> None:
    variant = variant_to_binary(ua.Variant(2.5, T.Double))

    assert take(with_variant(variant), [node(selector(0, "float64"))]).values == [2.5]
