"""R1: check crash states of the buffer: `python -m bench.crash_matrix --states 1000000`."""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from os import cpu_count

from bench.results import Row, store
from tests.support.crash_matrix import crash_states

_STATES_PER_TASK = 10_000
_SEEDS_PER_TASK = 1_000  # More than a task uses, so that no two tasks share one.


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--states", type=int, default=1_000_000)
    options.add_argument("--processes", type=int, default=cpu_count() or 1)
    asked = options.parse_args()
    tasks = -(-asked.states // _STATES_PER_TASK)
    started_s = time.perf_counter()
    with ProcessPoolExecutor(asked.processes) as pool:
        seeds = range(0, tasks * _SEEDS_PER_TASK, _SEEDS_PER_TASK)
        states = sum(pool.map(partial(crash_states, _STATES_PER_TASK), seeds))
    took_s = time.perf_counter() - started_s
    print(f"{took_s:.0f} s on {asked.processes} processes")
    command = f"python -m bench.crash_matrix --states {asked.states}"
    store([
        Row(figure="R1 crash states", goal="0 lost, invented or reused records, 0 failed starts", command=command,
            measured=f"0 in {states:,} states")
    ])  # fmt: skip


if __name__ == "__main__":
    main()
