"""A report as one page that needs nothing else: to read, to print, and to sign."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from edge.report.facts import FileAnswer, GatewayAnswer, RangeReport, TagAnswer
from edge.report.gateway import HEADINGS
from edge.report.html import fact, files, page, room_to_sign, table, text, text_block
from edge.report.plots import KINDS, clock_plot, coverage_plot
from edge.report.rows import Row, missing_text, rows
from edge.report.times import Times
from edge.terminal import shorten
from edge.units import counted
from edge.verify.report import STATEMENT

_REFUSED_SHOWN = 200
_INTRODUCTION = (
    "This page answers for one range of time: is its data all here, is it unchanged, are its times right, how good are "
    "the values, and what was changed on the gateway meanwhile. The answer is at the top, the reasons are below. Times "
    "are UTC unless another zone is named."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who signs the file: the public key, its fingerprint, and the names of the file and of the signature."""

    public_pem: str
    fingerprint: str
    file: str
    signature: str


def report_page(report: RangeReport, times: Times, signer: Signer | None = None) -> str:
    """The page."""
    names = ", ".join(each.gateway for each in report.gateways) or "no gateway"
    head = f"Tidegate report, {shorten(names, 60)}: {HEADINGS[report.result]}"
    if report.from_ns is not None and report.to_ns is not None:
        head += f", {times.whole(report.from_ns, report.to_ns)}"
    body = [
        *_header(report, times),
        *(line for each in report.gateways for line in _gateway(each, report, times)),
        *_refused(report), *_proof(report), *_signature(signer), *room_to_sign(),
    ]  # fmt: skip
    return page(head, f"Made {times.moment(report.made_at_ns)} by Tidegate {report.version}", body)


def _header(report: RangeReport, times: Times) -> Iterator[str]:
    heading, _, rest = report.text.partition(":")
    style = "" if report.result == "complete" else ' class="trouble"'
    yield '<header><p class="soft">Tidegate report on recorded data</p>'
    yield f"<h1><span{style}>{text(heading)}</span></h1><p class='verdict'>{text(rest.strip())}</p>"
    yield "<dl>"
    if report.from_ns is not None and report.to_ns is not None:
        yield fact("Range asked for", times.whole(report.from_ns, report.to_ns))
    if len(report.gateways) > 1:
        yield fact("Gateways", ", ".join(each.gateway for each in report.gateways))
    if report.not_reported:
        yield fact("Not reported", f"{', '.join(report.not_reported)}: no key of theirs was given")
    yield fact("Made", f"{times.moment(report.made_at_ns)} by Tidegate {report.version}")
    yield f"</dl><p>{_INTRODUCTION}</p></header>"


def _gateway(gateway: GatewayAnswer, report: RangeReport, times: Times) -> Iterator[str]:
    yield f"<section><h2>Gateway {text(gateway.gateway)}</h2>"
    if len(report.gateways) > 1:
        yield f"<p class='verdict'>{text(gateway.text)}</p>"
    yield "<dl>"
    if gateway.from_ns is not None and gateway.to_ns is not None:
        yield fact("Range", times.whole(gateway.from_ns, gateway.to_ns))
    if gateway.held_from_ns is not None and gateway.held_to_ns is not None:
        yield fact("Held in these files", times.whole(gateway.held_from_ns, gateway.held_to_ns))
    for each in gateway.unaltered.fingerprints:
        yield fact("Identity key", each)
    yield "</dl>"
    if gateway.unaltered.fingerprints:
        yield '<table class="rows"><thead><tr><th>Question</th><th>Answer</th><th>Reasons</th></tr></thead><tbody>'
        yield from map(_row, rows(gateway, times, is_short=False))
        yield "</tbody></table>"
        yield from _plots(gateway, times)
        yield from _devices(gateway)
        yield from _instruments(gateway)
    if gateway.tags is not None:
        yield from _tags(gateway.tags, times)
    yield "</section>"


_QUESTIONS = {
    "batch": "When was each unit in the batch?",
    "unaltered": "Is every record as the gateway signed it?", "complete": "Is all data of the range here?",
    "clock": "Is it known how far the times may be off?", "quality": "How good are the values?",
    "instruments": "Was every instrument within its calibration?",
    "changes": "What was changed on the gateway?", "continues": "Are the records before and after it held?",
}  # fmt: skip


def _row(row: Row) -> str:
    lines = "".join(f"<li>{f'{text(kind)}: ' if kind else ''}{text(line)}</li>" for kind, line in row.lines)
    style = "" if row.is_fine else ' class="trouble"'
    return (f'<tr><td><span class="name">{row.name.capitalize()}.</span> {_QUESTIONS[row.name]}'
            f'<br><span class="soft">{text(row.meaning)}</span></td>'
            f"<td><span{style}>{row.answer}</span></td><td><ul>{lines}</ul></td></tr>")  # fmt: skip


