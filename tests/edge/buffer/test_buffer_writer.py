from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.buffer import BufferEvent, BufferWriter, Limits, PosixDisk, Store
from edge.errors import BufferFull
from edge.testing.disk import SimulatedDisk

Kept = Callable[..., list[Any]]


async def test_what_was_stored_is_durable_when_the_wait_is_over(tmp_path: Path, plant: Any, kept: Kept) -> None:
    store = await asyncio.to_thread(plant.store, PosixDisk(tmp_path))
    async with BufferWriter(store) as buffer:
        first = await buffer.store(kept(0, 3))
        second = await buffer.store(kept(3, 1))

    assert (first, second) == ((0, 2, True), (3, 3, True))
    assert sorted(await asyncio.to_thread(plant.read_all, PosixDisk(tmp_path))) == [0, 1, 2, 3]


async def test_what_arrives_during_a_commit_goes_as_the_next_one(
    simulated: SimulatedDisk, plant: Any, kept: Kept
) -> None:
    store = plant.store(simulated)
    is_syncing, may_go_on = threading.Event(), threading.Event()
    syncs: list[str] = []

    def hold(kind: str, name: str) -> None:
        if kind == "write" and name.endswith(".seg"):
            syncs.append(name)
            is_syncing.set()
            may_go_on.wait()

    async with BufferWriter(store) as buffer:
        simulated.watch = hold
        first = buffer.store(kept(0, 1))
        await asyncio.to_thread(is_syncing.wait)
        rest = [buffer.store(kept(seq, 1)) for seq in range(1, 21)]
        may_go_on.set()
        await asyncio.gather(first, *rest)

    assert len(syncs) == 2
    assert store.durable_end == 21


async def test_the_end_waits_for_what_was_handed_in(simulated: SimulatedDisk, plant: Any, kept: Kept) -> None:
    async with BufferWriter(plant.store(simulated)) as buffer:
        waits = [buffer.store(kept(seq, 1)) for seq in range(5)]

    assert [kept.first for kept in await asyncio.gather(*waits)] == [0, 1, 2, 3, 4]


async def test_other_work_on_the_store_is_done_between_commits(
    simulated: SimulatedDisk, plant: Any, kept: Kept
) -> None:
    async with BufferWriter(plant.store(simulated)) as buffer:
        buffer.store(kept(0, 4))
        usage = await buffer.run(lambda store: store.usage())

        with pytest.raises(ZeroDivisionError):
            await buffer.run(lambda store: 1 // 0)

    assert usage.durable_end == 4


async def test_a_full_buffer_is_told_to_whom_it_refuses(
    simulated: SimulatedDisk, plant: Any, kept: Kept, limits: Limits
) -> None:
    full = replace(limits, limit_bytes=4096, when_full="stop")
    async with BufferWriter(plant.store(simulated, full)) as buffer:
        await buffer.store(kept(0, 30))

        with pytest.raises(BufferFull):
            await buffer.store(kept(30, 30))

        assert (await buffer.store(kept(30, 1))).is_durable


async def test_a_dead_disk_is_reported_and_found_alive_again_without_new_records(
    simulated: SimulatedDisk, kept: Kept, limits: Limits
) -> None:
    changes: asyncio.Queue[BufferEvent] = asyncio.Queue()

    def note(found: Any) -> None:
        for change in found:
            changes.put_nowait(change)

    async with BufferWriter(Store(simulated, limits), note) as buffer:
        simulated.fail("", errno.EIO)
        stored = await buffer.store(kept(0, 3))
        dead = await changes.get()
        simulated.heal()
        alive = await changes.get()

        assert (stored.is_durable, await buffer.run(lambda store: store.durable_end)) == (False, 3)

    assert [dead.data["is_in_memory"], alive.data["is_in_memory"]] == [True, False]


async def test_nobody_waiting_any_more_is_no_trouble(simulated: SimulatedDisk, plant: Any, kept: Kept) -> None:
    async with BufferWriter(plant.store(simulated)) as buffer:
        buffer.store(kept(0, 1)).cancel()
        assert (await buffer.store(kept(1, 1))).first == 1


async def test_a_bug_in_the_thread_reaches_whoever_waits(simulated: SimulatedDisk, plant: Any, kept: Kept) -> None:
    """It is not caught: it ends the buffer, and with it the process."""
    store = plant.store(simulated)

    def broken(*_: object) -> bool:
        raise TypeError("broken")

    async def run() -> None:
        async with BufferWriter(store) as buffer:
            for _ in range(2):  # The thread is gone the second time, and it is said again.
                with pytest.raises(TypeError, match="broken"):
                    await buffer.store(kept(0, 1))

    store.commit = broken
    with pytest.raises(TypeError, match="broken"):
        await run()
