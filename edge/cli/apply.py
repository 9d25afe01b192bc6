"""`tidegate apply`: take a changed configuration into use while the gateway runs."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from edge.cli import EXIT_NO
from edge.cli.check import PlannedGroup, cost_line, show_problems
from edge.cli.diff import Difference
from edge.cli.output import Failure, print_json
from edge.cli.progress import Progress, unless_stopped
from edge.cli.running import HeldConfiguration, held_configuration
from edge.config.check import Checked, check
from edge.config.devices import GroupPlan
from edge.config.kept import Pending, digest_of, set_pending, unpack
from edge.config.settings import GatewaySettings
from edge.config.written import differences
from edge.errors import ConfigError
from edge.files import account_name, replace_like
from edge.gateway.configurations import check_reason, claimed_account
from edge.gateway.control import GatewayRefuses, Request, ask
from edge.sentences import changed
from edge.terminal import printable
from edge.units import counted, format_duration, parse_duration_ns

EXAMPLE = """\b
Examples:
  tidegate apply /etc/tidegate/line-4.yaml --dry-run
  tidegate apply /etc/tidegate/line-4.yaml --why "change request 1207: new range of TT-101"
  tidegate apply /etc/tidegate/line-4.yaml --previous 1 --why "1207 is taken back"

Exit code 0: it is as the answer says. 1: nothing was changed, or the configuration before has returned. 2: usage.
78: the configuration has problems."""

_LOOK_EVERY_S = 0.2
_SHOWN = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `tidegate apply` did, or would do."""

    state: str
    """dry_run, applied, unchanged, restart (the next start takes it into use), refused, or rolled_back."""
    text: str
    """Why, where it was refused or rolled back."""
    old: str
    """SHA-256 of the configuration that ran."""
    new: str
    """SHA-256 of the one that was to be applied."""
    differences: tuple[Difference, ...]
    scan_groups: tuple[PlannedGroup, ...]
    """Plans of the devices that differ."""


ANSWER = Answer


@click.command(epilog=EXAMPLE)
@click.argument("path", metavar="CONFIG", type=click.Path(path_type=Path))
@click.option("--why", default="", help="The reason, which goes on record; needed where gateway.regulated is true.")
@click.option("--within", default="60 s", show_default=True,
              help="Seconds in which changed devices must answer, or all is as before; 0: any.")  # fmt: skip
@click.option("--previous", type=click.IntRange(0), metavar="N",
              help="Write the files of the configuration N before the one that runs first; 0: of that.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would be different, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def command(path: Path, why: str, within: str, previous: int | None, *, dry_run: bool, as_json: bool) -> None:
    """Have the running gateway take CONFIG into use: only devices that differ are connected anew.

    Who asked, why, and each change go on record first. Where another section than devices differs, or no gateway runs,
    the next start takes it into use, and who and why are kept for that.
    """
    within_s = _seconds(within)
    checked = check(path, device=None if previous is None else "", kind="gateway")
    settings = checked.gateway()
    held = held_configuration(settings)
    instead: Mapping[str, bytes] = {}
    if previous is not None:
        earlier = held_configuration(settings, previous)
        instead = _files(earlier)
        checked = check(path, kind="gateway", instead=instead)
        if not checked.errors and checked.digest != earlier.digest:
            raise Failure(f"{path} is not where configuration {earlier.digest.hex()[:16]} was: with its files it would "
                          "be another; name the file or directory that the gateway was started with")  # fmt: skip
        settings = checked.gateway()
    try:
        check_reason(why, is_regulated=settings.gateway.regulated and not dry_run)
    except ConfigError as error:
        raise click.UsageError(f"--why: {error}") from error
    found = tuple(Difference(path=path, old=old, new=new)
                  for path, old, new in differences(held.document, unpack(checked.pack())))  # fmt: skip
    plans = _plans(checked, found)
    if not as_json:
        show_problems(checked.warnings, err=True)
        _show(found, plans)
    folder = path if path.is_dir() else path.parent
    replaced = {} if dry_run else _write(folder, instead)
    outcome: Mapping[str, Any] = {"state": "dry_run", "text": ""}
    if not dry_run:
        try:
            outcome = _apply(settings, held, checked.digest.hex(), why, within_s)
        finally:
            if outcome["state"] in ("dry_run", "refused", "rolled_back"):
                _write(folder, replaced)
    if as_json:
        print_json(Answer(
            state=outcome["state"], text=outcome["text"], old=held.digest.hex(), new=checked.digest.hex(),
            differences=found, scan_groups=tuple(map(PlannedGroup.of, plans)),
        ))  # fmt: skip
    else:
        _say(outcome)
    if outcome["state"] in ("refused", "rolled_back"):
        raise SystemExit(EXIT_NO)


def _seconds(text: str) -> float:
    try:
        return 0.0 if text == "0" else parse_duration_ns(text) / 1e9
    except ValueError as error:
        raise click.UsageError(f"--within: {error}") from error


def _files(held: HeldConfiguration) -> Mapping[str, bytes]:
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in held.files.items()}
    if digest_of(digests) != held.digest:
        raise Failure(f"the files of configuration {held.digest.hex()[:16]} are not kept whole")
    return held.files


