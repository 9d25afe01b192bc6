"""A Modbus TCP server on pymodbus with the same tables as the one on libmodbus; prints its port."""

from __future__ import annotations

import asyncio

from pymodbus import ModbusDeviceIdentification
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

COUNT = 500


async def serve() -> None:
    tables = (
        [SimData(0, values=[i % 3 == 0 for i in range(COUNT)], datatype=DataType.BITS)],
        [SimData(0, values=[i % 5 == 0 for i in range(COUNT)], datatype=DataType.BITS)],
        [SimData(0, values=list(range(COUNT)), datatype=DataType.REGISTERS)],
        [SimData(0, values=list(range(1000, 1000 + COUNT)), datatype=DataType.REGISTERS)],
    )
    who = ModbusDeviceIdentification(info_name={"VendorName": "Acme", "ProductName": "P", "MajorMinorRevision": "2"})
    server = ModbusTcpServer(SimDevice(id=1, simdata=tables, identity=who), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    print(server.transport.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


asyncio.run(serve())
