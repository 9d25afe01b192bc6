"""Blocks and events are sealed in order, and records that cannot be stored are declared."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from edge.buffer import BufferWriter, Cursor
from edge.clock.timekeeper import Require
from edge.model import SampleBlock, StatusCode
from edge.recorder import RecorderSettings
from edge.seal import Checkpoint, Data, Event, Gap, KeyChange, Loss, Stop, TimeChange, decode_frame, parse
from tests.edge.recorder.conftest import LIMITS, RULES, TAGS, Machine, Recording

HOUR_NS = 3600 * 10**9
SECOND_NS = 10**9


def scans(machine: Machine) -> list[list[int]]:
    """The first value of each block, record by record."""
    return [
        [int(block.vectors[0][0]) for block in data.blocks()] for data in machine.contents() if isinstance(data, Data)
    ]


async def committed(recording: Recording) -> None:
    """Wait until the commit window has ended by itself."""
    kept = asyncio.Event()
    recording.recorder.on_stored = kept.set
    await kept.wait()


async def test_readings_of_one_commit_window_are_one_record(machine: Machine) -> None:
    async with machine.recording() as recording:
        await recording.settle()
        for value in (1, 2, 3):
            recording.recorder.add_block(recording.block(value))
        await committed(recording)

    assert scans(machine) == [[1, 2, 3]]


async def test_an_urgent_reading_takes_those_before_it_along_at_once(machine: Machine) -> None:
    async with machine.recording(rules=replace(RULES, commit_window_ns=HOUR_NS)) as recording:
        recording.recorder.add_block(recording.block(1))
        recording.recorder.add_block(recording.block(2), urgent=True)
        recording.recorder.add_block(recording.block(3))

    assert scans(machine) == [[1, 2]]


async def test_without_a_window_a_record_takes_all_that_came_while_the_disk_was_busy(machine: Machine) -> None:
    async with machine.recording(rules=replace(RULES, commit_window_ns=0)) as recording:
        for value in (1, 2, 3):  # The first records of the run are on their way to the disk.
            recording.recorder.add_block(recording.block(value))
        await committed(recording)
        await recording.settle()

    assert scans(machine) == [[1, 2, 3]]


async def test_an_event_does_not_wait_for_the_window(machine: Machine) -> None:
    async with machine.recording(rules=replace(RULES, commit_window_ns=HOUR_NS)) as recording:
        recording.recorder.add_block(recording.block())
        at_ns = machine.clock.boot_ns() - 24 * 10**9
        recording.recorder.record_event(at_ns, "device.up", 0, "mixer", {"serial": "1", "status": StatusCode.GOOD})

    [event] = [contents for contents in machine.contents() if isinstance(contents, Event)]
    assert (event.at_ns, event.kind, dict(event.data)) == (
        machine.clock.utc_ns() - 24 * 10**9,
        "device.up",
        {"serial": "1", "status": 0},
    )


async def test_readings_before_a_step_keep_the_time_they_were_read_under(machine: Machine) -> None:
    async with machine.recording() as recording:
        before_ns = machine.clock.utc_ns()
        recording.recorder.add_block(recording.block(1))
        machine.clock.step_ns(-HOUR_NS)
        recording.recorder.add_block(recording.block(2))
        recording.recorder.commit()
        recording.recorder.add_block(recording.block(3))
        recording.recorder.commit()

    contents = [each for each in machine.contents() if isinstance(each, Data | TimeChange)]
    assert [type(each) for each in contents] == [Data, TimeChange, Data]
    first, change, last = contents
    assert isinstance(first, Data)
    assert isinstance(change, TimeChange)
    assert isinstance(last, Data)
    assert (first.utc_ns, len(first.wire_blocks)) == (before_ns + 500, 2)
    assert change.step_ns == -HOUR_NS
    assert last.utc_ns == before_ns - HOUR_NS + 500


async def test_a_gap_ends_as_the_gap_it_began_as_although_the_clock_was_set(machine: Machine) -> None:
    async with machine.recording() as recording:
        from_ns, began_ns = machine.clock.boot_ns(), machine.clock.utc_ns()
        recording.recorder.record_gap(0, from_ns, None, StatusCode.BAD_NO_COMMUNICATION, "cable")
        machine.clock.advance_ns(SECOND_NS)
        machine.clock.step_ns(-HOUR_NS)
        recording.recorder.commit()
        recording.recorder.record_gap(0, from_ns, machine.clock.boot_ns(), StatusCode.BAD_NO_COMMUNICATION, "cable")

    begin, end = (contents for contents in machine.contents() if isinstance(contents, Gap))
    assert (begin.from_ns, begin.to_ns) == (began_ns, None)
    assert (end.from_ns, end.to_ns) == (began_ns, began_ns)


@pytest.mark.requirement("REQ-TIME-02")
async def test_under_a_clock_that_is_not_good_enough_good_readings_are_uncertain_and_bad_ones_stay_bad(
    machine: Machine,
) -> None:
    async with machine.recording(rules=replace(RULES, require=Require.BOUNDED)) as recording:
        recording.recorder.add_block(recording.block())
        recording.recorder.add_block(replace(recording.block(), status=((1, 1, int(StatusCode.BAD_ADDRESS)),)))
        recording.recorder.commit()

    [data] = [contents for contents in machine.contents() if isinstance(contents, Data)]
    uncertain = int(StatusCode.UNCERTAIN)
    assert [block.status for block in data.blocks()] == [
        ((0, TAGS, uncertain),),
        ((0, 1, uncertain), (1, 1, int(StatusCode.BAD_ADDRESS)), (2, 2, uncertain)),
    ]


async def test_blocks_that_no_record_can_hold_go_in_several(machine: Machine) -> None:
    random = np.random.default_rng(1)
    async with machine.recording(rules=replace(RULES, commit_window_ns=HOUR_NS)) as recording:
        for _ in range(6):
            noise = random.integers(0, 2**32, 6000, np.uint32)
            recording.recorder.add_block(SampleBlock(0, recording.clock.boot_ns(), recording.clock.boot_ns(), (noise,)))
        recording.recorder.commit()

    records = [each for each in scans(machine) if each]
    assert sum(map(len, records)) == 6
    assert max(map(len, records)) <= 2


async def test_the_records_of_a_commit_are_synced_once(machine: Machine) -> None:
    random = np.random.default_rng(1)
    async with machine.recording(rules=replace(RULES, commit_window_ns=HOUR_NS)) as recording:
        await recording.settle()
        commits, records = recording.recorder.counts.commits, recording.recorder.counts.records
        for _ in range(5):
            noise = random.integers(0, 2**32, 6000, np.uint32)
            recording.recorder.add_block(SampleBlock(0, recording.clock.boot_ns(), recording.clock.boot_ns(), (noise,)))
        recording.recorder.commit()
        await recording.settle()

        counts = recording.recorder.counts
        assert (counts.records - records, counts.commits - commits) == (3, 1)

    assert [len(record) for record in scans(machine)] == [2, 2, 1]


async def test_a_commit_waits_for_the_scan_that_is_under_way(machine: Machine) -> None:
    """The window ends first: what is answered until the commit ends is in the same record."""
    async with machine.recording(rules=replace(RULES, commit_window_ns=1)) as recording:
        await recording.settle()
        for device in ("mixer", "pump"):
            recording.recorder.begin_scan(device)
        recording.recorder.add_block(recording.block(1, group=2))
        recording.recorder.end_scan("mixer")
        await recording.settle()
        recording.recorder.add_block(recording.block(2, group=2))
        recording.recorder.end_scan("pump")
        await committed(recording)

    assert scans(machine) == [[1, 2]]


async def test_idle_time_has_heartbeats_and_checkpoints_and_the_key_is_rolled_in_time(machine: Machine) -> None:
    machine.chain_rules = replace(machine.chain_rules, key_period_ns=100 * SECOND_NS)
    async with machine.recording() as recording:
        for _ in range(119):
            machine.clock.advance_ns(SECOND_NS)
            await recording.recorder.tick()

    contents = machine.contents()
    beats = [data for data in contents if isinstance(data, Data)]
    assert len(beats) >= 9
    assert not any(data.wire_blocks for data in beats)
    assert sum(isinstance(each, KeyChange) for each in contents) == 1
    assert machine.types().count("CHECKPOINT") == 1


async def test_a_checkpoint_says_when_it_was_sealed(machine: Machine) -> None:
    async with machine.recording() as recording:
        machine.clock.advance_ns(HOUR_NS)
        await recording.recorder.checkpoint()
        await recording.recorder.close()

    frames = [parse(data) for data in machine.stored()]
    payloads = [decode_frame(frame) for frame in frames]
    assert [each.time.as_of_ns for each in payloads[-3:]] == [machine.clock.boot_ns()] * 3  # type: ignore[union-attr]


async def test_a_full_buffer_that_must_stop_refuses_and_declares_what_it_refused(machine: Machine) -> None:
    random = np.random.default_rng(1)
    async with machine.recording(replace(LIMITS, limit_bytes=5 << 16, when_full="stop")) as recording:
        while not recording.recorder.is_refusing:
            noise = random.integers(0, 2**32, 3000, np.uint32)
            recording.recorder.add_block(replace(recording.block(), vectors=(noise,)), urgent=True)
            await recording.settle()
        recording.recorder.add_block(recording.block())
        await recording.recorder.tick()
        was_refusing, before = recording.recorder.is_refusing, machine.stored()

        deliver(machine, last=recording.store.durable_end - 2)
        await recording.loss_declarer.trim()
        await recording.recorder.tick()
        recording.recorder.add_block(recording.block(7))
        recording.recorder.commit()

    judged = machine.judged(before)
    held = {each.seq for each in judged}
    [loss] = [each.content for each in judged if isinstance(each.content, Loss)]
    [gap] = [each.content for each in judged if isinstance(each.content, Gap)]
    assert was_refusing
    assert not recording.recorder.is_refusing
    assert recording.recorder.counts.refused_scans == 2  # One was sealed already.
    assert set(range(max(held))) - held == set(range(loss.first, loss.last + 1))
    assert (gap.group, gap.status) == (None, StatusCode.BAD_RESOURCE_UNAVAILABLE)


def deliver(machine: Machine, *, last: int) -> None:
    """Save in the cursor that the broker acknowledged everything up to `last`."""
    cursor = Cursor(machine.disk)
    cursor.add(0, last)
    cursor.save()


async def test_a_close_waits_until_checkpoint_and_stop_are_durable(machine: Machine) -> None:
    async with machine.recording(rules=replace(RULES, commit_window_ns=HOUR_NS)) as recording:
        recording.recorder.add_block(recording.block(5))
        await recording.recorder.close()
        durable = len(machine.stored())

    assert machine.types()[-3:] == ["DATA", "CHECKPOINT", "STOP"]
    assert durable == len(machine.stored())


@pytest.mark.parametrize("rules", [RULES, RecorderSettings(commit_window_ns=0, require=Require.ANY)])
async def test_nothing_handed_in_waits_for_the_disk(machine: Machine, rules: RecorderSettings) -> None:
    """While the disk hangs, readings and events are still taken; they are durable once it works."""
    async with machine.recording(rules=rules) as recording:
        release = asyncio.Event()
        await stuck(recording.writer, release)
        for value in range(50):
            recording.recorder.add_block(recording.block(value))
            recording.recorder.record_event(0, "scan", 0, "mixer", {})
        recording.recorder.commit()
        release.set()

    assert [value for record in scans(machine) for value in record] == list(range(50))


async def stuck(writer: BufferWriter, release: asyncio.Event) -> None:
    """The writer's thread waits until it is released."""
    loop = asyncio.get_running_loop()
    is_stuck = asyncio.Event()

    def wait(_: object) -> None:
        loop.call_soon_threadsafe(is_stuck.set)
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result()

    writer.run(wait)
    await is_stuck.wait()


