"""The two sheets of a workbook of devices and tags, as rows by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.config.devices import tag_model
from edge.config.fields import Field, is_secret
from edge.config.tag_table import tag_fields
from edge.driver import DeviceSettings, Origin, installed, load
from edge.importers.found import Found, unreadable
from edge.importers.own import columns_of, header_row, texts_of
from edge.importers.tables import Table, is_workbook, text_of, workbook_tables
from edge.tags.prepare import GROUP
from edge.tags.site import DEVICE, DRIVER, Site, device_fields, is_free

FORMAT = "workbook of devices and tags"


@dataclass(slots=True)
class Row:
    """A row of a sheet, and the position of each key."""

    table: Table
    number: int
    cells: Sequence[Any]
    columns: Sequence[tuple[int, str]]
    width: int

    def __getitem__(self, key: str) -> str:
        return next((self._text(column) for column, each in self.columns if each == key), "")

    def _text(self, column: int) -> str:
        return text_of(self.cell(column))

    def origin(self, key: str = "") -> Origin:
        """The place of a key, or of the section that it is in."""
        while key and key not in (known := {each: column for column, each in self.columns}):
            key = key.rpartition(".")[0]
        return self.table.origin(self.number, known[key] if key else 0)

    def cell(self, column: int) -> Any:
        """The cell of a column."""
        return self.cells[column - 1] if column <= len(self.cells) else ""

    def damage(self, column: int) -> str:
        """What a spreadsheet did to a cell of a text, or to an empty one."""
        return self.table.damage(self.cell(column), self.number, column)

    def changed(self, shown: Mapping[str, str], found: Found) -> dict[str, str] | None:
        """The cells that are not as they are shown now, by key; None where the row cannot be used."""
        other = [(column, key) for column, key in self.columns if self._text(column) != shown.get(key, "")]
        if not other:
            return {}
        texts = texts_of(self.table, self.number, self.cells, other, found, self.width)
        if texts is None:
            return None
        # An empty cell that a spreadsheet has damaged says nothing.
        return {key: texts.get(key, "") for column, key in other if key in texts or not self.damage(column)}


@dataclass(slots=True)
class Sheets:
    """The rows of a workbook by their names, None where it has no such sheet; tags by the device of each.

    Attributes:
        hidden: names of tags whose rows are hidden, by device, and of devices, by nothing.
    """

    devices: dict[str, Row] | None = None
    tags: dict[str, dict[str, Row]] | None = None
    hidden: dict[str, set[str]] = field(default_factory=dict)


def read_sheets(data: bytes, file: str, site: Site, found: Found) -> Sheets:
    """The rows of a workbook; those that cannot be used are among the findings. Raises ConfigError."""
    if not is_workbook(data):
        raise unreadable(file, f"only a {FORMAT} names the devices of its tags; choose a device with --device")
    found.format = FORMAT
    sheets, tables = Sheets(), list(workbook_tables(data, file, found))
    known = dict.fromkeys(("name", DRIVER))
    headers = [(each, header) for each in tables if (header := header_row(each, known, known)) is not None]
    named = {text_of(cell) for table, header in headers for _, cells in table.rows[header:] for cell in cells}
    kinds = {each.kind for each in site.devices.values()} | {load(name) for name in installed() if name in named}
    models: list[type[DeviceSettings]] = [DeviceSettings, *(kind.settings for kind in kinds)]
    fields = {key: each for model in models for key, each in device_fields(model).items()}
    for table, header in headers:
        sheets.devices = {} if sheets.devices is None else sheets.devices
        _add_rows(table, header, _device_columns(table, header, fields, found), {"": sheets.devices}, sheets, found)
    of_tags = dict.fromkeys([DEVICE, GROUP, *(key for model in models for key in tag_fields(tag_model(model)))])
    for table in tables:
        if (header := header_row(table, of_tags, ("name", DEVICE))) is not None:
            sheets.tags = {} if sheets.tags is None else sheets.tags
            _add_rows(table, header, columns_of(table, header, of_tags, found), sheets.tags, sheets, found)
    if sheets.devices is None and sheets.tags is None:
        what = f"it is no {FORMAT}: no visible sheet has the headings name and driver, nor device and name"
        raise unreadable(file, f"{what}; `tidegate workbook` writes such a one, and tags alone need --device")
    return sheets


def _device_columns(table: Table, header: int, fields: Mapping[str, Field], found: Found) -> list[tuple[int, str]]:
    free = [key for each in table.rows[header][1] if is_free(key := text_of(each), fields)]
    columns = columns_of(table, header, [*fields, *free], found)
    for column, key in columns:
        if key in fields and is_secret(fields[key]):
            why = f"the column {key}: it leads to a secret; write it into the configuration"
            found.left_out(table.origin(table.rows[header][0], column), why)
    return [(column, key) for column, key in columns if not (key in fields and is_secret(fields[key]))]


def _add_rows(
    table: Table, header: int, columns: Sequence[tuple[int, str]], rows: dict[str, dict[str, Row]], sheets: Sheets,
    found: Found,
) -> None:  # fmt: skip
    """Add the rows below a header, by device and name."""
    width = len(table.rows[header][1])
    position = {key: column for column, key in columns}
    identity = [(position[key], key) for key in ("name", DEVICE) if key in position]
    table.leave_out_hidden(found, position["name"])
    for number, cells in table.hidden:
        row = Row(table, number, cells, columns, width)
        sheets.hidden.setdefault(row[DEVICE], set()).add(row["name"])
    for number, cells in table.rows[header + 1 :]:
        row = Row(table, number, cells, columns, width)
        if all(text_of(each) == "" for each in cells) and not any(row.damage(column) for column, _ in identity):
            continue
        names = texts_of(table, number, cells, identity, found, width)
        if names is None:
            continue
        if empty := [key for _, key in identity if not names.get(key)]:
            found.left_out(row.origin(empty[0]), f"it has no {empty[0]}", names.get("name", ""))
            continue
        others = rows.setdefault(names.get(DEVICE, ""), {})
        if names["name"] in others:
            before = others[names["name"]].origin()
            found.left_out(row.origin(), f"the name is taken by {before}", names["name"])
        else:
            others[names["name"]] = row
