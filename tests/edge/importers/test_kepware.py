"""What Kepware exports, for each driver here that its servers speak for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edge.importers.found import Found

Read = Callable[..., tuple[dict[str, dict[str, Any]], Found]]

SIXTEEN = (
    "Tag Name,Address,Data Type,Respect Data Type,Client Access,Scan Rate,Scaling,Raw Low,Raw High,Scaled Low,"
    "Scaled High,Scaled Data Type,Clamp Low,Clamp High,Eng Units,Description"
)
SEVENTEEN = SIXTEEN + ",Negate Value"
PLAIN = ",1,R/W,100,,,,,,,,,,"


def messages(found: Found, kind: str) -> list[str]:
    return [f"{each.origin.row}: {each.message}" for each in found.findings if each.kind == kind]


def test_levels_scaling_unit_and_description_are_taken(read: Read) -> None:
    tags, found = read(
        f"{SEVENTEEN}\r\n"
        '"Line4.Cell2.Temp","400101",Word,1,R/W,100,Linear,0,4000,-50,150,Double,0,0,"°C","Jacket, outer",0\r\n'
        '"Level","300005",Short,1,RO,100,Linear,0,1000,0,100,Float,1,1,"%","",1\r\n'
        '"Speed","400001",Float,1,R/W,100,,,,,,,,,"rpm","",1\r\n'
    )

    assert tags == {
        "Line4/Cell2/Temp": {"name": "Line4/Cell2/Temp", "address": "4x00101", "type": "uint16", "scale": 0.05,
                             "offset": -50.0, "unit": "Cel", "description": "Jacket, outer"},
        "Level": {"name": "Level", "address": "3x00005", "type": "int16", "scale": -0.1, "unit": "%"},
        "Speed": {"name": "Speed", "address": "4x00001", "type": "float32", "scale": -1.0, "unit": "/min"},
    }  # fmt: skip
    assert found.format == "export of Kepware"
    assert "3: it was clamped to its scaled range; here a value outside it stays as it is" in messages(found, "changed")
    assert any("word order is not in the export" in note for note in found.notes)


def test_a_square_root_is_imported_raw_with_what_it_means(read: Read) -> None:
    tags, found = read(f"{SIXTEEN}\nFlow,400001,Word,1,RO,100,Square Root,0,4095,0,250,Float,0,0,m3/h,Orifice\n")

    meaning = "the square root of 0..4095 is 0..250 m3/h"
    assert tags["Flow"] == {
        "name": "Flow",
        "address": "4x00001",
        "type": "uint16",
        "description": f"Orifice ({meaning})",
    }
    assert messages(found, "changed") == [f"2: scaling is linear here, so it is the raw value: {meaning}"]


@pytest.mark.parametrize(
    ("address", "written", "expected"),
    [
        ("40001.3", "Boolean", {"": {"address": "4x00001.3", "type": "bool"}}),
        ("400001.04", "Boolean", {"": {"address": "4x00001.4", "type": "bool"}}),
        ("000017", "Boolean", {"": {"address": "0x00017", "type": "bool"}}),
        ("400010.20H", "String", {"": {"address": "4x00010", "type": "text", "length": 20}}),
        ("400010.20L", "String", {"": {"address": "4x00010", "type": "text", "length": 20, "byte_order": "little"}}),
        ("400001 [3]", "Float Array", {"[0]": {"address": "4x00001", "type": "float32"},
                                       "[1]": {"address": "4x00003", "type": "float32"},
                                       "[2]": {"address": "4x00005", "type": "float32"}}),
        ("400001[2][2]", "Word Array", {"[0][0]": {"address": "4x00001", "type": "uint16"},
                                        "[0][1]": {"address": "4x00002", "type": "uint16"},
                                        "[1][0]": {"address": "4x00003", "type": "uint16"},
                                        "[1][1]": {"address": "4x00004", "type": "uint16"}}),
        ("400001", "LBCD", {"": {"address": "4x00001", "type": "bcd32"}}),
    ],
)  # fmt: skip
def test_bits_texts_and_arrays_of_registers(
    read: Read, address: str, written: str, expected: dict[str, dict[str, Any]]
) -> None:
    tags, found = read(f"{SIXTEEN}\nT,{address},{written}{PLAIN}\n")

    assert tags == {f"T{suffix}": {"name": f"T{suffix}", **keys} for suffix, keys in expected.items()}
    assert found.findings == []


@pytest.mark.parametrize(
    ("address", "written", "expected"),
    [
        ("Program:Main.Level", "Float", {"address": "Program:Main.Level", "type": "REAL"}),
        ("Word.5", "Boolean", {"address": "Word.5", "type": "BOOL"}),
        ("Levels{10}", "Float Array", {"address": "Levels[0..9]", "type": "REAL"}),
        ("Name.DATA/20", "String", {"address": "Name", "type": "STRING", "length": 20}),
    ],
)
def test_tags_of_a_logix_controller(read: Read, address: str, written: str, expected: dict[str, Any]) -> None:
    tags, _ = read(f"{SIXTEEN}\nT,{address},{written}{PLAIN}\n", "ethernetip")

    assert tags == {"T": {"name": "T", **expected}}


def test_nodes_by_the_index_of_their_namespace_are_left_out(read: Read) -> None:
    tags, found = read(f"{SIXTEEN}\nT,ns=2;s=Temp,Double{PLAIN}\nU,nsu=urn:x;s=Temp,Double{PLAIN}\n", "opcua")

    assert tags == {"U": {"name": "U", "address": "nsu=urn:x;s=Temp", "type": "float64"}}
    assert "the index of a namespace can be another one after a restart" in messages(found, "left out")[0]


def test_several_blocks_in_one_file_are_read_and_computed_tags_left_out(read: Read) -> None:
    tags, found = read(
        f"; exported\n{SIXTEEN}\nA,400001,Word{PLAIN}\n\n{SEVENTEEN}\nB,400002,Word{PLAIN},\n"
        "Record Type,Name,Description,Enabled,Source,Data Type,Run Tag\nAverage Tag,Mean,,1,A,Double,\n"
        f"{SIXTEEN}\nC,400003,Word{PLAIN}\n"
    )

    assert list(tags) == ["A", "B", "C"]
    assert [(each.name, each.message) for each in found.findings] == [
        ("Mean", "the server computes it; it is not in a device")
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (f"T,400001,Date{PLAIN}", "its type 'date' has none here"),
        (f"T,K0001,Word{PLAIN}", "'K0001' is no address of Modbus as Kepware writes it, such as 400101 or 400101.3"),
        ("T,400001,Word,1,WO,100,,,,,,,,,,", "it can only be written"),
        ("T,400001,Word,1,RO,100,Linear,0,0,0,100,Float,0,0,,", "its scaling from 0..0 to 0..100 is no line"),
        ("T,400001,Word,1,RO,100,Cubic,0,1,0,100,Float,0,0,,", "its scaling 'Cubic' is not known"),
        ("T,400001,Word,1,RO,100,Linear,x,1,0,100,Float,0,0,,", "'x' is no number"),
        (f"T,4.00E+05,Word{PLAIN}", "address 4.00E+05 was a text such as 1E5 before a spreadsheet"),
        (f"T,400010,String{PLAIN}", "'400010' is a text and says no length"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_tag_is_left_out_with_its_reason(read: Read, row: str, reason: str) -> None:
    tags, found = read(f"{SIXTEEN}\n{row}\n")

    assert tags == {}
    assert messages(found, "left out")[0].startswith(f"2: {reason}")
