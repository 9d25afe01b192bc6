from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from drivers.ethernetip.simulator import Controller, LogixServer, in_thread
from drivers.ethernetip.simulator.controller import showcase
from tests.support.ports import free_port


@pytest.fixture
def plc() -> Controller:
    return showcase()


@pytest.fixture
def logix(plc: Controller) -> Iterator[LogixServer]:
    with in_thread(plc) as (server,):
        yield server
    assert plc.writes_asked == 0


@pytest.fixture(scope="module")
def cpppo_port() -> Iterator[int]:
    """A server by cpppo, a Logix controller without a tag list, with values written by its own client."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    tags = ["Level=REAL", "Counts=DINT[200]", "Small=INT[3]", "Inputs@4/100/3=INT[16]"]
    server = [sys.executable, "-m", "cpppo.server.enip", "--address", address, *tags]
    client = [sys.executable, "-m", "cpppo.server.enip.client", "--address", address]
    with subprocess.Popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not is_listening(port):
                assert process.poll() is None
                time.sleep(0.05)
            subprocess.run(
                [*client, "Level=37.5", "Counts[0-3]=1,2,3,4", "Counts[199]=-7", "Inputs[0-2]=257,515,4"], check=True
            )
            yield port
        finally:
            process.terminate()


def is_listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False
