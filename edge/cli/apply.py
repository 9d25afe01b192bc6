"""`tidegate apply`: take a changed configuration into use while the gateway runs."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click

from edge.accounts import claimed_name, own_account
from edge.approval.sshsig import Refused
from edge.cli import EXIT_NO
from edge.cli.change_file import ChangeFile, read_change
from edge.cli.check import PlannedGroup, show_problems
from edge.cli.diff import Difference, waiting_sections, waits_for_start
from edge.cli.output import Failure, print_json
from edge.cli.progress import Progress, unless_stopped
from edge.cli.put_files import PutFiles
from edge.cli.running import HeldConfiguration, held_configuration
from edge.config.check import Checked, check
from edge.config.check_process import Site
from edge.config.devices import GroupPlan
from edge.config.kept import Pending, digest_of, part_names, set_pending, unpack
from edge.config.proposal import plan_line, plans_that_differ, proposal_body
from edge.config.settings import GatewaySettings
from edge.config.written import differences
from edge.errors import ConfigError
from edge.gateway.approvals import approved, list_on_record
from edge.gateway.configurations import check_reason
from edge.gateway.control import GatewayRefuses, GatewaySilent, Request, ask
from edge.seal.approval import Approval
from edge.sentences import changed
from edge.terminal import printable
from edge.units import counted, parse_duration_ns

EXAMPLE = """\b
Examples:
  tidegate apply /etc/tidegate/line-4.yaml --dry-run
  tidegate apply /etc/tidegate/line-4.yaml --why "change request 1207: new range of TT-101"
  tidegate apply /etc/tidegate/line-4.yaml --previous 1 --why "1207 is taken back"
  tidegate apply line-4-5d1f0a7c.change

Exit code 0: it is as the answer says. 1: nothing was changed, or the configuration before has returned. 2: usage.
78: the configuration has problems."""

_GOES_ON = "the gateway goes on with it, and tidegate status says what comes of it"
_ENDED = "the gateway ended meanwhile: its next start takes the files as they are, and knows for whom and why"
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
    waits_for_start: tuple[str, ...]
    """Sections that differ and cannot change while the gateway runs: the next start takes all of it into use."""


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

    CONFIG may also be a change that tidegate propose wrote and a second person signed: FILE.sig is beside it.
    Who asked, why, and each change go on record first. Where another section than devices differs, or no gateway runs,
    the next start takes it into use, and who and why are kept for that.
    """
    within_s = _seconds(within)
    if (proposed := read_change(path)) is not None:
        if why:
            raise click.UsageError("--why: the reason is in the change, and was approved with it")
        path, why = Path(proposed.change.files), proposed.change.why
    configuration = changed_configuration(path, previous)
    checked, held, instead = configuration
    settings = checked.gateway()
    try:
        check_reason(why, is_regulated=settings.gateway.regulated and not dry_run)
    except ConfigError as error:
        raise click.UsageError(f"--why: {error}") from error
    found = tuple(Difference(path=path, old=old, new=new)
                  for path, old, new in differences(held.document, unpack(checked.pack())))  # fmt: skip
    plans = plans_that_differ(checked, (each.path for each in found))
    if not as_json:
        show_problems(checked.warnings, err=True)
        _show(found, plans)
    asked = _asked(checked, why, proposed)
    if dry_run and proposed is not None and not as_json:
        click.echo(_judged(path, configuration, asked))
    if dry_run:
        outcome: Mapping[str, Any] = {"state": "dry_run", "text": "", "restart": waiting_sections(found)}
    else:
        files = _put(path if path.is_dir() else path.parent, instead)
        outcome = _apply(settings, path, configuration, asked, within_s, files)
    if as_json:
        print_json(Answer(
            state=outcome["state"], text=outcome["text"], old=held.digest.hex(), new=checked.digest.hex(),
            differences=found, scan_groups=tuple(map(PlannedGroup.of, plans)),
            waits_for_start=tuple(outcome["restart"]),
        ))  # fmt: skip
    else:
        _say(outcome)
        if outcome["state"] == "rolled_back" and not instead:
            click.echo("the files stay as they are written; --previous 0 writes those that run", err=True)
    if outcome["state"] in ("refused", "rolled_back"):
        raise SystemExit(EXIT_NO)


class ChangedConfiguration(NamedTuple):
    """The configuration at a path, the one that runs, and what the files would be first."""

    checked: Checked
    held: HeldConfiguration
    instead: Mapping[str, bytes | None]


def changed_configuration(path: Path, previous: int | None) -> ChangedConfiguration:
    """What is to be taken into use: the files at the path, or those of an earlier configuration put there.

    Raises:
        ConfigError: it has problems.
        Failure: what runs is not known, or the earlier one is not kept.
    """
    checked = check(path, device=None if previous is None else "", kind="gateway")
    settings = checked.gateway()
    held = held_configuration(settings)
    if previous is None:
        return ChangedConfiguration(checked, held, {})
    earlier = held_configuration(settings, previous)
    # A file that has come since goes.
    instead = {**dict.fromkeys(part_names(path) if path.is_dir() else ()), **_files(earlier)}
    checked = check(path, kind="gateway", instead=instead)
    if not checked.errors and checked.digest != earlier.digest:
        raise Failure(f"{path} is not where configuration {earlier.digest.hex()[:16]} was: with its files it would "
                      "be another; name the file or directory that the gateway was started with")  # fmt: skip
    checked.gateway()
    return ChangedConfiguration(checked, held, instead)


