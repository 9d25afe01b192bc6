"""Pass criteria of acquisition: the archive against the witness, the devices' logs and the known signals."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from math import inf

from hil.agreement import Agreement, Known, Motion, agreement
from hil.document import Figure, Line, Plot, Point, thinned
from hil.evidence import Archived, Evidence, Finding
from hil.rig import Signal
from hil.truth import (
    Interval,
    Steps,
    amplitude,
    archived_steps,
    deviation,
    match_steps,
    seen_steps,
    true_steps,
)
from hil.watch import seen_by_witness, watched

_LINE_POINTS = 300


def signals(evidence: Evidence, *waves: str) -> Iterator[tuple[str, Signal]]:
    """The known signals with these waves, by `device/tag`."""
    for device in evidence.rig.wired.devices:
        yield from ((f"{device.name}/{tag}", each) for tag, each in device.signals.items() if each.wave in waves)


def known_of(evidence: Evidence) -> dict[str, Known]:
    """What the archive's catalogue says of each tag, by `device/tag`."""
    found = {}
    for group in evidence.catalogue.groups if evidence.catalogue else ():
        for tag in group.tags:
            low, high = tag.range or (-inf, inf)
            ends = sorted(((low - tag.offset) / tag.scale, (high - tag.offset) / tag.scale))
            found[f"{group.device}/{tag.name}"] = Known(
                type=tag.data_type.label, hole_ns=group.hole_ns + 2 * evidence.alignment.largest_ns,
                deadband=abs(tag.deadband / tag.scale), range=(ends[0], ends[1]),
            )  # fmt: skip
    return found


def agreements(evidence: Evidence, *, with_log: bool = False) -> list[Agreement]:
    """The comparison of every tag that the witness read; `with_log` with what the devices wrote down too."""
    known, motions = known_of(evidence), dict(signals(evidence, "sine", "ramp", "square", "steady"))
    return [
        agreement(
            tag, known[tag], Motion.of(motions[tag]) if tag in motions else Motion.measured(seen),
            evidence.archived.get(tag, ()), seen, evidence.served.get(tag) if with_log else None, evidence.declared,
            evidence.observed.stopped_boot_ns,
        )
        for tag, seen in seen_by_witness(evidence).items()
        if tag in known
    ]  # fmt: skip


def witness_agrees(evidence: Evidence) -> Finding:
    """Check value, type and quality of every archived reading against the witness; devices read in turns are named."""
    found = agreements(evidence)
    side_by_side = {wired.name for wired, _ in watched(evidence.rig, in_turns=False)}
    beside = [each for each in found if each.tag.partition("/")[0] in side_by_side]
    in_turns = [each for each in found if each not in beside]
    holds = bool(found) and all(each.holds for each in beside) and not any(each.is_contradicted for each in in_turns)
    judged, largest = sum(each.judged for each in found), max((each.largest for each in found), default=0.0)
    wrong = [each.found for each in found if each.is_contradicted or (each in beside and not each.holds)]
    words = f"{_libraries(evidence)} read {len(found)} tags; {judged} archived readings judged by two of its readings, "
    words += f"{sum(each.matched for each in found)} of its readings by what the archive held; "
    words += "; ".join(wrong) if wrong else f"all agree; the largest difference is {largest:.0%} of what may differ"
    if in_turns:
        turns, astray = _judged_in_turns(evidence, {each.tag for each in in_turns})
        holds = holds and not astray
        words += f"; {len(in_turns)} tags read in turns, of which the known signal judged {turns} readings of the "
        words += f"witness, {astray} wrong" if astray else "witness"
    return Finding(holds, words, [
        Figure(name="readings judged by the witness", value=judged),
        Figure(name="readings not judged", value=sum(each.unjudged for each in found)),
        Figure(name="largest difference from the witness, of what may differ", value=round(100 * largest, 1), unit="%"),
    ])  # fmt: skip


