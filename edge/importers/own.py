"""Tables of Tidegate, as CSV or as a workbook: the header names keys of tags, each row is a tag."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from edge.config import messages
from edge.config.fields import Field
from edge.config.tag_table import INTERVAL, Cell
from edge.driver import SourceTag
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
_TEXTS = frozenset({"device", "name", "address", "instrument", "serial", "calibration_certificate"})
"""Columns that a spreadsheet damages: they look like numbers and are none."""
ESSENTIAL = frozenset({"name", "address"})
"""Columns that a row of a tag cannot do without."""
_NEEDED = ESSENTIAL | {"device"}
_REGISTER_DIGITS = 5  # A number with as many has lost no zero: 40001.
_NUMBERS = frozenset({"scale", "divisor", "offset", "deadband"})
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


def header_row(table: Table, known: Mapping[str, Any], wanted: Collection[str] = ESSENTIAL) -> int | None:
    """Where in `table.rows` the header is: the first row that names all wanted columns, such as a tag's address."""
    for number, (_, cells) in enumerate(table.rows[:HEADER_ROWS]):
        if set(wanted) <= {_key(text_of(cell), known) for cell in cells}:
            return number
    return None


def _key(heading: str, known: Mapping[str, Any]) -> str:
    if heading in known:
        return heading
    letters = re.sub(r"[^a-z0-9]", "", heading.casefold())
    key = next((key for key in known if key.replace("_", "") == letters), _ALIASES.get(letters, ""))
    return key if key in known else ""


def read(table: Table, header: int, known: Mapping[str, Field], found: Found) -> None:
    """Add the tags of a sheet to what was found."""
    columns, width = columns_of(table, header, known, found), len(table.rows[header][1])
    kinds = {key: Cell(known[key].annotation) for _, key in columns}
    for row, cells in table.rows[header + 1 :]:
        if any(cell != "" for cell in cells):
            texts = texts_of(table, row, cells, columns, found, width)
            if texts is not None:
                levels = tuple(texts.pop("name", "").split("/"))
                keys = {key: kinds[key].value(text) for key, text in texts.items()}
                found.tags.append(SourceTag(origin=table.origin(row), levels=levels, notation="", keys=keys))
    table.leave_out_hidden(found, next(column for column, key in columns if key == "name"))


def columns_of(table: Table, header: int, known: Collection[str], found: Found) -> list[tuple[int, str]]:
    """Position and key of each column that is a key."""
    names, used = dict.fromkeys(known), set[str]()
    row, cells = table.rows[header]
    columns = []
    for column, each in enumerate(cells, 1):
        heading = text_of(each)
        key = _key(heading, names)
        if not heading:
            continue
        if not key or key in used:
            message = f"the key {key} has a column already" if key else messages.unknown_key(heading, tuple(names))
            found.left_out(table.origin(row, column), f"the column {heading}: {message}")
            continue
        if key != heading:
            found.changed(table.origin(row, column), f"the column {heading} is the key {key}")
        used.add(key)
        columns.append((column, key))
    return columns


def texts_of(
    table: Table, row: int, cells: Sequence[Any], columns: Sequence[tuple[int, str]], found: Found, width: int
) -> dict[str, str] | None:
    """The cells of one row, by key; None where one that it cannot do without is damaged."""
    texts: dict[str, str] = {}
    damaged: list[tuple[int, str]] = []
    for column, key in columns:
        cell = cells[column - 1] if column <= len(cells) else ""
        if (key in _TEXTS or cell == "") and (damage := table.damage(cell, row, column)):
            damaged.append((column, f"{key} {damage}"))
            if key in _NEEDED:
                found.left_out(table.origin(row, column), damaged[-1][1], texts.get("name", ""))
                return None
        text = text_of(cell)
        if text:
            if key in _TEXTS and isinstance(cell, float) and len(text) < _REGISTER_DIGITS:
                zero = f"{key} is the number {text}, which is also what {text:0>{_REGISTER_DIGITS}} becomes"
                damaged.append((column, f"{zero}; format the column as text"))
            if (plain := _with_point(key, text)) != text:
                found.changed(table.origin(row, column), f"{key} {text} has a decimal comma: {plain}")
            texts[key] = plain
    for column, message in damaged:
        found.suspicious(table.origin(row, column), message, texts.get("name", ""))
    extra = [column for column, cell in enumerate(cells, 1) if column > width and cell != ""]
    if extra:
        message = "has more cells than headings; quote cells that hold the separator"
        found.left_out(table.origin(row, extra[0]), message, texts.get("name", ""))
        return None
    return texts


def _with_point(key: str, text: str) -> str:
    """A number with a decimal point; of a range, which holds two, only where something else separates them."""
    if key in _NUMBERS and _DECIMAL_COMMA.fullmatch(text):
        return text.replace(",", ".")
    if key == "range" and "," in text and len(parts := re.split(r"\s*(?:;|\||\.\.)\s*", text.strip("[] "))) == 2:
        return "; ".join(part.replace(",", ".") if _DECIMAL_COMMA.fullmatch(part) else part for part in parts)
    return text
