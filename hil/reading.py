"""The commands that read a report: render it again, and verify it."""

from __future__ import annotations

from pathlib import Path

import click

from edge.cli import EXIT_NO
from edge.seal.signed_file import FileSigner
from hil import folder as report_folder
from hil.document import Report
from hil.junit import junit_xml
from hil.page import headline

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(
    epilog="""\b
Examples:
  python -m hil report ./bench-2
  python -m hil report ./bench-2 --junit bench-2.xml --sign qa.pem

Exit code 0: every scenario passed. 1: one failed or was not played. 78: the report or the key cannot be used."""
)
@click.argument("folder", metavar="REPORT", type=_FOLDER)
@click.option("--junit", type=_FILE, help="Also write the results as JUnit XML.")
@click.option("--sign", "key", type=_FILE, help="Sign with this private key: P-256 or Ed25519, in PEM.")
def report(folder: Path, junit: Path | None, key: Path | None) -> None:
    """Render the page in the folder REPORT again from its JSON; the evidence is left as it is."""
    conclude(report_folder.render(folder, None if key is None else FileSigner.load(key)), folder, junit)


@click.command(
    epilog="""\b
Example:
  python -m hil verify ./bench-2 --trust qa.pub.pem

Exit code 0: the report and its evidence are as they were signed, whatever the verdict. 1: they are not.
78: the trust anchor cannot be used."""
)
@click.argument("folder", metavar="REPORT", type=_FOLDER)
@click.option("--trust", "anchor", required=True, type=_FILE, help="Public key of the signer, in PEM.")
def verify(folder: Path, anchor: Path) -> None:
    """Say whether the folder REPORT is as it was signed: its page, its JSON and every file of its evidence."""
    if problems := report_folder.check(folder, anchor):
        for problem in problems:
            click.echo(problem)
        raise SystemExit(EXIT_NO)
    found = report_folder.read(folder)
    click.echo(f"intact: {len(found.files):,} files of evidence, page and JSON, signed by {found.signer}")
    click.echo(f"rig {found.rig.name}: {found.verdict}. {headline(found)}")
    for each in (archive for scenario in found.scenarios for archive in scenario.archives):
        click.echo(each.command(f"{folder}/"))


def conclude(found: Report, folder: Path, junit: Path | None) -> None:
    """Say what a report says and where it is, write JUnit XML where it is asked for, and exit by the verdict."""
    if junit is not None:
        junit.write_bytes(junit_xml(found))
    click.echo(f"{found.verdict}: {headline(found)}")
    click.echo(f"the report is {folder / report_folder.PAGE}")
    if found.verdict != "PASSED":
        raise SystemExit(EXIT_NO)
