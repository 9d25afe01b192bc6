"""`tidegate diff`: in what two configurations differ, or what runs and the file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import click

from edge.cli import EXIT_NO
from edge.cli.output import print_json
from edge.cli.running import held_configuration
from edge.config.check import check
from edge.config.kept import unpack
from edge.config.settings import TAKEN_WHILE_IT_RUNS, GatewaySettings
from edge.config.written import differences
from edge.sentences import changed
from edge.terminal import printable
from edge.units import counted

EXAMPLE = """\b
Examples:
  tidegate diff /etc/tidegate/line-4.yaml
  tidegate diff sites/basel.yaml sites/kundl.yaml
  tidegate diff line-4.yaml line-4.new.yaml --json

Exit code 0: they are the same. 1: they differ. 78: one of them has problems."""


_SECTION_END = re.compile(r"[.\[]")


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
    waits_for_start: tuple[str, ...]
    """Of A alone: sections that differ and cannot change while the gateway runs; the next start takes them into use."""


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
        old = held_configuration(settings).document
    else:
        old, written = _configuration(a)[1], _configuration(b)[1]
    found = tuple(Difference(path=path, old=before, new=after) for path, before, after in differences(old, written))
    waiting = waiting_sections(found) if b is None else ()
    if as_json:
        print_json(Answer(differences=found, waits_for_start=waiting))
    else:
        for each in found:
            click.echo(printable(changed(each.path, each.old, each.new)))
        click.echo(counted(len(found), "difference") if found else "no differences")
        if waiting:
            click.echo(waits_for_start(waiting))
    if found:
        raise SystemExit(EXIT_NO)


def waiting_sections(found: Sequence[Difference]) -> tuple[str, ...]:
    """The sections with differences that a running gateway does not take into use."""
    differ = {_SECTION_END.split(each.path, maxsplit=1)[0] for each in found}
    return tuple(each.name for each in fields(GatewaySettings) if each.name in differ.difference(TAKEN_WHILE_IT_RUNS))


def waits_for_start(sections: Sequence[str]) -> str:
    """That as a sentence."""
    return f"{', '.join(sections)} cannot change while it runs: the next start takes all of it into use"


def _configuration(path: Path) -> tuple[GatewaySettings, object]:
    checked = check(path, kind="gateway")
    return checked.gateway(), unpack(checked.pack())
