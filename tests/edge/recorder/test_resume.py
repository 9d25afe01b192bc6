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
from tests.edge.recorder.conftest import ISSUER, LIMITS, Room
from tests.support.chains import grow, start

SECOND_NS = 10**9
UNSIGNED = "is not signed by this gateway's identity or its session key"


def opened(room: Room, *, issuer: str = ISSUER) -> ResumeResult:
    """What the next start finds."""
    timekeeper = Timekeeper(room.clock, [], bytes(16), on_step=lambda _: None, on_event=lambda *_: None)
    with closing(Store(room.disk, LIMITS, room.clock.boot_ns)) as store:
        return room.open(store, timekeeper, issuer=issuer)


def first_of(opening: ResumeResult) -> Epoch | Checkpoint:
    frame = parse(opening.first.data)
    payload = decode_frame(frame)
    assert isinstance(payload, Epoch | Checkpoint)
    return payload


async def ran(room: Room, *, is_closed: bool) -> None:
    """A gateway was here."""
    async with room.desk() as desk:
        for value in range(5):
            desk.ledger.add_block(desk.block(value))
            desk.ledger.commit()
        room.clock.advance_ns(SECOND_NS)
        if is_closed:
            await desk.ledger.close()


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


def test_an_empty_disk_begins_a_chain(room: Room) -> None:
    opening = opened(room)

    epoch = first_of(opening)
    assert isinstance(epoch, Epoch)
    assert (epoch.reason, epoch.previous, epoch.counter) == (EpochReason.INSTALL, None, 1)
    assert opening.stopped_at_ns is None
    assert not opening.broken


@pytest.mark.parametrize("is_closed", [True, False], ids=["stopped", "killed"])
async def test_a_chain_is_extended_after_its_last_record(room: Room, is_closed: bool) -> None:
    await ran(room, is_closed=is_closed)
    _, _, seq, data = end_of_disk(room.disk)
    stopped_at_ns = room.clock.utc_ns()
    room.clock.advance_ns(SECOND_NS)

    opening = opened(room)

    checkpoint = first_of(opening)
    assert isinstance(checkpoint, Checkpoint)
    assert (opening.first.epoch, opening.first.seq) == (parse(data).epoch, seq + 1)
    assert opening.was_clean == is_closed
    assert opening.stopped_at_ns == (
        stopped_at_ns if is_closed else stopped_at_ns - SECOND_NS + 1000
    )  # A scan takes 1 us.
    assert not opening.broken


async def test_a_counter_that_was_lost_goes_on_where_the_chain_is(room: Room) -> None:
    await ran(room, is_closed=True)
    room.identity = IdentityKey(room.identity._key, MemoryCounter())

    assert first_of(opened(room)).counter == 3


def forge(room: Room) -> None:
    name, at, seq, data = end_of_disk(room.disk)
    forged = data[:-1] + bytes([data[-1] ^ 1])
    room.disk.overwrite(name, at, encode(parse(data).epoch, seq, forged))


def replace_by_garbage(room: Room) -> None:
    name, at, seq, data = end_of_disk(room.disk)
    room.disk.overwrite(name, at, encode(parse(data).epoch, seq, bytes(len(data))))


def change_identity(room: Room) -> None:
    room.identity = IdentityKey(SigningKey.generate(), MemoryCounter())


def lose_the_end(room: Room) -> None:
    name, at, _, data = end_of_disk(room.disk)
    room.disk.overwrite(name, at, bytes(HEADER.size + len(data)))


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
        (lose_the_end, "records after the last one on disk are known to have existed", EpochReason.STORE_LOST),
    ],
)
async def test_an_end_that_is_not_ours_is_left_and_named_by_a_new_chain(
    room: Room, harm: Callable[[Room], None], words: str, reason: EpochReason
) -> None:
    await ran(room, is_closed=False)
    _, _, seq, data = end_of_disk(room.disk)
    harm(room)

    opening = opened(room)

    epoch = first_of(opening)
    assert isinstance(epoch, Epoch)
    assert words in opening.broken
    assert epoch.reason is reason
    assert epoch.previous is not None
    assert epoch.previous.epoch == parse(data).epoch != opening.first.epoch
    assert epoch.previous.seq == seq - (harm is lose_the_end)


async def test_the_buffer_of_another_gateway_is_not_extended(room: Room) -> None:
    await ran(room, is_closed=True)

    opening = opened(room, issuer=issuer_of("line-5"))

    assert opening.broken == f"the buffer holds records of {ISSUER}, not of {issuer_of('line-5')}"


def test_a_head_is_found_across_damage_and_never_past_a_lost_key() -> None:
    """Whatever is cut out after the record that the identity signed: the head is the true one, or there is none."""
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
