"""Tables from CSV files and Excel workbooks, with what their programs do to cells.

CSV comes in UTF-8 (with or without a mark), UTF-16 and cp1252, with comma, semicolon or tab between cells. Of a
workbook python-calamine reads the values. It shows neither hidden rows nor formulas, so openpyxl looks again, and only
where the XML has any: it takes ten times as long.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from io import BytesIO, StringIO
from typing import Any
from zipfile import BadZipFile, ZipFile

from edge.driver import Origin
from edge.importers.found import Found, one_line, unreadable

UNPACKED_BYTES = 400 * 2**20
"""Most bytes of a workbook's XML; a bomb has more."""
EXTRA = "this needs libraries that are not installed; install tidegate[import]"

_SEPARATORS = (",", ";", "\t")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_HIDDEN_ROW = re.compile(rb"<row\b[^>]*\bhidden=")
_FORMULA = re.compile(rb"<f[ >/]")
_ERRORS = ("#REF!", "#N/A", "#NAME?", "#VALUE!", "#DIV/0!", "#NULL!", "#NUM!")
_PROTECTED = "it is protected with a password; save a copy without one"
_SCIENTIFIC = re.compile(r"[+-]?\d+(?:[.,]\d+)?[eE][+-]\d+")

Cell = str | float | bool | date | datetime | time | timedelta


@dataclass(slots=True)
class Table:
    """Rows of one sheet, each with its number.

    Attributes:
        separator: what separates the cells of a CSV file; empty for a sheet of a workbook.
        without_value: cells whose formula has no stored value, as (row, column).
        hidden: rows that are hidden, by hand or by a filter.
    """

    file: str
    sheet: str
    rows: Sequence[tuple[int, Sequence[Cell]]]
    separator: str = ""
    without_value: set[tuple[int, int]] = field(default_factory=set)
    merged: Sequence[tuple[int, int, int, int]] = ()
    hidden: Sequence[tuple[int, Sequence[Cell]]] = ()

    def origin(self, row: int = 0, column: int = 0) -> Origin:
        """A place in it."""
        return Origin(self.file, self.sheet, row, column)

    def leave_out_hidden(self, found: Found, column: int) -> None:
        """Remember each hidden row with the name in this column."""
        for row, cells in self.hidden:
            if any(cell != "" for cell in cells):
                name = text_of(cells[column - 1]) if column <= len(cells) else ""
                found.left_out(self.origin(row), "the row is hidden; show it to import it", name)
                found.hidden.add(name)

    def damage(self, cell: Cell, row: int, column: int) -> str:
        """What a spreadsheet did to a cell that should hold a text; empty where nothing shows."""
        if isinstance(cell, str):
            if cell.startswith("#") and cell in _ERRORS:
                return f"holds the error {cell} of a formula"
            if _SCIENTIFIC.fullmatch(cell):
                return f"{cell} was a text such as 1E5 before a spreadsheet took it for a number; write it again"
            if not cell and (row, column) in self.without_value:
                return "holds a formula without a stored value; open the workbook in Excel and save it"
            return self._merged(row, column) if not cell else ""
        if isinstance(cell, float) and not isinstance(cell, bool):
            if cell != int(cell):
                return f"is the number {cell:g}, which is also what {cell:g}0 becomes; format the column as text"
            if cell >= 1e5 and cell % 1e4 == 0:
                return (
                    f"is the number {text_of(cell)}, which is also what {cell:.0E} becomes; format the column as text"
                )
            return ""
        return f"is {'a date' if isinstance(cell, date) else 'no text'} in the sheet; format the column as text"

    def _merged(self, row: int, column: int) -> str:
        for top, left, bottom, right in self.merged:
            if top <= row <= bottom and left <= column <= right:
                return f"is merged with row {top}, column {left}; write the value in each cell"
        return ""


def text_of(cell: Cell) -> str:
    """A cell as text: a whole number without a point, a day without a time."""
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell == int(cell) and abs(cell) < 1e15 else repr(cell)
    if isinstance(cell, datetime) and cell.time() == time(0):
        return cell.date().isoformat()
    return cell.isoformat() if isinstance(cell, date | time) else str(cell)


def csv_table(data: bytes, file: str, found: Found) -> Table:
    """The rows of a CSV file. Raises ConfigError."""
    text, encoding = decode(data, file)
    if encoding == "cp1252":
        found.changed(Origin(file), "it is not in UTF-8 and was read as cp1252, the encoding of Windows")
    first, _, rest = text.partition("\n")
    skipped = 0
    if marked := re.fullmatch(r"sep=(.)\s*", first):  # Excel writes the separator so.
        separator, text, skipped = marked[1], rest, 1
    else:
        lines = [line for line in text[:20_000].split("\n")[:50] if line.strip()] or [""]
        separator = max(_SEPARATORS, key=lambda each: max(line.count(each) for line in lines))
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
    rows, row = list[tuple[int, Sequence[Cell]]](), skipped + 1
    try:
        for cells in reader:
            rows.append((row, [cell.strip() for cell in cells]))
            row = skipped + reader.line_num + 1  # A quoted cell may hold line breaks.
    except csv.Error as error:
        raise unreadable(file, f"row {row}: this is not CSV: {error}") from error
    return Table(file, "", rows, separator)


