from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.buffer import BufferEvent, BufferLimits, BufferWriter, PosixDisk, Store
from edge.errors import BufferFull
from edge.testing.disk import SimulatedDisk

MakeRecords = Callable[..., list[Any]]


async def test_what_was_stored_is_durable_when_the_wait_is_over(
    tmp_path: Path, buffers: Any, make_records: MakeRecords
) -> None:
    store = await asyncio.to_thread(buffers.store, PosixDisk(tmp_path))
    async with BufferWriter(store) as buffer:
        first = await buffer.store(make_records(0, 3))
        second = await buffer.store(make_records(3, 1))

    assert (first, second) == ((0, 2, True), (3, 3, True))
    assert sorted(await asyncio.to_thread(buffers.read_all, PosixDisk(tmp_path))) == [0, 1, 2, 3]


async def test_what_arrives_during_a_commit_goes_as_the_next_one(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords
) -> None:
    store = buffers.store(simulated)
    is_syncing, may_go_on = threading.Event(), threading.Event()
    syncs: list[str] = []

    def hold(kind: str, name: str) -> None:
        if kind == "write" and name.endswith(".seg"):
            syncs.append(name)
            is_syncing.set()
            may_go_on.wait()

    async with BufferWriter(store) as buffer:
        simulated.watch = hold
        first = buffer.store(make_records(0, 1))
        await asyncio.to_thread(is_syncing.wait)
        rest = [buffer.store(make_records(seq, 1)) for seq in range(1, 21)]
        may_go_on.set()
        await asyncio.gather(first, *rest)

    assert len(syncs) == 2
    assert store.durable_end == 21


async def test_the_end_waits_for_what_was_submitted(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords
) -> None:
    async with BufferWriter(buffers.store(simulated)) as buffer:
        waits = [buffer.store(make_records(seq, 1)) for seq in range(5)]

    assert [result.first for result in await asyncio.gather(*waits)] == [0, 1, 2, 3, 4]


async def test_other_work_on_the_store_is_done_between_commits(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords
) -> None:
    async with BufferWriter(buffers.store(simulated)) as buffer:
        buffer.store(make_records(0, 4))
        usage = await buffer.run(lambda store: store.usage())

        with pytest.raises(ZeroDivisionError):
            await buffer.run(lambda store: 1 // 0)

    assert usage.durable_end == 4


async def test_a_full_buffer_raises_for_the_records_it_refuses(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords, limits: BufferLimits
) -> None:
    full = replace(limits, limit_bytes=4096, when_full="stop")
    async with BufferWriter(buffers.store(simulated, full)) as buffer:
        await buffer.store(make_records(0, 30))

        with pytest.raises(BufferFull):
            await buffer.store(make_records(30, 30))

        assert (await buffer.store(make_records(30, 1))).is_durable


async def test_a_dead_disk_is_reported_and_found_alive_again_without_new_records(
    simulated: SimulatedDisk, make_records: MakeRecords, limits: BufferLimits
) -> None:
    changes: asyncio.Queue[BufferEvent] = asyncio.Queue()

    def note(found: Any) -> None:
        for change in found:
            changes.put_nowait(change)

    async with BufferWriter(Store(simulated, limits), note) as buffer:
        simulated.fail("", errno.EIO)
        stored = await buffer.store(make_records(0, 3))
        dead = await changes.get()
        simulated.heal()
        alive = await changes.get()

        assert (stored.is_durable, await buffer.run(lambda store: store.durable_end)) == (False, 3)

    assert [dead.data["is_in_memory"], alive.data["is_in_memory"]] == [True, False]


async def test_a_cancelled_wait_does_no_harm(simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords) -> None:
    async with BufferWriter(buffers.store(simulated)) as buffer:
        buffer.store(make_records(0, 1)).cancel()
        assert (await buffer.store(make_records(1, 1))).first == 1


async def test_a_bug_in_the_thread_is_raised_by_every_call(
    simulated: SimulatedDisk, buffers: Any, make_records: MakeRecords
) -> None:
    """It is not caught: it ends the buffer, and with it the process."""
    store = buffers.store(simulated)

    def broken(*_: object) -> bool:
        raise TypeError("broken")

    async def run() -> None:
        async with BufferWriter(store) as buffer:
            for _ in range(2):  # The thread has ended the second time, and the call raises again.
                with pytest.raises(TypeError, match="broken"):
                    await buffer.store(make_records(0, 1))

    store.commit = broken
    with pytest.raises(TypeError, match="broken"):
        await run()
