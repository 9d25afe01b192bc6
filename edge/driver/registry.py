"""The installed drivers, found by entry point."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoints, entry_points
from typing import Any, cast

from edge.driver.interface import DriverKind
from edge.errors import ConfigError

GROUP = "tidegate.drivers"


def installed() -> tuple[str, ...]:
    """Names of the installed drivers; imports none of them."""
    return tuple(sorted({entry.name for entry in _registered()}))


def load(name: str) -> DriverKind[Any]:
    """Import a driver and call the factory behind its entry point: each gateway has a `DriverKind` of its own.

    Raises:
        ConfigError: no such driver is installed, or its library is missing.
    """
    for entry in _registered().select(name=name):
        try:
            return cast("DriverKind[Any]", entry.load()())
        except ImportError as error:
            raise ConfigError(f"driver {name} cannot be loaded: {error}; install tidegate[{name}]") from error
    raise ConfigError(f"no driver is called {name!r}; installed are {', '.join(installed())}")


@cache
def _registered() -> EntryPoints:
    """The entry points of all drivers; cached, because the search reads the metadata of every package."""
    return entry_points(group=GROUP)
