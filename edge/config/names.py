"""Names that must be unique, looked for in the file as it is written: other mistakes do not hide them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from edge.config.source import Node
from edge.errors import Problem
from edge.units import format_duration, parse_duration_ns


def device_problems(devices: Iterable[Node]) -> list[Problem]:
    """Devices that have the same name."""
    return list(_repeated(_names(devices)))


def tag_problems(device: Node) -> list[Problem]:
    """Scan groups and tags of one device that have the same name, and tags that are also a branch."""
    groups = device["scan_groups"].items if device["scan_groups"] else ()
    tags = [name for group in groups if (held := group["tags"]) for name in _names(held.items)]
    return [*_repeated(filter(None, map(_group_name, groups))), *_repeated(tags), *_branches(tags)]


def _names(nodes: Iterable[Node]) -> Iterator[tuple[str, Node]]:
    for node in nodes:
        if (name := node["name"]) is not None and name.text:
            yield name.text, name


def _group_name(group: Node) -> tuple[str, Node] | None:
    if (name := group["name"]) is not None and name.text:
        return name.text, name
    if (every := group["every"]) is None:
        return None
    try:
        return format_duration(parse_duration_ns(every.content)), every
    except ValueError:
        return None


def _repeated(names: Iterable[tuple[str, Node]]) -> Iterator[Problem]:
    first: dict[str, Node] = {}
    for name, node in names:
        if (before := first.setdefault(name, node)) is not node:
            if node.path.endswith("every"):
                yield node.problem(f"a scan group of {name} has no name, as {_where(before, node)}; name one")
            else:
                yield node.problem(f"{name!r} is already used {_where(before, node)}")


def _branches(tags: Iterable[tuple[str, Node]]) -> Iterator[Problem]:
    by_name = dict(tags)
    for name, node in by_name.items():
        branch, slash, _ = name.rpartition("/")
        while slash:
            if (tag := by_name.get(branch)) is not None:
                message = f"{branch!r} is a tag {_where(tag, node)}; here it is a branch of the hierarchy too"
                yield replace(node.problem(message), severity="warning")
            branch, slash, _ = branch.rpartition("/")


def _where(node: Node, seen_from: Node) -> str:
    mark = node.mark
    return f"on line {mark.line}" if mark.file == seen_from.mark.file else f"in {mark.file}, line {mark.line}"
