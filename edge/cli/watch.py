"""`tidegate watch`: a live table of tags, as the running gateway read them last."""

from __future__ import annotations

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from edge.cli.output import Failure
from edge.config.check import check
from edge.errors import ErrorCode
from edge.gateway.control import GatewayRefuses, ask_values

EXAMPLE = """\b
Examples:
  tidegate watch configs/line-4.yaml
  tidegate watch configs/line-4.yaml bioreactor-1

Exit code 0: it was ended with q or Ctrl-C. 1: no gateway answers, or it has no such device. 2: usage, also where the
extra `watch` is not installed. 78: the configuration has problems."""


@click.command(epilog=EXAMPLE)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("device", default="")
def command(config: Path, device: str) -> None:
    """Show the tags of DEVICE, or of all devices, in a live table: filter, sort, trends, quality, age.

    It asks the gateway once a second for what it read last: no device is asked, and no scan waits. A gateway that stops
    and comes back is waited for. Keys: / filters, s sorts by the next column, r reverses, q ends.
    """
    if find_spec("textual") is None:
        raise click.UsageError("this needs a library that is not installed; install tidegate[watch]")
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError(f"this needs a terminal; tidegate status {config} --tags prints the values once")
    from edge.cli.watch_screen import Watch

    path = check(config, device="", kind="gateway").gateway().gateway.live_socket
    start = f"start it: tidegate run {config}"
    try:
        first = ask_values(path, device)
    except (LookupError, GatewayRefuses) as error:
        raise Failure(str(error.args[0])) from error
    if first is None:
        raise Failure(f"no gateway answers at {path}; {start}", code=ErrorCode.NOT_RUNNING)
    screen = Watch(lambda: ask_values(path, device), first, f"no gateway answers; {start}")
    screen.run()
    if screen.ended_by is not None:  # The terminal is as it was: now the signal does what it does to any program.
        signal.signal(screen.ended_by, signal.SIG_DFL)
        os.kill(os.getpid(), screen.ended_by)
    raise SystemExit(screen.return_code)
