"""Alert rules, runbook and dashboards speak of what is exported, and of each other."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.health.families import FAMILIES
from tests.support.prometheus import DASHBOARD, OF_SHARED_LOAD, shown

ROOT = Path(__file__).parents[2]
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "configs/monitoring/tidegate.rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
RUNBOOK = (ROOT / "docs/how-to/runbook.md").read_text()
NAMES = {family.name for family in FAMILIES}
LABELS = {label for family in FAMILIES for label in family.labels} | {"job", "instance"}
ROWS = {
    DASHBOARD: {"Gateways", "Devices", "Buffer", "Uplink", "Clock", "Certificates", "Relay"},
    OF_SHARED_LOAD: {"Lag", "Intakes", "Workers"},
}
every_dashboard = pytest.mark.parametrize("dashboard", ROWS, ids=lambda path: str(path.stem))
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


@every_dashboard
def test_a_dashboard_shows_only_what_is_exported(dashboard: Path) -> None:
    panels = json.loads(dashboard.read_text())["panels"]
    legends = {target["legendFormat"] for panel in panels for target in panel.get("targets", ())}
    named = {label for legend in legends for label in re.findall(r"\{\{(\w+)\}\}", legend)}

    assert {name for _, text in shown(dashboard) for name in re.findall(r"\btidegate_\w+", text)} <= NAMES
    assert {label for _, text in shown(dashboard) for label in re.findall(r"(\w+)=~", text)} | named <= LABELS
    assert {panel["title"] for panel in panels if panel["type"] == "row"} >= ROWS[dashboard]
    assert all(panel["type"] == "row" or panel["description"] for panel in panels)


@every_dashboard
def test_the_panels_of_a_dashboard_do_not_overlap(dashboard: Path) -> None:
    places = [panel["gridPos"] for panel in json.loads(dashboard.read_text())["panels"]]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@every_dashboard
def test_each_expression_of_a_dashboard_is_one_for_prometheus(dashboard: Path, tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": text} for number, (_, text) in enumerate(shown(dashboard))]
    path = tmp_path / "panels.yaml"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))

    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
