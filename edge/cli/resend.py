"""`tidegate resend`: have a gateway send delivered records again, because they were lost after the broker took them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import tzinfo
from pathlib import Path

import click

from edge.buffer import PosixDisk
from edge.buffer.segment import Segment, end_of, list_segments, read_records
from edge.buffer.watermark import load_watermark
from edge.cli.output import ExistingPath, Failure
from edge.cli.time_range import range_options, window_of
from edge.cli.verify import epoch_of
from edge.gateway.resend import numbers_of, write_request
from edge.intervals import IntervalSet
from edge.ranges import RecordRange, ranges_from_text
from edge.seal import Data, Garbage, Malformed, decode_frame, parse
from edge.seal.cose import MAX_SEQ
from edge.verify.window import Window

_OWN = "-"  # A request is for the gateway of its directory, whatever that is called.


@click.command(
    epilog="""\b
Examples:
  tidegate resend /var/lib/tidegate/buffer --from 2026-01-31T06:00:00Z --to 2026-01-31T06:30:00Z
  tidegate resend /var/lib/tidegate/buffer --epoch 5d1c0a9be7f24c31 --from 1200 --to 1300
  tidegate resend /var/lib/tidegate/buffer --missing missing.txt

Exit code 0: it is requested. 1: the buffer holds none of these records, or takes no request. 2: usage."""
)
@click.argument("buffer", type=ExistingPath(path_type=Path, file_okay=False))
@range_options(takes_seqs=True)
@click.option("--epoch", help="The chain that the seqs count in, in hexadecimal.")
@click.option("--missing", type=ExistingPath(path_type=Path, dir_okay=False),
              help="A file of missing ranges, as relay and verify write it with --missing-to.")  # fmt: skip
def command(
    buffer: Path, start: str | None, end: str | None, zone: tzinfo | None, epoch: str | None, missing: Path | None
) -> None:  # fmt: skip
    """Have the gateway with the buffer directory BUFFER send delivered records again.

    Fresh and waiting records go first. Your account and the range are put on record.
    """
    if (missing is None) == (start is None and end is None):
        raise click.UsageError("name the records: by --from and --to, or by --missing FILE")
    window, chain = window_of(start, end, zone, takes_seqs=True), epoch_of(epoch)
    try:
        ranges = _missing(missing) if missing else _asked(buffer, window, chain)
        held = numbers_of(buffer, ranges).count
        if held:
            write_request(buffer, ranges)
    except OSError as error:
        raise Failure(
            f"{buffer} takes no request: {error.strerror}; try it as root, or as the account of the gateway"
        ) from error
    except ValueError as error:
        raise Failure(str(error)) from error
    if not held:
        raise Failure(
            f"{buffer} holds none of these records; those delivered longer ago than keep_delivered are deleted"
        )
    records = "1 record is" if held == 1 else f"{held:,} records are"
    click.echo(f"Requested: {records} to be sent again; tidegate status says how many are left")


def _missing(path: Path) -> list[RecordRange]:
    try:
        return ranges_from_text(path.read_text("utf-8"))
    except ValueError as error:
        raise click.UsageError(f"{path}: {error}") from None


def _asked(buffer: Path, window: Window, epoch: bytes | None) -> list[RecordRange]:
    disk = PosixDisk(buffer)
    segments, durable_end = list_segments(disk), load_watermark(disk).durable_end
    stored = [(segment, min(end_of(segments, at) or durable_end, durable_end)) for at, segment in enumerate(segments)]
    stored = [(segment, end) for segment, end in stored if epoch in (None, segment.epoch)]
    if window.is_time:
        return list(_in_time(disk, stored, window))
    epochs = list(dict.fromkeys(segment.epoch for segment, _ in stored))
    if len(epochs) > 1:
        held = ", ".join(each.hex() for each in epochs)
        raise click.UsageError(f"--from and --to count within one chain; name it with --epoch: {held}")
    last = MAX_SEQ if window.last is None else window.last
    return [RecordRange(_OWN, each, window.first, last) for each in epochs]


def _in_time(disk: PosixDisk, stored: Sequence[tuple[Segment, int]], window: Window) -> Iterator[RecordRange]:
    """The records whose readings lie in a range of UTC, and those of other types that follow on them."""
    begins = [_begin_ns(disk, segment, end) for segment, end in stored]
    is_inside = False
    for at, (segment, end) in enumerate(stored):
        times = [each for each in begins[at : at + 2] if each is not None]
        if len(times) == 2 and window.side(0, min(times), max(times)):
            is_inside = False  # A segment between two times on one side of the range is not read.
            continue
        numbers = IntervalSet()
        for number, data in read_records(disk, segment, end):
            if (span := _span(data)) is not None:
                is_inside = window.side(0, *span) == 0
            if is_inside:
                numbers.add(number, number)
        for first, last in numbers:
            yield RecordRange(_OWN, segment.epoch, segment.seq_of(first), segment.seq_of(last))


def _begin_ns(disk: PosixDisk, segment: Segment, end: int) -> int | None:
    """UTC of the first reading of a segment; None where it has none, or is gone."""
    try:
        return next((span[0] for _, data in read_records(disk, segment, end) if (span := _span(data))), None)
    except OSError:
        return None


def _span(data: bytes) -> tuple[int, int] | None:
    """UTC of the first and the last reading of a record; None for other records than DATA."""
    try:
        content = decode_frame(parse(data))
    except (Garbage, Malformed):
        return None
    return (content.utc_ns, content.until_ns) if isinstance(content, Data) else None
