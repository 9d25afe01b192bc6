"""The keys of settings, as they are declared: type, default, and the text below each as its description."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import ModuleType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from edge.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One key of settings.

    Attributes:
        owner: the class that has it.
        constraints: what its value is held to; see `edge.settings`.
        default: what it is where it is not written; None where it has to be.
    """

    owner: Any
    name: str
    annotation: Any
    constraints: tuple[Any, ...]
    default: Any
    is_required: bool

    @property
    def description(self) -> str:
        """The text below it; empty where there is none."""
        return _descriptions(self.owner).get(self.name, "")


_known: dict[type[Settings], Mapping[str, Field]] = {}


def fields_of(cls: type[Settings]) -> Mapping[str, Field]:
    """The keys of settings of this class, by name."""
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
    """The settings classes that an annotation speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    else:
        for argument in get_args(annotation):
            yield from settings_in(argument)


@cache
def _descriptions(cls: Any) -> Mapping[str, str]:
    """The texts below the fields of a class and its bases; read only where they are shown, which a gateway does not."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        texts |= _texts(sys.modules[base.__module__]).get(base.__name__, {})
    return texts


@cache
def _texts(module: ModuleType) -> Mapping[str, Mapping[str, str]]:
    """For each class of a module, the text below each of its fields."""
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError):  # Without its source: built in, or shipped without.
        return {}
    return {node.name: dict(_below_fields(node.body)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _below_fields(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, text in pairwise(body):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(said))),
            ):
                yield name, inspect.cleandoc(said)
