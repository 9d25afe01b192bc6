"""The settings of batch contexts, and what is wrong with those of a whole configuration."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated

from edge.config import messages
from edge.config.catalogue import group_name
from edge.config.yaml_tree import Node
from edge.driver import DeviceSettings, ScanGroupSettings, TagSettings
from edge.errors import Problem
from edge.model import DataType
from edge.settings import Check, Len, MinLen, Settings
from edge.units import format_duration

SLOWEST_NS = 10 * 10**9
"""The longest interval of a context tag: the readings of its unit wait for the next read of it."""

_TEXT_LIMIT = 200
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}")


def _check_texts(texts: Mapping[str, str]) -> None:
    for number, text in texts.items():
        if not _NUMBER.fullmatch(number):
            raise ValueError(f"the keys of texts are whole numbers, got {number!r}")
        if len(text) > _TEXT_LIMIT:
            raise ValueError(f"the text of {number} has {len(text)} characters; it can have {_TEXT_LIMIT}")


@dataclass(frozen=True, kw_only=True)
class ContextTag(Settings):
    """The tag that says one member of a context: a text, a whole number, or true or false."""

    device: Annotated[str, Len(1, 100)]
    """The device that it is read from; any device of the gateway."""
    tag: Annotated[str, Len(1, 200)]
    """Its name at that device. It has no deadband and no at_most_every, which would hide a change."""
    texts: Annotated[Mapping[str, str], Check(_check_texts)] = field(default_factory=dict)
    """What its numbers mean, such as {1: HEAT, 2: HOLD}; a number without a text is its digits."""


@dataclass(frozen=True, kw_only=True)
class ContextMembers(Settings):
    """The members of a context as ISA-88 names them; at least one."""

    batch: ContextTag | None = None
    """Id of the batch. Its begin and end are events; blank: no batch."""
    lot: ContextTag | None = None
    """Id of the lot."""
    product: ContextTag | None = None
    """The product that is made."""
    recipe: ContextTag | None = None
    """The recipe that is executed."""
    procedure: ContextTag | None = None
    """The procedure of the recipe."""
    unit_procedure: ContextTag | None = None
    """The unit procedure."""
    operation: ContextTag | None = None
    """The operation."""
    phase: ContextTag | None = None
    """The phase. Its begin and end are events; blank: no phase."""
    state: ContextTag | None = None
    """The state, such as RUNNING or HELD."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tags:
            raise ValueError("name at least one member, such as batch: {device: mes, tag: batch-id}")

    @property
    def tags(self) -> dict[str, ContextTag]:
        """The members that are read, and their tags."""
        named = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: tag for name, tag in named if tag is not None}


@dataclass(frozen=True, kw_only=True)
class ContextSettings(Settings):
    """What one unit is doing, which each of its readings then names."""

    unit: Annotated[str, Len(1, 100)]
    """Name of the unit, unique in the gateway."""
    members: ContextMembers
    """The members of the context, each read from a tag."""
    devices: Annotated[Sequence[str], MinLen(1)]
    """Whose readings belong to the unit: names of devices, or device/scan group for one scan group."""


def has_group(context: ContextSettings, device: str, group: str) -> bool:
    """Whether a scan group belongs to the unit."""
    return device in context.devices or f"{device}/{group}" in context.devices


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
