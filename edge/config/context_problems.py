"""What is wrong with the contexts of a whole configuration, each at its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from edge.config import messages
from edge.config.catalogue import group_name
from edge.config.contexts import ContextSettings, ContextTag
from edge.config.yaml_tree import Node
from edge.driver import DeviceSettings, ScanGroupSettings, TagSettings
from edge.errors import Problem
from edge.model import DataType
from edge.units import format_duration

SLOWEST_NS = 10 * 10**9
"""The longest interval of a context tag: the readings of its unit wait for the next read of it."""


def context_problems(
    contexts: Sequence[ContextSettings], root: Node, devices: Iterable[DeviceSettings]
) -> Iterator[Problem]:
    """What contexts name that is not there, not fit for it, or named twice."""
    known = {device.name: device for device in devices}
    written = root["contexts"]
    units: set[str] = set()
    owners: dict[tuple[str, str], str] = {}
    for context, node in zip(contexts, written.items if written is not None else (), strict=False):
        if context.unit in units:
            yield (node["unit"] or node).problem(f"{context.unit!r} is the name of two units; name each once")
        units.add(context.unit)
        members = node["members"] or node
        for member, tag in context.members.tags.items():
            yield from _tag_problems(tag, members[member] or members, known)
        named = node["devices"]
        for place, at in zip(context.devices, named.items if named is not None else (), strict=False):
            yield from _place_problems(context.unit, place, at, known, owners)


def _tag_problems(tag: ContextTag, node: Node, known: Mapping[str, DeviceSettings]) -> Iterator[Problem]:
    if (device := known.get(tag.device)) is None:
        choices = messages.choices(tag.device, known)
        yield (node["device"] or node).problem(f"no device is called {tag.device!r}; {choices}")
        return
    at = node["tag"] or node
    found = find_tag(device, tag.tag)
    if found is None:
        names = [each.name for group in device.scan_groups for each in group.tags]
        yield at.problem(f"{tag.device} has no tag {tag.tag!r}; {messages.choices(tag.tag, names)}")
        return
    group, wanted = found
    data_type = wanted.data_type
    if data_type.numpy.kind == "f":
        yield at.problem(f"{tag.tag!r} is a {data_type.name.lower()}: a context is a text, a whole number or a bool")
    elif data_type is DataType.TEXT and tag.texts:
        yield (node["texts"] or at).problem(f"{tag.tag!r} is a text; texts are for numbers")
    if wanted.deadband_in_unit or wanted.at_most_every:
        key = "deadband" if wanted.deadband_in_unit else "at_most_every"
        yield at.problem(f"{tag.tag!r} has {key}, which would hide a change of the context; leave it out of the tag")
    if max(group.every, group.sign_of_life) > SLOWEST_NS:
        yield at.problem(f"{tag.tag!r} is read every {format_duration(max(group.every, group.sign_of_life))}: readings "
                         f"wait for it, so read it every {format_duration(SLOWEST_NS)} or more often")  # fmt: skip


def find_tag(device: DeviceSettings, name: str) -> tuple[ScanGroupSettings, TagSettings] | None:
    """A tag of a device, with its scan group; None where it has none of that name."""
    return next(((group, tag) for group in device.scan_groups for tag in group.tags if tag.name == name), None)


def _place_problems(
    unit: str, place: str, node: Node, known: Mapping[str, DeviceSettings], owners: dict[tuple[str, str], str]
) -> Iterator[Problem]:
    name, slash, wanted = place.partition("/")
    if (device := known.get(name)) is None:
        yield node.problem(f"no device is called {name!r}; {messages.choices(name, known)}")
        return
    groups = [group_name(group) for group in device.scan_groups]
    if slash and wanted not in groups:
        yield node.problem(f"{name} has no scan group {wanted!r}; {messages.choices(wanted, groups)}")
    for group in groups:
        if slash and group != wanted:
            continue
        owner = owners.setdefault((name, group), unit)
        if owner != unit:
            yield node.problem(f"the scan group {group} of {name} belongs to the unit {owner} already; it can belong "
                               "to one")  # fmt: skip
