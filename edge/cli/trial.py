"""What several readings of a tag say about it: whether it is plausible, whether it moves, and what looks wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from edge.config.catalogue import catalogue_tag
from edge.driver import TagSettings
from edge.gateway.tag_values import QualityName, ReadValue
from edge.model import DataType, name_of
from edge.units import format_value

_AS_CONFIGURED = ", as configured"
_TINY, _HUGE = 1e-15, 1e15  # Of a float: what no sensor gives, and two halves in the wrong order nearly always do.
_UNUSUAL_BELOW, _UNUSUAL_ABOVE = 1e-6, 1e9  # Without a range; suspicious where another order gives what is usual.
_USUAL = 1e-2, 1e5
_WORD = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedTag:
    """What came of one tag.

    Attributes:
        verdict: ok: GOOD each time, and plausible; look: a person should look at it; bad: it has no value.
        values: those that were read, in the unit, oldest first.
        quality: the worst, with its status code.
        took_ns: how long the slowest reading took that the tag was a part of.
        behaviour: whether the value changed between the readings; unknown: there were not two.
        remarks: what is wrong or looks wrong, as sentences.
    """

    tag: str
    address: str
    type: str
    unit: str
    range: tuple[float, float] | None
    verdict: Literal["ok", "look", "bad"]
    values: tuple[bool | int | float | str | None, ...]
    quality: QualityName
    status: int
    took_ns: int
    behaviour: Literal["constant", "moving", "unknown"]
    remarks: tuple[str, ...]


def judge(tag: TagSettings, read: Sequence[tuple[ReadValue, int]]) -> TriedTag:
    """What the readings of one tag, each with how long it took, say about it."""
    known, values = catalogue_tag(tag), [value for value, _ in read]
    worst = max(values, key=lambda value: value.status >> 30)
    held = [value.value for value in values if value.value is not None]
    remarks = [name_of(worst.status)] if worst.status else []
    if remarks and tag.range is not None and any(map(_is_number, held)):
        remarks = [f"{remarks[0]}; its range is {tag.range[0]:g} to {tag.range[1]:g}"]
    if held and (implausible := _implausible(tag, held[-1])):
        remarks.append(implausible)
    if remarks or (any(map(_is_unusual, held)) and tag.range is None):
        remarks += filter(None, [_other_order(tag, values[-1])])
    else:
        remarks += filter(None, [_lower_with_other_order(tag, values[-1])])
    return TriedTag(
        tag=tag.name, address=known.address, type=known.data_type.label, unit=known.unit, range=tag.range,
        verdict="bad" if worst.quality == "BAD" else "look" if remarks else "ok",
        values=tuple(value.value for value in values), quality=worst.quality, status=worst.status,
        took_ns=max(took_ns for _, took_ns in read),
        behaviour="unknown" if len(held) < 2 else "constant" if all(one == held[0] for one in held) else "moving",
        remarks=tuple(remarks),
    )  # fmt: skip


def shown(value: bool | int | float | str | None) -> str:
    """A value for people: a number with at most seven digits."""
    return f"{value:.7g}" if isinstance(value, float) else format_value(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_unusual(value: object) -> bool:
    return isinstance(value, float) and value != 0 and not _UNUSUAL_BELOW <= abs(value) <= _UNUSUAL_ABOVE


def _implausible(tag: TagSettings, value: object) -> str:
    """Why a value cannot be right, whatever the device means; empty where it can."""
    if isinstance(value, float) and tag.data_type in (DataType.FLOAT32, DataType.FLOAT64):
        size = abs(value)
        if not math.isfinite(value):
            return f"it is {value}, which is no number"
        if size > _HUGE or 0 < size < _TINY:
            return f"{value:.3g} is hardly what a device measures"
    if isinstance(value, str) and tag.data_type is DataType.TEXT and not value.isprintable():
        return "its text has characters that cannot be printed"
    return ""


def _other_order(tag: TagSettings, value: ReadValue) -> str:
    """The reading of the same type in another order of bytes that is plausible, as a sentence; empty if none is."""
    for how, text, _ in _same_type(tag, value):
        with suppress(ValueError):
            number = float(text) * tag.factor + tag.offset
            low, high = tag.range or _USUAL
            size = number if tag.range else abs(number)
            if low <= size <= high:
                return _order_sentence(how, number, value)
    return ""


def _lower_with_other_order(tag: TagSettings, value: ReadValue) -> str:
    """A whole number whose low word is 0 is often a smaller one whose words are in the other order."""
    for how, text, configured in _same_type(tag, value):
        if not (configured.isdecimal() and text.isdecimal()):
            continue
        if not int(configured) % _WORD and 0 < int(text) < _WORD <= int(configured):
            return _order_sentence(how, int(text) * tag.factor + tag.offset, value)
    return ""


def _order_sentence(how: str, number: float, value: ReadValue) -> str:
    configured = f"{value.value:.6g}" if isinstance(value.value, float) else format_value(value.value)
    return f"{how} {number:.6g}, as configured {configured}: are its bytes in another order?"


def _same_type(tag: TagSettings, value: ReadValue) -> list[tuple[str, str, str]]:
    """The other orders of the tag's type: in words, as text, and the text in the order that is configured."""
    ways = [each for each in value.readings if each.how.split(" ")[0] == tag.data_type.label]
    mine = [each for each in ways if each.how.endswith(_AS_CONFIGURED)]
    if not mine:
        return []
    said = mine[0].how.removesuffix(_AS_CONFIGURED).split(", ")
    return [(_words(each.how, said), each.value, mine[0].value) for each in ways if each is not mine[0]]


def _words(how: str, configured: Sequence[str]) -> str:
    parts = how.split(", ")
    return f"as {parts[0].split(' ')[0]} with " + " and ".join(part for part in parts[1:] if part not in configured)
