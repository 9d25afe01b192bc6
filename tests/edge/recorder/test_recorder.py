"""What is handed in is sealed in order, and what cannot be kept is declared."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from edge.buffer import BufferWriter, Cursor
from edge.clock.timekeeper import Require
from edge.model import SampleBlock, StatusCode
from edge.recorder import RecorderSettings
from edge.seal import Checkpoint, Data, Event, Gap, KeyChange, Loss, TimeChange, decode_frame, parse
from tests.edge.recorder.conftest import LIMITS, RULES, TAGS, Desk, Room

HOUR_NS = 3600 * 10**9
SECOND_NS = 10**9


def scans(room: Room) -> list[list[int]]:
    """The first value of each block, record by record."""
    return [[int(block.vectors[0][0]) for block in data.blocks()] for data in room.told() if isinstance(data, Data)]


async def closed(desk: Desk) -> None:
    """Until the commit window has closed the batch by itself."""
    kept = asyncio.Event()
    desk.ledger.on_stored = kept.set
    await kept.wait()


async def test_readings_of_one_commit_window_are_one_record(room: Room) -> None:
    async with room.desk() as desk:
        await desk.settle()
        for value in (1, 2, 3):
            desk.ledger.add_block(desk.block(value))
        await closed(desk)

    assert scans(room) == [[1, 2, 3]]


async def test_an_urgent_reading_takes_those_before_it_along_at_once(room: Room) -> None:
    async with room.desk(rules=replace(RULES, commit_window_ns=HOUR_NS)) as desk:
        desk.ledger.add_block(desk.block(1))
        desk.ledger.add_block(desk.block(2), urgent=True)
        desk.ledger.add_block(desk.block(3))

    assert scans(room) == [[1, 2]]


async def test_without_a_window_a_record_takes_all_that_came_while_the_disk_was_busy(room: Room) -> None:
    async with room.desk(rules=replace(RULES, commit_window_ns=0)) as desk:
        for value in (1, 2, 3):  # The first records of the run are with the disk.
            desk.ledger.add_block(desk.block(value))
        await closed(desk)
        await desk.settle()

    assert scans(room) == [[1, 2, 3]]


async def test_an_event_does_not_wait_for_the_window(room: Room) -> None:
    async with room.desk(rules=replace(RULES, commit_window_ns=HOUR_NS)) as desk:
        desk.ledger.add_block(desk.block())
        desk.ledger.record_event("device.up", 0, "mixer", {"serial": "1", "status": StatusCode.GOOD})

    [event] = [told for told in room.told() if isinstance(told, Event)]
    assert (event.at_ns, event.kind, dict(event.data)) == (
        room.clock.utc_ns(),
        "device.up",
        {"serial": "1", "status": 0},
    )


async def test_readings_before_a_step_keep_the_time_they_were_read_under(room: Room) -> None:
    async with room.desk() as desk:
        before_ns = room.clock.utc_ns()
        desk.ledger.add_block(desk.block(1))
        room.clock.step_ns(-HOUR_NS)
        desk.ledger.add_block(desk.block(2))
        desk.ledger.commit()
        desk.ledger.add_block(desk.block(3))
        desk.ledger.commit()

    told = [each for each in room.told() if isinstance(each, Data | TimeChange)]
    assert [type(each) for each in told] == [Data, TimeChange, Data]
    first, change, last = told
    assert isinstance(first, Data)
    assert isinstance(change, TimeChange)
    assert isinstance(last, Data)
    assert (first.utc_ns, len(first.wire_blocks)) == (before_ns + 500, 2)
    assert change.step_ns == -HOUR_NS
    assert last.utc_ns == before_ns - HOUR_NS + 500


async def test_a_gap_ends_as_the_gap_it_began_as_although_the_clock_was_set(room: Room) -> None:
    async with room.desk() as desk:
        from_ns, began_ns = room.clock.boot_ns(), room.clock.utc_ns()
        desk.ledger.record_gap(0, from_ns, None, StatusCode.BAD_NO_COMMUNICATION, "cable")
        room.clock.advance_ns(SECOND_NS)
        room.clock.step_ns(-HOUR_NS)
        desk.ledger.commit()
        desk.ledger.record_gap(0, from_ns, room.clock.boot_ns(), StatusCode.BAD_NO_COMMUNICATION, "cable")

    begin, end = (told for told in room.told() if isinstance(told, Gap))
    assert (begin.from_ns, begin.to_ns) == (began_ns, None)
    assert (end.from_ns, end.to_ns) == (began_ns, began_ns)


async def test_under_a_clock_that_is_not_good_enough_good_readings_are_uncertain_and_bad_ones_stay_bad(
    room: Room,
) -> None:
    async with room.desk(rules=replace(RULES, require=Require.BOUNDED)) as desk:
        desk.ledger.add_block(desk.block())
        desk.ledger.add_block(replace(desk.block(), status=((1, 1, int(StatusCode.BAD_ADDRESS)),)))
        desk.ledger.commit()

    [data] = [told for told in room.told() if isinstance(told, Data)]
    uncertain = int(StatusCode.UNCERTAIN)
    assert [block.status for block in data.blocks()] == [
        ((0, TAGS, uncertain),),
        ((0, 1, uncertain), (1, 1, int(StatusCode.BAD_ADDRESS)), (2, 2, uncertain)),
    ]


async def test_what_no_record_can_hold_together_goes_in_several(room: Room) -> None:
    random = np.random.default_rng(1)
    async with room.desk(rules=replace(RULES, commit_window_ns=HOUR_NS)) as desk:
        for _ in range(6):
            noise = random.integers(0, 2**32, 6000, np.uint32)
            desk.ledger.add_block(SampleBlock(0, desk.clock.boot_ns(), desk.clock.boot_ns(), (noise,)))
        desk.ledger.commit()

    records = [each for each in scans(room) if each]
    assert sum(map(len, records)) == 6
    assert max(map(len, records)) <= 2


async def test_silence_is_broken_by_heartbeats_and_checkpoints_and_the_key_is_rolled_in_time(room: Room) -> None:
    room.chain_rules = replace(room.chain_rules, key_period_ns=100 * SECOND_NS)
    async with room.desk() as desk:
        for _ in range(119):
            room.clock.advance_ns(SECOND_NS)
            await desk.ledger.tick()

    told = room.told()
    beats = [data for data in told if isinstance(data, Data)]
    assert len(beats) >= 9
    assert not any(data.wire_blocks for data in beats)
    assert sum(isinstance(each, KeyChange) for each in told) == 1
    assert room.types().count("CHECKPOINT") == 1


async def test_a_checkpoint_says_when_it_was_sealed(room: Room) -> None:
    async with room.desk() as desk:
        room.clock.advance_ns(HOUR_NS)
        await desk.ledger.checkpoint()
        await desk.ledger.close()

    frames = [parse(data) for data in room.stored()]
    payloads = [decode_frame(frame) for frame in frames]
    assert [each.time.as_of_ns for each in payloads[-3:]] == [room.clock.boot_ns()] * 3  # type: ignore[union-attr]


async def test_a_full_buffer_that_must_stop_refuses_and_declares_what_it_refused(room: Room) -> None:
    random = np.random.default_rng(1)
    async with room.desk(replace(LIMITS, limit_bytes=5 << 16, when_full="stop")) as desk:
        while not desk.ledger.is_refusing:
            noise = random.integers(0, 2**32, 3000, np.uint32)
            desk.ledger.add_block(replace(desk.block(), vectors=(noise,)), urgent=True)
            await desk.settle()
        desk.ledger.add_block(desk.block())
        await desk.ledger.tick()
        was_refusing, before = desk.ledger.is_refusing, room.stored()

        deliver(room, last=desk.store.durable_end - 2)
        await desk.upkeep.trim()
        await desk.ledger.tick()
        desk.ledger.add_block(desk.block(7))
        desk.ledger.commit()

    judged = room.judged(before)
    held = {each.seq for each in judged}
    [loss] = [each.content for each in judged if isinstance(each.content, Loss)]
    [gap] = [each.content for each in judged if isinstance(each.content, Gap)]
    assert was_refusing
    assert not desk.ledger.is_refusing
    assert desk.ledger.counts.refused_scans == 1
    assert set(range(max(held))) - held == set(range(loss.first, loss.last + 1))
    assert (gap.group, gap.status) == (None, StatusCode.BAD_RESOURCE_UNAVAILABLE)


def deliver(room: Room, *, last: int) -> None:
    """The sender remembers that the broker took everything so far."""
    cursor = Cursor(room.disk)
    cursor.add(0, last)
    cursor.save()


async def test_a_close_waits_until_checkpoint_and_stop_are_durable(room: Room) -> None:
    async with room.desk(rules=replace(RULES, commit_window_ns=HOUR_NS)) as desk:
        desk.ledger.add_block(desk.block(5))
        await desk.ledger.close()
        durable = len(room.stored())

    assert room.types()[-3:] == ["DATA", "CHECKPOINT", "STOP"]
    assert durable == len(room.stored())


@pytest.mark.parametrize("rules", [RULES, RecorderSettings(commit_window_ns=0, require=Require.ANY)])
async def test_nothing_handed_in_waits_for_the_disk(room: Room, rules: RecorderSettings) -> None:
    """The disk is stuck: readings and events are still taken, and are durable when it is not."""
    async with room.desk(rules=rules) as desk:
        release = asyncio.Event()
        await stuck(desk.writer, release)
        for value in range(50):
            desk.ledger.add_block(desk.block(value))
            desk.ledger.record_event("scan", 0, "mixer", {})
        desk.ledger.commit()
        release.set()

    assert [value for record in scans(room) for value in record] == list(range(50))


async def stuck(writer: BufferWriter, release: asyncio.Event) -> None:
    """The writer's thread waits until it is released."""
    loop = asyncio.get_running_loop()
    is_stuck = asyncio.Event()

    def wait(_: object) -> None:
        loop.call_soon_threadsafe(is_stuck.set)
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result()

    writer.run(wait)
    await is_stuck.wait()


