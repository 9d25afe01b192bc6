from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from edge.config.check import Checked
from edge.config.devices import tag_model
from edge.config.fields import fields_of
from edge.config.tag_table import tags_of
from edge.driver import TagSettings, load
from edge.settings import Settings

Check = Callable[..., Checked]

SITE = """\
gateway: {name: line-4, path: acme/basel, state: state}
uplink: {mqtt: {host: 127.0.0.1, tls: off}}
devices:
  - {name: one, driver: toy, host: h, scan_groups: [{every: 1 h, tags_from: tags.csv}]}
"""

KEYS = (*fields_of(TagSettings), "address", "type", "every")
NAME = "Name of the tag, unique in its device; slashes make a hierarchy; without + or #"


def says(result: Checked) -> list[str]:
    return list(map(str, result.problems))


def test_each_cell_becomes_what_its_key_asks_for(checked: Check) -> None:
    table = (
        "name,address,type,range,deadband,scale,description,at_least_every\n"
        '101,5,,0..10,0.5,2,"a, b",5 min\n'
        "\n"
        "b,6,uint16,[-1; 1],2 %,0.1,true,\n"
    )
    result = checked(SITE, tags_csv=table)

    first, second = result.gateway().devices[0].scan_groups[0].tags
    assert (first.name, first.address, first.range, first.deadband, first.scale) == ("101", 5, (0, 10), 0.5, 2)
    assert (first.description, first.at_least_every) == ("a, b", 300 * 10**9)
    assert (second.type, second.range, second.deadband_in_unit, second.description) == ("uint16", (-1, 1), 0.04, "true")


def test_the_address_of_a_coil_is_no_number() -> None:
    rows, problems = tags_of(b"name,address\na,0x00017\nb,5\n", "tags.csv", tag_model(load("modbus").settings))

    assert ([row.plain()["address"] for row in rows], problems) == (["0x00017", 5], [])


def test_tags_of_a_table_follow_those_written_beside_it(checked: Check) -> None:
    text = SITE.replace("tags_from:", "tags: [{name: x, address: 0}], tags_from:")

    group = checked(text, tags_csv="name;address\na;1\n").gateway().devices[0].scan_groups[0]

    assert [tag.name for tag in group.tags] == ["x", "a"]


def test_problems_have_the_row_and_the_column_of_the_table(checked: Check) -> None:
    table = (
        "name,adress,address,nope,deadband\n"
        'a,,x,,"0,5"\n'
        '"b\nc",,1,,2 %\n'
        "d,,1,,,\n"
        "e,,1,,,,7\n"
        "a,,2,,\n"
        "f,,,,\n"
    )  # fmt: skip

    assert says(checked(SITE, tags_csv=table)) == [
        "tags.csv:1:2: adress: unknown key; did you mean address?",
        "tags.csv:1:4: nope: unknown key; known are " + ", ".join(KEYS),
        "tags.csv:2:3: address: must be a whole number, got 'x'",
        "tags.csv:2:5: deadband: is a number or a share of range such as \"2 %\", got '0,5'; write 0.5",
        r"tags.csv:3:1: name: 'b\nc' does not fit: " + NAME,
        "tags.csv:3:5: deadband: in percent needs a range",
        "tags.csv:6:6: 7 cells under 5 headings; quote cells that hold the separator",
        "tags.csv:7:1: name: 'a' is already used on line 2",
        "tags.csv:8:1: address: is missing: Number of the value, from 0 to 999",
    ]


def test_a_missing_column_is_one_problem_and_not_one_a_row(checked: Check) -> None:
    assert says(checked(SITE, tags_csv="name,unit\na,bar\nb,bar\n")) == [
        "tags.csv:1:1: the column address is missing: Number of the value, from 0 to 999"
    ]


def test_a_table_that_is_not_there_or_empty_is_said_where_it_is_named(checked: Check) -> None:
    assert says(checked(SITE)) == [
        "site.yaml:4:77: devices[0].scan_groups[0].tags_from: tags.csv cannot be read: No such file or directory"
    ]
    assert says(checked(SITE, tags_csv="name,address\n")) == [
        "site.yaml:4:77: devices[0].scan_groups[0].tags_from: tags.csv holds no tags"
    ]


