"""The files of a configuration: one YAML file or several of a directory, and the CSV files they refer to.

A directory may hold configurations of several gateways and relays, and files of other programs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from edge.config.kept import digest_of, is_part, part_names
from edge.config.settings import GatewaySettings, RelaySettings
from edge.config.templates import PARAMETERS, REFERENCE, TYPES, VALUES, expand, with_reference
from edge.config.yaml_tree import Mark, Node, parse, problem_at
from edge.errors import Problem

LIMIT_BYTES = 4 * 2**20
"""Largest YAML file, and largest CSV file."""

Kind = Literal["gateway", "relay"]

_LISTS = frozenset({"devices", "contexts"})
_RELAY_KEYS = frozenset(each.name for each in fields(RelaySettings))
_OF_TEMPLATES = (TYPES, REFERENCE, VALUES)
_KEYS = tuple(
    dict.fromkeys([*(each.name for cls in (GatewaySettings, RelaySettings) for each in fields(cls)), *_OF_TEMPLATES])
)
_IS_MEANT = 0.85  # gatway is gateway, and the services of another program are not devices.
_TEMPLATE = b"{{", b"{%"


@dataclass(slots=True)
class Source:
    """The files that were read: their merged tree, their digests by name, and their problems.

    Attributes:
        names: the YAML files.
        is_for_one_role: only one role is checked; the credentials of the other role are not available.
        instead: contents in place of those of files, by name: what is not written yet can be checked; None: no file.
    """

    folder: Path
    names: tuple[str, ...]
    is_for_one_role: bool = False
    root: Node | None = None
    digests: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    instead: Mapping[str, bytes | None] = field(default_factory=dict)

    def read_bytes(self, name: str) -> bytes | str:
        """The content of a file in the folder of the configuration, or a message if it cannot be read."""
        try:
            if (data := self.instead.get(name)) is None:
                with (self.folder / name).open("rb") as file:
                    data = file.read(LIMIT_BYTES + 1)
        except (OSError, ValueError) as error:
            return f"{self.folder / name} cannot be read: {getattr(error, 'strerror', None) or error}"
        if len(data) > LIMIT_BYTES:
            return f"{self.folder / name} is larger than {LIMIT_BYTES // 2**20} MiB; split it"
        self.digests[name] = hashlib.sha256(data).hexdigest()
        return data

    @property
    def kind(self) -> Kind:
        """Whose configuration it is."""
        return "relay" if self.root is not None and self.root["relay"] is not None else "gateway"

    @property
    def context(self) -> dict[str, Any]:
        """The validation context that paths and secrets need; see `edge.references`."""
        return {"folder": self.folder, "is_for_one_role": self.is_for_one_role}

    @property
    def digest(self) -> bytes:
        """The digest of all files, see `edge.config.kept.digest_of`."""
        return digest_of(self.digests)


@dataclass(frozen=True, slots=True)
class Directory:
    """The configurations in a directory, and what its other YAML files are.

    Attributes:
        unreadable: files that may be a part of any of the configurations.
    """

    configurations: Sequence[Source]
    unreadable: Sequence[Source]
    others: Mapping[str, str]


def read(path: Path, kind: Kind | None = None, instead: Mapping[str, bytes | None] | None = None) -> Source:
    """Read a file, or the only configuration of a directory of this kind; errors are in the result's `problems`."""
    if path.is_dir():
        return _only(path, read_directory(path, instead), kind)
    source = _read(path.parent, path.name, instead)
    if not source.problems and source.root is None:
        source.problems.append(Problem("is empty; `tidegate schema` shows what belongs in it", str(path)))
    return _expanded(source)


