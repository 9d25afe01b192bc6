"""`tidegate check`: every problem of a configuration, before the gateway starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import click

from edge.cli import EXIT_CONFIG
from edge.cli.output import ProblemAnswer, print_json
from edge.config.check import Checked, check, check_directory
from edge.config.devices import GroupPlan
from edge.config.files import Kind
from edge.config.proposal import cost_line
from edge.config.settings import RelaySettings
from edge.errors import ConfigError, Problem
from edge.terminal import printable
from edge.units import counted, format_duration
from edge.verify.trust import NoTrustFiles, Trust

EXAMPLE = """\b
Examples:
  tidegate check configs/line-4.yaml
  tidegate check /etc/tidegate --json

Problems are the answer, and on standard output. Exit code 0: no problems, or warnings only. 78: problems; with a
directory, in any of its configurations."""

_OTHERS_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedGroup:
    """The requests of a scan group, and what one scan costs."""

    device: str
    scan_group: str
    every_ns: int
    tags: int
    requests: int
    request_texts: tuple[str, ...]
    """Each request, in the words of its protocol."""
    request_bytes: int
    answer_bytes: int
    took_ns: int
    """How long a scan takes, as estimated."""

    @classmethod
    def of(cls, plan: GroupPlan) -> PlannedGroup:
        """The plan of a scan group."""
        cost = plan.cost
        return cls(
            device=plan.device, scan_group=plan.group, every_ns=plan.every_ns, tags=cost.tags, requests=cost.requests,
            request_texts=plan.requests, request_bytes=cost.request_bytes, answer_bytes=cost.answer_bytes,
            took_ns=cost.took_ns,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedConfiguration:
    """A configuration, and its problems."""

    kind: Kind
    name: str
    """Of the gateway or relay; empty where it is not written."""
    files: tuple[str, ...]
    """YAML files and tables, in the folder of the configuration."""
    usable: bool
    digest: str
    problems: tuple[ProblemAnswer, ...]
    warnings: tuple[ProblemAnswer, ...]
    scan_groups: tuple[PlannedGroup, ...]

    @classmethod
    def of(cls, checked: Checked) -> CheckedConfiguration:
        """The result of a check."""
        return cls(
            kind=checked.kind, name=checked.name, files=checked.files, usable=not checked.errors,
            digest=checked.digest.hex(), problems=tuple(map(ProblemAnswer.of, checked.errors)),
            warnings=tuple(map(ProblemAnswer.of, checked.warnings)),
            scan_groups=tuple(map(PlannedGroup.of, checked.plans)),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherFile:
    """A file of a directory that belongs to no configuration."""

    file: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `tidegate check` found."""

    usable: bool
    """Whether every configuration can be started."""
    configurations: tuple[CheckedConfiguration, ...]
    problems: tuple[ProblemAnswer, ...] = ()
    """Those of files that may be a part of any of them."""
    others: tuple[OtherFile, ...] = ()
    """What else is in the directory."""


ANSWER = Answer


@click.command(epilog=EXAMPLE)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def command(path: Path, *, as_json: bool) -> None:
    """Check a file, or each configuration in a directory, and list every problem; nothing is started."""
    if path.is_dir():
        held = check_directory(path)
        checked, unreadable, others = held.configurations, held.unreadable, held.others
    else:
        checked, unreadable, others = (check(path),), (), {}
    checked = tuple(_with_trust(each, path / each.files[0] if path.is_dir() else path) for each in checked)
    usable = not unreadable and not any(each.errors for each in checked)
    if as_json:
        print_json(
            Answer(
                usable=usable,
                configurations=tuple(map(CheckedConfiguration.of, checked)),
                problems=tuple(map(ProblemAnswer.of, unreadable)),
                others=tuple(OtherFile(file=name, what=what) for name, what in others.items()),
            )
        )
    elif path.is_dir():
        _show_directory(checked, unreadable, [f"{name} ({what})" for name, what in others.items()])
    else:
        _show(checked[0], "")
    if not usable:
        raise SystemExit(EXIT_CONFIG)


def _with_trust(checked: Checked, file: Path) -> Checked:
    """A relay with an archive does not start without trust files that it can use, so they are read here too."""
    if not isinstance(checked.settings, RelaySettings) or checked.settings.relay.archive is None:
        return checked
    try:
        Trust.load(checked.settings.relay.trust)
    except NoTrustFiles as error:  # They often come last, and a configuration is checked before.
        problem = Problem(f"the relay will not start: {error}", str(file), path="relay.trust", severity="warning")
    except ConfigError as error:
        if isinstance(error.__cause__, PermissionError):  # The service may read what this user may not.
            return checked
        problem = Problem(str(error), str(file), path="relay.trust")
    else:
        return checked
    return replace(checked, problems=(*checked.problems, problem))


def show_problems(problems: Sequence[Problem], *, err: bool, indent: str = "") -> None:
    """Problems and warnings, one a line."""
    for problem in problems:
        where, message = str(problem), problem.message
        colour = "yellow" if problem.severity == "warning" else "red"
        click.echo(indent + where.removesuffix(message) + click.style(message, fg=colour), err=err)


def _show(checked: Checked, indent: str) -> None:
    show_problems(checked.problems, err=False, indent=indent)
    warned = f"; {counted(len(checked.warnings), 'warning')}" if checked.warnings else ""
    if checked.errors:
        click.echo(f"{indent}{counted(len(checked.errors), 'problem')}; nothing was started")
        return
    for device, group in groupby(checked.plans, key=lambda plan: plan.device):
        plans = list(group)
        click.echo(f"{indent}{device}: {cost_line(plans)}")
        for plan in plans:
            click.echo(f"{indent}  {plan.group}: {cost_line([plan])} every {format_duration(plan.every_ns)}")
    click.echo(f"{indent}no problems{warned}; digest {checked.digest.hex()}")


def _show_directory(checked: Sequence[Checked], unreadable: Sequence[Problem], others: Sequence[str]) -> None:
    for each in checked:
        click.echo(f"{', '.join(map(printable, each.files))}: {each.kind} {printable(each.name)}".rstrip())
        _show(each, "  ")
    show_problems(unreadable, err=False)
    if others:
        more = f" and {len(others) - _OTHERS_SHOWN:,} more" if len(others) > _OTHERS_SHOWN else ""
        click.echo(f"not read: {', '.join(map(printable, others[:_OTHERS_SHOWN]))}{more}")
    problems = len(unreadable) + sum(len(each.errors) for each in checked)
    usable = sum(not each.errors for each in checked)
    click.echo(f"{counted(len(checked), 'configuration')}, {usable:,} without problems; {counted(problems, 'problem')}")
