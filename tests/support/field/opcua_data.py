"""OPC UA servers that are strict, or half-standard, in what they say of their data."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from asyncua import Server, ua
from asyncua.common.structures104 import new_struct, new_struct_field

from tests.support.field.case import FieldCase
from tests.support.ports import free_port

URI = "http://plant.example/field"
T = ua.VariantType
Build = Callable[[Server, int], Awaitable[None]]


def tag(name: str, node: str, kind: str, **more: Any) -> dict[str, Any]:
    """A tag by the text in its node's NodeId, or by a whole address."""
    address = node if node.startswith(("/", "i=")) else f"nsu=x;s={node}"
    return {"name": name, "address": address, "type": kind, **more}


@asynccontextmanager
async def serving(build: Build, tags: Sequence[Mapping[str, Any]], **more: Any) -> AsyncIterator[Mapping[str, Any]]:
    """An asyncua server with what `build` puts into it; yields the keys of the device."""
    url = f"opc.tcp://127.0.0.1:{free_port()}"
    server = Server()
    await server.init()
    server.set_endpoint(url)
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace(URI)
    await server.nodes.objects.add_folder(ua.NodeId("Plant", index), f"{index}:Plant")
    await build(server, index)
    async with server:
        yield {
            "driver": "opcua", "url": url, "security": "none", "namespaces": {"x": URI},
            "scan_groups": [{"every": "200 ms", "tags": list(tags)}], **more,
        }  # fmt: skip


def start(build: Build, tags: Sequence[Mapping[str, Any]], **more: Any) -> Callable[[Path], Any]:
    """The `start` of a case."""
    return lambda _: serving(build, tags, **more)


async def add(server: Server, index: int, name: str, value: ua.Variant, kind: ua.NodeId | None = None) -> None:
    await server.get_node(ua.NodeId("Plant", index)).add_variable(
        ua.NodeId(name, index), f"{index}:{name}", value, datatype=kind
    )


def structure(encoding: ua.NodeId, body: bytes) -> ua.Variant:
    return ua.Variant(ua.ExtensionObject(encoding, body), T.ExtensionObject)


async def add_setpoint_type(server: Server, index: int) -> tuple[ua.NodeId, ua.NodeId]:
    """(DataType, its encoding) of a structure with two members."""
    fields = [new_struct_field("Target", T.Double), new_struct_field("Ramp", T.UInt16)]
    kind, encodings = await new_struct(server, index, "SetpointType", fields)
    return kind.nodeid, encodings[0].nodeid


def setpoint(target: float, ramp: int) -> bytes:
    return struct.pack("<dH", target, ramp)


async def build_setpoint(server: Server, index: int) -> None:
    """One structure, with all that the standard asks for."""
    kind, encoding = await add_setpoint_type(server, index)
    await add(server, index, "Setpoint", structure(encoding, setpoint(36.5, 7)), kind)


async def build_strict_view(server: Server, index: int) -> None:
    """A server that takes a View with a timestamp for one that it does not have."""
    await build_setpoint(server, index)
    view, browse = server.iserver.view_service, server.iserver.view_service.browse

    def strict(parameters: Any, *more: Any) -> Any:
        if parameters.View.Timestamp != ua.get_win_epoch():
            raise ua.uaerrors.BadViewIdUnknown
        return browse(parameters, *more)

    view.browse = strict


async def build_without_encodings(server: Server, index: int) -> None:
    """Structures whose encodings are no nodes: only the DataType of the variable says what they are."""
    kind, encoding = await add_setpoint_type(server, index)
    await server.delete_nodes([server.get_node(encoding)])
    await add(server, index, "Setpoint", structure(encoding, setpoint(36.5, 7)), kind)
    await add(server, index, "ByType", structure(kind, setpoint(40.0, 9)), kind)
    nothing = ua.NodeId(0, 0)
    await add(server, index, "Nameless", structure(nothing, setpoint(41.5, 11)), kind)
    # Another structure with the same encoding, and a value that is longer than its DataType says.
    pair, of_pair = await new_struct(server, index, "PairType", [new_struct_field(x, T.UInt16) for x in "AB"])
    await server.delete_nodes([server.get_node(each) for each in of_pair])
    await add(server, index, "Pair", structure(nothing, struct.pack("<HH", 3, 4)), pair.nodeid)
    await add(server, index, "Longer", structure(nothing, struct.pack("<HHH", 3, 4, 5)), pair.nodeid)


async def build_without_standard_definitions(server: Server, index: int) -> None:
    """A server that holds structures of namespace 0 and has neither encodings nor definitions of them."""
    for kind in (ua.Range, ua.EUInformation, ua.AxisInformation):
        data_type = server.get_node(kind.data_type)
        await server.delete_nodes(await data_type.get_referenced_nodes(ua.ObjectIds.HasEncoding))
        server.iserver.aspace[kind.data_type].attributes.pop(ua.AttributeIds.DataTypeDefinition, None)
    unit = ua.EUInformation("urn:units", 4408652, ua.LocalizedText("°C"), ua.LocalizedText("degree Celsius"))
    await add(server, index, "Limits", ua.Variant(ua.Range(-20.0, 120.0), T.ExtensionObject))
    await add(server, index, "Unit", ua.Variant(unit, T.ExtensionObject))
    axis = ua.AxisInformation(unit, ua.Range(0.0, 5.0), ua.LocalizedText("time"), AxisSteps=[0.5, 1.5])
    await add(server, index, "Axis", ua.Variant(axis, T.ExtensionObject))