def read_directory(path: Path, instead: Mapping[str, bytes | None] | None = None) -> Directory:
    """Read every YAML file of a directory, and put those together that make up one configuration."""
    read = [_read(path, name, instead) for name in _names(path, instead or {})]
    unreadable = [each for each in read if each.root is None and each.problems]
    others: dict[str, str] = {each.names[0]: "is empty" for each in read if each.root is None and not each.problems}
    gateways, relays, parts = list[Source](), list[Source](), list[Source]()
    for each in read:
        if (root := each.root) is None:
            continue
        keys = _keys(root)
        if PARAMETERS in keys:
            others[each.names[0]] = "is a reference, from which configurations of sites are made"
        elif "gateway" in keys or "relay" in keys:
            (relays if "relay" in keys else gateways).append(each)
        elif any(get_close_matches(key, _KEYS, 1, _IS_MEANT) for key in keys):
            parts.append(each)
        else:
            others[each.names[0]] = f"no configuration: it has neither gateway nor relay, but {', '.join(keys)[:60]}"
    if len(gateways) == 1 and parts:
        gateways = [_joined([*gateways, *parts])]
    elif not gateways and len(relays) == 1 and all(_keys(part.root) <= _RELAY_KEYS for part in parts if part.root):
        relays = [_joined([*relays, *parts])]
    elif parts and not gateways:
        gateways = [_joined(parts)]
    else:
        for part in parts:
            held = ", ".join(each.names[0] for each in gateways)
            part.problems.append(Problem(f"is a part of a configuration, and may belong to {held}; put it into that "
                                         "file, or each configuration into a directory", _file(part)))  # fmt: skip
        unreadable += parts
    configurations = [_expanded(each) for each in sorted([*gateways, *relays], key=lambda each: each.names)]
    return Directory(configurations, unreadable, others)


def _expanded(source: Source) -> Source:
    if source.root is not None:
        source.root = expand(source.root, source.read_bytes, source.problems)
    return source


def _only(path: Path, held: Directory, kind: Kind | None) -> Source:
    fitting = [each for each in held.configurations if kind in (None, each.kind)]
    problems = [problem for each in held.unreadable for problem in each.problems]
    if len(fitting) == 1:
        fitting[0].problems[:0] = problems
        return fitting[0]
    if fitting:
        names = ", ".join(each.names[0] for each in fitting)
        problems.append(Problem(f"holds {len(fitting)} configurations, name one of them: {names}", str(path)))
    elif held.configurations:
        names = ", ".join(f"{each.names[0]} of a {each.kind}" for each in held.configurations)
        problems.append(Problem(f"holds no configuration of a {kind}; there is {names}", str(path)))
    elif not problems:
        problems.append(nothing_in(path, held))
    return Source(path, (), problems=problems)


def nothing_in(path: Path, held: Directory) -> Problem:
    """The problem of a directory without a configuration."""
    if not held.others:
        return Problem("no .yaml file is in this directory", str(path))
    names = ", ".join(f"{name} {what}" for name, what in held.others.items())
    return Problem(f"no configuration is in this directory: {names}; `tidegate schema` shows what belongs in one",
                   str(path))  # fmt: skip


def _names(path: Path, instead: Mapping[str, bytes | None]) -> list[str]:
    there = {name for name in part_names(path) if instead.get(name, b"") is not None}
    return sorted(there.union(name for name, data in instead.items() if data is not None and is_part(name)))


def _keys(root: Node) -> AbstractSet[str]:
    assert isinstance(root.content, dict)
    return root.content.keys()


def _file(source: Source) -> str:
    return str(source.folder / source.names[0])


def _read(folder: Path, name: str, instead: Mapping[str, bytes | None] | None) -> Source:
    source = Source(folder, (name,), instead=instead or {})
    data = source.read_bytes(name)
    if isinstance(data, str):
        source.problems.append(Problem(data))
        return source
    root, source.problems = parse(data, _file(source))
    if source.problems and any(mark in data for mark in _TEMPLATE):
        source.problems.append(Problem("it looks like a template; with a name such as gateway.yaml.j2 it is not read",
                                       _file(source)))  # fmt: skip
    if root is None or root.content is None:
        return source
    if isinstance(root.content, dict):
        source.root = with_reference(root, source.read_bytes, source.problems)
    else:
        source.problems.append(root.problem("must be keys and values, such as gateway: {name: line-4, ...}"))
    return source


def _joined(sources: Sequence[Source]) -> Source:
    """One configuration of several files, in the order of their names."""
    sources = sorted(sources, key=lambda each: each.names)
    problems = [problem for each in sources for problem in each.problems]
    root = _merge([each.root for each in sources if each.root is not None], problems)
    names = tuple(name for each in sources for name in each.names)
    digests = {name: digest for each in sources for name, digest in each.digests.items()}
    first = sources[0]
    return Source(first.folder, names, root=root, digests=digests, problems=problems, instead=first.instead)


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
