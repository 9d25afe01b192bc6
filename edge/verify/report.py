"""The report on chains, as text and as JSON."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from edge.intervals import Interval, IntervalSet
from edge.seal.record import RecordType
from edge.units import format_duration
from edge.verify.chain_state import ChainState, ChainSummary
from edge.verify.verdicts import Absence, RangeVerdict, Verdict

STATEMENT = (
    "Authenticity starts at sealing. Records after the last one held outside the gateway can be rewritten by "
    "whoever controls the gateway."
)


@dataclass(frozen=True, slots=True)
class GroupGaps:
    """Number and length of the gaps of a scan group, or of all groups where it is None; `open_from_ns` of open gaps.

    `name` is that of device and group, where a catalogue is known.
    """

    group: int | None
    name: str
    closed: int
    silent_ns: int
    open_from_ns: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """One chain.

    Attributes:
        identity: fingerprint of the key that signs for it, empty while that is not known.
        verdicts: how many records have each verdict.
        held: ranges of records that are authentic or linked.
        linked: those of them that are linked.
        absent: ranges that existed and are not held.
        tail: CLOSED, TAIL_UNKNOWN or TRUNCATED.
        counter_gaps: (last counter before, first after) of identity signatures that were never delivered.
        first_ns: UTC of the earliest authentic record, `last_ns` of the latest.
        tail_ns: UTC of the last record.
        worst_bound_ns: the largest clock error stated; `unbounded` records could state none.
        unknown: how many records hold things that this version does not know; `unknown_words` name some of them.
    """

    issuer: str
    epoch: str
    identity: str
    verdicts: Mapping[str, int]
    types: Mapping[str, int]
    held: tuple[Interval, ...]
    linked: tuple[Interval, ...]
    absent: tuple[tuple[str, int, int], ...]
    forks: tuple[int, ...]
    tail: RangeVerdict
    counter_gaps: tuple[tuple[int, int], ...]
    scans: int
    first_ns: int | None
    last_ns: int | None
    tail_ns: int | None
    worst_bound_ns: int | None
    unbounded: int
    gaps: tuple[GroupGaps, ...]
    out_of_order: int
    unknown: int
    unknown_words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All chains, and the verdicts on records that belong to no chain."""

    epochs: tuple[EpochReport, ...]
    unattributed: Mapping[str, int]

    def is_wholly_authentic(self, admit: Collection[Verdict | RangeVerdict] = ()) -> bool:
        """Whether every record of the range is authentic, or has a verdict that is admitted: LINKED, DECLARED_LOST."""
        fine = {Verdict.AUTHENTIC, Verdict.DUPLICATE, *admit}
        if not self.epochs or any(count for name, count in self.unattributed.items() if name not in fine):
            return False
        return all(_is_fine(epoch, {str(each) for each in fine}) for epoch in self.epochs)

    def json(self) -> dict[str, Any]:
        """Plain values; their keys are part of the interface."""
        return {
            "epochs": tuple(map(asdict, self.epochs)), "strays": dict(self.unattributed),
            "is_wholly_authentic": self.is_wholly_authentic(), "statement": STATEMENT,
        }  # fmt: skip

    def text(self, verdict: str = "") -> str:
        """Lines for people; `verdict` replaces the plain yes or no."""
        lines = [line for epoch in self.epochs for line in [*_lines(epoch), ""]]
        unattributed = {name: count for name, count in self.unattributed.items() if count}
        if unattributed:
            lines += ["Belonging to no chain: " + _counts(unattributed), ""]
        if not self.epochs:
            lines += ["No record of a trusted gateway was found.", ""]
        verdict = verdict or ("yes" if self.is_wholly_authentic() else "no")
        return "\n".join([*lines, f"Wholly authentic: {verdict}", STATEMENT])


def _is_fine(epoch: EpochReport, fine: set[str]) -> bool:
    return (
        bool(epoch.held)
        and all(name in fine for name, count in epoch.verdicts.items() if count)
        and all(verdict in fine for verdict, _, _ in epoch.absent)
        and (not epoch.counter_gaps or RangeVerdict.COUNTER_GAP in fine)
    )


