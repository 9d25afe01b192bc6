"""An OPC UA server whose certificate and security change while it runs; says when it listens, then reads JSON lines.

Keys of a line, all optional: certificate, key (files), announced (a certificate that endpoints name instead),
uri (application URI), host (that endpoints name), policies (names of SecurityPolicyType), users (which tokens),
tokens (security policies of the tokens, one of each kind for each), refuses (a code for every client's certificate).
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from typing import Any

from asyncua import Server, ua
from asyncua.common.utils import ServiceError
from asyncua.crypto import uacrypto
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.user_managers import UserManager

POLICY_URI = "http://opcfoundation.org/UA/SecurityPolicy#"
TOKENS = {"anonymous": ua.AnonymousIdentityToken, "name": ua.UserNameIdentityToken, "certificate": ua.X509IdentityToken}
SPACE = "urn:test:plant"


class Users(UserManager):
    certificate = b""

    def get_user(
        self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None
    ) -> User | None:
        if username is not None and (username, password) != ("reader", "a secret"):
            return None
        return User(role=UserRole.User)


async def main(port: int) -> None:
    server = Server(user_manager=Users())
    await server.init()
    server.set_match_discovery_endpoint_url(False)
    server.set_match_discovery_client_ip(False)
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/plant")
    await build(server)
    async with server:
        print(port, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            await obey(server, port, json.loads(line))
            print("done", flush=True)


async def obey(server: Server, port: int, asked: dict[str, Any]) -> None:
    await server.set_application_uri(asked.get("uri", "urn:test:server"))
    if "certificate" in asked:
        await server.load_certificate(asked["certificate"])
        await server.load_private_key(asked["key"])
    server.set_security_policy([ua.SecurityPolicyType[name] for name in asked.get("policies", ["NoSecurity"])])
    server.set_identity_tokens([TOKENS[name] for name in asked.get("users", ["anonymous"])])
    server.set_endpoint(f"opc.tcp://{asked.get('host', '127.0.0.1')}:{port}/plant")
    server.iserver.endpoints.clear()
    server._policies.clear()
    await server._setup_server_nodes()
    server.bserver.set_policies(server._policies)
    for endpoint in server.iserver.endpoints:
        endpoint.UserIdentityTokens = [
            replace(token, SecurityPolicyUri=POLICY_URI + policy, PolicyId=f"{token.PolicyId} {policy}")
            for policy in asked["tokens"] for token in endpoint.UserIdentityTokens
        ] if "tokens" in asked else endpoint.UserIdentityTokens  # fmt: skip
    server.iserver.certificate_validator = refusing(asked["refuses"]) if "refuses" in asked else None
    if "announced" in asked:
        shown = uacrypto.der_from_x509(await uacrypto.load_certificate(asked["announced"]))
        for endpoint in server.iserver.endpoints:
            endpoint.ServerCertificate = shown


def refusing(code: str) -> Any:
    async def validate(*_: Any) -> None:
        raise ServiceError(getattr(ua.StatusCodes, code))

    return validate


async def build(server: Server) -> None:
    """A plant with every kind of node for browsing."""
    index = await server.register_namespace(SPACE)
    plant = await server.nodes.objects.add_object(ua.NodeId("Plant", index), f"{index}:Plant")
    double, text = ua.VariantType.Double, ua.VariantType.String
    temperature = await plant.add_variable(ua.NodeId("Temp", index), f"{index}:Temp", 37.5, double)
    celsius = ua.EUInformation(
        "http://www.opcfoundation.org/UA/units/un/cefact", 4408652, ua.LocalizedText("°C"), ua.LocalizedText("Celsius")
    )
    await temperature.add_property(ua.NodeId("Temp.EURange", index), "0:EURange", ua.Range(-20.0, 120.0))
    await temperature.add_property(ua.NodeId("Temp.Units", index), "0:EngineeringUnits", celsius)
    said = ua.DataValue(ua.Variant(ua.LocalizedText("of the broth"), ua.VariantType.LocalizedText))
    await server.write_attribute_value(temperature.nodeid, said, ua.AttributeIds.Description)
    await plant.add_variable(ua.NodeId("Serial; number", index), f"{index}:Serial/1", "A-1", text)
    await plant.add_variable(ua.NodeId("Floats", index), f"{index}:Floats", [1.5, 2.5], ua.VariantType.Float)
    mode = await plant.add_variable(
        ua.NodeId("Mode", index), f"{index}:Mode", 2, ua.VariantType.Int32, ua.NodeId(ua.ObjectIds.ServerState)
    )
    bad = ua.DataValue(ua.Variant(1.0, double), ua.StatusCode(ua.UInt32(ua.StatusCodes.BadSensorFailure)))
    broken = await plant.add_variable(ua.NodeId("Broken", index), f"{index}:Broken", 1.0, double)
    await server.write_attribute_value(broken.nodeid, bad)
    multi = await plant.add_variable(ua.NodeId("Valve", index), f"{index}:Valve", ua.Variant(1, ua.VariantType.UInt32))
    texts = [ua.LocalizedText("closed"), ua.LocalizedText("open")]
    await multi.add_property(ua.NodeId("Valve.Texts", index), "0:EnumStrings", texts)
    await plant.add_method(ua.NodeId("Reset", index), f"{index}:Reset", lambda _: [])
    many = await plant.add_folder(ua.NodeId("Many", index), f"{index}:Many")
    for number in range(120):
        await many.add_variable(ua.NodeId(f"P{number}", index), f"{index}:P{number}", float(number), double)
    assert mode is not None
    devices = await server.register_namespace("http://opcfoundation.org/UA/DI/")
    held = await server.nodes.objects.add_object(ua.NodeId(5001, devices), f"{devices}:DeviceSet")
    drive = await held.add_object(ua.NodeId("Drive", index), f"{index}:Drive")
    await drive.add_property(ua.NodeId("Drive.Serial", index), f"{devices}:SerialNumber", "SN-4711")
    await held.add_object(ua.NodeId("Nameless", index), f"{index}:Nameless")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
