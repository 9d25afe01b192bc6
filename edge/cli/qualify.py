"""`tidegate qualify`: evidence from the installed machine, as a signed pack."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from edge.accounts import account_name, claimed_name
from edge.cli import EXIT_NO
from edge.cli.output import ExistingPath, print_json
from edge.cli.progress import Progress
from edge.errors import ConfigError
from edge.terminal import output_width, printable, wrap

if TYPE_CHECKING:
    from edge.doctor.examine import Patient
    from edge.qualify.checks import Check, Qualification
    from edge.seal.signed_file import FileSigner

ANSWER = "edge.qualify.checks:Qualification"
Part = Literal["iq", "oq", "pq"]
_LABEL = len("not applicable  ")
_WORDS = {"held": "held", "failed": "FAILED", "not_applicable": "not applicable"}


@click.command(
    epilog="""\b
Examples:
  tidegate qualify --out pack gateway.yaml
  tidegate qualify --out pack gateway.yaml --part oq
  sudo tidegate qualify --out /root/line-4-qualification --sign /root/qa.pem
  sudo tidegate qualify --out after-a-month --part pq --days 30 --sign qa.pem
  tidegate verify pack --trust qa.pub.pem

Exit code 0: every check held, or is not applicable. 1: a check failed. 2: usage. 78: the key cannot be used."""
)
@click.argument("config", required=False, type=ExistingPath(path_type=Path, readable=False))
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Directory of the pack: new, or empty.")  # fmt: skip
@click.option("--sign", "key", type=click.Path(path_type=Path), metavar="KEY",
              help="Sign the pack with a private key (Ed25519 or P-256, PEM).")  # fmt: skip
@click.option("--part", "parts", multiple=True, type=click.Choice(["iq", "oq", "pq"]),
              help="Only this part; may be repeated.")  # fmt: skip
@click.option("--days", type=click.IntRange(1, 3660), metavar="N",
              help="Add PQ: what the site did in the last N days, by its records.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The qualification as one JSON object.")
def command(config: Path | None, *, out: Path, key: Path | None, parts: tuple[Part, ...], days: int | None,
            as_json: bool) -> None:  # fmt: skip
    """Qualify the installed machine: how it is installed (IQ), whether it does what it promises (OQ), and what the site
    did (PQ).

    CONFIG is the configuration of a gateway or relay; by default the one in /etc/tidegate. Nothing is changed, and no
    device is asked: OQ has simulated devices, a broker, a gateway and a relay of its own on loopback, and takes half a
    minute. PQ reads the buffer of the gateway, or the archive of the relay. As root it sees everything.
    """
    from edge.cli.doctor import patient_of
    from edge.qualify import pack
    from edge.seal.signed_file import FileSigner

    if "pq" in parts and days is None:
        raise click.UsageError("--part pq needs --days N: what the site did in the last N days")
    wanted = set(parts or ("iq", "oq")) | ({"pq"} if days is not None else set[Part]())
    signer = FileSigner.load(key) if key is not None else None
    patient = patient_of(config)
    try:
        pack.prepare(out)
    except ConfigError as error:
        raise click.UsageError(f"--out: {error}") from None
    found = _qualify(patient, out, wanted, days or 0, signer, shown=not as_json)
    if as_json:
        print_json(found)
    else:
        for line in wrap(f"{found.text}. The pack is in {out}" + (", and not signed" * (signer is None)),
                         output_width()):  # fmt: skip
            click.echo(line)
    if found.result == "failed":
        raise SystemExit(EXIT_NO)


def _qualify(
    patient: Patient, out: Path, parts: Set[str], days: int, signer: FileSigner | None, *, shown: bool
) -> Qualification:
    from edge.qualify import pack
    from edge.qualify.checks import Qualification, perform, summary
    from edge.qualify.installation import Installation, build_of, installed_distribution
    from edge.qualify.operation import Operation
    from edge.qualify.performance import Performance

    began_ns, made_at_ns, own = time.monotonic_ns(), time.time_ns(), installed_distribution()
    checks: list[Check] = []
    with Progress("qualify", "checks") as progress:

        def take(check: Check) -> None:
            checks.append(check)
            progress.done = len(checks)
            if shown:
                progress.clear()
                _show(check)

        if "iq" in parts:
            for task in Installation(patient, own).tasks():
                progress.say(f"{task.id} {task.title}")
                take(perform(task, out))
        if "oq" in parts:
            Operation(out, progress.say).run(take)
        if "pq" in parts and patient.settings is not None:
            Performance(patient.settings, days, patient.version, progress.say).run(out, take)
    text = summary(tuple(checks))
    found = Qualification(
        result="failed" if any(each.verdict == "failed" for each in checks) else "held", text=text,
        name=patient.checked.name, kind=patient.checked.kind, host=platform.node(), config=patient.config,
        configuration=patient.checked.digest.hex(), version=patient.version, build=build_of(own), made_by=_account(),
        made_at_ns=made_at_ns, took_ns=time.monotonic_ns() - began_ns, signer="", checks=tuple(checks),
    )  # fmt: skip
    return pack.write(out, found, signer)


def _account() -> str:
    """Who runs it: the account, and by its own word the one behind it."""
    claimed = claimed_name()
    return account_name(os.getuid()) + (f" (for {printable(claimed)})" if claimed else "")


def _show(check: Check) -> None:
    """A check on the screen; what held takes one line."""
    width = output_width()
    lines = wrap(f"{_WORDS[check.verdict]:\N{NO-BREAK SPACE}<{_LABEL}}{check.id} {check.title}", width, _LABEL)
    if check.verdict != "held":
        lines += [f"{' ' * _LABEL}{line}" for line in wrap(printable(check.found), max(width - _LABEL, 20))]
    for number, line in enumerate(lines):
        is_red = number == 0 and check.verdict == "failed"
        click.echo(click.style(line, fg="red") if is_red else line)