def test_a_quote_that_never_ends_is_not_csv(checked: Check) -> None:
    assert says(checked(SITE, tags_csv='name,address\n"a,1\n')) == [
        "tags.csv:1:1: this is not CSV: unexpected end of data"
    ]


def test_five_thousand_rows_with_a_mistake_in_each_are_all_found(checked: Check) -> None:
    """An engineer mends a list in one go."""
    rows = "".join(f"tag-{n},{n % 900},flaot32,0..{n},1 %,bar\n" for n in range(5000))

    result = checked(SITE, tags_csv="name,address,type,range,deadband,unit\n" + rows)

    types = [problem for problem in result.problems if problem.path == "type"]
    assert [problem.line for problem in types] == list(range(2, 5002))
    assert len(result.problems) == 5001  # The first range goes from 0 to 0.


@dataclass(frozen=True, kw_only=True)
class Listed(Settings):
    one_or_more: int | Sequence[int] | None = None
    words: Sequence[str] = ()
    pair: tuple[float, float] | None = None
    word_or_number: str | float = ""


@pytest.mark.parametrize(
    ("key", "cell", "value"),
    [
        ("one_or_more", "3", 3),
        ("one_or_more", "3; 4", [3, 4]),
        ("words", "in run; off", ["in run", "off"]),
        ("words", "off", ["off"]),
        ("words", "1; 2", ["1", "2"]),
        ("pair", "0..1.5", [0, 1.5]),
        ("word_or_number", "2 %", "2 %"),
        ("word_or_number", "2", 2),
    ],
)
def test_a_cell_becomes_what_its_key_takes(key: str, cell: str, value: Any) -> None:
    [row], problems = tags_of(f"{key}|x\n{cell}|\n".replace("|", "\t").encode(), "t.csv", Listed)

    assert row.plain() == {key: value}
    assert [problem.path for problem in problems] == ["x"]


@pytest.mark.parametrize("name", ["", "name: plc, "])
def test_a_column_every_makes_a_scan_group_of_each_interval(checked: Check, name: str) -> None:
    """Lists of engineers have the interval beside the tag."""
    table = "name,address,every\na,1,\nb,2,10 s\nc,3,1 h\nd,4,10000 ms\ne,5,1 min\n"
    text = SITE.replace("{every: 1 h,", f"{{{name}every: 1 h, urgent: true,")

    groups = checked(text, tags_csv=table).gateway().devices[0].scan_groups

    assert [(group.every // 10**9, [tag.name for tag in group.tags]) for group in groups] == [
        (3600, ["a", "c"]), (10, ["b", "d"]), (60, ["e"])
    ]  # fmt: skip
    assert [group.name for group in groups] == (["plc", "plc 10 s", "plc 1 min"] if name else ["", "", ""])
    assert all(group.urgent for group in groups)


def test_a_group_needs_no_interval_where_each_row_has_one(checked: Check) -> None:
    text = SITE.replace("every: 1 h, ", "")

    result = checked(text, tags_csv="name,address,every\na,1,2 s\nb,2,1 s\n")
    missing = checked(text, tags_csv="name,address,every\na,1,2 s\nb,2,\n")

    assert [group.every for group in result.gateway().devices[0].scan_groups] == [2 * 10**9, 10**9]
    assert any("every: is missing: Scan interval" in problem for problem in says(missing))


def test_an_interval_that_is_none_is_told_at_its_cell(checked: Check) -> None:
    [problem] = says(checked(SITE, tags_csv="name,address,every\na,1,soon\nb,2,\n"))

    assert "tags.csv:2:3" in problem
    assert "needs a number with a unit" in problem


def test_an_interval_is_no_key_of_a_tag_in_the_file(checked: Check) -> None:
    text = SITE.replace("tags_from: tags.csv", "tags: [{name: a, address: 1, every: 1 s}]")

    [problem] = says(checked(text))

    assert "every: unknown key" in problem
