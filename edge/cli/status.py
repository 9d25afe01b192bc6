"""`tidegate status`: the status of a running gateway or relay."""

from __future__ import annotations

import time
from pathlib import Path

import click

from edge.cli.output import Failure, print_json
from edge.health import StatusSnapshot, read_status

_PERIOD_S = 1.0
_WIDTH_IN_A_PIPE = 160


@click.command(
    epilog="""\b
Examples:
  tidegate status configs/line-4.yaml
  tidegate status configs/line-4.yaml --watch
  tidegate status --socket /var/lib/tidegate/status.sock
  tidegate status --socket /var/lib/tidegate/status.sock --json | jq .uplink.state

Exit code 0: it answers. 1: nobody answers there."""
)
@click.argument("config", required=False, type=click.Path(path_type=Path, exists=True))
@click.option("--socket", "path", type=click.Path(path_type=Path), help="Status socket of the gateway or relay.")
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print the snapshot as one JSON document.")
def command(config: Path | None, path: Path | None, watch: bool, as_json: bool) -> None:
    """Show what a running gateway or relay says of itself.

    Name either its configuration file CONFIG or its socket.
    """
    if (config is None) == (path is None):
        raise click.UsageError("name either a configuration file or --socket PATH")
    if watch and as_json:
        raise click.UsageError("--watch is for people and --json for scripts: choose one")
    socket_path = path or _configured(config or Path())
    if watch:
        _watch(socket_path)
    elif as_json:
        print_json(_ask(socket_path))
    else:
        _show(_ask(socket_path))


def _configured(config: Path) -> Path:
    # What checks settings takes a while to load, and `--socket` does not need it.
    from edge.config.check import check
    from edge.config.settings import RelaySettings

    checked = check(config, device="")  # A device that was written wrong since the start says nothing of the socket.
    is_relay = isinstance(checked.settings, RelaySettings)
    return checked.relay().relay.status_socket if is_relay else checked.gateway().status_socket


def _ask(path: Path) -> StatusSnapshot:
    try:
        return read_status(path)
    except OSError as error:
        raise Failure(f"{path}: no answer ({error.strerror or error}); is the gateway running?") from error
    except ValueError as error:
        raise Failure(f"{path}: what answers there is not a Tidegate status socket") from error


def _show(snapshot: StatusSnapshot) -> None:
    from rich.console import Console

    from edge.health.render import render

    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH_IN_A_PIPE
    console.print(render(snapshot))


def _watch(path: Path) -> None:
    from rich.live import Live

    from edge.health.render import render

    with Live(render(_ask(path)), screen=True, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(_PERIOD_S)
                live.update(render(_ask(path)), refresh=True)
        except KeyboardInterrupt:
            return
