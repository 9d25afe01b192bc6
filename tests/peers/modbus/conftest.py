from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def libmodbus_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("libmodbus") / "server"
    flags = ["-O1", "-Wall", "-Werror", "-I/usr/include/modbus"]
    subprocess.run(["gcc", *flags, "-o", program, HERE / "libmodbus_server.c", "-lmodbus"], check=True)
    return program


@contextmanager
def _running(command: Sequence[str | Path]) -> Iterator[int]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


@pytest.fixture
def libmodbus_port(libmodbus_server: Path) -> Iterator[int]:
    with _running([libmodbus_server]) as port:
        yield port


@pytest.fixture(scope="module")
def pymodbus_port() -> Iterator[int]:
    with _running([sys.executable, HERE / "pymodbus_server.py"]) as port:
        yield port
