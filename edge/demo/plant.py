"""Simulated plants: a driver package may bring one, under the entry-point group `tidegate.plants`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, cast

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


def start(name: str) -> AbstractAsyncContextManager[Plant]:
    """The simulated plant of a protocol; its devices listen on loopback while the block is open.

    Raises:
        ConfigError: no such plant is installed.
    """
    for entry in entry_points(group=GROUP, name=name):
        return cast("AbstractAsyncContextManager[Plant]", entry.load()())
    known = ", ".join(sorted({entry.name for entry in entry_points(group=GROUP)}))
    raise ConfigError(f"no simulated plant is called {name!r}; installed are {known}")
