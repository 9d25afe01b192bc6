"""Check the devices of a configuration: validation by their drivers, plans, and whether intervals can be met."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge.clock import SystemClock
from edge.config import messages
from edge.config.catalogue import group_name
from edge.config.fields import fields_of, settings_in
from edge.config.files import Source, read
from edge.config.settings import GatewaySection
from edge.config.tag_table import INTERVAL, tags_of
from edge.config.validate import validate
from edge.config.yaml_tree import Node, problem_at
from edge.driver import DeviceSettings, DriverKind, PlanCost, SharesConnection, TagSettings, installed, load, plan_group
from edge.errors import ConfigError, Problem
from edge.units import UCUM, format_duration, parse_duration_ns

Find = Callable[[str], DriverKind[Any]]
"""Finds a driver by name. Raises ConfigError for an unknown one."""

GROUP_TAGS = 65_535  # A position in a record has 16 bits.
_ELEMENT = re.compile(r"\[[\d,]+\]$")
SCAN_BYTES = 60_000  # One record holds a scan; with its envelope it has up to 65,535 bytes.


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlan:
    """The plan of one scan group: its requests and their cost."""

    device: str
    group: str
    every_ns: int
    cost: PlanCost
    requests: tuple[str, ...]


@dataclass(slots=True)
class CheckedDevice:
    """The result for one device: its settings if they are valid, its plans, and its node in the file."""

    node: Node
    kind: DriverKind[Any] | None = None
    settings: DeviceSettings | None = None
    plans: Sequence[tuple[GroupPlan, Node]] = ()


class Kinds:
    """The drivers in use, each loaded once, when the first device of it is checked."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._found: dict[str, DriverKind[Any] | ConfigError] = {}

    def of(self, device: Node, problems: list[Problem]) -> DriverKind[Any] | None:
        """The driver of a device; for a misspelled name the closest match, with a problem; None without a match."""
        driver = device["driver"]
        if not isinstance(device.content, dict):
            problems.append(device.problem(f"must be keys and values, got {messages.got(device.plain())}"))
            return None
        if driver is None or driver.text is None:
            known = ", ".join(installed())
            message = f"is missing: the driver that speaks to the device; installed are {known}"
            problems.append(problem_at((driver or device).mark, message, device.inside("driver")))
            return None
        kind = self._load(driver.text)
        if not isinstance(kind, ConfigError):
            return kind
        meant = messages.did_you_mean(driver.text, tuple(name for name in installed() if name != driver.text))
        hint = f"; did you mean {meant}?" if meant else ""
        problems += [driver.problem(f"{problem.message}{hint}") for problem in kind.problems]
        guess = self._load(meant) if meant else kind
        if isinstance(guess, ConfigError):
            return None
        driver.content = meant  # Check the rest with the corrected name.
        return guess

    def _load(self, name: str) -> DriverKind[Any] | ConfigError:
        if name not in self._found:
            try:
                self._found[name] = self._find(name)
            except ConfigError as error:
                self._found[name] = error
        return self._found[name]


def check_device(source: Source, node: Node, kinds: Kinds, problems: list[Problem]) -> CheckedDevice:
    """Validate and plan one device, including its CSV files."""
    device = CheckedDevice(node, kinds.of(node, problems))
    if device.kind is None:
        return device  # Without its driver the valid keys are unknown.
    model = device.kind.settings
    if (groups := node["scan_groups"]) is not None and groups.items:
        for group in groups.items:
            _add_rows(source, group, tag_model(model), problems)
        groups.content = [part for group in groups.items for part in _by_interval(group)]
        for group in groups.items:
            _check_count(group, problems)
    problems += unit_warnings(node)
    of_names = tag_problems(node)
    problems += of_names
    device.settings, found = validate(model, node, source.context)
    problems += found
    if device.settings is not None and not of_names:
        problems += _repeated_elements(device.settings, node)
    device.plans = list(_plans(device, problems))
    return device


def tag_model(device: type[DeviceSettings]) -> type[TagSettings]:
    """The class of the tags in a driver's device settings."""
    for group in settings_in(fields_of(device)["scan_groups"].annotation):
        for tag in settings_in(fields_of(group)["tags"].annotation):
            if issubclass(tag, TagSettings):
                return tag
    return TagSettings


