"""`tidegate propose`: write a changed configuration as a text that a second person reads and signs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import click

from edge.accounts import own_account
from edge.approval.change import NAMESPACE, Change
from edge.cli.apply import changed_configuration
from edge.cli.check import show_problems
from edge.cli.diff import Difference
from edge.cli.output import Failure, print_json
from edge.config.kept import unpack
from edge.config.proposal import proposal_body
from edge.config.written import differences
from edge.errors import ConfigError
from edge.gateway.configurations import check_reason
from edge.units import counted, format_utc


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `tidegate propose` wrote."""

    file: str
    """The text to sign."""
    proposed_by: str
    old: str
    """SHA-256 of the configuration that runs."""
    new: str
    """SHA-256 of the one that is proposed."""
    differences: tuple[Difference, ...]


ANSWER = Answer


@click.command(
    epilog="""\b
Examples:
  tidegate propose /etc/tidegate/line-4.yaml --why "change request 1207: new range of TT-101"
  tidegate propose /etc/tidegate/line-4.yaml --why "1207 is taken back" --previous 1 --to back.change

Exit code 0: it is written. 1: there is nothing to propose. 2: usage. 78: the configuration has problems."""
)
@click.argument("path", metavar="CONFIG", type=click.Path(path_type=Path))
@click.option("--why", required=True, help="The reason, which is signed and goes on record.")
@click.option("--to", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Where to write it; by default GATEWAY-HASH.change in this directory.")  # fmt: skip
@click.option("--previous", type=click.IntRange(0), metavar="N",
              help="Propose the configuration N before the one that runs; apply it with --previous, too.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def command(path: Path, *, why: str, to: Path | None, previous: int | None, as_json: bool) -> None:
    """Write what is different in CONFIG, who changed it and why, as a text that a second person signs to approve it.

    The text names the gateway and the hashes of both configurations: its signature approves exactly this change.
    """
    found = changed_configuration(path, previous)
    checked, held = found.checked, found.held
    try:
        check_reason(why, is_regulated=checked.gateway().gateway.regulated)
    except ConfigError as error:
        raise click.UsageError(f"--why: {error}") from error
    if checked.digest == held.digest:
        raise Failure("the files are those of the configuration that runs: there is nothing to propose")
    change = Change(
        gateway=checked.name, proposed_by=own_account(),
        at=format_utc(time.time_ns()), why=why, files=str(path.absolute()), old=held.digest.hex(),
        new=checked.digest.hex(),
    )  # fmt: skip
    to = to or Path(f"{checked.name}-{change.new[:8]}.change")
    try:
        with to.open("x", encoding="utf-8") as file:
            file.write(change.head + proposal_body(checked, held.document))
    except FileExistsError:
        raise Failure(f"{to} is there already, and may be signed: name another file with --to") from None
    except OSError as error:
        raise click.UsageError(f"{to} cannot be written: {error.strerror}") from None
    differ = tuple(Difference(path=at, old=old, new=new)
                   for at, old, new in differences(held.document, unpack(checked.pack())))  # fmt: skip
    if as_json:
        print_json(Answer(file=str(to), proposed_by=change.proposed_by, old=change.old, new=change.new,
                          differences=differ))  # fmt: skip
        return
    show_problems(checked.warnings, err=True)
    click.echo(f"{counted(len(differ), 'difference')}; {to} is to be read and signed by a second person:")
    click.echo(f"  ssh-keygen -Y sign -n {NAMESPACE} -f KEY {to}")
    click.echo(f"Then: tidegate apply {to}")
