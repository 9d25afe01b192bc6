"""Which format a file has, by what is in it and not by its name, and the importer for it."""

from __future__ import annotations

from collections.abc import Iterable

from edge.config.tag_table import tag_fields
from edge.driver import TagSettings
from edge.importers import ignition, kepware, logix, nodeset, own, tia
from edge.importers.found import Found, unreadable
from edge.importers.markup import is_xml, parse_xml
from edge.importers.tables import Table, csv_table, is_workbook, workbook_tables

LIMIT_BYTES = 200 * 2**20
"""Largest file that is read."""
FORMATS = (
    "tables with the columns name and address (CSV, XLSX), exports of Kepware (CSV), Logix Designer (L5X, CSV), TIA "
    "Portal (XLSX, XML) and Ignition (JSON), and node sets of OPC UA (XML)"
)
_OF_DEVICES = dict.fromkeys(("name", "driver"))


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
        _tables(workbook_tables(data, file, found), model, found)
    elif is_xml(data):
        _xml(data, file, found)
    elif ignition.is_json(data):
        found.format = "export of Ignition"
        ignition.read(data, file, found)
    else:
        _tables([csv_table(data, file, found)], model, found)
    if not found.format:
        raise unreadable(file, f"its format is not known; there are {FORMATS}")
    return found


def _xml(data: bytes, file: str, found: Found) -> None:
    root = parse_xml(data, file)
    if logix.is_project(root):
        found.format = "project of Logix Designer"
        logix.read_project(root, file, found)
    elif nodeset.is_nodeset(root):
        found.format = "node set of OPC UA"
        nodeset.read(root, file, found)
    elif tia.is_tag_table(root):
        found.format = "tag table of TIA Portal"
        tia.read_xml(root, file, found)


def _tables(tables: Iterable[Table], model: type[TagSettings], found: Found) -> None:
    known = tag_fields(model)
    for table in tables:
        if not table.sheet and kepware.is_header(table):
            found.format = "export of Kepware"
            kepware.read(table, found)
        elif not table.sheet and logix.is_list(table):
            found.format = "tag list of Logix Designer"
            logix.read_list(table, found)
        elif (header := tia.header_row(table)) is not None:
            found.format = "tag table of TIA Portal"
            tia.read_sheet(table, header, found)
        elif own.header_row(table, _OF_DEVICES, _OF_DEVICES) is not None:
            raise unreadable(table.file, f"sheet {table.sheet} holds devices; import the workbook without --device")
        elif (header := own.header_row(table, known)) is not None:
            found.format = "table"
            own.read(table, header, known, found)
        elif table.sheet and any(cell != "" for _, cells in table.rows for cell in cells):
            found.left_out(table.origin(), "the sheet has no row with the headings name and address")
