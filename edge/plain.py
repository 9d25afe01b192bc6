"""`edge.declare` for a process whose settings come checked: the same names, nothing that checks, and no pydantic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypeVar

_RuleT = TypeVar("_RuleT")


class Settings:
    """Frozen values, as pydantic made and pickled them."""

    _names: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        declared = {name: None for base in reversed(cls.__mro__[:-1]) for name in base.__annotations__}
        cls._names = tuple(name for name in declared if not name.startswith("_"))

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def __setstate__(self, pickled: Mapping[str, Any]) -> None:
        self.__dict__.update(pickled["__dict__"], **(pickled["__pydantic_private__"] or {}))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} of settings cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name} of settings cannot be taken away")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._names)})"

    def model_copy(self, *, update: Mapping[str, Any]) -> Self:
        """The same with other values."""
        return type(self)(**{**self.__dict__, **update})

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self._names)


def _bound(*_: object, **__: object) -> None:
    """A bound or a form that a value was held to."""


def _rule(*_: object, **__: object) -> Callable[[_RuleT], _RuleT]:
    """A rule that values were held to."""
    return lambda rule: rule


AfterValidator = BeforeValidator = PlainValidator = PlainSerializer = WithJsonSchema = _bound
Discriminator = Field = PrivateAttr = Tag = _bound
field_validator = model_validator = _rule
SerializeAsAny = ValidationInfo = Any
