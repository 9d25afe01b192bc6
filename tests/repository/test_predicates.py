"""A name that asks a question never changes anything: reading `is_late()` in an expression has no side effect."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("edge", "drivers", "hil")
QUESTIONS = ("is_", "has_", "may_", "can_")
CHANGES = frozenset((
    "pop", "popleft", "add", "append", "appendleft", "extend", "insert", "discard", "remove", "clear", "update",
    "setdefault",
))  # fmt: skip


def changes_in(source: str) -> list[str]:
    """What the predicates in a module change, as "line: name"."""
    return [
        f"{line}: {node.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.lstrip("_").startswith(QUESTIONS)
        for line in changed_lines(node)
    ]


def changed_lines(function: ast.AST) -> Iterator[int]:
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            yield node.lineno  # Assigned, also augmented, in a loop, a with block or a tuple; or deleted.
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in CHANGES
            and any(isinstance(part, ast.Attribute | ast.Subscript) for part in ast.walk(node.func.value))
        ):
            yield node.lineno


@pytest.mark.parametrize("package", PACKAGES)
def test_a_predicate_changes_nothing(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    found = [f"{path.relative_to(ROOT)}:{change}" for path in files for change in changes_in(path.read_text())]

    assert files
    assert found == []


@pytest.mark.parametrize(
    "body",
    [
        "self.x = 1",
        "self.x, y = 1, 2",
        "self.x += 1",
        "self.x: int = 1",
        "self.x[0] = 1",
        "x[0] = 1",
        "x[0] -= 1",
        "del self.x",
        "del self.x[0]",
        "for self.x in (): pass",
        "if (y := self.x.pop()): pass",
        "self.x.popleft()",
        "self.x.add(1)",
        "self.x.append(1)",
        "self.x.appendleft(1)",
        "self.x.extend(())",
        "self.x.insert(0, 1)",
        "self.x.discard(1)",
        "self.x.remove(1)",
        "self.x.clear()",
        "self.x.update({})",
        "self.x.setdefault(1, [])",
        "self.by[1].append(2)",
        "x[0].append(2)",
        "self.by.setdefault(1, []).append(2)",
        "return self.x.y.pop(1, None) is not None",
    ],
)
@pytest.mark.parametrize("name", ["is_late", "_is_late", "has_crossed", "__may_send", "can_read"])
def test_what_a_predicate_must_not_do_is_found(name: str, body: str) -> None:
    assert changes_in(f"class A:\n    def {name}(self, x):\n        {body}\n") != []
    assert changes_in(f"async def {name}(self, x):\n    {body}\n") != []
    assert changes_in(f"class A:\n    @property\n    def {name}(self):\n        {body}\n") != []


@pytest.mark.parametrize(
    "source",
    [
        "def is_late(self): return self.x > 1",
        "def is_late(self):\n    seen = set()\n    seen.add(1)\n    return 1 in seen",
        "def is_late(self): return self.x[0] == 1 and self.update_is_due",
        "def send(self):\n    self.x = 1\n    self.y.add(2)",
        "def issue(self): self.x = 1",
    ],
)
def test_what_is_allowed_is_not_found(source: str) -> None:
    assert changes_in(source) == []
