"""Projects and tag lists of Logix Designer, written by hand after its documented formats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edge.errors import ConfigError
from edge.importers.found import Found

Read = Callable[..., tuple[dict[str, dict[str, Any]], Found]]

TYPES = """\
<DataTypes Use="Context">
<DataType Name="Motor" Family="NoFamily" Class="User"><Members>
<Member Name="ZZZZZZZZZZMotor0" DataType="SINT" Dimension="0" Radix="Decimal" Hidden="true"/>
<Member Name="Running" DataType="BIT" Dimension="0" Hidden="false" Target="ZZZZZZZZZZMotor0" BitNumber="0"
 ExternalAccess="Read Only"/>
<Member Name="Speed" DataType="REAL" Dimension="0" Radix="Float" Hidden="false" ExternalAccess="Read/Write"/>
<Member Name="Limits" DataType="INT" Dimension="4" Radix="Decimal" Hidden="false" ExternalAccess="Read/Write"/>
<Member Name="Secret" DataType="DINT" Dimension="0" Radix="Decimal" Hidden="false" ExternalAccess="None"/>
</Members></DataType>
<DataType Name="STRING_20" Family="StringFamily" Class="User"><Members>
<Member Name="LEN" DataType="DINT" Dimension="0" Hidden="false"/>
<Member Name="DATA" DataType="SINT" Dimension="20" Radix="ASCII" Hidden="false"/>
</Members></DataType>
</DataTypes>
"""


def project(tags: str = "", more: str = "", programs: str = "", head: str = 'TargetType="Controller"') -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
        f'<RSLogix5000Content SchemaRevision="1.0" SoftwareRevision="33.00" {head}>\n'
        f'<Controller Use="Target" Name="Line4">\n{TYPES}{more}<Tags>\n{tags}</Tags>\n'
        f"<Programs>{programs}</Programs></Controller></RSLogix5000Content>\n"
    )


def tag(name: str, kind: str, inside: str = "", **attributes: str) -> str:
    more = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return f'<Tag Name="{name}" TagType="Base" DataType="{kind}"{more}>{inside}</Tag>\n'


def reasons(found: Found) -> dict[str, str]:
    return {each.name: each.message for each in found.findings if each.kind == "left out"}


def test_structures_become_their_members_without_hidden_hosts_of_bits(read: Read) -> None:
    tags, found = read(project(tag("Drive", "Motor")), "ethernetip", "line4.L5X")

    assert tags == {
        "Drive/Running": {"name": "Drive/Running", "address": "Drive.Running", "type": "BOOL"},
        "Drive/Speed": {"name": "Drive/Speed", "address": "Drive.Speed", "type": "REAL"},
        "Drive/Limits": {"name": "Drive/Limits", "address": "Drive.Limits[0..3]", "type": "INT"},
    }
    assert reasons(found) == {"Drive/Secret": "its External Access is None: the controller lets nobody read it"}
    assert found.findings[0].origin.file == "line4.L5X"
    assert (
        found.findings[0].origin.row
        == project(tag("Drive", "Motor")).splitlines().index(tag("Drive", "Motor")[:-1]) + 1
    )


def test_arrays_of_structures_and_of_several_dimensions(read: Read) -> None:
    tags, _ = read(project(tag("Drives", "Motor", Dimensions="2") + tag("Map", "DINT", Dimensions="2 3")), "ethernetip")

    assert [each["address"] for each in tags.values()] == [
        "Drives[0].Running", "Drives[0].Speed", "Drives[0].Limits[0..3]", "Drives[1].Running", "Drives[1].Speed",
        "Drives[1].Limits[0..3]", "Map[0,0..2]", "Map[1,0..2]",
    ]  # fmt: skip
    assert list(tags)[-2:] == ["Map[0]", "Map[1]"]


def test_comments_name_operands_in_upper_case_and_texts_may_be_localised(read: Read) -> None:
    inside = (
        "<Description><LocalizedDescription Lang='de-DE'><![CDATA[Pumpe]]></LocalizedDescription></Description>"
        '<Comments><Comment Operand=".SPEED"><![CDATA[Drehzahl\nIst]]></Comment></Comments>'
        '<EngineeringUnits><EngineeringUnit Operand=".SPEED"><![CDATA[rpm]]></EngineeringUnit></EngineeringUnits>'
        '<Mins><Min Operand=".SPEED">0</Min></Mins><Maxes><Max Operand=".SPEED">1500</Max></Maxes>'
    )
    tags, _ = read(project(tag("Drive", "Motor", inside) + tag("Level", "REAL", "<Description>Tank</Description>")),
                   "ethernetip")  # fmt: skip

    assert tags["Drive/Speed"] == {
        "name": "Drive/Speed", "address": "Drive.Speed", "type": "REAL", "unit": "/min",
        "description": "Drehzahl Ist", "range": [0, 1500],
    }  # fmt: skip
    assert tags["Level"]["description"] == "Tank"


def test_tags_of_programs_and_aliases_are_read_where_they_are(read: Read) -> None:
    programs = (
        '<Program Name="Main"><Tags>'
        + tag("Step", "DINT")
        + '<Tag Name="Bit" TagType="Alias" AliasFor="Step.3"/>'
        + '<Tag Name="Fast" TagType="Alias" AliasFor="Drives[1].Speed"/>'
        + '<Tag Name="Lost" TagType="Alias" AliasFor="Remote:1:I.Data"/></Tags></Program>'
    )
    tags, found = read(project(tag("Drives", "Motor", Dimensions="2"), programs=programs), "ethernetip")

    assert {name: each["address"] for name, each in tags.items() if name.startswith("Main/")} == {
        "Main/Step": "Program:Main.Step", "Main/Bit": "Program:Main.Step.3", "Main/Fast": "Drives[1].Speed",
    }  # fmt: skip
    assert tags["Main/Bit"]["type"] == "BOOL"
    assert reasons(found)["Main/Lost"] == "it is an alias of Remote:1:I.Data, whose type is not in the file"


INSTRUCTION = """\
<AddOnInstructionDefinitions><AddOnInstructionDefinition Name="Valve">
<Parameters><Parameter Name="EnableIn" TagType="Base" DataType="BOOL" Usage="Input" ExternalAccess="Read Only"/>
<Parameter Name="Open" TagType="Base" DataType="BOOL" Usage="Output" ExternalAccess="Read Only"/>
<Parameter Name="Drive" TagType="Base" DataType="Motor" Usage="InOut"/></Parameters>
<LocalTags><LocalTag Name="Timer" DataType="TIMER" ExternalAccess="None"/></LocalTags>
</AddOnInstructionDefinition>
<EncodedData EncodedType="AddOnInstructionDefinition" Name="Recipe" EncryptionConfig="3">c2VjcmV0</EncodedData>
</AddOnInstructionDefinitions>
"""


def test_add_on_instructions_show_their_parameters_and_encrypted_parts_are_said(read: Read) -> None:
    tags, found = read(project(tag("V1", "Valve") + tag("R1", "Recipe"), INSTRUCTION), "ethernetip")

    assert list(tags) == ["V1/EnableIn", "V1/Open"]
    assert reasons(found) == {
        "Recipe": "this AddOnInstructionDefinition is encrypted; only its owner can export it",
        "V1/Drive": "it is passed by reference: read the tag itself",
        "V1/Timer": "its External Access is None: the controller lets nobody read it",
        "R1": "its type Recipe is not described in the file; export the whole project as L5X",
    }


MODULES = """\
<Modules><Module Name="Slot1" ParentModule="Local"><Ports><Port Id="1" Address="1" Type="ICP" Upstream="true"/></Ports>
<Communications><Connections><Connection Name="In"><InputTag ExternalAccess="Read/Write"><Data Format="Decorated">
<Structure DataType="AB:1756_IF8:I:0"><DataValueMember Name="Fault" DataType="DINT" Radix="Binary" Value="0"/>
<ArrayMember Name="Data" DataType="REAL" Dimensions="8"><Element Index="[0]" Value="0.0"/></ArrayMember>
<StructureMember Name="Status" DataType="AB:S:0">
<DataValueMember Name="Ok" DataType="BOOL" Value="1"/></StructureMember>
</Structure></Data></InputTag></Connection></Connections></Communications></Module>
<Module Name="Drive7" ParentModule="Local">
<Ports><Port Id="2" Address="10.0.0.7" Type="Ethernet" Upstream="true"/></Ports>
<Communications><Connections><Connection Name="In"><InputTag ExternalAccess="None"><Data Format="Decorated">
<Structure DataType="AB:Drive:I:0"><DataValueMember Name="Hz" DataType="INT"/></Structure></Data></InputTag>
</Connection></Connections></Communications></Module></Modules>
"""


def test_types_that_modules_define_are_taken_from_their_data(read: Read) -> None:
    tags, found = read(project("", MODULES), "ethernetip")

    assert {each["address"]: each["type"] for each in tags.values()} == {
        "Local:1:I.Fault": "DINT", "Local:1:I.Data[0..7]": "REAL", "Local:1:I.Status.Ok": "BOOL",
    }  # fmt: skip
    assert list(reasons(found)) == ["Drive7:I"]


def test_strings_of_users_have_their_length_and_timers_their_members(read: Read) -> None:
    tags, _ = read(project(tag("Recipe", "STRING_20") + tag("T", "TIMER")), "ethernetip")

    assert tags["Recipe"] == {"name": "Recipe", "address": "Recipe", "type": "STRING", "length": 20}
    assert [name for name in tags if name.startswith("T/")] == ["T/PRE", "T/ACC", "T/EN", "T/TT", "T/DN"]


def test_the_export_of_a_part_says_that_it_is_one(read: Read) -> None:
    head = 'TargetName="Main" TargetType="Program" ContainsContext="true"'
    tags, found = read(project(tag("Level", "REAL") + '<Tag Use="Reference" Name="Other"/>\n', head=head), "ethernetip")

    assert list(tags) == ["Level"]
    assert reasons(found) == {"Other": "the file only refers to it"}
    assert found.notes == ["this is the export of a Program: tags that it does not use are not in the file"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_project_may_have_a_byte_order_mark(read: Read, encoding: str) -> None:
    text = project(tag("Level", "REAL", "<Description>größer</Description>"))
    text = text.replace('encoding="UTF-8"', f'encoding="{"UTF-16" if encoding == "utf-16" else "UTF-8"}"')

    tags, _ = read(text.encode(encoding), "ethernetip")

    assert tags["Level"]["description"] == "größer"


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<RSLogix5000Content>&b;</RSLogix5000Content>"
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (BOMB, "list: it defines entities, which no list of tags needs; it is not read"),
        (project()[:-20], "list: this is not XML: "),
        ("<other/>", "list: its format is not known; there are "),
    ],
)
def test_hostile_and_other_xml_gets_one_sentence(read: Read, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(text, "ethernetip")

    assert str(raised.value).startswith(sentence)


CSV = """\
remark,"CSV-Import-Export"
remark,"Version = RSLogix 5000 v33.01"
0.3
TYPE,SCOPE,NAME,DESCRIPTION,DATATYPE,SPECIFIER,ATTRIBUTES
TAG,,Level,"F$00FCllstand$NTank $Q1$Q","REAL","","(RADIX := Float, Constant := false, ExternalAccess := Read/Write)"
TAG,,Map,"","DINT[2,3]","","(RADIX := Decimal, ExternalAccess := Read Only)"
TAG,,Word,"","DINT","","(RADIX := Decimal)"
COMMENT,,Word,"Pump runs","","Word.3"
TAG,Main,Step,"","DINT","","(RADIX := Decimal, ExternalAccess := Read/Write)"
TAG,,Hidden,"","DINT","","(RADIX := Decimal, ExternalAccess := None)"
TAG,,Drive,"","Motor","",""
TYPE,SCOPE,NAME,DESCRIPTION,DATATYPE,SPECIFIER,ATTRIBUTES
ALIAS,,PumpRuns,"the pump","","Word.3","(RADIX := Decimal, ExternalAccess := Read/Write)"
ALIAS,,Input,"","","Local:1:I.Data",""
"""


def test_a_tag_list_with_escapes_scopes_aliases_and_arrays(read: Read) -> None:
    tags, found = read(CSV, "ethernetip")

    assert tags == {
        "Level": {"name": "Level", "address": "Level", "type": "REAL", "description": 'Füllstand Tank "1"'},
        "Map[0]": {"name": "Map[0]", "address": "Map[0,0..2]", "type": "DINT"},
        "Map[1]": {"name": "Map[1]", "address": "Map[1,0..2]", "type": "DINT"},
        "Word": {"name": "Word", "address": "Word", "type": "DINT"},
        "Main/Step": {"name": "Main/Step", "address": "Program:Main.Step", "type": "DINT"},
        "PumpRuns": {"name": "PumpRuns", "address": "Word.3", "type": "BOOL", "description": "the pump"},
    }
    assert reasons(found) == {
        "Hidden": "its External Access is None: the controller lets nobody read it",
        "Drive": "its type Motor is not described in the file; export the whole project as L5X",
        "Input": "it is an alias of Local:1:I.Data, whose type is not in the file",
    }
    assert found.format == "tag list of Logix Designer"


def test_a_driver_of_other_addresses_says_so(read: Read) -> None:
    tags, found = read(CSV, "modbus")

    assert tags == {}
    assert reasons(found)["Level"] == "its file is not about registers"
