"""The history as lines for a terminal, as a table for a spreadsheet, and as a page to read and print."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from datetime import tzinfo
from html import escape
from importlib.metadata import version
from io import StringIO
from typing import TYPE_CHECKING

from rich.text import Text

from edge.cli.report import command_line, hashed
from edge.cli.timed_lines import Said, few, time_text, timed_lines
from edge.clock import SystemClock
from edge.references import TrustPath
from edge.report.html import fact, files, page, room_to_sign, text
from edge.report.times import Times
from edge.sentences import SHORT, changed
from edge.terminal import RED, printable, shorten
from edge.units import counted
from edge.verify.report import STATEMENT

if TYPE_CHECKING:
    from edge.cli.history import Answer, HistoryEntry

_WORDS = {"change": "not verified", "no_record": "NO RECORD"}  # Where there is no verdict.
_BYTE_ORDER_MARK = "\ufeff"  # By which a spreadsheet takes a file for UTF-8.
_FORMULA = re.compile(r"[=+\-@\t\r\uff0b\uff0d\uff1d\uff20]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_LONGEST = 1000  # Characters of a value on the page.
_COLUMNS = (
    "time", "gateway", "verdict", "account", "role", "why", "old_hash", "new_hash", "path", "old", "new", "remark",
    "epoch", "seq", "approved_by", "approver_role", "meaning", "proposed_by", "proposed_at",
)  # fmt: skip
_STYLE = """\

