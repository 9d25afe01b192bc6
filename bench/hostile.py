"""All hostile devices of all protocols and healthy ones, polled by one process as by a gateway.

    python -m bench.hostile --seconds 10

The devices run in a process of their own. Measured in turn: the memory for each hostile device alone; the intervals
between scans of healthy devices alone, and together with all hostile ones; the time until each is read again once all
behave.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from bench.results import Row, store
from edge.clock import SystemClock
from edge.driver import DriverKind
from tests.support.hostile.behaviour import Behaviour, Outcome, Protocol
from tests.support.hostile.plant import Plant, Watched
from tests.support.hostile.tables import PROTOCOLS
from tests.support.hostile.trial import Trial

HEALTHY_EVERY_NS, HOSTILE_EVERY_NS = 100 * 10**6, 1000 * 10**6
HEALTHY_OF_EACH = 2
SCANS_ALONE = 3
SETTLING_S = 3.0
TIMEOUT_S = 60.0
LINE_BYTES_MOST = 1 << 22

Trials = Sequence[tuple[Protocol, Behaviour]]


@dataclass(frozen=True, slots=True)
class Remote:
    """A peer in the other process, where all start to behave together."""

    device: Mapping[str, Any]

    def behave(self) -> None:
        """See `Peer.behave`."""
        raise NotImplementedError


@dataclass(slots=True)
class Found:
    """The measurements."""

    memory_bytes: int = 0
    memory_of: str = ""
    alone_ms: tuple[float, float] = (0.0, 0.0)
    together_ms: tuple[float, float] = (0.0, 0.0)
    skipped: int = 0
    failed: int = 0
    recovery_s: float = 0.0
    recovery_of: str = ""
    wrong: tuple[str, ...] = ()


def hostile() -> Trials:
    """Every behaviour."""
    return [(protocol, behaviour) for protocol in PROTOCOLS for behaviour in protocol.behaviours]


def healthy() -> Trials:
    """Devices that behave from the beginning."""
    return [(protocol, protocol.behaviours[0]) for protocol in PROTOCOLS for _ in range(HEALTHY_OF_EACH)]


# The process of the devices.


async def be_devices(folder: Path) -> None:
    """Start every device, print their settings, and let the hostile ones behave when a line arrives."""
    async with AsyncExitStack() as stack:
        peers = []
        for number, (_, behaviour) in enumerate([*healthy(), *hostile()]):
            own = folder / str(number)
            own.mkdir()
            peers.append(await stack.enter_async_context(behaviour.start(own)))
        for peer in peers[: len(healthy())]:
            peer.behave()
        print(json.dumps([dict(peer.device) for peer in peers], default=str), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for peer in peers:
            peer.behave()
        print("behaving", flush=True)
        await asyncio.to_thread(sys.stdin.readline)


# The process of the gateway.


async def measure(seconds: float) -> Found:
    """Start the devices, and read them."""
    found = Found()
    with tempfile.TemporaryDirectory() as name:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.hostile", "--devices", name,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES_MOST,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            remotes = [Remote(device) for device in json.loads(await process.stdout.readline())]
            good, bad = remotes[: len(healthy())], remotes[len(healthy()) :]
            await measure_memory(bad, found)
            async with Plant(Path(name)) as plant:
                await measure_intervals(plant, good, bad, seconds, found)
                process.stdin.write(b"behave\n")
                await process.stdout.readline()
                await measure_recovery(plant, found)
                found.wrong += tuple(f"{one.name}: {wrong}" for one in plant.watched for wrong in one.judge.wrong)
        finally:
            process.kill()
            await process.wait()
    return found


async def measure_memory(remotes: Sequence[Remote], found: Found) -> None:
    """The most memory that reading one hostile device adds, each alone with a new driver."""
    clock, kinds = SystemClock(), dict[str, DriverKind[Any]]()
    print(f"{'behaviour':64} {'scans':24} {'memory':>8}")
    for (protocol, behaviour), remote in zip(hostile(), remotes, strict=True):
        kind = kinds.get(protocol.name) or kinds.setdefault(protocol.name, protocol.kind())
        trial = Trial(protocol, behaviour, remote, kind, clock)
        await trial.scan(1)
        gc.collect()
        tracemalloc.start()
        outcomes = await trial.scan(SCANS_ALONE)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        name = f"{protocol.label}, {behaviour.id}"
        if peak_bytes > found.memory_bytes:
            found.memory_bytes, found.memory_of = peak_bytes, name
        found.wrong += tuple(f"{name}: {wrong}" for wrong in trial.judge.wrong)
        words = " ".join(outcome.name.lower()[:7] for outcome in outcomes if outcome.name)
        print(f"{name[:64]:64} {words:24} {peak_bytes / 1e6:5.2f} MB", flush=True)


async def measure_intervals(
    plant: Plant, good: Sequence[Remote], bad: Sequence[Remote], seconds: float, found: Found
) -> None:
    """Scan intervals of healthy devices, alone and together with all hostile ones."""
    quiet = [
        plant.watch(protocol, behaviour, remote, HEALTHY_EVERY_NS)
        for (protocol, behaviour), remote in zip(healthy(), good, strict=True)
    ]
    await asyncio.sleep(SETTLING_S)
    found.alone_ms = await intervals_ms(quiet, seconds)
    for (protocol, behaviour), remote in zip(hostile(), bad, strict=True):
        plant.watch(protocol, behaviour, remote, HOSTILE_EVERY_NS)
    await asyncio.sleep(SETTLING_S)
    before = [one.device.counts() for one in quiet]
    found.together_ms = await intervals_ms(quiet, seconds)
    after = [one.device.counts() for one in quiet]
    found.skipped = sum(now.skipped - then.skipped for then, now in zip(before, after, strict=True))
    found.failed = sum(now.failed - then.failed for then, now in zip(before, after, strict=True))
    plant.raise_if_broken()


async def intervals_ms(devices: Sequence[Watched], seconds: float) -> tuple[float, float]:
    """Median and 99th percentile of the time from scan to scan."""
    for one in devices:
        one.asked_at_ns.clear()
    await asyncio.sleep(seconds)
    gaps = np.concatenate([np.diff(one.asked_at_ns) for one in devices]) / 1e6
    return float(np.percentile(gaps, 50)), float(np.percentile(gaps, 99))


async def measure_recovery(plant: Plant, found: Found) -> None:
    """The time until each hostile device is read again."""
    began_s = time.monotonic()
    waiting = {id(one): (one, len(one.judge.outcomes)) for one in plant.watched[len(healthy()) :]}
    while waiting and time.monotonic() - began_s < TIMEOUT_S:
        for key, (one, since) in list(waiting.items()):
            if Outcome.GOOD in one.judge.outcomes[since:]:
                del waiting[key]
                found.recovery_s, found.recovery_of = time.monotonic() - began_s, one.name
        await asyncio.sleep(0.01)
    plant.raise_if_broken()
    for one, _ in waiting.values():
        print(f"{one.name} is not read again: {one.device.reason or one.judge.outcomes[-1:]}")
        found.recovery_s, found.recovery_of = TIMEOUT_S, one.name


def main() -> None:
    """Measure, and store the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement of intervals")
    parser.add_argument("--devices", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.devices is not None:
        uvloop.run(be_devices(options.devices))
        return
    found = uvloop.run(measure(options.seconds))
    for wrong in found.wrong:
        print(wrong)
    names = {(protocol.name, behaviour.id) for protocol, behaviour in hostile()}
    ratios = [together / alone for together, alone in zip(found.together_ms, found.alone_ms, strict=True)]
    print(f"most memory: {found.memory_of}; last to recover: {found.recovery_of}")
    store([
        Row(
            figure="R8 hostile devices",
            goal=">= 60 behaviours, 0 wrong values, others' scans within 10 %, <= 16 MB each, recovery <= 5 s",
            measured=f"{len(names)} behaviours in {len(hostile())} devices at once: {len(found.wrong)} wrong values; "
            f"others' interval p50 {found.together_ms[0]:.1f} ms ({ratios[0]:.3f} x without them), p99 "
            f"{found.together_ms[1]:.1f} ms ({ratios[1]:.3f} x), {found.skipped} scans skipped, {found.failed} failed; "
            f"{found.memory_bytes / 1e6:.1f} MB; {found.recovery_s:.1f} s",
            command="python -m bench.hostile",
        )
    ])  # fmt: skip


if __name__ == "__main__":
    main()
