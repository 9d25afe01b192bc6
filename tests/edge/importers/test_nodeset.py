"""Node sets: each node by the URI of its namespace, with unit and range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge.importers.found import Found

Read = Callable[..., tuple[dict[str, dict[str, Any]], Found]]

NODES = """\
<?xml version="1.0" encoding="utf-8"?>
<UANodeSet xmlns="http://opcfoundation.org/UA/2011/03/UANodeSet.xsd"
  xmlns:uax="http://opcfoundation.org/UA/2008/02/Types.xsd">
  <NamespaceUris><Uri>http://vendor.example/other</Uri><Uri>http://vendor.example/line;4</Uri></NamespaceUris>
  <Aliases><Alias Alias="Double">i=11</Alias><Alias Alias="HasComponent">i=47</Alias>
    <Alias Alias="HasProperty">i=46</Alias><Alias Alias="HasSubtype">i=45</Alias></Aliases>
  <UADataType NodeId="ns=2;i=3001" BrowseName="2:State"><References>
    <Reference ReferenceType="HasSubtype" IsForward="false">i=29</Reference></References></UADataType>
  <UADataType NodeId="ns=2;i=3002" BrowseName="2:Recipe"><References>
    <Reference ReferenceType="HasSubtype" IsForward="false">i=22</Reference></References></UADataType>
  <UAObjectType NodeId="ns=2;i=1001" BrowseName="2:TankType"/>
  <UAVariable NodeId="ns=2;i=6000" BrowseName="2:Level" DataType="Double"><References>
    <Reference ReferenceType="HasComponent" IsForward="false">ns=2;i=1001</Reference></References></UAVariable>
  <UAObject NodeId="ns=2;s=Tank" BrowseName="2:Tank" ParentNodeId="i=85"><References>
    <Reference ReferenceType="Organizes" IsForward="false">i=85</Reference></References></UAObject>
  <UAVariable NodeId="ns=2;s=Tank.Temp" BrowseName="2:Temp" DataType="Double"><Description>Jacket</Description>
    <References><Reference ReferenceType="HasComponent" IsForward="false">ns=2;s=Tank</Reference></References>
  </UAVariable>
  <UAVariable NodeId="ns=2;i=6001" BrowseName="0:EURange" DataType="i=884"><References>
    <Reference ReferenceType="HasProperty" IsForward="false">ns=2;s=Tank.Temp</Reference></References>
    <Value><uax:ExtensionObject><uax:TypeId><uax:Identifier>i=885</uax:Identifier></uax:TypeId><uax:Body><uax:Range>
    <uax:Low>-20</uax:Low><uax:High>150.5</uax:High></uax:Range></uax:Body></uax:ExtensionObject></Value></UAVariable>
  <UAVariable NodeId="ns=2;i=6002" BrowseName="0:EngineeringUnits" DataType="i=887"><References>
    <Reference ReferenceType="HasProperty" IsForward="false">ns=2;s=Tank.Temp</Reference></References>
    <Value><uax:ExtensionObject><uax:Body><uax:EUInformation><uax:UnitId>4408652</uax:UnitId><uax:DisplayName>
    <uax:Text>°C</uax:Text></uax:DisplayName></uax:EUInformation></uax:Body></uax:ExtensionObject></Value></UAVariable>
  <UAVariable NodeId="ns=1;g=72962b91-fa75-4ae6-8d28-b404dc7daf63" BrowseName="1:State" DataType="ns=2;i=3001">
    <References><Reference ReferenceType="HasComponent" IsForward="false">ns=2;s=Tank</Reference></References>
  </UAVariable>
  <UAVariable NodeId="ns=2;i=6003" BrowseName="2:Levels" DataType="i=6" ValueRank="2" ArrayDimensions="2,3"
    ParentNodeId="ns=2;s=Tank"/>
  <UAVariable NodeId="ns=2;i=6004" BrowseName="2:Trend" DataType="i=6" ValueRank="1" ArrayDimensions="0"
    ParentNodeId="ns=2;s=Tank"/>
  <UAVariable NodeId="ns=2;i=6005" BrowseName="2:Recipe" DataType="ns=2;i=3002" ParentNodeId="ns=2;s=Tank"/>
  <UAVariable NodeId="ns=2;i=6006" BrowseName="2:Command" DataType="i=1" AccessLevel="2" ParentNodeId="ns=2;s=Tank"/>
  <UAVariable NodeId="ns=7;i=1" BrowseName="7:Lost" DataType="i=1" ParentNodeId="ns=2;s=Tank"/>
</UANodeSet>
"""


def test_variables_are_written_with_the_uri_and_have_unit_and_range(read: Read) -> None:
    tags, found = read(NODES, "opcua")

    uri = "nsu=http://vendor.example/line%3B4"
    assert tags == {
        "Tank/Temp": {"name": "Tank/Temp", "address": f"{uri};s=Tank.Temp", "type": "float64", "unit": "Cel",
                      "description": "Jacket", "range": [-20.0, 150.5]},
        "Tank/State": {"name": "Tank/State", "type": "enumeration",
                       "address": "nsu=http://vendor.example/other;g=72962b91-fa75-4ae6-8d28-b404dc7daf63"},
        "Tank/Levels": {"name": "Tank/Levels", "address": f"{uri};i=6003", "type": "int32", "index": ["0..1", "0..2"]},
    }  # fmt: skip
    assert found.format == "node set of OPC UA"


def test_what_is_no_value_of_a_server_is_left_out_with_its_reason(read: Read) -> None:
    _, found = read(NODES, "opcua")

    assert {each.name: each.message for each in found.findings if each.kind == "left out"} == {
        "TankType/Level": "it belongs to TankType, which is a type or a method",
        "Tank/Trend": "it is an array whose size is not in the file: browse the server",
        "Tank/Recipe": "its type Recipe is none that can be read as one value",
        "Tank/Command": "its access level does not let it be read",
        "Tank/Lost": "the file has no URI for the namespace of ns=7;i=1",
    }


def test_parents_in_a_circle_end(read: Read) -> None:
    text = NODES.replace('BrowseName="2:Tank" ParentNodeId="i=85"', 'BrowseName="2:Tank"').replace(
        '<Reference ReferenceType="Organizes" IsForward="false">i=85<',
        '<Reference ReferenceType="Organizes" IsForward="false">ns=2;s=Tank<',
    )

    tags, found = read(text, "opcua")

    assert tags == {}
    assert {each.message for each in found.findings} >= {"its parents form a circle"}
