"""Machines that processes of a rig run on: this one, a namespace of it, or another that ssh reaches."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from edge.demo import children
from edge.errors import TidegateError
from edge.health import StatusSnapshot, read_status

_RUN_S, _END_S = 60.0, 20.0
# Tells its number, and ends the program when the connection ends: nothing stays behind on the other machine.
_WATCHED = (
    'exec 3<&0; "$@" </dev/null & child=$!; echo "$child"; '
    '{ cat <&3; kill "$child"; } >/dev/null 2>&1 & watch=$!; wait "$child"; code=$?; kill "$watch"; exit "$code"'
)
_SSH = (
    "-o",
    "BatchMode=yes",
    "-o",
    "ConnectTimeout=5",
    "-o",
    "ServerAliveInterval=5",
    "-o",
    "ServerAliveCountMax=2",
    "-o",
    "StreamLocalBindUnlink=yes",
)

# Also a process that is stopped ends with this one, and at once: what it holds is of this run only.
start_process = partial(children.start_process, at_end=signal.SIGKILL)


class CommandFailed(TidegateError):
    """A command on a machine of the rig failed; the message has what it said."""


class HostProcess:
    """A program that runs on a host."""

    def __init__(self, host: Host, child: asyncio.subprocess.Process, pid: int) -> None:
        self._host, self._child = host, child
        self.pid = pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, or that of ssh; None while it runs."""
        return self._child.returncode

    async def signal(self, name: str) -> None:
        """Send it a signal, such as TERM."""
        if self.returncode is None:
            with contextlib.suppress(CommandFailed):  # It has ended meanwhile, or its machine is off.
                await self._host.run("kill", f"-{name}", str(self.pid))

    async def stop(self) -> None:
        """Ask it to end, and kill it after 20 s."""
        await self.signal("TERM")
        try:
            async with asyncio.timeout(_END_S):
                await self._child.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it at once."""
        await self.signal("KILL")
        if self.returncode is None:
            with contextlib.suppress(TimeoutError, ProcessLookupError):
                async with asyncio.timeout(1):
                    await self._child.wait()
                    return
                self._child.kill()
        await self._child.wait()


class Host:
    """This machine; with `enter`, such as that of a `Machine`, a namespace of it."""

    def __init__(self, enter: Sequence[str] = ()) -> None:
        self._enter = tuple(enter)

    async def run(self, *command: str, data: bytes = b"") -> bytes:
        """What a command prints, given `data`. Raises CommandFailed."""
        given = asyncio.subprocess.PIPE if data else asyncio.subprocess.DEVNULL
        process = await start_process(
            *self._words(command), stdin=given, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(_RUN_S):
                output, errors = await process.communicate(data or None)
        except TimeoutError:
            raise CommandFailed(f"{command[0]} did not end within {_RUN_S:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode:
            said = (errors or output).decode("utf-8", "replace").strip()[-1000:] or "nothing"
            raise CommandFailed(f"{shlex.join(command)} ended with {process.returncode}, and said: {said}")
        return output

    async def start(self, *command: str, log: Path) -> HostProcess:
        """Start a program that goes on; what it says is appended to a file of this machine."""
        with log.open("ab") as output:
            child = await start_process(*self._words(command), stdin=asyncio.subprocess.DEVNULL, stdout=output,
                                        stderr=output)  # fmt: skip
        return HostProcess(self, child, child.pid)

    async def write(self, path: PurePosixPath, data: bytes) -> None:
        """Write a file for its owner only, in a folder that is made where it is missing."""
        script = 'umask 077; mkdir -p "$(dirname "$1")"; cat >"$1"'
        await self.run("sh", "-euc", script, "write", str(path), data=data)

    async def read(self, path: PurePosixPath) -> bytes:
        """The content of a file. Raises CommandFailed."""
        return await self.run("cat", str(path))

    async def status(self, socket: PurePosixPath) -> StatusSnapshot | None:
        """The status of a gateway or relay; None while it does not answer."""
        return await _status(Path(socket))

    def _words(self, command: Sequence[str]) -> Sequence[str]:
        return (*self._enter, *command)


class SshHost(Host):
    """Another machine, as a user that ssh signs in without a question.

    Every command uses one connection, which is opened when it is first needed.
    """

    def __init__(self, target: str, folder: Path, options: Sequence[str] = ()) -> None:
        self._ssh = ("ssh", *_SSH, "-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o",
                     f"ControlPath={folder}/%C", *options)  # fmt: skip
        super().__init__((*self._ssh, target, "--"))
        self._target, self._folder = target, folder
        self._forwarded: set[PurePosixPath] = set()

    def _words(self, command: Sequence[str]) -> Sequence[str]:
        return (*self._enter, shlex.join(command))

    async def start(self, *command: str, log: Path) -> HostProcess:
        """See `Host.start`; the program ends when the connection does."""
        with log.open("ab") as output:
            child = await start_process(
                *self._words(("sh", "-c", _WATCHED, "sh", *command)), stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, stderr=output,
            )  # fmt: skip
        assert child.stdout is not None
        try:
            async with asyncio.timeout(_RUN_S):
                line = await child.stdout.readline()
        except TimeoutError:
            child.kill()
            line = b""
        if not line.strip().isdigit():
            raise CommandFailed(f"{command[0]} cannot be started at {self._target}; see {log}")
        return HostProcess(self, child, int(line))

    async def status(self, socket: PurePosixPath) -> StatusSnapshot | None:
        """See `Host.status`; the socket of the other machine is forwarded to this one."""
        here = self._folder / f"{abs(hash(socket)):x}"
        if socket not in self._forwarded:
            if not await self._control("forward", "-L", f"{here}:{socket}"):
                return None
            self._forwarded.add(socket)
        if (found := await _status(here)) is None and not await self._control("check"):
            self._forwarded.clear()  # The machine was off: the next connection forwards nothing yet.
        return found

    async def close(self) -> None:
        """End the connection."""
        await self._control("exit")

    async def _control(self, *words: str) -> bool:
        """Ask something of the connection, and whether it could be done."""
        process = await start_process(
            *self._ssh, "-O", *words, self._target, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(_END_S):
                return await process.wait() == 0
        except TimeoutError:
            process.kill()
            return False


async def _status(path: Path) -> StatusSnapshot | None:
    try:
        return await asyncio.to_thread(read_status, path)
    except (OSError, ValueError):
        return None
