"""Tables of Tidegate, as CSV or as a workbook: the header names keys of tags, each row is a tag."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from edge.config import messages
from edge.config.export import cell
from edge.config.tag_table import INTERVAL, Cell, tag_fields
from edge.driver import SourceTag, TagSettings
from edge.importers.found import Found
from edge.importers.tables import Table, text_of

HEADER_ROWS = 20
"""Most rows above the header, such as a title."""

_ALIASES = {
    "tag": "name", "tagname": "name", "signal": "name", "register": "address", "datatype": "type", "units": "unit",
    "engunits": "unit", "engineeringunit": "unit", "uom": "unit", "desc": "description", "comment": "description",
    "remark": "description", "factor": "scale", "interval": INTERVAL, "instrumentid": "instrument", "loop":
    "instrument", "serialnumber": "serial", "serialno": "serial", "class": "criticality", "certificate":
    "calibration_certificate", "calibrationcertificate": "calibration_certificate", "performed": "calibrated_on",
    "calibrated": "calibrated_on", "calibratedon": "calibrated_on", "due": "calibration_due",
    "calibrationdue": "calibration_due",
}  # fmt: skip
"""What other lists call a column, in lower-case letters."""
_TEXTS = frozenset({"name", "address", "instrument", "serial", "calibration_certificate"})
"""Columns that a spreadsheet damages: they look like numbers and are none."""
_ESSENTIAL = frozenset({"name", "address"})
_REGISTER_DIGITS = 5  # A number with as many has lost no zero: 40001.
_NUMBERS = frozenset({"scale", "divisor", "offset", "deadband"})
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


def header_row(table: Table, model: type[TagSettings]) -> int | None:
    """Where in `table.rows` the header is: the first row that names both a tag and its address."""
    known = tag_fields(model)
    for number, (_, cells) in enumerate(table.rows[:HEADER_ROWS]):
        if {"name", "address"} <= {_key(text_of(cell), known) for cell in cells}:
            return number
    return None


def _key(heading: str, known: Mapping[str, Any]) -> str:
    if heading in known:
        return heading
    letters = re.sub(r"[^a-z0-9]", "", heading.casefold())
    return next((key for key in known if key.replace("_", "") == letters), _ALIASES.get(letters, ""))


def read(table: Table, header: int, model: type[TagSettings], found: Found) -> None:
    """Add the tags of a sheet to what was found."""
    columns, width = _columns(table, header, model, found), len(table.rows[header][1])
    for row, cells in table.rows[header + 1 :]:
        if any(cell != "" for cell in cells):
            keys = _keys(table, row, cells, columns, width, found)
            if keys is not None:
                levels = tuple(str(keys.pop("name", "")).split("/"))
                found.tags.append(SourceTag(origin=table.origin(row), levels=levels, notation="", keys=keys))


def _columns(
    table: Table, header: int, model: type[TagSettings], found: Found
) -> list[tuple[int, str, Cell]]:  # fmt: skip
    """Position, key and parser of each column that is a key."""
    known, used = tag_fields(model), set[str]()
    row, cells = table.rows[header]
    columns = []
    for column, each in enumerate(cells, 1):
        heading = text_of(each)
        key = _key(heading, known)
        if not heading:
            continue
        if not key or key in used:
            message = f"the key {key} has a column already" if key else messages.unknown_key(heading, tuple(known))
            found.left_out(table.origin(row, column), f"the column {heading}: {message}")
            continue
        if key != heading:
            found.changed(table.origin(row, column), f"the column {heading} is the key {key}")
        used.add(key)
        columns.append((column, key, Cell(known[key].annotation)))
    return columns


def _keys(
    table: Table, row: int, cells: Sequence[object], columns: Sequence[tuple[int, str, Cell]], width: int, found: Found
) -> dict[str, Any] | None:
    """The keys of one row; None where a cell that it cannot do without is damaged."""
    keys: dict[str, Any] = {}
    damaged: list[tuple[int, str]] = []
    for column, key, kind in columns:
        cell: Any = cells[column - 1] if column <= len(cells) else ""
        if (key in _TEXTS or cell == "") and (damage := table.damage(cell, row, column)):
            damaged.append((column, f"{key} {damage}"))
            if key in _ESSENTIAL:
                found.left_out(table.origin(row, column), damaged[-1][1], str(keys.get("name", "")))
                return None
        text = text_of(cell)
        if text:
            if key in _TEXTS and isinstance(cell, float) and len(text) < _REGISTER_DIGITS:
                zero = f"{key} is the number {text}, which is also what {text:0>{_REGISTER_DIGITS}} becomes"
                damaged.append((column, f"{zero}; format the column as text"))
            if (plain := _with_point(key, text)) != text:
                found.changed(table.origin(row, column), f"{key} {text} has a decimal comma: {plain}")
            keys[key] = kind.value(plain)
    for column, message in damaged:
        found.suspicious(table.origin(row, column), message, str(keys.get("name", "")))
    extra = [column for column, cell in enumerate(cells, 1) if column > width and cell != ""]
    if extra:
        message = "has more cells than headings; quote cells that hold the separator"
        found.left_out(table.origin(row, extra[0]), message, str(keys.get("name", "")))
        return None
    return keys


def _with_point(key: str, text: str) -> str:
    """A number with a decimal point; of a range, which holds two, only where something else separates them."""
    if key in _NUMBERS and _DECIMAL_COMMA.fullmatch(text):
        return text.replace(",", ".")
    if key == "range" and "," in text and len(parts := re.split(r"\s*(?:;|\||\.\.)\s*", text.strip("[] "))) == 2:
        return "; ".join(part.replace(",", ".") if _DECIMAL_COMMA.fullmatch(part) else part for part in parts)
    return text


def workbook(tags: Sequence[Mapping[str, Any]]) -> bytes:
    """A workbook with one sheet of tags, each cell a text, so that a spreadsheet leaves 007 and 1E5 as they are."""
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    sheet = book.create_sheet("Tags")
    headings = list(dict.fromkeys(key for tag in tags for key in tag))
    sheet.append(headings)
    for tag in tags:
        sheet.append([cell(tag.get(key)) or None for key in headings])
    data = BytesIO()
    book.save(data)
    return data.getvalue()
