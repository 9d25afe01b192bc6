"""`tidegate support`: one file for somebody who helps from afar, without a secret in it."""

from __future__ import annotations

from pathlib import Path

import click

from edge.cli.output import ExistingPath, Failure, print_json
from edge.terminal import aligned
from edge.units import format_size

ANSWER = "edge.doctor.support:SupportAnswer"


@click.command(
    epilog="""\b
Examples:
  tidegate support configs/line-4.yaml --to line-4.tar.gz
  sudo tidegate support --to /root/line-4.tar.gz

Exit code 0: the file is written. 1: it cannot be."""
)
@click.argument("config", required=False, type=ExistingPath(path_type=Path, readable=False))
@click.option("--to", "file", required=True, metavar="FILE.tar.gz", type=click.Path(path_type=Path),
              help="The new file; it must not exist yet.")  # fmt: skip
@click.option("--log", "logs", multiple=True, metavar="FILE",
              type=ExistingPath(path_type=Path, dir_okay=False),
              help="A file with a log besides the journal. May be repeated.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print what is in it as one JSON object.")
def command(config: Path | None, file: Path, logs: tuple[Path, ...], *, as_json: bool) -> None:
    """Pack log, status, configuration, versions and what doctor finds into one file, and list what is in it.

    CONFIG is the configuration of a gateway or relay; by default the one in /etc/tidegate. Passwords, keys and other
    secrets are left out, and so are values of tags. Nothing is sent: look into the file, then send it yourself.
    """
    from edge.cli.doctor import patient_of
    from edge.doctor.support import pack

    patient = patient_of(config)
    try:
        answer = pack(patient, file, logs)
    except FileExistsError as error:
        raise Failure(f"{file} is there already; name a new file, or remove it") from error
    except OSError as error:
        raise Failure(f"{error.filename or file} cannot be used: {error.strerror}") from error
    if as_json:
        print_json(answer)
        return
    click.echo("\n".join(aligned([(each.name, format_size(each.size_bytes), each.what) for each in answer.members])))
    for each in answer.unread_secrets:
        click.echo(f"what is in it could not be looked for: {each}; run it as root", err=True)
    click.echo(
        f"{answer.file}, {format_size(answer.size_bytes)}: nothing was sent. Look into it with tar -xzf, then send it."
    )
