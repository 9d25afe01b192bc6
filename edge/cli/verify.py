"""`tidegate verify`: the verdicts on an archive, on record files, or on the buffer of a gateway."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Literal, NamedTuple

import click

from edge.approval.signers import Signers
from edge.buffer import PosixDisk, Reader
from edge.cli import EXIT_NO
from edge.cli.approvals import ApprovalAnswer, approvers_option
from edge.cli.output import ExistingPath, print_json
from edge.cli.pack import verify_pack
from edge.cli.progress import Progress
from edge.cli.time_range import range_options, window_of
from edge.config.messages import choices
from edge.files import named_in_errors
from edge.ranges import RecordRange, ranges_to_text
from edge.references import TrustPath, trust_path
from edge.relay.archive import FileRecord, gateways, record_files, records_of
from edge.relay.removals import RefusedStatement, Statement, apply_statements, statements_in
from edge.seal import ConfigChange, Garbage, issuer_of, parse
from edge.seal.record import ISSUER_PREFIX
from edge.sentences import SHORT
from edge.terminal import printable
from edge.units import format_utc
from edge.verify import Coverage, Judgement, RangeVerdict, Report, Trust, Verdict, Verifier
from edge.verify.logbook import Place
from edge.verify.report import STATEMENT, EpochReport, SeveralChains
from edge.verify.verdicts import REFUSED
from edge.verify.window import Window

_ADMITTED: dict[str, Verdict | RangeVerdict] = {"linked": Verdict.LINKED, "declared_lost": RangeVerdict.DECLARED_LOST,
             "removed": RangeVerdict.REMOVED}  # fmt: skip
EXPLAINED = (RangeVerdict.DECLARED_LOST, RangeVerdict.REMOVED)
"""Of ranges that are not held, and it is on record why."""

_READ_BYTES = 1 << 20
_DAMAGE_BYTES = 64
_DAMAGE_SHOWN = 20
_RECORDS_APART = 500  # Between two lines of progress.


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Bytes of a file that are no record."""

    file: str
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRecord:
    """A record that is not accepted, and where it is."""

    file: str
    offset: int
    verdict: Verdict
    issuer: str
    epoch: str
    seq: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovedConfiguration:
    """A configuration on an authentic record that a second person approved."""

    gateway: str
    at_ns: int
    """UTC of the change."""
    configuration: str
    """Its SHA-256."""
    approval: ApprovalAnswer | None
    """Null where it has a form that only a later version knows."""
    epoch: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """How many revocation lists were used, and by which time."""

    lists: int
    by: Literal["record time"] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `tidegate verify` says of the records of the range."""

    is_admitted: bool
    """Whether every record has a verdict that is accepted, with --admit too: then the exit code is 0."""
    is_wholly_authentic: bool
    statement: str
    """What the verdicts cannot prove."""
    window: Window
    shortfalls: tuple[str, ...]
    """Why what was asked for is not all here, although nothing of it is known to be missing."""
    epochs: tuple[EpochReport, ...]
    unattributed: Mapping[str, int]
    """How many records that belong to no chain have each verdict."""
    revocation: Revocation
    damage: tuple[Damage, ...]
    refused: tuple[RefusedRecord, ...]
    removed: tuple[Statement, ...]
    """What retention removed, by the statements of relays that are trusted."""
    refused_statements: tuple[RefusedStatement, ...]
    """Statements of removal that do not count."""
    approved: tuple[ApprovedConfiguration, ...]
    """Configurations of the range that a second person approved."""


ANSWER = Answer
ANSWERS = {"PACK": "edge.qualify.pack:PackAnswer"}


@click.command(
    epilog="""\b
Examples:
  tidegate verify /var/lib/tidegate-relay --trust line-4.pub.pem
  tidegate verify 2026-01-31.rec --trust trusted/ --from 1200 --to 1300 --json
  tidegate verify /var/lib/tidegate/buffer --trust line-4.pub.pem
  tidegate verify /var/lib/tidegate-relay --trust anchors/ --admit removed
  tidegate verify qualification/ --trust qa.pub.pem