def decode(data: bytes, file: str) -> tuple[str, str]:
    """The text of a file, and its encoding. Raises ConfigError."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    elif b"\0" in data[:200]:
        encodings = ["utf-16-le" if data[1:2] == b"\0" else "utf-16-be"]
    else:
        encodings = ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            return data.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    raise unreadable(file, "it is no text in UTF-8, UTF-16 or cp1252")


def is_workbook(data: bytes) -> bool:
    """Whether a file is a workbook of Excel, old, new or encrypted."""
    return data.startswith((b"PK\x03\x04", _OLE))


def workbook_tables(data: bytes, file: str, found: Found) -> Iterator[Table]:
    """The visible sheets of a workbook, without hidden rows. Raises ConfigError."""
    if data.startswith(_OLE):
        raise unreadable(
            file, _PROTECTED if _ENCRYPTED in data else "it is in the format of Excel 97; save it as .xlsx"
        )
    try:
        import python_calamine as calamine
    except ImportError as error:
        raise unreadable(file, EXTRA) from error
    hidden, formulas = _second_look(data, file)
    try:
        book = calamine.CalamineWorkbook.from_filelike(BytesIO(data))
        for about in book.sheets_metadata:
            sheet = book.get_sheet_by_name(about.name)
            if about.visible != calamine.SheetVisibleEnum.Visible:
                found.left_out(Origin(file, about.name), "the sheet is hidden; show it to import it")
            elif about.typ == calamine.SheetTypeEnum.WorkSheet:
                yield _table(file, sheet, hidden.get(about.name, set()), formulas.get(about.name, set()))
    except calamine.PasswordError as error:
        raise unreadable(file, _PROTECTED) from error
    except (calamine.CalamineError, OSError, ValueError) as error:
        raise unreadable(file, f"it cannot be read as a workbook: {error}") from error


def _table(file: str, sheet: Any, hidden: set[int], formulas: set[tuple[int, int]]) -> Table:
    """One sheet, as calamine gives it, its hidden rows apart."""
    rows: list[tuple[int, Sequence[Cell]]] = list(enumerate(sheet.to_python(skip_empty_area=False), 1))
    empty = {
        (row, column)
        for row, column in formulas
        if row > len(rows) or column > len(rows[row - 1][1]) or rows[row - 1][1][column - 1] == ""
    }
    merged = [
        (top + 1, left + 1, bottom + 1, right + 1) for (top, left), (bottom, right) in sheet.merged_cell_ranges or ()
    ]
    visible, apart = ([each for each in rows if (each[0] in hidden) is is_hidden] for is_hidden in (False, True))
    return Table(file, sheet.name, visible, without_value=empty, merged=merged, hidden=apart)


def _second_look(data: bytes, file: str) -> tuple[dict[str, set[int]], dict[str, set[tuple[int, int]]]]:
    """Hidden rows, and cells with formulas, by sheet; read only where the XML has any."""
    hidden: dict[str, set[int]] = {}
    formulas: dict[str, set[tuple[int, int]]] = {}
    try:
        with ZipFile(BytesIO(data)) as archive:
            if sum(part.file_size for part in archive.infolist()) > UNPACKED_BYTES:
                raise unreadable(file, f"unpacked it is larger than {UNPACKED_BYTES // 2**20} MiB; split it")
            sheets = (archive.read(part) for part in archive.namelist() if part.startswith("xl/worksheets/sheet"))
            if not any(_HIDDEN_ROW.search(sheet) or _FORMULA.search(sheet) for sheet in sheets):
                return hidden, formulas
        import openpyxl

        book: Any = openpyxl.load_workbook(BytesIO(data))
    except ImportError as error:
        raise unreadable(file, EXTRA) from error
    except (BadZipFile, OSError, KeyError, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise unreadable(file, f"it cannot be read as a workbook: {one_line(str(error).splitlines()[:1])}") from error
    for sheet in book.worksheets:
        hidden[sheet.title] = {row for row, about in sheet.row_dimensions.items() if about.hidden}
        formulas[sheet.title] = {
            (cell.row, cell.column) for row in sheet.iter_rows() for cell in row if cell.data_type == "f"
        }
    return hidden, formulas
