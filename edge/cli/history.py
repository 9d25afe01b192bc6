"""`tidegate history`: who changed what in the configuration, when and why, and whether that is proven."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Literal

import click

from edge.approval.signers import Signers
from edge.cli import EXIT_NO
from edge.cli.approvals import ApprovalAnswer, approvers_option
from edge.cli.history_changes import Changes, glob
from edge.cli.output import ExistingPath, print_json
from edge.cli.records import Records
from edge.cli.time_range import range_options, window_of
from edge.cli.timed_lines import show
from edge.references import TrustPath, trust_path
from edge.seal import ConfigChange, RecordType
from edge.seal.record import ISSUER_PREFIX
from edge.sentences import SHORT, approved_by, replacement, responsible
from edge.verify import Verdict
from edge.verify.configurations import History, KeptConfigurations, Step
from edge.verify.window import Window

_READ = {RecordType.CONFIG, RecordType.EPOCH, RecordType.EVENT}
_EVER = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedValue:
    """A value of the configuration that was changed."""

    path: str
    old: str
    """As it was written; empty where it was added."""
    new: str
    """As it was written; empty where it was removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One step from a configuration to the next."""

    kind: Literal["change", "not_proven", "no_record"]
    """change: what a CONFIG record says; not_proven: a CONFIG record whose content is not shown, because it is not
    authentic; no_record: a configuration that ran, and no record that is held says who took it into use."""
    at_ns: int | None
    """UTC of a change; null where it is not known."""
    gateway: str
    verdict: Verdict | None
    """On the record, as of `tidegate verify`; null where nothing was verified, and of what has no record."""
    text: str
    """One sentence for people; its words may change with each version."""
    account: str
    role: str
    """How the account is known: start is the account of the gateway itself."""
    why: str
    old_hash: str
    """Digest of the configuration before; empty for the first one on record."""
    new_hash: str
    approval: ApprovalAnswer | None
    """Who approved it; null where nobody has, or in a form that only a later version knows."""
    ran_before: bool
    """Whether this is a return to a configuration that ran before."""
    changes: tuple[ChangedValue, ...]
    """Those that were asked for with --path."""
    listed: int
    """How many changes the record lists itself; others were found by comparing the configurations on record."""
    others: int
    """How many changes there are of other paths than those of --path."""
    unknown: int | None
    """How many changes there are of which nothing is known; null where even their number is not."""
    epoch: str
    seq: int
    """Epoch and seq of the record; of the next one that is held where there is none."""

    @property
    def is_sound(self) -> bool:
        """Whether it is a change, on a record that no verdict speaks against."""
        return self.kind == "change"

    @property
    def is_confirmed(self) -> bool:
        """Whether it has no approval that --approvers does not confirm."""
        return self.approval is None or not self.approval.check


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `tidegate history` found."""

    is_sound: bool
    """Whether no step shown lacks its record, or has an approval that --approvers does not confirm, and nothing is
    wrong with the records that were read: the exit code is 0."""
    is_proven: bool
    """Whether that is proven by the keys that were given."""
    remark: str
    """How many records are proven, and what was left out."""
    entries: tuple[HistoryEntry, ...]


ANSWER = Answer


@click.command(
    epilog="""\b
Examples:
  tidegate history /var/lib/tidegate-relay --trust line-4.pub.pem
  tidegate history /var/lib/tidegate-relay --trust line-4.pub.pem --path '*[TT-101].scale'
  tidegate history /var/lib/tidegate-relay --trust trusted/ --gateway line-4 --who anna --from 2026-03-01T00:00Z
  tidegate history /var/lib/tidegate-relay --trust line-4.pub.pem --format html > history.html
  tidegate history /var/lib/tidegate/buffer --format csv > history.csv

Exit code 0: every record read is authentic (without --trust: was read), and every configuration has its record.
1: not so. 2: usage. 78: a trust anchor cannot be used."""
)
@click.argument("paths", nargs=-1, required=True, type=ExistingPath(path_type=Path))
@click.option("--trust", "anchors", multiple=True, type=trust_path, metavar="[GATEWAY=]PATH",
              help="Verify the records by these keys, as `tidegate verify` does; may be repeated.")  # fmt: skip
@range_options()
@click.option("--gateway", help="Only this gateway.")
@click.option("--path", "wanted_paths", multiple=True, metavar="PATTERN",
              help="Only changes of such paths: 'devices[plc].*', '*[TT-101].scale'; may be repeated.")  # fmt: skip
@click.option("--who", "accounts", multiple=True, metavar="PATTERN",
              help="Only changes by such accounts: anna, '*anna*'; may be repeated.")  # fmt: skip
@approvers_option
@click.option("--format", "form", type=click.Choice(["text", "html", "csv", "json"]), default="text",
              show_default=True, help="html is a page to read and print, csv a line for each value.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The same as --format json: one JSON object, for scripts.")
