"""`tidegate demo`: the main job end to end on one machine, disturbances included."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import get_args

import click
from rich.text import Text

from edge.cli import EXIT_NO
from edge.demo.brokers import BrokerKind, BrokerNotStarted
from edge.demo.display import display_here
from edge.demo.last_page import last_page
from edge.demo.processes import ProcessExited
from edge.demo.run import Demo, DemoPlan
from edge.demo.stop import Stop

_EXIT_STOPPED = 130


@click.command(
    epilog="""\b
Examples:
  tidegate demo
  tidegate demo --seconds 30
  tidegate demo --directory ./demo
  tidegate demo --historian

Ctrl-C ends it: what is on its way is archived first. A second Ctrl-C ends it at once.

Exit code 0: the archive is unaltered and whole, and with --historian PostgreSQL has as many values. 1: not so.
78: something that --historian needs is not installed. 130: it was ended at once."""
)
@click.option("--seconds", type=click.FloatRange(min=5), help="How long; by default until Ctrl-C.")
@click.option("--directory", type=click.Path(path_type=Path), help="Keep configurations, buffer and archive here.")
@click.option("--plant", "plant_name", default="modbus", show_default=True, help="Which simulated plant.")
@click.option("--broker", type=click.Choice(get_args(BrokerKind)), help="By default mosquitto where it is installed.")
@click.option("--historian", "with_historian", is_flag=True, help="Values also go into a PostgreSQL of its own.")
def command(
    seconds: float | None, directory: Path | None, plant_name: str, broker: BrokerKind | None, *, with_historian: bool
) -> None:
    """Simulated devices, a broker, a gateway and a relay: watch values flow, a device stall and the broker go.

    At the end a report says what is true of the archive.
    """
    with Stop() as stop, ExitStack() as stack:
        folder = directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-demo-")))
        folder.mkdir(parents=True, exist_ok=True)
        plan = DemoPlan(
            folder.resolve(), plant=plant_name, broker=broker, seconds=seconds, kept=directory,
            with_historian=with_historian,
        )  # fmt: skip
        display = stack.enter_context(display_here())
        demo = Demo(plan, display, stop)
        try:
            answer = asyncio.run(demo.run())
        except asyncio.CancelledError:
            display.close()
            raise SystemExit(_EXIT_STOPPED) from None
        except (BrokerNotStarted, ProcessExited) as error:
            display.close()
            with suppress(OSError):  # Of a terminal that was closed.
                click.echo(str(error), err=True)
            raise SystemExit(EXIT_NO) from None
        display.close()
        if answer is None:
            display.page([Text("Ended before anything was started.")])
            return
        if not display.is_screen:
            display.page([Text()])
        display.page(last_page(demo.scene, answer, directory, display.width, with_account=display.is_screen))
    if not answer.is_whole:
        raise SystemExit(EXIT_NO)
