"""A man in the middle with the broker's own key: records what is inside TLS, cuts connections, and says hostile things.

It is a program: `python -m tests.support.tls_recorder FOLDER PORT ACTIONS`. Each connection goes on to the broker of
this machine with the certificate of the client it is from, and is recorded as FOLDER/recorded/NUMBER.NAME. A line of
ACTIONS is for one connection of `line-4`: once the broker has acknowledged something on it, those bytes (in hex) are
sent to the gateway as if they were the broker's, and the connection is left to the gateway; an empty line cuts it.
Without a line left, everything passes.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from edge.mqtt.codec import PacketType

_READ_BYTES = 65536
_GATEWAY = "line-4"


def packet_types(stream: bytes) -> Iterator[PacketType]:
    """The kinds of the packets of a recording; a last one that was cut counts too."""
    at = 0
    while at < len(stream):
        yield PacketType(stream[at] >> 4)
        length, shift, at = 0, 0, at + 1
        while at < len(stream):
            digit, at = stream[at], at + 1
            length |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                break
        at += length


class Recorder:
    """The server, and what is still to be done."""

    def __init__(self, folder: Path, actions: list[bytes]) -> None:
        self._folder, self._actions = folder, iter(actions)
        self._count = 0

    async def serve(self, port: int) -> None:
        """Serve until the process is ended."""
        server = await asyncio.start_server(self._meet, port=port, ssl=self._context("broker", is_server=True))
        print("ready", flush=True)
        await server.serve_forever()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        certificate = writer.get_extra_info("peercert")
        name = next(value for part in certificate["subject"] for key, value in part if key == "commonName")
        self._count += 1
        record = self._folder / "recorded" / f"{self._count}.{name}"
        action = next(self._actions, None) if name == _GATEWAY else None
        context = self._context(name, is_server=False)
        there = await asyncio.open_connection("127.0.0.1", 8883, ssl=context, server_hostname="dmz-broker.example")
        back = asyncio.create_task(self._answer(there[0], writer, action))
        with record.open("wb", buffering=0) as file:
            await _carry(reader, there[1], file.write)
        there[1].transport.abort()
        await back

    async def _answer(self, broker: asyncio.StreamReader, client: asyncio.StreamWriter, action: bytes | None) -> None:
        """Carry what the broker says, until it has acknowledged a message and there is something to be done."""
        try:
            while data := await broker.read(_READ_BYTES):
                client.write(data)
                if action is not None and PacketType.PUBACK in packet_types(data):
                    client.write(action)
                    await client.drain()
                    break
            if action:
                await asyncio.wait_for(client.wait_closed(), 20)  # The gateway has to end it.
        except (OSError, TimeoutError):
            pass
        finally:
            client.transport.abort()

    def _context(self, name: str, *, is_server: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self._folder / "ca.pem")
        context.load_cert_chain(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        context.verify_mode = ssl.CERT_REQUIRED
        return context


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: Callable[[bytes], object]) -> None:
    try:
        while data := await reader.read(_READ_BYTES):
            record(data)
            writer.write(data)
            await writer.drain()
    except OSError:
        return


if __name__ == "__main__":
    folder, port, file = sys.argv[1:]
    lines = Path(file).read_text().split("\n")
    asyncio.run(Recorder(Path(folder), [bytes.fromhex(line) for line in lines]).serve(int(port)))
