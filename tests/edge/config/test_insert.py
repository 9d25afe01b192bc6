"""A device is put into a configuration as text: nothing else of it changes, whatever the file looks like."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config.insert import NewDevice, insert
from edge.config.yaml_tree import parse
from edge.errors import ConfigError

TAG = {"name": "t", "address": "holding 0", "type": "uint16"}
NEW = NewDevice(what="Acme P-1", keys={"name": "new", "driver": "modbus", "host": "192.0.2.9"}, every="1 s",
                table="new.csv")  # fmt: skip
FILE = """\
# head
gateway: {name: g, path: a/b}   # tail

devices:   # the machines
  - name: one
    driver: modbus
    note: |
      # this is text

    scan_groups: [{every: 1 s}]
    # of one
  # - name: commented-out

# of the uplink
uplink: {mqtt: {host: 127.0.0.1, tls: off}}
"""


def put_in(text: str, device: NewDevice = NEW) -> str:
    new = insert(text.encode(), "site.yaml", device)
    assert new is not None
    return new.decode()


def plain(text: str) -> Any:
    root, problems = parse(text.encode(), "")
    assert root is not None
    assert not problems
    return root.plain()


def test_it_stands_below_the_last_device_and_what_belongs_to_that() -> None:
    before, _, after = put_in(FILE).partition("  # Acme P-1\n")

    assert before.endswith("    # of one\n")
    assert after.startswith("""\
  - name: new
    driver: modbus
    host: 192.0.2.9
    scan_groups:
      - every: 1 s
        tags_from: new.csv
  # - name: commented-out
""")
    assert (before + after[after.index("  # - name") :]) == FILE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("devices:\n- name: a\n", "- name: new\n  driver: modbus\n"),
        ("devices:\n    -   name: a\n", "    - name: new\n      driver: modbus\n"),
        ("devices:\n  - name: a\n\n  - name: b", "b\n\n  # Acme P-1\n  - name: new\n"),
        ("devices:\r\n  - {name: a}\r\n", "\r\n  - name: new\r\n    driver: modbus\r\n"),
        ("\ufeffdevices:\n  - name: a\n", "  - name: new\n"),
        ("gateway: {name: g}", "g}\ndevices:\n  # Acme P-1\n  - name: new\n"),
    ],
)
def test_it_has_the_indentation_and_line_ends_of_the_file(text: str, expected: str) -> None:
    assert expected in put_in(text)


def test_tags_that_have_no_table_stand_in_it() -> None:
    new = NewDevice(what="", keys={"name": "new", "driver": "modbus"}, every="1 s", tags=[TAG])

    assert plain(put_in(FILE, new))["devices"][1]["scan_groups"] == [{"every": "1 s", "tags": [TAG]}]


@pytest.mark.parametrize(
    "text",
    [
        "devices: [{name: a}]\n",
        "devices: []\n",
        "{devices: [{name: a}]}\n",
        "{gateway: {name: g}}\n",
        "devices: of\n",
        "all: &all\n  - name: a\ndevices: *all\n",
        "devices:\n  - name: a\n...\n",
        "devices:\n  - name: a\n    note: |\n      its last line has no end",
    ],
)
def test_a_file_that_cannot_take_it_is_left_alone(text: str) -> None:
    assert insert(text.encode(), "site.yaml", NEW) is None


def test_a_file_that_is_no_yaml_is_a_problem_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"site.yaml:2:"):
        insert(b"devices:\n\t- a\n", "site.yaml", NEW)


def lines_below(indent: int) -> st.SearchStrategy[str]:
    pad = " " * indent
    return st.sampled_from([
        "\n", "# at the edge\n", f"{' ' * max(0, indent - 2)}# a dash's depth\n", f"{pad}# deeper\n",
        f"{pad}note: |\n{pad}  # text\n\n{pad}  more\n", f"{pad}list: [a,\n{pad} b]  # c\n",
        f'{pad}text: "over\n\n{pad} lines # no comment"\n',
    ])  # fmt: skip


@st.composite
def files(draw: st.DrawFn) -> str:
    indent = draw(st.integers(0, 4))
    dash, pad = " " * indent, " " * (indent + 2)
    devices = ""
    for number in range(draw(st.integers(1, 3))):
        below = draw(st.lists(lines_below(indent + 2), max_size=4))
        keyed = [line for line in below if line.strip().startswith(("note", "list", "text"))]
        others = [line for line in below if line not in keyed]
        devices += f"{dash}- name: d{number}\n" + "".join(draw(st.permutations([*dict.fromkeys(keyed), *others])))
        devices += draw(st.sampled_from(["", f"{pad}# of d{number}\n"]))
    head = draw(st.sampled_from(["", "# head\n", "gateway: {name: g}\n\n"]))
    tail = draw(st.sampled_from(["", "# end\n", "\n# of the log\nlog: {level: info}\n", "log: |\n  # text\n"]))
    text = f"{head}devices:\n{devices}{tail}"
    if not text.endswith("  more\n") and draw(st.booleans()):  # A text in a block would become another one.
        text = text.rstrip("\n")
    return text if draw(st.booleans()) else text.replace("\n", "\r\n")


@given(files())
def test_the_old_text_is_in_the_new_one_around_one_insertion(text: str) -> None:
    new = insert(text.encode(), "site.yaml", NEW)

    assert new is not None
    after = new.decode()
    head = next((at for at, (old, now) in enumerate(zip(text, after, strict=False)) if old != now), len(text))
    # What is inserted may begin as what follows it does.
    assert any(after.startswith(text[:at]) and after.endswith(text[at:]) for at in range(head + 1))
    assert plain(after) == {**plain(text), "devices": [*plain(text)["devices"], NEW.node.plain()]}
