"""The catalogue of a configuration: the groups and tags that records refer to."""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING

from edge.driver import DeviceSettings, ScanGroupSettings, TagSettings
from edge.model import Catalogue, CatalogueGroup, CatalogueTag, TimeKind
from edge.units import format_duration

if TYPE_CHECKING:
    from edge.config.settings import GatewaySettings


def catalogue(settings: GatewaySettings) -> Catalogue:
    """All scan groups in the order of the file; a group's index is its number in records."""
    groups = tuple(group for device in settings.devices for group in catalogue_groups(device))
    return Catalogue(path=settings.gateway.path, groups=groups)


def catalogue_groups(
    device: DeviceSettings, known: dict[CatalogueTag, CatalogueTag] | None = None
) -> tuple[CatalogueGroup, ...]:
    """The scan groups of one device; equal tags of several devices are shared through `known`, to save memory."""
    shared = ({} if known is None else known).setdefault
    return tuple(
        CatalogueGroup(
            device=device.name,
            name=group_name(group),
            interval_ns=group.every,
            tags=tuple(shared(tag, tag) for tag in map(catalogue_tag, group.tags)),
            sign_of_life_ns=group.sign_of_life,
        )
        for group in device.scan_groups
    )


def group_name(group: ScanGroupSettings) -> str:
    """The name of a scan group; by default its interval."""
    return group.name or format_duration(group.every)


def catalogue_tag(tag: TagSettings) -> CatalogueTag:
    """A tag as the catalogue has it. A moment with a unit, scale, offset or range is a number."""
    kind = tag.time_kind
    is_duration = kind is TimeKind.DURATION
    is_number = not is_duration and bool(tag.unit or tag.range or (tag.factor, tag.offset) != (1, 0))
    return CatalogueTag(
        name=intern(tag.name),  # Devices of one type have the same tags.
        data_type=tag.data_type,
        address=intern(tag.address_text),
        unit=intern(tag.unit or ("s" if is_duration else "")),
        scale=tag.factor,
        offset=tag.offset,
        range=tag.range,
        deadband=tag.deadband_in_unit,
        at_most_every_ns=tag.at_most_every,
        at_least_every_ns=tag.at_least_every,
        description=tag.description,
        time_kind=None if is_number else kind,
        scale_tag=intern(tag.scale_tag),
    )
