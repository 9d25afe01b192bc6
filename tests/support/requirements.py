"""Which tests show a requirement, and what became of them: the matrix requirement, risk, test, result.

A test is marked `@pytest.mark.requirement("REQ-READ-01", ...)`, or its whole module by `pytestmark`. The matrix of
docs/reference is what the sources say:

    python -m tests.support.requirements >docs/reference/requirements-matrix.md

With files that `pytest --junitxml` wrote, of one run or of several that make one together, it has their results, and
the exit code is 1 where a test of a requirement failed or did not run.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from edge.qualify.requirements import Requirement, requirements

ROOT = Path(__file__).parents[2]
Test = tuple[str, str]
"""File and name."""


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem() -> Generator[None, object, object]:
    """A test whose mark names no requirement cannot be collected, and none is run then."""
    made = yield
    items: list[pytest.Item] = made if isinstance(made, list) else []
    for item in items:
        for marker in item.iter_markers("requirement"):
            if unknown := set(marker.args) - requirements().keys():
                raise pytest.Collector.CollectError(f"there is no requirement {', '.join(sorted(unknown))}")
    return made


def marked_tests() -> dict[str, list[Test]]:
    """The tests by the id that they are marked with."""
    found: dict[str, list[Test]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text()
        if "mark.requirement(" not in text:
            continue
        body = ast.parse(text).body
        named = {ast.unparse(node.targets[0]): [*_ids([node])] for node in body if isinstance(node, ast.Assign)}
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                names = ("pytestmark", *map(ast.unparse, node.decorator_list))
                ids = [*_ids(node.decorator_list), *chain.from_iterable(named.get(name, ()) for name in names)]
                for one in dict.fromkeys(ids):
                    found.setdefault(one, []).append((path.relative_to(ROOT).as_posix(), node.name))
    return found


def _ids(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The arguments of the marks among them."""
    for node in nodes:
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.requirement":
                yield from (ast.literal_eval(each) for each in call.args)


def results_of(files: Iterable[Path]) -> dict[Test, str]:
    """`passed` or `failed` for each test that ran; one of which every case was skipped did not."""
    found: dict[Test, str] = {}
    for file in files:
        for case in ET.parse(file).iter("testcase"):
            test = case.get("classname", "").replace(".", "/") + ".py", case.get("name", "").partition("[")[0]
            if any(child.tag in {"failure", "error"} for child in case):
                found[test] = "failed"
            elif all(child.tag != "skipped" for child in case):
                found.setdefault(test, "passed")
    return found


def holes(marked: Mapping[str, Sequence[Test]], results: Mapping[Test, str] | None) -> list[str]:
    """Why the requirements are not all shown, a sentence each."""
    found = []
    for one in requirements().values():
        tests = marked.get(one.id, ())
        if one.planned == bool(tests):
            found.append(f"{one.id} is planned, and a test shows it" if tests else f"{one.id}: no test shows it")
        if results is not None:
            found += [
                f"{one.id}: {name} in {file} {results.get((file, name), 'did not run')}"
                for file, name in tests
                if results.get((file, name)) != "passed"
            ]
    return found


def page(marked: Mapping[str, Sequence[Test]], results: Mapping[Test, str] | None = None) -> str:
    """The matrix, without results if there are none."""
    parts = [
        "# Requirements and their tests",
        "",
        "<!-- Written by tests/support/requirements.py; change edge/qualify/requirements.yaml or the mark of a test,",
        "and run `make docs`. -->",
        "",
        "Each [requirement](../requirements.md), what goes wrong at the plant where it does not hold, and the tests",
        "that show it. `make test` writes this table with their results to `build/requirements.md`, and fails where",
        "one of them failed or did not run.",
    ]
    group = ""
    for one in requirements().values():
        if one.group != group:
            group = one.group
            last = ("", "") if results is None else (" result |", " --- |")
            parts += [
                "",
                f"## {group}",
                "",
                f"| requirement | risk | shown by |{last[0]}",
                f"| --- | --- | --- |{last[1]}",
            ]
        parts.append(_row(one, marked.get(one.id, ()), results))
    return "\n".join([*parts, ""])


def _row(one: Requirement, tests: Sequence[Test], results: Mapping[Test, str] | None) -> str:
    links = [f"[{name.removeprefix('test_').replace('_', ' ')}](../../{file})" for file, name in tests]
    row = f"| {one.id}: {one.text} | {one.severity}: {one.risk} | {'; '.join(links) or 'planned'} |"
    if results is None:
        return row
    became = [results.get(test, "did not run") for test in tests]
    said = ", ".join(f"{became.count(word)} {word}" for word in ("passed", "failed", "did not run") if word in became)
    return f"{row} {said} |"


def main(files: Sequence[str]) -> int:
    """Print the matrix, and what is missing after it."""
    marked = marked_tests()
    results = results_of(Path(file) for file in files if Path(file).exists()) if files else None
    sys.stdout.write(page(marked, results))
    missing = holes(marked, results) if files else []
    sys.stderr.writelines(f"{each}\n" for each in missing)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
