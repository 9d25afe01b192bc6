"""The drivers of this installation, found by entry point."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoints, entry_points
from typing import Any, cast

from edge.driver.interface import DriverKind
from edge.errors import ConfigError

GROUP = "tidegate.drivers"


def installed() -> tuple[str, ...]:
    """Names of the drivers found by entry point, without importing any."""
    return tuple(sorted({entry.name for entry in _registered()}))


def load(name: str) -> DriverKind[Any]:
    """Import one driver; the factory behind the entry point is called, so each gateway has its own.

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
    """The drivers of this installation; finding them goes through all packages, and it does not change."""
    return entry_points(group=GROUP)
