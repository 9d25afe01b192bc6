"""Scenarios, one in each module."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from hil.scenario import Scenario


def names() -> list[str]:
    """The names of all scenarios, in the order in which `all` plays them: what harms the rig comes last."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return sorted(found, key=lambda name: (name != "commissioning", find(name).is_destructive))


def find(name: str) -> Scenario:
    """The scenario of this name, one of `names`."""
    scenario: Scenario = import_module(f"{__name__}.{name}").SCENARIO
    return scenario
