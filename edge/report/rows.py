"""The rows of a report: one answer each, its reasons, and one plain sentence of what it means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge.report.batch import members_text
from edge.report.facts import (
    BatchAnswer,
    GapAnswer,
    GatewayAnswer,
    InstrumentAnswer,
    MissingAnswer,
    QualityAnswer,
    ReviewAnswer,
)
from edge.report.gateway import are
from edge.report.times import Times
from edge.units import counted, format_duration

_LINES = 6
_PAGE_LINES = 200
_CLOSE = 19  # Digits of a fingerprint that people compare at a glance.


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An answer.

    Attributes:
        answer: yes or NO; empty where it is no question of that kind.
        lines: the reasons, (kind, text) each; a kind may be empty.
        meaning: what the row says, for someone who reads it for the first time.
    """

    name: str
    answer: str = ""
    lines: tuple[tuple[str, str], ...]
    meaning: str

    @property
    def is_fine(self) -> bool:
        """Whether nothing in it asks for a look."""
        return self.answer != "NO"


def rows(gateway: GatewayAnswer, times: Times, *, is_short: bool = True) -> list[Row]:
    """The rows of one gateway; a short form leaves out what is listed elsewhere too."""
    limit = _LINES if is_short else _PAGE_LINES
    return [
        *_batch_rows(gateway.batch, times, limit),
        Row(name="unaltered", answer=_yes(gateway.unaltered.is_unaltered), lines=tuple(_unaltered(gateway)),
            meaning="Every record is signed by the gateway. A valid signature means that not one bit of the record was "
                    "changed since, and that this gateway made it."),
        Row(name="complete", answer=_yes(gateway.complete.is_complete), lines=tuple(_complete(gateway, times, limit)),
            meaning="Records are numbered and chained, so that a missing one is noticed. A gap is a stretch in which "
                    "a device was not read: declared by the gateway, or found in the readings."),
        Row(name="clock", answer=_yes(gateway.clock.is_known), lines=tuple(_clock(gateway, times, limit)),
            meaning="How far the times of the readings may be off from UTC, as the gateway stated with each record. "
                    "No means that for a part of the range it could not tell, or that its clock was set."),
        Row(name="quality", lines=tuple(_quality(gateway.quality, 3 if is_short else 20)),
            meaning="A reading is one tag read once. Good readings can be used, uncertain ones with care, bad ones "
                    "have no value. Bad data is marked BAD by the gateway, and never repaired."),
        *_instrument_rows(gateway.instruments, times, limit),
        Row(name="changes", lines=tuple(_changes(gateway, times, limit)),
            meaning="What was done to the gateway: another configuration, another key, starts and stops."),
        Row(name="continues", lines=(("", f"before: {_held(gateway.continues.is_before, gateway.continues.before)}"),
                                     ("", f"after: {_held(gateway.continues.is_after, gateway.continues.after)}")),
            meaning="The records just before and just after the range fix its place in the chain: where both are held, "
                    "nothing was cut off at its ends."),
        *([Row(name="reviews", lines=tuple(map(_review, gateway.reviews)),
               meaning="What people wrote about a range, and signed. The time is that of the text.")]
          if gateway.reviews else []),
    ]  # fmt: skip


def _instrument_rows(instruments: Sequence[InstrumentAnswer], times: Times, limit: int) -> Iterator[Row]:
    """One row, where the configuration names instruments."""
    if not instruments:
        return
    overdue = sum(each.overdue_from_ns is not None for each in instruments)
    lines = [("" if each.overdue_from_ns is None else "overdue", _instrument(each, times)) for each in instruments]
    yield Row(
        name="instruments", answer=_yes(not overdue), lines=tuple(_few(lines, limit, "calibration")),
        meaning="Each reading has the calibration that its instrument had at its time, as the configuration said then. "
                "No means that some were read after the last valid day of it, which does not make their values bad.",
    )  # fmt: skip


def _instrument(each: InstrumentAnswer, times: Times) -> str:
    place = f"{each.device}/{each.tag}"
    parts = [each.name if each.name == place else f"{each.name} ({place})"]
    parts.append(f"certificate {each.certificate}" if each.certificate else "no certificate")
    parts.append(f"due {each.due}" if each.due else "no due day")
    if each.overdue_from_ns is not None:
        parts.append(f"read overdue {times.span(each.overdue_from_ns, each.to_ns)}")
    return ", ".join(parts)


def _review(review: ReviewAnswer) -> tuple[str, str]:
    """A review in one line; "altered since" where the records are no longer those."""
    who = f"{review.name}, {review.role} ({review.meaning})" if review.name else "NOT CONFIRMED"
    why = f"; {review.why_not}" if review.why_not else ""
    if not review.at:
        return "review", f"{who} {review.file}{why}"
    kind = "altered since" if review.altered else "review"
    since = f"; {review.altered}" if review.altered else ""
    return kind, (f"{who} at {review.at}, of {review.begin} to {review.end}: {review.note}; "
                  f"the answer was: {review.answer}{since}{why}")  # fmt: skip


