"""What can be said of a device is checked before anything moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from drivers.ethernetip.settings import EtherNetIpDevice
from edge.model import DataType

MakeDevice = Callable[..., EtherNetIpDevice]


@pytest.mark.parametrize(
    ("tag", "settings", "words"),
    [
        (("Word.3", "DINT"), {}, "its type is BOOL"),
        (("A/B", "DINT"), {}, "is not the name of a tag"),
        ({"address": "Text", "type": "DINT", "length": 5}, {}, "only a text has a length"),
        (("cip 4/100/3 +8.5", "UINT"), {}, "its type is BOOL"),
        (("cip 4/100/3[2]", "BOOL"), {}, r"BOOLs are bits: write which, as in \"cip 4/100/3.0..7\""),
        (("cip 4/100/3[0..3]", "STRING"), {}, "STRINGs vary in size"),
        (("Lot", "SHORT_STRING"), {}, "that of a tag is STRING"),
        (("cip 4/100/3 +8", "CHARS"), {}, "needs a length"),
        (("Word.60..70", "BOOL"), {}, "bits 0 .* to 63"),
        (("Level[2147483640..2147483650]", "REAL"), {}, "too large"),
        (("Speed", "REAL"), {"slot": 1, "route": "1,1"}, "exclude each other"),
        (("Speed", "REAL"), {"family": "micro800", "slot": 0}, "has no chassis"),
        (("Speed", "REAL"), {"route": "1"}, "is not a route"),
        (("Level[3..1]", "REAL"), {}, "ends before it begins"),
        (("Speed", "REAL"), {"host": "plc..example"}, "is not the name or address of a host"),
        (("Speed", "REAL"), {"host": "192.0.2.20:44818"}, "write it alone: no port"),
    ],
)
def test_a_mistake_is_explained(make_device: MakeDevice, tag: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        make_device([tag], **settings)


def test_a_slice_makes_a_tag_of_each_element(make_device: MakeDevice) -> None:
    device = make_device([{"name": "level", "address": "Level[3..5]", "type": "REAL", "unit": "m", "deadband": 0.5}])

    tags = device.scan_groups[0].tags

    assert [(tag.name, tag.address, tag.unit, tag.deadband) for tag in tags] == [
        (f"level[{index}]", f"Level[{index}]", "m", 0.5) for index in (3, 4, 5)
    ]


@pytest.mark.parametrize(
    ("settings", "way", "is_connected"),
    [
        ({}, ((1, 0),), True),
        ({"slot": 4}, ((1, 4),), True),
        ({"route": "1,2,2,10.0.0.9"}, ((1, 2), (2, "10.0.0.9")), True),
        ({"family": "micro800"}, (), True),
        ({"family": "generic"}, (), False),
        ({"family": "generic", "messaging": "connected"}, (), True),
    ],
)
def test_a_family_knows_its_way(
    make_device: MakeDevice, settings: dict[str, Any], way: object, is_connected: bool
) -> None:
    device = make_device([("cip 1/1/6", "UDINT")], **settings)

    assert (device.parsed_route, device.is_connected) == (way, is_connected)


def test_a_tag_says_what_it_takes(make_device: MakeDevice) -> None:
    device = make_device([("A", "LINT"), ("B", "STRING"), {"address": "C", "type": "STRING", "length": 20}])

    assert [tag.value_bytes for tag in device.scan_groups[0].tags] == [8, 167, 43]
    assert [tag.data_type for tag in device.scan_groups[0].tags] == [DataType.INT64, DataType.TEXT, DataType.TEXT]
