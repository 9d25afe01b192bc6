"""Whatever is in a file, the answer is settings or problems: never a traceback, never silence."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config.check import check, load
from edge.config.fields import fields_of
from edge.config.settings import GatewaySettings
from edge.driver import DriverKind
from edge.errors import ConfigError

Find = Callable[[str], DriverKind]

TOKENS = [
    *"{}[],?~|'\"#\t\n\r\x85\ufeff",
    *(
        "a",
        "b: ",
        "- ",
        "  ",
        "&x ",
        "*x",
        "!t ",
        ">-\n",
        "\\U9",
        "%YAML 1.3\n",
        "---\n",
        "...\n",
        "<<: ",
        "1e999",
        ".nan",
    ),
    *("devices:", "relay: ", "gateway: ", "driver: toy", "é", "\U0001f600"),
]
KEYS = [
    *fields_of(GatewaySettings),
    *("relay", "name", "path", "driver", "host", "scan_groups", "tags", "tags_from", "every", "address", "mqtt", "tls"),
    *("ca", "password", "limit", "range", "deadband", "trust"),
    *("types", "reference", "values", "parameters", "device", "of_type", "with", "without", "instances", "a"),
]
WORDS = st.sampled_from(
    [
        "toy",
        "tyo",
        "1 s",
        "0.5 ms",
        "a",
        "a/b",
        "",
        "off",
        "file:x",
        "credential:y",
        "2 %",
        "\0",
        "${a}",
        "${a+1}",
        "${",
    ]
)
SCALARS = WORDS | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=25,
)


def _check(data: bytes, find: Find) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "site.yaml")
        path.write_bytes(data)
        result = check(path, find)
        assert result.errors or result.settings is not None
        with suppress(ConfigError):
            load(path, find)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_settings_or_problems(find: Find, data: bytes) -> None:
    _check(data, find)


@given(st.lists(st.sampled_from(TOKENS), max_size=40).map("".join))
@settings(max_examples=200, deadline=None)
def test_any_pieces_of_yaml_give_settings_or_problems(find: Find, text: str) -> None:
    _check(text.encode(), find)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys([*KEYS[:12], "types", "reference", "values"], TREES)))
@settings(max_examples=200, deadline=None)
def test_any_tree_gives_settings_or_problems(find: Find, tree: dict[str, Any]) -> None:
    _check(yaml.safe_dump(tree, allow_unicode=False).encode(), find)


TAG = {"name": WORDS, "address": st.integers(-1, 1001) | SCALARS, "range": TREES, "deadband": SCALARS, "more": SCALARS}
GROUP = {
    "name": SCALARS,
    "every": st.just("1 s") | SCALARS,
    "tags_from": SCALARS,
    "tags": TREES | st.lists(st.fixed_dictionaries({}, optional=TAG)),
}
DEVICE = {
    "name": SCALARS,
    "driver": st.sampled_from(["toy", "tyo", 1]),
    "host": st.just("h") | SCALARS,
    "scan_groups": st.lists(st.fixed_dictionaries({}, optional=GROUP), max_size=3),
}


@given(st.lists(st.fixed_dictionaries({}, optional=DEVICE), max_size=3))
@settings(max_examples=200, deadline=None)
def test_any_device_gives_settings_or_problems(find: Find, devices: list[Any]) -> None:
    _check(yaml.safe_dump({"gateway": {"name": "g", "path": "a/b"}, "devices": devices}).encode(), find)


TYPE = st.fixed_dictionaries({}, optional={"parameters": st.dictionaries(WORDS, SCALARS, max_size=2) | TREES,
                                           "device": TREES, "tags": st.lists(TREES, max_size=2)})  # fmt: skip
INSTANCE = st.fixed_dictionaries({}, optional={"of_type": st.sampled_from("ab"), "name": WORDS, "with": TREES,
                                               "without": TREES, "instances": WORDS, "scan_groups": TREES})  # fmt: skip


@given(st.dictionaries(st.sampled_from("ab"), TYPE, max_size=2), st.lists(INSTANCE, max_size=3))
@settings(max_examples=200, deadline=None)
def test_any_types_and_instances_give_settings_or_problems(find: Find, types: Any, devices: Any) -> None:
    text = yaml.safe_dump({"gateway": {"name": "g", "path": "a/b"}, "types": types, "devices": devices})
    _check(text.encode(), find)
