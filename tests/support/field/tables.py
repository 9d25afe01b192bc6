"""All field cases: those of every module of this package that has a `CASES`."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import tests.support.field as package
from tests.support.field.case import FieldCase

CASES: tuple[FieldCase, ...] = tuple(
    case
    for module in sorted(module.name for module in iter_modules(package.__path__))
    if module.startswith(("modbus_", "opcua_", "ethernetip_"))
    for case in import_module(f"{package.__name__}.{module}").CASES
)
