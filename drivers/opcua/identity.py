"""What a server says it is: BuildInfo (OPC 10000-5 12.4), and the nameplate of what is behind it (OPC 10000-100)."""

from __future__ import annotations

from typing import Any

from asyncua import ua

from drivers.opcua.connection import Connection, ServiceRefused
from drivers.opcua.resolve import browse_path, translate
from drivers.opcua.views import attributes, good_value, references, text_of
from edge.model import Identity

_DEVICES = "http://opcfoundation.org/UA/DI/"
_DEVICE_SET = 5001
_DEVICES_LIMIT = 20
_names = ua.ObjectIds
_BUILD_INFO = (
    _names.Server_ServerStatus_BuildInfo_ManufacturerName,
    _names.Server_ServerStatus_BuildInfo_ProductName,
    _names.Server_ServerStatus_BuildInfo_SoftwareVersion,
    _names.Server_ServerStatus_BuildInfo_BuildNumber,
    _names.Server_ServerStatus_BuildInfo_ProductUri,
)


async def read_identity(connection: Connection) -> Identity:
    """Who made the server, which version it is, and the serial number of the one device behind it.

    Empty where the server does not say. Raises as `Connection.ask`.
    """
    nodes = [(ua.NodeId(ua.Int32(number)), ua.AttributeIds.Value) for number in _BUILD_INFO]
    try:
        answers = await attributes(connection, nodes)
        serials = await _serials(connection)
    except ServiceRefused:
        return Identity()  # Not worth losing the readings over.
    vendor, product, firmware, build, product_uri = (text_of(good_value(answer), 200) for answer in answers)
    more = {
        "build": build,
        "product URI": product_uri,
        "application URI": connection.application_uri,
        "endpoint": connection.host_note,
    }
    if len(serials) > 1:
        more |= {f"serial of {name}": serial for name, serial in serials.items()}
    return Identity(
        vendor=vendor,
        product=product,
        firmware=firmware,
        serial=next(iter(serials.values())) if len(serials) == 1 else "",
        more=tuple((label, text) for label, text in more.items() if text),
    )


async def _serials(connection: Connection) -> dict[str, str]:
    """Serial numbers by the names of the devices in the DeviceSet; empty where there is none."""
    if _DEVICES not in connection.namespaces:
        return {}
    index = connection.namespaces.index(_DEVICES)
    ((_, found),) = await references(connection, [ua.NodeId(ua.Int32(_DEVICE_SET), ua.Int16(index))])
    devices = [one for one in found if one.NodeClass == ua.NodeClass.Object][:_DEVICES_LIMIT]
    if not devices:
        return {}
    paths = [browse_path(one.NodeId, [(index, "SerialNumber")]) for one in devices]
    answers = await translate(connection, paths)
    places = {
        text_of(one.DisplayName, 200): answer.Targets[0].TargetId
        for one, answer in zip(devices, answers, strict=True)
        if answer.StatusCode.is_good() and answer.Targets
    }
    values: list[Any] = await attributes(connection, [(node, ua.AttributeIds.Value) for node in places.values()])
    serials = {name: text_of(good_value(value), 200) for name, value in zip(places, values, strict=True)}
    return {name: serial for name, serial in serials.items() if serial}