GUID = UUID("72962b91-fa75-4ae6-8d28-b404dc7daf63")


async def build_arrays(server: Server, index: int) -> None:
    """Arrays, matrices, and types that have no counterpart among those of a record."""
    matrix = ua.Variant([[1, 2, 3], [4, 5, 6]], T.Int32)
    assert matrix.Dimensions == [2, 3]
    held = {
        "Profile": ua.Variant([1.5, 2.5, 3.5], T.Float),
        "Recipe": ua.Variant(["mash", "boil"], T.String),
        "Matrix": matrix,
        "Guid": ua.Variant(GUID, T.Guid),
        "Blob": ua.Variant(b"\x00\xff", T.ByteString),
        "Reference": ua.Variant(ua.NodeId("Line;1", index), T.NodeId),
        "Name": ua.Variant(ua.QualifiedName("Step", index), T.QualifiedName),
        "Health": ua.Variant(ua.StatusCode(ua.UInt32(0x80340000)), T.StatusCode),
        "Total": ua.Variant(2**53 + 1, T.UInt64),
        "Started": ua.Variant(datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC), T.DateTime),
        "Healths": ua.Variant([ua.StatusCode(), ua.StatusCode(ua.UInt32(0x80340000))], T.StatusCode),
    }
    for name, value in held.items():
        await add(server, index, name, value)


async def build_what_is_no_tag(server: Server, index: int) -> None:
    """Values that no tag can have, each for another reason, and one that can be."""
    kind, encoding = await add_setpoint_type(server, index)
    await add(server, index, "Setpoint", structure(encoding, setpoint(36.5, 7)), kind)
    await add(server, index, "Empty", ua.Variant([], T.Double, is_array=True))
    await add(server, index, "Unfilled", ua.Variant(None, T.Null), ua.NodeId(ua.ObjectIds.Double))
    unfilled = ua.DataValue(ua.Variant(ua.Int32(1), T.Int32))
    await server.write_attribute_value(ua.NodeId("Unfilled", index), unfilled, ua.AttributeIds.ValueRank)
    await add(server, index, "Picture", ua.Variant(bytes(3000), T.ByteString))
    await add(server, index, "Long", ua.Variant("x" * 3000, T.String))
    await add(server, index, "Huge", ua.Variant([0.5] * 5000, T.Double))


ARRAYS = [
    tag("profile", "Profile", "float32", index="0..2"),
    tag("recipe", "Recipe", "text", index="0..1"),
    tag("matrix", "Matrix", "int32", index=["0..1", "1..2"]),
    tag("guid", "Guid", "text"),
    tag("blob", "Blob", "text"),
    tag("reference", "Reference", "text"),
    tag("name", "Name", "text"),
    tag("health", "Health", "uint32"),
    tag("healths", "Healths", "uint32", index="0..1"),
]

CASES = (
    FieldCase(
        id="opcua-arrays",
        device="A server with arrays, matrices, Guid, ByteString, NodeId and StatusCode",
        does="Reads a range of elements that is written as one tag, and what is no number or text as its text.",
        start=start(build_arrays, ARRAYS),
        values={
            "profile[0]": 1.5,
            "profile[1]": 2.5,
            "profile[2]": 3.5,
            "recipe[0]": "mash",
            "recipe[1]": "boil",
            "matrix[0,1]": 2,
            "matrix[0,2]": 3,
            "matrix[1,1]": 5,
            "matrix[1,2]": 6,
            "guid": str(GUID),
            "blob": "00ff",
            "reference": f"nsu={URI};s=Line;1",
            "name": "Step",
            "health": 0x80340000,
            "healths[0]": 0,
            "healths[1]": 0x80340000,
        },
    ),
    FieldCase(
        id="opcua-strict-view",
        device="A server that answers BadViewIdUnknown to a View with a timestamp and no ViewId",
        does="Browses with a View that is null in all its members, as the standard has it.",
        start=start(build_strict_view, [tag("target", "Setpoint", "float64", field="Target")]),
        values={"target": 36.5},
    ),
    FieldCase(
        id="opcua-no-encoding-nodes",
        device="A server whose structures have no encoding nodes",
        does="Takes the structure that the variable's DataType is, where the length of the value agrees.",
        start=start(
            build_without_encodings,
            [
                tag("target", "Setpoint", "float64", field="Target"),
                tag("by-type", "ByType", "uint16", field="Ramp"),
                tag("nameless", "Nameless", "uint16", field="Ramp"),
                tag("pair", "Pair", "uint16", field="B"),
            ],
        ),
        values={"target": 36.5, "by-type": 9, "nameless": 11, "pair": 4},
    ),
    FieldCase(
        id="opcua-standard-structures",
        device="A server that does not define the structures of the standard, such as Range and EUInformation",
        does="Knows the structures of namespace 0 without being told.",
        start=start(
            build_without_standard_definitions,
            [
                tag("low", "Limits", "float64", field="Low"),
                tag("unit", "Unit", "text", field="DisplayName"),
                tag("axis-high", "Axis", "float64", field="EURange.High"),
                tag("step", "Axis", "float64", field="AxisSteps[1]"),
                tag("state", "i=2256", "enumeration", field="State"),
            ],
        ),
        values={"low": -20.0, "unit": "°C", "axis-high": 5.0, "step": 1.5, "state": 0},
    ),
)
