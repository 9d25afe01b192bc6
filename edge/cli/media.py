"""`tidegate media`: carry records by hand, from a gateway without a network to the archive of a relay."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from edge import logs
from edge.accounts import account_name
from edge.buffer import PosixDisk
from edge.buffer.segment import end_of, list_segments, read_records
from edge.buffer.watermark import load_watermark
from edge.cli import EXIT_NO
from edge.cli.output import ExistingPath, Failure, print_json
from edge.cli.progress import Progress, unless_stopped
from edge.clock import SystemClock
from edge.files import named_in_errors
from edge.references import TrustPath, trust_path
from edge.relay.medium import RecordFile, checksums, is_whole, record_files, write
from edge.relay.record_stream import split
from edge.relay.store import RelayStore
from edge.relay.waiting import ReceivedMessage
from edge.units import counted, format_size
from edge.verify import Verdict

_TOPIC = "tidegate/v1/{}/r/media"
_AT_ONCE = 256
_QUARANTINE_BYTES, _WAITING_BYTES = 64 * 2**20, 16 * 2**20  # As of a relay.
_ACCEPTED = (Verdict.AUTHENTIC, Verdict.LINKED, Verdict.DUPLICATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteAnswer:
    """What `tidegate media write` did.

    Attributes:
        records: that were written.
        size_bytes: of them.
        held_records: that the medium has now.
    """

    records: int
    size_bytes: int
    held_records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAnswer:
    """What `tidegate media read` did.

    Attributes:
        records: that were read from the medium.
        archived: how many of them were added to the archive.
        known: how many it had already.
        verdicts: how many got each verdict by which a record is not archived, or not authentic.
        refused: how many are no records that the archive takes.
        waiting: how many wait for their key.
        damaged: files of the medium that are not what was written.
    """

    records: int
    archived: int
    known: int
    verdicts: Mapping[Verdict, int]
    refused: int
    waiting: int
    damaged: tuple[Path, ...]


ANSWERS = {"write": WriteAnswer, "read": ReadAnswer}


@click.group(
    epilog="""\b
Examples:
  tidegate media write /var/lib/tidegate/buffer /media/usb
  tidegate media read /media/usb /var/lib/tidegate-relay --trust /etc/tidegate/trusted

Exit code 0: it did what was asked. 1: not all of it. 2: usage. 78: the archive or a trust anchor cannot be used."""
)
def command() -> None:
    """Carry records by hand: write them to a medium at the gateway, and read them into the archive of a relay."""


@command.command(
    "write",
    epilog="""\b
Example:
  tidegate media write /var/lib/tidegate/buffer /media/usb

Exit code 0: the medium has every record of the buffer. 1: it cannot be written. 2: usage.""",
)
@click.argument("buffer", type=ExistingPath(path_type=Path, file_okay=False))
@click.argument("medium", type=ExistingPath(path_type=Path, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="What was written, as one JSON object.")
def write_command(buffer: Path, medium: Path, *, as_json: bool) -> None:
    """Write the records of the buffer directory BUFFER to the directory MEDIUM, as far as it does not have them.

    The gateway may run. Nothing in its buffer changes.
    """
    records = size_bytes = 0
    try:
        with unless_stopped("a further run goes on from there"), Progress("media write", "records") as progress:
            for written in write(medium, _buffered(buffer, progress)):
                records, size_bytes = records + written.records, size_bytes + written.size_bytes
            held = sum(each.last - each.first + 1 for each in record_files(medium))
    except OSError as error:
        where = error.filename or medium
        raise Failure(f"{where} cannot be used: {error.strerror}; {counted(records, 'record')} of this run "
                      f"{'is' if records == 1 else 'are'} on the medium, and a further run goes on from there"
                      ) from error  # fmt: skip
    if as_json:
        print_json(WriteAnswer(records=records, size_bytes=size_bytes, held_records=held))
        return
    click.echo(
        f"{counted(records, 'record')} written, {format_size(size_bytes)}; {medium} has {counted(held, 'record')}"
    )


def _buffered(buffer: Path, progress: Progress) -> Iterator[bytes]:
    disk = PosixDisk(buffer)
    segments, durable_end = list_segments(disk), load_watermark(disk).durable_end
    if not segments:
        raise click.UsageError(f"{buffer} is no buffer of a gateway, or holds no record")
    for at, segment in enumerate(segments):
        with suppress(FileNotFoundError):  # The gateway deletes what it need not keep meanwhile.
            for _, data in read_records(disk, segment, min(end_of(segments, at) or durable_end, durable_end)):
                progress.done += 1
                if not progress.done % 512:
                    progress.say(segment.name)
                yield data


@command.command(
    "read",
    epilog="""\b
