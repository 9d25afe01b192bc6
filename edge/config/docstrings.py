"""The docstring below each setting, as its description.

pydantic can do this while it makes a class, but then a gateway pays for it at every start; here it is done for those
who show it: messages, the JSON Schema and the reference page.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any, get_args

from pydantic import BaseModel


@cache
def describe(model: type[BaseModel]) -> None:
    """Describe every field of a model and of those it holds."""
    texts: dict[str, str] = {}
    for base in reversed(model.__mro__):
        texts |= _texts(base.__module__).get(base.__name__, {})
    for name, field in model.model_fields.items():
        field.description = texts.get(name)
        for below in models_of(field.annotation):
            describe(below)


def schema_of(model: type[BaseModel], **options: Any) -> dict[str, Any]:
    """The JSON Schema of a model, descriptions included; options as of `model_json_schema`."""
    describe(model)
    _rebuild(model)
    return model.model_json_schema(**options)


@cache
def _rebuild(model: type[BaseModel]) -> None:
    for field in model.model_fields.values():
        for below in models_of(field.annotation):
            _rebuild(below)
    model.model_rebuild(force=True)


def models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """The settings classes that an annotation speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for argument in get_args(annotation):
            yield from models_of(argument)


@cache
def _texts(module: str) -> Mapping[str, Mapping[str, str]]:
    """For each class of a module, the text below each of its fields."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
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