def _batch_rows(answer: BatchAnswer | None, times: Times, limit: int) -> Iterator[Row]:
    if answer is not None:
        yield Row(name="batch", lines=tuple(_batch(answer, times, limit)),
                  meaning="When each unit was in the batch, and in which phase, as it was sealed with the readings: "
                          "one counts to the batch only where that is certain.")  # fmt: skip


def _batch(answer: BatchAnswer, times: Times, limit: int) -> Iterator[tuple[str, str]]:
    for run in answer.runs:
        began = _moment(run.began_from_ns, run.began_to_ns, times)
        if run.ended_to_ns is None or run.ended_from_ns is None:
            ended = "has not ended: reported until the last record"
        else:
            ended = f"ended {_moment(run.ended_from_ns, run.ended_to_ns, times)}"
        yield "unit", f"{run.unit} began {began}, {ended}; {counted(run.blocks, 'scan')}"
        changes = [("since", f"{_moment(each.from_ns, each.to_ns, times)}: {members_text(each.members)}")
                   for each in run.contexts]  # fmt: skip
        yield from _few(changes, limit, "change")
        if run.boundary_blocks:
            yield "boundary", (f"{are(run.boundary_blocks, 'scan')} not counted: sampled while the batch of {run.unit} "
                               "changed")  # fmt: skip
        if run.unknown_blocks:
            yield "unknown", f"{are(run.unknown_blocks, 'scan')} not counted: the batch was not known then"
    for other in answer.look_alikes:
        yield "beware", f"{other!a} is the id of another batch that looks like {answer.batch!a}"


def _moment(from_ns: int, to_ns: int, times: Times) -> str:
    """An instant with its bound."""
    return f"{times.short(to_ns)} (within {format_duration(max(to_ns - from_ns, 0))} before)"


def _yes(is_fine: bool) -> str:
    return "yes" if is_fine else "NO"


def _held(is_held: bool, why: str) -> str:
    return f"{'yes' if is_held else 'NO'} ({why})"


def _few(lines: Sequence[tuple[str, str]], limit: int, what: str) -> Iterator[tuple[str, str]]:
    yield from lines[:limit]
    if len(lines) > limit:
        yield "", f"{counted(len(lines) - limit, f'more {what}')}, listed with --json"


_VERDICTS = {
    "ALTERED": "not as the gateway signed them", "FORK": "in conflict with another record at the same place",
    "GARBAGE": "damaged: stretches of the files that are no record", "UNTRUSTED": "signed by a key that is not trusted",
    "UNVERIFIABLE": "whose key is not known",
    "LINKED": "whose key is missing; a later signature fixes their bytes",
}  # fmt: skip


def _unaltered(gateway: GatewayAnswer) -> Iterator[tuple[str, str]]:
    answer = gateway.unaltered
    by = " and ".join(each[:_CLOSE] for each in answer.fingerprints)
    carry = "carries" if answer.valid == 1 else "carry"
    yield "", (f"{answer.valid:,} of {counted(answer.records, 'record')} {carry} a valid signature"
               + (f" of {by}" if by else ""))  # fmt: skip
    for verdict, number in answer.verdicts.items():
        if verdict in _VERDICTS:
            yield verdict, f"{number:,} {_VERDICTS[verdict]}"


def _complete(gateway: GatewayAnswer, times: Times, limit: int) -> Iterator[tuple[str, str]]:
    answer = gateway.complete
    if answer.is_complete:
        yield "", "no record is missing, and every device was read"
    absent = [("removed" if each.is_removed else "missing", _missing(each, times)) for each in answer.missing]
    yield from _few(absent, limit, "range")
    inside = [each for each in answer.gaps if each.is_inside]
    yield from _few([("gap", _gap(each, times)) for each in inside if each.is_declared], limit, "gap")
    yield from _few([("hole", _gap(each, times)) for each in inside if not each.is_declared], limit, "hole")
    yield from _few([("lost", each) for each in answer.losses], limit, "LOSS record")
    yield from (("", each) for each in answer.shortfalls)
    outside = [("gap", f"{_gap(each, times)}, outside the range") for each in answer.gaps if not each.is_inside]
    yield from outside[:limit]


def _missing(each: MissingAnswer, times: Times) -> str:
    which = f"seq {each.first_seq}" if each.records == 1 else f"seq {each.first_seq}-{each.last_seq}"
    declared = "declared: dropped before delivery" if each.is_declared else "not declared"
    declared = "removed by retention, as the relay states" if each.is_removed else declared
    if each.from_ns is None and each.to_ns is None:
        when = "at an unknown time"
    elif each.from_ns is None:
        when = f"until {times.short(each.to_ns or 0)}"
    else:
        when = f"since {times.short(each.from_ns)}" if each.to_ns is None else times.span(each.from_ns, each.to_ns)
    return f"{when}, {counted(each.records, 'record')} ({which}), {declared}"