Example:
  tidegate media read /media/usb /var/lib/tidegate-relay --trust /etc/tidegate/trusted

Exit code 0: the archive has every record of the medium. 1: some are refused or wait for their key, or files are
damaged. 2: usage. 78: the archive or a trust anchor cannot be used.""",
)
@click.argument("medium", type=ExistingPath(path_type=Path, file_okay=False))
@click.argument("archive", type=ExistingPath(path_type=Path, file_okay=False))
@click.option("--trust", "anchors", multiple=True, required=True, type=trust_path, metavar="[GATEWAY=]PATH",
              help="Public key, CA certificate, revocation list, or a directory of them; may be repeated.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="What was read, as one JSON object.")
def read_command(medium: Path, archive: Path, anchors: tuple[TrustPath, ...], *, as_json: bool) -> None:
    """Read the records on the directory MEDIUM into the archive of a relay, as if they had come by the broker.

    Each is verified first. The relay has to be stopped; its view shows them once it runs again.
    """
    files = record_files(medium)
    if not files:
        raise click.UsageError(f"{medium} is no medium with records: tidegate media write makes one")
    if (owner := archive.stat().st_uid) != os.geteuid():
        raise click.UsageError(f"{archive} belongs to {account_name(owner)}: run this as that account, so that the "
                               "relay can go on writing to it")  # fmt: skip
    logs.configure("error", "console")
    store = RelayStore(archive, anchors, quarantine_bytes=_QUARANTINE_BYTES, waiting_bytes=_WAITING_BYTES, view=None,
                       is_shown_later=True)  # fmt: skip
    try:
        store.intake.counts.clear()  # What the archive had before is not counted.
        with unless_stopped("what was read is archived, and a further run goes on"), \
                Progress("media read", "records") as progress:  # fmt: skip
            sums = {folder: checksums(folder) for folder in {each.path.parent for each in files}}
            damaged = [each for each in files if not _read(store, each, sums[each.path.parent], progress)]
    except OSError as error:
        raise Failure(f"{error.filename or archive} cannot be used: {error.strerror}; a further run goes on") from error
    finally:
        store.close()
    answer = _answer(store, progress.done, damaged)
    if as_json:
        print_json(answer)
    else:
        _say(answer)
    if answer.verdicts or answer.refused or answer.waiting or damaged:
        raise SystemExit(EXIT_NO)


def _read(store: RelayStore, file: RecordFile, sums: Mapping[str, str], progress: Progress) -> bool:
    """Take the records of a file; returns whether it is what was written."""
    is_sound = True
    messages: list[ReceivedMessage] = []
    with named_in_errors(file.path), file.path.open("rb") as content:
        for piece in split(content):
            if piece.data is None:
                is_sound = False
                continue
            progress.done += 1
            messages.append(ReceivedMessage(_TOPIC.format(file.gateway), piece.data, SystemClock().utc_ns()))
            if len(messages) >= _AT_ONCE:
                _keep(store, messages)
                progress.say(file.path.name)
    _keep(store, messages)
    return is_sound and is_whole(file, sums)


def _keep(store: RelayStore, messages: list[ReceivedMessage]) -> None:
    store.take(messages)
    store.sync()
    messages.clear()


def _answer(store: RelayStore, read: int, damaged: Sequence[RecordFile]) -> ReadAnswer:
    counts = store.intake.counts.values()
    verdicts = sum((Counter(each.verdicts) for each in counts), Counter[Verdict]())
    return ReadAnswer(
        records=read, archived=store.archived_records, known=verdicts[Verdict.DUPLICATE],
        verdicts={verdict: count for verdict, count in verdicts.items() if count and verdict not in _ACCEPTED},
        refused=sum(each.refused for each in counts), waiting=sum(each.waiting for each in counts),
        damaged=tuple(each.path for each in damaged),
    )  # fmt: skip


def _say(answer: ReadAnswer) -> None:
    click.echo(f"{counted(answer.records, 'record')} read: {answer.archived:,} archived, "
               f"{answer.known:,} were there already")  # fmt: skip
    others = [f"{count:,} {verdict}" for verdict, count in answer.verdicts.items()]
    others += [f"{answer.refused:,} refused"] * bool(answer.refused)
    others += [f"{answer.waiting:,} of them wait for their key"] * bool(answer.waiting)
    if others:
        click.echo(f"not archived, or not authentic: {', '.join(others)}")
    for path in answer.damaged:
        click.echo(f"{path} is damaged: it is not what was written; what is whole in it was read")
