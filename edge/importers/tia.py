"""Tag tables of TIA Portal, as XLSX and XML, as nodes of the controller's own OPC UA server.

The server names a tag by its name in quotes, not by its address; it shows those that HMI and OPC UA may access.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree.ElementTree import Element

from edge.driver import Origin, SourceTag
from edge.importers.found import Found, one_line
from edge.importers.markup import origin_of
from edge.importers.tables import Table, text_of

NOTE = "tags are read from the OPC UA server of the controller, which has to be on; data blocks are in no tag table"

_SIGNS = {"Name", "Data Type", "Logical Address"}
_OPENNESS = "SW.Tags.PlcTag"


def header_row(table: Table) -> int | None:
    """Where in `table.rows` the header of a tag table is."""
    rows = (number for number, (_, cells) in enumerate(table.rows[:5]) if {text_of(cell) for cell in cells} >= _SIGNS)
    return next(rows, None)


def read_sheet(table: Table, header: int, found: Found) -> None:
    """Add the tags of a sheet to what was found."""
    headings = [text_of(cell) for cell in table.rows[header][1]]
    for row, cells in table.rows[header + 1 :]:
        values = {"Name": ""} | dict(zip(headings, map(text_of, cells), strict=False))
        if not any(values.values()) or len(cells) <= headings.index("Name"):
            continue
        damage = table.damage(cells[headings.index("Name")], row, headings.index("Name") + 1)
        if damage:
            found.left_out(table.origin(row, headings.index("Name") + 1), f"Name {damage}", values["Name"])
        else:
            _add(values, values.get("Path", ""), values.get("Hmi Accessible", ""), table.origin(row), found)
    table.leave_out_hidden(found, headings.index("Name") + 1)
    found.note(NOTE)


def is_tag_table(root: Element) -> bool:
    """Whether an XML file is a tag table, of the editor or of Openness."""
    return root.tag == "Tagtable" or (root.tag == "Document" and root.find(".//SW.Tags.PlcTagTable") is not None)


def read_xml(root: Element, file: str, found: Found) -> None:
    """Add the tags of an XML file to what was found."""
    path = root.get("name") or root.findtext(".//SW.Tags.PlcTagTable/AttributeList/Name") or ""
    for tag in root.iter("Tag"):
        values = {"Name": (tag.text or "").strip(), "Data Type": tag.get("type", ""), "Comment": tag.get("remark", "")}
        _add(values, path, tag.get("hmiAccessible", ""), origin_of(tag, file), found)
    for tag in root.iter(_OPENNESS):
        about = {each.tag: (each.text or "").strip() for each in tag.findall("AttributeList/*")}
        comments = (each.findtext("AttributeList/Text") or "" for each in tag.iter("MultilingualTextItem"))
        values = {"Name": about.get("Name", ""), "Data Type": about.get("DataTypeName", "")}
        values["Comment"] = next(filter(None, comments), "")
        _add(values, path, about.get("ExternalAccessible", ""), origin_of(tag, file), found)
    found.note(NOTE)


def _add(values: Mapping[str, str], path: str, accessible: str, origin: Origin, found: Found) -> None:
    name = values["Name"]
    if accessible.casefold() == "false":
        found.left_out(origin, "it is not accessible from HMI and OPC UA: set this in TIA Portal", name)
        return
    levels = (*filter(None, re.split(r"[\\/]", path)), name) if path not in ("", "Default tag table") else (name,)
    keys = {"description": one_line([values.get("Comment", "")])}
    kind = values.get("Data Type", "").strip('"')
    found.tags.append(
        SourceTag(origin=origin, levels=levels, notation="tia", address=name, type=kind, keys=keys)
    )  # fmt: skip
