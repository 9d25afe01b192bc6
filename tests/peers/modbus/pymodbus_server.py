"""A Modbus server on pymodbus with the same tables as the one on libmodbus; prints its port.

pymodbus_server.py [tcp|rtu|ascii] [SERIAL_PORT | CA CERTIFICATE KEY]: over TCP, a serial port, or TLS.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Any

from pymodbus import FramerType, ModbusDeviceIdentification
from pymodbus.server import ModbusSerialServer, ModbusTcpServer, ModbusTlsServer
from pymodbus.simulator import DataType, SimData, SimDevice

COUNT = 500
FRAMERS = {"tcp": FramerType.SOCKET, "rtu": FramerType.RTU, "ascii": FramerType.ASCII}


def tables() -> Any:
    return (
        [SimData(0, values=[i % 3 == 0 for i in range(COUNT)], datatype=DataType.BITS)],
        [SimData(0, values=[i % 5 == 0 for i in range(COUNT)], datatype=DataType.BITS)],
        [SimData(0, values=list(range(COUNT)), datatype=DataType.REGISTERS)],
        [SimData(0, values=list(range(1000, 1000 + COUNT)), datatype=DataType.REGISTERS)],
    )


def tls_context(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def serve(framing: str = "tcp", *place: str) -> None:
    who = ModbusDeviceIdentification(info_name={"VendorName": "Acme", "ProductName": "P", "MajorMinorRevision": "2"})
    device = SimDevice(id=1, simdata=tables(), identity=who)
    here = ("127.0.0.1", 0)
    if len(place) == 3:
        server: Any = ModbusTlsServer(device, address=here, sslctx=tls_context(*place))
    elif place:
        server = ModbusSerialServer(device, framer=FRAMERS[framing], port=place[0], baudrate=115200)
    else:
        server = ModbusTcpServer(device, framer=FRAMERS[framing], address=here)
    await server.serve_forever(background=True)
    transport = server.transport
    print(transport.sockets[0].getsockname()[1] if hasattr(transport, "sockets") else 0, flush=True)
    await asyncio.Event().wait()


asyncio.run(serve(*sys.argv[1:]))
