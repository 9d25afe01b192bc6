"""The settings of batch contexts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated

from edge.settings import Check, Len, MinLen, Settings

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
