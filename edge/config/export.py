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
        return "{" + ", ".join(f"{key}: {yaml(held)}" for key, held in value.items()) + "}"
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
    return '"' + "".join(map(_escaped, value)) + '"'


def _escaped(character: str) -> str:
    """YAML 1.2.2, 5.7: what is not printable is written by its number."""
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08X}"


def csv_table(tags: Sequence[Mapping[str, Any]]) -> str:
    """A table of tags as `tags_from` reads it: a heading for every key that any of them has."""
    headings = list(dict.fromkeys(key for tag in tags for key in tag))
    rows = StringIO(newline="")
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows([_cell(tag.get(key)) for key in headings] for tag in tags)
    return rows.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return "; ".join(map(yaml, value)) if isinstance(value, Sequence) else yaml(value)


def is_whole_in_csv(tag: TagSettings, keys: Mapping[str, Any]) -> bool:
    """Whether a table gives back the same tag: a cell has no spaces around it, and no list of texts with commas."""
    rows, problems = tags_of(csv_table([keys]).encode(), "", type(tag))
    return not problems and len(rows) == 1 and fitting(type(tag), rows[0].plain())[0] == tag


def fitting(model: type[TagSettings], tag: Mapping[str, Any]) -> tuple[TagSettings, dict[str, Any]] | str:
    """A tag, and its keys that fit its settings; a sentence where no tag can be made of them.

    A device may say things that the settings refuse, such as a range of no width: such a key is left out.
    """
    keys = dict(tag)
    while True:
        try:
            return settings_from(model, keys), keys
        except ValidationError as error:
            mistakes = error.errors(include_url=False)
        # A rule over several keys has no location; of the keys that a device reports only the range is in one.
        wrong = {str(mistake["loc"][0]) if mistake["loc"] else "range" for mistake in mistakes}
        required = {key for key, field in fields_of(model).items() if field.is_required}
        if wrong & required or not wrong & keys.keys():
            return str(mistakes[0]["msg"]).removeprefix("Value error, ")
        keys = {key: value for key, value in keys.items() if key not in wrong}


class Names:
    """Names of tags made of what a device calls them: valid, and each given once."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def of(self, levels: Sequence[str]) -> str:
        """The name of what is found along these levels."""
        name = "/".join(filter(None, map(_level, levels))) or "unnamed"
        number, unique = 1, name[-NAME_LIMIT:].lstrip("/ ")  # The end says more than the beginning.
        while unique in self._given:
            number += 1
            unique = f"{name[-(NAME_LIMIT - 8) :].lstrip('/ ')}-{number}"
        self._given.add(unique)
        return unique


def _level(name: str) -> str:
    """One level of a name: what would begin another level, or match as a wildcard, is a dash."""
    return _NOT_IN_NAME.sub("-", name.encode("utf-8", "replace").decode()).replace("/", "-").strip()
