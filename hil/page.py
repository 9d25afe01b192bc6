"""The page of a report: for a person of quality assurance, who has the rig's papers but has never seen the code."""

from __future__ import annotations

from collections.abc import Iterator

from edge.report.html import fact, files, page, room_to_sign, table, text
from edge.report.times import Times
from edge.units import counted, format_duration, format_value
from hil.document import ClockSeen, Criterion, Report, ScenarioResult, Verdict
from hil.plots import STYLE, plot_svg

_STYLE = """\
a { color: var(--accent); }
table.words td, table.words th, table.summary td, table.summary th { overflow-wrap: break-word; }
.amber-word { color: var(--amber); } td.word { font-weight: 600; white-space: nowrap; }
ol.steps { margin: 4px 0; padding-left: 20px; } ol.steps .soft { white-space: nowrap; }
table.summary td:first-child { width: 22%; }
"""
_WORDS: dict[Verdict, str] = {"PASSED": "", "FAILED": "trouble", "NOT PLAYED": "amber-word"}
_INTRODUCTION = (
    "Each scenario below does something to a rig that happens in plants, such as pulling a cable, and then compares "
    "what the devices served with what the archive holds. The comparison is made outside the gateway. Times are UTC."
)


def report_page(report: Report, sha256: str) -> str:
    """The page of a report whose JSON has this hash."""
    times = Times()
    names = f"on rig {report.rig.name}"
    made = f"Made {times.moment(report.made_at_ns)}; report.json has SHA-256 {sha256}"
    return page(f"Tidegate test {names}: {report.verdict}", made, [
        *_header(report, sha256, times), *_summary(report), *_deviations(report),
        *(line for each in report.scenarios for line in _scenario(each)),
        *_rig(report), *_versions(report), *_requirements(report), *_proof(report), *room_to_sign(),
    ], _STYLE + STYLE)  # fmt: skip


def headline(report: Report) -> str:
    """The verdict in one sentence."""
    total = len(report.scenarios)
    named = {word: [each.title for each in report.scenarios if each.verdict == word] for word in _WORDS}
    parts = []
    if named["FAILED"]:
        parts.append(f"{len(named['FAILED'])} of {counted(total, 'scenario')} failed: {', '.join(named['FAILED'])}")
    if named["NOT PLAYED"]:
        parts.append(f"{len(named['NOT PLAYED'])} of {counted(total, 'scenario')} not played: "
                     f"{', '.join(named['NOT PLAYED'])}")  # fmt: skip
    if not parts:
        criteria = sum(len(each.criteria) for each in report.scenarios)
        parts.append(f"{counted(total, 'scenario')} played, and all of {counted(criteria, 'criterion')} hold"
                     .replace("criterions", "criteria"))  # fmt: skip
    deviations = sum(len(each.deviations) for each in report.scenarios)
    parts.append(f"{counted(deviations, 'deviation')} to judge" if deviations else "no deviations")
    return "; ".join(parts) + "."


def _word(verdict: Verdict) -> str:
    return f'<span class="{_WORDS[verdict]}">{verdict}</span>'


def _header(report: Report, sha256: str, times: Times) -> Iterator[str]:
    rig = report.rig
    played = [each for each in report.scenarios if not each.not_played]
    yield '<header><p class="soft">Tidegate test on a rig</p>'
    yield f"<h1>{_word(report.verdict)}</h1><p class='verdict'>{text(headline(report))}</p><dl>"
    kind = "simulated: no hardware was tested" if rig.is_simulated else "hardware"
    yield fact("Rig", f"{rig.name}, {rig.place} ({kind})")
    if played:
        first, last = min(each.started_ns for each in played), max(each.ended_ns for each in played)
        yield fact("Played", times.whole(first - first % 10**9, last - last % 10**9))
    under_test = sorted({each.gateway_version for each in played if each.gateway_version})
    yield fact("Product", f"Tidegate {', '.join(under_test)}" if under_test else "not known: no gateway was started")
    yield fact("Signed by", f"the key {report.signer}" if report.signer else "no key: this report is not signed")
    yield fact("Made", f"{times.moment(report.made_at_ns)} from report.json, SHA-256 {sha256}")
    yield f"</dl><p>{_INTRODUCTION}</p></header>"


def _summary(report: Report) -> Iterator[str]:
    yield "<section><h2>Scenarios</h2><table class='summary'><thead><tr><th>Scenario</th><th>Verdict</th>"
    yield "<th>What it shows</th><th>Requirements</th></tr></thead><tbody>"
    for each in report.scenarios:
        yield (f'<tr><td><a href="#{text(each.name)}">{text(each.title)}</a></td>'
               f'<td class="word">{_word(each.verdict)}</td><td>{text(each.not_played or each.purpose)}</td>'
               f"<td>{text(', '.join(each.requirements))}</td></tr>")  # fmt: skip
    yield "</tbody></table>"
    failed = [(each.title, *what) for each in report.scenarios if not each.not_played for what in _failures(each)]
    if failed:
        yield "<h3>What failed</h3>"
        yield from table(("Scenario", "What should hold", "What was found"), failed)
    yield "</section>"


def _failures(result: ScenarioResult) -> Iterator[tuple[str, str]]:
    yield from ((f"Step: {step.text}", step.trouble) for step in result.steps if step.trouble)
    yield from ((each.text, each.found) for each in result.criteria if not each.holds)
    if not result.criteria:
        yield "A scenario has criteria.", "without one it proves nothing"


