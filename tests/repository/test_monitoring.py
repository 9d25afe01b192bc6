"""Alert rules, runbook and dashboard speak of what is exported, and of each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.health.families import FAMILIES

ROOT = Path(__file__).parents[2]
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "configs/monitoring/tidegate.rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
RUNBOOK = (ROOT / "docs/how-to/runbook.md").read_text()
NAMES = {family.name for family in FAMILIES}
LABELS = {label for family in FAMILIES for label in family.labels} | {"job", "instance"}
PARTS = ["What it means", "What follows", "Look at", "Do"]


def section(alert: str) -> str:
    return RUNBOOK.split(f"\n## {alert}\n")[1].split("\n## ")[0]


def test_the_runbook_has_the_sections_of_the_rules_in_their_order() -> None:
    assert [each["alert"] for each in RULES] == re.findall(r"^## (Tidegate\w+)$", RUNBOOK, re.MULTILINE)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_names_what_is_exported_and_where_its_section_is(rule: dict[str, Any]) -> None:
    severity, annotations = rule["labels"]["severity"], rule["annotations"]

    assert set(re.findall(r"\btidegate_\w+", rule["expr"])) <= NAMES
    assert set(re.findall(r"\$labels\.(\w+)", annotations["summary"])) <= LABELS
    assert annotations["runbook"] == f"runbook.md#{rule['alert'].lower()}"
    assert severity in {"page", "ticket"}
    assert f"Severity: {severity}." in section(rule["alert"])
    assert re.findall(r"^\*\*(.+?)\.\*\*", section(rule["alert"]), re.MULTILINE) == PARTS
