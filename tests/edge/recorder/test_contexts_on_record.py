"""Contexts in the chain: before the blocks that name them, again with the catalogue, and what waits when things end."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edge.buffer import BufferLimits
from edge.model import SampleBlock
from edge.recorder.contexts import MemberSource, Unit
from edge.seal import CataloguePart, Context, Data, EncodedCatalogue, Loss, Payload, TimeChange
from tests.edge.recorder.conftest import CATALOGUE, Machine, Recording

S = 10**9
SOURCE, OF_UNIT = 0, 1
MIXER = Unit(
    name="mixer", sources=(MemberSource("batch", "mixer", "tag-0", SOURCE, 0, {"1": "B-1", "2": "B-2"}),),
    groups=frozenset({OF_UNIT}),
)  # fmt: skip


def _add(recording: Recording, group: int, value: int = 1) -> SampleBlock:
    recording.clock.advance_ns(10**6)
    block = recording.block(value, group)
    recording.clock.advance_ns(10**6)
    recording.recorder.add_block(block)
    return block


def _named(contents: Sequence[Payload]) -> list[tuple[int, ...]]:
    return [block.context for each in contents if isinstance(each, Data) for block in each.blocks()
            if block.group == OF_UNIT]  # fmt: skip


@pytest.mark.requirement("REQ-BATCH-01")
async def test_a_context_is_sealed_before_the_blocks_that_name_it_and_again_with_each_catalogue(
    machine: Machine,
) -> None:
    async with machine.recording() as recording:
        recorder = recording.recorder
        recorder.set_units([MIXER], CATALOGUE)
        for value in (1, 1, 2, 2):
            _add(recording, SOURCE, value)
            _add(recording, OF_UNIT)
        recorder.repeat_catalogue()
        await recorder.close()
    contents = machine.contents()
    contexts = [each for each in contents if isinstance(each, Context)]
    first, second, again = contexts
    assert (first.members, second.members, again) == ({"batch": "B-1"}, {"batch": "B-2"}, second)
    assert first.sources == {"batch": ("mixer", "tag-0")}
    assert machine.judged()[contents.index(second)].seq == second.number
    assert any(isinstance(each, CataloguePart) for each in contents[contents.index(second) :])
    assert _named(contents) == [(first.number,), (first.number, second.number), (second.number,), (second.number, 0)]
    sealed_at = {number: at for at, each in reversed([*enumerate(contents)]) if isinstance(each, Context)
                 for number in [each.number]}  # fmt: skip
    for at, each in enumerate(contents):
        if isinstance(each, Data):
            assert all(sealed_at[number] < at for block in each.blocks() for number in block.context if number)


async def test_what_waits_goes_on_record_before_the_clock_steps_and_before_another_catalogue(machine: Machine) -> None:
    async with machine.recording() as recording:
        recorder = recording.recorder
        recorder.set_units([MIXER], CATALOGUE)
        _add(recording, SOURCE)
        stepped = _add(recording, OF_UNIT)
        recording.clock.step_ns(3600 * S)
        recorder.commit()
        changed = _add(recording, OF_UNIT)
        recorder.change_catalogue(EncodedCatalogue.of(CATALOGUE))
        await recorder.close()
    contents = machine.contents()
    [context] = {each.number for each in contents if isinstance(each, Context)}
    assert _named(contents) == [(context, 0), (context, 0)]
    step = next(at for at, each in enumerate(contents) if isinstance(each, TimeChange))
    asked = [block.asked_at_ns for each in contents[:step] if isinstance(each, Data) for block in each.blocks()
             if block.group == OF_UNIT]  # fmt: skip
    assert asked == [stepped.asked_at_ns]
    last = max(at for at, each in enumerate(contents) if isinstance(each, CataloguePart))
    before = [block for each in contents[:last] if isinstance(each, Data) for block in each.blocks()]
    assert before[-1].asked_at_ns == changed.asked_at_ns


async def test_what_waits_longer_than_three_intervals_is_sealed_by_the_tick(machine: Machine) -> None:
    async with machine.recording() as recording:
        recorder = recording.recorder
        recorder.set_units([MIXER], CATALOGUE)
        _add(recording, SOURCE)
        _add(recording, OF_UNIT)
        await recorder.tick()
        recorder.commit()
        await recording.settle()
        assert _named(machine.contents()) == []
        recording.clock.advance_ns(S)
        await recorder.tick()
        recorder.commit()
        await recording.settle()
        assert [each[1:] for each in _named(machine.contents())] == [(0,)]
        await recorder.close()


async def test_a_context_that_a_full_buffer_dropped_is_sealed_again_under_its_number(
    machine: Machine,
) -> None:
    limits = BufferLimits(limit_bytes=1 << 18, segment_bytes=1 << 14, reserve_bytes=1 << 13)
    async with machine.recording(limits) as recording:
        recorder = recording.recorder
        recorder.set_units([MIXER], CATALOGUE)
        _add(recording, SOURCE)
        context = recorder.contexts.status()[0]
        for number in range(300):
            recorder.record_event(recording.clock.boot_ns(), "stop", 0, f"{number}", {"text": "x" * 2000})
            await recording.settle()
            await recording.loss_declarer.trim()
        _add(recording, SOURCE)
        await recorder.close()
    judged = machine.judged()
    assert any(isinstance(each.content, Loss) for each in judged)
    again = [(each.seq, each.content) for each in judged if isinstance(each.content, Context)]
    assert again
    assert all(content.number == context.number < seq for seq, content in again)
