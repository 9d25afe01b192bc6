"""`tidegate plan`: the requests a device will get, and their cost."""

from __future__ import annotations

from pathlib import Path

import click

from edge.cli import EXIT_CONFIG
from edge.cli.check import cost_line, plan_json, show_problems
from edge.config.check import check
from edge.units import format_duration, format_size

EXAMPLE = """\b
Example:
  tidegate plan configs/line-4.yaml --device bioreactor-1
"""


@click.command(epilog=EXAMPLE)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--device", help="Only this device.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def command(path: Path, device: str | None, *, as_json: bool) -> None:
    """Show the requests that each scan group makes, without touching the network."""
    try:
        checked = check(path, device=device)
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from error
    show_problems(checked)
    if checked.errors:
        raise SystemExit(EXIT_CONFIG)
    checked.gateway()
    plans = checked.plans
    if as_json:
        import orjson

        groups = [{**plan_json(plan), "describe": plan.requests} for plan in plans]
        click.echo(orjson.dumps({"scan_groups": groups}, option=orjson.OPT_INDENT_2).decode())
        return
    for plan in plans:
        cost = plan.cost
        click.echo(f"{plan.device}, {plan.group}: {cost_line([plan])} every {format_duration(plan.every_ns)}")
        click.echo(
            f"  {format_size(cost.request_bytes)} of requests, {format_size(cost.answer_bytes)} of answers a scan"
        )
        for line in plan.requests:
            click.echo(f"  {line}")
