"""What settings are declared with: pydantic, which checks them.

A gateway that runs holds settings that another process has checked. There `edge.plain` stands for this module, the same
declarations make classes that only hold values, and pydantic is never loaded; see `edge.config.apart`.
"""

from __future__ import annotations

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    SerializeAsAny,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

__all__ = [
    "AfterValidator",
    "BeforeValidator",
    "Discriminator",
    "Field",
    "PlainSerializer",
    "PlainValidator",
    "PrivateAttr",
    "SerializeAsAny",
    "Settings",
    "Tag",
    "ValidationInfo",
    "WithJsonSchema",
    "field_validator",
    "model_validator",
]


class Settings(BaseModel):
    """Frozen, strict settings: an unknown key or a value of the wrong type is a problem with its line."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