async def test_a_checkpoint_says_what_the_buffer_holds_in_records(room: Room) -> None:
    async with room.desk() as desk:
        for value in range(3):
            desk.ledger.add_block(desk.block(value), urgent=True)
        await desk.settle()
        usage = await desk.writer.run(lambda store: store.usage())
        cursor = Cursor(room.disk)
        cursor.add(usage.oldest, usage.oldest + 1)
        cursor.save()
        await desk.ledger.tick()
        await desk.ledger.checkpoint()

    told = [each.buffer for each in room.told() if isinstance(each, Checkpoint)]
    assert told[0].undelivered == usage.durable_end - usage.oldest - 2
    assert (told[0].oldest, told[0].size_bytes) == (0, usage.used_bytes)


async def test_a_write_that_fails_ends_the_recorder_at_once(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a bug, not an error of the disk: nothing is acquired that nothing can store."""
    monkeypatch.setattr("edge.recorder.recorder.TICK_S", 3600.0)

    def broken(*_: object) -> bool:
        raise TypeError("broken")

    async def run() -> None:
        async with room.desk() as desk:
            await desk.settle()
            running = asyncio.create_task(desk.ledger.run())
            monkeypatch.setattr(desk.store, "commit", broken)
            desk.ledger.record_event("device.up", 0, "mixer", {})
            with pytest.raises(TypeError, match="broken"):
                await running
            with pytest.raises(TypeError, match="broken"):
                desk.ledger.record_event("device.up", 0, "mixer", {})
            with pytest.raises(TypeError, match="broken"):
                await desk.ledger.checkpoint()

    with pytest.raises(TypeError, match="broken"):
        await run()
