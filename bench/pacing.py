"""How punctual scans are, and what a wake-up costs: scan groups that only wake up, on both event loops.

The kernel's timer itself is late on any machine: one thread that waits for the same timer is the reference.

    python bench/pacing.py [--groups 1000] [--interval-ms 100] [--seconds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import select
import time
from collections.abc import Callable

import numpy as np
import uvloop

from bench.results import Row, store
from edge.clock import SystemClock
from edge.clock.timerfd import BootTimer
from edge.config.settings import ScanningSettings
from edge.scan import Grid, Polled, Scheduler, plan_phases

MS = 10**6


def _grids(groups: int, interval_ns: int) -> list[Grid]:
    """Of so many devices with one scan group each."""
    phases_ns = plan_phases([Polled(interval_ns, number) for number in range(groups)], ScanningSettings().at_once)
    return [Grid(interval_ns, phase_ns) for phase_ns in phases_ns]


async def late_ns_of_scheduler(groups: int, interval_ns: int, seconds: float) -> list[int]:
    """The delay of each wake-up after its due time."""
    clock = SystemClock()
    late: list[int] = []
    with Scheduler(clock) as scheduler:
        end_ns = clock.boot_ns() + int(seconds * 1e9)

        async def group(grid: Grid) -> None:
            while True:
                due_ns = grid.due_ns(grid.index(clock.boot_ns()) + 1)
                if due_ns > end_ns:
                    return
                await scheduler.until(due_ns)
                late.append(clock.boot_ns() - due_ns)

        await asyncio.gather(*map(group, _grids(groups, interval_ns)))
    return late


async def late_ns_of_sleep(groups: int, interval_ns: int, seconds: float) -> list[int]:
    """The same with the event loop's own timers."""
    clock = SystemClock()
    late: list[int] = []
    end_ns = clock.boot_ns() + int(seconds * 1e9)

    async def group(grid: Grid) -> None:
        while True:
            now_ns = clock.boot_ns()
            due_ns = grid.due_ns(grid.index(now_ns) + 1)
            if due_ns > end_ns:
                return
            await asyncio.sleep((due_ns - now_ns) / 1e9)
            late.append(clock.boot_ns() - due_ns)

    await asyncio.gather(*map(group, _grids(groups, interval_ns)))
    return late


def late_ns_of_kernel(wakes: int) -> list[int]:
    """The timer descriptor alone."""
    clock, timer, late = SystemClock(), BootTimer(), []
    poll = select.epoll()
    poll.register(timer.fd, select.EPOLLIN)
    for _ in range(wakes):
        due_ns = clock.boot_ns() + MS
        timer.arm(due_ns)
        poll.poll()
        late.append(clock.boot_ns() - due_ns)
    poll.close()
    timer.close()
    return late


def row(name: str, late: list[int], cpu_s: float) -> float:
    """One line of the table; its p99 in microseconds."""
    p50, p99, worst = (float(np.percentile(late, share)) / 1e3 for share in (50, 99, 100))
    early = sum(1 for ns in late if ns < 0)
    cost = cpu_s / len(late) * 1e6
    print(f"{name:22}{len(late):9}{p50:9.0f}{p99:9.0f}{worst:9.0f}{early:9}{cost:12.1f}")
    return p99


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--groups", type=int, default=1_000)
    arguments.add_argument("--interval-ms", type=float, default=100)
    arguments.add_argument("--seconds", type=float, default=5)
    given = arguments.parse_args()
    print(f"{given.groups} scan groups at {given.interval_ms:g} ms; us late, and CPU us per wake-up")
    print(f"{'':22}{'wakes':>9}{'p50':>9}{'p99':>9}{'max':>9}{'early':>9}{'CPU us':>12}")
    began = time.process_time()
    kernel = row("kernel alone", late_ns_of_kernel(1_000), time.process_time() - began)
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.new_event_loop,
        "uvloop": uvloop.new_event_loop,
    }
    p99: dict[tuple[str, str], float] = {}
    for label, measure in (("scheduler", late_ns_of_scheduler), ("asyncio.sleep", late_ns_of_sleep)):
        for name, factory in loops.items():
            with asyncio.Runner(loop_factory=factory) as runner:
                began = time.process_time()
                late = runner.run(measure(given.groups, int(given.interval_ms * MS), given.seconds))
                p99[label, name] = row(f"{label}, {name}", late, time.process_time() - began)
    store([
        Row(figure=f"P3 start of {given.groups} scan groups, idle", goal="within 0.3 ms of the grid p99",
            measured=f"p99 {p99['scheduler', 'uvloop'] / 1e3:.2f} ms (the bare kernel timer {kernel / 1e3:.2f} ms)",
            command=f"python -m bench.pacing --groups {given.groups}")
    ])  # fmt: skip


if __name__ == "__main__":
    main()
