"""A workbook as a person sees it: a bold header that stays in sight, columns as wide as what is in them.

Each cell is a text, also in rows that are added below, so that a spreadsheet leaves 007, 1E5 and 40001.10 as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from edge.errors import ConfigError
from edge.importers.tables import EXTRA

CELL_CHARACTERS = 32_767
"""Most characters of a cell in Excel."""

_ESCAPE = re.compile("_(?=x[0-9A-Fa-f]{4}_)")  # Such a text would be read as one character: ECMA-376, 22.4.2.4.
_WIDTHS = 8, 50
_TEXT_FORMAT = "@"


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet: its headings, and a mapping of heading to text for each row."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Mapping[str, str]]


def workbook(sheets: Sequence[Sheet]) -> bytes:
    """A workbook with these sheets. Raises ConfigError where the library is missing."""
    try:
        from openpyxl import Workbook
        from openpyxl.cell import WriteOnlyCell
        from openpyxl.styles import Font
        from openpyxl.utils import get_column_letter
    except ImportError as error:
        raise ConfigError(EXTRA) from error
    book = Workbook(write_only=True)
    bold = Font(bold=True)
    for each in sheets:
        sheet = book.create_sheet(each.title)
        heading, plain = WriteOnlyCell(sheet), WriteOnlyCell(sheet)
        heading.number_format = plain.number_format = _TEXT_FORMAT
        heading.font = bold
        sheet.freeze_panes = "A2"
        for number, key in enumerate(each.headings, 1):
            longest = max((len(row.get(key, "")) for row in each.rows), default=0)
            column = sheet.column_dimensions[get_column_letter(number)]
            column.width = min(max(longest + 2, len(key) + 4, _WIDTHS[0]), _WIDTHS[1])
            column.number_format = _TEXT_FORMAT
        sheet.append(_cells(heading, each.headings))
        for row in each.rows:
            sheet.append(_cells(plain, [row.get(key, "") for key in each.headings]))
    data = BytesIO()
    book.save(data)
    return data.getvalue()


def _cells(cell: Any, texts: Sequence[str]) -> Iterator[Any]:
    """The cells of a row: one cell with one text after the other, since to make one takes ten times as long."""
    for text in texts:
        cell.value = _ESCAPE.sub("_x005F_", text)
        cell.data_type = "s"  # Also where it looks like a formula or an error.
        yield cell if text else None
