"""The files of a configuration: one YAML file or a directory of them, and the CSV files they refer to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.config.yaml_tree import Mark, Node, parse, problem_at
from edge.errors import Problem

LIMIT_BYTES = 4 * 2**20
"""Largest YAML file, and largest CSV file."""

_LISTS = frozenset({"devices"})


@dataclass(slots=True)
class Source:
    """The files that were read: their merged tree, their digests by name, and their problems.

    Attributes:
        is_for_one_role: only one role is checked; the credentials of the other role are not available.
    """

    folder: Path
    is_for_one_role: bool = False
    root: Node | None = None
    digests: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def read_bytes(self, name: str) -> bytes | str:
        """The content of a file in the folder of the configuration, or a message if it cannot be read."""
        try:
            with (self.folder / name).open("rb") as file:
                data = file.read(LIMIT_BYTES + 1)
        except (OSError, ValueError) as error:
            return f"{self.folder / name} cannot be read: {getattr(error, 'strerror', None) or error}"
        if len(data) > LIMIT_BYTES:
            return f"{self.folder / name} is larger than {LIMIT_BYTES // 2**20} MiB; split it"
        self.digests[name] = hashlib.sha256(data).hexdigest()
        return data

    @property
    def context(self) -> dict[str, Any]:
        """The validation context that paths and secrets need; see `edge.references`."""
        return {"folder": self.folder, "is_for_one_role": self.is_for_one_role}

    @property
    def digest(self) -> bytes:
        """SHA-256 over the sorted `sha256sum` lines of all files, to be reproducible with that command."""
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(self.digests.items()))
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).digest()


def read(path: Path) -> Source:
    """Read a file, or every YAML file of a directory; errors are in the result's `problems`."""
    source = Source(path if path.is_dir() else path.parent)
    names = _names(path)
    if not names:
        source.problems.append(Problem("no .yaml file is in this directory", str(path)))
    roots = list(_roots(source, names))
    if not source.problems and not roots:
        source.problems.append(Problem("is empty; `tidegate schema` shows what belongs in it", str(path)))
    source.root = _merge(roots, source.problems) if roots else None
    return source


def _names(path: Path) -> list[str]:
    if not path.is_dir():
        return [path.name]
    return sorted(found.name for found in path.iterdir() if found.suffix in (".yaml", ".yml") and found.is_file())


def _roots(source: Source, names: list[str]) -> Iterator[Node]:
    for name in names:
        file = str(source.folder / name)
        data = source.read_bytes(name)
        if isinstance(data, str):
            source.problems.append(Problem(data))
            continue
        root, problems = parse(data, file)
        source.problems += problems
        if root is None or root.content is None:
            continue
        if isinstance(root.content, dict):
            yield root
        else:
            source.problems.append(root.problem("must be keys and values, such as gateway: {name: line-4, ...}"))


def _merge(roots: list[Node], problems: list[Problem]) -> Node:
    if len(roots) == 1:
        return roots[0]
    whole = Node({}, Mark(roots[0].mark.file))
    assert isinstance(whole.content, dict)
    for root in roots:
        assert isinstance(root.content, dict)
        whole.dropped |= root.dropped
        for key, node in root.content.items():
            if (before := whole.content.get(key)) is None:
                whole.content[key], whole.keys[key] = node, root.keys[key]
            elif key in _LISTS and isinstance(before.content, list) and isinstance(node.content, list):
                whole.content[key] = Node([*before.content, *node.content], before.mark, key)
            else:
                mark = whole.keys[key]
                where = f"{mark.file}:{mark.line}"
                problems.append(problem_at(root.keys[key], f"is already written in {where}", key))
    return whole
