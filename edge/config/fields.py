"""The fields of settings classes: type, constraints, default, and the docstring below each as its description."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import ModuleType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from edge.references import Secret
from edge.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a settings class.

    Attributes:
        owner: the class.
        constraints: the constraints on its value; see `edge.settings`.
        default: its default; None for a required field.
    """

    owner: Any
    name: str
    annotation: Any
    constraints: tuple[Any, ...]
    default: Any
    is_required: bool

    @property
    def description(self) -> str:
        """The docstring below it; empty if there is none."""
        return descriptions(self.owner).get(self.name, "")


_known: dict[type[Settings], Mapping[str, Field]] = {}


def fields_of(cls: type[Settings]) -> Mapping[str, Field]:
    """The fields of a settings class, by name."""
    if cls not in _known:
        _known[cls] = _declared(cls)
    return _known[cls]


def _declared(cls: type[Settings]) -> Mapping[str, Field]:
    if "__dataclass_fields__" not in vars(cls):
        raise TypeError(f"{cls.__name__} is no dataclass: put @dataclass(frozen=True, kw_only=True) above it")
    hints = get_type_hints(cls, include_extras=True)
    return {key.name: _field(cls, hints[key.name], key) for key in dataclasses.fields(cls) if key.init}


def _field(owner: type[Settings], annotation: Any, key: dataclasses.Field[Any]) -> Field:
    constraints: list[Any] = []
    if get_origin(annotation) is Annotated:
        annotation, *constraints = get_args(annotation)
    default = None if key.default is dataclasses.MISSING else key.default
    if key.default_factory is not dataclasses.MISSING:
        default = key.default_factory()
    return Field(
        owner=owner,
        name=key.name,
        annotation=annotation,
        constraints=tuple(constraints),
        default=default,
        is_required=key.default is key.default_factory is dataclasses.MISSING,
    )


def settings_in(annotation: Any) -> Iterator[type[Settings]]:
    """The settings classes in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    else:
        for argument in get_args(annotation):
            yield from settings_in(argument)


def nested_fields(cls: type[Settings]) -> dict[str, Field]:
    """The fields of a settings class, and with a dot those of sections in it; not those of sections in a list."""
    found: dict[str, Field] = {}
    for key, field in fields_of(cls).items():
        found[key] = field
        for section in _sections(field.annotation):
            found |= {f"{key}.{below}": each for below, each in nested_fields(section).items()}
    return found


def _sections(annotation: Any) -> Iterator[type[Settings]]:
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, Settings):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, Annotated):
        for argument in get_args(annotation):
            yield from _sections(argument)


def is_secret(field: Field) -> bool:
    """Whether a field says where a secret is."""
    return Secret in get_args(field.annotation) or field.constraints == get_args(Secret)[1:]


@cache
def descriptions(cls: Any) -> Mapping[str, str]:
    """The docstrings below the fields of a class and its bases; read lazily, since a running gateway needs none."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        texts |= _texts(sys.modules[base.__module__]).get(base.__name__, {})
    return texts


@cache
def _texts(module: ModuleType) -> Mapping[str, Mapping[str, str]]:
    """The docstring below each field, for each class of a module."""
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError):  # The module has no source.
        return {}
    return {node.name: dict(_below_fields(node.body)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _below_fields(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for pair in pairwise(body):
        match pair:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)