def _gap(each: GapAnswer, times: Times) -> str:
    what = each.device or "all devices"
    if each.scan_groups:
        what += f" ({', '.join(each.scan_groups[:3])}{', ...' if len(each.scan_groups) > 3 else ''})"
    if each.to_ns is None:
        when = f"since {times.short(each.from_ns)}, no end is on record"
    else:
        when = f"{times.span(each.from_ns, each.to_ns)}, {format_duration(each.to_ns - each.from_ns)}"
    why = each.reason or ("" if each.is_declared else "nothing on record says why")
    return f"{what}, {when}" + (f" ({why})" if why else "")


def _clock(gateway: GatewayAnswer, times: Times, limit: int) -> Iterator[tuple[str, str]]:
    answer = gateway.clock
    if not answer.stretches:
        yield "", "no record of the range says anything of the clock"
        return
    if len(answer.stretches) == 1:
        [only] = answer.stretches
        state = f"{only.state} ({only.source})" if only.source != "none" else only.state
        if only.worst_bound_ns is None:
            yield "", f"{state}: accuracy not known for the whole range"
        else:
            yield "", f"{state} for the whole range, within {format_duration(only.worst_bound_ns)} of UTC at worst"
    else:
        lines = []
        for each in answer.stretches:
            bound = ("accuracy not known" if each.worst_bound_ns is None
                     else f"within {format_duration(each.worst_bound_ns)} of UTC")  # fmt: skip
            source = f" ({each.source})" if each.source != "none" else ""
            lines.append(("", f"{times.span(each.from_ns, each.to_ns)}: {each.state}{source}, {bound}"))
        yield from _few(lines, limit, "range")
    yield from _few([("set", each) for each in answer.events], limit, "event")
    yield from _few([("corrected", each) for each in answer.corrections], limit, "correction")


_REASONS = {
    "UNCERTAIN": "clock not as good as required, or the device says so", "UNCERTAIN_OUT_OF_RANGE": "out of range",
    "BAD_NO_COMMUNICATION": "no communication", "BAD_TIMEOUT": "no answer in time",
    "BAD_WAITING_FOR_INITIAL_DATA": "not read yet", "BAD_ADDRESS": "the device does not have this address",
    "BAD_DEVICE_FAILURE": "device failure", "BAD_OUT_OF_SERVICE": "out of service",
    "BAD_NO_DATA": "the device says that it has no value", "BAD_DECODING_ERROR": "an answer that cannot be read",
}  # fmt: skip


_CAUSES = {"gap": "not read", "lost": "not held", "not_explained": "not explained"}


def missing_text(missing: dict[str, int] | None) -> str:
    """How many readings are missing, and why."""
    if missing is None:
        return "-"
    causes = ", ".join(f"{number:,} {_CAUSES.get(cause, cause)}" for cause, number in missing.items())
    return f"{sum(missing.values()):,}" + (f": {causes}" if causes else "")


def reason_of(status: str) -> str:
    """A status code in words."""
    return _REASONS.get(status, status)


def _quality(answer: QualityAnswer, limit: int) -> Iterator[tuple[str, str]]:
    text = f"{answer.good:,} good, {answer.uncertain:,} uncertain, {answer.bad:,} bad readings of {answer.tags:,} tags"
    yield "", text
    for each in answer.worst[:limit]:
        parts = [f"{number:,} {word}" for number, word in ((each.bad, "bad"), (each.uncertain, "uncertain")) if number]
        yield "", f"{each.device}/{each.tag}: {', '.join(parts)} ({reason_of(each.reason)})"
    if answer.affected_tags > limit:
        yield "", f"{counted(answer.affected_tags - limit, 'more tag')}, listed with --tags"
    if answer.not_counted_records:
        yield "", f"{are(answer.not_counted_records, 'record')} not counted: the list of their tags is not held"
    if answer.withdrawn_records:
        yield (
            "",
            f"{are(answer.withdrawn_records, 'record')} counted although a later key shows that they are untrusted",
        )


def _changes(gateway: GatewayAnswer, times: Times, limit: int) -> Iterator[tuple[str, str]]:
    lines = [("", f"{times.short(each.at_ns)}: {each.text}" + ("" if each.is_inside else ", outside the range"))
             for each in gateway.changes]  # fmt: skip
    if not any(each.is_inside for each in gateway.changes):
        yield "", "none in the range"
    yield from _few(lines, limit, "change")
    if gateway.key_changes:
        yield "", f"the session key changed {counted(gateway.key_changes, 'time')}, as it does at regular intervals"
