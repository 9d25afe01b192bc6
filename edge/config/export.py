"""Write tags and devices as YAML or CSV: the inverse of `yaml_tree` and `tag_table`."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from pydantic import ValidationError

from edge.config.fields import fields_of
from edge.config.tag_table import tags_of
from edge.config.validate import settings_from
from edge.config.yaml_tree import scalar_of
from edge.driver import TagSettings

NAME_LIMIT = 200

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./%-]*(?: [A-Za-z0-9_./%-]+)*")
_NOT_IN_NAME = re.compile(r"[#+\x00-\x1f]")


def yaml(value: Any) -> str:
    """A value in one line of YAML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(yaml, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value).replace("inf", ".inf").replace("nan", ".nan") if isinstance(value, float) else str(value)


def _text(value: str) -> str:
    if _PLAIN.fullmatch(value) and scalar_of(value) == value:
        return value
    return quoted(value)


def quoted(value: str) -> str:
    """A text in quotes."""
    return '"' + "".join(map(_escaped, value)) + '"'


def _escaped(character: str) -> str:
    """An escaped character of YAML 1.2.2, 5.7: unprintable ones as their code point."""
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08X}"


def csv_table(tags: Sequence[Mapping[str, Any]]) -> str:
    """A table of tags in the format of `tags_from`, with one column for each key of any tag."""
    headings = list(dict.fromkeys(key for tag in tags for key in tag))
    rows = StringIO(newline="")
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows([cell(tag.get(key)) for key in headings] for tag in tags)
    return rows.getvalue()


def cell(value: Any) -> str:
    """A value in a cell of a table."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return "; ".join(map(yaml, value)) if isinstance(value, Sequence) else yaml(value)


def is_whole_in_csv(tag: TagSettings, keys: Mapping[str, Any]) -> bool:
    """Whether the tag is equal after a round trip through a table, which strips spaces and splits lists at commas."""
    rows, problems = tags_of(csv_table([keys]).encode(), "", type(tag))
    return not problems and len(rows) == 1 and fitting(type(tag), rows[0].plain())[0] == tag


def fitting(model: type[TagSettings], tag: Mapping[str, Any]) -> tuple[TagSettings, dict[str, Any]] | str:
    """A valid tag, and the keys it was made from; a message if no valid tag can be made.

    A key whose value is invalid is left out: a device may report such ones, as a range of no width.
    """
    keys = dict(tag)
    while True:
        try:
            return settings_from(model, keys), keys
        except ValidationError as error:
            mistakes = error.errors(include_url=False)
        # An error about several keys has no location; of the keys that devices report, only the range can cause one.
        wrong = {str(mistake["loc"][0]) if mistake["loc"] else "range" for mistake in mistakes}
        required = {key for key, field in fields_of(model).items() if field.is_required}
        if wrong & required or not wrong & keys.keys():
            return str(mistakes[0]["msg"]).removeprefix("Value error, ")
        keys = {key: value for key, value in keys.items() if key not in wrong}


class Names:
    """Makes valid and unique names of tags from the names on the device."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def of(self, levels: Sequence[str]) -> str:
        """A new name for the tag with these levels."""
        name = "/".join(filter(None, map(level_name, levels))) or "unnamed"
        number, unique = 1, name[-NAME_LIMIT:].lstrip("/ ")  # The end identifies a tag better than the beginning.
        while unique in self._used:
            number += 1
            unique = f"{name[-(NAME_LIMIT - 8) :].lstrip('/ ')}-{number}"
        self._used.add(unique)
        return unique


def level_name(name: str) -> str:
    """One level of a name; dashes replace slashes, wildcards and control characters."""
    return _NOT_IN_NAME.sub("-", name.encode("utf-8", "replace").decode()).replace("/", "-").strip()