def _judged_in_turns(evidence: Evidence, tags: Collection[str]) -> tuple[int, int]:
    """How many readings of the witness a known signal judged, and how many are wrong."""
    known = [each for each in _phased(evidence) if each[0] in tags]
    seen = seen_by_witness(evidence)
    found = [
        deviation(signal, [Archived(each.asked_ns, each.answered_ns, each.value) for each in seen[tag]])
        for tag, signal in known
    ]
    return sum(each.judged for each in found), sum(each.wrong for each in found)


def _phased(evidence: Evidence) -> list[tuple[str, Signal]]:
    """The signals whose value is known at every moment: those that a simulated rig makes from the boot time."""
    return list(signals(evidence, "sine", "ramp", "square", "steady")) if evidence.rig.is_simulated else []


def device_log_agrees(evidence: Evidence) -> Finding:
    """Check that every archived value is one that its device wrote down between the request and the answer."""
    found = [each for each in agreements(evidence, with_log=True) if each.unserved is not None]
    if not found:
        return Finding(True, "no device of this rig keeps a log")
    wrong = [each.found for each in found if each.unserved]
    readings = sum(each.readings for each in found)
    return Finding(
        readings > 0 and not wrong, "; ".join(wrong) or f"all {readings} archived values of {len(found)} tags are there"
    )


def values_follow_their_signals(evidence: Evidence) -> Finding:
    """Check each archived value of a signal whose phase is known against the true one at that moment."""
    known = _phased(evidence)
    found = {tag: deviation(signal, evidence.archived.get(tag, ())) for tag, signal in known}
    if not found:
        return Finding(True, "the phase of this rig's signals is not known: the witness judges their values")
    wrong = [f"{tag}: {one.wrong} of {one.judged} wrong, by up to {one.largest:.6g}" for tag, one in found.items()
             if one.wrong or not one.judged]  # fmt: skip
    largest = max(one.largest_part for one in found.values())
    judged = sum(one.judged for one in found.values())
    words = "; ".join(wrong) or f"all {judged} values; the largest difference is {largest:.0%} of what may differ"
    plots = [_plot(evidence, tag, signal) for tag, signal in known if signal.wave != "steady"]
    figures = [Figure(name=f"largest difference from the known signal, {tag}", value=float(f"{one.largest:.4g}"))
               for tag, one in found.items() if one.largest]  # fmt: skip
    return Finding(not wrong, f"{words}; {_errors(known)}", figures, plots)


def amplitudes_are_true(evidence: Evidence) -> Finding:
    """Check the archived amplitude of each sine."""
    known = list(signals(evidence, "sine"))
    if not known:
        return Finding(True, "no signal of this rig is a sine")
    found = {tag: amplitude(signal, evidence.archived.get(tag, ())) for tag, signal in known}
    words = [f"{tag}: {one.archived:.6g}, true {one.true:.6g}, may differ by {one.allowed:.3g}" if one else
             f"{tag}: not a whole period was read closely enough" for tag, one in found.items()]  # fmt: skip
    figures = [
        Figure(name=f"amplitude, {tag}", value=float(f"{one.archived:.6g}")) for tag, one in found.items() if one
    ]
    return Finding(all(one is not None and one.holds for one in found.values()), "; ".join(words), figures)


def steps_are_timed_right(evidence: Evidence) -> Finding:
    """Check that each step of each square signal lies in the interval that the archive gives for it."""
    known, seen = list(signals(evidence, "square")), seen_by_witness(evidence)
    if not known:
        return Finding(True, "no signal of this rig steps")
    found: dict[str, Steps] = {}
    for tag, signal in known:
        scans = sorted(each.from_ns for each in _group_of(evidence, tag))
        true = true_steps(signal, scans) if evidence.rig.is_simulated else seen_steps(seen.get(tag, ()))
        steps = archived_steps(evidence.archived.get(tag, ()), scans)
        found[tag] = match_steps(true, steps, scans, known_of(evidence)[tag].hole_ns, _pauses(evidence, tag))
    words = [
        f"{tag}: {one.matched} steps found in time, {len(one.missing)} missing, {len(one.invented)} without a step, "
        f"{len(one.untimed)} not timed; the widest interval is {one.widest_ns / 1e6:.3f} ms"
        for tag, one in found.items()
    ]
    figures = [Figure(name=f"widest interval of a step, {tag}", value=round(one.widest_ns / 1e6, 3), unit="ms")
               for tag, one in found.items()]  # fmt: skip
    holds = all(one.holds for one in found.values())
    return Finding(holds, f"{'; '.join(words)}; {_errors(known)}", figures)