async def test_a_checkpoint_says_what_the_buffer_holds_in_records(machine: Machine) -> None:
    async with machine.recording() as recording:
        for value in range(3):
            recording.recorder.add_block(recording.block(value), urgent=True)
        await recording.settle()
        usage = await recording.writer.run(lambda store: store.usage())
        cursor = Cursor(machine.disk)
        cursor.add(usage.oldest, usage.oldest + 1)
        cursor.save()
        await recording.recorder.tick()
        await recording.recorder.checkpoint()

    contents = [each.buffer for each in machine.contents() if isinstance(each, Checkpoint)]
    assert contents[0].undelivered == usage.durable_end - usage.oldest - 2
    assert (contents[0].oldest, contents[0].size_bytes) == (0, usage.used_bytes)


async def test_a_write_that_fails_ends_the_recorder_at_once(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a bug and not a disk error: readings that cannot be stored must not be acquired."""
    monkeypatch.setattr("edge.recorder.recorder.TICK_S", 3600.0)

    def broken(*_: object) -> bool:
        raise TypeError("broken")

    async def run() -> None:
        async with machine.recording() as recording:
            await recording.settle()
            running = asyncio.create_task(recording.recorder.run())
            monkeypatch.setattr(recording.store, "commit", broken)
            recording.recorder.record_event(0, "device.up", 0, "mixer", {})
            with pytest.raises(TypeError, match="broken"):
                await running
            with pytest.raises(TypeError, match="broken"):
                recording.recorder.record_event(0, "device.up", 0, "mixer", {})
            with pytest.raises(TypeError, match="broken"):
                await recording.recorder.checkpoint()

    with pytest.raises(TypeError, match="broken"):
        await run()


async def test_a_stop_says_when_polling_ended_and_not_when_all_was_stored(machine: Machine) -> None:
    """The GAP of the next start begins there: what a device answers to a last request lies in it."""
    async with machine.recording() as recording:
        stopped_at_ns = machine.clock.boot_ns()
        machine.clock.advance_ns(SECOND_NS)
        await recording.recorder.close(stopped_at_ns)

    [stop] = [each for each in machine.contents() if isinstance(each, Stop)]
    assert stop.time.as_of_ns == stopped_at_ns
