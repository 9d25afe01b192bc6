"""A configuration read in a process of its own, while this one loads the rest of the gateway.

Fifty thousand tags leave a hundred megabytes of used memory behind; here they end with the process that read them.
What comes back is small: the settings, and each device packed until it is used.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, overload

from edge.config.settings import GatewaySettings, Role
from edge.driver import DeviceSettings
from edge.errors import ConfigError, Problem

T = TypeVar("T")


class PackedDevices(Sequence[DeviceSettings]):
    """Devices that take memory only while one of them is looked at."""

    def __init__(self, packed: Sequence[bytes]) -> None:
        self._packed = tuple(packed)

    @classmethod
    def of(cls, devices: Sequence[DeviceSettings]) -> PackedDevices:
        """The same devices, packed."""
        return cls([pickle.dumps(device) for device in devices])

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, at: int) -> DeviceSettings: ...
    @overload
    def __getitem__(self, at: slice) -> PackedDevices: ...
    def __getitem__(self, at: int | slice) -> DeviceSettings | PackedDevices:
        if isinstance(at, slice):
            return PackedDevices(self._packed[at])
        device: DeviceSettings = pickle.loads(self._packed[at])  # noqa: S301 - packed by ourselves
        return device

    def __iter__(self) -> Iterator[DeviceSettings]:
        return (self[at] for at in range(len(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The configuration of a gateway, ready to be run."""

    settings: GatewaySettings
    digest: bytes
    warnings: tuple[Problem, ...]


def begin_check(path: Path, role: Role = "all") -> Callable[[], Site]:
    """Begin to check a gateway's configuration; what is returned waits for the site.

    It raises ConfigError with every problem.
    """
    return _begin(lambda: _check(path, role))


def _check(path: Path, role: Role) -> Site | ConfigError:
    from edge.config.check import check

    try:
        checked = check(path, role=role)
        settings = checked.gateway()
    except ConfigError as error:
        return ConfigError(error.problems)
    packed = settings.model_copy(update={"devices": PackedDevices.of(settings.devices)})
    return Site(settings=packed, digest=checked.digest, warnings=checked.warnings)


def _begin(work: Callable[[], T | ConfigError]) -> Callable[[], T]:
    """Call `work` in a child process; to be used before there are threads."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(work, theirs)
    os.close(theirs)

    def result() -> T:
        with os.fdopen(ours, "rb") as pipe:
            packed = pipe.read()
        os.waitpid(child, 0)
        if not packed:
            raise RuntimeError("the process that reads the configuration died; its traceback is above")
        answer: T | ConfigError = pickle.loads(packed)  # noqa: S301 - packed by our own child
        if isinstance(answer, ConfigError):
            raise answer
        return answer

    return result


def _answer(work: Callable[[], object], pipe_fd: int) -> None:
    code = 1
    try:
        packed = pickle.dumps(work())
        with os.fdopen(pipe_fd, "wb") as pipe:
            pipe.write(packed)
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the child must not return into the parent's code
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)