def clock_bound_holds(evidence: Evidence) -> Finding:
    """Check the gateway's UTC against the clock of the machine that runs the scenarios, within the stated bound."""
    apart = [value for _, value in evidence.observed.samples.get("clock apart, ms", []) if value is not None]
    bounds = [value for _, value in evidence.observed.samples.get("bound of the clock, ms", []) if value is not None]
    if not bounds:
        return Finding(True, "the gateway stated no bound of its clock, so its UTC is not judged, only its boot time")
    largest, bound = max(map(abs, apart), default=inf), min(bounds)
    return Finding(largest <= bound, f"at most {largest:.3f} ms apart, the least stated bound is {bound:.3f} ms")


def _pauses(evidence: Evidence, tag: str) -> list[Interval]:
    """When the gateway was not reading a device: gaps on record, and what was done to the rig."""
    of = evidence.clock.of
    absences = [each for each in evidence.declared if each.device in (None, tag.partition("/")[0])]
    spans = [(of(span.from_ns), of(span.to_ns)) for span in evidence.observed.disturbances]
    return [(each.from_ns, each.to_ns) for each in absences] + spans


def _group_of(evidence: Evidence, tag: str) -> Iterator[Archived]:
    """The readings of all tags of a tag's scan group: together they tell when it was scanned."""
    for group in evidence.catalogue.groups if evidence.catalogue else ():
        names = [f"{group.device}/{each.name}" for each in group.tags]
        if tag in names:
            for name in names:
                yield from evidence.archived.get(name, ())


def _errors(known: Sequence[tuple[str, Signal]]) -> str:
    """The errors of the instruments, which the verdict allows for."""
    stated = [f"{tag} {signal.accuracy:g} and {signal.time_error / 1e6:g} ms" for tag, signal in known
              if signal.accuracy or signal.time_error]  # fmt: skip
    if not stated:
        return "the signals have no error of their own: they are made from the boot time that the archive has"
    return f"allowed for the instruments' own errors, in value and time: {', '.join(stated)}"


def _plot(evidence: Evidence, tag: str, signal: Signal) -> Plot:
    utc_of = evidence.clock.utc_of
    archived = [each for each in evidence.archived.get(tag, ()) if each.value is not None]
    points: list[Point] = [(utc_of((each.from_ns + each.to_ns) // 2), float(each.value)) for each in archived]
    seen = [each for each in seen_by_witness(evidence).get(tag, ()) if isinstance(each.value, int | float)]
    witness: list[Point] = [(utc_of((each.asked_ns + each.answered_ns) // 2), float(each.value or 0)) for each in seen]
    truth: list[Point] = []
    if archived:
        first, last = archived[0].from_ns, archived[-1].to_ns
        step = max(1, (last - first) // _LINE_POINTS)
        truth = [(utc_of(at), signal.at(at)) for at in range(first, last, step)]
    return Plot(
        title=f"{tag}: archived, witnessed and true", unit="",
        lines=(Line(name="true", kind="truth", points=thinned(truth)), Line(name="archived", points=thinned(points)),
               Line(name="witness", points=thinned(witness))),
        spans=tuple(evidence.observed.disturbances), caption="Archive and witness lie on the true line.",
    )  # fmt: skip


def _libraries(evidence: Evidence) -> str:
    return ", ".join(sorted(set(evidence.observed.witnesses.values()))) or "no library"
