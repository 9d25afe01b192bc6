"""`tidegate plan`: the requests a device will get, and their cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from edge.cli.check import PlannedGroup, show_problems
from edge.cli.output import print_json
from edge.config.check import check
from edge.config.kept import unpack
from edge.config.proposal import plan_line
from edge.config.written import document
from edge.units import format_size

EXAMPLE = """\b
Examples:
  tidegate plan configs/line-4.yaml --device bioreactor-1
  tidegate plan configs/fillers.yaml --expanded

Exit code 0: this is the plan. 2: usage, or no such device. 78: the configuration has problems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `tidegate plan` shows."""

    scan_groups: tuple[PlannedGroup, ...]


ANSWER = Answer


@click.command(epilog=EXAMPLE)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--device", help="Only this device.")
@click.option("--expanded", is_flag=True, help="The configuration itself, with types and tables put in; as YAML.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def command(path: Path, device: str | None, *, expanded: bool, as_json: bool) -> None:
    """Show the requests that each scan group makes, without touching the network."""
    if expanded and as_json:
        raise click.UsageError("--expanded is for people and --json for scripts: choose one")
    try:
        checked = check(path, device=device, kind="gateway")
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from error
    checked.gateway()
    show_problems(checked.warnings, err=True)
    if expanded:
        click.echo("\n".join(document(unpack(checked.pack()))))
        return
    plans = checked.plans
    if as_json:
        print_json(Answer(scan_groups=tuple(map(PlannedGroup.of, plans))))
        return
    for plan in plans:
        cost = plan.cost
        click.echo(plan_line(plan))
        click.echo(
            f"  {format_size(cost.request_bytes)} of requests, {format_size(cost.answer_bytes)} of answers a scan"
        )
        for line in plan.requests:
            click.echo(f"  {line}")