def report_on(
    chains: Sequence[tuple[ChainState, Sequence[Absence]]],
    unattributed: Mapping[Verdict, int],
    *,
    first: int,
    last: int,
) -> Report:
    """The report on a range of places of some chains."""
    gaps = counter_gaps([chain for chain, _ in chains])
    return Report(
        epochs=tuple(
            _epoch(chain, absences, gaps[chain.issuer, chain.epoch], first, last)
            for chain, absences in sorted(chains, key=lambda each: (each[0].issuer, each[0].summary.first_ns or 0))
        ),
        unattributed={str(verdict): count for verdict, count in unattributed.items()},
    )


def _epoch(
    chain: ChainState, absences: Sequence[Absence], gaps: Sequence[Interval], first: int, last: int
) -> EpochReport:
    summary = chain.summary
    held = tuple(chain.accepted().within(first, last))
    linked = tuple(chain.linked.within(first, last))
    is_truncated = any(each.verdict is RangeVerdict.TRUNCATED for each in absences)
    is_closed = summary.stop_seq >= 0 and summary.stop_seq == chain.runs.last
    tail = RangeVerdict.CLOSED if is_closed else RangeVerdict.TAIL_UNKNOWN
    return EpochReport(
        issuer=chain.issuer, epoch=chain.epoch.hex(),
        identity=chain.identity.fingerprint if chain.identity else "",
        verdicts={str(verdict): count for verdict, count in _verdicts(chain, first, last).items()},
        types=dict(sorted(summary.types.items(), key=_type_order)),
        held=held, linked=linked,
        absent=tuple((str(each.verdict), each.first, each.last) for each in absences),
        forks=tuple(seq for seq in sorted(chain.forks) if first <= seq <= last),
        tail=RangeVerdict.TRUNCATED if is_truncated else tail,
        counter_gaps=tuple(gaps), scans=summary.blocks, first_ns=summary.first_ns, last_ns=summary.last_ns,
        tail_ns=summary.tail_ns, worst_bound_ns=summary.worst_bound_ns, unbounded=summary.unbounded,
        gaps=tuple(
            GroupGaps(group, _name(summary, group), gap.closed, gap.silent_ns, tuple(sorted(gap.open_ns)))
            for group, gap in sorted(summary.gaps.items(), key=lambda each: -1 if each[0] is None else each[0])
        ),
        out_of_order=chain.out_of_order, unknown=summary.unknown, unknown_words=tuple(summary.unknown_words),
    )  # fmt: skip


_TYPE_NAMES = list(RecordType.__members__)


def _type_order(item: tuple[str, int]) -> tuple[int, str]:
    name, _ = item
    return _TYPE_NAMES.index(name) if name in RecordType.__members__ else len(_TYPE_NAMES), name


def _name(summary: ChainSummary, group: int | None) -> str:
    return "all scan groups" if group is None else summary.names.get(group, f"scan group {group}")


def _verdicts(chain: ChainState, first: int, last: int) -> dict[Verdict, int]:
    counts = {Verdict.AUTHENTIC: 0, Verdict.LINKED: sum(b - a + 1 for a, b in chain.linked.within(first, last))}
    held = sum(b - a + 1 for a, b in chain.accepted().within(first, last))
    forked = [seq for seq in chain.forks if first <= seq <= last]
    in_runs = sum(chain.runs.at(seq) is not None for seq in forked)
    counts[Verdict.AUTHENTIC] = held - counts[Verdict.LINKED] - in_runs
    counts[Verdict.FORK] = sum(sum(chain.forks[seq].values()) for seq in forked)
    for verdict, count in chain.rejected.items():
        counts[verdict] = counts.get(verdict, 0) + count
    for seq, records in chain.undecided.items():
        for record in records:
            if first <= seq <= last and record.verdict is not Verdict.LINKED:
                counts[record.verdict] = counts.get(record.verdict, 0) + 1
    return counts


