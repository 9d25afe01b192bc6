"""Tags that Kepware exported as CSV: 16 columns, or 17 with Negate Value, in one block or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge.driver import SourceTag
from edge.importers.found import Found, linear, number, one_line
from edge.importers.tables import Cell, Table, text_of

NOTES = (
    "word order is not in the export: First Word Low of the device in Kepware is word_order little; compare a value",
    "the scan rate of the tags is not taken: what counts is every of the scan group",
)
_FIRST, _SECOND, _SIGN = "tag name", "address", "respect data type"
_OTHERS = "record type"  # The first heading of blocks about tags that the server computes.


def is_header(table: Table) -> bool:
    """Whether one of the first rows is the header of a block."""
    return any(_SIGN in (text_of(cell).casefold() for cell in cells) for _, cells in table.rows[:50])


def read(table: Table, found: Found) -> None:
    """Add the tags of a file to what was found."""
    columns: dict[str, int] | None = None
    for row, cells in table.rows:
        texts = [text_of(cell) for cell in cells]
        first = texts[0].casefold() if texts else ""
        if not any(texts) or first.startswith(";"):
            continue
        if first in (_FIRST, _OTHERS):
            headings = [text.casefold().replace(".", "") for text in texts]
            columns = {heading: at for at, heading in enumerate(headings) if heading} if first == _FIRST else None
            continue
        if columns is None:
            name = texts[1] if len(texts) > 1 else texts[0]
            found.left_out(table.origin(row), "the server computes it; it is not in a device", name)
            continue
        values = {heading: texts[at] if at < len(texts) else "" for heading, at in columns.items()}
        damage = _damage(table, row, cells, columns)
        if damage:
            found.left_out(table.origin(row), damage, values[_FIRST])
        else:
            _tag(table, row, values, found)
    for note in NOTES:
        found.note(note)


def _damage(table: Table, row: int, cells: Sequence[Cell], columns: Mapping[str, int]) -> str:
    """What a spreadsheet did to the name or the address."""
    for key in (_FIRST, _SECOND):
        at = columns.get(key, len(cells))
        if at < len(cells) and (why := table.damage(cells[at], row, at + 1)):
            return f"{key} {why}"
    return ""


def _tag(table: Table, row: int, values: Mapping[str, str], found: Found) -> None:
    name, origin = values[_FIRST], table.origin(row)
    if values.get("client access", "").upper() in ("WO", "W"):
        found.left_out(origin, "it can only be written", name)
        return
    keys: dict[str, Any] = {
        "unit": values.get("eng units", ""),
        "description": one_line([values.get("description", "")]),
    }
    try:
        _scale(values, keys, found, row, table)
    except ValueError as error:
        found.left_out(origin, str(error), name)
        return
    found.tags.append(
        SourceTag(origin=origin, levels=tuple(name.split(".")), notation="kepware", address=values.get(_SECOND, ""),
                  type=values.get("data type", ""), keys=keys)
    )  # fmt: skip


def _scale(values: Mapping[str, str], keys: dict[str, Any], found: Found, row: int, table: Table) -> None:
    """Add the keys of its scaling. Raises ValueError where that cannot be understood."""
    how = values.get("scaling", "").casefold().replace(" ", "")
    sign = -1 if values.get("negate value", "").casefold() in ("1", "true") else 1
    if how in ("", "none"):
        if sign < 0:
            keys["scale"] = -1.0
        return
    raw = _number(values, "raw low"), _number(values, "raw high")
    scaled = sign * _number(values, "scaled low"), sign * _number(values, "scaled high")
    if how == "linear":
        keys |= linear(raw, scaled)
        if "1" in (values.get("clamp low"), values.get("clamp high")):
            message = "it was clamped to its scaled range; here a value outside it stays as it is"
            found.changed(table.origin(row), message, values[_FIRST])
    elif how == "squareroot":
        scale = f"the square root of {raw[0]:g}..{raw[1]:g} is {scaled[0]:g}..{scaled[1]:g} {keys['unit']}".strip()
        keys["description"] = one_line([keys["description"], f"({scale})"])
        keys["unit"] = ""
        found.changed(table.origin(row), f"scaling is linear here, so it is the raw value: {scale}", values[_FIRST])
    else:
        raise ValueError(f"its scaling {values['scaling']!r} is not known")


def _number(values: Mapping[str, str], key: str) -> float:
    return number(values.get(key, ""))
