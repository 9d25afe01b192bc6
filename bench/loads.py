"""The loads that plants have: what a gateway takes of one core, beside a bare C poller that reads the same registers.

    python -m bench.loads --rounds 3 --seconds 10
    python -m bench.loads 10@1s 100@100ms

Each load is that many Modbus devices with 500 float32 tags, read at that interval: every value moves, and one request
is outstanding at a device. The gateway signs, syncs to disk and has every record acknowledged by a mosquitto. Then the
C poller reads the same devices: with its starts spread over the interval, and once more all in one volley. The row of a
load is the round with the cheapest reading, because a busy machine only adds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.gateway import Run, insist_on_clean, measure
from bench.results import Row, store
from bench.rig import Rig, Usage, usage
from bench.sites import Load, compiled, process
from edge.units import parse_duration_ns

_SETTLE_S = 2.0
_IDLE_S = 60.0  # One interval: each device is read once.
_FOREVER_S = 86_400
LOADS = {
    "10@1s": (Load(devices=10, every="1 s"), "<= 1.2 %"),
    "100@1s": (Load(devices=100, every="1 s"), "<= 6 %"),
    "10@100ms": (Load(devices=10, every="100 ms"), "<= 6 %"),
    "100@100ms": (Load(devices=100, every="100 ms"), "<= 30 %"),
    "100@60s": (Load(devices=100, every="60 s"), "<= 0.5 %"),
}
_HEAD = (
    f"{'load':10} {'CPU':>7} {'C spread':>9} {'C volley':>9} {'latency p99':>12} {'late p99':>9} {'switches/s':>11} "
    f"{'readings/s':>11} {'skipped':>8}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a process took in a second: CPU seconds (of one core) and context switches."""

    core: float
    switches: float

    @classmethod
    def between(cls, before: Usage, after: Usage) -> Cost:
        """Of a process between two moments."""
        seconds = after.at_s - before.at_s
        return cls(core=(after.cpu_s - before.cpu_s) / seconds, switches=(after.switches - before.switches) / seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The gateway and the C poller against the same devices, one after the other."""

    gateway: Run
    spread: Cost
    volley: Cost


def c_poller(rig: Rig, seconds: float, *, is_volley: bool) -> Cost:
    """The C poller of this folder on the devices of a rig."""
    load, every_ms = rig.load, parse_duration_ns(rig.load.every) // 10**6
    program = str(compiled("modbus_client", rig.directory))
    command = [program, "--ports-list", ",".join(map(str, rig.ports)), "--tags", str(load.tags),
               "--every-ms", str(every_ms), "--volley", str(int(is_volley)), "--seconds", str(_FOREVER_S)]  # fmt: skip
    log = rig.directory / "c_poller.log"
    with process(command, core=load.gateway_core, log=log) as running:
        time.sleep(_SETTLE_S)
        before = usage(running.pid)
        time.sleep(seconds)
        if running.poll() is not None:
            raise SystemExit(f"the C poller ended: {log.read_text()}")
        return Cost.between(before, usage(running.pid))


def one_round(load: Load, seconds: float) -> Round:
    """One load, measured once."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name, Rig(load, Path(name)) as rig:
        done = Round(
            gateway=measure(rig, seconds), spread=c_poller(rig, seconds, is_volley=False),
            volley=c_poller(rig, seconds, is_volley=True),
        )  # fmt: skip
    insist_on_clean(done.gateway)
    return done


def line(name: str, done: Round) -> str:
    """A round as a line of the table."""
    run = done.gateway
    return (
        f"{name:10} {run.core:7.2%} {done.spread.core:9.2%} {done.volley.core:9.2%} {run.latency(99):9.1f} ms "
        f"{run.lateness(99):6.2f} ms {run.switches / run.seconds:11.0f} {run.per_s:11,.0f} "
        f"{run.skipped / max(run.due, 1):8.1%}"
    )


def row(name: str, done: Round) -> Row:
    """A round as a row of the results."""
    load, goal = LOADS[name]
    run = done.gateway
    latency_ms = max(25, parse_duration_ns(load.every) // 10**7)
    return Row(
        figure=f"Load {name}, 500 tags a device", command=f"python -m bench.loads {name}",
        goal=f"{goal} of one core; p99 of latency <= {latency_ms} ms, of starts <= 1 ms",
        measured=f"{run.core:.2%} (C spread {done.spread.core:.2%}, in one volley {done.volley.core:.2%}); to a "
        f"subscriber's hands p50 {run.latency(50):.1f} ms, p99 {run.latency(99):.1f} ms; starts p50 "
        f"{run.lateness(50):.2f} ms, p99 {run.lateness(99):.2f} ms; {run.switches / run.seconds:.0f} context switches "
        f"a second; {run.skipped} of {run.due} scans skipped",
    )  # fmt: skip


def main(arguments: list[str]) -> None:
    """Print the table and store it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loads", nargs="*", choices=[*LOADS, []], help="by default all of them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement; 60 where devices are idle")
    asked = parser.parse_args(arguments)
    rows = []
    print(_HEAD)
    for name in asked.loads or LOADS:
        load, _ = LOADS[name]
        rounds = []
        for _ in range(asked.rounds):
            seconds = max(asked.seconds, _IDLE_S) if load.every == "60 s" else asked.seconds
            rounds.append(one_round(load, seconds))
            print(line(name, rounds[-1]), flush=True)
        best = max(rounds, key=lambda each: each.gateway.per_cpu_s)
        rows.append(row(name, best))
    store(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
