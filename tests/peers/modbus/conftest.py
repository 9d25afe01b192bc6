from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent
Running = Callable[..., AbstractContextManager[int]]


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
def running_libmodbus(libmodbus_server: Path) -> Running:
    """Starts the server on libmodbus; its arguments, its port."""
    return lambda *words: _running([libmodbus_server, *map(str, words)])


@pytest.fixture
def running_pymodbus() -> Running:
    """Starts the server on pymodbus; its arguments, its port."""
    return lambda *words: _running([sys.executable, HERE / "pymodbus_server.py", *map(str, words)])


@pytest.fixture
def libmodbus_port(running_libmodbus: Running) -> Iterator[int]:
    with running_libmodbus() as port:
        yield port


@pytest.fixture(scope="module")
def pymodbus_port() -> Iterator[int]:
    with _running([sys.executable, HERE / "pymodbus_server.py"]) as port:
        yield port