def command(
    paths: tuple[Path, ...], *, anchors: tuple[TrustPath, ...], start: str | None, end: str | None,
    zone: tzinfo | None, gateway: str | None, wanted_paths: tuple[str, ...], accounts: tuple[str, ...],
    approvers: Path | None, form: str, as_json: bool,
) -> None:  # fmt: skip
    """Show who changed what in the configuration, when and why, and whether that is proven.

    PATHS are an archive, one gateway's folder in it, record files, or the buffer of a gateway, which may be running.
    All records in them are read: --from, --to, --path and --who choose what is shown. A CONFIG record that is not
    proven, and a configuration that has no record, may be what is looked for, and are always shown.
    """
    from edge.cli.history_forms import csv_lines, history_lines, history_page

    window = window_of(start, end, zone)
    records, history, kept = Records(paths, gateway, anchors, _READ), History(), KeptConfigurations()
    _read(records, history, kept)
    signers = None if approvers is None else Signers.read(approvers)
    wanted = _Wanted(window, accounts, Changes(kept, wanted_paths), signers)
    entries = tuple(entry for step in history.steps() if (entry := wanted.entry(step)) is not None)
    is_sound = records.is_whole and all(each.is_sound and each.is_confirmed for each in entries)
    answer = Answer(is_sound=is_sound, is_proven=is_sound and bool(anchors), remark=records.remark, entries=entries)
    if as_json or form == "json":
        print_json(answer)
    elif form == "html":
        click.echo(history_page(answer, zone, anchors), nl=False)
    elif form == "csv":
        click.echo(answer.remark, err=True)
        click.echo(csv_lines(answer, zone), nl=False)
    else:
        show(lambda width: history_lines(answer, zone, width))
    if not is_sound:
        raise SystemExit(EXIT_NO)


def _read(records: Records, history: History, kept: KeptConfigurations) -> None:
    for found in records:
        place, content, judgement = found
        if content is not None:
            history.note(place, content, None if judgement is None else judgement.verdict)
            kept.note(place, content)
            if judgement is not None:
                history.accept(place, judgement.hash)
        elif judgement is not None and found.is_withdrawn:
            history.withdraw(place, judgement)
            kept.withdraw(place)
        elif judgement is not None and judgement.type is RecordType.CONFIG and judgement.verdict != Verdict.DUPLICATE:
            history.refuse(place, judgement)


class _Wanted:
    """What was asked for, of each step."""

    def __init__(
        self, window: Window, accounts: Sequence[str], changes: Changes, approvers: Signers | None
    ) -> None:  # fmt: skip
        self._window, self._changes, self._approvers = window, changes, approvers
        self._accounts = [glob(each) for each in accounts]
        self._ran: defaultdict[str, list[bytes]] = defaultdict(list)  # By gateway, in order.

    def entry(self, step: Step) -> HistoryEntry | None:
        """The step, or None where it is not asked for. What is not proven, or not known, may be what is asked for."""
        ran_before = step.change is not None and self._ran_before(step.place.issuer, step.change)
        low_ns, high_ns = (-_EVER if step.from_ns is None else step.from_ns), (step.to_ns or _EVER)
        if step.verdict in (None, Verdict.AUTHENTIC) and self._window.side(0, low_ns, high_ns):
            return None
        return self._change(step, step.change, ran_before=ran_before) if step.change is not None else _unproven(step)

    def _ran_before(self, issuer: str, change: ConfigChange) -> bool:
        ran = self._ran[issuer]
        if ran[-1:] == [change.new_hash]:  # It is on record again.
            return False
        ran.append(change.new_hash)
        return change.new_hash in ran[:-1]

    def _change(self, step: Step, change: ConfigChange, *, ran_before: bool) -> HistoryEntry | None:
        shown = self._changes.of(change)
        is_by = not self._accounts or any(each.fullmatch(change.account) for each in self._accounts)
        if not (is_by and shown.is_wanted):
            return None
        why = f": {change.why}" if change.why else "; no reason is on record"
        what = replacement(change, ran_before=ran_before)
        return _entry(
            step, "change", f"{what}, by {responsible(change)}{why}{approved_by(change)}", change,
            tuple(ChangedValue(path=path, old=old, new=new) for path, old, new in shown.changes), shown.listed,
            shown.others, shown.unknown, ApprovalAnswer.of(change, self._approvers), ran_before=ran_before,
        )  # fmt: skip


def _unproven(step: Step) -> HistoryEntry:
    if step.verdict is not None:
        return _entry(step, "not_proven", f"A CONFIG record (seq {step.place.seq}) is not proven, and what it says is "
                      f"not shown: {step.reason}")  # fmt: skip
    if not step.unrecorded:
        return _entry(step, "no_record", "The next record names no configuration before it, although others are on "
                      "record: the state of the gateway was new, or lost")  # fmt: skip
    return _entry(step, "no_record", f"Configuration {step.unrecorded.hex()[:SHORT]} ran, and no record that is held "
                  "says who took it into use and why")  # fmt: skip


def _entry(
    step: Step, kind: Literal["change", "not_proven", "no_record"], text: str, change: ConfigChange | None = None,
    changes: tuple[ChangedValue, ...] = (), listed: int = 0, others: int = 0, unknown: int | None = 0,
    approval: ApprovalAnswer | None = None, *, ran_before: bool = False,
) -> HistoryEntry:  # fmt: skip
    return HistoryEntry(
        kind=kind, at_ns=step.from_ns if step.from_ns == step.to_ns else None,
        gateway=step.place.issuer.removeprefix(ISSUER_PREFIX), verdict=step.verdict, text=text,
        account=change.account if change else "", role=change.role if change else "",
        why=change.why if change else "", old_hash=change.old_hash.hex() if change else "",
        new_hash=(change.new_hash if change else step.unrecorded).hex(), approval=approval, ran_before=ran_before,
        changes=changes, listed=listed, others=others, unknown=unknown, epoch=step.place.epoch.hex(),
        seq=step.place.seq,
    )  # fmt: skip
