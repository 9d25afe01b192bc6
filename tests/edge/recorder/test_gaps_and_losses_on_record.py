"""Every gap and every loss is on record, whatever the last records before it are."""

from __future__ import annotations

import errno

import pytest

from edge.buffer import Damage, Store
from edge.buffer.segment import Segment
from edge.errors import BufferFull
from edge.seal import Loss, RecordType, parse
from tests.edge.recorder.conftest import Machine, Recording
from tests.edge.recorder.test_resume import opened

SECOND_NS = 10**9


def silent_groups(recording: Recording) -> None:
    for group in range(5):
        recording.recorder.record_gap(group, recording.clock.boot_ns(), None, 0x80310000, "no answer")


@pytest.mark.parametrize(
    "last", [silent_groups, lambda recording: recording.recorder.repeat_catalogue()], ids=["GAP", "CATALOG"]
)
async def test_a_power_cut_after_records_that_state_no_time_leaves_a_gap_all_the_same(machine: Machine, last) -> None:  # type: ignore[no-untyped-def]
    async with machine.recording() as recording:
        recording.recorder.add_block(recording.block())
        recording.recorder.commit()
        alive_ns = machine.clock.utc_ns()
        await recording.settle()
        for _ in range(3):
            last(recording)
        await recording.settle()
    machine.clock.advance_ns(100 * SECOND_NS)

    stopped_at_ns = opened(machine).stopped_at_ns

    assert stopped_at_ns is not None
    assert alive_ns <= stopped_at_ns <= alive_ns + SECOND_NS


async def test_records_that_were_refused_before_a_crash_are_declared_by_the_next_run(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Store.append

    def full_for_data(store: Store, records, *, urgent: bool = False) -> int:  # type: ignore[no-untyped-def]
        if records[0].type is RecordType.DATA:
            raise BufferFull("no machine")
        return append(store, records, urgent=urgent)

    async with machine.recording() as recording:
        await recording.settle()
        monkeypatch.setattr(Store, "append", full_for_data)
        for _ in range(3):
            recording.recorder.add_block(recording.block())
            recording.recorder.commit()
        lost = recording.recorder.chain.head.seq
        recording.recorder.record_event(0, "device.down", 1, "mixer", {})
        await recording.settle()
        monkeypatch.undo()
    seqs = {parse(data).seq for data in machine.stored()}
    assert lost not in seqs

    resumed = opened(machine)

    assert [seq for first, last in resumed.never_stored for seq in range(first, last + 1)] == sorted(
        set(range(max(seqs))) - seqs
    )


async def test_damage_whose_loss_was_refused_is_declared_later(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, refused = Store.append, []

    def full_once(store: Store, records, *, urgent: bool = False) -> int:  # type: ignore[no-untyped-def]
        if records[0].type is RecordType.LOSS and not refused:
            refused.append(records)
            raise BufferFull("no machine")
        return append(store, records, urgent=urgent)

    monkeypatch.setattr(Store, "append", full_once)
    async with machine.recording() as recording:
        epoch = recording.recorder.chain.head.epoch
        await recording.loss_declarer.declare([Damage(Segment(0, epoch, 0), 0, 0)])
        assert refused
        await recording.recorder.tick()
        await recording.loss_declarer.declare([])
        await recording.settle()

    assert 0 in [said.first for said in (each.content for each in machine.judged()) if isinstance(said, Loss)]


async def test_a_segment_that_cannot_be_read_is_dropped_and_declared_all_the_same(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object) -> None:
        raise OSError(errno.EIO, "dead sectors")

    async with machine.recording() as recording:
        oldest = recording.store.usage().oldest
        monkeypatch.setattr(Store, "records_to_drop", unreadable)
        for value in range(4_000):
            recording.recorder.record_event(0, "device.up", 0, f"device-{value}", {"vendor": "x" * 80})
            if value % 50 == 0:
                await recording.loss_declarer.trim()
        await recording.recorder.close()

        assert recording.store.usage().oldest > oldest
        assert recording.loss_declarer.dropped_records > 0
