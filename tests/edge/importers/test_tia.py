"""Tag tables of TIA Portal, written by hand after its documented formats."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import openpyxl
import pytest

from edge.importers.found import Found

Read = Callable[..., tuple[dict[str, dict[str, Any]], Found]]

HEADER = ["Name", "Path", "Data Type", "Logical Address", "Comment", "Hmi Visible", "Hmi Accessible", "Hmi Writeable"]


def node(name: str) -> str:
    return f'nsu=http://www.siemens.com/simatic-s7-opcua;s="{name}"'


def table(*rows: list[str]) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "PLC Tags"
    for row in (HEADER, *rows):
        sheet.append(row)
    constants = book.create_sheet("Constants")
    constants.append(["Name", "Path", "Data Type", "Value", "Comment"])
    constants.append(["PI", "Default tag table", "Real", "3.14", ""])
    data = BytesIO()
    book.save(data)
    return data.getvalue()


def test_a_workbook_becomes_nodes_of_the_controllers_server(read: Read) -> None:
    tags, found = read(
        table(
            ["Temp", "Default tag table", "Real", "%MD100", "Jacket °C", "True", "True", "True"],
            ["Pump 1", r"Line4\Pumps", "Bool", "%I0.0", "", "True", "True", "True"],
            ["Hidden", "Line4", "Int", "%MW10", "", "False", "False", "False"],
            ["Motor", "Line4", "DTL", "%M20.0", "", "True", "True", "True"],
        ),
        "opcua",
    )

    assert tags == {
        "Temp": {"name": "Temp", "address": node("Temp"), "type": "float32", "description": "Jacket °C"},
        "Line4/Pumps/Pump 1": {"name": "Line4/Pumps/Pump 1", "address": node("Pump 1"), "type": "bool"},
    }
    assert [(str(each.origin), each.message) for each in found.findings] == [
        ("list, sheet PLC Tags, row 4", "it is not accessible from HMI and OPC UA: set this in TIA Portal"),
        ("list, sheet Constants", "the sheet has no row with the headings name and address"),
        ("list, sheet PLC Tags, row 5", "its type 'DTL' has none here"),
    ]
    assert found.format == "tag table of TIA Portal"


EDITOR = """\
<?xml version='1.0' encoding='utf-8'?>
<Tagtable name='Pumps'>
  <Tag type='Word' hmiVisible='True' hmiWriteable='True' hmiAccessible='True' remark='raw' addr='%IW64'>Level</Tag>
  <Tag type='Int' hmiVisible='False' hmiAccessible='False' remark='' addr='%MW2'>Secret</Tag>
</Tagtable>
"""

OPENNESS = """\
<?xml version="1.0" encoding="utf-8"?>
<Document><Engineering version="V17"/><SW.Tags.PlcTagTable ID="0"><AttributeList><Name>Pumps</Name></AttributeList>
<ObjectList><SW.Tags.PlcTag ID="1" CompositionName="Tags"><AttributeList><DataTypeName>Word</DataTypeName>
<ExternalAccessible>true</ExternalAccessible><LogicalAddress>%IW64</LogicalAddress><Name>Level</Name></AttributeList>
<ObjectList><MultilingualText ID="2" CompositionName="Comment"><ObjectList><MultilingualTextItem ID="3">
<AttributeList><Culture>en-US</Culture><Text>raw</Text></AttributeList></MultilingualTextItem></ObjectList>
</MultilingualText></ObjectList></SW.Tags.PlcTag>
<SW.Tags.PlcTag ID="4" CompositionName="Tags"><AttributeList><DataTypeName>Int</DataTypeName>
<ExternalAccessible>false</ExternalAccessible><Name>Secret</Name></AttributeList></SW.Tags.PlcTag>
</ObjectList></SW.Tags.PlcTagTable></Document>
"""


@pytest.mark.parametrize("text", [EDITOR, OPENNESS], ids=["editor", "openness"])
def test_xml_of_the_editor_and_of_openness_says_the_same(read: Read, text: str) -> None:
    tags, found = read(text, "opcua")

    assert tags == {
        "Pumps/Level": {"name": "Pumps/Level", "address": node("Level"), "type": "uint16", "description": "raw"}
    }
    assert [(each.name, each.message) for each in found.findings] == [
        ("Secret", "it is not accessible from HMI and OPC UA: set this in TIA Portal")
    ]
    assert found.notes[0].startswith("tags are read from the OPC UA server of the controller")
