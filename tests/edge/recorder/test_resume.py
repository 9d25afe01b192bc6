"""A chain is extended if its end is ours, and otherwise left as it is: the new one says why."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from edge.buffer import Store
from edge.buffer.frame import HEADER, decode, encode
from edge.buffer.segment import list_segments
from edge.clock import Timekeeper
from edge.errors import ChainBroken
from edge.recorder import ResumeResult
from edge.recorder.resume import checked_head
from edge.seal import (
    Checkpoint,
    Epoch,
    EpochReason,
    IdentityKey,
    MemoryCounter,
    RecordType,
    decode_frame,
    issuer_of,
    parse,
)
from edge.seal.keys import SigningKey
from edge.testing.disk import SimulatedDisk
from edge.verify import Verdict
from tests.edge.recorder.conftest import ISSUER, LIMITS, Machine
from tests.support.chains import grow, start
from tests.support.later_gateway import LaterChain, grow_later, start_later

SECOND_NS = 10**9
UNSIGNED = "is not signed by this gateway's identity or its session key"


def opened(machine: Machine, *, issuer: str = ISSUER) -> ResumeResult:
    """Resume the chain as the next start does."""
    timekeeper = Timekeeper(machine.clock, [], bytes(16), on_step=lambda _: None, on_event=lambda *_: None)
    with closing(Store(machine.disk, LIMITS, machine.clock.boot_ns)) as store:
        return machine.open(store, timekeeper, issuer=issuer)


def first_of(resumed: ResumeResult) -> Epoch | Checkpoint:
    frame = parse(resumed.first.data)
    payload = decode_frame(frame)
    assert isinstance(payload, Epoch | Checkpoint)
    return payload


async def ran(machine: Machine, *, is_closed: bool) -> None:
    """Leave the records of an earlier run."""
    async with machine.recording() as recording:
        for value in range(5):
            recording.recorder.add_block(recording.block(value))
            recording.recorder.commit()
        machine.clock.advance_ns(SECOND_NS)
        if is_closed:
            await recording.recorder.close()


def end_of_disk(disk: SimulatedDisk) -> tuple[str, int, int, bytes]:
    """(segment, offset, seq, bytes) of the last record."""
    [segment] = list_segments(disk)
    file = disk.open(segment.name)
    image = file.read_at(0, file.size())
    at = last = 0
    while frame := decode(image, at, segment.epoch):
        at, last = frame.end, at
    frame = decode(image, last, segment.epoch)
    assert frame is not None
    return segment.name, last, frame.seq, frame.data


@pytest.mark.parametrize("is_new_identity", [True, False], ids=["made here", "made elsewhere"])
def test_an_empty_disk_begins_a_chain(machine: Machine, is_new_identity: bool) -> None:
    machine.is_new_identity = is_new_identity
    resumed = opened(machine)

    epoch = first_of(resumed)
    assert isinstance(epoch, Epoch)
    assert (epoch.reason, epoch.previous, epoch.counter) == (EpochReason.INSTALL, None, 1)
    assert resumed.stopped_at_ns is None
    assert not resumed.broken


def test_an_empty_disk_and_a_key_that_has_signed_before_is_a_chain_that_was_lost(machine: Machine) -> None:
    machine.is_new_identity = False
    machine.identity = IdentityKey(SigningKey.generate(), MemoryCounter(5))

    epoch = first_of(opened(machine))

    assert isinstance(epoch, Epoch)
    assert (epoch.reason, epoch.counter) == (EpochReason.STORE_LOST, 6)


@pytest.mark.parametrize("is_closed", [True, False], ids=["stopped", "killed"])
async def test_a_chain_is_extended_after_its_last_record(machine: Machine, is_closed: bool) -> None:
    await ran(machine, is_closed=is_closed)
    _, _, seq, data = end_of_disk(machine.disk)
    stopped_at_ns = machine.clock.utc_ns()
    machine.clock.advance_ns(SECOND_NS)

    resumed = opened(machine)

    checkpoint = first_of(resumed)
    assert isinstance(checkpoint, Checkpoint)
    assert (resumed.first.epoch, resumed.first.seq) == (parse(data).epoch, seq + 1)
    assert resumed.was_clean == is_closed
    assert resumed.stopped_at_ns == (
        stopped_at_ns if is_closed else stopped_at_ns - SECOND_NS + 1000
    )  # A scan takes 1 us.
    assert bool(resumed.unread_since_ns) != is_closed
    assert not resumed.broken


async def test_after_a_crash_each_group_is_unread_since_its_own_last_scan_on_disk(machine: Machine) -> None:
    """Not since the last record of any kind, which may have been sealed before a scan that was lost."""
    async with machine.recording() as recording:
        began_ns = machine.clock.utc_ns()
        for group in (1, 0, 1):
            machine.clock.advance_ns(SECOND_NS)
            recording.recorder.add_block(recording.block(group=group))
        recording.recorder.commit()
        machine.clock.advance_ns(SECOND_NS)
        await recording.recorder.checkpoint()
        await recording.settle()

    resumed = opened(machine)

    assert resumed.stopped_at_ns == began_ns + 4 * SECOND_NS
    assert resumed.unread_since_ns == [began_ns + 2 * SECOND_NS + 1000, began_ns + 3 * SECOND_NS + 1000, began_ns]


async def test_a_group_that_is_read_seldom_is_unread_since_a_record_of_long_ago(machine: Machine) -> None:
    async with machine.recording() as recording:
        recording.recorder.add_block(recording.block(group=2))
        recording.recorder.commit()
        for _ in range(300):
            machine.clock.advance_ns(SECOND_NS)
            recording.recorder.add_block(recording.block(group=0))
            recording.recorder.commit()
        await recording.settle()

    resumed = opened(machine)

    ago_s = [(machine.clock.utc_ns() - unread_ns) / SECOND_NS for unread_ns in resumed.unread_since_ns]
    assert ago_s[0] == -1e-6
    assert all(50 < ago < 70 for ago in ago_s[1:])


@pytest.mark.parametrize("is_closed", [True, False], ids=["stopped", "killed"])
async def test_the_chain_of_a_later_version_is_extended(
    machine: Machine, is_closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as later:
        later.setattr("edge.recorder.resume.Chain", LaterChain)
        await ran(machine, is_closed=is_closed)
    await ran(machine, is_closed=True)

    judged = machine.judged()

    assert {each.verdict for each in judged} == {Verdict.AUTHENTIC}
    assert len({each.epoch for each in judged}) == 1
    assert any(each.unknown for each in judged)


def test_the_head_of_a_chain_with_types_of_a_later_version_is_found() -> None:
    plant = grow_later(start_later(1), 60, stop=False)

    head = checked_head([each.data for each in plant.records], plant.identity.public, plant.chain.issuer)

    assert head == plant.records[-1].head


async def test_a_counter_that_was_lost_goes_on_where_the_chain_is(machine: Machine) -> None:
    await ran(machine, is_closed=True)
    machine.identity = IdentityKey(machine.identity._key, MemoryCounter())

    assert first_of(opened(machine)).counter == 3


def forge(machine: Machine) -> None:
    name, at, seq, data = end_of_disk(machine.disk)
    forged = data[:-1] + bytes([data[-1] ^ 1])
    machine.disk.overwrite(name, at, encode(parse(data).epoch, seq, forged))


def replace_by_garbage(machine: Machine) -> None:
    name, at, seq, data = end_of_disk(machine.disk)
    machine.disk.overwrite(name, at, encode(parse(data).epoch, seq, bytes(len(data))))


def change_identity(machine: Machine) -> None:
    """Another key that has signed before."""
    machine.identity = IdentityKey(SigningKey.generate(), MemoryCounter(5))


def lose_the_identity(machine: Machine) -> None:
    change_identity(machine)
    machine.is_new_identity = True  # No key was there, and one was made; the counter went on.


def renew_the_identity(machine: Machine) -> None:
    """A new key that was made elsewhere, such as a credential."""
    machine.identity = IdentityKey(SigningKey.generate(), MemoryCounter())


def lose_the_end(machine: Machine) -> None:
    name, at, _, data = end_of_disk(machine.disk)
    machine.disk.overwrite(name, at, bytes(HEADER.size + len(data)))


@pytest.mark.parametrize(
    ("harm", "words", "reason"),
    [
        (forge, UNSIGNED, EpochReason.ROLLBACK_SUSPECTED),
        (replace_by_garbage, "holds something that is no record", EpochReason.ROLLBACK_SUSPECTED),
        (
            change_identity,
            UNSIGNED,
            EpochReason.ROLLBACK_SUSPECTED,
        ),
        (lose_the_identity, UNSIGNED, EpochReason.IDENTITY_RENEWED),
        (renew_the_identity, UNSIGNED, EpochReason.IDENTITY_RENEWED),
        (lose_the_end, "records after the last one on disk are known to have existed", EpochReason.STORE_LOST),
    ],
)
async def test_an_end_that_is_not_ours_is_left_and_named_by_a_new_chain(
    machine: Machine, harm: Callable[[Machine], None], words: str, reason: EpochReason
) -> None:
    await ran(machine, is_closed=False)
    _, _, seq, data = end_of_disk(machine.disk)
    machine.is_new_identity = False
    harm(machine)

    resumed = opened(machine)

    epoch = first_of(resumed)
    assert isinstance(epoch, Epoch)
    assert words in resumed.broken
    assert epoch.reason is reason
    assert epoch.previous is not None
    assert epoch.previous.epoch == parse(data).epoch != resumed.first.epoch
    assert epoch.previous.seq == seq - (harm is lose_the_end)


async def test_the_buffer_of_another_gateway_is_not_extended(machine: Machine) -> None:
    await ran(machine, is_closed=True)

    resumed = opened(machine, issuer=issuer_of("line-5"))

    assert resumed.broken == f"the buffer holds records of {ISSUER}, not of {issuer_of('line-5')}"


def test_a_head_is_found_across_damage_and_never_past_a_lost_key() -> None:
    """Whatever is cut out after the record that the identity signed, the head is the right one or there is no head."""
    plant = grow(start(), 60, checkpoint_every=1000, roll_every=20, stop=False)
    records = [record.data for record in plant.records]
    keys = [record.seq for record in plant.records if record.type is RecordType.KEY]

    for first in range(1, len(records) - 2):
        for last in range(first, min(first + 5, len(records) - 2)):
            left = records[:first] + records[last + 1 :]
            if any(first <= key <= last for key in keys if key == max(keys)):
                with pytest.raises(ChainBroken):
                    checked_head(left, plant.identity.public, plant.chain.issuer)
            elif not any(first <= key <= last for key in keys):
                assert checked_head(left, plant.identity.public, plant.chain.issuer) == plant.chain.head


@pytest.mark.parametrize("swap", [(3, 4), (10, 30)])
def test_records_out_of_their_order_are_no_chain(swap: tuple[int, int]) -> None:
    plant = grow(start(), 40, stop=False)
    records = [record.data for record in plant.records]
    records[swap[0]], records[swap[1]] = records[swap[1]], records[swap[0]]

    with pytest.raises(ChainBroken):
        checked_head(records, plant.identity.public, plant.chain.issuer)


def test_without_a_record_of_the_identity_there_is_no_head() -> None:
    plant = grow(start(), 10, stop=False)

    with pytest.raises(ChainBroken, match="is not signed"):
        checked_head([record.data for record in plant.records[1:]], plant.identity.public, plant.chain.issuer)
    with pytest.raises(ChainBroken, match="no record signed by the identity key"):
        checked_head([], plant.identity.public, plant.chain.issuer)
