"""`tidegate impact`: what an instrument touched that is found out of tolerance."""

from __future__ import annotations

from datetime import tzinfo
from pathlib import Path

import click

from edge.cli import EXIT_NO
from edge.cli.output import ExistingPath, print_json
from edge.cli.progress import Progress, unless_stopped
from edge.cli.report import files_of, read_files, report_of
from edge.cli.time_range import range_options, window_of
from edge.config.messages import choices
from edge.export.impact import Batches, ImpactAnswer, Touched, TouchedTag, instruments
from edge.export.selection import Selection
from edge.references import TrustPath, trust_path
from edge.report.collect import Collector
from edge.report.times import Times
from edge.seal.record import ISSUER_PREFIX
from edge.terminal import printable
from edge.units import counted
from edge.verify import Judgement, Trust

ANSWER = ImpactAnswer


@click.command(
    epilog="""\b
Examples:
  tidegate impact archive/ --trust trusted/ --instrument TT-101 --from 2026-01-31T06:00Z --to 2026-03-31T14:00Z
  tidegate impact archive/ --trust trusted/ --instrument TT-101 --from 2026-01-31 --zone Europe/Zurich --json

Exit code 0: listed, and the range is complete and unaltered. 1: listed, and it is not, so that more may be touched.
2: usage. 78: a trust anchor cannot be used."""
)
@click.argument("archive", type=ExistingPath(path_type=Path))
@click.option("--trust", "anchors", multiple=True, required=True, type=trust_path, metavar="[GATEWAY=]PATH",
              help="Public key, CA certificate, revocation list, or a directory of them; may be repeated.")  # fmt: skip
@click.option("--instrument", required=True, metavar="ID", help="Id of the instrument, such as TT-101.")
@range_options()
@click.option("--gateway", help="Only this gateway.")
@click.option("--json", "as_json", is_flag=True, help="The answer as one JSON object.")
def command(
    archive: Path, *, anchors: tuple[TrustPath, ...], instrument: str, start: str | None, end: str | None,
    zone: tzinfo | None, gateway: str | None, as_json: bool,
) -> None:  # fmt: skip
    """List the readings and batches that an instrument touched, and the calibrations that they had.

    ARCHIVE is the relay's archive, one gateway's folder in it, or a file of records. Only readings of authentic records
    are listed; a reading counts once for its tag each time it was read.
    """
    window = window_of(start, end, zone)
    trust, times, selection, batches = Trust.load(anchors), Times(zone), Selection(window), Batches()
    files, not_reported = files_of(archive, gateway, trust)

    def follow(path: Path, offset: int, length: int, judgements: list[Judgement]) -> None:
        selection.note(path, offset, length, judgements)
        batches.note(judgements)

    collector = Collector(trust, window, gateway=gateway, time_text=times.short, follower=follow)
    with unless_stopped("nothing was listed"), Progress("impact", "%") as progress:
        read_files(collector, files, gateway, trust, progress)
        times.begin_with(collector.begin_ns)
        report = report_of(collector, anchors, zone, not_reported)
        histories = {name.removeprefix(ISSUER_PREFIX): each.calibrations for name, each in collector.gateways.items()}
        _check_instrument(instrument, instruments(histories.values()))
        catalogues = {digest: each for held in collector.gateways.values()
                      for digest, each in held.readings.catalogues.items()}  # fmt: skip

        def say(done: int, of_all: int) -> None:
            progress.done = 100 * done // (of_all or 1)
            progress.say(f"looking for {instrument}")

        touched = Touched(instrument, histories)
        for block in touched.count(selection.read(catalogues, say)):
            batches.touch(block)
    tags, of_batches = touched.tags(), batches.touched()
    answer = ImpactAnswer(
        instrument=instrument, from_ns=report.from_ns, to_ns=report.to_ns, result=report.result,
        text=f"{_sentence(instrument, tags, len(of_batches))} {report.text}",
        readings=sum(each.readings for each in tags), tags=tags, batches=of_batches, batch_unknown=batches.unknown,
        left_out=dict(selection.left_out),
    )  # fmt: skip
    if as_json:
        print_json(answer)
    else:
        _show(answer, times)
    if report.result != "complete":
        raise SystemExit(EXIT_NO)


def _check_instrument(instrument: str, known: list[str]) -> None:
    if not known:
        raise click.UsageError("no instrument is on record here: tags name theirs with the key instrument")
    if instrument not in known:
        raise click.UsageError(f"--instrument: none on record is called {instrument!r}; {choices(instrument, known)}")


def _sentence(instrument: str, tags: tuple[TouchedTag, ...], batches: int) -> str:
    readings = sum(each.readings for each in tags)
    if not readings:
        return f"{instrument}: no reading of the range was taken with it."
    places = len({(each.gateway, each.device, each.tag) for each in tags})
    within = f", in {batches:,} {'batch' if batches == 1 else 'batches'}" if batches else ""
    were = "was" if readings == 1 else "were"
    return f"{instrument}: {counted(readings, 'reading')} of {counted(places, 'tag')} {were} taken with it{within}."


def _show(answer: ImpactAnswer, times: Times) -> None:
    click.echo(printable(answer.text))
    for each in answer.tags:
        had = [f"certificate {each.certificate}" if each.certificate else "no certificate"]
        had += [f"calibrated {each.calibrated}"] * (each.calibrated is not None)
        had.append(f"due {each.due}" if each.due else "no due day")
        had += [f"tolerance {each.tolerance}"] * (each.tolerance != "")
        had += [f"{each.overdue:,} overdue"] * (each.overdue > 0)
        where = f"{each.gateway} {each.device}/{each.tag}"
        click.echo(printable(f"  {where}: {counted(each.readings, 'reading')}, "
                             f"{times.span(each.first_ns, each.last_ns)}"))  # fmt: skip
        click.echo(printable(f"    {', '.join(had)}"))
    for batch in answer.batches:
        click.echo(printable(f"  batch {batch.batch} on {batch.unit} ({batch.gateway}): "
                             f"{times.span(batch.first_ns, batch.last_ns)}"))  # fmt: skip
    if answer.batch_unknown:
        click.echo(f"  batch not known: {counted(answer.batch_unknown, 'scan')}")
    for reason, count in answer.left_out.items():
        click.echo(f"  left out: {counted(count, 'record')}, because {reason}")
