"""The JSON Schema of configurations, for editors: made from the settings, with a branch for each driver."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edge.config.docstrings import schema_of
from edge.config.settings import GatewaySettings, RelaySettings
from edge.driver import DriverKind

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFS = "$defs"


def gateway_schema(drivers: Iterable[tuple[str, DriverKind]]) -> dict[str, Any]:
    """The schema of a gateway's configuration, with the devices of these drivers."""
    schema = {"$schema": _DIALECT, **schema_of(GatewaySettings)}
    definitions: dict[str, Any] = schema.setdefault(_DEFS, {})
    definitions.pop("DeviceSettings", None)
    names, branches = [], []
    for name, kind in drivers:
        prefix = f"{name}."
        device = schema_of(kind.settings, ref_template=f"#/{_DEFS}/{prefix}{{model}}")
        for inner, definition in device.pop(_DEFS, {}).items():
            definitions[prefix + inner] = definition
        definitions[f"{prefix}device"] = device
        names.append(name)
        is_it = {"required": ["driver"], "properties": {"driver": {"const": name}}}
        branches.append({"if": is_it, "then": {"$ref": f"#/{_DEFS}/{prefix}device"}})
    schema["properties"]["devices"]["items"] = {
        "type": "object",
        "required": ["driver"],
        "properties": {"driver": {"enum": names}},
        "allOf": branches,
    }
    return schema


def relay_schema() -> dict[str, Any]:
    """The schema of a relay's configuration."""
    return {"$schema": _DIALECT, **schema_of(RelaySettings)}