def counter_gaps(chains: Sequence[ChainState]) -> dict[tuple[str, bytes], list[Interval]]:
    """Per chain, (counter before, counter after) where identity signatures exist that were never delivered.

    A jump inside a chain is explained where at least as many records are absent there: those are reported as such.
    """
    found = {}
    ends: dict[tuple[str, bytes], int] = {}
    with_identity = [each for each in chains if each.identity is not None and each.counters]
    for chain in chains:
        held = chain.accepted()
        signed = list(zip(chain.identity_seqs, chain.counters, strict=True))
        found[chain.issuer, chain.epoch] = [
            (before, after)
            for (from_seq, before), (to_seq, after) in pairwise(signed)
            if not 1 <= after - before <= 1 + sum(b - a + 1 for a, b in held.missing(from_seq, to_seq))
        ]
    for chain in sorted(with_identity, key=lambda each: each.counters[0]):
        assert chain.identity is not None
        signer = chain.issuer, chain.identity.raw
        before = ends.get(signer)
        if before is not None and chain.counters[0] != before + 1:
            found[chain.issuer, chain.epoch].insert(0, (before, chain.counters[0]))
        ends[signer] = chain.counters[-1]
    return found


def _lines(epoch: EpochReport) -> list[str]:
    lines = [
        f"{epoch.issuer}  epoch {epoch.epoch}",
        f"  identity     {epoch.identity or 'not known'}",
        f"  records      {_counts(epoch.verdicts)}",
    ]
    if not epoch.held:
        return lines
    lines += [f"  types        {_counts(epoch.types)}", f"  held         {_spans(epoch.held)}"]
    if epoch.unknown:
        hold = "record holds" if epoch.unknown == 1 else "records hold"
        lines.append(f"  unknown      {epoch.unknown} {hold} things this version does not know:")
        lines += [f"               {word}" for word in epoch.unknown_words]
    if epoch.linked:
        lines.append(f"  linked       {_spans(epoch.linked)}")
    lines += [f"  {verdict:12} {_spans([(first, last)])}" for verdict, first, last in epoch.absent]
    if epoch.forks:
        lines.append(f"  FORK         two histories at {_spans([(seq, seq) for seq in epoch.forks])}")
    lines += [f"  COUNTER_GAP  identity signatures {a + 1} to {b - 1} were never delivered" if a < b
              else f"  COUNTER_GAP  identity signature {b} follows {a}" for a, b in epoch.counter_gaps]  # fmt: skip
    if epoch.out_of_order:
        lines.append(f"  OUT_OF_ORDER {epoch.out_of_order} came after later ones")
    since = "" if epoch.tail is RangeVerdict.CLOSED else f" since {_time(epoch.tail_ns)}"
    lines += [
        f"  end          {epoch.tail}{since}",
        f"  time         {_time(epoch.first_ns)} to {_time(epoch.last_ns)}, {epoch.scans} scans",
        f"  clock        {_bound(epoch)}",
    ]
    for gap in epoch.gaps:
        still = f", silent since {_time(gap.open_from_ns[0])}" if gap.open_from_ns else ""
        lines.append(f"  gaps         {gap.name}: {gap.closed} of {format_duration(gap.silent_ns)}{still}")
    return lines


def _bound(epoch: EpochReport) -> str:
    if epoch.worst_bound_ns is None:
        return f"no bound stated by {epoch.unbounded} records"
    worst = f"within {format_duration(epoch.worst_bound_ns)} at worst"
    return f"{worst}; {epoch.unbounded} records could state no bound" if epoch.unbounded else worst


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"


def _spans(spans: Sequence[Interval]) -> str:
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in spans[:20]]
    more = f" and {len(spans) - 20} more" if len(spans) > 20 else ""
    return (", ".join(shown) or "none") + more


def _time(utc_ns: int | None) -> str:
    if utc_ns is None:
        return "unknown"
    seconds, rest_ns = divmod(utc_ns, 10**9)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 10**6:03d}Z"
    except (ValueError, OverflowError, OSError):
        return f"{utc_ns} ns"


def absences_of(chain: ChainState, declared: IntervalSet, first: int, last: int) -> list[Absence]:
    """The ranges between two places that existed and are not held; LOSS records name those in `declared`."""
    held, end = chain.held(), chain.runs.last
    absences = []
    for verdict, low, high in (
        (RangeVerdict.MISSING, first, min(end, last)),
        (RangeVerdict.TRUNCATED, max(first, end + 1), min(chain.existed_to, last)),
    ):
        for from_seq, to_seq in held.missing(low, high):
            parts = [(span, verdict) for span in declared.missing(from_seq, to_seq)]
            parts += [(span, RangeVerdict.DECLARED_LOST) for span in declared.within(from_seq, to_seq)]
            absences += [Absence(kind, chain.issuer, chain.epoch, *span) for span, kind in sorted(parts)]
    return absences
