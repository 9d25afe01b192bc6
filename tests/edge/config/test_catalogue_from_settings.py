from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from edge.config.catalogue import catalogue, catalogue_groups, catalogue_tag
from edge.config.check import Checked
from edge.driver import TagSettings
from edge.model import CatalogueTag, DataType, TimeKind


def test_the_catalogue_says_what_a_reader_of_the_archive_must_know(checked: Callable[..., Checked]) -> None:
    settings = checked("""\
gateway: {name: g, path: acme/basel}
devices:
  - name: one
    driver: toy
    host: h
    scan_groups:
      - {name: fast, every: 100 ms, tags: [{name: a, address: 1, unit: bar, scale: 2, offset: 1, range: [0, 50],
         deadband: 2 %, at_most_every: 1 s, at_least_every: 1 min, description: d}]}
      - {every: 90 s, tags: [{name: b, address: 2, type: uint16}]}
""").gateway()

    made = catalogue(settings)

    assert made.path == "acme/basel"
    assert [(group.device, group.name, group.interval_ns) for group in made.groups] == [
        ("one", "fast", 10**8),
        ("one", "1.5 min", 90 * 10**9),
    ]
    tag = made.groups[0].tags[0]
    assert (tag.name, tag.data_type, tag.address, tag.unit, tag.scale) == ("a", DataType.FLOAT32, "1", "bar", 2)
    assert (tag.offset, tag.range, tag.deadband, tag.description) == (1, (0, 50), 1.0, "d")
    assert (tag.at_most_every_ns, tag.at_least_every_ns) == (10**9, 60 * 10**9)


def test_devices_of_a_kind_share_their_tags(checked: Callable[..., Checked]) -> None:
    """Of a hundred devices with the same five hundred tags, each tag takes memory once."""
    settings = checked("""\
gateway: {name: g, path: acme/basel}
devices:
  - {name: one, driver: toy, host: h, scan_groups: [{every: 1 s, tags: [{name: a, address: 1}, {name: b, address: 2}]}]}
  - {name: two, driver: toy, host: h, scan_groups: [{every: 1 s, tags: [{name: a, address: 1}, {name: b, address: 3}]}]}
""").gateway()
    known: dict[CatalogueTag, CatalogueTag] = {}

    one, two = (catalogue_groups(device, known)[0] for device in settings.devices)

    assert (one.device, two.device) == ("one", "two")
    assert one.tags[0] is two.tags[0]
    assert (one.tags[1].address, two.tags[1].address) == ("2", "3")


@dataclass(frozen=True, kw_only=True)
class Moment(TagSettings):
    """A tag whose type is a date, a time or a duration."""

    kind: TimeKind
    address_text = "1"
    data_type = DataType.INT64

    @property
    def time_kind(self) -> TimeKind:
        """The kind that the test gives."""
        return self.kind


@pytest.mark.parametrize("kind", [TimeKind.UTC, TimeKind.LOCAL, TimeKind.DATE, TimeKind.TIME_OF_DAY])
@pytest.mark.parametrize("keys", [{"unit": "s", "scale": 1e-9}, {"offset": 1.0}, {"range": (0.0, 1.0)}])
def test_a_moment_with_a_unit_is_a_number(kind: TimeKind, keys: dict[str, Any]) -> None:
    """Who wants to compute with it says so, and what was configured before there were kinds goes on as it was."""
    plain, number = catalogue_tag(Moment(name="t", kind=kind)), catalogue_tag(Moment(name="t", kind=kind, **keys))

    assert (plain.time_kind, plain.scale, plain.unit) == (kind, 1, "")
    assert number.time_kind is None
    assert number.scale == keys.get("scale", 1)


def test_a_duration_is_in_seconds_before_its_scale() -> None:
    plain = catalogue_tag(Moment(name="t", kind=TimeKind.DURATION, range=(0.0, 10.0)))
    in_ms = catalogue_tag(Moment(name="t", kind=TimeKind.DURATION, unit="ms", scale=1000))

    assert (plain.time_kind, plain.scale, plain.unit, plain.range) == (TimeKind.DURATION, 1e-9, "s", (0.0, 10.0))
    assert (in_ms.time_kind, in_ms.scale, in_ms.unit) == (TimeKind.DURATION, pytest.approx(1e-6), "ms")


@pytest.mark.parametrize(
    ("keys", "factor"), [({"divisor": 10}, 0.1), ({"divisor": 1000, "scale": 2}, 0.002), ({"scale": 0.1}, 0.1)]
)
def test_a_gain_of_a_manual_divides(keys: dict[str, Any], factor: float) -> None:
    assert catalogue_tag(Moment(name="t", kind=TimeKind.UTC, **keys)).scale == factor


@pytest.mark.parametrize("key", ["scale", "divisor"])
def test_no_value_is_lost_by_a_zero(key: str) -> None:
    with pytest.raises(ValueError, match=f"{key} must not be 0"):
        Moment(name="t", kind=TimeKind.UTC, **{key: 0.0})  # type: ignore[arg-type]
