"""What commands print with --json: its JSON Schemas and its page in the reference, both from the dataclasses.

A command names the class of its answer `ANSWER`; one that prints an answer a line names that `LINE`. `ANSWERS` are
those of its subcommands, or of an option that has an answer of its own. A text names a class that is loaded late.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import resolve_name
from typing import Any

import click
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import DataclassSchema

from edge.cli import cli
from edge.cli.keys import GROUP
from edge.cli.output import JSON_VERSION, FailureAnswer
from edge.config.fields import descriptions

_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*(?:\n {8,}.*)*)", re.MULTILINE)
_VERSION = {"const": JSON_VERSION, "description": "Grows when a member is renamed, removed or changes its meaning."}
_PAGE = """\
# JSON for scripts

Every command with `--json` prints one JSON object, or one a line where it says so, and nothing else on standard output.

- **Version.** The first member is `json_version`, now {version}. It grows when a member is renamed, removed or changes
  its meaning; new members may come without that.
- **Failures.** A command that has no answer prints an object with `error` instead: its `kind` (`usage`, `configuration`
  or `failed`), the exit code, a message, and each problem of a configuration with file, line and column.
- **Streams.** Answers are on standard output. Progress, warnings and what went wrong are on standard error, as
  sentences, with and without `--json`. For `tidegate check` the problems are the answer.
- **Exit codes.** 0: it did what was asked. 1: it ran and the answer is no. 2: usage, such as a file that is not there.
  78: a configuration or a key that cannot be used. 130: it was ended with Ctrl-C. A command whose reader has gone
  (`| head -1`) ends by SIGPIPE.
- **Names.** Times are nanoseconds and their names end with `_ns`: `at_ns`, `since_ns` and `expires_at_ns` are UTC since
  1970, others are lengths. Names are those of the settings and of the [glossary](glossary.md).

| command | prints | schema |
| --- | --- | --- |
"""


def answers() -> Mapping[str, tuple[type, bool]]:
    """The class of the answer of each command that has one, by its name, and whether it is one of many lines."""
    found: dict[str, tuple[type, bool]] = {}
    for name in cli.list_commands(click.Context(cli)):
        module = import_module(f"edge.cli.{name}")
        if answer := getattr(module, "ANSWER", None):
            found[name] = resolve_name(answer) if isinstance(answer, str) else answer, False
        elif line := getattr(module, "LINE", None):
            found[name] = line, True
        for part, each in getattr(module, "ANSWERS", {}).items():
            found[f"{name} {part}"] = resolve_name(each) if isinstance(each, str) else each, False
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        for part, each in getattr(import_module(entry.module), "ANSWERS", {}).items():
            found[f"keys {entry.name} {part}"] = each, False
    return found


def alike() -> Mapping[str, list[str]]:
    """The commands with the same answer, by the first of them."""
    first: dict[type, list[str]] = {}
    for name, (answer, _) in answers().items():
        first.setdefault(answer, []).append(name)
    return {names[0]: names for names in first.values()}


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of what a command prints."""
    answer, is_line = answers()[name]
    kind: Any = answer | FailureAnswer
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"tidegate {name} --json" + (", each line" if is_line else ""),
        **TypeAdapter(kind).json_schema(mode="serialization", schema_generator=_OfAnswers),
    }
    for cls in (answer, FailureAnswer):
        definition = whole["$defs"][cls.__name__]
        definition["properties"] = {"json_version": _VERSION, **definition["properties"]}
        definition["required"] = ["json_version", *definition["required"]]
    return whole


def file_of(name: str) -> str:
    """The file of a command's schema."""
    return f"{name.replace(' --', ' ').replace(' ', '-')}.schema.json"


def page() -> str:
    """The page of the reference."""
    parts = [_PAGE.format(version=JSON_VERSION).rstrip()]
    for first, names in alike().items():
        prints = "an object a line" if answers()[first][1] else "an object"
        commands = ", ".join(f"`tidegate {name}`" for name in names)
        parts.append(f"| {commands} | {prints} | [schema](json/{file_of(first)}) |")
    seen: set[str] = set()
    parts += ["", "## Members", "", *_members("FailureAnswer", schema("check"), "Instead of an answer", seen)]
    for first, names in alike().items():
        whole = schema(first)
        root = whole["anyOf"][0]["$ref"].rpartition("/")[2]
        parts += _members(root, whole, ", ".join(f"tidegate {name}" for name in names), seen)
    return "\n".join(parts)


def _members(root: str, whole: Mapping[str, Any], title: str, seen: set[str]) -> Iterator[str]:
    """The tables of an object and of those below it, without those that were seen before."""
    ahead = [root]
    yield from (f"### {title}", "")
    while ahead:
        name = ahead.pop(0)
        definition = whole["$defs"][name]
        yield from ([] if name == root else [f"`{name}`: {definition.get('description', '')}".rstrip(": "), ""])
        yield from ("| member | type | meaning |", "| --- | --- | --- |")
        for key, member in definition["properties"].items():
            if key != "json_version":
                yield f"| `{key}` | {_type(member)} | {member.get('description', '')} |"
        yield ""
        for other in re.findall(r"'#/\$defs/(\w+)'", repr(definition)):
            if other not in seen and "properties" in whole["$defs"][other]:
                seen.add(other)
                ahead.append(other)


def _type(member: Mapping[str, Any]) -> str:
    if "anyOf" in member:
        return " or ".join(map(_type, member["anyOf"]))
    if "$ref" in member:
        return f"`{member['$ref'].rpartition('/')[2]}`"
    if "enum" in member or "const" in member:
        return " or ".join(f"`{word}`" for word in member.get("enum", [member.get("const")]))
    if member.get("type") == "array":
        items = member.get("items")
        return f"list of {_type(items)}" if isinstance(items, dict) else "list"
    return str(member.get("type", "any"))


class _OfAnswers(GenerateJsonSchema):
    """Pydantic's generator: every member is there, and has the description of its class."""

    def dataclass_schema(self, schema: DataclassSchema) -> JsonSchemaValue:
        """The schema of one class."""
        made = super().dataclass_schema(schema)
        cls: Any = schema["cls"]
        text, _, attributes = inspect.cleandoc(cls.__doc__ or "").partition("\n\nAttributes:\n")
        made["description"] = " ".join(text.split())
        known = {name: " ".join(about.split()) for name, about in _ATTRIBUTE.findall(attributes)}
        known |= {name: " ".join(about.split()) for name, about in descriptions(cls).items()}
        for name, member in made["properties"].items():
            member.pop("title", None)
            member.pop("default", None)
            if about := known.get(name):
                member["description"] = f"{about[:1].upper()}{about[1:]}"
        return made

    def field_is_required(self, field: Any, total: bool) -> bool:  # noqa: ARG002
        """A member with a default is printed too."""
        return True
