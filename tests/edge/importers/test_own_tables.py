"""Lists as CSV and XLSX: what Excel and Windows do to them is seen, and said with sheet, row and column."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config.devices import tag_model
from edge.config.export import cell, csv_table
from edge.driver import load
from edge.errors import ConfigError
from edge.importers.formats import read_file
from edge.importers.found import Found
from edge.importers.workbook import Sheet, workbook
from edge.tags.prepare import prepare

Read = Callable[..., tuple[dict[str, dict[str, Any]], Found]]

HEADER = "name,address,type,unit,description\n"


def said(found: Found, kind: str) -> list[str]:
    return [str(each).replace(f" {kind}:", "") for each in found.findings if each.kind == kind]


def book(*rows: list[Any], change: Callable[[Any], object] | None = None) -> bytes:
    made = openpyxl.Workbook()
    sheet = made.active
    assert sheet is not None
    sheet.title = "Tags"
    for row in rows:
        sheet.append(row)
    if change:
        change(made)
    data = BytesIO()
    made.save(data)
    return data.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_is_read_as_windows_and_its_locales_write_it(read: Read, encoding: str, separator: str) -> None:
    text = "name,address,type,unit,description\r\nKühler,holding 1,uint16,bar,Vorlauf größer\r\n".replace(
        ",", separator
    )

    tags, found = read(text.encode(encoding))

    assert tags["Kühler"]["description"] == "Vorlauf größer"
    assert [each for each in said(found, "changed") if "cp1252" in each] == (
        ["list: it is not in UTF-8 and was read as cp1252, the encoding of Windows"] if encoding == "cp1252" else []
    )


def test_excels_own_separator_line_is_understood(read: Read) -> None:
    tags, _ = read("sep=|\nname|address|type\nLevel|holding 1|uint16\n")

    assert list(tags) == ["Level"]


def test_decimal_commas_become_points_and_are_listed(read: Read) -> None:
    tags, found = read("name;address;type;scale;range\nLevel;holding 1;uint16;0,1;0,5; 99,5\n")
    assert tags == {}  # The range is cut at the separator of the file.
    assert said(found, "left out") == [
        "list, row 2, column 6: Level: has more cells than headings; quote cells that hold the separator"
    ]

    tags, found = read('name;address;type;scale;range\nLevel;holding 1;uint16;0,1;"0,5; 99,5"\n')
    assert (tags["Level"]["scale"], tags["Level"]["range"]) == (0.1, [0.5, 99.5])
    assert said(found, "changed") == [
        "list, row 2, column 4: scale 0,1 has a decimal comma: 0.1",
        "list, row 2, column 5: range 0,5; 99,5 has a decimal comma: 0.5; 99.5",
    ]


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        (40001.1, "address is the number 40001.1, which is also what 40001.10 becomes; format the column as text"),
        (1e5, "address is the number 100000, which is also what 1E+05 becomes; format the column as text"),
        (datetime.date(2026, 2, 1), "address is a date in the sheet; format the column as text"),
        (
            "1.00E+05",
            "address 1.00E+05 was a text such as 1E5 before a spreadsheet took it for a number; write it again",
        ),
    ],
)
def test_an_address_that_excel_damaged_is_left_out(read: Read, cell: object, sentence: str) -> None:
    tags, found = read(book(["name", "address", "type"], ["Level", cell, "uint16"]))

    assert tags == {}
    assert said(found, "left out") == [f"list, sheet Tags, row 2, column 2: Level: {sentence}"]


def test_leading_zeros_that_excel_took_are_reported(read: Read) -> None:
    tags, found = read(
        book(["name", "address", "type", "serial", "instrument"], ["Level", "holding 1", "uint16", 7, "TT-007"])
    )

    assert tags["Level"]["serial"] == "7"
    assert said(found, "suspicious") == [
        (
            "list, sheet Tags, row 2, column 4: Level: serial is the number 7, which is also what 00007 becomes; "
            "format the column as text"
        ),
    ]


def test_merged_cells_are_reported_where_they_are_missing(read: Read) -> None:
    def merge(made: Any) -> None:
        made.active.merge_cells("C2:C3")

    tags, found = read(
        book(["name", "address", "type"], ["a", "coil 1", "bool"], ["b", "holding 2", None], change=merge)
    )

    assert list(tags) == ["a"]
    assert (
        "list, sheet Tags, row 3, column 3: b: type is merged with row 2, column 3; write the value in each cell"
        in (said(found, "suspicious"))
    )


def test_a_formula_without_a_stored_value_is_reported(read: Read) -> None:
    tags, found = read(
        book(["name", "address", "type"], ["a", '="holding "&1', "uint16"], ["b", "holding 2", "uint16"])
    )

    assert list(tags) == ["b"]
    assert said(found, "left out") == [
        (
            "list, sheet Tags, row 2, column 2: a: address holds a formula without a stored value; "
            "open the workbook in Excel and save it"
        )
    ]


def test_hidden_sheets_and_rows_are_left_out_and_said(read: Read) -> None:
    def hide(made: Any) -> None:
        made.active.row_dimensions[3].hidden = True
        old = made.create_sheet("Old")
        old.append(["name", "address", "type"])
        old.append(["z", "holding 9", "uint16"])
        old.sheet_state = "hidden"

    tags, found = read(
        book(["name", "address", "type"], ["a", "holding 1", "uint16"], ["b", "holding 2", "uint16"], change=hide)
    )

    assert list(tags) == ["a"]
    assert said(found, "left out") == [
        "list, sheet Tags, row 3: b: the row is hidden; show it to import it",
        "list, sheet Old: the sheet is hidden; show it to import it",
    ]


def test_names_that_differ_by_case_only_are_reported_and_equal_ones_left_out(read: Read) -> None:
    tags, found = read(HEADER + "Level,holding 1,uint16,,\nlevel,holding 2,uint16,,\nLevel,holding 3,uint16,,\n")

    assert list(tags) == ["Level", "level"]
    assert said(found, "suspicious") == ["list, row 3: level: its name differs only by case from Level of list, row 2"]
    assert said(found, "left out") == ["list, row 4: Level: the name is taken by list, row 2"]


def test_unknown_types_are_left_out_with_what_is_meant(read: Read) -> None:
    tags, found = read(HEADER + "Level,holding 1,REAL,,\nSpeed,holding 2,,,\n")

    assert tags == {}
    (real, none) = said(found, "left out")
    assert real.startswith("list, row 2: Level: type must be one of bool,")
    assert real.endswith("got 'REAL'; did you mean float32?")
    assert none == "list, row 3: Speed: 'holding 2' needs a type, such as float32 or uint16"


def test_units_become_ucum_codes_and_names_lose_what_topics_cannot_have(read: Read) -> None:
    tags, found = read(HEADER + "/Line 4/Temp#1,holding 1,uint16,°C,\n")

    assert tags["Line 4/Temp-1"]["unit"] == "Cel"
    assert said(found, "changed") == [
        "list, row 2: Line 4/Temp-1: the name was '/Line 4/Temp#1'; it has no / at an end, and - for + and #",
        "list, row 2: Line 4/Temp-1: unit °C is Cel as a UCUM code",
    ]


def test_columns_by_other_names_are_known_and_unknown_ones_left_out(read: Read) -> None:
    tags, found = read(
        "Tag Name,Register,Data Type,Class,Serial No,Performed,Due,Tolerance,Instrument ID,Certificate,Colour\n"
        "Temp,holding 1,uint16,product,S-1,2026-03-31,2027-03-31,0.5 Cel,TT-1,C-17,red\n"
    )

    assert tags["Temp"] == {
        "name": "Temp", "address": "holding 1", "type": "uint16", "criticality": "product", "serial": "S-1",
        "calibrated_on": "2026-03-31", "calibration_due": "2027-03-31", "tolerance": "0.5 Cel", "instrument": "TT-1",
        "calibration_certificate": "C-17",
    }  # fmt: skip
    assert said(found, "changed")[0] == "list, row 1, column 1: the column Tag Name is the key name"
    assert said(found, "left out")[0].startswith("list, row 1, column 11: the column Colour: unknown key; ")


def test_a_day_in_a_workbook_is_a_day(read: Read) -> None:
    tags, _ = read(
        book(["name", "address", "type", "due"], ["Temp", "holding 1", "uint16", datetime.date(2027, 3, 31)])
    )

    assert tags["Temp"]["calibration_due"] == "2027-03-31"


def test_a_hundred_thousand_rows_are_read(read: Read) -> None:
    rows = "".join(f"t{number},holding {number % 65536},uint16,,\n" for number in range(100_000))

    tags, _ = read(HEADER + rows)

    assert len(tags) == 100_000


ENCRYPTED = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500) + "EncryptedPackage".encode("utf-16-le") + bytes(500)


def bomb() -> bytes:
    data = BytesIO()
    with ZipFile(data, "w", ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(401 * 2**20))
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "list: it is empty"),
        (ENCRYPTED, "list: it is protected with a password; save a copy without one"),
        (ENCRYPTED[:300], "list: it is in the format of Excel 97; save it as .xlsx"),
        (b"PK\x03\x04 torn", "list: it cannot be read as a workbook: File is not a zip file"),
        (b"a,b\n1,2\n", "list: its format is not known; there are"),
        (b'name,address\n"open,1\n', "list: row 2: this is not CSV: unexpected end of data"),
        (b"\xff\xfe\x00", "list: it is no text in UTF-8, UTF-16 or cp1252"),
    ],
)
def test_a_file_that_cannot_be_read_gets_one_sentence(read: Read, data: bytes, sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(data)

    assert str(raised.value).startswith(sentence)


def test_a_workbook_that_unpacks_to_a_bomb_is_refused(read: Read) -> None:
    with pytest.raises(ConfigError, match="unpacked it is larger than 400 MiB"):
        read(bomb())


@pytest.mark.parametrize("row", ['<row r="2"', '<row hidden="1" r="2"'], ids=["values", "second look"])
def test_a_workbook_that_defines_entities_is_refused_in_one_line(read: Read, row: str) -> None:
    """A hidden row has openpyxl read the XML, too."""
    entities = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    data, plain = BytesIO(), ZipFile(BytesIO(book(["name", "address", "type"], ["a", "holding 1", "uint16"])))
    with plain, ZipFile(data, "w", ZIP_DEFLATED) as made:
        for name in plain.namelist():
            text = plain.read(name).decode()
            if name.endswith("sheet1.xml"):
                text = entities + text.replace("holding 1", "&b;").replace('<row r="2"', row)
            made.writestr(name, text)

    with pytest.raises(ConfigError) as raised:
        read(data.getvalue())

    assert str(raised.value).startswith("list: it cannot be read as a workbook: ")
    assert "\n" not in str(raised.value)


def test_a_number_that_excel_wrote_into_csv_with_a_comma_is_left_out(read: Read) -> None:
    tags, found = read("name;address;type\nLevel;1,00E+05;uint16\n")

    assert tags == {}
    assert "address 1,00E+05 was a text such as 1E5 before a spreadsheet" in said(found, "left out")[0]


def test_a_name_that_excel_took_for_a_number_is_reported(read: Read) -> None:
    tags, found = read(book(["name", "address", "type"], [7, "holding 1", "uint16"]))

    assert list(tags) == ["7"]
    assert "name is the number 7, which is also what 00007 becomes" in said(found, "suspicious")[0]


@pytest.mark.parametrize("library", ["python_calamine", "openpyxl", "defusedxml"])
def test_without_the_extra_one_sentence_says_what_is_missing(
    read: Read, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    data = b"<Tagtable/>" if library == "defusedxml" else book(["name", "address"], ["=1", "=2"])
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(ConfigError, match=r"list: this needs .*; install tidegate\[import\]"):
        read(data)


texts = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=20).map(str.strip)
numbers = st.floats(-1e6, 1e6, allow_nan=False).filter(bool)
exported = st.fixed_dictionaries(
    {"address": st.integers(0, 65535).map(lambda number: f"holding {number}"), "type": st.just("uint16")},
    optional={
        "unit": st.sampled_from(["bar", "Cel", "1"]), "scale": numbers, "offset": numbers, "description": texts,
        "range": st.tuples(st.integers(-9, 0), st.integers(1, 9)).map(list), "serial": st.sampled_from(["007", "1E5"]),
        "criticality": st.sampled_from(["product", "process", "safety", "none"]),
    },
)  # fmt: skip


def sheet(tags: list[dict[str, Any]]) -> bytes:
    headings = list(dict.fromkeys(key for tag in tags for key in tag))
    return workbook([Sheet("Tags", headings, [{key: cell(value) for key, value in tag.items()} for tag in tags])])


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(exported, min_size=1, max_size=8), as_workbook=st.booleans())
def test_what_is_exported_is_imported_as_it_was(rows: list[dict[str, Any]], as_workbook: bool) -> None:
    kind = load("modbus")
    model = tag_model(kind.settings)
    tags: list[dict[str, Any]] = [
        {"name": f"t{number}", **{key: value for key, value in row.items() if value != ""}}
        for number, row in enumerate(rows)
    ]
    data = sheet(tags) if as_workbook else csv_table(tags).encode()

    found = read_file(data, "tags", model)
    prepared = prepare(found, model, kind)

    assert [dict(tag.keys) for tag in prepared] == tags
    assert found.findings == []


def test_the_importers_are_no_more_than_was_agreed() -> None:
    root = Path(__file__).parents[3]
    files = [*(root / "edge/importers").glob("*.py"), *root.glob("drivers/*/imports.py")]

    assert sum(len(file.read_text().splitlines()) for file in files) <= 1800
