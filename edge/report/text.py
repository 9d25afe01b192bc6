"""A report on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from edge.report.facts import GatewayAnswer, RangeReport, TagAnswer
from edge.report.rows import Row, missing_text, rows
from edge.report.times import Times
from edge.terminal import BOLD, DIM, RED, Column, fit_table, printable, wrap

_NARROW = 60
_NAME, _ANSWER, _KIND = 12, 6, 9
_REFUSED_SHOWN = 5

_TAGS = (
    Column(title="device", least=8), Column(title="tag", least=10), Column(title="due", is_number=True, rank=3),
    Column(title="received", is_number=True), Column(title="good", is_number=True, rank=2),
    Column(title="uncertain", is_number=True, rank=1), Column(title="bad", is_number=True),
    Column(title="first", rank=5), Column(title="last", rank=4),
)  # fmt: skip

_MISSING = Column(title="missing")


def report_lines(report: RangeReport, times: Times, width: int) -> Iterator[Text]:
    """The whole report."""
    style = "" if report.result == "complete" else RED
    heading, _, rest = printable(report.text).partition(":")
    for number, line in enumerate(wrap(f"RESULT  {heading}:{rest}", width, 8)):
        text = Text(line, style=BOLD)
        if number == 0:
            text.stylize(style, 8, 8 + len(heading))
        yield text
    for gateway in report.gateways:
        if len(report.gateways) > 1:
            yield Text()
            yield from (Text(each, style=BOLD) for each in wrap(printable(f"{gateway.gateway}: {gateway.text}"), width))
        yield from _gateway_lines(gateway, times, width)
    yield from _remarks(report, width)


def _gateway_lines(gateway: GatewayAnswer, times: Times, width: int) -> Iterator[Text]:
    if gateway.from_ns is not None and gateway.to_ns is not None:
        tags = f", {gateway.quality.tags:,} tags" if gateway.quality.tags else ""
        text = f"Range   {times.whole(gateway.from_ns, gateway.to_ns)}   gateway {printable(gateway.gateway)}{tags}"
        yield from (Text(each) for each in wrap(text, width, 8))
    if gateway.result == "nothing_held" or not gateway.unaltered.fingerprints:
        return
    for row in rows(gateway, times):
        yield from _row_lines(row, width)
    if gateway.tags is not None:
        yield Text()
        yield from tag_lines(gateway.tags, times, width)


def _row_lines(row: Row, width: int) -> Iterator[Text]:
    is_narrow = width < _NARROW
    indent = 4 if is_narrow else 2 + _NAME + (_ANSWER if row.answer else 0)
    head = Text("  ").append(row.name.ljust(_NAME))
    if row.answer:
        head.append(row.answer.ljust(_ANSWER), style="" if row.is_fine else RED)
    if is_narrow:
        head.rstrip()
        yield head
    kinds = max(_KIND, *(len(kind) + 1 for kind, _ in row.lines))
    for kind, sentence in row.lines:
        lead = kind and (f"{kind} " if is_narrow else kind.ljust(kinds))
        for line in wrap(lead + printable(sentence), width - indent, len(lead) if not is_narrow else 2):
            yield (Text(" " * indent) if is_narrow or not head else head).append(line)
            head = Text()


def _remarks(report: RangeReport, width: int) -> Iterator[Text]:
    found = []
    for refused in [each for each in report.refused if each.is_inside][:_REFUSED_SHOWN]:
        which = "" if refused.seq is None else f", seq {refused.seq}"
        found.append(f"{refused.verdict} {refused.file}, offset {refused.offset}{which}: {refused.reason}")
    if report.refused_outside:
        found.append(f"{report.refused_outside:,} altered, damaged or foreign records lie outside the range")
    if report.not_reported:
        found.append(f"Not reported: {', '.join(report.not_reported)}, for which --trust names no key")
    if found:
        yield Text()
    for each in found:
        yield from (Text(line, style=DIM) for line in wrap(printable(each), width, 2))


def tag_lines(tags: Sequence[TagAnswer], times: Times, width: int) -> Iterator[Text]:
    """A row a tag."""
    of_batch = any(each.missing is not None for each in tags)
    table = fit_table((*_TAGS, _MISSING) if of_batch else _TAGS, [
        (printable(each.device), printable(each.tag), "on change" if each.due is None else f"{each.due:,}",
         f"{each.received:,}", f"{each.good:,}", f"{each.uncertain:,}", f"{each.bad:,}",
         "-" if each.first_ns is None else times.short(each.first_ns),
         "-" if each.last_ns is None else times.short(each.last_ns),
         *([missing_text(each.missing)] if of_batch else ()))
        for each in tags
    ], width)  # fmt: skip
    yield from table.lines
    if table.left_out:
        yield from (Text(each, style=DIM) for each in wrap(f"Too wide for: {', '.join(table.left_out)}", width, 2))
