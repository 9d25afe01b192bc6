"""Real chronyd processes on loopback; with -x they never touch this machine's clock."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest


@dataclass
class Chronyd:
    """A chronyd, and where it answers commands."""

    process: asyncio.subprocess.Process
    udp: str
    unix: str

    async def kill(self) -> None:
        self.process.kill()
        await self.process.communicate()


Start = Callable[..., AbstractAsyncContextManager[Chronyd]]


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start_chronyd(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts a chronyd with these lines of configuration."""
    program = shutil.which("chronyd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert program, "install the package chrony"

    @asynccontextmanager
    async def start(*lines: str, environment: dict[str, str] | None = None) -> AsyncIterator[Chronyd]:
        home = tmp_path_factory.mktemp("chrony")
        home.chmod(0o750)
        port = free_udp_port()
        configuration = home / "chrony.conf"
        own = (f"cmdport {port}", "bindcmdaddress 127.0.0.1", f"bindcmdaddress {home}/chronyd.sock")
        configuration.write_text("\n".join([*lines, *own, f"pidfile {home}/chronyd.pid"]) + "\n")
        process = await asyncio.create_subprocess_exec(
            program, "-d", "-x", "-U", "-u", _user(), "-f", str(configuration),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        chronyd = Chronyd(process, f"127.0.0.1:{port}", f"{home}/chronyd.sock")
        try:
            await _wait_until_running(process)
            yield chronyd
        finally:
            if process.returncode is None:
                await chronyd.kill()

    return start


async def _wait_until_running(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    said = []
    async for line in process.stdout:
        said.append(line)
        if b"Running with root privileges" in line or b"Disabled control of system clock" in line:
            return
    raise AssertionError(f"chronyd did not start: {said}")


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def free_port() -> int:
    return free_udp_port()


@pytest.fixture
def serving() -> Callable[[int], tuple[str, ...]]:
    """Configuration of a server on loopback that needs no server itself."""
    return lambda port: ("local stratum 3", "allow 127.0.0.1", f"port {port}", "bindaddress 127.0.0.1")


@pytest.fixture
def served_by() -> Callable[[int], tuple[str, ...]]:
    """Configuration of a client that asks it as often as it may."""
    return lambda port: (f"server 127.0.0.1 port {port} iburst minpoll 0 maxpoll 0", "port 0")
