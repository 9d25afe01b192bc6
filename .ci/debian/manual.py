"""manual.py FOLDER: write man pages, from the help texts, and the completion for bash and zsh."""

import gzip
import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click
from click.shell_completion import BashComplete, ZshComplete

from edge.cli import cli

DATE = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC).strftime("%Y-%m-%d")


def escaped(text: str) -> str:
    """A text that roff sets as it is."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


def paragraphs(text: str) -> Iterator[str]:
    """A help text; what begins with click's mark for it keeps its lines."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if paragraph.startswith("\b\n"):
            yield f".PP\n.nf\n{escaped(paragraph[2:])}\n.fi"
        else:
            yield f".PP\n{escaped(' '.join(paragraph.split()))}"


def page(command: click.Command, context: click.Context) -> str:
    """The man page of a command."""
    name = context.command_path.replace(" ", "-")
    summary = command.get_short_help_str(limit=200).rstrip(".")
    usage = " ".join([rf"\fB{escaped(context.command_path)}\fR", *map(escaped, command.collect_usage_pieces(context))])
    parts = [
        f'.TH "{name.upper()}" "1" "{DATE}" "tidegate {version("tidegate")}" "Tidegate"',
        ".SH NAME", rf"{name} \- {escaped(summary)}", ".SH SYNOPSIS", usage,
        ".SH DESCRIPTION", *paragraphs(command.help or summary),
    ]  # fmt: skip
    records = [each.get_help_record(context) for each in command.get_params(context)]
    if options := [record for record in records if record and record[1]]:
        parts += [".SH OPTIONS", *(f".TP\n\\fB{escaped(form)}\\fR\n{escaped(text)}" for form, text in options)]
    if children := list(subcommands(command, context)):
        parts.append(".SH COMMANDS")
        for child, below in children:
            path = below.command_path.replace(" ", "-")
            parts.append(f".TP\n\\fB{escaped(path)}\\fR(1)\n{escaped(child.get_short_help_str(limit=200))}")
    if command.epilog:
        parts += [".SH NOTES", *paragraphs(command.epilog)]
    return "\n".join([*parts, ""])


def subcommands(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """The commands of a group."""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield child, click.Context(child, info_name=name, parent=context, **child.context_settings)


def write_pages(command: click.Command, context: click.Context, folder: Path) -> None:
    """The page of a command, and of all below it."""
    path = folder / f"{context.command_path.replace(' ', '-')}.1.gz"
    path.write_bytes(gzip.compress(page(command, context).encode(), mtime=0))
    for child, below in subcommands(command, context):
        write_pages(child, below, folder)


share = Path(sys.argv[1])
manual = share / "man/man1"
manual.mkdir(parents=True)
write_pages(cli, click.Context(cli, info_name="tidegate", **cli.context_settings), manual)
for shell, place in {
    BashComplete: "bash-completion/completions/tidegate", ZshComplete: "zsh/vendor-completions/_tidegate"
}.items():  # fmt: skip
    (share / place).parent.mkdir(parents=True)
    (share / place).write_text(shell(cli, {}, "tidegate", "_TIDEGATE_COMPLETE").source() + "\n")
