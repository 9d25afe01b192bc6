from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from drivers.ethernetip.simulator import Controller, LogixServer
from drivers.ethernetip.simulator.controller import showcase
from drivers.ethernetip.simulator.encapsulation import HEADER, Command
from drivers.ethernetip.simulator.router import Router

TAG = b"\x91"


class Answer:
    """An answer of the message router, in parts."""

    def __init__(self, data: bytes) -> None:
        self.service, _, self.status, words = data[:4]
        self.extended = struct.unpack_from(f"<{words}H", data, 4)
        self.data = data[4 + 2 * words :]

    @property
    def refusal(self) -> tuple[int, ...]:
        return (self.status, *self.extended)


Ask = Callable[..., Answer]


@pytest.fixture
def plc() -> Controller:
    return showcase()


@pytest.fixture
def ask(plc: Controller) -> Ask:
    router = Router(plc)

    def ask(service: int, path: bytes, data: bytes = b"", limit: int = 4000) -> Answer:
        answer = router.answer(bytes((service, len(path) // 2)) + path + data, limit)
        assert len(answer) <= limit
        return Answer(answer)

    return ask


@pytest.fixture
def symbol() -> Callable[[str], bytes]:
    def symbol(name: str) -> bytes:
        steps = [part.encode() for part in name.split(".")]
        return b"".join(TAG + bytes((len(step),)) + step + b"\0" * (len(step) % 2) for step in steps)

    return symbol


class Client:
    """A client of the encapsulation that sends only what a test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.session = 0
        self._sequence = 0

    async def ask(self, command: int, data: bytes = b"", *, session: int | None = None) -> tuple[int, bytes]:
        """(status, data) of the answer."""
        self.send(command, data, session=session)
        return await self.receive()

    def send(self, command: int, data: bytes = b"", *, session: int | None = None, status: int = 0) -> None:
        header = HEADER.pack(command, len(data), self.session if session is None else session, status, b"whoareyo", 0)
        self._writer.write(header + data)

    def send_raw(self, data: bytes) -> None:
        self._writer.write(data)

    async def receive(self) -> tuple[int, bytes]:
        _, length, session, status, context, _ = HEADER.unpack(await self._reader.readexactly(HEADER.size))
        assert context == b"whoareyo"
        self.session = self.session or session
        return status, await self._reader.readexactly(length)

    async def register(self) -> None:
        status, _ = await self.ask(Command.REGISTER_SESSION, b"\x01\x00\x00\x00")
        assert status == 0

    async def unconnected(self, message: bytes) -> Answer:
        items = struct.pack("<IHHHHHH", 0, 10, 2, 0, 0, 0xB2, len(message)) + message
        status, data = await self.ask(Command.SEND_RR_DATA, items)
        assert status == 0
        return Answer(data[16:])

    def send_connected(self, connection: int, message: bytes, sequence: int | None = None) -> None:
        self._sequence = self._sequence + 1 if sequence is None else sequence
        data = struct.pack("<H", self._sequence) + message
        items = struct.pack("<IHHHHIHH", 0, 0, 2, 0xA1, 4, connection, 0xB1, len(data)) + data
        self.send(Command.SEND_UNIT_DATA, items)

    async def connected(self, connection: int, message: bytes, sequence: int | None = None) -> Answer:
        self.send_connected(connection, message, sequence)
        status, data = await self.receive()
        assert status == 0
        assert struct.unpack_from("<H", data, 20) == (self._sequence,)
        return Answer(data[22:])

    async def open(
        self, size: int = 500, *, serial: int = 1, rpi_us: int = 1_000_000, route: bytes = b"\x01\x00",
        transport: int = 0xA3, kind: int = 2,
    ) -> Answer:  # fmt: skip
        route += b"\x20\x02\x24\x01"
        large = size > 511
        service, code = (0x5B, "IIIIBB") if large else (0x54, "IHIHBB")
        parameters = size | kind << (29 if large else 13)
        message = bytes((service, 2, 0x20, 6, 0x24, 1)) + struct.pack(
            "<BBIIHHIB3x" + code, 10, 5, 0, 0x2000 + serial, serial, 9, 77, 0, rpi_us, parameters, rpi_us, parameters,
            transport, len(route) // 2,
        )  # fmt: skip
        return await self.unconnected(message + route)

    async def close_connection(self, serial: int = 1) -> Answer:
        route = b"\x01\x00\x20\x02\x24\x01"
        message = bytes((0x4E, 2, 0x20, 6, 0x24, 1)) + struct.pack("<BBHHIBx", 10, 5, serial, 9, 77, 3) + route
        return await self.unconnected(message)

    async def is_closed(self) -> bool:
        try:
            return await self._reader.read(1) == b""
        except ConnectionResetError:
            return True

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionResetError):
            await self._writer.wait_closed()


@pytest.fixture
async def server(plc: Controller) -> AsyncIterator[LogixServer]:
    async with LogixServer(plc) as server:
        yield server


@pytest.fixture
async def connect(server: LogixServer) -> AsyncIterator[Callable[[], Awaitable[Client]]]:
    clients: list[Client] = []

    async def connect() -> Client:
        client = Client(*await asyncio.open_connection(server.host, server.port))
        clients.append(client)
        return client

    yield connect
    for client in clients:
        await client.close()


@pytest.fixture
async def client(connect: Callable[[], Awaitable[Client]]) -> Client:
    client = await connect()
    await client.register()
    return client
