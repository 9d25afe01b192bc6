"""Base class and constraints of settings, which are frozen dataclasses.

A running gateway receives its settings from the process that checked them, and does not load pydantic: the constraints
import it in the methods that pydantic calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Interval, Len, MaxLen, MinLen

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, ValidationInfo
    from pydantic_core import CoreSchema

__all__ = ["Check", "Interval", "Len", "MaxLen", "MinLen", "Number", "Parse", "Pattern", "Resolve",
           "Settings"]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base class of all settings; every subclass is a frozen dataclass with keyword-only fields.

    Validation is strict: an unknown key or a value of another type is a problem with its line.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"strict": True, "extra": "forbid"}

    def __post_init__(self) -> None:
        """Raise ValueError for values that contradict each other. Overrides call the base's first."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Constraint: the text matches this regular expression, in the syntax that Rust and ECMA 262 share."""

    regex: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return {**handler(source), "pattern": self.regex}


@dataclass(frozen=True, slots=True)
class Check:
    """Constraint: this function accepts the value; its ValueError is the message."""

    function: Callable[[Any], object]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        def check(value: Any) -> Any:
            self.function(value)
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))


@dataclass(frozen=True, slots=True)
class Parse:
    """The value is parsed by this function, which raises ValueError for an invalid one."""

    function: Callable[[object], object]
    json_schema: Mapping[str, Any] = field(hash=False)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self.function, handler(source))

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: object) -> dict[str, Any]:
        return dict(self.json_schema)


@dataclass(frozen=True, slots=True)
class Resolve:
    """Like `Parse`, with a function that also gets the context of the configuration; see `edge.references`."""

    function: Callable[[object, Mapping[str, Any]], object]
    json_schema: Mapping[str, Any] = field(hash=False)

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        def resolve(value: object, info: ValidationInfo) -> object:
            return self.function(value, info.context or {})

        return core_schema.with_info_plain_validator_function(resolve)

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: object) -> dict[str, Any]:
        return dict(self.json_schema)


@dataclass(frozen=True, slots=True)
class _Finite:
    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return {**handler(source), "strict": False, "allow_inf_nan": False}


Number = Annotated[float, _Finite()]
"""A finite number; a text that is a number is accepted."""
