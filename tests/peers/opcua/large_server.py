"""An OPC UA server on asyncua with 110,000 nodes, in 110 folders; prints its port and stays.

usage: large_server.py --port PORT. The nodes are put where the library keeps them: its services would take minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from typing import Any

from asyncua import Server, ua
from asyncua.server.address_space import AttributeValue, NodeData

FOLDERS, VARIABLES = 110, 999
URI = "urn:tidegate:large"
T = ua.VariantType
A = ua.AttributeIds
VARIABLE_TYPE = ua.NodeId(ua.ObjectIds.BaseDataVariableType)


def held(value: Any, kind: ua.VariantType) -> AttributeValue:
    return AttributeValue(ua.DataValue(ua.Variant(value, kind)))


SHARED = {
    A.NodeClass: held(ua.NodeClass.Variable, T.Int32), A.DataType: held(ua.NodeId(ua.ObjectIds.Double), T.NodeId),
    A.Description: held(ua.LocalizedText(""), T.LocalizedText), A.ValueRank: held(-1, T.Int32),
    A.AccessLevel: held(1, T.Byte), A.UserAccessLevel: held(1, T.Byte), A.Value: held(1.5, T.Double),
}  # fmt: skip
TYPE = ua.ReferenceDescription(
    ReferenceTypeId=ua.NodeId(ua.ObjectIds.HasTypeDefinition), IsForward=True, NodeId=VARIABLE_TYPE,
    BrowseName=ua.QualifiedName("BaseDataVariableType"), NodeClass=ua.NodeClass.VariableType,
)  # fmt: skip


def add(server: Server, index: int, folder: ua.NodeId, area: int, number: int) -> None:
    node, name = ua.NodeId(f"Area{area}/P{number}", index), ua.QualifiedName(f"P{number}", index)
    text = ua.LocalizedText(name.Name)
    data = NodeData(node)
    data.attributes = {**SHARED, A.NodeId: held(node, T.NodeId), A.BrowseName: held(name, T.QualifiedName),
                       A.DisplayName: held(text, T.LocalizedText)}  # fmt: skip
    data.references = [TYPE]
    space = server.iserver.aspace
    space[node] = data
    space[folder].references.append(ua.ReferenceDescription(
        ReferenceTypeId=ua.NodeId(ua.ObjectIds.HasComponent), IsForward=True, NodeId=node, BrowseName=name,
        DisplayName=text, NodeClass=ua.NodeClass.Variable, TypeDefinition=VARIABLE_TYPE,
    ))  # fmt: skip


async def serve(port: int) -> None:
    logging.disable(logging.CRITICAL)
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/plant")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace(URI)
    for area in range(FOLDERS):
        folder = await server.nodes.objects.add_folder(ua.NodeId(f"Area{area}", index), f"{index}:Area{area}")
        for number in range(VARIABLES):
            add(server, index, folder.nodeid, area, number)
    async with server:
        print(port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(serve(parser.parse_args().port))
