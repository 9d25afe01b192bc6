"""The scan groups of an export, and what their columns are called where each tag has one."""

from __future__ import annotations

from collections.abc import Iterable

from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType, TimeKind
from edge.relay.reading_columns import SourcedBlock
from edge.relay.shown_values import GroupValues, Wanted

WIDE = ("time", "corrected_time", "bound_ns", "corrected_bound_ns", "gateway", "device", "not_good", "unknown",
        "verdict", "epoch", "seq", "block", "row", "context", "context_before")  # fmt: skip
"""The columns of an export with a column for each tag, which stand between `device` and `not_good`."""


def column_name(group: GroupValues, tag: CatalogueTag) -> str:
    """The column of a tag where each has one: another unit is another column."""
    unit = group.unit(tag)
    return f"{group.group.device}/{tag.name}" + (f" ({unit})" if unit else "")


class Groups:
    """The scan groups that an export comes across, each under each of its catalogues."""

    def __init__(self, wanted: Wanted, *, is_raw: bool) -> None:
        self._wanted, self._is_raw = wanted, is_raw
        self._groups: dict[tuple[bytes, int], GroupValues] = {}

    def of(self, found: SourcedBlock) -> GroupValues:
        """The scan group of a block."""
        key = found.catalogue, found.readings.block.group
        values = self._groups.get(key)
        if values is None:
            values = self._groups[key] = self._new(found.readings.group)
        return values

    def columns(self, catalogues: Iterable[Catalogue]) -> dict[str, CatalogueTag]:
        """Where each tag has a column, the name of each, in the order of the catalogues, and a tag that it is of."""
        groups = (self._new(group) for each in catalogues for group in each.groups)
        return {column_name(group, tag): tag for group in groups for tag in group.wanted}

    def is_number(self, tag: CatalogueTag) -> bool:
        """Whether its values are shown as numbers."""
        is_time = tag.time_kind not in (None, TimeKind.DURATION) and not self._is_raw
        return tag.data_type is not DataType.TEXT and tag.data_type.is_known and not is_time

    def _new(self, group: CatalogueGroup) -> GroupValues:
        return GroupValues(group, self._wanted, is_raw=self._is_raw)