table.history { table-layout: fixed; }
table.history th:nth-child(1) { width: 24%; }
table.history th:nth-child(2) { width: 26%; }
table.history td:last-child li { padding-left: 1em; text-indent: -1em; }
@media screen and (max-width: 600px) {
  table.history thead { display: none; }
  table.history, table.history tbody, table.history tr, table.history td { display: block; width: auto; }
  table.history td { border: 0; padding: 0.1em 0; }
  table.history tr { border-bottom: 1px solid var(--line); padding: 0.5em 0; }
}
"""


def history_lines(answer: Answer, zone: tzinfo | None, width: int | None) -> Iterator[Text]:
    """The history as lines, as the log has them."""
    several = len({each.gateway for each in answer.entries}) > 1
    said = [_said(each, f"{each.gateway}: " if several else "") for each in answer.entries]
    word_width = max((len(each.word) for each in said), default=0)
    return timed_lines(answer.remark, said, time_text(zone), width, word_width)


def _said(entry: HistoryEntry, whose: str) -> Said:
    lines = few([changed(each.path, each.old, each.new) for each in entry.changes], "which --format csv has")
    word = Text(_word(entry), style="" if entry.is_sound and entry.is_confirmed else RED)
    return Said(entry.at_ns, word, "", whose + entry.text, [*lines, *_remainder(entry)])


def _word(entry: HistoryEntry) -> str:
    return str(entry.verdict) if entry.verdict else _WORDS[entry.kind]


def _remainder(entry: HistoryEntry) -> Iterator[str]:
    """What is to be said of its approval, of changes that are not shown, and of those that the record does not list."""
    if entry.approval is not None:
        by, at = entry.approval.proposed_by, entry.approval.proposed_at
        yield f"proposed by {by} at {at}, and signed with the key {entry.approval.fingerprint}"
        if entry.approval.check:
            yield f"the approval is not confirmed: {entry.approval.check}"
    if entry.others:
        yield f"{counted(entry.others, 'change')} of other paths"
    if entry.unknown:
        more = counted(entry.unknown, "more change")
        yield f"{more} not shown: the record had no room for them, and not both configurations are held here"
    elif entry.unknown is None:
        yield "what changed is not shown: the configuration before is not held here"


def csv_lines(answer: Answer, zone: tzinfo | None) -> str:
    """A line for each value that was changed, and for each step without one."""
    rows, times = StringIO(newline=""), time_text(zone)
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for entry in answer.entries:
        remarks = "; ".join(([] if entry.is_sound and entry.changes else [entry.text]) + list(_remainder(entry)))
        lines = [(each.path, each.old, each.new) for each in entry.changes] or [("", "", "")]
        by = _approval(entry)
        writer.writerows(
            map(_cell, (
                "" if entry.at_ns is None else times(entry.at_ns), entry.gateway, _word(entry), entry.account,
                entry.role, entry.why, entry.old_hash, entry.new_hash, *line, remarks, entry.epoch, str(entry.seq), *by,
            )) for line in lines
        )  # fmt: skip
    return _BYTE_ORDER_MARK + rows.getvalue()


def _approval(entry: HistoryEntry) -> tuple[str, ...]:
    if (approval := entry.approval) is None:
        return ("",) * 5
    return approval.name, approval.role, approval.meaning, approval.proposed_by, approval.proposed_at


def _cell(words: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    words = printable(words)
    return f"'{words}" if _FORMULA.match(words) and not _NUMBER.fullmatch(words) else words


def history_page(answer: Answer, zone: tzinfo | None, anchors: Sequence[TrustPath]) -> str:
    """The page."""
    names = ", ".join(sorted({each.gateway for each in answer.entries})) or "no gateway"
    made = f"Made {Times(zone).moment(SystemClock().utc_ns())} by Tidegate {version('tidegate')}"
    head = f"Configuration history, {shorten(names, 60)}"
    return page(head, made, _body(answer, zone, anchors, head, made), _STYLE)


def _body(
    answer: Answer, zone: tzinfo | None, anchors: Sequence[TrustPath], head: str, made: str
) -> Iterator[str]:  # fmt: skip
    yield '<header><p class="soft">Tidegate: who changed what in the configuration</p>'
    yield f"<h1>{text(head)}</h1><p class='verdict'>{_verdict(answer)}</p><p>{text(answer.remark)}.</p></header>"
    times = time_text(zone)
    yield '<table class="history"><thead><tr><th>When, and verdict</th><th>Who and why</th><th>What</th></tr></thead>'
    yield "<tbody>"
    yield from (_row(each, "" if each.at_ns is None else times(each.at_ns)) for each in answer.entries)
    yield "</tbody></table>"
    if not answer.entries:
        yield "<p>Nothing of what was asked for is on record.</p>"
    yield "<section><h2>How to read it</h2><p>The first digits of its digest name a configuration. Account: that of "
    yield "the operating system; at a start and a roll back it is the account of the gateway itself, and who edited "
    yield "the files before a start is not on record. AUTHENTIC: the record is as the gateway signed it, with a key "
    yield "that is trusted.</p>"
    yield f"<dl>{fact('Command', command_line())}{fact('Made', made.removeprefix('Made '))}</dl>"
    if anchors:
        yield from files("Keys and certificates that were trusted", (
            (each.file, each.size_bytes, each.sha256) for each in hashed(anchors)
        ))  # fmt: skip
    yield f"<p class='soft'>{text(STATEMENT)}</p></section>"
    yield from room_to_sign()


def _verdict(answer: Answer) -> str:
    if answer.is_proven:
        return "Every record that was read is authentic, and every configuration has its record."
    if answer.is_sound:
        return '<span class="trouble">Nothing was verified: this shows what the records say.</span>'
    return '<span class="trouble">Not everything is proven.</span>'


def _row(entry: HistoryEntry, when: str) -> str:
    word = f'<span class="{"soft" if entry.is_sound else "trouble"}">{text(_word(entry))}</span>'
    if entry.is_sound:
        role = _soft(f"({entry.role})" if entry.role else "")
        who = f"<li>{text(entry.account)} {role}</li><li>{text(entry.why)}</li>"
        if (approval := entry.approval) is not None:
            meaning = _soft(f"({approval.meaning})")
            who += f"<li>Approved by {text(approval.name)}, {text(approval.role)} {meaning}</li>"
        before = entry.old_hash[:SHORT] or "none"
        again = f" {_soft('which ran before')}" if entry.ran_before else ""
        what = [f"{before} → {entry.new_hash[:SHORT]}{again}"] if entry.old_hash != entry.new_hash else []
        what += [escape(printable(changed(each.path, each.old, each.new, _LONGEST))) for each in entry.changes]
    else:
        who, what = "", [text(entry.text)]
    lines = "".join(f"<li>{each}</li>" for each in (*what, *map(text, _remainder(entry))))
    place = _soft(f"{entry.gateway}, chain {entry.epoch}, seq {entry.seq}")
    return (f"<tr><td>{f'{text(when)}<br>' if when else ''}{word}</td><td><ul>{who}</ul></td>"
            f"<td><ul>{lines}<li>{place}</li></ul></td></tr>")  # fmt: skip


def _soft(words: str) -> str:
    return f'<span class="soft">{text(words)}</span>' if words else ""
