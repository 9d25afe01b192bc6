"""Where imported tags go: the table that a scan group names in `tags_from`.

The YAML file is never written again as a whole: if its scan group names no table yet, one key is inserted, and every
other byte stays. In the table, the cells of tags that do not change stay as they are, too.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge.clock import SystemClock
from edge.config.devices import GROUP_TAGS, SCAN_BYTES, connection, named_device, tag_model, written_name
from edge.config.edit import edited
from edge.config.export import cell, is_whole_in_csv
from edge.config.fields import fields_of, settings_in
from edge.config.files import LIMIT_BYTES, Source, read
from edge.config.tag_table import INTERVAL, Cell, cells_of, separator_of, tag_fields, tags_of
from edge.config.validate import settings_from
from edge.config.yaml_tree import Node, parse, problem_at
from edge.driver import DeviceSettings, DriverKind, Origin, TagSettings, load
from edge.errors import ConfigError, Problem
from edge.files import replace_like
from edge.importers.found import Found
from edge.tags.merge import Merged
from edge.tags.prepare import PreparedTag, reasons

NEW_GROUP_EVERY = "1 s"
"""Interval of the scan group that is made for a device that has none."""


@dataclass(slots=True, kw_only=True)
class Target:
    """A device of a configuration, and the table for its tags.

    Attributes:
        table: the table, which may not exist yet.
        tags: the tags of the table.
        elsewhere: where each other tag of the device is written, by its name.
        yaml: file and new text, where the table has yet to be named.
    """

    kind: DriverKind[Any]
    device: DeviceSettings
    table: Path
    tags: list[PreparedTag] = field(default_factory=list)
    elsewhere: dict[str, str] = field(default_factory=dict)
    yaml: tuple[Path, bytes] | None = None
    data: bytes = b""

    @property
    def model(self) -> type[TagSettings]:
        """The class of its tags."""
        return tag_model(type(self.device))


def find_target(
    config: Path, device: str, group: str | None = None, find: Callable[[str], DriverKind[Any]] = load
) -> Target:
    """The table of a device, or of one of its scan groups, by name or interval.

    Raises:
        ConfigError: the configuration or the table has problems.
        LookupError: there is no such device or scan group, or there are several.
    """
    kind, settings = connection(config, device, find)
    source = read(config, "gateway")
    assert source.root is not None
    devices = source.root["devices"]
    assert devices is not None
    node = named_device(devices, device)
    groups = node["scan_groups"].items if node["scan_groups"] else ()
    chosen = _choose(groups, group, device)
    named = chosen["tags_from"] if chosen else None
    name = (named.text if named else None) or f"{device}.csv"
    target = Target(kind=kind, device=settings, table=source.folder / name)
    if named is None:
        if target.table.exists():
            raise ConfigError(f"{target.table} is there and no scan group of {device} names it: write tags_from: "
                              f"{name} into one, or move the file away")  # fmt: skip
        target.yaml = _with_table(node, chosen, name)
    for other in groups:
        _read_group(source, other, target, is_chosen=other is chosen)
    return target


def _choose(groups: Sequence[Node], wanted: str | None, device: str) -> Node | None:
    """The scan group that the tags go to; None where one has to be made."""
    if wanted is None:
        candidates = [group for group in groups if group["tags_from"]] or list(groups)
    else:
        candidates = [group for group in groups if wanted in _names(group)]
    if len(candidates) == 1:
        return candidates[0]
    if not groups and wanted is None:
        return None
    known = ", ".join(dict.fromkeys(_names(group)[0] for group in groups)) or "none"
    wrong = "has several scan groups" if candidates else f"has no scan group {wanted!r}"
    raise LookupError(f"{device} {wrong}; choose one with --group: {known}")


def _names(group: Node) -> list[str]:
    return [str(node.content) for key in ("name", INTERVAL) if (node := group[key]) is not None] or [""]


def _read_group(source: Source, group: Node, target: Target, *, is_chosen: bool) -> None:
    written = group["tags"]
    for tag in written.items if written else ():
        if (name := tag["name"]) is not None and name.text:
            target.elsewhere[name.text] = f"{tag.mark.file}:{tag.mark.line}"
    named = group["tags_from"]
    if named is None or not named.text or not (source.folder / named.text).exists():  # The first import makes it.
        return
    data, rows = read_table(source, named, target.model)
    if is_chosen:
        target.data, target.tags = data, list(valid_tags(rows, target.model))
    else:
        target.elsewhere |= {str(name.content): f"{row.mark.file}:{row.mark.line}" for row in rows
                             if (name := row["name"]) is not None}  # fmt: skip


def read_table(source: Source, named: Node, model: type[TagSettings]) -> tuple[bytes, list[Node]]:
    """The content of the table that a scan group names, and its rows. Raises ConfigError."""
    data = source.read_bytes(str(named.content))
    if isinstance(data, str):
        raise ConfigError([named.problem(data)])
    rows, problems = tags_of(data, str(source.folder / str(named.content)), model)
    if problems:
        raise ConfigError(problems)
    return data, rows


def valid_tags(rows: Sequence[Node], model: type[TagSettings], group: str = "") -> Iterator[PreparedTag]:
    """The tags of a table, or of a scan group. Raises ConfigError where one is not valid, or there twice."""
    seen: dict[str, int] = {}
    for row in rows:
        keys = row.plain()
        every = str(keys.pop(INTERVAL, ""))
        try:
            settings = settings_from(model, keys)
        except ValidationError as error:
            raise ConfigError([problem_at(row.mark, each) for each in reasons(model, error)]) from error
        if (line := seen.setdefault(settings.name, row.mark.line)) != row.mark.line:
            raise ConfigError([problem_at(row.mark, f"{settings.name} is on line {line} too; keep one of them")])
        origin = Origin(row.mark.file, "", row.mark.line)
        yield PreparedTag(settings=settings, keys=keys, every=every, group=group, origin=origin)


def _with_table(device: Node, group: Node | None, table: str) -> tuple[Path, bytes]:
    """The file of a device with `tags_from` in a scan group of it, or with a scan group where there is none."""
    path = Path(device.mark.file)
    data = path.read_bytes()
    root, _ = parse(data, str(path))
    old = root.plain() if root else {}
    wanted = deepcopy(old)
    for each in wanted.get("devices") or ():
        if str(each.get("name")) == getattr(device["name"], "text", ""):
            groups = each.get("scan_groups") or []
            if group is None and "driver" in each:
                each["scan_groups"] = [{INTERVAL: NEW_GROUP_EVERY, "tags_from": table}]
                return path, edited(data, str(path), old, wanted)
            named = [own for own in groups if group and str(own.get("name") or own.get(INTERVAL)) == _names(group)[0]]
            if len(named) == 1:
                named[0]["tags_from"] = table
                return path, edited(data, str(path), old, wanted)
    raise ConfigError([device.problem(f"names no table; write tags_from: {table} into its scan group")])


def keep_readable(target: Target, tags: Sequence[PreparedTag], found: Found) -> list[PreparedTag]:
    """The tags that a table can hold and the driver can read; the others are among the findings."""
    return keep_planned(target.kind, target.device, list(keep_whole(target.model, tags, found)), found)


def keep_planned(
    kind: DriverKind[Any], device: DeviceSettings, tags: Sequence[PreparedTag], found: Found
) -> list[PreparedTag]:
    """The tags that the driver can read; the others are among the findings."""
    driver = kind.driver(device, SystemClock())
    try:
        driver.plan(expanded(device, [tag.settings for tag in tags]))
    except ConfigError as error:
        why = {written_name(problem.path): problem.message for problem in error.problems}
        by_name = {tag.name: tag for tag in tags}
        if not why.keys() & by_name:
            raise
        for tag in tags:
            if tag.name in why:
                found.left_out(tag.origin, why[tag.name], tag.name)
        return [tag for tag in tags if tag.name not in why]
    return list(tags)


def expanded(device: DeviceSettings, tags: Sequence[TagSettings]) -> Sequence[TagSettings]:
    """The tags as a scan group has them: an address may stand for several."""
    group = next(settings_in(fields_of(type(device))["scan_groups"].annotation))
    made: Any = group
    each: Sequence[TagSettings] = made(every=10**9, tags=tags).tags
    return each


def keep_whole(model: type[TagSettings], tags: Sequence[PreparedTag], found: Found) -> Iterator[PreparedTag]:
    """The tags that are equal after a round trip through a table, which strips spaces and splits lists at commas."""
    kinds = {key: Cell(each.annotation) for key, each in tag_fields(model).items()}
    for tag in tags:
        if all(kinds[key].value(cell(value).strip()) == value for key, value in tag.keys.items()) or is_whole_in_csv(
            tag.settings, tag.keys
        ):
            yield tag
        else:
            found.left_out(tag.origin, "a table cannot hold its values; write it into the YAML file", tag.name)


def check_size(target: Target, tags: Sequence[PreparedTag]) -> None:
    """Raise ConfigError where the tags are more than scan groups can hold."""
    by_interval: dict[str, list[PreparedTag]] = {}
    for tag in tags:
        by_interval.setdefault(tag.every, []).append(tag)
    for members in by_interval.values():
        tags_read = expanded(target.device, [tag.settings for tag in members])
        scan_bytes = sum(tag.value_bytes for tag in tags_read)
        if len(tags_read) > GROUP_TAGS or scan_bytes > SCAN_BYTES:
            raise ConfigError(
                f"{target.table}: {len(tags_read):,} tags of one interval take {scan_bytes:,} bytes a scan, and a scan "
                f"group holds {GROUP_TAGS:,} tags and {SCAN_BYTES:,} bytes: import in parts, with --filter and a "
                "--group for each"
            )


def table_data(path: Path, before: bytes, old: Sequence[PreparedTag], new: Sequence[PreparedTag]) -> bytes:
    """The content of a table afterwards; rows that are not changed stay as they are. Raises ConfigError."""
    was = before.decode("utf-8-sig")
    table = _Rows(was, new, {tag.name: tag for tag in old})
    data = before[: len(before) - len(was.encode())] + table.text().encode()
    if len(data) > LIMIT_BYTES:
        in_parts = f"it would be larger than {LIMIT_BYTES // 2**20} MiB; divide its tags among several scan groups"
        raise ConfigError([Problem(in_parts, str(path))])
    return data


class _Rows:
    """A table that is written again: what does not change as it stands there, below it what is new."""

    def __init__(self, was: str, new: Sequence[PreparedTag], old: Mapping[str, PreparedTag]) -> None:
        self._new, self._old = {tag.name: tag for tag in new}, old
        self._end = "\r\n" if "\r\n" in was else "\n"
        self._separator = separator_of(was) if was else ","
        self._rows = list(cells_of(was, self._separator)) if was else []
        self._lines = list(StringIO(was, newline=""))
        self._was_headings = self._rows[0][1] if self._rows else []
        changed = [tag.row for tag in new if old.get(tag.name) is not tag]
        self._headings = list(dict.fromkeys([*self._was_headings, *(key for keys in changed for key in keys)]))

    def text(self) -> str:
        """The text afterwards."""
        if not self._rows:
            return "".join(map(self._written, [self._headings, *map(self._cells, self._new.values())]))
        more = self._headings[len(self._was_headings) :]
        parts = [self._kept(0, more)]
        at_name = self._headings.index("name")
        rest = dict(self._new)
        for number, (_, cells) in enumerate(self._rows[1:], 1):
            tag = rest.pop(cells[at_name], None) if any(cells) else None
            if not any(cells) or (tag is not None and self._old.get(tag.name) is tag):
                missing = len(self._headings) - len(cells) if more and any(cells) else 0
                parts.append(self._kept(number, [""] * missing))
            elif tag is not None:
                parts.append(self._written(self._cells(tag, cells)))
        parts += [self._written(self._cells(tag)) for tag in rest.values()]
        # The last line may have no end.
        return "".join(part if part.endswith("\n") else part + self._end for part in parts[:-1]) + parts[-1]

    def _kept(self, number: int, more: Sequence[str]) -> str:
        """The lines of a row as they are, with more cells at their end."""
        below = self._rows[number + 1][0] if number + 1 < len(self._rows) else len(self._lines) + 1
        text = "".join(self._lines[self._rows[number][0] - 1 : below - 1])
        line = text.rstrip("\r\n")
        return "".join([line, *(self._separator + each for each in more), text[len(line) :]])

    def _cells(self, tag: PreparedTag, kept: Sequence[str] = ()) -> list[str]:
        keys, same = tag.row, self._old[tag.name].row if kept else {}
        return [kept[at] if at < len(kept) and keys.get(key) == same.get(key) else cell(keys.get(key))
                for at, key in enumerate(self._headings)]  # fmt: skip

    def _written(self, cells: Sequence[str]) -> str:
        text = StringIO(newline="")
        csv.writer(text, delimiter=self._separator, lineterminator=self._end).writerow(cells)
        return text.getvalue()


def write(target: Target, merged: Merged[PreparedTag]) -> None:
    """Write the table, and its name into the configuration. Raises ConfigError or OSError; then nothing is changed."""
    data = table_data(target.table, target.data, target.tags, merged.tags)
    like = target.table if target.table.exists() else target.yaml[0] if target.yaml else target.table.parent
    replace_like(target.table, data, like)
    if target.yaml is not None:
        path, text = target.yaml
        replace_like(path, text, path)
