"""Members of structures: found by the definition, and verified like all else."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.opcua.address import NodeAddress
from drivers.opcua.binary import BinaryReader
from drivers.opcua.datavalue import Form, Structure, StructureField, UnknownStructureError
from drivers.opcua.decode import ResponseLayout, read_response
from drivers.opcua.plan import Node, ValueSelector
from drivers.opcua.services import ServiceFaultError
from drivers.opcua.settings import DATA_TYPES, parse_field
from edge.errors import ProtocolViolation
from edge.model import Layout, StatusCode

HANDLE = 7
ENCODING = b"\x01\x02\x09\x30"  # ns=2;i=12297
WRONG = int(StatusCode.BAD_DECODING_ERROR)

AXIS = Structure("Axis", fields=[StructureField("Position", 11), StructureField("Label", 12)])
MACHINE = Structure(
    "Machine",
    Form.OPTIONAL,
    [
        StructureField("Speed", 5),
        StructureField("Note", 12, is_optional=True),
        StructureField("Axes", AXIS, is_array=True),
        StructureField("Limit", 11, is_optional=True),
        StructureField("Anything", 24),
        StructureField("Last", 6),
    ],
)
EITHER = Structure("Either", Form.UNION, [StructureField("Number", 6), StructureField("Text", 12)])
TREE = Structure("Tree", fields=[StructureField("Value", 6)])
TREE.fields.append(StructureField("Below", TREE, is_array=True))


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<i", len(data)) + data


def machine(speed: int, note: str | None, axes: list[tuple[float, str]], limit: float | None, last: int) -> bytes:
    body = struct.pack("<IH", (note is not None) | (limit is not None) << 1, speed)
    body += b"" if note is None else text(note)
    body += struct.pack("<i", len(axes)) + b"".join(struct.pack("<d", at) + text(label) for at, label in axes)
    body += b"" if limit is None else struct.pack("<d", limit)
    return body + b"\x0b" + struct.pack("<di", 0.5, last)


def message(*bodies: bytes) -> bytes:
    response = ua.ReadResponse()
    response.ResponseHeader.RequestHandle = HANDLE
    empty = bytes(struct_to_binary(response))
    values = b"".join(b"\x01\x16" + ENCODING + b"\x01" + struct.pack("<i", len(body)) + body for body in bodies)
    return empty[:-8] + struct.pack("<i", len(bodies)) + values + empty[-4:]


class Reader:
    """Reads members of the one structure in a response, by a layout that it learned from another."""

    def __init__(self, structure: Structure | None, wanted: dict[str, str], data: bytes) -> None:
        selectors = [
            ValueSelector(tag, f"tag-{tag}", kind, None, parse_field(member), 100)  # type: ignore[arg-type]
            for tag, (member, kind) in enumerate(wanted.items())
        ]
        self.tags = Layout(tuple(DATA_TYPES[selector.type] for selector in selectors))
        nodes = [Node(NodeAddress("urn:x", "i", 1), tuple(selectors))]
        self.layout = ResponseLayout(read_response(data, HANDLE, 1), nodes, self.tags, {ENCODING: structure}, ())

    def take(self, data: bytes) -> list[Any]:
        """The value of each member, or its status as a negative number."""
        self.layout.update(data)
        vectors = self.tags.empty()
        for column in self.layout.columns:
            vectors[column.vector][column.positions] = column.values
        codes = dict(self.layout.bad)
        return [-codes[tag] if tag in codes else vectors[v][p] for tag, (v, p) in enumerate(self.tags.slots)]


def read(structure: Structure | None, wanted: dict[str, str], body: bytes) -> list[Any]:
    data = message(body)
    return Reader(structure, wanted, data).take(data)


MEMBERS = {"Speed": "uint16", "Note": "text", "Axes[1].Position": "float64", "Axes[0].Label": "text",
           "Limit": "float64", "Last": "int32"}  # fmt: skip
TEXTS = st.text(max_size=6)
MACHINES = st.builds(
    machine,
    st.integers(0, 65535),
    st.none() | TEXTS,
    st.lists(st.tuples(st.floats(allow_nan=False), TEXTS), max_size=3),
    st.none() | st.floats(allow_nan=False),
    st.integers(-(2**31), 2**31 - 1),
)


def test_optional_and_nested_members_are_where_the_definition_puts_them() -> None:
    """A member that is absent is BAD alone; those after it are still found."""
    full = machine(1200, "hello", [(0.5, "x"), (1.5, "yy")], 3.0, 9)
    sparse = machine(1200, None, [(0.5, "x")], None, 9)

    assert read(MACHINE, MEMBERS, full) == [1200, "hello", 1.5, "x", 3.0, 9]
    assert read(MACHINE, MEMBERS, sparse) == [1200, -WRONG, -WRONG, "x", -WRONG, 9]


def test_a_union_has_the_member_that_it_has() -> None:
    number, words, nothing = (struct.pack("<Ii", 1, 42), struct.pack("<I", 2) + text("x"), struct.pack("<I", 0))
    members = {"Number": "int32", "Text": "text"}

    assert read(EITHER, members, number) == [42, -WRONG]
    assert read(EITHER, members, words) == [-WRONG, "x"]
    assert read(EITHER, members, nothing) == [-WRONG, -WRONG]
    assert read(EITHER, members, struct.pack("<Ii", 3, 42)) == [-WRONG, -WRONG]


def test_a_union_that_changes_its_member_is_looked_at_again() -> None:
    """Both members have the same size; only the switch before them distinguishes them."""
    either = Structure("Either", Form.UNION, [StructureField("Number", 6), StructureField("Count", 7)])
    before, after = (message(struct.pack("<Ii", switch, 5)) for switch in (1, 2))
    readers = [Reader(either, {member: kind}, before) for member, kind in (("Number", "int32"), ("Count", "uint32"))]

    assert [reader.take(before) for reader in readers] == [[5], [-WRONG]]
    assert not any(reader.layout.fits(after, HANDLE) for reader in readers)


def test_a_body_is_walked_once_for_all_its_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """When each of a thousand tags in one structure read it anew, the loop was blocked for a quarter of a second."""
    wide = Structure("Wide", fields=[StructureField(f"T{number}", 12) for number in range(100)])
    passed: list[int] = []
    monkeypatch.setattr(BinaryReader, "enter_item", lambda reader, depth: passed.append(depth))

    Reader(wide, {f"T{number}": "text" for number in range(100)}, message(text("x") * 100))

    assert len(passed) < 300


def test_a_member_that_is_a_structure_itself_is_said() -> None:
    reader = Reader(MACHINE, {"Axes[0]": "text"}, message(machine(1, None, [(0.5, "x")], None, 9)))

    assert reader.layout.sentences == (
        "tag-0: Axes is a structure; name a member of it, such as Axes[0].Position",
    )  # fmt: skip


def test_a_structure_of_unknown_make_is_bad() -> None:
    assert read(None, {"Speed": "uint16"}, b"\x00" * 8) == [-0x803D0000]


def nested(depth: int) -> bytes:
    return struct.pack("<ii", depth, 1) + nested(depth - 1) if depth else struct.pack("<ii", 0, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        machine(1, None, [], None, 1)[:-1],
        struct.pack("<IHi", 0, 1, 2**31 - 1),
        struct.pack("<IHi", 0, 1, -5),
        struct.pack("<IHi", 1, 1, 2**31 - 1),
    ],
)
def test_a_body_that_does_not_fit_its_definition_is_bad(body: bytes) -> None:
    """Only for the tags of this node: lengths are bounded by the body, and the body by the response."""
    assert read(MACHINE, {"Last": "int32"}, body) == [-WRONG]


def test_structures_within_themselves_are_followed_only_so_far() -> None:
    assert read(TREE, {"Below[0].Below[0].Value": "int32"}, nested(3)) == [1]
    assert read(TREE, {"Value": "int32"}, nested(50)) == [-WRONG]


@given(first=MACHINES, second=MACHINES, data=st.data())
@settings(max_examples=300)
def test_a_layout_takes_the_same_members_as_a_careful_look_or_does_not_fit(
    first: bytes, second: bytes, data: st.DataObject
) -> None:
    """Lengths within a body are verified too: a text that grew moves everything after it."""
    original = message(first)
    reader = Reader(MACHINE, MEMBERS, original)
    reader.take(original)
    changed = bytearray(message(data.draw(st.sampled_from([first, second]))))
    for _ in range(data.draw(st.integers(0, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    answer = bytes(changed)

    fits = reader.layout.fits(answer, HANDLE)
    try:
        decoded = Reader(MACHINE, MEMBERS, answer).take(answer)
    except (ProtocolViolation, ServiceFaultError, UnknownStructureError):
        assert not fits
    else:
        if fits:
            np.testing.assert_equal(reader.take(answer), decoded)
