"""What settings are declared with: plain frozen dataclasses, and what each value is held to.

A gateway that runs takes settings over from the process that checked them. Only a process that checks loads pydantic:
the constraints name it inside the methods that it calls.
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
    """Base of all settings, each class of them a dataclass, frozen and with keywords only.

    They are checked strictly: an unknown key or a value of another type is a problem with its line.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"strict": True, "extra": "forbid"}

    def __post_init__(self) -> None:
        """Raise ValueError where values do not go together; each was checked alone. Begin with the base's own."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text matches this regular expression, in the dialect of both Rust and ECMA 262."""

    regex: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return {**handler(source), "pattern": self.regex}


@dataclass(frozen=True, slots=True)
class Check:
    """A value for which this function returns; its ValueError says what is wrong."""

    function: Callable[[Any], object]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        def check(value: Any) -> Any:
            self.function(value)
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))


@dataclass(frozen=True, slots=True)
class Parse:
    """A value is written in another form, which this function reads or raises ValueError for."""

    function: Callable[[object], object]
    json_schema: Mapping[str, Any] = field(hash=False)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self.function, handler(source))

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: object) -> dict[str, Any]:
        return dict(self.json_schema)


@dataclass(frozen=True, slots=True)
class Resolve:
    """As `Parse`, by a function that also gets the context of the configuration; see `edge.references`."""

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
"""A finite number; one that is written as a text is taken too."""
