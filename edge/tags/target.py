"""Where imported tags go: the table that a scan group names in `tags_from`.

The YAML file is never written again as a whole: if its scan group names no table yet, one key is inserted, and every
other byte stays. In the table, the cells of tags that do not change stay as they are, too.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge.clock import SystemClock
from edge.config.devices import GROUP_TAGS, SCAN_BYTES, connection, named_device, tag_model, written_name
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
    yaml: tuple[Path, str] | None = None
    data: bytes = b""

    @property
    def text(self) -> str:
        """The text of the table; it was decoded before."""
        return self.data.decode("utf-8-sig")

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
    if named is None or not named.text:
        return
    path = source.folder / named.text
    if not path.exists():  # The first import makes it.
        return
    data = source.read_bytes(named.text)
    if isinstance(data, str):
        raise ConfigError([named.problem(data)])
    if is_chosen:
        target.data = data
    rows, problems = tags_of(data, str(path), target.model)
    if problems:
        raise ConfigError(problems)
    if is_chosen:
        target.tags = list(_existing(rows, target.model))
    else:
        names = [(row["name"], row) for row in rows]
        target.elsewhere |= {str(name.content): f"{path}:{row.mark.line}" for name, row in names if name}


def _existing(rows: Sequence[Node], model: type[TagSettings]) -> Iterator[PreparedTag]:
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
        yield PreparedTag(settings=settings, keys=keys, every=every, origin=Origin(row.mark.file, "", row.mark.line))


def _with_table(device: Node, group: Node | None, table: str) -> tuple[Path, str]:
    """The file of a scan group with `tags_from` in it, and a scan group where there is none."""
    node = group or device
    path = Path(node.mark.file)
    text = path.read_bytes().decode()
    mark, text = ("\ufeff", text[1:]) if text.startswith("\ufeff") else ("", text)
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    line, column = node.mark.line - 1, node.mark.column - 1
    head, tail = lines[line][:column], lines[line][column:]
    indent = end + " " * column
    if tail.startswith("&") or (group is None and tail.startswith("{")):
        new = text
    elif group is None:
        at = device.keys["driver"].line - 1
        lines[at] = (f"{lines[at].rstrip()}{indent}scan_groups:{indent}  - every: {NEW_GROUP_EVERY}"
                     f"{indent}    tags_from: {table}{end}")  # fmt: skip
        new = "".join(lines)
    else:
        key = f"tags_from: {table}"
        lines[line] = f"{head}{{{key}, {tail[1:]}" if tail.startswith("{") else f"{head}{key}{indent}{tail}"
        new = "".join(lines)
    if not _names_table(new, device, table):
        raise ConfigError([node.problem(f"names no table; write tags_from: {table} into its scan group")])
    return path, mark + new


def _names_table(text: str, device: Node, table: str) -> bool:
    """Whether the edited text is a configuration whose device names the table."""
    root, problems = parse(text.encode(), "")
    devices = root["devices"] if root else None
    name = device["name"]
    for each in devices.items if devices else ():
        found = each["name"]
        if found and name and found.content == name.content and (groups := each["scan_groups"]):
            return not problems and any((named := group["tags_from"]) and named.text == table for group in groups.items)
    return False


def keep_readable(target: Target, tags: Sequence[PreparedTag], found: Found) -> list[PreparedTag]:
    """The tags that a table can hold and the driver can read; the others are among the findings."""
    good = list(_whole(target, tags, found))
    driver = target.kind.driver(target.device, SystemClock())
    try:
        driver.plan(expanded(target.device, [tag.settings for tag in good]))
    except ConfigError as error:
        why = {written_name(problem.path): problem.message for problem in error.problems}
        by_name = {tag.settings.name for tag in good}
        if not why.keys() & by_name:
            raise
        for tag in good:
            if tag.settings.name in why:
                found.left_out(tag.origin, why[tag.settings.name], tag.settings.name)
        good = [tag for tag in good if tag.settings.name not in why]
    return good


def expanded(device: DeviceSettings, tags: Sequence[TagSettings]) -> Sequence[TagSettings]:
    """The tags as a scan group has them: an address may stand for several."""
    group = next(settings_in(fields_of(type(device))["scan_groups"].annotation))
    made: Any = group
    each: Sequence[TagSettings] = made(every=10**9, tags=tags).tags
    return each


def _whole(target: Target, tags: Sequence[PreparedTag], found: Found) -> Iterator[PreparedTag]:
    """The tags that are equal after a round trip through a table, which strips spaces and splits lists at commas."""
    kinds = {key: Cell(each.annotation) for key, each in tag_fields(target.model).items()}
    for tag in tags:
        if all(kinds[key].value(cell(value).strip()) == value for key, value in tag.keys.items()) or is_whole_in_csv(
            tag.settings, tag.keys
        ):
            yield tag
        else:
            found.left_out(tag.origin, "a table cannot hold its values; write it into the YAML file", tag.settings.name)


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


def table_text(target: Target, merged: Merged) -> str:
    """The text of the table afterwards; cells of tags that are not changed stay as they are."""
    before = target.text
    separator = separator_of(before) if before else ","
    rows = cells_of(before, separator) if before else iter(())
    headings = next(rows, (0, []))[1]
    old = {tag.settings.name: tag for tag in target.tags}
    cells: dict[str, Sequence[str]] = {}
    for _, row in rows:
        if any(row):
            cells[row[headings.index("name")]] = row
    new = [tag.row for tag in merged.tags if old.get(tag.settings.name) is not tag]
    headings = list(dict.fromkeys([*headings, *(key for keys in new for key in keys)]))
    text = StringIO(newline="")
    end = "\r\n" if "\r\n" in before else "\n"
    writer = csv.writer(text, delimiter=separator, lineterminator=end)
    writer.writerow(headings)
    for tag in merged.tags:
        if old.get(tag.settings.name) is tag:
            kept = cells[tag.settings.name]
            writer.writerow([*kept, *[""] * (len(headings) - len(kept))])
        else:
            keys = tag.row
            writer.writerow([cell(keys.get(key)) for key in headings])
    return text.getvalue()


def write(target: Target, merged: Merged) -> None:
    """Write the table, and its name into the configuration. Raises ConfigError or OSError; then nothing is changed."""
    mark = b"\xef\xbb\xbf" if target.data.startswith(b"\xef\xbb\xbf") else b""
    data = mark + table_text(target, merged).encode()
    if len(data) > LIMIT_BYTES:
        in_parts = f"it would be larger than {LIMIT_BYTES // 2**20} MiB; import in parts, with --filter and --group"
        raise ConfigError([Problem(in_parts, str(target.table))])
    like = target.table if target.table.exists() else target.yaml[0] if target.yaml else target.table.parent
    replace_like(target.table, data, like)
    if target.yaml is not None:
        path, text = target.yaml
        replace_like(path, text.encode(), path)
