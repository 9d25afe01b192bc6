"""`tidegate workbook`: the devices and tags of a configuration as a workbook."""

from __future__ import annotations

from pathlib import Path

import click

from edge.cli.output import Failure
from edge.files import named_in_errors
from edge.importers.workbook import workbook
from edge.tags.site import read_site
from edge.terminal import printable
from edge.units import counted

EXAMPLE = """\b
Examples:
  tidegate workbook configs/line-4.yaml line-4.xlsx
  tidegate import configs/line-4.yaml line-4.xlsx --mode merge-overwrite --dry-run

Exit code 0: the workbook is written. 1: it is there already; nothing was changed. 78: the configuration cannot be
used."""


@click.command(epilog=EXAMPLE)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
def command(config: Path, file: Path) -> None:
    """Write the devices and tags of CONFIG into a workbook (XLSX), to edit them in a spreadsheet.

    One sheet has a device a row, the other a tag a row; every cell is a text. What a workbook does not hold is said,
    and stays in CONFIG: secrets, settings of scan groups, devices that are made of a type. `tidegate import` brings
    the workbook back.
    """
    if file.suffix.lower() != ".xlsx":
        raise click.UsageError(f"{file}: a workbook ends with .xlsx")
    site = read_site(config)
    sheets = site.sheets()
    data = workbook(sheets)
    try:
        with named_in_errors(file), file.open("xb") as new:
            new.write(data)
    except FileExistsError as error:
        raise Failure(f"{file} is there already; nothing was changed") from error
    for note in site.notes():
        click.echo(f"note: {printable(note)}", err=True)
    devices, tags = (len(each.rows) for each in sheets)
    click.echo(f"{file}: {counted(devices, 'device')}, {counted(tags, 'tag')}")
