"""What is said to an auditor names the test that shows it, and each such test exists."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from edge.qualify.requirements import requirements

ROOT = Path(__file__).parents[2]
ROW = {"id": "CR 0.0", "name": "Something", "levels": "1-4", "standing": "met", "text": "It does."}


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"tests": ["test_that_is_not_there"]}, "there is no test test_that_is_not_there"),
        ({}, "no test shows it"),
        ({"standing": "partly"}, "no test shows it"),
        ({"standing": "nearly"}, "nearly is not one of met, partly, plant, no subject, open"),
    ],
)
def test_a_requirement_is_not_met_without_a_test_that_exists(
    generate: ModuleType, more: dict[str, object], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        generate._requirement(ROW | more)


def test_each_test_of_the_table_is_linked_where_it_is(generate: ModuleType) -> None:
    page = generate.iec_62443_4_2()
    links = re.findall(r"\[([^\]]+)\]\(\.\./\.\./(tests/[^)]+)\)", page)

    assert len(links) > 100
    for name, path in links:
        assert f"def test_{name.replace(' ', '_')}(" in (ROOT / path).read_text()


def test_every_requirement_is_there_once(generate: ModuleType) -> None:
    page = generate.iec_62443_4_2()
    named = re.findall(r"^\| ((?:CR|SAR|HDR|NDR) \d\.\d+)(?: RE \d)?:", page, re.MULTILINE)
    last = {"1": 14, "2": 13, "3": 14, "4": 3, "5": 3, "6": 2, "7": 8}

    wanted = {f"{part}.{number}" for part, count in last.items() for number in range(1, count + 1)} - {"2.3", "7.5"}
    assert {each.split()[1] for each in named} == wanted
    rows = re.findall(r"^\| ((?:CR|SAR|HDR|NDR) [^:]+):", page, re.MULTILINE)
    assert len(rows) == len(set(rows))


def test_the_tests_on_the_page_for_auditors_exist(generate: ModuleType) -> None:
    page = (ROOT / "docs/how-to/prove-one-way.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))

    assert len(named) > 8
    assert named - generate._tests().keys() == set()
    assert all((ROOT / path).exists() for path in re.findall(r"`(tests/[\w/.]+)`", page))


TABLES_FOR_QA = {"21 CFR Part 11": 17, "EU Annex 11": 17, "The draft of Annex 11 of July 2025": 17}


@pytest.mark.parametrize("heading", TABLES_FOR_QA)
def test_what_quality_assurance_is_told_is_shown_by_something(heading: str) -> None:
    page = (ROOT / "docs/how-to/prove-to-qa.md").read_text()
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [
        re.split(r" *\| *", row)[1:-1] for row in re.findall(r"^\| (?!section|clause|---).*$", section, re.MULTILINE)
    ]
    known = requirements()

    assert len(rows) == TABLES_FOR_QA[heading]
    for name, standing, _, shown, plants in rows:
        assert standing in {"met", "partly", "plant", "none"}, name
        assert shown or standing in {"plant", "none"}, name
        assert plants or standing in {"met", "none"}, name
        named = re.findall(r"REQ-[A-Z]+-\d+", shown)
        assert [one for one in named if one not in known or known[one].planned] == [], name
