"""`tidegate report`: what is true of a range of an archive, to read, to keep and to sign."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import tzinfo
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path

import click
from rich.console import Console

from edge.approval.signers import Signers
from edge.cli import EXIT_NO
from edge.cli.approvals import approvers_option
from edge.cli.batch import batch_options, batch_slice, check_unit
from edge.cli.output import ExistingPath, json_bytes, print_json
from edge.cli.progress import Progress
from edge.cli.time_range import range_options, window_of
from edge.clock import SystemClock
from edge.config.messages import choices
from edge.errors import ConfigError
from edge.files import named_in_errors, replace_file
from edge.references import TrustPath, trust_path
from edge.relay.archive import gateways, record_files
from edge.relay.removals import statements_in
from edge.report.answer import Asked, range_report
from edge.report.collect import Collector
from edge.report.facts import FileAnswer, RangeReport
from edge.report.page import Signer, report_page
from edge.report.reviews import ReviewedRecords, reviews_in, wanted_by, with_reviews
from edge.report.text import report_lines
from edge.report.times import Times
from edge.seal import issuer_of
from edge.seal.signed_file import FileSigner
from edge.terminal import PIPE_WIDTH
from edge.verify import Trust
from edge.verify.trust import trust_files

_OUTPUT = click.Path(path_type=Path, dir_okay=False, writable=True)
ANSWER = RangeReport


@click.command(
    epilog="""\b
Examples:
  tidegate report /var/lib/tidegate-relay --trust line-4.pub.pem --from 2026-01-31T06:00Z --to 2026-01-31T14:00Z
  tidegate report archive/ --trust trusted/ --gateway line-4 --zone Europe/Zurich --from 2026-01-31 --to 2026-02-01
  tidegate report archive/ --trust trusted/ --from 2026-01-31T06:00Z --to 2026-01-31T14:00Z --tags 'plc-1/*'
  tidegate report archive/ --trust trusted/ --batch B-2041 --html batch.html --sign qa.pem

Exit code 0: the range is complete and unaltered. 1: it is not. 2: usage. 78: a trust anchor cannot be used."""
)
@click.argument("archive", type=ExistingPath(path_type=Path))
@click.option("--trust", "anchors", multiple=True, required=True, type=trust_path, metavar="[GATEWAY=]PATH",
              help="Public key, CA certificate, revocation list, or a directory of them; may be repeated.")  # fmt: skip
@range_options()
@batch_options
@click.option("--gateway", help="Only this gateway.")
@click.option("--tags", "pattern", is_flag=False, flag_value="*", metavar="[PATTERN]",
              help="A row for each tag, or for those whose DEVICE/TAG has this pattern: 'plc-1/*'.")  # fmt: skip
@click.option("--html", type=_OUTPUT, metavar="FILE", help="Write the report as a page to read, print and sign.")
@click.option("--json-to", type=_OUTPUT, metavar="FILE", help="Write the report as JSON to a file.")
@click.option("--sign", "key", type=click.Path(path_type=Path), metavar="KEY",
              help="Sign these files with a private key (Ed25519 or P-256, PEM); writes FILE.sig.")  # fmt: skip
@approvers_option
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def command(
    archive: Path, *, anchors: tuple[TrustPath, ...], start: str | None, end: str | None, zone: tzinfo | None,
    batch: str | None, unit: str | None, gateway: str | None, pattern: str | None, html: Path | None,
    json_to: Path | None, key: Path | None, approvers: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Say whether the data of a range is complete and unaltered, whether the clock was right, and who changed what.

    ARCHIVE is the relay's archive, one gateway's folder in it, or a file of records. With --batch the range is that of
    the batch, and only its readings count.
    """
    window = window_of(start, end, zone)
    check_unit(batch, unit)
    signer = _signer(key, html, json_to)
    trust = Trust.load(anchors)
    times = Times(zone)
    files, not_reported = files_of(archive, gateway, trust)
    reviews = reviews_in(dict.fromkeys(each.parent for each in files))
    with Progress("report", "%") as progress:
        chosen = None if batch is None else batch_slice(files, trust, gateway, (batch, unit), window, progress)
        window = window if chosen is None else chosen.window
        reviewed = ReviewedRecords(window, wanted_by(reviews))
        collector = Collector(trust, window, gateway=gateway, time_text=times.short, batch=chosen,
                              follower=reviewed.note if reviews else None)  # fmt: skip
        read_files(collector, files, gateway, trust, progress)
    times.begin_with(collector.begin_ns)
    wanted = _wanted("*" if pattern is None and batch is not None else pattern)
    report = report_of(collector, anchors, zone, not_reported, wanted)
    report = with_reviews(report, reviews, reviewed, collector, None if approvers is None else Signers.read(approvers))
    if html is not None:
        _write(html, report_page(report, times, None if signer is None else signer.named(html)).encode(), signer)
    if json_to is not None:
        _write(json_to, json_bytes(report), signer)
    if as_json:
        print_json(report)
    else:
        _show(report, times)
    if report.result != "complete":
        raise SystemExit(EXIT_NO)


