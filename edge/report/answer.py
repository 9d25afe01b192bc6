"""The report, once all files were read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edge.report.collect import Collector
from edge.report.facts import FileAnswer, GatewayAnswer, RangeReport, RefusedAnswer, Result
from edge.report.gateway import HEADINGS, GatewayAnswers
from edge.seal.record import ISSUER_PREFIX

_ORDER: tuple[Result, ...] = ("altered", "untrusted", "not_complete", "nothing_held", "complete")
_GATEWAYS_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How the report was asked for.

    Attributes:
        with_tags: which tags get a row each, by device and name.
        not_reported: gateways of the archive for which no trust anchor was given.
    """

    zone: str
    version: str
    command: str
    made_at_ns: int
    trust: tuple[FileAnswer, ...]
    not_reported: tuple[str, ...]
    with_tags: Callable[[str, str], bool] | None


def range_report(collector: Collector, asked: Asked) -> RangeReport:
    """What is true of the range."""
    report = collector.close()
    places = {(each.issuer, each.epoch): each.places for each in report.epochs}
    refused = [_placed(each, places, collector) for each in collector.refused]
    # A gateway whose name only stands in records that were refused gets an answer where no other one is there.
    issuers = set(collector.gateways or filter(None, collector.first_verdicts))
    if collector.batch is not None:
        issuers &= set(collector.batch.issuers)
    answers = tuple(
        GatewayAnswers(issuer, collector, report, refused, asked.with_tags).answer() for issuer in sorted(issuers)
    )
    result, text = _overall(answers)
    inside = sum(each.is_inside for each in refused)
    return RangeReport(
        result=result, text=text, from_ns=collector.window.from_ns, to_ns=collector.window.to_ns, zone=asked.zone,
        gateways=answers, not_reported=asked.not_reported, refused=tuple(refused),
        refused_inside=inside + collector.refused_not_kept, refused_outside=len(refused) - inside,
        files=tuple(collector.files), trust=asked.trust, version=asked.version, command=asked.command,
        made_at_ns=asked.made_at_ns,
    )  # fmt: skip


def _placed(
    answer: RefusedAnswer, places: dict[tuple[str, str], tuple[int, int]], collector: Collector
) -> RefusedAnswer:
    """A record of a chain that is held lies at its place in it, wherever it lies in the files."""
    issuer = ISSUER_PREFIX + answer.gateway
    gateway = collector.gateways.get(issuer)
    if answer.seq is None or gateway is None or answer.epoch not in gateway.places:
        return answer
    first, last = places.get((issuer, answer.epoch), (1, 0))
    return replace(answer, is_inside=first <= answer.seq <= last)


def _overall(answers: Sequence[GatewayAnswer]) -> tuple[Result, str]:
    if not answers:
        return "nothing_held", f"{HEADINGS['nothing_held']}: there is no record in these files."
    if len(answers) == 1:
        return answers[0].result, answers[0].text
    worst = min((each.result for each in answers), key=_ORDER.index)
    fine = sum(each.result == "complete" for each in answers)
    if fine == len(answers):
        return worst, f"{HEADINGS[worst]}: all {fine} gateways."
    names = [each.gateway for each in answers if each.result == worst]
    more = f" and {len(names) - _GATEWAYS_SHOWN} more" if len(names) > _GATEWAYS_SHOWN else ""
    return worst, (f"{HEADINGS[worst]}: {', '.join(names[:_GATEWAYS_SHOWN])}{more}. "
                   f"{fine} of {len(answers)} gateways are complete and unaltered.")  # fmt: skip
