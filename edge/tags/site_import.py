"""A workbook of devices and tags brought into a configuration.

A row is known by its name, that of a tag by its device too. A cell is a change only where its text is not what a sheet
would show now, so that a workbook which was only exported changes nothing, whatever its cells could not hold. What is
changed is what such cells say: all other keys of the device or the tag keep their values, and all other bytes of the
files stay. Rows become devices and tags by the rules of any import (`prepare`), and meet those that are there by its
modes (`merge`). A new device gets one scan group and a table of its own; a new tag goes to the table that its scan
group names, or below the tags that are written there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from edge.config import messages
from edge.config.check import check
from edge.config.devices import settings_of
from edge.config.edit import edited
from edge.config.export import yaml
from edge.config.insert import NewDevice, file_for_devices, insert
from edge.config.tag_table import INTERVAL
from edge.config.templates import OF_TYPE
from edge.config.yaml_tree import parse
from edge.driver import DeviceSettings, Origin, SourceTag, load
from edge.errors import ConfigError, Problem
from edge.files import named_in_errors, replace_like
from edge.importers.found import Found
from edge.tags.merge import Difference, Merged, Mode, merge
from edge.tags.prepare import GROUP, PreparedTag, Seen, is_taken, prepare
from edge.tags.sheets import Row, Sheets, read_sheets
from edge.tags.site import (
    DEVICE,
    DRIVER,
    GROUPS,
    Site,
    SiteDevice,
    annotation_of,
    device_fields,
    shown_keys,
    value_of,
)
from edge.tags.target import NEW_GROUP_EVERY, keep_planned, keep_whole, table_data
from edge.units import parse_duration_ns

_ITEM = re.compile(r"\[\d+\].*")
_EMPTY = "the scan group {} would have no tag; leave it one, or remove it from the configuration by hand"


@dataclass(slots=True, kw_only=True)
class Imported:
    """What a workbook changes.

    Attributes:
        files: the content of each file afterwards that would be another one, by name.
        unchanged: devices and tags that are there just so.
    """

    differences: list[Difference] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    unchanged: int = 0


def import_workbook(data: bytes, file: str, site: Site, mode: Mode, found: Found) -> Imported:
    """What a workbook changes in a configuration; nothing is written. Raises ConfigError."""
    sheets = read_sheets(data, file, site, found)
    merged = _merge_devices(site, sheets, mode, found)
    said = {each.name: each for each in merged.differences}
    result, plan = Imported(unchanged=merged.unchanged), list[_Planned]()
    for device in merged.tags:
        tags = _merge_tags(site, device, sheets, mode, found)
        if not device.file and not tags.tags:
            del said[device.name]
            assert sheets.devices is not None
            why = "no tag of it can be imported, and a device needs one"
            found.left_out(sheets.devices[device.name].origin(), why, device.name)
            continue
        plan.append((device, tags))
        result.differences += [said.pop(device.name)] if device.name in said else []
        result.differences += [replace(each, device=device.name) for each in tags.differences]
        result.differences += _emptied(device, tags)
        result.unchanged += tags.unchanged
    result.differences += said.values()
    _say_why(site, sheets, [*dict.fromkeys([*site.devices, *(device.name for device, _ in plan)])], found)
    if not any(each.what == "conflict" for each in result.differences):
        result.files = _files(site, plan)
    return result


_Planned = tuple[SiteDevice, Merged[PreparedTag]]


def _merge_devices(site: Site, sheets: Sheets, mode: Mode, found: Found) -> Merged[SiteDevice]:
    old = list(site.devices.values())
    if sheets.devices is None:
        return Merged(old, (), 0)
    if mode == "delete":
        return merge(old, [], mode, {}, list(sheets.devices))
    seen: Seen = {}
    for name, row in sheets.devices.items():
        is_taken(name, row.origin("name"), seen, found)
    wanted = [_wanted_device(site, name, row, found) for name, row in sheets.devices.items()]
    new = [each for each in wanted if each is not None]
    left = {*sheets.devices, *sheets.hidden.get("", ())} - {each.name for each in new}
    return merge(old, new, mode, {}, left)


def _wanted_device(site: Site, name: str, row: Row, found: Found) -> SiteDevice | None:
    """The device as its row wants it; None after a finding that says why it is left out."""
    if name in site.others:
        found.left_out(row.origin(), _made_elsewhere(name, site), name)
        return None
    old = site.devices.get(name)
    texts = row.changed(old.texts if old else {}, found)
    if texts is None or (old and not texts):
        return old if texts is not None else None
    raw: dict[str, Any] = deepcopy(dict(old.raw)) if old else {"name": name, DRIVER: texts.get(DRIVER)}
    kind = old.kind if old else None
    with suppress(ConfigError):  # One that is not known is a problem of the device.
        kind = load(texts[DRIVER]) if texts.get(DRIVER) else kind
    fields = device_fields(kind.settings) if kind is not None else {}
    for key, text in texts.items():
        if key != "name":
            _put(raw, key.split("."), text, annotation_of(key, fields))
    problems = _problems(site, raw)
    if old and problems:
        known = [(each.path, each.message) for each in _problems(site, old.raw)]
        problems = [each for each in problems if (each.path, each.message) not in known]
    for each in problems:
        key = _ITEM.sub("", each.path.removeprefix("devices[0]").lstrip("."))
        found.left_out(row.origin(key), f"{key} {each.message}".strip(), name)
    if kind is None or problems:
        return None
    shown, stays = shown_keys(raw, kind)
    if old:
        return old if raw == old.raw else replace(old, kind=kind, raw=raw, texts=shown, stays=stays)
    return SiteDevice(name=name, kind=kind, raw=raw, texts=shown, stays=stays)


def _put(section: dict[str, Any], keys: Sequence[str], text: str, annotation: Any) -> None:
    """Write a value at a path of keys, or take it out, and sections with it that become empty."""
    key, *below = keys
    if below:
        inside = section.get(key)
        inside = inside if isinstance(inside, dict) else {}
        _put(inside, below, text, annotation)
        if inside:
            section[key] = inside
        else:
            section.pop(key, None)
    elif text:
        section[key] = value_of(text, annotation, section.get(key))
    else:
        section.pop(key, None)


def _problems(site: Site, raw: Mapping[str, Any]) -> Sequence[Problem]:
    try:
        _settings(site, raw)
    except ConfigError as error:
        return error.problems
    return ()


def _settings(site: Site, raw: Mapping[str, Any]) -> DeviceSettings:
    root, problems = parse(f"devices: [{yaml(raw)}]".encode(), "")
    if root is None or root["devices"] is None or problems:
        raise ConfigError(problems)
    return settings_of(site.source, root["devices"].items[0])[1]


def _made_elsewhere(name: str, site: Site) -> str:
    return f"{name} is made of a type or comes from a reference, and is changed there: {site.others[name]}"


def _merge_tags(site: Site, device: SiteDevice, sheets: Sheets, mode: Mode, found: Found) -> Merged[PreparedTag]:
    if sheets.tags is None:
        return Merged(device.tags, (), 0)
    rows = sheets.tags.get(device.name, {})
    if mode == "delete":
        return merge(device.tags, [], mode, device.elsewhere, list(rows))
    there = {tag.name: tag for tag in [*device.tags, *device.shown_tags]}
    ready, same = list[PreparedTag](), 0
    groups, old, seen = dict[Origin, str](), dict[str, Mapping[str, Any]](), Seen()
    for name, row in rows.items():
        tag = there.get(name)
        texts = row.changed(device.row_of(tag) if tag else {DEVICE: device.name}, found)
        if texts is None:
            continue
        if tag is None or texts:
            group = _group(device, row, tag, texts, found)
            given = _given(device, row, tag, texts, found)
            if group is not None and given is not None:
                origin = row.origin()
                groups[origin] = group
                old[name] = {key: value for key, value in tag.row.items() if given.get(key) != ""} if tag else {}
                found.tags.append(SourceTag(origin=origin, levels=tuple(name.split("/")), notation="", keys=given))
            continue
        seen[name.casefold()] = name, row.origin()
        same += name in device.elsewhere
        ready += [tag] if name not in device.elsewhere else []
    made = prepare(found, device.model, device.kind, seen=seen, old=old)
    tags = _readable(site, device, [replace(tag, group=groups[tag.origin]) for tag in made], there, found)
    left = {*rows, *sheets.hidden.get(device.name, ())} - {tag.name for tag in [*ready, *tags]}
    merged = merge(device.tags, [*ready, *tags], mode, device.elsewhere, left)
    return replace(merged, unchanged=merged.unchanged + same)


def _given(
    device: SiteDevice, row: Row, tag: PreparedTag | None, texts: Mapping[str, str], found: Found
) -> dict[str, Any] | None:
    """The values of the cells that are changed, nothing for a key that goes; None after a finding."""
    fields, given = device.tag_fields, dict[str, Any]()
    for key, text in texts.items():
        if key in (DEVICE, GROUP, "name"):
            continue
        if key not in fields:
            found.left_out(row.origin(key), messages.unknown_key(key, tuple(fields)), row["name"])
            return None
        before = tag.keys.get(key) if tag else None
        given[key] = value_of(text, fields[key].annotation, before) if text else ""
    return given


def _group(
    device: SiteDevice, row: Row, tag: PreparedTag | None, texts: dict[str, str], found: Found
) -> str | None:  # fmt: skip
    """The scan group of a tag; None after a finding."""
    label = texts.get(GROUP, "") or (tag.group if tag else "")
    groups = {group.label: group for group in device.groups}
    if not device.file:
        try:
            texts.setdefault(INTERVAL, label or NEW_GROUP_EVERY)
            parse_duration_ns(label or NEW_GROUP_EVERY)
        except ValueError:
            why = f"{device.name} is new and gets one scan group, which has an interval such as 1 s and no name"
            found.left_out(row.origin(GROUP), f"{GROUP} {label}: {why}", row["name"])
            return None
        return ""
    if not label and len(groups) == 1:
        label = next(iter(groups))
    if label not in groups:
        why = f"{device.name} has no scan group {label!r}; {messages.choices(label, tuple(groups))}"
        found.left_out(row.origin(GROUP), f"{why}; an interval of its own is written in {INTERVAL}", row["name"])
        return None
    group = groups[label]
    if group.is_shared and (tag is None or tag.group != label):
        why = f"{group.table} is the table of several scan groups; add it there"
    elif texts.get(INTERVAL, tag.every if tag else "") and not group.table:
        why = f"an interval of its own needs a table, and the scan group {label} names none"
    else:
        return label
    found.left_out(row.origin(GROUP), why, row["name"])
    return None


def _readable(
    site: Site, device: SiteDevice, tags: Sequence[PreparedTag], there: Mapping[str, PreparedTag], found: Found
) -> list[PreparedTag]:
    """The tags that the driver can read, and that a table can hold where they are new to it."""
    tables = {group.label for group in device.groups if group.table} or {""}
    to_table = [
        tag for tag in tags if tag.group in tables and not (tag.name in there and there[tag.name].group == tag.group)
    ]
    held = {id(tag) for tag in keep_whole(device.model, to_table, found)} | {
        id(tag) for tag in tags if tag not in to_table
    }
    tags = [tag for tag in tags if id(tag) in held]
    try:
        settings = _settings(site, device.raw)
    except ConfigError:
        return list(tags)  # A file that it names is not on this machine: `check` says so.
    return keep_planned(device.kind, settings, tags, found)


def _emptied(device: SiteDevice, tags: Merged[PreparedTag]) -> Iterator[Difference]:
    left = {tag.group for tag in tags.tags}
    for group in device.groups:
        if group.label not in left and not (group.is_typed or group.is_shared):
            yield Difference(name=device.name, what="conflict", reason=_EMPTY.format(group.label))


def _say_why(site: Site, sheets: Sheets, known: Sequence[str], found: Found) -> None:
    """Leave out the tags of devices that are not there."""
    for name, rows in (sheets.tags or {}).items():
        if name in known:
            continue
        if name in site.others:
            why = _made_elsewhere(name, site)
        elif sheets.devices is not None and name in sheets.devices:
            why = f"{name} was left out"
        else:
            why = f"no device is called {name!r}; {messages.choices(name, known)}"
        for row in rows.values():
            found.left_out(row.origin(DEVICE), why, row["name"])


def _files(site: Site, plan: Iterable[_Planned]) -> dict[str, bytes]:
    """The content of each file that becomes another one. Raises ConfigError."""
    files: dict[str, bytes] = {}
    new = [each for each in plan if not each[0].file]
    kept = {(device.file, device.number): (device, tags) for device, tags in plan if device.file}
    own = {(device.file, device.number) for device in site.devices.values()}
    for file, (data, tree) in site.files.items():
        items = []
        for number, item in enumerate(tree.get("devices") or ()):
            if (at := (file, number)) in kept:
                items.append(_item(site, item, *kept[at], files))
            elif at not in own:
                items.append(item)
        if not items and "devices" in tree:
            raise ConfigError([Problem("would have no device; leave it one", str(site.source.folder / file))])
        wanted = {**tree, "devices": items} if "devices" in tree else tree
        if wanted != tree:
            files[file] = edited(data, str(site.source.folder / file), tree, wanted)
    if new:
        path = file_for_devices(site.source)
        before = files.get(path.name) or site.files[path.name][0]
        devices = [_new_device(site, device, tags, files) for device, tags in new]
        after = insert(before, str(path), *devices)
        if after is None:
            why = "has no list of devices that more can be put into; write the first one in lines of its own"
            raise ConfigError([Problem(why, str(path))])
        files[path.name] = after
    return files


def _item(
    site: Site, item: Mapping[str, Any], device: SiteDevice, merged: Merged[PreparedTag], files: dict[str, bytes]
) -> dict[str, Any]:
    """A device as the YAML file has it afterwards; tables that change are added to the files."""
    before = {tag.name: tag for tag in device.tags}
    groups = []
    for written, group in zip(item.get(GROUPS) or (), device.groups, strict=True):
        members = {tag.name: tag for tag in merged.tags if tag.group == group.label}
        here = {tag["name"] for tag in written.get("tags") or () if OF_TYPE not in tag}
        into_table = [tag for name, tag in members.items() if group.table and not group.is_shared and name not in here]
        tags = [tag if OF_TYPE in tag or members[tag["name"]] is before[tag["name"]] else members[tag["name"]].keys
                for tag in written.get("tags") or () if OF_TYPE in tag or tag["name"] in members]  # fmt: skip
        if not group.table:
            tags += [tag.keys for name, tag in members.items() if name not in here]
        if tags != (written.get("tags") or []):
            written = {key: value for key, value in {**written, "tags": tags}.items() if key != "tags" or tags}
        if not group.is_shared and into_table != list(group.rows):
            path = site.source.folder / group.table
            files[group.table] = table_data(path, group.data, group.rows, into_table)
        groups.append(written)
    return {**device.raw, **({GROUPS: groups} if GROUPS in item else {})}


def _new_device(site: Site, device: SiteDevice, merged: Merged[PreparedTag], files: dict[str, bytes]) -> NewDevice:
    """A device with one scan group, of the interval of its first tag, and a table."""
    every, table = merged.tags[0].every, f"{device.name}.csv"
    path = site.source.folder / table
    if path.exists() or table in files:
        raise ConfigError([Problem(f"is there, and would be the table of the new device {device.name}; move it away",
                                   str(path))])  # fmt: skip
    tags = [replace(tag, every="" if tag.every == every else tag.every) for tag in merged.tags]
    files[table] = table_data(path, b"", (), tags)
    return NewDevice(what="", keys=device.raw, every=every, table=table)


def check_files(site: Site, files: Mapping[str, bytes]) -> None:
    """Raise ConfigError with each problem that the configuration has not yet, and would have with these contents."""
    if files and (errors := check(site.config, kind="gateway", instead=files).errors):
        known = {error.message for error in check(site.config, kind="gateway").errors}
        if new := [error for error in errors if error.message not in known]:
            raise ConfigError(new)


def write_files(site: Site, files: Mapping[str, bytes]) -> None:
    """Write the tables, then the files that name them. Raises ConfigError or OSError; then nothing is changed."""
    folder, done = site.source.folder, list[str]()
    before = {name: (folder / name).read_bytes() for name in files if (folder / name).exists()}
    for name, (data, _) in site.files.items():
        if before.get(name, data) != data:
            raise ConfigError([Problem("was changed meanwhile; nothing was written, try again", str(folder / name))])
    try:
        for name in sorted(files, key=lambda name: name in site.files):
            with named_in_errors(folder / name):
                replace_like(folder / name, files[name], folder / (name if name in before else site.source.names[0]))
            done.append(name)
    except OSError:
        for name in done:
            with suppress(OSError):
                if name in before:
                    replace_like(folder / name, before[name], folder / name)
                else:
                    (folder / name).unlink()
        raise