Exit code 0: every record of the range is authentic, or every file of the pack as it was signed. 1: it is not.
2: usage. 78: a trust anchor cannot be used."""
)
@click.argument("paths", nargs=-1, required=True, type=ExistingPath(path_type=Path))
@click.option("--trust", "anchors", multiple=True, required=True, type=trust_path, metavar="[GATEWAY=]PATH",
              help="Public key, CA certificate or revocation list, or a directory of them; may be repeated. With a "
                   "gateway it counts for that one only.")  # fmt: skip
@click.option("--gateway", help="Only this gateway.")
@click.option("--epoch", help="Only this chain, in hexadecimal.")
@range_options(takes_seqs=True)
@click.option("--admit", help="Verdicts to accept as well: linked, declared_lost, removed; separated by commas.")
@click.option("--checkpoint", "witnesses", multiple=True, type=ExistingPath(path_type=Path, dir_okay=False),
              help="A CHECKPOINT record held elsewhere: shows whether the end was cut off.")  # fmt: skip
@approvers_option
@click.option("--missing-to", type=click.Path(path_type=Path, dir_okay=False),
              help="Write the missing ranges to a file, for tidegate resend on the gateway.")  # fmt: skip
@click.option("--fast", is_flag=True, help="Check identity signatures and hashes only; records are then LINKED.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON document.")
def command(
    paths: tuple[Path, ...], anchors: tuple[TrustPath, ...], gateway: str | None, epoch: str | None, start: str | None,
    end: str | None, zone: tzinfo | None, admit: str | None, witnesses: tuple[Path, ...], approvers: Path | None,
    missing_to: Path | None, fast: bool, as_json: bool,
) -> None:  # fmt: skip
    """Verify the records in PATHS: an archive, one gateway's folder in it, record files, or a gateway's buffer.

    The directory of a pack that `tidegate qualify` has written is verified too, by itself.
    """
    if any((path / "qualification.json").is_file() for path in paths):
        verify_pack(paths, anchors, as_json=as_json)
        return
    admitted = _admitted(admit)
    chain = epoch_of(epoch)
    window = window_of(start, end, zone, takes_seqs=True)
    trust = Trust.load(anchors)
    verifier, coverage = Verifier(trust, fast=fast, window=window), Coverage(window)
    approvals = _Approvals(window, None if approvers is None else Signers.read(approvers))
    with Progress("verify", "records") as progress:
        damage, refused = _read(stored(paths, gateway, progress), gateway, verifier, coverage, approvals)
    for path in witnesses:
        with named_in_errors(path):
            judgement = verifier.witness(path.read_bytes())
        if judgement.verdict is not Verdict.AUTHENTIC:
            raise click.UsageError(f"{path} is no checkpoint to rely on: {_why_no_witness(path, judgement)}")
    removals = _Removals(*apply_statements(verifier, trust, statements_in(paths, gateway)))
    try:
        report = coverage.add_to(verifier.report(epoch=chain))
    except SeveralChains as error:
        raise click.UsageError(f"--from and --to count within one chain; name it with --epoch: {error}") from None
    _write_missing(missing_to, report)
    approved = tuple(approvals.approved())
    verdict = _verdict(report, admitted, removals, approved)
    refused = [(found, judgement) for found, judgement in refused if _is_asked(judgement, report)]
    if as_json:
        _print_json(report, damage, refused, verdict, removals, approved)
    else:
        _print(report, damage, refused, verdict, removals, approved)
    if not verdict.is_fine:
        raise SystemExit(EXIT_NO)


def _read(
    records: Iterable[FileRecord], gateway: str | None, verifier: Verifier, coverage: Coverage, approvals: _Approvals
) -> tuple[list[FileRecord], list[tuple[FileRecord, Judgement]]]:
    """Verify records, all or those of a gateway; stretches that are none, and the records that are refused."""
    damage: list[FileRecord] = []
    refused: list[tuple[FileRecord, Judgement]] = []
    for found in records:
        if found.data is None:
            damage.append(found)
            verifier.add(_first_bytes(found))
        elif gateway is None or is_of(found.data, gateway):
            judgements = coverage.note(verifier.add(found.data))
            approvals.note(judgements)
            if judgements[0].verdict in REFUSED:
                refused.append((found, judgements[0]))
    return damage, refused


class _Approvals:
    """Takes the verdicts, and knows which configurations of the range are approved."""

    def __init__(self, window: Window, signers: Signers | None) -> None:
        self._window, self._signers = window, signers
        self._found: dict[Place, ConfigChange] = {}

    def note(self, judgements: Iterable[Judgement]) -> None:
        for each in judgements:
            content = each.content
            if self._found and each.verdict not in (Verdict.AUTHENTIC, Verdict.DUPLICATE):
                self._found.pop(Place(each.issuer, each.epoch, each.seq), None)
            elif (
                isinstance(content, ConfigChange)
                and content.approval is not None
                and each.verdict is Verdict.AUTHENTIC
                and not self._window.side(each.seq, content.at_ns, content.at_ns)
            ):
                self._found[Place(each.issuer, each.epoch, each.seq)] = content

    def approved(self) -> Iterator[ApprovedConfiguration]:
        """In the order in which they were read."""
        for place, change in self._found.items():
            yield ApprovedConfiguration(
                gateway=place.issuer.removeprefix(ISSUER_PREFIX), at_ns=change.at_ns, epoch=place.epoch.hex(),
                seq=place.seq, configuration=change.new_hash.hex(), approval=ApprovalAnswer.of(change, self._signers),
            )  # fmt: skip


def _write_missing(path: Path | None, report: Report) -> None:
    if path is None:
        return
    ranges = [RecordRange(epoch.issuer, bytes.fromhex(epoch.epoch), first, last) for epoch in report.epochs
              for verdict, first, last in epoch.absent if verdict not in EXPLAINED]  # fmt: skip
    try:
        path.write_text(ranges_to_text(ranges), "utf-8")
    except OSError as error:
        raise click.UsageError(f"--missing-to {path} cannot be written: {error.strerror}") from None


def _why_no_witness(path: Path, judgement: Judgement) -> str:
    data = path.read_bytes()
    if data.endswith(b"\n") and judgement.verdict is Verdict.GARBAGE:
        with suppress(Garbage):
            parse(data[:-1])
            return "a line feed follows the record; save it with `mosquitto_sub -C 1 -N`, which adds none"
    return f"{judgement.verdict}, {judgement.reason}"


class _Answer(NamedTuple):
    """Whether the records are as requested, whether all are authentic, and the same as text."""

    is_fine: bool
    is_wholly_authentic: bool
    words: str


class _Removals(NamedTuple):
    """The statements about what retention removed that count, and those that do not."""

    stated: list[Statement]
    refused: list[RefusedStatement]


def _verdict(
    report: Report, admitted: list[Verdict | RangeVerdict], removals: _Removals,
    approved: Sequence[ApprovedConfiguration],
) -> _Answer:  # fmt: skip
    is_whole, is_fine = report.is_wholly_authentic(), report.is_wholly_authentic(admitted) and not removals.refused
    is_fine &= (is_confirmed := not any(each.approval is not None and each.approval.check for each in approved))
    words = "; ".join(("yes" if is_whole else "no", *report.shortfalls))
    if removals.refused:
        words += "; a statement of removal does not count"
    if not is_confirmed:
        words += "; an approval is not confirmed"
    if is_fine and not is_whole:
        words += "; accepted with --admit"
    return _Answer(is_fine, is_whole, words)


def _is_asked(judgement: Judgement, report: Report) -> bool:
    if judgement.verdict is Verdict.GARBAGE:
        return True
    places = [each.places for each in report.epochs if (each.issuer, each.epoch) == (judgement.issuer,
              judgement.epoch.hex())]  # fmt: skip
    return not places or places[0][0] <= judgement.seq <= places[0][1]


def stored(paths: tuple[Path, ...], gateway: str | None, progress: Progress | None = None) -> Iterator[FileRecord]:
    """The records in archives, record files and buffers of gateways; their number is the progress."""
    for number, found in enumerate(_stored(paths, gateway)):
        if progress is not None and not number % _RECORDS_APART:
            progress.done = number
            progress.say(f"{found.file.parent.name}/{found.file.name}")
        yield found


def _stored(paths: tuple[Path, ...], gateway: str | None) -> Iterator[FileRecord]:
    for path in paths:
        if path.is_dir() and any(path.glob("*.seg")):
            yield from _buffered(path)
            continue
        found = record_files(path, gateway)
        if not found:
            held = gateways(path)
            if gateway and held:
                raise click.UsageError(f"{path} holds no gateway {gateway!r}; {choices(gateway, held)}")
            raise click.UsageError(f"{path} holds no records: no day files, no gateways, no segments")
        for file in found:
            with named_in_errors(file):
                yield from records_of(file)


def _first_bytes(found: FileRecord) -> bytes:
    with found.file.open("rb") as file:
        file.seek(found.offset)
        return file.read(min(found.length, _DAMAGE_BYTES))


def _buffered(directory: Path) -> Iterator[FileRecord]:
    """The records in a gateway's buffer. Damaged ones are left out, and so reported missing."""
    with closing(Reader(PosixDisk(directory))) as reader:
        number, end = reader.oldest(), reader.durable_end()
        while number < end and (batch := reader.read(number, _READ_BYTES)):
            yield from (FileRecord(directory, each, len(data), data) for each, data in batch)
            number = batch[-1][0] + 1


