"""Claims that scenarios share: they compare each value that devices served with the archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hil.evidence import Archived, Declared, Evidence, Finding
from hil.simulation import Served


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


def account(name: str, served: Served, archived: Sequence[Archived], declared: Sequence[Declared]) -> Account:
    """The account of one counter, `device/tag`; a device serves each value of it once."""
    served_at_ns = {value: boot_ns for boot_ns, value in served}
    copies = Counter(each.value for each in archived)
    missing = [(boot_ns, value) for boot_ns, value in served if value not in copies]
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
        account(name, served, evidence.archived[name], evidence.declared)
        for name, served in evidence.witness.served.items()
    ]


def every_value_is_accounted_for(evidence: Evidence) -> Finding:
    """Check that each value served is archived or declared."""
    totals = accounts(evidence)
    found = [f"{one.name}: {one.served} served, {one.archived} archived, {one.declared} declared, "
             f"{_some(one.unaccounted)} unaccounted for" for one in totals]  # fmt: skip
    return Finding(all(one.served and not one.unaccounted for one in totals), "; ".join(found))


def every_value_is_archived_once(evidence: Evidence) -> Finding:
    """Check that each archived value was served, and is archived once."""
    totals = accounts(evidence)
    found = [f"{one.name}: {_some(one.repeated)} more than once, {_some(one.invented)} never served" for one in totals]
    return Finding(all(one.archived and not one.repeated and not one.invented for one in totals), "; ".join(found))


def every_time_holds_the_answer(evidence: Evidence) -> Finding:
    """Check that each value was served between its archived times of request and answer."""
    totals = accounts(evidence)
    widest_ns = max((each.to_ns - each.from_ns for values in evidence.archived.values() for each in values), default=0)
    found = "; ".join(f"{one.name}: {_some(one.mistimed)} of {one.archived} outside" for one in totals)
    holds = all(one.archived and not one.mistimed for one in totals)
    return Finding(holds, f"{found}; the widest interval is {widest_ns / 1e6:.3f} ms")


def the_archive_is_wholly_authentic(evidence: Evidence) -> Finding:
    """Check that the verifier succeeds, the chain is closed by a STOP, and no record is repeated."""
    epochs = evidence.verdict["epochs"]
    copies = sum(epoch["verdicts"].get("DUPLICATE", 0) for epoch in epochs)
    is_closed = [epoch["tail"] for epoch in epochs] == ["CLOSED"]
    counts = ", ".join(f"{count} {name}" for epoch in epochs for name, count in epoch["verdicts"].items() if count)
    tails = ", ".join(epoch["tail"] for epoch in epochs)
    absent = [f"{name} {first}-{last}" for epoch in epochs for name, first, last in epoch["absent"]]
    found = (
        f"tidegate verify says {'yes' if evidence.is_fine else 'no'}: {counts or 'nothing'}; end {tails or 'unknown'}"
    )
    return Finding(evidence.is_fine and is_closed and not copies, "; ".join([found, *absent]))


def everything_happened_in_time(evidence: Evidence) -> Finding:
    """Check that no step timed out, and no process ended unexpectedly."""
    troubles = evidence.witness.troubles
    return Finding(not troubles, "; ".join(troubles) or "every step came to its end")


def _some(values: Sequence[int]) -> str:
    shown = ", ".join(map(str, values[:5]))
    return f"{len(values)} ({shown}{', ...' if len(values) > 5 else ''})" if values else "0"
