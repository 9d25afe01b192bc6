"""What a gateway reads, as the archive will know it."""

from __future__ import annotations

from edge.config.settings import GatewaySettings
from edge.driver import ScanGroupSettings, TagSettings
from edge.model import Catalogue, CatalogueGroup, CatalogueTag
from edge.quantities import format_duration


def catalogue(settings: GatewaySettings) -> Catalogue:
    """Every scan group in the order of the file; its place is its number."""
    groups = tuple(
        CatalogueGroup(
            device=device.name,
            name=group_name(group),
            interval_ns=group.every,
            tags=tuple(map(_tag, group.tags)),
        )
        for device in settings.devices
        for group in device.scan_groups
    )
    return Catalogue(path=settings.gateway.path, groups=groups)


def group_name(group: ScanGroupSettings) -> str:
    """The name of a scan group; by default its interval."""
    return group.name or format_duration(group.every)


def _tag(tag: TagSettings) -> CatalogueTag:
    return CatalogueTag(
        name=tag.name,
        data_type=tag.data_type,
        address=tag.address_text,
        unit=tag.unit,
        scale=tag.scale,
        offset=tag.offset,
        range=tag.range,
        deadband=tag.deadband_in_unit,
        at_most_every_ns=tag.at_most_every,
        at_least_every_ns=tag.at_least_every,
        description=tag.description,
    )
