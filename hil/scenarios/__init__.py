"""Scenarios, one in each module."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from hil.scenario import Scenario


def names() -> list[str]:
    """The names of all scenarios."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> Scenario:
    """The scenario of this name, one of `names`."""
    scenario: Scenario = import_module(f"{__name__}.{name}").SCENARIO
    return scenario
