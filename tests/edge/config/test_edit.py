"""A file is changed in its text: what it holds becomes what is wanted, and every other byte stays."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config.edit import edited
from edge.config.export import yaml
from edge.config.yaml_tree import parse
from edge.errors import ConfigError

FILE = """\
# head
devices:   # the machines
  # by the vendor
  - name: one  # in cabinet 3
    host: "192.0.2.1"
    limits:
      gap: 2 ms   # gentle
      # of limits

    tags: [a, b]  # two
    # of one

  - {name: two, port: 502, limits: {gap: 1 ms}}  # flow

  - port: 503
    name: three
    note: |
      # this is text
# the end
"""


def plain(text: str) -> Any:
    root, problems = parse(text.encode(), "")
    assert root is not None
    assert not problems
    return root.plain()


def change(text: str, wanted: Any) -> str:
    return edited(text.encode(), "site.yaml", plain(text), wanted).decode()


def of(text: str = FILE) -> tuple[Any, list[Any]]:
    wanted = plain(text)
    return wanted, wanted["devices"]


def test_what_is_as_wanted_stays() -> None:
    assert change(FILE, plain(FILE)) == FILE


@pytest.mark.parametrize(
    ("device", "keys", "old", "new"),
    [
        (0, {"host": "h x: y"}, '"192.0.2.1"', '"h x: y"'),
        (0, {"tags": ["c", "1"]}, "[a, b]", '[c, "1"]'),
        (0, {"limits": {"gap": "3 ms"}}, "2 ms ", "3 ms "),
        (0, {"limits": {"gap": "2 ms", "retries": 0}}, "# gentle\n", "# gentle\n      retries: 0\n"),
        (0, {"limits": None}, "    limits:\n      gap: 2 ms   # gentle\n", ""),
        (0, {"port": 1}, "# two\n", "# two\n    port: 1\n"),
        (1, {"port": None}, "two, port: 502,", "two,"),
        (1, {"limits": None, "port": None}, "two, port: 502, limits: {gap: 1 ms}}", "two}"),
        (1, {"unit": 2}, "1 ms}}", "1 ms}, unit: 2}"),
        (1, {"limits": {"timeout": "1 s"}}, "{gap: 1 ms}", "{timeout: 1 s}"),
        (2, {"port": None}, "- port: 503\n    name", "- name"),
        (2, {"port": True}, "port: 503", "port: true"),
    ],
)
def test_only_that_place_changes(device: int, keys: dict[str, Any], old: str, new: str) -> None:
    wanted, devices = of()
    for key, value in keys.items():
        devices[device][key] = value
        if value is None:
            del devices[device][key]

    assert FILE.count(old) == 1
    for text in (FILE, FILE.replace("\n", "\r\n"), "\ufeff" + FILE):
        end = "\r\n" if "\r" in text else "\n"
        assert change(text, wanted) == text.replace(old.replace("\n", end), new.replace("\n", end))


def test_an_item_goes_with_its_lines_and_comments_inside() -> None:
    wanted, devices = of()
    del devices[0]

    begin, _, rest = FILE.partition("  - name: one")
    assert change(FILE, wanted) == begin + rest.partition("    # of one\n")[2]


def test_of_two_blank_lines_one_stays() -> None:
    wanted, devices = of()
    del devices[1]

    assert change(FILE, wanted) == FILE.replace("  - {name: two, port: 502, limits: {gap: 1 ms}}  # flow\n\n", "")


def test_items_are_added_behind_the_last() -> None:
    text = "a:\n- name: x\n  # of x\nb: [{name: y}]  # end\nc: []"
    wanted = {"a": [{"name": "x"}, {"name": "z", "k": [1]}], "b": [{"name": "y"}, {"name": "w"}], "c": ["v"]}

    assert change(text, wanted) == (
        "a:\n- name: x\n  # of x\n- {name: z, k: [1]}\nb: [{name: y}, {name: w}]  # end\nc: [v]"
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a: &same {k: 1}\nb: *same\n", {"a": {"k": 2}, "b": {"k": 1}}),
        ("a: &v 1\nb: *v\n", {"a": 2, "b": 1}),
        ("a: &v 1\nb: *v\n", {"b": 1}),
    ],
)
def test_what_cannot_be_changed_in_the_text_is_said(text: str, wanted: Any) -> None:
    with pytest.raises(ConfigError, match=r"site.yaml: .* cannot be changed in its text"):
        change(text, wanted)


scalars = st.one_of(
    st.integers(-9, 99), st.booleans(), st.sampled_from(["x", "2 ms", "a: b", "", "#", "007", '"', "é, [1]"])
)
keys = st.sampled_from(["host", "port", "unit", "word order", "x-y"])
sections = st.dictionaries(keys, scalars, min_size=1, max_size=4)


@st.composite
def layouts(draw: st.DrawFn, section: dict[str, Any]) -> str:
    """A device in a file, in one of the ways to write it."""
    indent = draw(st.sampled_from(["", "  ", "    "]))
    if draw(st.booleans()):
        return f"{indent}- {yaml(section)}{draw(st.sampled_from(['', '  # c']))}\n"
    pad, lines = indent + "  ", []
    for key, value in section.items():
        comment = draw(st.sampled_from(["", "  # c", "   #: d"]))
        if isinstance(value, dict) and draw(st.booleans()):
            lines.append(f"{key}:{comment}")
            lines += [f"  {name}: {yaml(each)}{comment}" for name, each in value.items()]
        else:
            lines.append(f"{key}: {yaml(value)}{comment}")
        lines += draw(st.sampled_from([[], [], ["# alone"], [""]]))
    return f"{indent}- " + "\n".join(f"{pad}{line}" if line else "" for line in lines).lstrip(" ") + "\n"


@given(data=st.data())
def test_what_is_wanted_is_what_it_holds(data: st.DataObject) -> None:
    names = [f"d{number}" for number in range(data.draw(st.integers(1, 3)))]
    old = [{"name": name, **data.draw(sections), "limits": data.draw(sections)} for name in names]
    indented = data.draw(layouts(old[0]))
    indent = len(indented) - len(indented.lstrip(" "))
    others = [data.draw(layouts(each)) for each in old[1:]]
    assumed = [text for text in others if len(text) - len(text.lstrip(" ")) == indent]
    text = "# head\ndevices:\n" + "".join([indented, *assumed]) + "# end\n"
    wanted = plain(text)
    before = deepcopy(wanted)
    for device in wanted["devices"]:
        for section in (device, device["limits"]):
            for key in data.draw(st.lists(keys, max_size=2)):
                if key in section and data.draw(st.booleans()) and len(section) > 1:
                    del section[key]
                else:
                    section[key] = data.draw(scalars)

    after = edited(text.encode(), "site.yaml", before, wanted).decode()

    assert plain(after) == wanted
    assert after.startswith("# head\ndevices:\n")
    assert after.endswith("# end\n")
