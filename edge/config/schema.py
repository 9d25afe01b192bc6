"""The JSON Schema of configurations for editors: generated from the settings, with a branch for each driver."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import DataclassSchema

from edge.config.fields import fields_of
from edge.config.settings import GatewaySettings, RelaySettings
from edge.config.templates import KEYS
from edge.driver import DriverKind
from edge.settings import Settings

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFS = "$defs"


def gateway_schema(drivers: Iterable[tuple[str, DriverKind[Any]]]) -> dict[str, Any]:
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
        condition = {"required": ["driver"], "properties": {"driver": {"const": name}}}
        branches.append({"if": condition, "then": {"$ref": f"#/{_DEFS}/{prefix}device"}})
    written = {
        "type": "object", "required": ["driver"], "properties": {"driver": {"enum": names}}, "allOf": branches,
    }  # fmt: skip
    # What an instance lays over its type is checked as a whole by `tidegate check`.
    instance = {"type": "object", "required": ["of_type"], "properties": _keys("devices[].")}
    schema["properties"]["devices"]["items"] = {
        "if": {"type": "object", "required": ["of_type"]}, "then": instance, "else": written,
    }  # fmt: skip
    of_type = {"type": "object", "properties": _keys("types.NAME."), "additionalProperties": False}
    schema["properties"]["types"] = {"type": "object", "additionalProperties": of_type,
                                     "description": "Devices and tags of which there are many, by name."}  # fmt: skip
    _add_reference(schema)
    return schema


def _add_reference(schema: dict[str, Any]) -> None:
    """A site that names a reference writes only what differs."""
    schema["properties"] |= _keys("", ("reference", "values"))
    required = schema.pop("required")
    schema["if"], schema["else"] = {"required": ["reference"]}, {"required": required}


_JSON_TYPES = {"text": "string", "path": "string", "list": "array", "keys": "object", "section": "object"}


def _keys(prefix: str, names: Sequence[str] = ()) -> dict[str, Any]:
    found = {key.removeprefix(prefix): each for key, each in KEYS.items() if key.startswith(prefix)}
    return {
        key: {"type": _JSON_TYPES[kind], "description": meaning} for key, (kind, meaning) in found.items()
        if "." not in key and (not names or key in names)
    }  # fmt: skip


def relay_schema() -> dict[str, Any]:
    """The schema of a relay's configuration."""
    schema = {"$schema": _DIALECT, **schema_of(RelaySettings)}
    _add_reference(schema)
    return schema


def schema_of(cls: type[Settings], **options: Any) -> dict[str, Any]:
    """The JSON Schema of settings with descriptions; options are those of `TypeAdapter.json_schema`."""
    return TypeAdapter(cls).json_schema(schema_generator=_WithDescriptions, **options)


class _WithDescriptions(GenerateJsonSchema):
    """Pydantic's generator, which adds the description of each field."""

    def dataclass_schema(self, schema: DataclassSchema) -> JsonSchemaValue:
        """The schema of one class."""
        schema_of_class = super().dataclass_schema(schema)
        for name, field in fields_of(schema["cls"]).items():
            key = schema_of_class["properties"][name]
            if not field.is_required:
                key.setdefault("default", field.default)  # From a default factory.
            if field.description:
                key["description"] = field.description
        return schema_of_class
