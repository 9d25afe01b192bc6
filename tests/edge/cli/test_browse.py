"""What a device has, and tags made of it that `tidegate check` takes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from edge.config.check import check
from edge.config.export import Names, yaml
from edge.config.fields import fields_of
from edge.config.yaml_tree import parse
from edge.driver import BrowseEntry, TagSettings
from edge.model import Identity
from edge.settings import Pattern

Tidegate = Callable[..., Result]

DEVICE = "devices:\n  - name: plc\n    driver: toy\n    host: h\n"


def tag(name: str, address: str = "", **more: Any) -> BrowseEntry:
    return BrowseEntry(name=name, type="REAL", value="21.5", tag={"address": address or name, **more})


@pytest.fixture
def plc(toy: Any) -> Any:
    toy.identities["h"] = Identity()
    toy.tree = {
        "": [BrowseEntry(name="Line", path="n=1", type="folder"), tag("Speed", unit="/min", type="uint16")],
        "n=1": [tag("Temp", unit="Cel", range=[0, 120.5]), BrowseEntry(name="More", path="n=2"), tag("Temp", "b")],
        "n=2": [tag("a/b #1", description='says "no", or:\nyes'), BrowseEntry(name="loop", path="n=1")],
    }
    return toy


@pytest.fixture
def config(site: Callable[..., Path]) -> Path:
    """A file that knows how the device is reached, and reads nothing yet."""
    return site(DEVICE)


def test_one_level_is_shown_unless_more_is_asked_for(plc: Any, tidegate: Tidegate, config: Path) -> None:
    one, deep = tidegate("browse", config, "plc"), tidegate("browse", config, "plc", "--depth", 0)

    assert one.stdout.splitlines() == [
        "Line   folder             n=1",
        "Speed  REAL    21.5 /min  Speed",
    ]
    assert [line.split("  ")[0] or line.split()[0] for line in deep.stdout.splitlines()] == [
        "Line", "Temp", "More", "a/b", "loop", "Temp", "Speed"
    ]  # fmt: skip
    assert (one.exit_code, deep.exit_code) == (0, 0)


def test_a_path_begins_further_down(plc: Any, tidegate: Tidegate, config: Path) -> None:
    inside, nowhere = tidegate("browse", config, "plc", "n=2", "--json"), tidegate("browse", config, "plc", "n=9")

    assert [each["levels"] for each in json.loads(inside.stdout)["entries"]] == [["a/b #1"], ["loop"]]
    assert (nowhere.exit_code, "there is no 'n=9' in it" in nowhere.stderr) == (1, True)


def test_a_branch_that_cannot_be_listed_does_not_hide_the_others(plc: Any, tidegate: Tidegate, config: Path) -> None:
    plc.tree["n=1"].insert(0, BrowseEntry(name="Sealed", path="n=7"))

    found = tidegate("browse", config, "plc", "--depth", 0)

    assert [line.split()[0] for line in found.stdout.splitlines()][-2:] == ["Temp", "Speed"]
    assert "(n=7)" in found.stdout.splitlines()[1]
    assert found.exit_code == 0


def test_only_what_is_called_so_is_shown_with_what_is_above_it(plc: Any, tidegate: Tidegate, config: Path) -> None:
    found = tidegate("browse", config, "plc", "--depth", 0, "--filter", "*TEMP")

    assert [line.split()[0] for line in found.stdout.splitlines()] == ["Line", "Temp", "Temp"]


def test_a_long_list_stops_and_says_so(plc: Any, tidegate: Tidegate, config: Path) -> None:
    result = tidegate("browse", config, "plc", "--depth", 0, "--limit", 3, "--json")

    answer = json.loads(result.stdout)
    assert (len(answer["entries"]), answer["is_complete"], result.exit_code) == (3, False, 1)
    assert "raise --limit" in result.stderr


@pytest.mark.parametrize("form", ["--yaml", "--csv"])
def test_tags_that_are_printed_pass_the_check(
    plc: Any, tidegate: Tidegate, config: Path, site: Callable[..., Path], form: str
) -> None:
    """Whatever names a device has, and whatever ranges: what is printed can be used as it is."""
    plc.tree["n=2"] += [tag("flat", range=[5, 5]), tag("gone", "nowhere"), tag("odd", colour="red", unit="x" * 101)]
    printed = tidegate("browse", config, "plc", "--depth", 0, form)

    if form == "--yaml":
        path = site(DEVICE + printed.stdout)
    else:
        path = site(DEVICE + "    scan_groups: [{every: 1 s, tags_from: tags.csv}]\n", tags_csv=printed.stdout)
    checked = check(path, lambda name: plc)

    assert checked.errors == ()
    [group] = checked.gateway().devices[0].scan_groups
    assert [(tag.name, tag.address, tag.type, tag.unit, tag.range) for tag in group.tags] == [
        ("Line/Temp", "Temp", "float32", "Cel", (0, 120.5)),
        ("Line/More/a-b -1", "a/b #1", "float32", "", None),
        ("Line/More/flat", "flat", "float32", "", None),
        ("Line/More/odd", "odd", "float32", "", None),
        ("Line/Temp-2", "b", "float32", "", None),
        ("Speed", "Speed", "uint16", "/min", None),
    ]
    assert group.tags[1].description == 'says "no", or:\nyes'
    assert printed.stderr == "left out Line/More/gone: is nowhere\n"


def test_more_tags_than_a_record_holds_become_several_scan_groups(
    plc: Any, tidegate: Tidegate, config: Path, site: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.cli.browse.SCAN_BYTES", 8)
    plc.tree = {"": [tag(f"t{n}") for n in range(5)]}

    text, table = (tidegate("browse", config, "plc", form) for form in ("--yaml", "--csv"))

    groups = check(site(DEVICE + text.stdout), lambda name: plc).gateway().devices[0].scan_groups
    assert [(group.name, len(group.tags)) for group in groups] == [("part-1", 2), ("part-2", 2), ("part-3", 1)]
    assert "make 3 tables of it" in table.stderr


def test_a_tag_that_a_table_would_change_is_left_out_of_it(plc: Any, tidegate: Tidegate, config: Path) -> None:
    """Cells lose the spaces around them, and an address may have some."""
    plc.tree = {"": [tag("Odd", " with spaces "), tag("Speed")]}

    table, text = (tidegate("browse", config, "plc", form) for form in ("--csv", "--yaml"))

    assert table.stdout == "name,address\nSpeed,Speed\n"
    assert table.stderr == "left out Odd: it cannot be written in a table; take it from --yaml\n"
    assert '{name: Odd, address: " with spaces "}' in text.stdout


def test_a_device_without_a_list_is_told_what_helps(toy: Any, tidegate: Tidegate, config: Path) -> None:
    toy.identities["h"] = Identity()

    result = tidegate("browse", config, "plc")

    assert result.exit_code == 1
    assert "tidegate read CONFIG plc --address ADDRESS" in result.stderr


def test_a_device_that_does_not_answer_is_an_answer(toy: Any, tidegate: Tidegate, config: Path) -> None:
    result = tidegate("browse", config, "plc")

    assert (result.exit_code, result.stderr) == (1, "plc: h: nobody answers\nmore: tidegate explain TG-D03\n")
    assert tidegate("browse", config, "other").exit_code == 2


@given(value=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
))  # fmt: skip
def test_what_is_written_is_what_is_read(value: Any) -> None:
    node, problems = parse(f"x: {yaml(value)}\n".encode("utf-8", "surrogatepass"), "file.yaml")

    assert problems == []
    assert node is not None
    assert node.plain() == {"x": value}


@given(names=st.lists(st.lists(st.text(max_size=250), max_size=3), max_size=6))
def test_names_are_valid_and_given_once(names: list[list[str]]) -> None:
    given_names = Names()
    made = [given_names.of(levels) for levels in names]
    pattern = next(each.regex for each in fields_of(TagSettings)["name"].constraints if isinstance(each, Pattern))

    assert len(set(made)) == len(made)
    assert all(re.fullmatch(pattern, name) and len(name) <= 200 for name in made)
