"""The gateway's clock under a disturbance: what the true time was, and what the records say of it.

Each record of readings has its UTC, its boot time, and what was known of the clock. The true time is the bench's: on
the simulated rig to the nanosecond, on hardware as far as this machine's clock and the way to the gateway tell it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import orjson

from edge.clock import TimeState
from edge.seal import Data
from hil.alignment import RigClock
from hil.clocks import TrueTime
from hil.document import Figure, Line, Plot, Point, thinned
from hil.evidence import Evidence, Finding
from hil.rig import Rig
from hil.scenario import PassCriterion
from hil.trial import STEP_TIMEOUT_S, Trial

TRUE_TIMES = "true-times.json"
BACK_WITHIN = 60
"""Update intervals within which the clock is synchronized again after a disturbance."""
_SAMPLE_S, _NEAR_NS = 0.1, 250_000_000
_INTERVAL_FLOOR_NS = 10**9


def intervals_ns(rig: Rig, count: int) -> int:
    """So many update intervals of the gateway's source."""
    return count * max(rig.wired.clock.interval, _INTERVAL_FLOOR_NS)


async def wait_until_synchronized(trial: Trial) -> None:
    """Wait until the source that the rig file names keeps the gateway's clock; without one nothing is waited for."""
    rig = trial.bench.rig
    name = {"ptp": "ptp4l"}.get(rig.wired.clock.source, rig.wired.clock.source)
    if name == "none":
        return
    await trial.wait_until(
        "the clock is synchronized by the source of the rig file",
        lambda gateway, _: (
            gateway and gateway.clock and gateway.clock.state == TimeState.SYNCHRONIZED.name
            and gateway.clock.source == name
        ),
        STEP_TIMEOUT_S + intervals_ns(rig, BACK_WITHIN) / 1e9,
    )  # fmt: skip


@asynccontextmanager
async def compared(trial: Trial) -> AsyncIterator[None]:
    """Keep what the true time is, all the time of the block."""
    kept = trial.bench.folder / TRUE_TIMES
    rows = _rows(kept)
    task = asyncio.create_task(_sample(trial, rows))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        kept.write_bytes(orjson.dumps([list(row) for row in rows]))
        if not rows:
            trial.observed.deviations.append(
                "The rig file does not say clock.time_error: the gateway's clock was compared with no other."
            )


async def _sample(trial: Trial, rows: list[TrueTime]) -> None:
    while True:
        if (found := await trial.bench.true_time()) is not None:
            rows.append(found)
        await asyncio.sleep(_SAMPLE_S)


def _rows(kept: Path) -> list[TrueTime]:
    return [TrueTime(*row) for row in orjson.loads(kept.read_bytes())] if kept.exists() else []


class Compared(NamedTuple):
    """A record of readings and the true time.

    Attributes:
        at_ns: the true time.
        error_ns: how far its UTC is off, at least.
        bound_ns: how far it says that it may be off; None where it states no bound.
    """

    at_ns: int
    error_ns: int
    bound_ns: int | None


def records(evidence: Evidence) -> list[Data]:
    """The records of readings, in the order in which they were sealed."""
    return [each for each in evidence.chain if isinstance(each, Data)]


def rig_time(evidence: Evidence, record: Data) -> int:
    """When the first of its readings was taken, in rig time."""
    return evidence.alignment.interval(record.time.boot_id.hex(), record.boot_ns, record.boot_ns)[1]


def compare(evidence: Evidence) -> list[Compared]:
    """Every record of a moment whose true time is known."""
    known = RigClock((each.utc_ns, each.boot_ns) for each in records(evidence))
    times = [(known.of(row.utc_ns) if row.boot_ns is None else row.boot_ns, row)
             for row in _rows(evidence.folder / TRUE_TIMES)]  # fmt: skip
    times.sort(key=lambda each: each[0])
    found = []
    for record in records(evidence):
        at = bisect_left(times, record.boot_ns, key=lambda each: each[0])
        nearest = min(times[max(0, at - 1) : at + 1], key=lambda each: abs(each[0] - record.boot_ns), default=None)
        if nearest is None or abs(nearest[0] - record.boot_ns) > _NEAR_NS:
            continue
        past_ns = record.boot_ns - nearest[0]
        least_ns = record.utc_ns - nearest[1].latest_ns - past_ns
        most_ns = record.utc_ns - nearest[1].earliest_ns - past_ns
        error_ns = 0 if least_ns <= 0 <= most_ns else min(abs(least_ns), abs(most_ns))
        found.append(Compared(nearest[1].earliest_ns + past_ns, error_ns, record.time.bound_at(record.boot_ns)))
    return found


def every_bound_covers_the_true_error(evidence: Evidence) -> Finding:
    """Check that no record is farther off than it says; where it states no bound, nothing is claimed."""
    found = compare(evidence)
    bounded = [(each.bound_ns, each.error_ns) for each in found if each.bound_ns is not None]
    if not found and not evidence.rig.is_simulated and evidence.rig.wired.clock.time_error is None:
        return Finding(True, "not judged: the rig file does not say how far this machine's clock may be off")
    wrong = sum(error_ns > bound_ns for bound_ns, error_ns in bounded)
    spare_ns = min((bound_ns - error_ns for bound_ns, error_ns in bounded), default=0)
    error_ns = max((each.error_ns for each in found), default=0)
    largest_ns = max((bound_ns for bound_ns, _ in bounded), default=0)
    figures = [Figure(name="records with a bound", value=len(bounded)),
               Figure(name="largest true error", value=error_ns / 1e6, unit="ms"),
               Figure(name="largest stated bound", value=largest_ns / 1e6, unit="ms"),
               Figure(name="least that a bound had to spare", value=spare_ns / 1e6, unit="ms")]  # fmt: skip
    words = f"{wrong} of {len(bounded)} bounds are too small; the tightest has {spare_ns / 1e6:.3f} ms to spare"
    words += f"; {len(found) - len(bounded)} records state none"
    return Finding(bool(bounded) and not wrong, words, figures, [_plot(evidence, found)])


def _plot(evidence: Evidence, found: Sequence[Compared]) -> Plot:
    def line(points: list[Point]) -> tuple[Point, ...]:
        return thinned((at_ns, None if value is None else value / 1e6) for at_ns, value in points)

    return Plot(
        title="True error of the gateway's clock, and the bound that is stated", unit="ms",
        lines=(Line(name="true error", points=line([(each.at_ns, each.error_ns) for each in found])),
               Line(name="stated bound", kind="limit", points=line([(each.at_ns, each.bound_ns) for each in found]))),
        spans=tuple(evidence.observed.disturbances),
        caption="The error stays below the bound; where the bound is missing, none is stated.",
    )  # fmt: skip


BOUNDED = PassCriterion(
    "Every record's stated bound covers the true error of its time.", every_bound_covers_the_true_error
)
"""What is claimed of every clock (T1)."""
