"""`tidegate review`: write of a range of an archive that it was reviewed, as a text that is signed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path

import click

from edge.accounts import own_account
from edge.approval.review import NAMESPACE, Review
from edge.cli.output import ExistingPath, Failure, print_json
from edge.cli.progress import Progress
from edge.cli.report import files_of, read_files, report_of
from edge.cli.time_range import range_options, window_of
from edge.files import make_directory
from edge.references import TrustPath, trust_path
from edge.report.collect import Collector
from edge.report.facts import Result
from edge.report.reviews import DIRECTORY, SUFFIX, ReviewedRecords
from edge.seal import issuer_of
from edge.units import format_utc
from edge.verify import Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `tidegate review` wrote."""

    file: str
    """The text to sign."""
    gateway: str
    result: Result
    text: str
    """What the report says of the range; it is in the text."""


ANSWER = Answer


@click.command(
    epilog="""\b
Examples:
  tidegate review /var/lib/tidegate-relay --trust line-4.pub.pem --from 2026-01-31 --to 2026-02-01 --zone UTC \\
      --text "gap at 08:12 is the planned stop, see deviation 88"

Exit code 0: it is written. 1: nothing is held in the range. 2: usage. 78: a trust anchor cannot be used."""
)
@click.argument("archive", type=ExistingPath(path_type=Path, file_okay=False))
@click.option("--trust", "anchors", multiple=True, required=True, type=trust_path, metavar="[GATEWAY=]PATH",
              help="Public key, CA certificate, revocation list, or a directory of them; may be repeated.")  # fmt: skip
@range_options()
@click.option("--gateway", help="The gateway, where the archive has several.")
@click.option("--text", "note", required=True, help="What was found.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def command(
    archive: Path, *, anchors: tuple[TrustPath, ...], start: str | None, end: str | None, zone: tzinfo | None,
    gateway: str | None, note: str, as_json: bool,
) -> None:  # fmt: skip
    """Write that a range was reviewed, with what the report says of it and the hashes of its records, to be signed.

    The text lies beside the records, in ARCHIVE/GATEWAY/reviews. tidegate report shows it once it is signed, and says
    where the records are no longer those that were reviewed.
    """
    window = window_of(start, end, zone)
    trust = Trust.load(anchors)
    files, not_reported = files_of(archive, gateway, trust)
    folders = list(dict.fromkeys(each.parent for each in files))
    if len(folders) > 1:
        raise click.UsageError(
            f"--gateway is missing: a review is of one of {', '.join(each.name for each in folders)}"
        )
    records = ReviewedRecords(window)
    collector = Collector(trust, window, gateway=gateway, follower=records.note)
    with Progress("review", "%") as progress:
        read_files(collector, files, gateway, trust, progress)
    report = report_of(collector, anchors, zone, not_reported)
    found = report.gateways[0] if report.gateways else None
    heads = () if found is None else tuple(records.heads(issuer_of(found.gateway), collector))
    if found is None or not heads:
        raise Failure("nothing that is authentic is held in this range: there is nothing to review")
    review = Review(
        gateway=found.gateway, by=own_account(), at=format_utc(report.made_at_ns), begin=_text(found.from_ns),
        end=_text(found.to_ns), answer=found.text, note=note, heads=heads,
    )  # fmt: skip
    folder = folders[0] / DIRECTORY
    file = folder / f"{review.at.replace(':', '')}{SUFFIX}"
    try:
        make_directory(folder, 0o755)
        with file.open("x", encoding="utf-8") as opened:
            opened.write(review.text)
    except OSError as error:
        raise click.UsageError(f"{file} cannot be written: {error.strerror}") from None
    if as_json:
        print_json(Answer(file=str(file), gateway=found.gateway, result=found.result, text=found.text))
        return
    click.echo(found.text)
    click.echo(f"{file} is to be read and signed:")
    click.echo(f"  ssh-keygen -Y sign -n {NAMESPACE} -f KEY {file}")


def _text(utc_ns: int | None) -> str:
    return "" if utc_ns is None else format_utc(utc_ns, decimals=3)
