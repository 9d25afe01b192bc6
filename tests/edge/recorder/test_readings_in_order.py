"""T3: whatever is done to the clock, UTC of what was read contradicts its order only across a TIME record."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.seal import Data, Payload, TimeChange
from tests.edge.recorder.conftest import Machine

MS, S = 10**6, 10**9
ADVANCE = st.tuples(st.just("advance"), st.one_of(st.integers(0, 3 * MS), st.integers(0, 3600 * S)))
STEP = st.tuples(st.just("step"), st.one_of(st.integers(-3 * MS, 3 * MS), st.integers(-(10**17), 10**17)))
DOES = st.one_of(
    ADVANCE, ADVANCE, STEP, *(st.tuples(st.just(name), st.just(0)) for name in ("read", "read", "commit", "poll"))
)


def _readings(contents: list[Payload]) -> Iterator[tuple[int, int] | None]:
    """(boot time, UTC) of each reading; None where a TIME record lies."""
    for content in contents:
        if isinstance(content, TimeChange):
            yield None
        elif isinstance(content, Data):
            for block in content.blocks():
                yield block.asked_at_ns, content.utc_ns + block.asked_at_ns - content.boot_ns


@settings(deadline=None)
@given(does=st.lists(DOES, min_size=5, max_size=40))
async def test_utc_contradicts_the_order_of_readings_only_across_a_time_record(does: list[tuple[str, int]]) -> None:
    machine, true_utc_ns = Machine(), dict[int, int]()
    async with machine.recording() as recording:
        for name, amount in does:
            if name == "advance":
                machine.clock.advance_ns(amount)
            elif name == "step":
                machine.clock.step_ns(amount)
            elif name == "read":
                machine.clock.advance_ns(1)
                true_utc_ns[machine.clock.boot_ns()] = machine.clock.utc_ns()
                recording.recorder.add_block(recording.block(), urgent=False)
            elif name == "commit":
                recording.recorder.commit()
            else:
                await recording.timekeeper.poll()
        recording.recorder.commit()
        await recording.settle()

    before: tuple[int, int] | None = None
    for reading in _readings(machine.contents()):
        if reading is not None and before is not None:
            assert (reading[0] >= before[0]) == (reading[1] >= before[1])
        before = reading
    stamped = [each for each in _readings(machine.contents()) if each is not None]
    unseen = [each.corrected_boot_ns for each in machine.contents() if isinstance(each, TimeChange)]
    assert len(stamped) == len(true_utc_ns)
    for boot_ns, utc_ns in stamped:
        is_between_looks = any(span is not None and span[0] < boot_ns <= span[1] for span in unseen)
        assert is_between_looks or abs(utc_ns - true_utc_ns[boot_ns]) < MS
