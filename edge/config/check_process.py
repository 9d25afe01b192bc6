"""Check a configuration in a child process, while this process loads the rest of the gateway, or is at work.

Checking fifty thousand tags takes a hundred megabytes; that memory is freed with the child, as is the validation
library. The child returns the settings, with each device compressed until it is used.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, overload

from edge.errors import ConfigError, Problem

if TYPE_CHECKING:
    from edge.config.kept import KeptConfiguration
    from edge.config.settings import GatewaySettings
    from edge.driver import DeviceSettings


Role = Literal["all", "acquire", "forward"]
"""The whole gateway, the device side only, or the network side only."""


class PackedDevices(Sequence["DeviceSettings"]):
    """Devices that are stored compressed, and unpacked at each access."""

    def __init__(self, packed: Sequence[bytes]) -> None:
        self._packed = tuple(packed)

    @classmethod
    def of(cls, devices: Sequence[DeviceSettings]) -> PackedDevices:
        """The same devices, compressed."""
        return cls([zlib.compress(pickle.dumps(device), zlib.Z_BEST_SPEED) for device in devices])

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, at: int) -> DeviceSettings: ...
    @overload
    def __getitem__(self, at: slice) -> PackedDevices: ...
    def __getitem__(self, at: int | slice) -> DeviceSettings | PackedDevices:
        if isinstance(at, slice):
            return PackedDevices(self._packed[at])
        device: DeviceSettings = pickle.loads(zlib.decompress(self._packed[at]))  # noqa: S301 - our own
        return device

    def __iter__(self) -> Iterator[DeviceSettings]:
        return (self[at] for at in range(len(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A checked configuration of a gateway.

    Attributes:
        files: names in `folder` of all files, whose digests `digest` covers.
        kept: what is to be kept of it, where that is not done.
        proposal: the second part of the text by which it is proposed in place of the one on record; empty where nobody
            is named who could approve it.
    """

    settings: GatewaySettings
    digest: bytes
    warnings: tuple[Problem, ...]
    folder: Path = Path()
    files: tuple[str, ...] = ()
    kept: KeptConfiguration | None = None
    proposal: str = ""


def begin_check(path: Path, role: Role = "all") -> Callable[[], Site]:
    """Start to check a gateway's configuration in a child process; call it before threads are started.

    The returned function imports the drivers in use, waits for the result, and raises ConfigError with every problem.
    """
    read_fd, write_fd = os.pipe()
    child = os.fork()
    if child == 0:
        _run_child(path, role, write_fd)
    os.close(write_fd)

    def site() -> Site:
        with os.fdopen(read_fd, "rb") as pipe:
            result = _receive(pipe)
        os.waitpid(child, 0)
        if isinstance(result, ConfigError):
            raise result
        return result

    return site


async def check_again(path: Path, role: Role) -> Site:
    """Check the configuration of a gateway at work, in a process of its own; only `begin_check` may fork.

    Raises:
        ConfigError: with every problem.
    """
    code = "from edge.config.check_process import write_site; write_site()"
    command = [sys.executable, "-c", code, str(path), role]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - this very Python, on a program of our own
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )

    child = await asyncio.to_thread(start)  # A fork takes longer than a scan may be late.
    try:
        written, _ = await asyncio.to_thread(child.communicate)
    finally:
        child.kill()
    result = await asyncio.to_thread(_receive, BytesIO(written))
    if isinstance(result, ConfigError):
        raise result
    return result


def write_site() -> None:
    """What the process of `check_again` does."""
    path, role = sys.argv[1:]
    _send_site(Path(path), role, sys.stdout.buffer)  # type: ignore[arg-type]


def _receive(pipe: IO[bytes]) -> Site | ConfigError:
    """The result; the names of the drivers in use come before it."""
    from edge.driver import load

    while True:
        try:
            message: str | Site | ConfigError = pickle.load(pipe)  # noqa: S301 - packed by our own child
        except (EOFError, pickle.UnpicklingError) as error:
            raise RuntimeError("the process that reads the configuration died; its traceback is above") from error
        if not isinstance(message, str):
            return message
        with suppress(ConfigError):  # The child reports it as a problem.
            load(message)


def _run_child(path: Path, role: Role, pipe_fd: int) -> None:
    code = 1
    try:
        with os.fdopen(pipe_fd, "wb") as pipe:
            _send_site(path, role, pipe)
        code = 0
    except BaseException:  # noqa: BLE001 - the child must not return into the parent's code
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _send_site(path: Path, role: Role, pipe: IO[bytes]) -> None:
    def send(message: str | Site | ConfigError) -> None:
        pickle.dump(message, pipe)
        pipe.flush()

    send(_check(path, role, send))


def _check(path: Path, role: Role, send: Callable[[str], None]) -> Site | ConfigError:
    from edge.config.check import check
    from edge.config.kept import digest_on_record, is_held
    from edge.config.proposal import proposal_body
    from edge.config.written import compare, configuration_of, packed_files
    from edge.driver import DriverKind, load

    def find(driver: str) -> DriverKind[Any]:
        if role != "forward":  # The network side loads no driver.
            send(driver)
        return load(driver)

    try:
        checked = check(path, find, role, kind="gateway")
        settings = checked.gateway()
    except ConfigError as error:
        return ConfigError(error.problems)
    packed = replace(settings, devices=PackedDevices.of(settings.devices))
    state = settings.gateway.state
    old, is_kept = digest_on_record(state), is_held(state, checked.digest)
    is_new = role != "forward" and not (old == checked.digest and is_kept)
    folder = path if path.is_dir() else path.parent
    kept = replace(compare(checked.pack(), state, old), files=packed_files(folder, checked.files)) if is_new else None
    proposal, before = "", configuration_of(state, old) if is_new else None
    if before is not None and (settings.approval is not None or "approval" in before):
        proposal = proposal_body(checked, before)
    return Site(settings=packed, digest=checked.digest, warnings=checked.warnings, folder=folder,
                files=checked.files, kept=kept, proposal=proposal)  # fmt: skip
