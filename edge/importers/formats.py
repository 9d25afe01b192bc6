"""Which format a file has, by what is in it and not by its name, and the importer for it."""

from __future__ import annotations

from edge.driver import TagSettings
from edge.importers import kepware, own
from edge.importers.found import Found, unreadable
from edge.importers.tables import Table, csv_table, is_workbook, workbook_tables

LIMIT_BYTES = 200 * 2**20
"""Largest file that is read."""
FORMATS = "tables with the columns name and address (CSV, XLSX), and exports of Kepware (CSV)"


def read_file(data: bytes, file: str, model: type[TagSettings]) -> Found:
    """What a file holds for tags of this kind.

    Raises:
        ConfigError: nothing of it can be imported; the sentence says what would help.
    """
    if len(data) > LIMIT_BYTES:
        raise unreadable(file, f"it is larger than {LIMIT_BYTES // 2**20} MiB; split it")
    if not data.strip():
        raise unreadable(file, "it is empty")
    found = Found("")
    if is_workbook(data):
        _tables(list(workbook_tables(data, file, found)), model, found)
    else:
        _tables([csv_table(data, file, found)], model, found)
    if not found.format:
        raise unreadable(file, f"its format is not known; there are {FORMATS}")
    return found


def _tables(tables: list[Table], model: type[TagSettings], found: Found) -> None:
    for table in tables:
        if not table.sheet and kepware.is_header(table):
            found.format = "Kepware CSV"
            kepware.read(table, found)
        elif (header := own.header_row(table, model)) is not None:
            found.format = "table"
            own.read(table, header, model, found)
        elif table.sheet and any(cell != "" for _, cells in table.rows for cell in cells):
            found.left_out(table.origin(), "the sheet has no row with the headings name and address")