def _deviations(report: Report) -> Iterator[str]:
    yield "<section><h2>Deviations</h2>"
    found = [(each.title, deviation) for each in report.scenarios for deviation in each.deviations]
    if not found:
        yield "<p>Every scenario was played as it is written.</p></section>"
        return
    yield "<p>What was other than planned. A person judges whether it matters.</p>"
    yield from table(("Scenario", "Deviation"), found)
    yield "</section>"


def _scenario(result: ScenarioResult) -> Iterator[str]:
    times = Times()
    times.begin_with(result.started_ns)
    yield f'<section class="scenario" id="{text(result.name)}"><h2>{text(result.title)}: {_word(result.verdict)}</h2>'
    yield f"<p>{text(result.purpose)}</p><dl>"
    if result.not_played:
        yield f"{fact('Not played', result.not_played)}</dl></section>"
        return
    yield fact("Played", times.whole(result.started_ns, result.ended_ns))
    yield fact("Requirements", ", ".join(result.requirements))
    if result.configuration_sha256:
        yield fact("Configuration", f"SHA-256 {result.configuration_sha256}")
    if result.clock is not None:
        yield fact("Clock", clock_sentence(result.clock))
    if result.times:
        yield fact("Times", result.times)
    yield "</dl><h3>Pass criteria</h3>"
    yield '<table class="rows"><thead><tr><th>Criterion</th><th>Holds</th><th>What was found</th></tr></thead><tbody>'
    yield from map(_criterion, result.criteria)
    yield "</tbody></table><h3>Steps</h3><ol class='steps'>"
    for step in result.steps:
        trouble = f' <span class="trouble">{text(step.trouble)}</span>' if step.trouble else ""
        took = format_duration(max(0, step.ended_ns - step.started_ns))
        yield f"<li>{text(step.text)} <span class='soft'>{times.short(step.started_ns)}, {took}</span>{trouble}</li>"
    yield "</ol>"
    for plot in result.plots:
        yield f"<h3>{text(plot.title)}</h3>"
        yield plot_svg(plot, times)
    if result.figures:
        yield "<h3>Figures</h3>"
        yield "<dl>"
        yield from (fact(each.name, f"{format_value(each.value)} {each.unit}".strip()) for each in result.figures)
        yield "</dl>"
    for archive in result.archives:
        records = counted(archive.records, "record")
        yield (f"<h3>Archive {text(archive.folder)}</h3><p>{records} of the gateway's chain, as they arrived behind "
               "the broker. To verify them again:</p>"
               f"<pre>{text(archive.command())}</pre><dl>")  # fmt: skip
        yield fact("Gateway's key", archive.identity)
        yield f"{fact('Last record', f'number {archive.last_seq}, SHA-256 {archive.head_sha256}')}</dl>"
    yield "</section>"


def _criterion(criterion: Criterion) -> str:
    word = "yes" if criterion.holds else '<span class="trouble">NO</span>'
    found = "".join(f"<li>{text(each)}</li>" for each in criterion.found.replace("; ", "\n").splitlines())
    return f"<tr><td>{text(criterion.text)}</td><td>{word}</td><td><ul>{found}</ul></td></tr>"


def clock_sentence(clock: ClockSeen) -> str:
    """What the gateway said of its clock."""
    bound = "no bound stated" if clock.bound_ns is None else f"at most {format_duration(clock.bound_ns)} off"
    return f"{clock.source}, {clock.state}, {bound}, as the gateway stated"


def _rig(report: Report) -> Iterator[str]:
    rig = report.rig
    yield f"<section><h2>Rig {text(rig.name)}</h2><dl>{fact('Place', rig.place)}"
    yield f"{fact('Rig file', f'{rig.file}, SHA-256 {rig.sha256}')}</dl>"
    yield from table(("What", "Name", "Vendor and model", "Firmware", "Connection", "Notes"), (
        (each.role, each.name, f"{each.vendor} {each.model}".strip() or "-", each.firmware or "-",
         each.connection or "-", each.notes or "-") for each in rig.wired), name="words")  # fmt: skip
    yield "</section>"


def _versions(report: Report) -> Iterator[str]:
    yield "<section><h2>Versions</h2>"
    lines = ((each.name, each.version or "-", each.sha256 or "-") for each in report.versions)
    yield from table(("Program", "Version", "SHA-256"), lines)
    yield "</section>"


def _requirements(report: Report) -> Iterator[str]:
    yield "<section><h2>Requirements</h2><p>Which scenario shows which requirement, with its verdict.</p>"
    named = dict.fromkeys(each for result in report.scenarios for each in result.requirements)
    yield from table(("Requirement", "What it asks", "Shown by"), (
        (each, report.requirements.get(each, "-"),
         ", ".join(f"{result.title} {result.verdict}" for result in report.scenarios if each in result.requirements))
        for each in named), name="words")  # fmt: skip
    yield "</section>"


def _proof(report: Report) -> Iterator[str]:
    yield "<section><h2>Evidence, and how to check it</h2><p>The files of this folder are the evidence. The file "
    yield "SHA256SUMS names each of them, this page and report.json with its hash, and SHA256SUMS.sig is the signature "
    yield "over SHA256SUMS. With the public key of the person who signed, every change is found, without Tidegate:</p>"
    yield "<pre>openssl pkeyutl -verify -pubin -inkey qa.pub.pem -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig\n"
    yield "sha256sum --check --strict --quiet SHA256SUMS</pre>"
    yield "<p>With Tidegate's rig, which also finds files that were added: "
    yield "<code>python -m hil verify . --trust qa.pub.pem</code></p>"
    if report.signer:
        yield f"<dl>{fact('Signing key', report.signer)}</dl>"
    yield from files("Files", ((each.path, each.size_bytes, each.sha256) for each in report.files))
    yield "</section>"
