"""The devices and tags of a configuration as the rows of two sheets.

What a sheet shows of a value is a text. Not in it are what no cell can hold, such as lists of sections and line breaks,
where secrets are, and what scan groups have besides their name. Devices that are made of a type or come from a
reference are not in it either: they are changed there, once for all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, get_args, get_origin

from edge.config.devices import Kinds, tag_model
from edge.config.export import cell
from edge.config.fields import Field, is_secret, nested_fields
from edge.config.files import Source, read
from edge.config.tag_table import INTERVAL, Cell, tag_fields
from edge.config.templates import OF_TYPE, REFERENCE
from edge.config.yaml_tree import Node, parse
from edge.driver import DeviceSettings, DriverKind, TagSettings, load
from edge.errors import ConfigError, Problem
from edge.importers.workbook import CELL_CHARACTERS, Sheet
from edge.tags.prepare import GROUP, PreparedTag
from edge.tags.target import read_table, valid_tags

DEVICE, DRIVER, GROUPS = "device", "driver", "scan_groups"
USUAL_OF_DEVICES = ("name", DRIVER, "host", "port", "unit")
USUAL_OF_TAGS = (DEVICE, GROUP, "name", "address", "type", "unit", "description")
_NAMED = 5


@dataclass(slots=True, kw_only=True)
class SiteGroup:
    """A scan group of a device.

    Attributes:
        label: its name, or its interval where it has none.
        is_typed: it has tags that are made of a type.
        table: that it names, which may be empty; shared with other scan groups, it is not changed.
        rows: the tags of that table, of which `data` is the content.
    """

    label: str
    is_typed: bool = False
    table: str = ""
    is_shared: bool = False
    data: bytes = b""
    rows: Sequence[PreparedTag] = ()


@dataclass(kw_only=True)
class SiteDevice:
    """A device as it is written, or as a workbook wants it.

    Attributes:
        file: the YAML file that it is in, and `number` its place among the devices there; empty for a new one.
        raw: its keys and values, without scan groups.
        texts: what a sheet shows of it, by key; keys of sections with a dot, such as limits.timeout.
        stays: why a key is not in a sheet, by key.
        tags: those that a workbook can change.
        shown_tags: those that it shows besides.
        elsewhere: where each tag is that a workbook cannot change, by its name.
    """

    name: str
    kind: DriverKind[Any]
    raw: Mapping[str, Any]
    file: str = ""
    number: int = 0
    texts: Mapping[str, str] = field(default_factory=dict)
    stays: Mapping[str, str] = field(default_factory=dict)
    groups: Sequence[SiteGroup] = ()
    tags: list[PreparedTag] = field(default_factory=list)
    shown_tags: list[PreparedTag] = field(default_factory=list)
    elsewhere: dict[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> Mapping[str, Any]:
        """Its keys as a person is shown them."""
        return self.texts

    def is_as(self, other: SiteDevice) -> bool:
        """Whether nothing of it has to change to be the other one."""
        return self.texts == other.texts

    @cached_property
    def model(self) -> type[TagSettings]:
        """The class of its tags."""
        return tag_model(self.kind.settings)

    @cached_property
    def tag_fields(self) -> Mapping[str, Field]:
        """The keys of its tags."""
        return tag_fields(self.model)

    def row_of(self, tag: PreparedTag) -> dict[str, str]:
        """What a sheet shows of one of its tags."""
        known = self.tag_fields
        texts = {key: text_of(value, known[key].annotation) or "" for key, value in tag.row.items()}
        return {DEVICE: self.name, GROUP: tag.group, **texts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A configuration, and what a workbook can hold of it.

    Attributes:
        files: the content of each YAML file, and its tree.
        devices: those that a workbook has, by name.
        others: where each other device is made, of a type or from a reference, by name.
    """

    config: Path
    source: Source
    files: Mapping[str, tuple[bytes, dict[str, Any]]]
    devices: Mapping[str, SiteDevice]
    others: Mapping[str, str]

    def sheets(self) -> list[Sheet]:
        """The sheets of a workbook: columns that are in use, and the usual ones."""
        devices = list(self.devices.values())
        models: list[type[DeviceSettings]] = [DeviceSettings, *(each.kind.settings for each in devices)]
        known = dict.fromkeys(key for model in models for key in device_fields(model))
        of_tags = dict.fromkeys([DEVICE, GROUP, *(key for model in models for key in tag_fields(tag_model(model)))])
        tags = [each.row_of(tag) for each in devices for tag in [*each.tags, *each.shown_tags]]
        rows = [dict(each.texts) for each in devices]
        return [Sheet("Devices", _headings(USUAL_OF_DEVICES, known, rows), rows),
                Sheet("Tags", _headings(USUAL_OF_TAGS, of_tags, tags), tags)]  # fmt: skip

    def notes(self) -> Iterator[str]:
        """What is not in the workbook, and stays as it is."""
        yield "of scan groups a workbook has the names; their intervals and other settings stay in the configuration"
        for device in self.devices.values():
            for key, why in device.stays.items():
                yield f"{device.name}: {key} is not in the workbook and stays as it is: {why}"
            known = device.tag_fields
            lost = Counter(key for tag in [*device.tags, *device.shown_tags] for key, value in tag.row.items()
                           if text_of(value, known[key].annotation) is None)  # fmt: skip
            for key, count in lost.items():
                yield f"{device.name}: {key} of {count:,} tags is not in the workbook: a cell cannot hold it"
            if typed := len(device.elsewhere.keys() - {tag.name for tag in device.shown_tags}):
                yield f"{device.name}: {typed:,} tags are not in the workbook: they are made of a type"
        if self.others:
            names = ", ".join([*self.others][:_NAMED]) + (", ..." if len(self.others) > _NAMED else "")
            yield (f"not in the workbook, because they are made of a type or come from a reference, and are changed "
                   f"there: {names} ({len(self.others):,} in all)")  # fmt: skip


