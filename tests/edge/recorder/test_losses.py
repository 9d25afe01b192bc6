"""Records are dropped only after a durable LOSS, and the declarations outlive the records."""

from __future__ import annotations

import errno
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.recorder.losses import joined
from edge.seal import Data, Loss, LossReason, decode_frame, parse
from edge.verify import Verdict
from tests.edge.recorder.conftest import LIMITS, RULES, Machine, Recording

SMALL = replace(LIMITS, limit_bytes=(5 << 16) + LIMITS.reserve_bytes)
READINGS = 3000


def loss(first: int, last: int, *, epoch: bytes = b"epoch--1", readings: int | None = 0) -> Loss:
    return Loss(
        first=first, last=last, from_ns=first, to_ns=last, records=last - first + 1, readings=readings,
        reason=LossReason.BUFFER_FULL, hash_of_last=bytes([last % 256]) * 32, epoch=epoch,
    )  # fmt: skip


@given(st.lists(st.booleans(), max_size=60), st.data())
def test_losses_that_follow_each_other_join_to_one_and_cover_the_same(lost: list[bool], data: st.DataObject) -> None:
    singles = [loss(seq, seq, readings=2) for seq, is_lost in enumerate(lost) if is_lost]
    repeats = data.draw(st.lists(st.sampled_from(singles), max_size=5)) if singles else []

    found = joined(data.draw(st.permutations(singles + repeats)))

    assert [seq for each in found for seq in range(each.first, each.last + 1)] == [each.first for each in singles]
    assert all(later.first > earlier.last + 1 for earlier, later in pairwise(found))
    for each in found:
        count = each.last - each.first + 1
        assert (each.records, each.readings) == (count, 2 * count)
        assert (each.from_ns, each.to_ns) == (each.first, each.last)
        assert each.hash_of_last == loss(each.last, each.last).hash_of_last


def test_losses_of_different_chains_or_reasons_stay_apart() -> None:
    one, other = loss(0, 4), loss(5, 9, epoch=b"epoch--2")
    corrupt = replace(loss(5, 9), reason=LossReason.CORRUPT)

    assert joined([one, other, corrupt]) == [one, corrupt, other]


async def overfill(recording: Recording, segments: int) -> None:
    """Fill this many segments with undelivered records."""
    random = np.random.default_rng(1)
    for _ in range(segments * 6):
        noise = random.integers(0, 2**32, READINGS, np.uint32)
        recording.recorder.add_block(replace(recording.block(), vectors=(noise,)), urgent=True)
        await recording.settle()
        await recording.loss_declarer.trim()


async def test_what_is_dropped_is_declared_exactly_and_what_is_left_can_still_be_proven(machine: Machine) -> None:
    """Drop after drop, also of the records that declared the first ones and of those that held the key."""
    async with machine.recording(SMALL) as recording:
        await overfill(recording, segments=12)
        await recording.recorder.close()

    held = {parse(data).seq for data in machine.stored()}
    losses = [each.content for each in machine.judged() if isinstance(each.content, Loss)]
    declared = {seq for each in losses for seq in range(each.first, each.last + 1)}
    assert min(held) > 20
    assert declared == set(range(max(held))) - held
    assert max(each.records for each in losses) == len(declared) == recording.loss_declarer.dropped_records
    assert {each.verdict for each in machine.judged()} <= {Verdict.AUTHENTIC, Verdict.LINKED, Verdict.UNVERIFIABLE}
    assert "CATALOG" in machine.types()


async def test_a_loss_names_the_time_of_every_reading_that_it_lost(machine: Machine) -> None:
    """Also of the last record: several scans are in it, and a slow device may have been asked long before."""
    random = np.random.default_rng(1)
    made = []
    async with machine.recording(SMALL, replace(RULES, commit_window_ns=10**9)) as recording:
        for _ in range(72):
            machine.clock.advance_ns(10**8)
            noise, now_ns = random.integers(0, 2**32, READINGS, np.uint32), machine.clock.boot_ns()
            for block in (recording.block(), replace(recording.block(), asked_at_ns=now_ns - 5 * 10**7)):
                made.append(replace(block, vectors=(noise,)))
                recording.recorder.add_block(made[-1])
                machine.clock.advance_ns(10**7)
            recording.recorder.commit()
            await recording.settle()
            await recording.loss_declarer.trim()
        await recording.recorder.close()

    contents = [decode_frame(parse(data)) for data in machine.stored()]
    held = {block.asked_at_ns for each in contents if isinstance(each, Data) for block in each.blocks()}
    losses = [each for each in contents if isinstance(each, Loss)]
    offset_ns = machine.clock.utc_ns() - machine.clock.boot_ns()
    lost = [block for block in made if block.asked_at_ns not in held]
    assert lost
    for block in lost:
        from_ns, to_ns = block.asked_at_ns + offset_ns, block.answered_at_ns + offset_ns
        assert any(each.from_ns <= from_ns and to_ns <= each.to_ns for each in losses)  # type: ignore[operator]


@pytest.mark.requirement("REQ-BUF-02")
async def test_nothing_is_dropped_while_its_declaration_cannot_be_made_durable(machine: Machine) -> None:
    async with machine.recording(SMALL) as recording:
        await overfill(recording, segments=3)
        before = machine.stored()
        machine.disk.fail("", errno.EIO)
        await overfill(recording, segments=3)
        dropped = recording.loss_declarer.dropped_records
        machine.disk.heal()

    assert dropped == 0
    assert machine.stored()[: len(before)] == before
