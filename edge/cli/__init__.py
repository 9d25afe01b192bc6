"""The commands: exit codes are 0, 1 (it ran and the answer is no), 2 (usage), 78 (configuration) and 130 (Ctrl-C)."""

from __future__ import annotations

import sys
from importlib import import_module
from itertools import pairwise

import click

EXIT_NO = 1
EXIT_CONFIG = 78
EXIT_STOPPED = 130  # As of a program that SIGINT ends, in a shell.

_COMMANDS = {
    "init": "Write a small configuration to begin with.",
    "check": "Check a configuration and list every problem.",
    "diff": "Show in what two configurations differ, or what runs and its file.",
    "propose": "Write a changed configuration as a text that a second person signs.",
    "apply": "Take a changed configuration into use while the gateway runs.",
    "plan": "Show the requests a configuration makes of each device, and what they cost.",
    "discover": "Look for devices on a network.",
    "browse": "List the tags of a device, also as lines for the configuration.",
    "add": "Add a device of the network to a configuration, with its tags.",
    "import": "Import tags of other programs and lists into the table of a device, or a workbook.",
    "workbook": "Write the devices and tags of a configuration into a workbook, for a spreadsheet.",
    "read": "Read tags of one device, now.",
    "test": "Read every tag of a device three times, and say whether it can be trusted.",
    "run": "Run the gateway.",
    "status": "Show how a running gateway or relay is.",
    "page": "Serve a read-only web page of gateways and relays on this machine.",
    "watch": "Show a live table of the tags that a running gateway reads.",
    "clock": "Show what keeps the clock, how far it may be off, and what to do.",
    "doctor": "Look at the machine of a gateway or relay, and say what to do.",
    "qualify": "Qualify the installed machine, IQ, OQ and PQ, as a signed pack of evidence.",
    "support": "Pack what somebody needs who helps from afar, without a secret in it.",
    "simulate": "Simulate the devices of a configuration, to try it without them.",
    "inventory": "List vendor, product, firmware and serial number of the devices.",
    "keys": "Make, show and trust the keys and certificates of a protocol.",
    "resend": "Have a gateway send delivered records again.",
    "media": "Carry records by hand, from a gateway without a network to an archive.",
    "relay": "Receive, verify and archive on the IT side.",
    "verify": "Check every record of an archive: authentic, altered or missing.",
    "report": "Say whether the data of a range is complete and unaltered; as a page to sign, too.",
    "review": "Write of a range of an archive that it was reviewed, to be signed.",
    "export": "Write the values of a range to a file: CSV, Parquet or JSON, each with its record.",
    "impact": "List the readings and batches that an instrument touched, and their calibrations.",
    "lake": "Look after the Parquet files that a relay writes: make one of the many of a day.",
    "log": "Show what happened: events, gaps, losses and changes.",
    "history": "Show who changed what in the configuration, when and why, and whether that is proven.",
    "explain": "Say what a status, code, event, metric or setting means.",
    "schema": "Print the JSON Schema of configurations.",
    "demo": "Run a simulated plant, gateway, broker and relay.",
}


class _Commands(click.Group):
    """Imports a command only when it is called: a gateway does not load the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"edge.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS and not args[0].startswith("-"):
            from edge.config.messages import did_you_mean

            meant = did_you_mean(args[0], tuple(_COMMANDS))
            ctx.fail(f"no command is called {args[0]!r}; " + (f"did you mean {meant}?" if meant else "see --help"))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            from edge.cli.output import end_with_closed_pipe

            end_with_closed_pipe()
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tidegate")
def cli() -> None:
    """Read plant devices, sign what was read, and prove it."""


def _wants_json(arguments: list[str]) -> bool:
    # Of history the format is that of its answer; export writes a file in it, and answers in words.
    is_history = arguments[:1] == ["history"]
    return "--json" in arguments or (
        is_history and ("--format=json" in arguments or ("--format", "json") in pairwise(arguments))
    )


def main() -> None:
    """Run a command, and end with its exit code; with --json a failure is printed as JSON too."""
    try:
        code = cli(prog_name="tidegate", standalone_mode=False)
    except click.Abort as abort:  # Ctrl-C, or the answer to a question was no.
        error: Exception = click.ClickException("stopped")
        if isinstance(abort.__context__, KeyboardInterrupt):
            from edge.cli.output import Stopped

            error = Stopped("stopped with Ctrl-C")
    except Exception as raised:  # noqa: BLE001 - what is a bug is raised again
        error = raised
    else:
        raise SystemExit(code if isinstance(code, int) else 0)
    from edge.cli.output import fail

    raise SystemExit(fail(error, as_json=_wants_json(sys.argv[1:])))
