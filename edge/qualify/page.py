"""A qualification as one page that needs nothing else: to read, to print, and to sign."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge.qualify.checks import Check, Qualification
from edge.report.html import fact, page, room_to_sign, table, text, text_block
from edge.units import format_duration, format_utc

PARTS = {
    "IQ": ("Installation", "Is the machine installed as it was delivered, and set up as it has to be?"),
    "OQ": ("Operation", "Does the installed program do what it promises, here, with devices that it simulates itself?"),
    "PQ": ("Performance", "What did the real site do, by its own records?"),
}
WORDS = {"held": "held", "failed": "FAILED", "not_applicable": "not applicable"}
_INTRODUCTION = (
    "Each check says what was done, what was expected and what was found; its raw record is the file that is named. A "
    "check that is not applicable says why. What no check can show remains with the plant: that the sensors measure "
    "rightly, that the right people have the keys, and that deviations are judged."
)
_STYLE = """\
table.checks td:first-child { white-space: nowrap; } table.checks td:nth-child(2) { width: 26%; }
td.verdict { white-space: nowrap; } .judgement { border: 1px solid var(--line); padding: 8px; margin: 8px 0;
  break-inside: avoid; } .judgement p { margin: 4px 0 28px; }
@media screen and (max-width: 600px) { table.checks tr { display: block; border-bottom: 1px solid var(--line); }
  table.checks thead { display: none; } table.checks td, table.checks td:nth-child(2) { display: block; width: auto;
  border: 0; white-space: normal; } }
"""


def qualification_page(found: Qualification, digest: str, public_pem: str) -> str:
    """The page; `digest` is the SHA-256 of the document that it is made of, `public_pem` the key that signs."""
    name = found.name or found.host
    head = f"Tidegate qualification, {name}: {WORDS[found.result]}"
    body = [*_header(found, name), *_deviations(found.deviations)]
    for part, (title, question) in PARTS.items():
        checks = [each for each in found.checks if each.id.startswith(part)]
        if checks:
            body += [f"<section><h2>{title} qualification ({part})</h2><p>{question}</p>", *_checks(checks),
                     "</section>"]  # fmt: skip
    body += [*_proof(found, digest, public_pem), *room_to_sign()]
    return page(head, f"Made {format_utc(found.made_at_ns)} by Tidegate {found.version}", body, _STYLE)


def _header(found: Qualification, name: str) -> Iterator[str]:
    style = ' class="trouble"' if found.result == "failed" else ""
    yield '<header><p class="soft">Tidegate qualification: evidence from the installed machine</p>'
    yield f"<h1>{text(name)}: <span{style}>{WORDS[found.result]}</span></h1><p class='verdict'>{text(found.text)}</p>"
    yield "<dl>"
    yield fact(found.kind.capitalize(), name)
    yield fact("Host", found.host)
    yield fact("Configuration", f"{found.config}, SHA-256 {found.configuration}")
    yield fact("Program", f"Tidegate {found.version}, build {found.build}")
    yield fact("Made", f"{format_utc(found.made_at_ns)} by {found.made_by}, in {format_duration(found.took_ns)}")
    yield f"</dl><p>{_INTRODUCTION}</p></header>"


def _deviations(deviations: Sequence[Check]) -> Iterator[str]:
    yield "<section><h2>Deviations</h2>"
    if not deviations:
        yield "<p>None: no check failed.</p>"
    for each in deviations:
        yield f'<div class="judgement"><span class="name">{each.id} {text(each.title)}.</span> {text(each.found)}'
        yield "<p class='soft'>Judgement, and what is done about it:</p><div class='soft'>Name, date:</div></div>"
    yield "</section>"


def _checks(checks: Sequence[Check]) -> Iterator[str]:
    yield '<table class="checks"><thead><tr><th>Check</th><th>Done</th><th>Expected, found</th><th>Verdict</th></tr>'
    yield "</thead><tbody>"
    for each in checks:
        style = ' class="trouble"' if each.verdict == "failed" else ""
        shows = f"<br><span class='soft'>shows {text(', '.join(each.requirements))}</span>" * bool(each.requirements)
        record = f"<br><span class='soft'>{text(each.record)}</span>" * bool(each.record)
        yield (f'<tr><td><span class="name">{each.id}</span></td>'
               f'<td><span class="name">{text(each.title)}.</span> {text(each.done)}{shows}</td>'
               f"<td><span class='soft'>{text(each.expected)}</span><br>{text(each.found)}{record}</td>"
               f'<td class="verdict"><span{style}>{WORDS[each.verdict]}</span><br>'
               f"<span class='soft'>{format_duration(each.took_ns // 10**6 * 10**6)}</span></td></tr>")  # fmt: skip
    yield "</tbody></table>"


def _proof(found: Qualification, digest: str, public_pem: str) -> Iterator[str]:
    yield "<section><h2>What holds this pack together</h2><p>SHA256SUMS names every file of the pack with its hash. "
    if not public_pem:
        yield "It is not signed.</p>"
    else:
        yield "SHA256SUMS.sig is the signature over it. Save the public key below as signer.pub.pem, compare its "
        yield "fingerprint with the one that you know, and check the pack:</p>"
        yield "<pre>tidegate verify PACK --trust signer.pub.pem\n"
        yield "openssl pkeyutl -verify -pubin -inkey signer.pub.pem -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig\n"
        yield "sha256sum --check --quiet SHA256SUMS</pre>"
        yield f"<dl>{fact('Fingerprint', found.signer)}</dl><pre>{text_block(public_pem)}</pre>"
    yield from table(("Made from", "SHA-256"), [("qualification.json", digest)])
    yield "</section>"