def _headings(usual: Sequence[str], known: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> list[str]:
    used = {key for row in rows for key, text in row.items() if text}
    return list(dict.fromkeys([*(key for key in usual if key in known),
                               *(key for key in known if key in used), *sorted(used)]))  # fmt: skip


def read_site(config: Path, find: Callable[[str], DriverKind[Any]] = load) -> Site:
    """The devices and tags of a configuration. Raises ConfigError."""
    source = read(config, "gateway")
    if source.root is None or source.problems:
        raise ConfigError(source.problems)
    if source.kind == "relay":
        raise ConfigError([Problem("is the configuration of a relay, which has no devices", str(config))])
    whole = source.root["devices"]
    made = {str(node["name"].content): node for node in (whole.items if whole else ()) if node["name"] is not None}
    uses = Counter(named.content for node in made.values() for group in _items(node, GROUPS)
                   if (named := group["tags_from"]) is not None)  # fmt: skip
    files: dict[str, tuple[bytes, dict[str, Any]]] = {}
    devices: dict[str, SiteDevice] = {}
    kinds = Kinds(find)
    for file in source.names:
        data = source.read_bytes(file)
        assert isinstance(data, bytes)
        root, _ = parse(data, str(source.folder / file))
        if root is None or not isinstance(root.content, dict):
            continue
        files[file] = data, root.plain()
        for number, node in enumerate(_items(root, "devices")):
            name = "" if node["name"] is None else str(node["name"].content)
            is_whole = root[REFERENCE] is None or (name in made and made[name].plain() == node.plain())
            if node[OF_TYPE] is None and is_whole and name in made:
                devices[name] = _device(source, file, number, node, made[name], kinds, uses)
    others = {name: f"{node.mark.file}:{node.mark.line}" for name, node in made.items() if name not in devices}
    return Site(config=config, source=source, files=files, devices=devices, others=others)


def _items(node: Node, key: str) -> Sequence[Node]:
    return below.items if (below := node[key]) is not None else ()


def _device(
    source: Source, file: str, number: int, node: Node, made: Node, kinds: Kinds, uses: Mapping[Any, int]
) -> SiteDevice:
    problems = list[Problem]()
    kind = kinds.of(node, problems)
    if kind is None or problems:
        raise ConfigError(problems)
    raw = {key: value for key, value in node.plain().items() if key != GROUPS}
    texts, stays = shown_keys(raw, kind)
    device = SiteDevice(name=str(raw["name"]), kind=kind, raw=raw, file=file, number=number, texts=texts, stays=stays)
    groups = []
    for group in _items(node, GROUPS):
        labels = [str(found.content) for key in ("name", INTERVAL) if (found := group[key]) is not None]
        each = SiteGroup(label=(*labels, "")[0])
        plain = [tag for tag in _items(group, "tags") if tag[OF_TYPE] is None]
        each.is_typed = len(plain) < len(_items(group, "tags"))
        device.tags += valid_tags(plain, device.model, each.label)
        if (named := group["tags_from"]) is not None and named.text:
            each.table, each.is_shared = named.text, uses[named.text] > 1
            each.data, rows = read_table(source, named, device.model)
            each.rows = list(valid_tags(rows, device.model, each.label))
            if each.is_shared:
                device.shown_tags += each.rows
                why = f"{each.table}, which several scan groups name,"
                device.elsewhere |= {tag.name: why for tag in each.rows}
            else:
                device.tags += each.rows
        groups.append(each)
    device.groups = groups
    held = {tag.name for tag in device.tags}
    for group in _items(made, GROUPS):
        for tag in _items(group, "tags"):
            if (name := tag["name"]) is not None and name.content not in held:
                device.elsewhere.setdefault(str(name.content), f"{tag.mark.file}:{tag.mark.line}")
    return device


def device_fields(model: type[DeviceSettings]) -> dict[str, Field]:
    """The keys of a device, and with a dot those of its sections; without scan groups."""
    return {key: each for key, each in nested_fields(model).items() if key.partition(".")[0] != GROUPS}


def shown_keys(raw: Mapping[str, Any], kind: DriverKind[Any]) -> tuple[dict[str, str], dict[str, str]]:
    """What a sheet shows of a device, and why it does not show the other keys."""
    fields = device_fields(kind.settings)
    texts: dict[str, str] = {}
    stays: dict[str, str] = {}
    for key, value in _flat(raw):
        text = text_of(value, annotation_of(key, fields))
        if key in fields and is_secret(fields[key]):
            stays[key] = "it leads to a secret"
        elif text is None:
            stays[key] = "a cell cannot hold it"
        elif text:
            texts[key] = text
    return texts, stays


def _flat(section: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict) and value and not any("." in below for below in value):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield above + key, value


def annotation_of(key: str, fields: Mapping[str, Field]) -> Any:
    """The type of a key; of one whose name is free, as that of a namespace is, the type of its value."""
    if key in fields:
        return fields[key].annotation
    return get_args(fields[key.rpartition(".")[0]].annotation)[-1] if is_free(key, fields) else str


def is_free(key: str, fields: Mapping[str, Field]) -> bool:
    """Whether it is a key in a section that may have any, such as namespaces.plc."""
    above = fields.get(key.rpartition(".")[0])
    return above is not None and get_origin(above.annotation) is Mapping


def text_of(value: Any, annotation: Any) -> str | None:
    """What a cell shows of a value; None where it cannot hold it."""
    text = cell(value) if not isinstance(value, Mapping) else "{}"
    if not text.isprintable() or text != text.strip() or len(text) > CELL_CHARACTERS or isinstance(value, Mapping):
        return None
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return None if is_list and (Cell(annotation).value(text) != list(value) or not value) else text


def value_of(text: str, annotation: Any, old: Any = None) -> Any:
    """The value of a cell; what was a text stays one, such as 007."""
    value = Cell(annotation).value(text)
    return text if isinstance(old, str) and not isinstance(value, str | list) else value
