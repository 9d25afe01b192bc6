"""What a device says of its tags, put into the catalogue where the configuration is silent. Layouts never change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

from edge.model import CatalogueGroup, CatalogueTag, DataType, TagMetadata

UNIT_LIMIT = 100
DESCRIPTION_LIMIT = 1000
TEXTS_BYTES_LIMIT = 8000
"""A device may say anything, and a tag has to fit a record."""

_NUMBERS = range(-(2**63), 2**63)


def bounded(facts: TagMetadata) -> TagMetadata:
    """The same within bounds, and in one form: what is no range, or no number of an enumeration, is left out."""
    low, high = facts.range or (0.0, 0.0)
    is_range = isfinite(low) and isfinite(high) and low < high
    return TagMetadata(
        unit=_utf8(facts.unit[:UNIT_LIMIT]),
        range=(float(low), float(high)) if is_range else None,
        description=_utf8(facts.description[:DESCRIPTION_LIMIT]),
        texts=_texts(facts.texts),
    )


def _texts(texts: Sequence[tuple[int, str]]) -> tuple[tuple[int, str], ...]:
    kept: dict[int, str] = {}
    room_bytes = TEXTS_BYTES_LIMIT
    for number, text in texts:
        plain = _utf8(text[:DESCRIPTION_LIMIT])
        room_bytes -= len(plain.encode()) + 9
        if room_bytes < 0:
            break
        if number in _NUMBERS:
            kept[number] = plain
    return tuple(sorted(kept.items()))


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def with_facts(group: CatalogueGroup, facts: Sequence[TagMetadata]) -> CatalogueGroup:
    """The group as the configuration has it, and what the device says beyond that; without facts it is as it was."""
    if len(facts) != len(group.tags):
        return group
    return replace(group, tags=tuple(map(_with, group.tags, facts)))


def _with(tag: CatalogueTag, facts: TagMetadata) -> CatalogueTag:
    # What the device says is of the value as it sends it: scaled, it is in another unit.
    is_raw = (tag.scale, tag.offset) == (1, 0)
    is_number = is_raw and tag.data_type.is_number
    return replace(
        tag,
        unit=tag.unit or (facts.unit if is_number else ""),
        range=tag.range or (facts.range if is_number else None),
        description=tag.description or facts.description,
        texts=facts.texts if is_raw and tag.data_type is not DataType.TEXT else (),
    )
