"""Tags of a configuration from those of a file: names and units by rule, addresses by the driver, all validated."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from edge.config import messages
from edge.config.export import NAME_LIMIT, level_name
from edge.config.fields import fields_of
from edge.config.tag_table import INTERVAL
from edge.config.validate import settings_from
from edge.driver import ImportsTags, Origin, SourceTag, TagSettings
from edge.importers.found import Found
from edge.tags.merge import is_wanted
from edge.units import UCUM, parse_duration_ns

_GOOD = re.compile(r"[^/#+\s\x00-\x1f]+(?:[ /][^/#+\s\x00-\x1f]+)*")  # Most names: nothing in them has to change.
GROUP = "scan_group"
_ITSELF: Mapping[str, Mapping[str, Any]] = {"": {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedTag:
    """A valid tag, and the keys that it was made from.

    Attributes:
        every: its interval, where a table gives one.
        group: its scan group, where a workbook gives one.
    """

    settings: TagSettings
    keys: Mapping[str, Any]
    every: str = ""
    group: str = ""
    origin: Origin

    @property
    def name(self) -> str:
        """Its name."""
        return self.settings.name

    @property
    def row(self) -> Mapping[str, Any]:
        """What a table has of it: its keys, and its interval."""
        return {**self.keys, INTERVAL: self.every} if self.every else self.keys

    @property
    def shown(self) -> Mapping[str, Any]:
        """What a person is shown of it."""
        return {**self.row, GROUP: self.group} if self.group else self.row

    def is_as(self, other: PreparedTag) -> bool:
        """Whether both are one tag."""
        return (self.settings, self.every, self.group) == (other.settings, other.every, other.group)


Seen = dict[str, tuple[str, Origin]]
"""Names of a file so far, by what they are regardless of case, and where they are."""


def is_taken(name: str, origin: Origin, seen: Seen, found: Found) -> bool:
    """Whether a name is in the file before; one that differs only by case is suspicious."""
    before = seen.setdefault(name.casefold(), (name, origin))
    if before[0] == name and before[1] is not origin:
        found.left_out(origin, f"the name is taken by {before[1]}", name)
        return True
    if before[0] != name:
        found.suspicious(origin, f"its name differs only by case from {before[0]} of {before[1]}", name)
    return False


def prepare(
    found: Found, model: type[TagSettings], kind: object, pattern: str = "*", seen: Seen | None = None,
    old: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> list[PreparedTag]:  # fmt: skip
    """The tags whose names match a pattern, by the model of a driver; what cannot be one is among the findings.

    Args:
        seen: names that are taken.
        old: keys that a tag has already, by its name: those of the file take their places.
    """
    prepared: list[PreparedTag] = []
    importer = kind if isinstance(kind, ImportsTags) else None
    seen = {} if seen is None else seen
    tags, found.tags = found.tags[::-1], []
    while tags:  # Their memory is given back on the way.
        tag = tags.pop()
        name = _name(tag, found)
        if not name:
            found.left_out(tag.origin, "it has no name")
            continue
        if not is_wanted(name, pattern):
            continue
        if is_taken(name, tag.origin, seen, found):
            continue
        try:
            parts = _translate(tag, importer, found.format) if tag.notation else _ITSELF
        except ValueError as error:
            found.left_out(tag.origin, str(error), name)
            continue
        for suffix, keys in parts.items():
            if (made := _prepare(tag, name + suffix, keys, model, found, old.get(name, {}))) is not None:
                prepared.append(made)
    return prepared


def _prepare(
    tag: SourceTag, name: str, own: Mapping[str, Any], model: type[TagSettings], found: Found, old: Mapping[str, Any]
) -> PreparedTag | None:
    given = {**own, **{key: value for key, value in tag.keys.items() if value != ""}}
    if (unit := str(given.get("unit", ""))) in UCUM:
        found.changed(tag.origin, f"unit {unit} is {UCUM[unit]} as a UCUM code", name)
        given["unit"] = UCUM[unit]
    keys = {"name": name, **old, **given}
    every = str(keys.pop(INTERVAL, ""))
    try:
        if every:
            parse_duration_ns(every)
        return PreparedTag(settings=settings_from(model, keys), keys=keys, every=every, origin=tag.origin)
    except ValidationError as error:
        found.left_out(tag.origin, "; ".join(reasons(model, error)), name)
    except ValueError as error:
        found.left_out(tag.origin, f"{INTERVAL}: {error}", name)
    return None


def _translate(tag: SourceTag, importer: ImportsTags | None, format_name: str) -> Mapping[str, Mapping[str, Any]]:
    if importer is None:
        raise ValueError(f"the driver of this device does not know the addresses of a {format_name}")
    return importer.import_tag(tag)


def reasons(model: type[TagSettings], error: ValidationError) -> Iterable[str]:
    """What is wrong with each key, a sentence each."""
    by_key: dict[str, list[Any]] = {}
    for each in error.errors(include_url=False):
        by_key.setdefault(str(each["loc"][0]) if each["loc"] else "", []).append(each)
    for key, errors in by_key.items():
        field = fields_of(model).get(key)
        if errors[0]["type"] == "missing":
            yield f"{key} {messages.missing(field)}"
        else:
            yield f"{key} {messages.of_errors(errors, field, key)}".strip()


def _name(tag: SourceTag, found: Found) -> str:
    """Its name in a configuration: levels with slashes between them, dashes for what a name may not have."""
    written = "/".join(tag.levels)
    if len(written) <= NAME_LIMIT and _GOOD.fullmatch(written):
        return written
    name = "/".join(filter(None, map(level_name, tag.levels)))
    if len(name) > NAME_LIMIT:  # The end identifies a tag better than the beginning.
        found.changed(tag.origin, f"the name has up to {NAME_LIMIT} characters; the last of it stay", name)
        name = name[-NAME_LIMIT:].lstrip("/ ")
    elif name != written:
        found.changed(tag.origin, f"the name was {written!r}; it has no / at an end, and - for + and #", name)
    return name
