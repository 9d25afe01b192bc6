"""The pictures of the pages."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import cast
from xml.etree import ElementTree

import pytest
from rich.text import Text

ROOT = Path(__file__).parents[2]


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def drawn() -> Callable[[list[Text], str], str]:
    return cast("Callable[[list[Text], str], str]", loaded("picture").svg)


def check_loads_nothing(picture: str) -> None:
    """A page opened in a plant has no way to the internet."""
    ElementTree.fromstring(picture)
    assert set(re.findall(r"https?://[^\s\"']+", picture)) == {"http://www.w3.org/2000/svg"}
    assert "@import" not in picture
    assert "@font-face" not in picture
    assert set(re.findall(r"url\((.)", picture)) <= {"#"}


@pytest.mark.parametrize("name", ["demo-light.svg", "demo-dark.svg"])
def test_a_recorded_picture_loads_nothing_from_elsewhere(name: str) -> None:
    check_loads_nothing((ROOT / "docs/pictures" / name).read_text("utf-8"))


def test_a_picture_is_drawn_for_light_and_for_dark_pages() -> None:
    lines = [Text("3 of 3 up").append("  mosquitto", style="dim"), Text("▁▂░")]

    light, dark = drawn()(lines, "light"), drawn()(lines, "dark")

    check_loads_nothing(light)
    check_loads_nothing(dark)
    assert ">3&#160;of&#160;3&#160;up</text>" in light
    assert "▁▂░" in dark
    assert 'fill="#ffffff"' in light
    assert 'fill="#0d1117"' in dark


@pytest.mark.parametrize("shade", ["light", "dark"])
def test_the_network_is_drawn_as_the_files_for_the_firewall_have_it(shade: str) -> None:
    picture = (ROOT / f"docs/pictures/network-{shade}.svg").read_text("utf-8")
    files = "".join((ROOT / f"configs/dmz/{name}.nft").read_text() for name in ("gateway", "broker", "relay"))

    check_loads_nothing(picture)
    assert picture == loaded("network").picture(shade)
    for shown in re.findall(r">(\d+\.\d+\.\d+\.\d+)<", picture):
        assert shown in files
    for port in {
        *re.findall(r"\b(\d{2,5})\b", re.sub(r"<[^>]*>|\d+\.\d+\.\d+\.\d+", " ", picture.split("</defs>")[1]))
    }:
        assert re.search(rf"\b{port}\b", files)