def _plots(gateway: GatewayAnswer, times: Times) -> Iterator[str]:
    if gateway.from_ns is None or gateway.to_ns is None:
        return
    span = gateway.from_ns, gateway.to_ns
    if gateway.devices:
        yield "<h3>When each device was read</h3><figure>"
        yield coverage_plot(gateway.devices, *span, times)
        yield f'<figcaption class="legend">{"".join(_legend())}</figcaption></figure>'
    if gateway.clock.bounds:
        yield "<h3>How far the clock might be off from UTC</h3><figure>"
        yield clock_plot(gateway.clock, *span, times)
        yield "<figcaption>Line: the error stated by the gateway is at most this. Hatched: not known. "
        yield "Nothing drawn: no record is held.</figcaption></figure>"


def _legend() -> Iterator[str]:
    for kind, words in {"read": "read", **KINDS}.items():
        yield f'<span><svg viewBox="0 0 24 12"><rect class="{kind}" width="24" height="12"/></svg>{words}</span>'


def _devices(gateway: GatewayAnswer) -> Iterator[str]:
    if not gateway.devices:
        return
    yield "<h3>Devices</h3>"
    yield from table(
        ("Device", "Tags", "Readings due", "Readings received"),
        ((each.device, f"{each.tags:,}", f"{each.due:,}" if each.due else "on change", f"{each.received:,}")
         for each in gateway.devices), numbers=(1, 2, 3),
    )  # fmt: skip


def _instruments(gateway: GatewayAnswer) -> Iterator[str]:
    if not gateway.instruments:
        return
    yield "<h3>Instruments</h3>"
    yield from table(
        ("Instrument", "Device", "Tag", "Serial", "Certificate", "Calibrated", "Due", "Tolerance", "Overdue"),
        ((each.name, each.device, each.tag, each.serial, each.certificate, each.calibrated or "-", each.due or "-",
          each.tolerance, "no" if each.overdue_from_ns is None else "yes") for each in gateway.instruments),
    )  # fmt: skip


def _tags(tags: Sequence[TagAnswer], times: Times) -> Iterator[str]:
    of_batch = any(each.missing is not None for each in tags)
    yield "<h3>Tags</h3>"
    yield from table(
        ("Device", "Tag", "Unit", "Due", "Received", "Good", "Uncertain", "Bad", "First value", "Last value",
         *(["Missing"] if of_batch else ())),
        ((each.device, each.tag, each.unit, "on change" if each.due is None else f"{each.due:,}",
          f"{each.received:,}", f"{each.good:,}", f"{each.uncertain:,}", f"{each.bad:,}",
          "-" if each.first_ns is None else times.short(each.first_ns),
          "-" if each.last_ns is None else times.short(each.last_ns),
          *([missing_text(each.missing)] if of_batch else ())) for each in tags),
        numbers=range(3, 8), name="tags",
    )  # fmt: skip


def _refused(report: RangeReport) -> Iterator[str]:
    if not report.refused:
        return
    yield "<section><h2>Altered, damaged and foreign records</h2><p>They were found in the files, and none of them is "
    yield f"counted as data. {report.refused_inside:,} in the range, or possibly so; "
    yield f"{report.refused_outside:,} outside.</p>"
    yield from table(
        ("Verdict", "File", "Offset", "Seq", "In the range", "Why"),
        ((each.verdict, each.file, f"{each.offset:,}", "-" if each.seq is None else str(each.seq),
          "yes" if each.is_inside else "no", each.reason) for each in report.refused[:_REFUSED_SHOWN]), numbers=(2, 3),
    )  # fmt: skip
    if len(report.refused) > _REFUSED_SHOWN:
        yield f"<p>And {counted(len(report.refused) - _REFUSED_SHOWN, 'more')}; --json lists them.</p>"
    yield "</section>"


def _proof(report: RangeReport) -> Iterator[str]:
    yield "<section><h2>What this report is made of</h2><p>Whoever has the same files gets the same answers from the "
    yield "same command. The hashes show that files are the same.</p>"
    yield f"<dl><dt>Command</dt><dd><code>{text(report.command)}</code></dd>"
    yield f"{fact('Version', f'Tidegate {report.version}')}</dl>"
    yield from files("Files that were read", _listed(report.files))
    yield from files("Keys and certificates that were trusted", _listed(report.trust))
    yield f"<p class='soft'>{text(STATEMENT)} A device that measures wrongly is recorded faithfully.</p></section>"


def _listed(answers: Iterable[FileAnswer]) -> Iterable[tuple[str, int, str]]:
    return ((each.file, each.size_bytes, each.sha256) for each in answers)


def _signature(signer: Signer | None) -> Iterator[str]:
    if signer is None:
        return
    file, signature = text(signer.file), text(signer.signature)
    yield "<section><h2>Signature of this file</h2><p>The bytes of this file are signed with a key of whoever made the "
    yield f"report. The signature is in the file {signature}. Save the public key below as signer.pub.pem, compare its "
    yield "fingerprint with the one that you know, and check both:</p>"
    yield (
        f"<pre>openssl pkey -pubin -in signer.pub.pem -outform DER | openssl sha256\n"
        f"openssl pkeyutl -verify -pubin -inkey signer.pub.pem -rawin -in {file} -sigfile {signature}</pre>"
    )
    yield f"<dl>{fact('Fingerprint', signer.fingerprint)}</dl><pre>{text_block(signer.public_pem)}</pre></section>"
