from __future__ import annotations

from collections.abc import Callable

from edge.config.catalogue import catalogue, catalogue_groups
from edge.config.check import Checked
from edge.model import CatalogueTag, DataType


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
