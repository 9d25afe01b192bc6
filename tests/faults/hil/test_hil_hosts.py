"""Where a gateway runs: on this machine, or on another that a real ssh reaches; it never outlives the run."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pytest

from edge.demo.children import start_process
from hil.hosts import CommandFailed, Host, SshHost
from tests.support.ports import free_port
from tests.support.waiting import until

_SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile {folder}/pid
PasswordAuthentication no
StrictModes no
UsePAM no
"""
_GATEWAY = """
gateway: {{name: line-4, path: acme/basel/upstream/line-4, state: {folder}/state}}
clock: {{require: any, chrony: "off"}}
devices:
  - name: mixer
    driver: simulator
    scan_groups: [{{every: 100 ms, tags: [{{name: count, signal: counter, period: 50 ms, type: uint32}}]}}]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Path, int]]:
    """A sshd of this user; its folder, with the user's key, and its port."""
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    assert sshd, "install the package openssh-server"
    with TemporaryDirectory(prefix="hil-ssh-") as name:
        folder, port = Path(name), free_port()
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        (folder / "sshd.conf").write_text(_SERVER.format(port=port, folder=folder))
        Path("/run/sshd").mkdir(exist_ok=True)  # Where it separates its privileges.
        process = subprocess.Popen([sshd, "-D", "-f", folder / "sshd.conf", "-E", folder / "log"])
        yield folder, port
        process.kill()
        process.wait()


@pytest.fixture(params=["here", "by ssh"])
async def host(request: pytest.FixtureRequest) -> AsyncIterator[Host]:
    if request.param == "here":
        yield Host()
        return
    with TemporaryDirectory(prefix="hil-") as name:
        host = SshHost("127.0.0.1", Path(name), _options(*request.getfixturevalue("server")))
        yield host
        await host.close()


def _options(folder: Path, port: int) -> list[str]:
    options = [
        "StrictHostKeyChecking=no",
        f"UserKnownHostsFile={folder}/known",
        "LogLevel=ERROR",
        "ConnectionAttempts=20",
    ]
    return ["-p", str(port), "-i", str(folder / "user"), *(word for option in options for word in ("-o", option))]


def has_ended(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def test_files_and_words_arrive_as_they_are(host: Host, tmp_path: Path) -> None:
    path, data = PurePosixPath(tmp_path / "a folder" / "a 'file'"), bytes(range(256)) * 100

    await host.write(path, data)

    assert await host.read(path) == data
    assert await host.run("printf", "%s|", "two words", "$HOME", "") == b"two words|$HOME||"
    assert await host.run("stat", "--format=%a", str(path)) == b"600\n"


async def test_a_command_that_fails_is_said_in_a_sentence(host: Host) -> None:
    with pytest.raises(CommandFailed, match="ended with 7, and said: no such thing"):
        await host.run("sh", "-c", "echo no such thing >&2; exit 7")


async def test_a_gateway_runs_there_says_its_status_and_ends(host: Host) -> None:
    with TemporaryDirectory(prefix="hil-") as name:  # The path of a socket is short.
        folder = PurePosixPath(name)
        await host.write(folder / "gateway.yaml", _GATEWAY.format(folder=folder).encode())
        process = await host.start(
            sys.executable, "-m", "edge.cli", "run", str(folder / "gateway.yaml"), log=Path(name) / "log"
        )
        async with asyncio.timeout(60):
            while (status := await host.status(folder / "state/status.sock")) is None:
                assert process.returncode is None, await host.read(folder / "log")
                await asyncio.sleep(0.05)

        assert status.gateway.name == "line-4"
        assert status.gateway.pid == process.pid
        await process.stop()
        assert process.returncode == 0
        assert has_ended(process.pid)


async def test_what_runs_on_another_machine_ends_with_the_connection(server: tuple[Path, int], tmp_path: Path) -> None:
    """A bench computer that dies leaves no gateway behind."""
    with TemporaryDirectory(prefix="hil-") as name:
        host = SshHost("127.0.0.1", Path(name), _options(*server))
        process = await host.start("sleep", "600", log=tmp_path / "log")

        os.kill(process._child.pid, signal.SIGKILL)

        await until(lambda: has_ended(process.pid))
        await host.close()


async def test_a_child_of_a_process_that_is_killed_ends(tmp_path: Path) -> None:
    """See `edge.demo.children`: what `Host` starts is ended by the kernel."""
    script = (
        "import asyncio, sys; from pathlib import Path; from hil.hosts import Host\n"
        "async def main():\n"
        "    process = await Host().start('sleep', '600', log=Path(sys.argv[1]))\n"
        "    print(process.pid, flush=True); await asyncio.sleep(600)\n"
        "asyncio.run(main())"
    )
    parent = await start_process(sys.executable, "-c", script, str(tmp_path / "log"), stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())

    parent.kill()

    await until(lambda: has_ended(pid))
    await parent.wait()
