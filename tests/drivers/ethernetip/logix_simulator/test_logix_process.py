"""Simulated controllers as a process of their own."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from drivers.ethernetip.simulator import BOOL, Controller, in_thread
from drivers.ethernetip.simulator.encapsulation import HEADER, Command


def plant() -> Controller:
    plc = Controller("Plant")
    plc.tag("Here", BOOL, True)
    return plc


def identity_of(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(HEADER.pack(Command.LIST_IDENTITY, 0, 0, 0, bytes(8), 0))
        return client.recv(1000)


@pytest.mark.parametrize(
    ("arguments", "product"),
    [
        ([], b"1756-L83E/B"),
        (["--tags", "5", "--moving", "--controllers", "3"], b"1756-L83E/B"),
        (["--micro800"], b"2080-LC50-24QBB"),
        (["--plant", "drivers.ethernetip.simulator.controller:showcase"], b"1756-L83E/B"),
    ],
)
def test_it_prints_its_ports_and_ends_when_asked(arguments: list[str], product: bytes) -> None:
    command = [sys.executable, "-m", "drivers.ethernetip.simulator", *arguments]
    count = 3 if "--controllers" in arguments else 1

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ports = [int(process.stdout.readline()) for _ in range(count)]
        answers = [identity_of(port) for port in ports]
        process.terminate()

    assert process.returncode == 0
    assert all(product in answer for answer in answers)
    assert len(set(ports)) == count


def test_a_port_that_is_taken_is_told_in_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "drivers.ethernetip.simulator", "--port", port]
        done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert done.returncode == 1
    assert done.stderr.startswith("it cannot listen there")
    assert "Traceback" not in done.stderr


def test_it_serves_from_a_thread() -> None:
    with in_thread(plant(), plant()) as (first, second):
        assert identity_of(first.port) != identity_of(second.port)  # Each says its own port.


async def test_a_stopped_server_is_gone(connect: Callable[[], Awaitable[object]], server: object) -> None:
    await connect()
    await server.stop()  # type: ignore[attr-defined]

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)  # type: ignore[attr-defined]