class _Signer(FileSigner):
    """The key that signs what is written."""

    def named(self, file: Path) -> Signer:
        """What the page says of it."""
        return Signer(public_pem=self.public_pem, fingerprint=self.fingerprint, file=file.name,
                      signature=signature_of(file).name)  # fmt: skip


def signature_of(file: Path) -> Path:
    """The file of a signature."""
    return file.with_name(f"{file.name}.sig")


def _signer(key: Path | None, *files: Path | None) -> _Signer | None:
    for file in files:
        if file is not None and not file.parent.is_dir():
            raise click.UsageError(f"{file} cannot be written: there is no directory {file.parent}")
    if key is None:
        return None
    if not any(files):
        raise click.UsageError("--sign signs a file: name it with --html FILE or --json-to FILE")
    try:
        return _Signer.load(key)
    except ConfigError as error:
        raise click.UsageError(f"--sign: {error}") from None


def _write(file: Path, data: bytes, signer: _Signer | None) -> None:
    try:
        replace_file(file, data, 0o644)
        if signer is not None:
            replace_file(signature_of(file), signer.sign(data), 0o644)
    except OSError as error:
        raise click.UsageError(f"{file} cannot be written: {error.strerror}") from None


def files_of(archive: Path, gateway: str | None, trust: Trust) -> tuple[list[Path], tuple[str, ...]]:
    """The files to read, and the gateways for which no trust anchor was given."""
    if archive.is_dir() and any(archive.glob("*.seg")):
        raise click.UsageError(f"{archive} is the buffer of a gateway: `tidegate verify` and `tidegate log` read it; a "
                               "report is about what the relay has archived")  # fmt: skip
    found = record_files(archive, gateway)
    if not found:
        held = gateways(archive) if archive.is_dir() else []
        if gateway and held:
            raise click.UsageError(f"{archive} holds no gateway {gateway!r}; {choices(gateway, held)}")
        raise click.UsageError(f"{archive} holds no records: no day files, and no folders of gateways")
    names = [path.parent.name for path in found]
    is_archive = archive.is_dir() and all(path.parent.parent == archive for path in found)
    left_out = {each for each in names if is_archive and gateway is None and not trust.may_vouch_for(issuer_of(each))}
    if left_out == set(names):
        left_out = set()
    return [path for path in found if path.parent.name not in left_out], tuple(sorted(left_out))


def read_files(
    collector: Collector, files: Sequence[Path], gateway: str | None, trust: Trust, progress: Progress
) -> None:
    """Read them all, in their order, and what retention removed of them; progress is in percent."""
    done_bytes = 0
    total_bytes = sum(path.stat().st_size for path in files) or 1
    for path in files:

        def say(offset: int, name: str = f"{path.parent.name}/{path.name}", before: int = done_bytes) -> None:
            progress.done = 100 * (before + offset) // total_bytes
            progress.say(name)

        with named_in_errors(path):
            collector.read(path, say)
        done_bytes += path.stat().st_size
    collector.note_removals(trust, statements_in(list(dict.fromkeys(each.parent for each in files)), gateway))


def report_of(
    collector: Collector, anchors: Sequence[TrustPath], zone: tzinfo | None, not_reported: tuple[str, ...],
    with_tags: Callable[[str, str], bool] | None = None,
) -> RangeReport:  # fmt: skip
    """The report on what was read, as this command makes it now; see `Asked`."""
    return range_report(collector, Asked(
        zone=str(zone or ""), version=version("tidegate"), command=command_line(), made_at_ns=SystemClock().utc_ns(),
        trust=tuple(hashed(anchors)), not_reported=not_reported, with_tags=with_tags,
    ))  # fmt: skip


def _wanted(pattern: str | None) -> Callable[[str, str], bool] | None:
    if pattern is None:
        return None
    return lambda device, tag: fnmatchcase(f"{device}/{tag}", pattern) or fnmatchcase(tag, pattern)


def hashed(anchors: Sequence[TrustPath]) -> list[FileAnswer]:
    """The files of trust anchors, with their hashes."""
    paths = [each if isinstance(each, Path) else each[0] for each in anchors]
    contents = [(path, path.read_bytes()) for each in paths for path in trust_files(each)]
    return [FileAnswer(file=str(path), size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
            for path, data in contents]  # fmt: skip


def command_line() -> str:
    """The command as it was typed."""
    return shlex.join(["tidegate", *sys.argv[1:]])


def _show(report: RangeReport, times: Times) -> None:
    console = Console(highlight=False)
    width = console.width if console.is_terminal else PIPE_WIDTH
    for line in report_lines(report, times, width):
        if console.is_terminal:
            console.print(line, no_wrap=True, overflow="ignore", crop=False)
        else:
            click.echo(line.plain)
