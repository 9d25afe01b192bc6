"""Nothing is done, for long: the accounts are exact to the unit, and memory and handles do not grow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from edge.health import StatusSnapshot
from hil import criteria
from hil.document import Figure, Line, Plot, thinned
from hil.evidence import Evidence, Finding
from hil.hosts import CommandFailed
from hil.scenario import PassCriterion, Scenario, Step
from hil.trial import Trial

_GROWTH, _JUDGED_FROM_S = 0.02, 600
_UNDER_WAY = 2  # Of a group one scan may be under way at the first count, and one at the last.
_MEMORY, _HANDLES = "resident memory, MB", "open handles"
_DUE, _COUNTED = "scans due by the clock: ", "scans done, skipped and failed: "


async def read_on(trial: Trial) -> None:
    """Let it run for the given time, counting the handles that the gateway has open."""
    gateway, ends_s = trial.bench.gateway, time.monotonic() + trial.seconds
    first = await gateway.status()
    while (left_s := ends_s - time.monotonic()) > 0:
        await asyncio.sleep(min(left_s, trial.seconds / 400))
        try:
            listed = await gateway.host.run("ls", f"/proc/{gateway.pid}/fd")
            trial.sample(_HANDLES, len(listed.splitlines()))
        except CommandFailed:
            trial.sample(_HANDLES, None)
    last = await gateway.status()
    assert first is not None
    assert last is not None
    lasted_ns = last.gateway.uptime_ns - first.gateway.uptime_ns
    before = dict(_counts(first))
    for (name, every_ns), count in _counts(last):
        trial.observed.figures[_DUE + name] = lasted_ns // every_ns
        trial.observed.figures[_COUNTED + name] = count - before[name, every_ns]
    if trial.seconds < _JUDGED_FROM_S:
        trial.observed.deviations.append(
            f"The run lasted {trial.seconds:g} s; growth is judged in one of {_JUDGED_FROM_S} s or more."
        )


def every_scan_is_counted(evidence: Evidence) -> Finding:
    """Check that the scans done, skipped and failed are those that were due by the clock."""
    figures = evidence.observed.figures
    due = {name.removeprefix(_DUE): count for name, count in figures.items() if name.startswith(_DUE)}
    off = {name: figures[_COUNTED + name] - count for name, count in due.items()}
    words = "; ".join(f"{name}: {due[name]:g} due, {figures[_COUNTED + name]:g} counted" for name in due)
    return Finding(bool(due) and all(abs(each) <= _UNDER_WAY for each in off.values()), words or "nothing was counted")


def nothing_grew(evidence: Evidence) -> Finding:
    """Check that memory and open handles of the last quarter are those of the second one."""
    found, plots, figures, holds = [], [], [], True
    for name, unit, limit in ((_MEMORY, "MB", _GROWTH), (_HANDLES, "", 0.0)):
        points = [(at_ns, value) for at_ns, value in evidence.observed.samples.get(name, []) if value is not None]
        values = [value for _, value in points]
        if len(values) < 4:
            return Finding(False, f"{name}: not measured")
        quarter = len(values) // 4
        early, late = sorted(values[quarter : 2 * quarter])[quarter // 2], sorted(values[-quarter:])[quarter // 2]
        growth = late / early - 1
        is_judged = points[-1][0] - points[0][0] >= _JUDGED_FROM_S * 9e8
        holds = holds and (growth <= limit or not is_judged)
        found.append(
            f"{name}: {early:.4g} {unit} to {late:.4g} {unit}, {growth:+.1%}{'' if is_judged else ', not judged'}"
        )
        figures.append(Figure(name=f"growth of {name.partition(',')[0]}", value=round(growth * 100, 2), unit="%"))
        plots.append(Plot(title=name.partition(",")[0].capitalize(), unit=unit, caption="It is level after the start.",
                          lines=(Line(name="measured", points=thinned(points)),)))  # fmt: skip
    return Finding(holds, "; ".join(found), figures, plots)


def _counts(status: StatusSnapshot) -> Iterator[tuple[tuple[str, int], int]]:
    """((scan group, its interval in ns), its scans done, skipped and failed) of each polled group."""
    for device in status.devices:
        for group in device.scan_groups:
            count = group.scans + group.skipped_scans + group.failed_scans
            yield (f"{device.name}/{group.name}", group.every_ns), count


SCENARIO = Scenario(
    title="Soak",
    purpose="Nothing is done to the rig for as long as one likes: every scan that was due is counted, every value "
    "served is accounted for to the unit, and memory and handles do not grow.",
    requirements=("R10", "T5", "ALCOA+ complete", "ALCOA+ accurate"),
    seconds=3600,
    steps=(Step("Let it run for the given time.", read_on),),
    criteria=(
        PassCriterion(f"The gateway counts as many scans as were due by the clock, but for {_UNDER_WAY} under way.",
                      every_scan_is_counted),
        PassCriterion(f"In {_JUDGED_FROM_S} s or more, memory grows by at most {_GROWTH:.0%} from the second quarter "
                      "to the last, and open handles by none.", nothing_grew),
        *criteria.NOTHING_LOST,
    ),
)  # fmt: skip
