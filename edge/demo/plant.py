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
    """Something that goes wrong for a while; `begins` and `ends` are shares of the demonstration's time."""

    text: str
    text_after: str
    begins: float
    ends: float
    begin: Callable[[], Awaitable[None]]
    end: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """Devices that run: how a gateway's configuration names them, and what will happen to them."""

    devices: Sequence[Mapping[str, Any]]
    mishaps: Sequence[Disturbance] = ()


def start(name: str) -> AbstractAsyncContextManager[Plant]:
    """The simulated plant of a protocol; its devices listen on loopback while the block is open.

    Raises:
        ConfigError: no such plant is installed.
    """
    for entry in entry_points(group=GROUP, name=name):
        return cast("AbstractAsyncContextManager[Plant]", entry.load()())
    known = ", ".join(sorted({entry.name for entry in entry_points(group=GROUP)}))
    raise ConfigError(f"no simulated plant is called {name!r}; installed are {known}")
