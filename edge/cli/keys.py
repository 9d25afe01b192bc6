"""`tidegate keys`: shows keys, the identity of a gateway, and what drivers offer, each under its own name."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import click

from edge.cli.output import print_json
from edge.config.messages import choices
from edge.errors import ConfigError

GROUP = "tidegate.keys"
SHOW, IDENTITY = OWN = ("show", "identity")
EXAMPLE = """\b
Example:
  tidegate keys show /var/lib/tidegate/identity.pub.pem
  tidegate keys identity public /etc/tidegate/gateway.yaml

Exit code 0: it did what was asked. 1: there is no such key or certificate. 2: usage. 78: a file cannot be used."""


ANSWERS = {SHOW: "edge.cli.keys_show:KeysAnswer"}


class _Commands(click.Group):
    """Finds commands by entry point, and imports one only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [*OWN, *sorted({entry.name for entry in entry_points(group=GROUP)} - set(OWN))]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            ctx.fail(f"no command of keys is called {args[0]!r}; {choices(args[0], known)}")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name == SHOW:
            from edge.cli.keys_show import command as show

            return show
        if cmd_name == IDENTITY:
            from edge.cli.keys_identity import command as identity

            return identity
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
    """Show any keys and certificates; make, rotate and retire the identity of a gateway, and those of a protocol."""


@command.result_callback()
def _print(answer: object) -> None:
    """Print what a driver's command returns: its answer with --json."""
    if answer is not None:
        print_json(answer)