def _write(folder: Path, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Write the files, all or none; what they held before."""
    replaced: dict[str, bytes] = {}
    try:
        for name, data in files.items():
            path = folder / name
            before = path.read_bytes() if path.exists() else b""
            if before != data:
                replace_like(path, data, path if path.exists() else folder)
                replaced[name] = before
    except OSError as error:
        if replaced:
            _write(folder, replaced)
        raise Failure(
            f"{error.filename or folder} cannot be written, and nothing was changed: {error.strerror}"
        ) from error
    return replaced


def _plans(checked: Checked, found: Sequence[Difference]) -> list[GroupPlan]:
    names = {plan.device for plan in checked.plans}
    differ = {name for name in names if any(_is_of(each.path, name) for each in found)}
    return [plan for plan in checked.plans if plan.device in differ]


def _is_of(path: str, device: str) -> bool:
    start = f"devices[{device}]"
    return path == start or path.startswith((f"{start}.", f"{start}["))


def _show(found: Sequence[Difference], plans: Sequence[GroupPlan]) -> None:
    for each in found[:_SHOWN]:
        click.echo(printable(changed(each.path, each.old, each.new)))
    if len(found) > _SHOWN:
        click.echo(f"and {len(found) - _SHOWN:,} more: tidegate diff lists all")
    click.echo(counted(len(found), "difference") if found else "no value differs")
    for plan in plans:
        click.echo(
            printable(f"{plan.device}, {plan.group}: {cost_line([plan])} every {format_duration(plan.every_ns)}")
        )


def _apply(
    settings: GatewaySettings, held: HeldConfiguration, digest: str, why: str, within_s: float
) -> Mapping[str, Any]:
    """What came of it, as the gateway says: see `edge.gateway.apply.Progress`."""
    claimed = os.environ.get("SUDO_USER") or os.environ.get("DOAS_USER") or ""
    if not held.is_running:
        account = claimed_account(account_name(os.getuid()), claimed)
        set_pending(settings.gateway.state, Pending(digest=digest, account=account, why=why))
        return {"state": "restart", "text": "no gateway runs", "restart": ()}
    begin = Request(ask="apply", device="", digest=digest, why=why, within=str(within_s), claimed=claimed)
    with unless_stopped("the gateway goes on with it"), Progress(settings.gateway.name, "devices answer") as shown:
        return asyncio.run(_ask_until_done(settings.gateway.control_socket, begin, shown))


async def _ask_until_done(socket: Path, begin: Request, shown: Progress) -> Mapping[str, Any]:
    try:
        await ask(socket, begin)
        while (progress := await ask(socket, Request(ask="progress", device=""))) is not None:
            if progress["state"] != "running":
                return progress
            shown.say(": ".join(filter(None, (", ".join(progress["waiting_for"]), progress["text"]))))
            await asyncio.sleep(_LOOK_EVERY_S)
    except GatewayRefuses as error:
        raise Failure(str(error)) from error
    raise Failure("the gateway ended meanwhile, and its next start takes the files as they are")


def _say(outcome: Mapping[str, Any]) -> None:
    state, text = outcome["state"], printable(outcome["text"])
    match state:
        case "dry_run":
            click.echo("nothing was changed yet")
        case "applied" | "unchanged":
            click.echo(text)
        case "restart":
            why = f"{', '.join(outcome['restart'])} cannot change while it runs" if outcome["restart"] else text
            click.echo(f"{why}: the next start takes it into use, and who and why are kept for that")
        case "refused":
            click.echo("\n".join([*map(printable, outcome["problems"]), f"refused: {text}"]), err=True)
        case _:
            click.echo(f"the configuration before runs again: {text}", err=True)
