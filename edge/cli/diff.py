"""`tidegate diff`: in what two configurations differ, or what runs and the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from edge.cli import EXIT_NO
from edge.cli.output import print_json
from edge.cli.running import held_configuration
from edge.config.check import check
from edge.config.kept import unpack
from edge.config.settings import GatewaySettings
from edge.config.written import differences
from edge.sentences import changed
from edge.units import counted

EXAMPLE = """\b
Examples:
  tidegate diff /etc/tidegate/line-4.yaml
  tidegate diff sites/basel.yaml sites/kundl.yaml
  tidegate diff line-4.yaml line-4.new.yaml --json

Exit code 0: they are the same. 1: they differ. 78: one of them has problems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A value that is another, or is in one of them only."""

    path: str
    old: str
    """As written in A; empty where it is not there."""
    new: str
    """As written in B; empty where it is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `tidegate diff` found."""

    differences: tuple[Difference, ...]


ANSWER = Answer


@click.command(epilog=EXAMPLE)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def command(a: Path, b: Path | None, *, as_json: bool) -> None:
    """Show in what the gateways of configurations A and B differ, with types, tables and references put in.

    With A alone: in what the gateway of A, as it runs now, differs from A as it is written. Comments, and how a file is
    laid out, make no difference.
    """
    if b is None:
        settings, written = _configuration(a)
        found = tuple(differences(held_configuration(settings).document, written))
    else:
        found = tuple(differences(_configuration(a)[1], _configuration(b)[1]))
    if as_json:
        print_json(Answer(differences=tuple(Difference(path=path, old=old, new=new) for path, old, new in found)))
    else:
        for each in found:
            click.echo(changed(*each))
        click.echo(counted(len(found), "difference") if found else "no differences")
    if found:
        raise SystemExit(EXIT_NO)


def _configuration(path: Path) -> tuple[GatewaySettings, object]:
    checked = check(path, kind="gateway")
    return checked.gateway(), unpack(checked.pack())
