"""`tidegate check`: every problem of a configuration, before the gateway starts."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import click

from edge.cli import EXIT_CONFIG
from edge.config.check import Checked, check
from edge.config.devices import GroupPlan
from edge.errors import Problem
from edge.units import format_duration

EXAMPLE = """\b
Examples:
  tidegate check configs/line-4.yaml
  tidegate check /etc/tidegate --json
"""


@click.command(epilog=EXAMPLE)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def command(path: Path, *, as_json: bool) -> None:
    """Check a file, or a directory of files, and list every problem; nothing is started."""
    checked = check(path)
    if as_json:
        import orjson

        click.echo(orjson.dumps(_as_json(checked), option=orjson.OPT_INDENT_2).decode())
    else:
        _show(checked)
    if checked.errors:
        raise SystemExit(EXIT_CONFIG)


def show_problems(checked: Checked) -> None:
    """Problems and warnings, one a line, on standard error."""
    for problem in checked.problems:
        where, message = str(problem), problem.message
        colour = "yellow" if problem.severity == "warning" else "red"
        click.echo(where.removesuffix(message) + click.style(message, fg=colour), err=True)
    if checked.errors:
        click.echo(f"{counted(len(checked.errors), 'problem')}; nothing was started", err=True)


def counted(count: int, noun: str) -> str:
    """A number with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def cost_line(plans: list[GroupPlan]) -> str:
    """What one scan of these groups costs."""
    tags = sum(plan.cost.tags for plan in plans)
    requests = sum(plan.cost.requests for plan in plans)
    took_ns = sum(plan.cost.took_ns for plan in plans)
    return f"{counted(tags, 'tag')} -> {counted(requests, 'request')}, about {format_duration(took_ns)}"


def _show(checked: Checked) -> None:
    show_problems(checked)
    if checked.errors:
        return
    for device, group in groupby(checked.plans, key=lambda plan: plan.device):
        plans = list(group)
        click.echo(f"{device}: {cost_line(plans)}")
        for plan in plans:
            click.echo(f"  {plan.group}: {cost_line([plan])} every {format_duration(plan.every_ns)}")
    warned = f"; {counted(len(checked.warnings), 'warning')}" if checked.warnings else ""
    click.echo(f"no problems{warned}; digest {checked.digest.hex()}")


def _as_json(checked: Checked) -> dict[str, Any]:
    return {
        "usable": not checked.errors,
        "digest": checked.digest.hex(),
        "problems": [_problem(problem) for problem in checked.errors],
        "warnings": [_problem(problem) for problem in checked.warnings],
        "scan_groups": [plan_json(plan) for plan in checked.plans],
    }


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "message": problem.message,
    }


def plan_json(plan: GroupPlan) -> dict[str, Any]:
    """A plan for scripts."""
    return {
        "device": plan.device,
        "scan_group": plan.group,
        "every_ns": plan.every_ns,
        "tags": plan.cost.tags,
        "requests": plan.cost.requests,
        "request_bytes": plan.cost.request_bytes,
        "answer_bytes": plan.cost.answer_bytes,
        "took_ns": plan.cost.took_ns,
    }
