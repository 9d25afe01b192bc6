"""The report on chains, as text and as JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from edge.intervals import Interval, IntervalSet
from edge.seal.cose import MAX_SEQ
from edge.seal.record import RecordType
from edge.sentences import Stretch, correction_text
from edge.units import format_duration, format_utc
from edge.verify.chain_state import ChainState, ChainSummary
from edge.verify.verdicts import Absence, RangeVerdict, Verdict
from edge.verify.window import EVERYTHING, Window

_GROUPS_SHOWN = 20
_STARTS_SHOWN = 5

STATEMENT = (
    "Authenticity starts at sealing. Records after the last one held outside the gateway can be rewritten by "
    "whoever controls the gateway."
)

REVOCATION = (
    "revocation list(s) used, by the time that each record states. Whoever has a stolen key can state an earlier one; "
    "a relay goes by the time of arrival."
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
class GroupCoverage:
    """When a scan group was read, by its blocks.

    Attributes:
        name: device and group.
        limit_ns: three of its intervals, or of its signs of life: a longer stretch without a block is a hole.
        first_ns: UTC of its first block, `last_ns` of its last.
        holes: how many there are, and `holes_ns` their length in all.
        not_held: those in which records are absent, so that blocks may be.
        unexplained: those of the others that no GAP explains, `unexplained_ns` their length, `shown` the first of them.
    """

    name: str
    limit_ns: int
    first_ns: int
    last_ns: int
    holes: int
    holes_ns: int
    not_held: int
    unexplained: int
    unexplained_ns: int
    shown: tuple[Interval, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """One chain.

    Attributes:
        identity: fingerprint of the key that signs for it, empty while that is not known.
        verdicts: how many records have each verdict.
        places: the first and last place that belong to the window.
        held: ranges of records that are authentic or linked.
        linked: those of them that are linked.
        absent: ranges that existed and are not held.
        tail: CLOSED, TAIL_UNKNOWN or TRUNCATED.
        counter_gaps: (last counter before, first after) of identity signatures that were never delivered.
        first_ns: UTC of the earliest authentic record, `last_ns` of the latest.
        tail_ns: UTC of the last record.
        worst_bound_ns: the largest clock error stated; `unbounded` records could state none.
        set_back: (UTC, ns behind the records before) of each start of the gateway with a clock that was behind them.
        corrected: times that were wrong by a second or more, as stamped and what the gateway learned later.
        coverage: each scan group of which blocks are held; None where that was not computed.
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
    places: Interval
    out_of_order: int
    unknown: int
    unknown_words: tuple[str, ...]
    set_back: tuple[tuple[int, int], ...] = ()
    corrected: tuple[Stretch, ...] = ()
    coverage: tuple[GroupCoverage, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All chains, and the verdicts on records that belong to no chain.

    Attributes:
        window: what was asked for; what follows is of that only.
        shortfalls: why what was asked for is not all here, although nothing of it is known to be missing.
        revocation_lists: number of those that were used, by the time that each record states.
    """

    epochs: tuple[EpochReport, ...]
    unattributed: Mapping[str, int]
    window: Window = EVERYTHING
    shortfalls: tuple[str, ...] = ()
    revocation_lists: int = 0

    def is_wholly_authentic(self, admit: Collection[Verdict | RangeVerdict] = ()) -> bool:
        """Whether every record of the range is authentic, or has a verdict that is admitted."""
        fine = {Verdict.AUTHENTIC, Verdict.DUPLICATE, *admit}
        if (
            self.shortfalls
            or not self.epochs
            or any(count for name, count in self.unattributed.items() if name not in fine)
        ):
            return False
        return all(_is_fine(epoch, {str(each) for each in fine}) for epoch in self.epochs)

    def text(self, verdict: str = "") -> str:
        """Lines for people; `verdict` replaces the plain yes or no."""
        lines = _range_lines(self.window)
        lines += [line for epoch in self.epochs for line in [*_lines(epoch), ""]]
        unattributed = {name: count for name, count in self.unattributed.items() if count}
        if unattributed:
            lines += ["Belonging to no chain: " + _counts(unattributed), ""]
        if not self.epochs and not self.shortfalls:
            lines += ["No record of a trusted gateway was found.", ""]
        if self.revocation_lists:
            lines += [f"{self.revocation_lists} {REVOCATION}", ""]
        verdict = verdict or "; ".join(("yes" if self.is_wholly_authentic() else "no", *self.shortfalls))
        return "\n".join([*lines, f"Wholly authentic: {verdict}", STATEMENT])


def _is_fine(epoch: EpochReport, fine: set[str]) -> bool:
    return (
        bool(epoch.held)
        and all(name in fine for name, count in epoch.verdicts.items() if count)
        and all(verdict in fine for verdict, _, _ in epoch.absent)
        and (not epoch.counter_gaps or RangeVerdict.COUNTER_GAP in fine)
    )


class SeveralChains(ValueError):
    """A range of places, and more than one chain that it could be of: their epochs."""


class PartOfChain(NamedTuple):
    """The places of a chain that belong to the window, and what is absent of them."""

    chain: ChainState
    first: int
    last: int
    absences: Sequence[Absence]


def places_of(chains: Sequence[ChainState], window: Window) -> list[Interval | None]:
    """For each chain the places that belong to the window, or None.

    Raises:
        SeveralChains: places count within one chain, and there are more.
    """
    if window.is_time:
        by_epoch = {(each.issuer, each.epoch): each for each in chains}
        return [_places_in_time(each, by_epoch.get((each.issuer, each.next_epoch))) for each in chains]
    if window != EVERYTHING and len(held := [each for each in chains if each.runs.last >= 0]) > 1:
        raise SeveralChains(", ".join(each.epoch.hex() for each in held))
    return [(window.first, MAX_SEQ if window.last is None else window.last)] * len(chains)


def _places_in_time(chain: ChainState, following: ChainState | None) -> Interval | None:
    bounds = chain.summary.bounds
    if bounds.is_before and chain.existed_to > chain.runs.last:
        # Its end is not held. It lies before the window if the next chain began before.
        is_over = following is not None and following.summary.bounds.last_before >= 0
        return None if is_over else (bounds.last_before + 1, MAX_SEQ)
    return bounds.places(list(chain.accepted()))


def report_on(
    parts: Sequence[PartOfChain], chains: Sequence[ChainState], unattributed: Mapping[Verdict, int], window: Window,
    revocation_lists: int = 0,
) -> Report:  # fmt: skip
    """The report on parts of chains; `chains` are all that were asked for."""
    gaps = counter_gaps(chains, {(each.chain.issuer, each.chain.epoch): (each.first, each.last) for each in parts})
    return Report(
        epochs=tuple(
            _epoch(each, gaps[each.chain.issuer, each.chain.epoch])
            for each in sorted(parts, key=lambda each: (each.chain.issuer, each.chain.summary.first_ns or 0))
        ),
        unattributed={str(verdict): count for verdict, count in unattributed.items()},
        window=window, shortfalls=tuple(_shortfalls(parts, chains, window)), revocation_lists=revocation_lists,
    )  # fmt: skip


def _shortfalls(parts: Sequence[PartOfChain], chains: Sequence[ChainState], window: Window) -> Iterator[str]:
    held = [each for each in chains if each.runs.last >= 0]
    if held and not any(each.chain.accepted().within(each.first, each.last) for each in parts):
        yield "no record of the range is held"
    if window.last is not None:
        yield from (f"{window.last} was asked for, and the last record held is {each.runs.last}"
                    for each in held if each.runs.last < window.last)  # fmt: skip
    if window.to_ns is not None:
        for issuer in dict.fromkeys(each.issuer for each in held):
            ends = [each.summary.tail_ns or 0 for each in held if each.issuer == issuer]
            if max(ends) < window.to_ns:
                yield f"{issuer} is held until {_time(max(ends))}"


def _epoch(part: PartOfChain, gaps: Sequence[Interval]) -> EpochReport:
    chain, first, last, absences = part
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
            if gap.closed or gap.open_ns
        ),
        places=(first, last), out_of_order=chain.out_of_order, unknown=summary.unknown,
        unknown_words=tuple(summary.unknown_words),
        set_back=tuple(sorted((at_ns, behind_ns) for at_ns, behind_ns in summary.set_back)),
        corrected=tuple(
            Stretch(first, last, by_ns, None if bound_ns < 0 else bound_ns)
            for first, last, by_ns, bound_ns in sorted(summary.corrected)
        ),
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
        if verdict in chain.rejected_at:
            count = sum(first <= seq <= last for seq in chain.rejected_at[verdict])
        counts[verdict] = counts.get(verdict, 0) + count
    for seq, records in chain.undecided.items():
        for record in records:
            if first <= seq <= last and record.verdict is not Verdict.LINKED:
                counts[record.verdict] = counts.get(record.verdict, 0) + 1
    return counts


def counter_gaps(
    chains: Sequence[ChainState], places: Mapping[tuple[str, bytes], Interval]
) -> dict[tuple[str, bytes], list[Interval]]:
    """Per chain, (counter before, counter after) where identity signatures exist that were never delivered.

    Only those that touch the places given for a chain.

    A jump inside a chain is explained where at least as many records are absent there: those are reported as such.
    """
    found = {}
    ends: dict[tuple[str, bytes], int] = {}
    with_identity = [each for each in chains if each.identity is not None and each.counters]
    for chain in chains:
        held = chain.accepted()
        signed = list(zip(chain.identity_seqs, chain.counters, strict=True))
        first, last = places.get((chain.issuer, chain.epoch), (1, 0))
        found[chain.issuer, chain.epoch] = [
            (before, after)
            for (from_seq, before), (to_seq, after) in pairwise(signed)
            if to_seq >= first
            and from_seq <= last
            and not 1 <= after - before <= 1 + sum(b - a + 1 for a, b in held.missing(from_seq, to_seq))
        ]
    for chain in sorted(with_identity, key=lambda each: each.counters[0]):
        assert chain.identity is not None
        signer = chain.issuer, chain.identity.raw
        before = ends.get(signer)
        first, _ = places.get((chain.issuer, chain.epoch), (MAX_SEQ, 0))
        if before is not None and chain.counters[0] != before + 1 and first <= chain.identity_seqs[0]:
            found[chain.issuer, chain.epoch].insert(0, (before, chain.counters[0]))
        ends[signer] = chain.counters[-1]
    return found


def _range_lines(window: Window) -> list[str]:
    if window.is_time:
        start = "the beginning" if window.from_ns is None else _time(window.from_ns)
        end = "the last record" if window.to_ns is None else _time(window.to_ns)
        return [f"Range  {start} to {end}, UTC", ""]
    if window == EVERYTHING:
        return []
    return [f"Range  seq {window.first} to {'the last record' if window.last is None else window.last}", ""]


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
    lines += [f"  CLOCK        started at {_time(at_ns)} by a clock {format_duration(behind_ns)} behind the records "
              "before: for how long it was off is not known, and times recur"
              for at_ns, behind_ns in epoch.set_back[:_STARTS_SHOWN]]  # fmt: skip
    if len(epoch.set_back) > _STARTS_SHOWN:
        lines.append(f"               and {len(epoch.set_back) - _STARTS_SHOWN} more such starts")
    lines += [f"  CLOCK        {correction_text(each)}" for each in epoch.corrected[:_STARTS_SHOWN]]
    if len(epoch.corrected) > _STARTS_SHOWN:
        lines.append(f"               and {len(epoch.corrected) - _STARTS_SHOWN} more such stretches")
    lines += [f"  gaps         {gap.name}: {_gaps(gap)}" for gap in epoch.gaps]
    return lines + _coverage_lines(epoch.coverage or ())


def _coverage_lines(coverage: Sequence[GroupCoverage]) -> list[str]:
    if not coverage:
        return []
    holes, holes_ns = sum(each.holes for each in coverage), sum(each.holes_ns for each in coverage)
    bare = [each for each in coverage if each.unexplained]
    groups = f"{len(coverage)} scan group{'s' * (len(coverage) > 1)}"
    not_held = sum(each.not_held for each in coverage)
    is_all_gaps = holes > 0 and not not_held
    explained = "; not all are on record as GAPs" if bare else ", each on record as a GAP" if is_all_gaps else ""
    lines = [f"  coverage     {groups}: {_holes(holes, holes_ns) if holes else 'no hole'}{explained}"]
    if not_held:
        lines.append(f"               {not_held} of them may be in records that are not held")
    for each in bare[:_GROUPS_SHOWN]:
        first, last = each.shown[0]
        lines.append(f"  UNEXPLAINED  {each.name}: {_holes(each.unexplained, each.unexplained_ns)} "
                     f"without a GAP, the first from {_time(first)} to {_time(last)}")  # fmt: skip
    if len(bare) > _GROUPS_SHOWN:
        lines.append(f"               and {len(bare) - _GROUPS_SHOWN} more scan groups")
    return lines


def _holes(count: int, total_ns: int) -> str:
    return f"{count} hole{'s' * (count > 1)} of {format_duration(total_ns)}"


def _gaps(gap: GroupGaps) -> str:
    if not gap.open_from_ns:
        return f"{gap.closed} of {format_duration(gap.silent_ns)}"
    if gap.group is not None:
        return f"{gap.closed} of {format_duration(gap.silent_ns)}, silent since {_time(gap.open_from_ns[0])}"
    # Of all groups it has no end on record where the clock was behind at the start.
    known = f"{gap.closed} of {format_duration(gap.silent_ns)}, and " if gap.closed else ""
    return f"{known}{len(gap.open_from_ns)} of unknown length"


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
    return "unknown" if utc_ns is None else format_utc(utc_ns, decimals=3)


def absences_of(
    chain: ChainState, declared: IntervalSet, removed: IntervalSet, first: int, last: int
) -> list[Absence]:  # fmt: skip
    """The ranges between two places that existed and are not held.

    LOSS records name those in `declared`, and statements of a relay those in `removed`.
    """
    held, end = chain.held(), chain.runs.last
    absences = []
    for verdict, low, high in (
        (RangeVerdict.MISSING, first, min(end, last)),
        (RangeVerdict.TRUNCATED, max(first, end + 1), min(chain.existed_to, last)),
    ):
        for from_seq, to_seq in held.missing(low, high):
            parts = [(span, RangeVerdict.DECLARED_LOST) for span in declared.within(from_seq, to_seq)]
            for low_seq, high_seq in declared.missing(from_seq, to_seq):
                parts += [(span, RangeVerdict.REMOVED) for span in removed.within(low_seq, high_seq)]
                parts += [(span, verdict) for span in removed.missing(low_seq, high_seq)]
            absences += [Absence(kind, chain.issuer, chain.epoch, *span) for span, kind in sorted(parts)]
    return absences
