"""Tags of one device, read once for a person: in a session of a command, or in that of the running gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from edge.config.catalogue import catalogue_tag
from edge.driver import DeviceSettings, Explains, Inspectable, Session, TagSettings
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation
from edge.model import (
    Quality,
    Reading,
    StatusCode,
    in_unit,
    json_value,
    power_of_ten,
    quality_of,
    shown_status,
    status_codes,
)

QualityName = Literal["GOOD", "UNCERTAIN", "BAD"]

QUALITIES: Mapping[Quality, QualityName] = {
    Quality.GOOD: "GOOD", Quality.UNCERTAIN: "UNCERTAIN", Quality.BAD: "BAD"
}  # fmt: skip
_SCANS_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueAs:
    """What the registers of a value are, taken in another way."""

    how: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadValue:
    """The value of one tag, in its unit."""

    tag: str
    value: bool | int | float | str | None
    """A text for dates, and for integers of 64 bits."""
    unit: str
    quality: QualityName
    status: int
    """The OPC UA status code with the reason."""
    readings: tuple[ValueAs, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TagsRead:
    """What a device answered; `took_ns` is how long it took."""

    took_ns: int
    values: tuple[ReadValue, ...]
    violations: tuple[str, ...] = ()
    explanations: tuple[str, ...] = ()


def with_scales(device: DeviceSettings, chosen: Sequence[TagSettings]) -> list[TagSettings]:
    """The tags, and the scale tags that are read with them."""
    named = {tag.name for tag in chosen}
    wanted = dict.fromkeys(tag.scale_tag for tag in chosen if tag.scale_tag and tag.scale_tag not in named)
    known = {tag.name: tag for group in device.scan_groups for tag in group.tags}
    return [*chosen, *(known[name] for name in wanted)]


async def read_tags(
    session: Session[Any], plan: Any, tags: Sequence[TagSettings], *, wants_inspection: bool
) -> TagsRead:
    """Read a plan as the gateway would, and say what is wrong with what is BAD. Raises as `Session.read`."""
    reading = await session.read(plan)
    violations = dict.fromkeys(reading.violations)
    for _ in range(_SCANS_MAX):  # A search for what the device answers can take several.
        if all(code != StatusCode.BAD_WAITING_FOR_INITIAL_DATA for _, _, code in reading.status):
            break
        reading = await session.read(plan)
        violations |= dict.fromkeys(reading.violations)
    readings: Sequence[Sequence[tuple[str, str]]] = [()] * len(tags)
    if wants_inspection and isinstance(session, Inspectable):
        readings = session.inspect(plan, tags)
    values = _values(tags, plan.layout.slots, reading, readings)
    bad = [tag for tag, value in zip(tags, values, strict=True) if value.quality == "BAD"]
    explanations: Sequence[str] = ()
    if bad and isinstance(session, Explains):
        with suppress(DeviceUnreachable, DeviceRefused, ProtocolViolation):  # The values are more than this.
            explanations = await session.explain(bad)
    return TagsRead(
        took_ns=reading.answered_at_ns - reading.asked_at_ns, values=tuple(values), violations=tuple(violations),
        explanations=tuple(explanations),
    )  # fmt: skip


def _values(
    tags: Sequence[TagSettings],
    slots: Sequence[tuple[int, int]],
    reading: Reading,
    readings: Sequence[Sequence[tuple[str, str]]],
) -> list[ReadValue]:
    codes = status_codes(reading.status, len(tags)).tolist()
    raw_of = {tag.name: reading.vectors[vector][position] for tag, (vector, position) in zip(tags, slots, strict=True)}
    values = []
    for tag, (vector, position), code, ways in zip(tags, slots, codes, readings, strict=True):
        raw, known = reading.vectors[vector][position], catalogue_tag(tag)
        scale = power_of_ten(raw_of[tag.scale_tag]) if tag.scale_tag else known.scale
        value = in_unit(raw, scale, known.offset, known.time_kind) if code >> 30 < 2 else None
        if not code and _is_outside(tag, value):
            code = int(StatusCode.UNCERTAIN_OUT_OF_RANGE)
        code = shown_status(code, value)
        values.append(
            ReadValue(
                tag=tag.name, value=json_value(value, tag.data_type), unit=known.unit,
                quality=QUALITIES[quality_of(code)], status=code,
                readings=tuple(ValueAs(how=how, value=text) for how, text in ways),
            )
        )  # fmt: skip
    return values


def _is_outside(tag: TagSettings, value: Any) -> bool:
    return tag.range is not None and tag.data_type.is_number and not tag.range[0] <= value <= tag.range[1]