def _asked(checked: Checked, why: str, proposed: ChangeFile | None) -> Pending:
    """Who asks for what, and with which approval."""
    account = own_account()
    if proposed is None:
        return Pending(digest=checked.digest.hex(), account=account, why=why)
    return Pending(digest=proposed.change.new, account=account, why=why, change=proposed.change.head,
                   sha256=proposed.sha256, signature=proposed.signature)  # fmt: skip


def _judged(path: Path, changed: ChangedConfiguration, asked: Pending) -> str:
    """Who approved it, as a sentence; the gateway judges again, by itself. Raises Failure."""
    checked, held = changed.checked, changed.held
    proposal = proposal_body(checked, held.document) if asked.change else ""
    site = Site(settings=checked.gateway(), digest=checked.digest, warnings=(), proposal=proposal,
                folder=path if path.is_dir() else path.parent)  # fmt: skip
    was_regulated, file = list_on_record(site)
    try:
        found = approved(asked, site, held.digest, file, time.time_ns(), is_regulated=was_regulated)
    except Refused as error:
        raise Failure(str(error)) from error
    approval = None if found is None else Approval.from_bytes(found)
    return "" if approval is None else f"approved by {approval.name}, {approval.role}"


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


def _put(folder: Path, files: Mapping[str, bytes | None]) -> PutFiles:
    try:
        return PutFiles(folder, files)
    except OSError as error:
        raise Failure(
            f"{error.filename or folder} cannot be written, and nothing was changed: {error.strerror}"
        ) from error


def _put_back(files: PutFiles) -> None:
    try:
        files.put_back()
    except OSError as error:
        raise Failure(f"{error.filename} cannot be written: {error.strerror}; what was there before has a name that "
                      "ends with .before") from error  # fmt: skip


def _show(found: Sequence[Difference], plans: Sequence[GroupPlan]) -> None:
    for each in found[:_SHOWN]:
        click.echo(printable(changed(each.path, each.old, each.new)))
    if len(found) > _SHOWN:
        click.echo(f"and {len(found) - _SHOWN:,} more: tidegate diff lists all")
    click.echo(counted(len(found), "difference") if found else "no value differs")
    for plan in plans:
        click.echo(printable(plan_line(plan)))


def _apply(
    settings: GatewaySettings,
    path: Path,
    changed: ChangedConfiguration,
    asked: Pending,
    within_s: float,
    files: PutFiles,
) -> Mapping[str, Any]:
    """What came of it, as the gateway says: see `edge.gateway.apply.Progress`. Files go back where nothing did."""
    is_begun = False

    async def ask_until_done(shown: Progress) -> Mapping[str, Any]:
        nonlocal is_begun
        begin = Request(
            ask="apply", device="", digest=asked.digest, why=asked.why, within=str(within_s), claimed=claimed_name(),
            change=asked.change, sha256=asked.sha256, signature=asked.signature,
        )  # fmt: skip
        try:
            is_begun = True  # Ctrl-C does not take back what was asked.
            is_begun = await ask(socket, begin) is not None
        except GatewaySilent:  # It may have begun before it ended.
            raise
        except GatewayRefuses:
            is_begun = False
            raise
        while (progress := await ask(socket, Request(ask="progress", device=""))) is not None:
            if progress["state"] != "running":
                is_begun = progress["state"] not in ("refused", "rolled_back")
                return progress
            shown.say(": ".join(filter(None, (", ".join(progress["waiting_for"]), progress["text"]))))
            await asyncio.sleep(_LOOK_EVERY_S)
        raise Failure(_ENDED if is_begun else "the gateway ended meanwhile, and nothing was changed")

    socket = settings.gateway.control_socket
    try:
        if not changed.held.is_running:
            _judged(path, changed, asked)
            set_pending(settings.gateway.state, asked)
            is_begun = True
            return {"state": "restart", "text": "no gateway runs", "restart": ()}
        with unless_stopped(_GOES_ON), Progress(settings.gateway.name, "devices answer") as shown:
            return asyncio.run(ask_until_done(shown))
    except GatewayRefuses as error:
        raise Failure(_ENDED if is_begun else str(error)) from error
    except OSError as error:
        raise Failure(f"who and why cannot be kept, and nothing was changed: {error}") from error
    finally:
        if is_begun:
            files.keep()
        else:
            _put_back(files)


def _say(outcome: Mapping[str, Any]) -> None:
    state, text = outcome["state"], printable(outcome["text"])
    match state:
        case "dry_run":
            if outcome["restart"]:
                click.echo(waits_for_start(outcome["restart"]))
            click.echo("nothing was changed yet")
        case "applied" | "unchanged":
            click.echo(text)
        case "restart":
            waiting = outcome["restart"]
            what = waits_for_start(waiting) if waiting else f"{text}: the next start takes it into use"
            click.echo(f"{what}, and who and why are kept for that")
        case "refused":
            click.echo("\n".join([*map(printable, outcome["problems"]), f"refused: {text}"]), err=True)
        case _:
            click.echo(f"the configuration before runs again: {text}", err=True)
