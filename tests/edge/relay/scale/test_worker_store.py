"""A gateway may move from worker to worker after any record: what is stored is what one relay would store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edge.relay.scale.worker_store import WorkerStore
from edge.relay.sinks.sink import Parcel, Place
from edge.relay.waiting import ReceivedMessage
from edge.seal import Record, issuer_of
from tests.support.sinks.memory import MemorySink
from tests.support.sinks.world import ARRIVED_NS, CATALOGUE, SealedPlant

NAME = "line-4"


class Enterprise:
    """Workers that come and go, and what they store: rows of a sink, and what gateways take along."""

    def __init__(self, folder: Path, plant: SealedPlant) -> None:
        self._folder = folder
        self._trust = folder / "line-4.pub.pem"
        self._trust.write_bytes(plant.identity.public_pem(issuer_of(NAME)))
        self._rows: dict[str, bytes] = {}
        self.sink = MemorySink()

    def worker(self, name: str) -> WorkerStore:
        """Open the archive of a worker, which goes on with the gateway."""
        store = WorkerStore(self._folder / name, [self._trust], quarantine_bytes=1 << 20, waiting_bytes=1 << 20,
                            view=None)  # fmt: skip
        store.adopt(NAME, self._rows, ARRIVED_NS)
        return store

    def take(self, store: WorkerStore, record: Record) -> None:
        """One record, as far as it is durable."""
        store.take([ReceivedMessage(f"tidegate/v1/{NAME}/r/kafka", record.data, ARRIVED_NS)])
        store.sync()
        parcel, rows = store.parcel([NAME]), store.changed_rows([NAME])
        asyncio.run(self._write(parcel))
        for key, value in rows.items():
            if value is None:
                del self._rows[key]
            else:
                self._rows[key] = value

    async def _write(self, parcel: Parcel) -> None:
        async with self.sink.session() as session:
            await session.write(parcel)

    def content(self) -> dict[Place, str]:
        """What is stored, and as what it fell."""
        return asyncio.run(self.sink.content())

    @property
    def stored_bytes(self) -> int:
        """How much the gateway takes along."""
        return sum(map(len, self._rows.values()))


def in_order(plant: SealedPlant) -> Sequence[Record]:
    return plant.records


def catalogue_last(plant: SealedPlant) -> Sequence[Record]:
    catalogue = [each for each in plant.records if each.type.name == "CATALOG"]
    return [*(each for each in plant.records if each not in catalogue), *catalogue]


def epoch_last(plant: SealedPlant) -> Sequence[Record]:
    return [*plant.records[1:], plant.records[0]]


def backward(plant: SealedPlant) -> Sequence[Record]:
    return plant.records[::-1]


def key_last(plant: SealedPlant) -> Sequence[Record]:
    """A checkpoint links the records that the key is for."""
    key = plant.roll()
    plant.data()
    plant.data()
    plant.checkpoint()
    return [*(each for each in plant.records if each is not key), key]


def stolen(plant: SealedPlant) -> Sequence[Record]:
    """A stolen session key seals on; the KEY that ended it arrives late, and so does what the gateway sealed."""
    thief = plant.thief()
    before = [*plant.records]
    false = [plant.data(chain=thief), plant.data(chain=thief)]
    plant.roll()
    plant.data()
    return [*before, *false, *plant.records[len(before) :]]


def twice(plant: SealedPlant) -> Sequence[Record]:
    return [*plant.records, *plant.records]


@pytest.fixture
def plant() -> SealedPlant:
    plant = SealedPlant()
    plant.every_kind()
    plant.announce(CATALOGUE)
    plant.data()
    return plant


@pytest.mark.parametrize("order", [in_order, catalogue_last, epoch_last, backward, key_last, stolen, twice])
def test_a_move_after_any_record_changes_nothing_that_is_stored(
    tmp_path: Path, plant: SealedPlant, order: Callable[[SealedPlant], Sequence[Record]]
) -> None:
    records = order(plant)
    alone = Enterprise(tmp_path, plant)
    store = alone.worker("alone")
    for record in records:
        alone.take(store, record)
    store.close()
    expected = alone.content()
    assert {Place(NAME, each.epoch, each.seq) for each in records} == set(expected)

    for cut in range(len(records)):
        enterprise = Enterprise(tmp_path, plant)
        first = enterprise.worker(f"first-{cut}")
        for record in records[:cut]:
            enterprise.take(first, record)
        first.release(NAME)
        second = enterprise.worker(f"second-{cut}")
        for record in records[cut:]:
            enterprise.take(second, record)
        assert [each for each in second.missing() if not each.is_declared] == []
        first.close()
        second.close()

        assert enterprise.content() == expected, cut


def test_a_gateway_moves_after_each_record_and_back(tmp_path: Path, plant: SealedPlant) -> None:
    enterprise = Enterprise(tmp_path, plant)
    records = key_last(plant)
    for number, record in enumerate(records):
        store = enterprise.worker("ab"[number % 2])
        enterprise.take(store, record)
        store.close()

    places = {Place(NAME, each.epoch, each.seq) for each in records}
    assert enterprise.content() == dict.fromkeys(places, "")


def test_what_it_takes_along_does_not_grow_with_its_records(tmp_path: Path, plant: SealedPlant) -> None:
    enterprise = Enterprise(tmp_path, plant)
    store = enterprise.worker("a")
    for record in [*plant.records]:
        enterprise.take(store, record)
    sizes = []
    for _ in range(2):
        for _ in range(100):
            enterprise.take(store, plant.data())
        sizes.append(enterprise.stored_bytes)
    store.close()

    assert sizes[1] < sizes[0] + 100