def pace_warnings(devices: Iterable[CheckedDevice]) -> Iterator[Problem]:
    """Warnings for intervals that are shorter than the estimated scans of all groups on a connection."""
    shared: dict[Hashable, list[tuple[GroupPlan, Node]]] = defaultdict(list)
    for device in devices:
        if device.settings is not None:
            shared[_connection_key(device)] += device.plans
    for plans in shared.values():
        together_ns = sum(plan.cost.took_ns for plan, _ in plans)
        for plan, every in plans:
            if plan.cost.took_ns > plan.every_ns:
                yield _warning(every, f"one scan takes about {format_duration(plan.cost.took_ns)}, longer than its "
                               "interval; scans will be skipped: read fewer tags or less often")  # fmt: skip
            elif together_ns > plan.every_ns:
                yield _warning(every, f"the {len(plans)} scan groups on this connection take about "
                               f"{format_duration(together_ns)} together; some scans will be skipped")  # fmt: skip


def place_warnings(devices: Iterable[CheckedDevice]) -> Iterator[Problem]:
    """Warnings for devices that are one."""
    first: dict[tuple[str, str], Node] = {}
    for device in devices:
        if device.settings is not None and (place := device.settings.place):
            before = first.setdefault((device.settings.driver, place), device.node)
            if before is not device.node and (name := before["name"]) is not None:
                where = _where(name, device.node)
                yield _warning(device.node["name"] or device.node, f"{place} is {name.content!r} {where} too, and is "
                               "asked for each; write its tags in one device, in as many scan groups as needed"
                               )  # fmt: skip


def unit_warnings(device: Node) -> Iterator[Problem]:
    """Warnings for units that are not UCUM codes, which other systems know; each once."""
    groups = device["scan_groups"]
    tags = [tag for group in (groups.items if groups else ()) if (held := group["tags"]) for tag in held.items]
    units = {unit.text: unit for tag in reversed(tags) if (unit := tag["unit"]) is not None and unit.text in UCUM}
    for text, node in units.items():
        yield _warning(node, f"{text} is {UCUM[text]} as a UCUM code; written in both ways, it is two units")


def _warning(node: Node, message: str) -> Problem:
    return replace(node.problem(message), severity="warning")


def _connection_key(device: CheckedDevice) -> Hashable:
    if isinstance(device.kind, SharesConnection):
        return id(device.kind), device.kind.connection(device.settings)
    return id(device)


def _add_rows(source: Source, group: Node, model: type[TagSettings], problems: list[Problem]) -> None:
    named = group["tags_from"]
    if named is None or not named.text:
        return
    data = source.read_bytes(named.text)
    if isinstance(data, str):
        problems.append(named.problem(data))
        return
    rows, found = tags_of(data, str(source.folder / named.text), model)
    problems += found
    if not rows and not found:
        problems.append(named.problem(f"{named.text} holds no tags"))
    written = group["tags"]
    if isinstance(group.content, dict) and (written is None or isinstance(written.content, list)):
        above = written.items if written else ()
        group.content["tags"] = Node([*above, *rows], written.mark if written else named.mark, group.inside("tags"))


def _by_interval(group: Node) -> list[Node]:
    """The group, and one more for each other interval that its rows give in their column `every`."""
    if not isinstance(group.content, dict) or (tags := group["tags"]) is None:
        return [group]
    parts: dict[object, tuple[Node | None, list[Node]]] = {_interval(group[INTERVAL]): (group[INTERVAL], [])}
    own = next(iter(parts))
    for tag in tags.items:
        is_row = tag.mark.file != group.mark.file and isinstance(tag.content, dict)
        every = tag.content.pop(INTERVAL, None) if is_row and isinstance(tag.content, dict) else None
        parts.setdefault(own if every is None else _interval(every), (every, []))[1].append(tag)
    if len(parts) == 1:
        return [group]
    groups = []
    for interval, (every, members) in parts.items():
        content = {**group.content, "tags": Node(members, tags.mark, tags.path)}
        if interval != own and every is not None:
            content[INTERVAL] = every
            if (name := group["name"]) is not None:
                content["name"] = Node(f"{name.content} {every.content}", name.mark, name.path)
        if members:
            groups.append(replace(group, content=content))
    return groups


def _interval(every: Node | None) -> object:
    """An interval in ns, so that 1 s and 1000 ms are one; as it is written where it is none."""
    try:
        return None if every is None else parse_duration_ns(every.content)
    except ValueError:
        return every.content if every else None


def _check_count(group: Node, problems: list[Problem]) -> None:
    if not isinstance(group.content, dict):
        return
    tags = group["tags"]
    if not group["tags_from"] and (tags is None or tags.content == []):
        problems.append((tags or group).problem("reads nothing: write its tags, or name a CSV file in tags_from"))
    elif tags and len(tags.items) > GROUP_TAGS:
        problems.append(tags.problem(f"{len(tags.items)} tags; a scan group holds up to {GROUP_TAGS}, so make two"))


