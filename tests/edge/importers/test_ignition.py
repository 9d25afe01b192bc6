"""Exports of Ignition: UDTs are unfolded with the parameters of their instances."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from edge.errors import ConfigError
from edge.importers.found import Found

Read = Callable[..., tuple[dict[str, dict[str, Any]], Found]]


def opc(name: str, path: object, kind: str = "Float4", **more: Any) -> dict[str, Any]:
    return {"name": name, "tagType": "AtomicTag", "valueSource": "opc", "opcItemPath": path, "dataType": kind, **more}


def bound(text: str) -> dict[str, str]:
    return {"bindType": "parameter", "binding": text}


TYPES = {
    "name": "_types_", "tagType": "Folder", "tags": [
        {"name": "Base", "tagType": "UdtType", "parameters": {"Device": {"dataType": "String", "value": "PLC"}},
         "tags": [opc("Running", bound("[{Device}]{Prefix}.Running"), "Boolean")]},
        {"name": "Motor", "tagType": "UdtType", "typeId": "Base",
         "parameters": {"Prefix": {"dataType": "String", "value": "M{Number}"}, "Number": {"dataType": "Integer"}},
         "tags": [opc("Speed", bound("[{Device}]{Prefix}.Speed"), engUnit="rpm", engLow=0, engHigh=1500,
                      documentation="of {InstanceName}"),
                  {"name": "Inner", "tagType": "UdtInstance", "typeId": "_types_/Leaf",
                   "parameters": {"Path": {"value": "{Prefix}.Inner"}}},
                  {"name": "Sum", "tagType": "AtomicTag", "valueSource": "expr", "expression": "1"}]},
        {"name": "Leaf", "tagType": "UdtType", "parameters": {"Path": {}},
         "tags": [opc("Value", bound("[PLC]{Path}.{ParentInstanceName}"), "Int4")]},
    ],
}  # fmt: skip


def test_instances_have_the_members_of_their_type_and_its_parents(read: Read) -> None:
    instance = {"name": "Pump", "tagType": "UdtInstance", "typeId": "Motor", "parameters": {"Number": {"value": 7}}}
    export = {"name": "", "tagType": "Provider", "tags": [TYPES, {"name": "Line4", "tagType": "Folder",
                                                                   "tags": [instance]}]}  # fmt: skip

    tags, found = read(json.dumps(export), "ethernetip")

    assert tags == {
        "Line4/Pump/Running": {"name": "Line4/Pump/Running", "address": "M7.Running", "type": "BOOL"},
        "Line4/Pump/Speed": {"name": "Line4/Pump/Speed", "address": "M7.Speed", "type": "REAL", "unit": "/min",
                             "range": [0, 1500], "description": "of Pump"},
        "Line4/Pump/Inner/Value": {"name": "Line4/Pump/Inner/Value", "address": "M7.Inner.Pump", "type": "DINT"},
    }  # fmt: skip
    assert {each.name: each.message for each in found.findings if each.kind == "left out"} == {
        "Line4/Pump/Sum": "it is an expression, which is in no device"
    }


def test_registers_of_its_modbus_driver(read: Read) -> None:
    export = [opc("a", "ns=1;s=[PLC]HRF101"), opc("b", "[PLC]3.HR5", "Int2"), opc("c", "[PLC]HR6.4", "Boolean"),
              opc("d", "[PLC]C7", "Boolean"), opc("e", "[PLC]HRS20:8", "String"),
              opc("f", "[PLC]IRUI_648", "Int8")]  # fmt: skip

    tags, _ = read(json.dumps({"tags": export}))

    assert {name: (each["address"], each["type"]) for name, each in tags.items()} == {
        "a": ("4x00101", "float32"), "b": ("4x00005", "uint16"), "c": ("4x00006.4", "bool"), "d": ("0x00007", "bool"),
        "e": ("4x00020", "text"), "f": ("3x00008", "uint64"),
    }  # fmt: skip


def test_scaling_that_is_not_linear_is_imported_raw_with_what_it_means(read: Read) -> None:
    scaled = {"rawLow": 0, "rawHigh": 4000, "scaledLow": 0, "scaledHigh": 100, "engUnit": "m3/h"}
    tags, _ = read(
        json.dumps(
            [
                opc("a", "[PLC]HR1", scaleMode="Linear", **scaled),
                opc("b", "[PLC]HR2", scaleMode="Square_Root", **scaled),
            ]
        )
    )

    assert tags["a"] == {"name": "a", "address": "4x00001", "type": "uint16", "unit": "m3/h", "scale": 0.025}
    assert tags["b"]["description"] == "(Square_Root of 0..4000 is 0..100 m3/h)"
    assert "unit" not in tags["b"]


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        (opc("a", "ns=2;s=Temp"), "the index of a namespace can be another one after a restart of the server"),
        (opc("a", bound("[PLC]{Gone}")), "its path needs Gone, which has no value: [PLC]{Gone}"),
        (opc("a", "[PLC]HR1", enabled=False), "it is disabled"),
        (opc("a", "[PLC]HR1", "Int4Array"), "it is an array whose size is not in the file"),
        ({"name": "a", "tagType": "AtomicTag", "valueSource": "memory"}, "it is a memory tag, which is in no device"),
        ({"name": "a", "tagType": "UdtInstance", "typeId": "Gone"}, "its UDT 'Gone' is not in the file"),
    ],
)
def test_what_is_in_no_device_is_left_out(read: Read, tag: dict[str, Any], reason: str) -> None:
    tags, found = read(json.dumps([tag]), "opcua")

    assert tags == {}
    (finding,) = found.findings
    assert reason in finding.message


def test_a_type_that_contains_itself_ends(read: Read) -> None:
    loop = {"name": "Loop", "tagType": "UdtType", "tags": [{"name": "x", "tagType": "UdtInstance", "typeId": "Loop"}]}
    export = [{"name": "_types_", "tags": [loop]}, {"name": "a", "tagType": "UdtInstance", "typeId": "Loop"}]

    _, found = read(json.dumps(export))

    assert [each.message for each in found.findings] == ["it is nested deeper than 32 levels"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"tags": [', "list: row 1, column 11: this is not JSON: Expecting value"),
        ("[1, 2]", "list: it is JSON, and no export of tags of Ignition"),
        ("[" * 100_000, "list: it is nested too deeply"),
    ],
)
def test_other_json_gets_one_sentence(read: Read, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(text)

    assert str(raised.value) == sentence
