"""How values lie in the memory of a simulated controller, and how its templates describe them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.ethernetip.simulator import BOOL, DINT, INT, LINT, LREAL, REAL, SINT, STRING, TIMER, Controller
from drivers.ethernetip.simulator.types import DataType, Structure

KINDS: list[DataType] = [BOOL, SINT, INT, DINT, LINT, REAL, LREAL, BOOL[40], SINT[3], INT[2, 3], STRING, TIMER]


@given(members=st.lists(st.sampled_from(KINDS), min_size=1, max_size=12))
def test_members_do_not_overlap_and_begin_where_their_type_wants(members: list[DataType]) -> None:
    made = Controller().structure("Made", {f"m{at}": kind for at, kind in enumerate(members)})

    bits: set[tuple[int, int]] = set()
    for member in made.members.values():
        if member.is_hidden:
            continue
        taken = (
            {(member.offset, member.bit)}
            if member.bit is not None
            else {(at, bit) for at in range(member.offset, member.offset + member.data_type.size) for bit in range(8)}
        )
        assert not taken & bits
        bits |= taken
        assert member.bit is not None or member.offset % member.data_type.alignment == 0
    assert max(at for at, _ in bits) < made.size
    assert made.size % made.alignment == 0


def test_bools_in_a_row_share_hidden_bytes() -> None:
    made = Controller().structure("Flags", {**{f"b{at}": BOOL for at in range(9)}, "n": DINT, "c": BOOL})

    places = {name: (m.offset, m.bit) for name, m in made.members.items() if not m.is_hidden}
    assert places["b7"] == (0, 7)
    assert places["b8"] == (1, 0)
    assert places["n"] == (4, None)
    assert places["c"] == (8, 0)
    assert made.size == 12


def test_a_definition_lists_bits_arrays_and_nested_structures() -> None:
    """1756-PM020: 16 bits of detail, 16 bits of type, 32 bits of offset for each member; then the names."""
    plc = Controller()
    inner = plc.structure("Inner", {"x": REAL})
    outer = plc.structure("Outer", {"on": BOOL, "row": INT[5], "bits": BOOL[40], "in": inner[2]})

    rows = list(struct.iter_unpack("<HHI", outer.definition[: 8 * len(outer.members)]))
    names = outer.definition[8 * len(outer.members) :].split(b"\0")

    assert rows == [(0, 0xC2, 0), (0, 0xC1, 0), (5, 0x20C3, 4), (2, 0x20D3, 16), (2, 0xA000 | inner.template, 24)]
    assert names[0].startswith(b"Outer;n")
    assert names[1].startswith(b"ZZZZZZZZZZOuter")
    assert names[2:-1] == [b"on", b"row", b"bits", b"in"]
    assert 4 * outer.definition_words - 23 >= len(outer.definition)


def test_the_known_structures_have_their_known_handles() -> None:
    assert STRING.reply_type == b"\xa0\x02\xce\x0f"
    assert (STRING.size, TIMER.size, TIMER.reply_type) == (88, 12, b"\xa0\x02\x83\x0f")
    assert TIMER.encode({"DN": True}) == b"\x00\x00\x00\x20" + bytes(8)


def test_another_structure_has_another_handle() -> None:
    plc = Controller()
    first = plc.structure("Same", {"x": REAL, "y": INT})
    second = plc.structure("Same", {"x": REAL, "y": DINT})

    assert (first.handle, first.template) != (second.handle, second.template)
    assert {first, second} == set(plc.structures.values())


def test_values_lie_in_memory_as_they_were_given() -> None:
    plc = Controller()
    point: Structure = plc.structure("Point", {"on": BOOL, "off": BOOL, "x": REAL, "name": STRING, "bits": BOOL[33]})
    tag = plc.tag("P", point[2], [{"on": True, "x": 1.5, "name": "abc", "bits": [True, False, True]}])

    assert tag.memory[0] == 1
    assert tag.memory[4:8] == struct.pack("<f", 1.5)
    assert tag.memory[8:15] == b"\x03\0\0\0abc"
    assert tag.memory[96] == 0b101
    assert not any(tag.memory[point.size :])


def test_a_value_is_given_by_name() -> None:
    plc = Controller()
    point = plc.structure("Point", {"on": BOOL, "x": REAL[3], "bits": BOOL[64]})
    tag = plc.tag("P", point[2])
    plc.tag("Flags", BOOL[40])

    plc["p[1].X[2]"] = 2.5
    plc["P[1].on"] = True
    plc["P[1].bits[33]"] = True
    plc["Flags[39]"] = True

    second = tag.memory[point.size :]
    assert second[0] == 1
    assert second[12:16] == struct.pack("<f", 2.5)
    assert second[16 + 4] == 2
    assert plc["Flags"].memory == b"\0\0\0\0\x80\0\0\0"
    plc["P[1].on"] = False
    assert tag.memory[point.size] == 0


def test_a_value_that_moves_is_asked_at_every_moment() -> None:
    plc = Controller()
    tag = plc.tag("T", DINT[2])
    plc["T[1]"] = int

    tag.move(7.0)
    assert tag.memory == struct.pack("<ii", 0, 7)
    plc["T[1]"] = 3
    tag.move(9.0)
    assert tag.memory == struct.pack("<ii", 0, 3)


@pytest.mark.parametrize("text", ["No", "T[2]", "T.x", "T[0,0]", "T["])
def test_a_value_for_nothing_is_refused(text: str) -> None:
    plc = Controller()
    plc.tag("T", DINT[2])

    with pytest.raises(KeyError):
        plc[text] = 1


@pytest.mark.parametrize("dimensions", [0, (2, 0), (1, 1, 1, 1)])
def test_an_array_has_one_to_three_dimensions(dimensions: int | tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot be an array"):
        DINT[dimensions]