def _plans(device: CheckedDevice, problems: list[Problem]) -> Iterator[tuple[GroupPlan, Node]]:
    settings, groups = device.settings, device.node["scan_groups"]
    if settings is None or device.kind is None or groups is None:
        return
    driver = device.kind.driver(settings, SystemClock())
    for group, node in zip(settings.scan_groups, groups.items, strict=True):
        if not group.tags:
            continue
        if (scan_bytes := sum(tag.value_bytes for tag in group.tags)) > SCAN_BYTES:
            message = f"{len(group.tags)} tags take up to {scan_bytes} bytes; a record holds a scan of {SCAN_BYTES}"
            problems.append((node["tags"] or node).problem(f"{message}, so make two groups"))
        try:
            plan = plan_group(driver, group)
        except ConfigError as error:
            problems += [_at_tag(problem, node) for problem in error.problems]
            continue
        yield (
            GroupPlan(
                device=settings.name,
                group=group_name(group),
                every_ns=group.every,
                cost=plan.cost(),
                requests=tuple(plan.describe()),
            ),
            node["every"] or node,
        )


def written_name(tag: str) -> str:
    """The name that is written for a tag, of which a driver may read several."""
    return _ELEMENT.sub("", tag)


def _at_tag(problem: Problem, group: Node) -> Problem:
    """The problem at the line of the tag that its `path` names, alone or one of a slice; at the group without one."""
    written = group["tags"].items if group["tags"] else ()
    tags = {name.text: tag for tag in written if (name := tag["name"]) is not None}
    tag = tags.get(problem.path) or tags.get(written_name(problem.path))
    node = (tag["address"] or tag) if tag else group
    return replace(node.problem(problem.message), severity=problem.severity)


def connection(path: Path, name: str, find: Find = load) -> tuple[DriverKind[Any], DeviceSettings]:
    """The driver and the settings of one device; its scan groups and all other devices are not checked.

    Raises:
        ConfigError: the file cannot be read, or the device's settings are invalid.
        LookupError: no device has this name.
    """
    source = read(path, "gateway")
    written = source.root["devices"] if source.root else None
    if written is None:
        raise ConfigError(source.problems or f"{path}: there are no devices in it")
    return settings_of(source, named_device(written, name), find)


def settings_of(source: Source, node: Node, find: Find = load) -> tuple[DriverKind[Any], DeviceSettings]:
    """The driver and the settings of a device, whose scan groups are left out. Raises ConfigError."""
    problems = list[Problem]()
    kind = Kinds(find).of(node, problems)
    if kind is None or problems:
        raise ConfigError(problems)
    assert isinstance(node.content, dict)
    group = Node({"every": Node("1 h", node.mark)}, node.mark)
    node.content["scan_groups"] = Node([group], node.mark)
    settings, found = validate(kind.settings, node, source.context)
    if settings is None or found:
        raise ConfigError(found)
    return kind, settings


def control_socket(path: Path) -> Path | None:
    """Where the running gateway of a configuration is asked; None where its section is not valid."""
    source = read(path, "gateway")
    section = source.root["gateway"] if source.root else None
    settings = validate(GatewaySection, section, source.context)[0] if section is not None else None
    return settings.control_socket if settings is not None else None


def named_device(devices: Node, name: str) -> Node:
    """The device of this name. Raises LookupError where there is none."""
    named = {node["name"].text: node for node in devices.items if node["name"] is not None}
    if name not in named:
        raise LookupError(f"no device is called {name!r}; {messages.choices(name, filter(None, named))}")
    return named[name]


def device_problems(devices: Iterable[Node]) -> list[Problem]:
    """Problems of devices with the same name."""
    return list(_repeated(_names(devices)))


def tag_problems(device: Node) -> list[Problem]:
    """Problems of groups and tags of one device with the same name, and of tags whose name is also a branch."""
    groups = device["scan_groups"].items if device["scan_groups"] else ()
    tags = [name for group in groups if (node := group["tags"]) for name in _names(node.items)]
    return [*_repeated(filter(None, map(_group_name, groups))), *_repeated(tags), *_branches(tags)]


def _repeated_elements(device: DeviceSettings, node: Node) -> Iterator[Problem]:
    """Problems of elements of a slice that have the name of another tag."""
    groups, names = node["scan_groups"], set[str]()
    for group, written in zip(device.scan_groups, groups.items if groups else (), strict=True):
        for tag in group.tags:
            if tag.name in names:
                message = (
                    f"{tag.name!r} is the name of two tags, of which one is an element of a slice; name it otherwise"
                )
                yield _at_tag(Problem(message, path=tag.name), written)
            names.add(tag.name)


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