def is_of(data: bytes, gateway: str) -> bool:
    """Whether a record is of this gateway, or may have been."""
    try:
        return parse(data).issuer == issuer_of(gateway)
    except Garbage:
        return True  # It may have been a record of this gateway.


def _print(
    report: Report, damage: list[FileRecord], refused: list[tuple[FileRecord, Judgement]], verdict: _Answer,
    removals: _Removals, approved: Sequence[ApprovedConfiguration],
) -> None:  # fmt: skip
    lines = [
        f"GARBAGE      {each.file}: {each.length} bytes from offset {each.offset} are no record" for each in damage
    ]
    lines += [_refusal(found, judgement) for found, judgement in refused]
    lines += [f"REFUSED      {each.file}: {each.reason}" for each in removals.refused]
    lines += [f"REMOVED      {each.gateway}/{each.file}: {each.records:,} records at {each.removed_at}, {each.rule}; "
              f"stated by relay {each.relay}" for each in removals.stated]  # fmt: skip
    lines += map(_approval, approved)
    for line in lines[:_DAMAGE_SHOWN]:
        click.echo(printable(line))
    if len(lines) > _DAMAGE_SHOWN:
        click.echo(f"             and {len(lines) - _DAMAGE_SHOWN:,} more; --json lists them all")
    click.echo(report.text(verdict.words))


