"""Responses that are damaged, doubled, lost, late or swapped at any stage raise an error of ours, or are right."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from asyncua import ua

from drivers.opcua import OpcuaKind
from drivers.opcua.settings import OpcuaDevice
from edge.clock import SystemClock
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation
from edge.model import status_codes
from tests.drivers.opcua.plant import Plant, device

SEEDS = 40
ANSWERS = 22  # Of a session that does all that `use` does.
TAGS: list[dict[str, Any]] = [
    {"address": "Number", "type": "float64"},
    {"address": "Text", "type": "text"},
    {"address": "Floats", "type": "float32", "index": 1},
    {"address": "/Objects/x:Plant/x:Number", "type": "float64"},
]
TRUTH = [1.25, "abc", 2.5, 1.25]


@pytest.fixture(scope="module")
def running_plant() -> Iterator[Plant]:
    with Plant() as plant:
        plant.add("Number", 1.25)
        plant.add("Text", "abc", ua.VariantType.String)
        plant.add("Floats", [1.5, 2.5], ua.VariantType.Float)
        yield plant


def damaged(chance: random.Random, data: bytes) -> bytes:
    """A message with something in it flipped, put in or left out; mostly its length still fits."""
    message = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(8 if len(message) > 8 else 0, max(9, len(message)))
        how = chance.randrange(4)
        if how == 0:
            message[at : at + 1] = bytes([chance.randrange(256)])
        elif how == 1:
            message[at:at] = chance.randbytes(chance.choice((1, 4, 8)))
        elif how == 2:
            del message[at : at + chance.choice((1, 4, 8))]
        else:
            message[at : at + 4] = struct.pack("<I", chance.choice((0, 1, 2**32 - 1, 2**31 - 1, 2**31, 1000)))
    if chance.random() < 0.9:
        message[4:8] = struct.pack("<I", len(message))
    return bytes(message)


class Between:
    """Forwards both ways, except for one of the server's messages."""

    def __init__(self, port: int, chance: random.Random) -> None:
        self._port, self._chance = port, chance
        self._wrong = chance.randrange(ANSWERS)
        self.how = chance.choice(("damaged", "damaged", "damaged", "twice", "lost", "late", "another's"))
        self._count = 0
        self._before = self._late = b""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[int]:
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.add(asyncio.create_task(self._pass_all(reader, writer)))

        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        asking = asyncio.create_task(self._pass_on(reader, to_server))
        try:
            while True:
                head = await from_server.readexactly(8)
                body = await from_server.readexactly(struct.unpack_from("<I", head, 4)[0] - 8)
                writer.write(self._changed(head + body))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            asking.cancel()
            writer.close()
            to_server.close()

    @staticmethod
    async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)

    def _changed(self, data: bytes) -> bytes:
        number, before, late = self._count, self._before, self._late
        self._count, self._before, self._late = number + 1, data, b""
        if number != self._wrong:
            return data + late
        if self.how == "late":
            self._late = data
        if self.how == "another's" and len(before) > 24:
            return data[:4] + struct.pack("<I", len(before)) + data[8:24] + before[24:]
        return {"damaged": damaged(self._chance, data), "twice": data * 2}.get(self.how, b"")


async def use(settings: OpcuaDevice) -> list[list[Any]]:
    """Use every function of a session once; returns the good values, None for the others."""
    driver = OpcuaKind().driver(settings, SystemClock())
    plan = driver.plan(settings.scan_groups[0].tags)
    taken = []
    async with driver.connect() as session:
        await session.identity()
        await session.tag_metadata(plan)
        for _ in range(3):
            reading = await session.read(plan)
            codes = status_codes(reading.status, len(plan.layout))
            values = [reading.vectors[vector][position] for vector, position in plan.layout.slots]
            taken.append([None if code >> 30 else value for value, code in zip(values, codes, strict=True)])
        try:
            await session.browse("/Objects/x:Plant")
        except LookupError as nothing_there:
            if type(nothing_there) is not LookupError:
                raise
    return taken


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_an_error_of_ours_comes_out_or_the_truth(plant: Plant, seed: int) -> None:
    """Another error would end the gateway. Without a signature, damage may go unnoticed."""
    between = Between(plant.port, random.Random(seed))
    async with between.serve() as port:
        settings = device(plant, TAGS, facts=True, limits={"timeout": "200 ms"})
        settings = replace(settings, url=f"opc.tcp://127.0.0.1:{port}")
        try:
            taken = await use(settings)
        except (DeviceUnreachable, DeviceRefused, ProtocolViolation):
            return

    if between.how != "damaged":
        assert all(value in (None, true) for values in taken for value, true in zip(values, TRUTH, strict=True))
