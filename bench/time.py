"""T1-T3: does the stated bound cover the true error of the clock, in order? `python -m bench.time --seconds 600`.

Real chronyd processes over good and bad servers, whose clocks are known: see `tests/support/clock_scenarios.py`. Then a
modelled clock that follows a modelled grandmaster, in simulated time: see `tests/support/ptp_scenarios.py`. Then leap
seconds through a modelled chronyd, with the order of what would be on record: see `tests/support/leap_scenarios.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from secrets import randbelow

from bench.results import Row, store
from tests.support import leap_scenarios, ptp_scenarios
from tests.support.clock_scenarios import LOSSES, RECOGNIZED_WITHIN, Outcome, watch


def main() -> None:
    """Watch, print and store the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=randbelow(10**6))
    asked = parser.parse_args()
    command = f"python -m bench.time --seconds {asked.seconds} --seed {asked.seed}"
    print(command, flush=True)
    with tempfile.TemporaryDirectory(prefix="clocks-") as folder:
        by_chrony = asyncio.run(watch(Path(folder), asked.seconds, asked.seed))
        by_ptp = asyncio.run(ptp_scenarios.watch(Path(folder), asked.seconds, asked.seed))
    leaps = asyncio.run(leap_scenarios.watch(asked.seed))
    over_leaps = [each.outcome for each in leaps]
    for each in (*by_chrony, *by_ptp, *over_leaps):
        print(each.text())
        for sample in each.uncovered[:3]:
            print("   ", sample)
    slowest = max(each.recognized_after or float("inf") for each in by_chrony if each.name in LOSSES)
    readings, disordered = (sum(each) for each in zip(*(_order(each) for each in leaps), strict=True))
    store([
        _row("T1 chrony", by_chrony, command), _row("T1 PTP, modelled", by_ptp, command),
        _row("T1 leap second, modelled", over_leaps, command),
        Row(figure="T3 order over a leap second, modelled", command=command,
            goal="no order of UTC against that of boot time without a TIME record between",
            measured=f"{disordered} of {readings:,} readings"),
        Row(figure="T2 loss of source", goal=f"recognized within {RECOGNIZED_WITHIN} update intervals",
            command=command, measured=f"after {slowest:.1f} intervals at most"),
    ])  # fmt: skip


def _order(record: leap_scenarios.Record) -> tuple[int, int]:
    return len(record.true_ns), len(list(record.disordered()))


def _row(figure: str, outcomes: list[Outcome], command: str) -> Row:
    bounds, wrong = (sum(len(getattr(each, name)) for each in outcomes) for name in ("bounded", "uncovered"))
    return Row(figure=figure, goal="true error within the stated bound in every sample", command=command,
               measured=f"{wrong} of {bounds:,} bounds too small, in {len(outcomes)} scenarios")  # fmt: skip


if __name__ == "__main__":
    main()
