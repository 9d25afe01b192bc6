"""Simulated plants: a driver package may bring one, under the entry-point group `tidegate.plants`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol, cast

from edge.errors import ConfigError

GROUP = "tidegate.plants"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """A fault of one device that begins and ends; `begins` and `ends` are fractions of the demo's duration."""

    device: str
    text: str
    text_after: str
    begins: float
    ends: float
    begin: Callable[[], Awaitable[None]]
    end: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """Running devices: their sections of a gateway's configuration, and the faults they will have."""

    devices: Sequence[Mapping[str, Any]]
    disturbances: Sequence[Disturbance] = ()


class KnownDevice(Protocol):
    """A simulated device to qualify a machine with.

    Attributes:
        requests: how many it answered.
        refused_functions: the functions that it was asked for and that are no reading.
    """

    requests: int
    refused_functions: list[int]

    async def start(self) -> None:
        """Switch it on; it keeps its port."""
        ...

    async def stop(self) -> None:
        """Switch it off."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDevices:
    """Two simulated devices to qualify a machine with: one whose values are known, and one that counts its answers.

    Attributes:
        sections: theirs of a gateway's configuration, once they are switched on.
        expected: type and value of each tag of the first, by its name.
    """

    known: KnownDevice
    counting: KnownDevice
    sections: Callable[[], Sequence[Mapping[str, Any]]]
    expected: Mapping[str, tuple[str, float | int | str]]


def known_devices(name: str = "modbus", *, is_swapped: bool) -> KnownDevices:
    """The known devices of a plant; `is_swapped` plants a wrong word order, to see that it is found."""
    [entry] = entry_points(group=GROUP, name=name)
    return cast("KnownDevices", import_module(entry.module).known_devices(is_swapped=is_swapped))


def start(name: str) -> AbstractAsyncContextManager[Plant]:
    """The simulated plant of a protocol; its devices listen on loopback while the block is open.

    Raises:
        ConfigError: no such plant is installed.
    """
    for entry in entry_points(group=GROUP, name=name):
        return cast("AbstractAsyncContextManager[Plant]", entry.load()())
    known = ", ".join(sorted({entry.name for entry in entry_points(group=GROUP)}))
    raise ConfigError(f"no simulated plant is called {name!r}; installed are {known}")
