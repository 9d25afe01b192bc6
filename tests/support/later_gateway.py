"""A gateway of a later version: its records hold additions in every place where the format can grow."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import cbor2

from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType, Identity
from edge.seal import Chain, Encoding, Record, RecordType, encode_identities, issuer_of
from edge.seal.catalogue import EncodedCatalogue, KnownDevice
from edge.seal.chain import ChainRules
from tests.support.chains import BOOT_NS, CATALOGUE, TIME, Plant, grow, new_identity

BATCH = RecordType.of(12, "BATCH")
CALIBRATION = RecordType.of(300, "CALIBRATION_2")
LATER_TYPES = (BATCH, CALIBRATION)

Path = tuple[int, ...]
KEYS = {RecordType.EPOCH: 1, RecordType.KEY: 1, RecordType.CHECKPOINT: 3}
WORDS: dict[RecordType, Sequence[Path]] = {
    RecordType.EPOCH: [(3,), (10, 1), (10, 2)],
    RecordType.EVENT: [(3,)],
    RecordType.STOP: [(1,), (2, 2)],
    RecordType.DATA: [(3, 1), (3, 2)],
}


class LaterChain(Chain):
    """Seals what a gateway of today would, with additions drawn by `dice`; `spoil` breaks some of them."""

    dice = random.Random(0)
    spoil: Callable[[random.Random], object] | None = None

    def seal(self, kind: RecordType, payload: bytes) -> Record:
        """Sign a payload with additions into the next record."""
        value = cbor2.loads(payload)
        self._add_members(kind, value, depth=1, is_top=True)
        for path in WORDS.get(kind, ()):
            if self.dice.random() < 0.1:
                _at(value, path[:-1])[path[-1]] = self.dice.choice([11, 200, 2**40])
        if kind is RecordType.DATA and self.dice.random() < 0.3:
            value[5].insert(self.dice.randint(0, len(value[5])), [self.dice.choice([3, 99]), 1, {"a": [None]}])
        return super().seal(kind, cbor2.dumps(value, canonical=True))

    def _add_members(self, kind: RecordType, value: Any, depth: int, *, is_top: bool = False) -> None:
        """Add to this map or fixed array, and to those in it that can grow."""
        if isinstance(value, dict) and 1 in value:
            for key, item in list(value.items()):
                if not (is_top and KEYS.get(kind) == key) and not (kind is RecordType.EVENT and key == 5):
                    self._add_members(kind, item, depth + 1)
            if self.dice.random() < 0.3:
                value[self.dice.randint(20, 2**64 - 1)] = self._addition(depth)
        elif isinstance(value, list) and kind is RecordType.DATA and depth == 2:
            for block in value:
                if self.dice.random() < 0.3:
                    block += [None] * (8 - len(block)) + [self._addition(3)]

    def _addition(self, depth: int) -> object:
        if self.spoil is not None and self.dice.random() < 0.3:
            return self.spoil(self.dice)
        choices: list[object] = [None, True, 7, -1, 2**63, 1.5, "later", b"\0", cbor2.CBORTag(85, bytes(8))]
        if depth < 4:
            choices += [[1, [2]], {1: 2, 30: "x"}, {"a": 1, "bb": [None]}]
        return self.dice.choice(choices)


def start_later(seed: int, name: str = "line-4") -> Plant:
    """A chain of a later gateway that has just begun."""
    LaterChain.dice = random.Random(seed)
    identity = new_identity()
    rules = ChainRules(encoding=random.Random(seed).choice(list(Encoding)))
    chain, epoch = LaterChain.start(identity, issuer=issuer_of(name), time=TIME, now_boot_ns=BOOT_NS, rules=rules)
    return Plant(identity, chain, [epoch])


def grow_later(plant: Plant, count: int, *, stop: bool = True) -> Plant:
    """Append records of today's types with additions, and of types that are not known today."""
    chain, records = plant.chain, plant.records
    tags = tuple(CatalogueTag(name=f"t{number}", data_type=DataType.FLOAT32, address="1") for number in range(4))
    groups = (CatalogueGroup(device="d", name="g", interval_ns=10**8, tags=tags),)
    catalogue = EncodedCatalogue.of(Catalogue(path="p", groups=groups))
    records += [chain.seal(RecordType.CATALOG, each) for each in catalogue.payloads]
    devices = [KnownDevice("d", Identity(vendor="v"), 5)]
    records += [chain.seal(RecordType.CATALOG, each) for each in encode_identities(CATALOGUE, "p", devices)]
    while len(records) < count:
        for kind in LATER_TYPES:
            content = {1: len(records), 2: "started", 3: {"lot": ["4711"]}}
            records.append(chain.seal(kind, cbor2.dumps(content, canonical=True)))
        grow(plant, 9, checkpoint_every=5, roll_every=8, stop=False)
    if stop:
        records += chain.stop(TIME)
    return plant


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value
