"""Every stretch without readings is on record, whatever the last records before it happened to be."""

from __future__ import annotations

import errno

import pytest

from edge.buffer import Damage, Store
from edge.buffer.segment import Segment
from edge.errors import BufferFull
from edge.seal import Loss, RecordType, parse
from tests.edge.recorder.conftest import Desk, Room
from tests.edge.recorder.test_resume import opened

SECOND_NS = 10**9


def silent_groups(desk: Desk) -> None:
    for group in range(5):
        desk.ledger.record_gap(group, desk.clock.boot_ns(), None, 0x80310000, "no answer")


@pytest.mark.parametrize("last", [silent_groups, lambda desk: desk.ledger.repeat_catalogue()], ids=["GAP", "CATALOG"])
async def test_a_power_cut_after_records_that_state_no_time_leaves_a_gap_all_the_same(room: Room, last) -> None:  # type: ignore[no-untyped-def]
    async with room.desk() as desk:
        desk.ledger.add_block(desk.block())
        desk.ledger.commit()
        alive_ns = room.clock.utc_ns()
        await desk.settle()
        for _ in range(3):
            last(desk)
        await desk.settle()
    room.clock.advance_ns(100 * SECOND_NS)

    stopped_at_ns = opened(room).stopped_at_ns

    assert stopped_at_ns is not None
    assert alive_ns <= stopped_at_ns <= alive_ns + SECOND_NS


async def test_records_that_were_refused_before_a_crash_are_declared_by_the_next_run(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Store.append

    def full_for_data(store: Store, records, *, urgent: bool = False) -> int:  # type: ignore[no-untyped-def]
        if records[0].type is RecordType.DATA:
            raise BufferFull("no room")
        return append(store, records, urgent=urgent)

    async with room.desk() as desk:
        await desk.settle()
        monkeypatch.setattr(Store, "append", full_for_data)
        for _ in range(3):
            desk.ledger.add_block(desk.block())
            desk.ledger.commit()
        lost = desk.ledger.chain.head.seq
        desk.ledger.record_event("device.down", 1, "mixer", {})
        await desk.settle()
        monkeypatch.undo()
    seqs = {parse(data).seq for data in room.stored()}
    assert lost not in seqs

    opening = opened(room)

    assert [seq for first, last in opening.never_stored for seq in range(first, last + 1)] == sorted(
        set(range(max(seqs))) - seqs
    )


async def test_damage_whose_loss_was_refused_is_declared_later(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    append, refused = Store.append, []

    def full_once(store: Store, records, *, urgent: bool = False) -> int:  # type: ignore[no-untyped-def]
        if records[0].type is RecordType.LOSS and not refused:
            refused.append(records)
            raise BufferFull("no room")
        return append(store, records, urgent=urgent)

    monkeypatch.setattr(Store, "append", full_once)
    async with room.desk() as desk:
        epoch = desk.ledger.chain.head.epoch
        await desk.upkeep.declare([Damage(Segment(0, epoch, 0), 0, 0)])
        assert refused
        await desk.ledger.tick()
        await desk.upkeep.declare([])
        await desk.settle()

    assert 0 in [said.first for said in (each.content for each in room.judged()) if isinstance(said, Loss)]


async def test_a_segment_that_cannot_be_read_is_dropped_and_declared_all_the_same(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object) -> None:
        raise OSError(errno.EIO, "dead sectors")

    async with room.desk() as desk:
        oldest = desk.store.usage().oldest
        monkeypatch.setattr(Store, "records_to_drop", unreadable)
        for value in range(4_000):
            desk.ledger.record_event("device.up", 0, f"device-{value}", {"vendor": "x" * 80})
            if value % 50 == 0:
                await desk.upkeep.trim()
        await desk.ledger.close()

        assert desk.store.usage().oldest > oldest
        assert desk.upkeep.dropped_records > 0
