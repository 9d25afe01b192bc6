"""`tidegate keys`: what drivers offer for keys and certificates, each under its own name."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import click

from edge.cli.output import print_json
from edge.errors import ConfigError

GROUP = "tidegate.keys"
EXAMPLE = """\b
Example:
  tidegate keys --help
"""


class _Commands(click.Group):
    """Finds commands by entry point, and imports one only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted({entry.name for entry in entry_points(group=GROUP)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        for entry in entry_points(group=GROUP, name=cmd_name):
            return _load(entry)
        return None


def _load(entry: EntryPoint) -> click.Command:
    try:
        command: click.Command = entry.load()
    except ImportError as error:
        raise ConfigError(f"keys for {entry.name} need what is missing here: {error}") from error
    return command


@click.group(cls=_Commands, epilog=EXAMPLE)
def command() -> None:
    """Make, show and trust the keys and certificates of a protocol."""


@command.result_callback()
def _print(answer: object) -> None:
    """Print what a driver's command returns: its answer with --json."""
    if answer is not None:
        print_json(answer)
