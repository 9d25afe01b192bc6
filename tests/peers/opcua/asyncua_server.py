"""An OPC UA server on asyncua with the same plant as the one on node-opcua; prints its port, then follows commands.

usage: asyncua_server.py FOLDER --port PORT [--other-order]: with the latter the plant's namespace has another index,
and in the one that has its index now there are nodes of the same names with other values.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from asyncua import Server, ua
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.user_managers import UserManager
from cryptography.x509.oid import ExtendedKeyUsageOID

URI = "urn:tidegate:plant"
T = ua.VariantType
SCALARS = {
    "Flag": (T.Boolean, True), "Int8": (T.SByte, -8), "UInt8": (T.Byte, 8), "Int16": (T.Int16, -16),
    "UInt16": (T.UInt16, 16), "Int32": (T.Int32, -32), "UInt32": (T.UInt32, 32), "Int64": (T.Int64, -64),
    "UInt64": (T.UInt64, 64), "Float32": (T.Float, 0.25), "Float64": (T.Double, 0.125), "Text": (T.String, "µ-Ω é"),
    "When": (T.DateTime, datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)),
    "Phrase": (T.LocalizedText, ua.LocalizedText("running", "en")),
}  # fmt: skip


class Users(UserManager):
    def get_user(self, iserver, username=None, password=None, certificate=None):  # type: ignore[no-untyped-def]
        if username is None or (username, password) == ("reader", "a secret"):
            return User(role=UserRole.User)
        return None


class Plant:
    def __init__(self, server: Server, index: int) -> None:
        self.server, self.index = server, index

    def node_id(self, name: str) -> ua.NodeId:
        return ua.NodeId(name, self.index)

    async def build(self) -> None:
        self.folder = await self.server.nodes.objects.add_folder(self.node_id("Plant"), f"{self.index}:Plant")
        for name, (kind, value) in SCALARS.items():
            await self.add(name, ua.Variant(value, kind))
        await self.add("Floats", ua.Variant([1.5, 2.5, 3.5], T.Float))
        await self.add("Broken", ua.Variant(1.5, T.Double))
        an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
        await self.tell("Broken", ua.Variant(1.5, T.Double), ua.StatusCodes.BadSensorFailure, an_hour_ago)
        await self._add_temperature()
        mode = await new_enum(self.server, self.index, "Modes", ["Off", "Heating", "Cooling"])
        fields = [new_struct_field("Target", T.Double), new_struct_field("Ramp", T.UInt16)]
        setpoint, _ = await new_struct(self.server, self.index, "SetpointType", fields)
        made = (await self.server.load_data_type_definitions())["SetpointType"]
        await self.add("Mode", ua.Variant(2, T.Int32), mode.nodeid)
        await self.add("Setpoint", ua.Variant(made(Target=36.5, Ramp=7), T.ExtensionObject), setpoint.nodeid)
        for number in range(100):
            await self.add(f"Point{number}", ua.Variant(float(number), T.Double))
        await self.folder.add_method(self.node_id("Reset"), f"{self.index}:Reset", lambda _: [])

    async def add(self, name: str, value: ua.Variant, kind: ua.NodeId | None = None) -> None:
        await self.folder.add_variable(self.node_id(name), f"{self.index}:{name}", value, datatype=kind)

    async def _add_temperature(self) -> None:
        await self.add("Temperature", ua.Variant(37.0, T.Double))
        node = self.server.get_node(self.node_id("Temperature"))
        plain, analog = ua.ObjectIds.BaseDataVariableType, ua.ObjectIds.AnalogItemType
        await node.delete_reference(ua.NodeId(plain), ua.ObjectIds.HasTypeDefinition, forward=True)
        await node.add_reference(ua.NodeId(analog), ua.ObjectIds.HasTypeDefinition)
        unit, label = ua.LocalizedText("°C"), ua.LocalizedText("degree Celsius")
        celsius = ua.EUInformation("http://www.opcfoundation.org/UA/units/un/cefact", 4408652, unit, label)
        await node.add_property(self.node_id("Temperature.EURange"), "0:EURange", ua.Range(-20.0, 120.0))
        await node.add_property(self.node_id("Temperature.EngineeringUnits"), "0:EngineeringUnits", celsius)
        text = ua.DataValue(ua.Variant(ua.LocalizedText("of the broth"), T.LocalizedText))
        await self.server.write_attribute_value(node.nodeid, text, ua.AttributeIds.Description)

    async def tell(self, name: str, value: ua.Variant, status: int = 0, when: datetime | None = None) -> None:
        data = ua.DataValue(value, ua.StatusCode(ua.UInt32(status)), when or datetime.now(UTC))
        await self.server.write_attribute_value(self.node_id(name), data)

    async def value(self, name: str) -> ua.Variant:
        read = await self.server.get_node(self.node_id(name)).read_data_value(raise_on_bad_status=False)
        assert read.Value is not None
        return read.Value

    async def obey(self, command: str, name: str, *rest: str) -> None:
        if command == "value":
            kind = (await self.value(name)).VariantType
            await self.tell(name, ua.Variant(json.loads(" ".join(rest)), kind))
        elif command == "ramp":
            for number in range(1, int(rest[0]) + 1):
                await self.tell(name, ua.Variant(float(number), T.Double))
                await asyncio.sleep(int(rest[1]) / 1e3)
        elif command == "add":
            await self.add(name, ua.Variant(json.loads(" ".join(rest[1:])), getattr(T, rest[0])))
        elif command == "remove":
            await self.server.delete_nodes([self.server.get_node(self.node_id(name))])
        elif command == "status":
            await self.tell(name, await self.value(name), getattr(ua.StatusCodes, rest[0]))
        else:
            raise ValueError(f"no such command: {command}")


async def serve(options: argparse.Namespace) -> None:
    logging.disable(logging.CRITICAL)
    port = options.port
    server = Server(user_manager=Users())
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/plant")
    await server.set_application_uri("urn:tidegate:asyncua")
    await secure(server, options.folder)
    for uri in ("urn:tidegate:other", URI) if options.other_order else (URI, "urn:tidegate:other"):
        index = await server.register_namespace(uri)
        if uri == URI:
            plant = Plant(server, index)
    await plant.build()
    if options.other_order:
        await add_doubles(server)
    async with server:
        print(port, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            await plant.obey(*line.split())
            print("done", flush=True)


async def add_doubles(server: Server) -> None:
    """The nodes that a client would read if it used the index of a namespace."""
    doubles = Plant(server, await server.get_namespace_index("urn:tidegate:other"))
    doubles.folder = await server.nodes.objects.add_folder(doubles.node_id("Plant"), f"{doubles.index}:Plant")
    for number in range(100):
        await doubles.add(f"Point{number}", ua.Variant(-1000.0 - number, T.Double))


async def secure(server: Server, folder: Path) -> None:
    key, certificate = folder / "server.key.pem", folder / "server.der"
    await setup_self_signed_certificate(
        key, certificate, "urn:tidegate:asyncua", "127.0.0.1",
        [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH], {"commonName": "plant"},
    )  # fmt: skip
    await server.load_certificate(str(certificate))
    await server.load_private_key(str(key))
    server.set_security_policy(
        [ua.SecurityPolicyType.NoSecurity, ua.SecurityPolicyType.Basic256Sha256_Sign,
         ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt, ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt],
    )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--other-order", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(serve(options))
