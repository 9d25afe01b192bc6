"""What can be said of a device is checked before anything moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from pydantic import ValidationError

from drivers.ethernetip.settings import EtherNetIpDevice
from edge.config.check import check
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
        (("Level[0..3].Bit.0..7", "BOOL"), {}, "a slice is one range of indices or bits"),
        (("Speed", "REAL"), {"host": "plc..example"}, "is not the name or address of a host"),
        (("Speed", "REAL"), {"host": "192.0.2.20:44818"}, "write it alone: no port"),
    ],
)
def test_a_mistake_is_explained(make_device: MakeDevice, tag: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        make_device([tag], **settings)


def test_a_problem_of_a_slice_is_one_problem_at_its_line(tmp_path: Path) -> None:
    """The elements of a slice have names that are not in the file, and there may be thousands of them."""
    (tmp_path / "site.yaml").write_text(
        dedent("""\
        gateway: {name: filling, path: acme/basel, state: ./state}
        devices:
          - name: drive
            driver: ethernetip
            host: 127.0.0.1
            family: generic
            scan_groups:
              - every: 1 s
                tags:
                  - {name: fine, address: "cip 4/100/3[0..9]", type: INT}
                  - {name: level, address: "Level[0..9]", type: REAL}
                  - {name: "odd[1]", address: Speed, type: REAL}
                  - {name: door, address: "Doors[0,0..40]", type: BOOL}
        """)
    )

    found = check(tmp_path / "site.yaml").errors

    assert [(problem.line, problem.path) for problem in found] == [
        (line, f"devices[0].scan_groups[0].tags[{line - 10}].address") for line in (11, 12, 13)
    ]
    assert {problem.message.partition(";")[0] for problem in found} == {"is a tag of a controller"}


def test_an_element_with_the_name_of_another_tag_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(
        "gateway: {name: line-4, path: acme/basel}\nclock: {require: any}\ndevices:\n"
        "  - {name: plc, driver: ethernetip, host: 127.0.0.1, scan_groups: [{every: 1 s, tags: [\n"
        "      {name: Level, address: 'Level[0..3]', type: REAL},\n"
        "      {name: 'Level[2]', address: Spare, type: REAL}]}]}\n"
    )

    [problem] = check(path).errors

    assert (problem.line, "'Level[2]' is the name of two tags" in problem.message) == (6, True)


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
