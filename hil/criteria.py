"""Pass criteria that scenarios share; the accounts compare each value that devices served with the archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edge.units import counted
from hil.devices import Served
from hil.document import Figure, Line, Plot, thinned
from hil.evidence import Archived, Declared, Evidence, Finding
from hil.scenario import PassCriterion


@dataclass(frozen=True, slots=True)
class Account:
    """The values of one counter.

    Attributes:
        declared: served, not archived, and covered by a GAP or LOSS record.
        unaccounted: served, and neither archived nor declared.
        invented: archived, but never served.
        repeated: archived more than once.
        mistimed: archived, but not served between the archived times of request and answer.
    """

    name: str
    served: int
    archived: int
    declared: int
    unaccounted: tuple[int, ...]
    invented: tuple[int, ...]
    repeated: tuple[int, ...]
    mistimed: tuple[int, ...]


def account(name: str, served: Sequence[Served], archived: Sequence[Archived], declared: Sequence[Declared]) -> Account:
    """The account of one counter, `device/tag`; a device serves each value of it once."""
    archived = [each for each in archived if each.value is not None]
    served_at_ns = {each.value: each.boot_ns for each in served}
    copies = Counter(each.value for each in archived)
    missing = [(each.boot_ns, int(each.value)) for each in served if each.value not in copies]
    declarations = [each for each in declared if each.device in (None, name.partition("/")[0])]
    unaccounted = [
        value for boot_ns, value in missing if not any(each.from_ns <= boot_ns <= each.to_ns for each in declarations)
    ]
    return Account(
        name,
        served=len(served),
        archived=len(copies),
        declared=len(missing) - len(unaccounted),
        unaccounted=tuple(unaccounted),
        invented=tuple(sorted(copies.keys() - served_at_ns.keys())),
        repeated=tuple(value for value, count in copies.items() if count > 1),
        mistimed=tuple(
            each.value
            for each in archived
            if each.value in served_at_ns and not each.from_ns <= served_at_ns[each.value] <= each.to_ns
        ),
    )


def accounts(evidence: Evidence) -> list[Account]:
    """The accounts of all counters."""
    return [
        account(name, evidence.served[name], evidence.archived.get(name, ()), evidence.declared)
        for name in evidence.counters()
    ]


def every_value_is_accounted_for(evidence: Evidence) -> Finding:
    """Check that each value served is archived or declared; without logs of devices, that no hole is undeclared."""
    totals = accounts(evidence)
    if not totals and not evidence.rig.is_simulated:
        return _no_hole_is_undeclared(evidence)
    found = [f"{one.name}: {one.served} served, {one.archived} archived, {one.declared} declared, "
             f"{_some(one.unaccounted)} unaccounted for" for one in totals]  # fmt: skip
    holds = bool(totals) and all(one.served and not one.unaccounted for one in totals)
    figures = [Figure(name="values served", value=sum(one.served for one in totals)),
               Figure(name="values archived", value=sum(one.archived for one in totals)),
               Figure(name="values declared missing", value=sum(one.declared for one in totals))]  # fmt: skip
    return Finding(holds, "; ".join(found) or "no device keeps what it served", figures)


def every_value_is_archived_once(evidence: Evidence) -> Finding:
    """Check that each archived value was served, and is archived once."""
    totals = accounts(evidence)
    if not totals and not evidence.rig.is_simulated:
        return _NO_LOG
    found = [f"{one.name}: {_some(one.repeated)} more than once, {_some(one.invented)} never served" for one in totals]
    holds = bool(totals) and all(one.archived and not one.repeated and not one.invented for one in totals)
    return Finding(holds, "; ".join(found) or "no device keeps what it served")


def every_time_holds_the_answer(evidence: Evidence) -> Finding:
    """Check that each value was served between its archived times of request and answer."""
    totals = accounts(evidence)
    if not totals and not evidence.rig.is_simulated:
        return _NO_LOG
    widest_ns = max((each.to_ns - each.from_ns for name in evidence.counters()
                     for each in evidence.archived.get(name, ())), default=0)  # fmt: skip
    found = "; ".join(f"{one.name}: {_some(one.mistimed)} of {one.archived} outside" for one in totals)
    holds = bool(totals) and all(one.archived and not one.mistimed for one in totals)
    figures = [Figure(name="widest interval from request to answer", value=round(widest_ns / 1e6, 3), unit="ms")]
    words = f"{found}; the widest interval is {widest_ns / 1e6:.3f} ms; {evidence.alignment.words}"
    return Finding(holds, words, figures)


_NO_LOG = Finding(True, "not judged: no device of this rig keeps what it served; see what the witness read")


def _no_hole_is_undeclared(evidence: Evidence) -> Finding:
    """Check that of each scan group no two scans are farther apart than it may be, without a GAP between them."""
    groups = [each for epoch in evidence.verdict["epochs"] for each in epoch["coverage"] or ()]
    holes, bare = (sum(each[name] for each in groups) for name in ("holes", "unexplained"))
    words = "no device of this rig keeps what it served: by the times of the scans of "
    words += f"{counted(len(groups), 'scan group')}, {bare} of {counted(holes, 'hole')} without a GAP"
    return Finding(bool(groups) and not bare, words)


def records_waited_on_disk(evidence: Evidence) -> Finding:
    """Check that there was a backlog: without one an outage proves nothing."""
    points = evidence.observed.samples.get("records waiting", [])
    most = max((value or 0 for _, value in points), default=0)
    plot = Plot(title="Records that wait on the gateway's disk", unit="records",
                lines=(Line(name="waiting", points=thinned(points)),), spans=tuple(evidence.observed.disturbances),
                caption="It grows while the broker is away, and is empty soon after.")  # fmt: skip
    figures = [Figure(name="records waiting, at most", value=most)]
    return Finding(most > 0, f"up to {most:g} records waited", figures, [plot])


def the_archive_is_wholly_authentic(evidence: Evidence) -> Finding:
    """Check that the verifier succeeds, the chain is closed by a STOP, and no record is repeated."""
    return _verified(evidence, is_fine=evidence.is_fine)


def the_archive_is_authentic_but_for_losses(evidence: Evidence) -> Finding:
    """Check the same where records may be declared lost."""
    return _verified(evidence, is_fine=evidence.is_admitted)


def it_was_not_restarted(evidence: Evidence) -> Finding:
    """Check that the gateway started once."""
    starts = sum(event.kind == "start" for event in evidence.events)
    return Finding(starts == 1, f"{counted(starts, 'start')} on record")


def _verified(evidence: Evidence, *, is_fine: bool) -> Finding:
    epochs = evidence.verdict["epochs"]
    copies = sum(epoch["verdicts"].get("DUPLICATE", 0) for epoch in epochs)
    is_closed = [epoch["tail"] for epoch in epochs] == ["CLOSED"]
    counts = ", ".join(f"{count} {name}" for epoch in epochs for name, count in epoch["verdicts"].items() if count)
    tails = ", ".join(epoch["tail"] for epoch in epochs)
    absent = [f"{name} {first}-{last}" for epoch in epochs for name, first, last in epoch["absent"]]
    found = f"tidegate verify says {'yes' if is_fine else 'no'}: {counts or 'nothing'}; end {tails or 'unknown'}"
    return Finding(is_fine and is_closed and not copies, "; ".join([found, *absent]))


def _some(values: Sequence[int]) -> str:
    shown = ", ".join(map(str, values[:5]))
    return f"{len(values)} ({shown}{', ...' if len(values) > 5 else ''})" if values else "0"


NOTHING_LOST = (
    PassCriterion("Every counter value that a device served is archived, or a GAP or LOSS declares it.",
                  every_value_is_accounted_for),
    PassCriterion("Every archived value was served, and is archived once.", every_value_is_archived_once),
    PassCriterion("Each value was served between the request and the answer that the archive names for it.",
                  every_time_holds_the_answer),
    PassCriterion("The archive is wholly authentic, its chain is closed, and no record is in it twice.",
                  the_archive_is_wholly_authentic),
)  # fmt: skip
"""What is claimed after every disturbance."""
