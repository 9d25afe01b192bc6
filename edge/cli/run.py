"""`tidegate run`: the gateway."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import get_args

import click

from edge.config.check_process import Role, begin_check


@click.command(
    epilog="""\b
Examples:
  tidegate run configs/line-4.yaml
  tidegate run configs/line-4.yaml --role acquire
  tidegate run configs/line-4.yaml --role forward

Exit code 0: it was asked to stop. 78: the configuration cannot be used, and nothing was read."""
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--role", type=click.Choice(get_args(Role)), default="all", show_default=True,
              help="Only the device side, or only the network side; they meet at the buffer directory.")  # fmt: skip
def command(path: Path, role: Role) -> None:
    """Read devices, seal what they say, keep it, and send it one way, until SIGTERM or Ctrl-C."""
    # Modules stay loaded: searching them for garbage is a tenth of the time of a start.
    gc.disable()
    checked = begin_check(path, role)
    # The child reads the configuration while the gateway is loaded here.
    from edge.cli.gateway import run_until_stopped

    run_until_stopped(checked, path, role)