def _approval(found: ApprovedConfiguration) -> str:
    which = f"{found.gateway}: configuration {found.configuration[:SHORT]} at {format_utc(found.at_ns)}"
    if (approval := found.approval) is None:
        return f"APPROVED?    {which}, in a form that this version does not know"
    word, why = ("REFUSED", f": {approval.check}") if approval.check else ("APPROVED", "")
    return (f"{word:12} {which} by {approval.name}, {approval.role} ({approval.meaning}); "
            f"proposed by {approval.proposed_by} at {approval.proposed_at}{why}")  # fmt: skip


def _refusal(found: FileRecord, judgement: Judgement) -> str:
    which = "" if judgement.verdict is Verdict.GARBAGE else f"seq {judgement.seq}: "
    return f"{judgement.verdict:12} {found.file}: offset {found.offset}: {which}{judgement.reason}"


def _print_json(
    report: Report, damage: list[FileRecord], refused: list[tuple[FileRecord, Judgement]], verdict: _Answer,
    removals: _Removals, approved: Sequence[ApprovedConfiguration],
) -> None:  # fmt: skip
    lists = report.revocation_lists
    print_json(
        Answer(
            is_admitted=verdict.is_fine, is_wholly_authentic=verdict.is_wholly_authentic, statement=STATEMENT,
            window=report.window, shortfalls=report.shortfalls, epochs=report.epochs, unattributed=report.unattributed,
            revocation=Revocation(lists=lists, by="record time" if lists else None),
            damage=tuple(Damage(file=str(each.file), offset=each.offset, bytes=each.length) for each in damage),
            refused=tuple(
                RefusedRecord(
                    file=str(found.file), offset=found.offset, verdict=judgement.verdict, issuer=judgement.issuer,
                    epoch=judgement.epoch.hex(), seq=judgement.seq, reason=judgement.reason,
                )
                for found, judgement in refused
            ),
            removed=tuple(removals.stated), refused_statements=tuple(removals.refused),
            approved=tuple(approved),
        )
    )  # fmt: skip


def _admitted(text: str | None) -> list[Verdict | RangeVerdict]:
    words: list[str] = text.replace(" ", "").split(",") if text else []
    unknown = [word for word in words if word not in _ADMITTED]
    if unknown:
        raise click.UsageError(f"--admit knows no verdict {unknown[0]!r}; {choices(unknown[0], _ADMITTED)}")
    return [_ADMITTED[word] for word in words]


def epoch_of(text: str | None) -> bytes | None:
    """The chain that is named, in hexadecimal. Raises UsageError."""
    if text is None:
        return None
    if not re.fullmatch(r"[0-9a-fA-F]{16}", text):
        raise click.UsageError(f"--epoch is 16 hexadecimal digits, got {text!r}")
    return bytes.fromhex(text)
