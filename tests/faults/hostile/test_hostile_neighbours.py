"""The worst devices of all protocols in one plant: others do not notice, memory is bounded, and they come back."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.support.hostile.behaviour import Behaviour, Outcome, Protocol
from tests.support.hostile.plant import Plant, Watched
from tests.support.hostile.tables import PROTOCOLS
from tests.support.hostile.trial import trial
from tests.support.machine import run_delay_ns

EVERY_NS = 500 * 10**6
SETTLED, SCANS, OUTCOMES = 2, 4, 3
MEMORY_BYTES_MOST = 16 * 2**20
PATIENCE_S = 90.0  # Over when it happens.
DELAY_NS_OF_A_SCAN = 100 * 10**6  # The shortest timeout: a machine that costs a scan kept us waiting for longer.

HEAVY = [(protocol, behaviour) for protocol in PROTOCOLS for behaviour in protocol.behaviours if behaviour.is_heavy]


async def until(plant: Plant, devices: Iterable[Watched], is_there: Callable[[Watched], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not all(map(is_there, devices)):
            plant.raise_if_broken()
            await asyncio.sleep(0.01)


async def start_all(plant: Plant) -> tuple[list[Watched], list[Watched]]:
    """The worst of each protocol, and a healthy one."""
    worst, healthy = [], []
    for protocol in PROTOCOLS:
        bad = [behaviour for behaviour in protocol.behaviours if behaviour.is_worst]
        worst += [await plant.start(protocol, behaviour, EVERY_NS) for behaviour in bad]
        healthy.append(await plant.start(protocol, protocol.behaviours[0], EVERY_NS))
        healthy[-1].peer.behave()
    return worst, healthy


@pytest.mark.timeout(400)
async def test_the_worst_devices_cost_their_neighbours_no_scan_and_come_back(tmp_path: Path) -> None:
    """A scan may be lost only to a machine that did not run this loop."""
    async with Plant(tmp_path) as plant:
        worst, healthy = await start_all(plant)
        await until(plant, healthy, lambda one: one.device.counts().done >= SETTLED)
        before, delay_ns = [one.device.counts() for one in healthy], run_delay_ns()
        await until(plant, worst, lambda one: len(one.judge.outcomes) >= OUTCOMES)
        await until(plant, healthy, lambda one: one.device.counts().done >= before[0].done + SCANS)
        after, delay_ns = [one.device.counts() for one in healthy], run_delay_ns() - delay_ns
        for one in worst:
            one.peer.behave()
        await until(plant, worst, lambda one: one.is_good)

    assert [f"{one.device.name}: {wrong}" for one in plant.watched for wrong in one.judge.wrong] == []
    lost = [now.skipped - then.skipped + now.failed - then.failed for then, now in zip(before, after, strict=True)]
    assert max(lost) * DELAY_NS_OF_A_SCAN <= delay_ns


@pytest.mark.parametrize(("protocol", "behaviour"), HEAVY, ids=[f"{one.label}, {other.id}" for one, other in HEAVY])
async def test_a_connection_takes_little_memory_whatever_is_sent_or_announced(
    protocol: Protocol, behaviour: Behaviour, tmp_path: Path
) -> None:
    """The peer's memory is counted too."""
    async with trial(protocol, behaviour, tmp_path) as device:
        await device.scan(1)  # Whatever is loaded once.
        tracemalloc.start()
        try:
            found = await device.scan(2)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert Outcome.GOOD not in found or behaviour.expects(0) & Outcome.GOOD
    assert peak_bytes < MEMORY_BYTES_MOST
