"""A plant whose records are of every kind, the archive of a relay that receives them, and a sink that follows it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edge.model import (
    NO_TIME,
    Catalogue,
    CatalogueGroup,
    CatalogueTag,
    DataType,
    Identity,
    SampleBlock,
    TimeKind,
)
from edge.relay.sinks.reader import Reader
from edge.relay.sinks.sink import Parcel, Place, SinkSession
from edge.relay.store import RelayStore
from edge.relay.waiting import ReceivedMessage
from edge.seal import (
    Chain,
    Context,
    EncodedCatalogue,
    Event,
    Gap,
    IdentityKey,
    KnownDevice,
    Loss,
    Record,
    RecordType,
    encode,
    encode_data,
    encode_identities,
    issuer_of,
)
from edge.seal.payloads import ConfigChange, LossReason, TimeChange
from tests.support.chains import BOOT_NS, TIME, UTC_NS, new_identity

S = 10**9
ARRIVED_NS = UTC_NS + 3600 * S

TAGS = (
    CatalogueTag(name="temperature", data_type=DataType.FLOAT32, address="holding 1", unit="Cel"),
    CatalogueTag(name="speed", data_type=DataType.UINT16, address="holding 3", unit="/min", scale=0.1),
    CatalogueTag(name="total", data_type=DataType.UINT64, address="holding 4"),
    CatalogueTag(name="mass", data_type=DataType.FLOAT64, address="holding 8", unit="kg"),
    CatalogueTag(name="batch", data_type=DataType.TEXT, address="holding 20"),
    CatalogueTag(name="state", data_type=DataType.INT16, address="holding 30", texts=((0, "stopped"), (1, "running"))),
    CatalogueTag(name="running", data_type=DataType.BOOL, address="coil 1"),
    CatalogueTag(name="begun", data_type=DataType.INT64, address="holding 40", time_kind=TimeKind.UTC),
    CatalogueTag(name="power", data_type=DataType.INT16, address="holding 50", unit="W", scale_tag="power_exponent"),
    CatalogueTag(name="power_exponent", data_type=DataType.INT16, address="holding 51"),
)  # fmt: skip
GROUP = CatalogueGroup(device="mixer", name="1s", interval_ns=S, tags=TAGS)
CATALOGUE = Catalogue(path="acme/basel/line-4", groups=(GROUP,))
LARGEST = 2**64 - 1


def values(number: int) -> dict[str, object]:
    """What the tags have in one scan, raw."""
    return {
        "temperature": np.float32(20 + number / 10), "speed": 1200 + number % 1000, "total": LARGEST - number,
        "mass": 0.1 + number, "batch": f"B\0{number}", "state": number % 2, "running": number % 2 == 1,
        "begun": UTC_NS + number, "power": number % 1000, "power_exponent": 3,
    }  # fmt: skip


def vectors_of(held: dict[str, object], only: Sequence[str] | None = None) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The vectors of a block of these tags, in the order of the layout, and the positions of the tags in them."""
    layout, found, positions = GROUP.layout, [], []
    for data_type, members in zip(layout.vector_types, layout.members, strict=True):
        names = [TAGS[tag].name for tag in members]
        where = [at for at, name in enumerate(names) if only is None or name in only]
        chosen = np.empty(len(where), data_type.numpy)
        chosen[:] = [held[names[at]] for at in where]
        found.append(chosen)
        positions.append(np.array(where, np.uint16))
    return found, positions


def scan(number: int) -> SampleBlock:
    """A complete scan."""
    found, _ = vectors_of(values(number))
    at_ns = BOOT_NS + number * S
    return SampleBlock(0, at_ns, at_ns + 1_000_000, tuple(found))


def changes(number: int, only: Sequence[str], status: tuple[tuple[int, int, int], ...] = ()) -> SampleBlock:
    """A scan of which only some tags are reported."""
    found, positions = vectors_of(values(number), only)
    at_ns = BOOT_NS + number * S
    return SampleBlock(0, at_ns, at_ns + 1_000_000, tuple(found), tuple(positions), status)


def notification(number: int) -> SampleBlock:
    """Two values of the temperature, the second of which is not certain, with the device's time of one."""
    layout = GROUP.layout
    at = layout.vector_types.index(DataType.FLOAT32)
    found = [np.empty(0, each.numpy) for each in layout.vector_types]
    positions = [np.empty(0, np.uint16) for _ in found]
    times = [np.empty(0, np.int64) for _ in found]
    found[at] = np.array([1.5, np.nan], np.float32)
    positions[at], times[at] = np.zeros(2, np.uint16), np.array([UTC_NS + 7, NO_TIME])
    at_ns = BOOT_NS + number * S
    return SampleBlock(0, at_ns, at_ns, tuple(found), tuple(positions), ((1, 1, 0x40000000),), tuple(times),
                       is_notification=True)  # fmt: skip


@dataclass
class SealedPlant:
    """A gateway without devices."""

    name: str = "line-4"
    identity: IdentityKey = field(default_factory=new_identity)
    records: list[Record] = field(default_factory=list)
    numbers: int = 0

    def __post_init__(self) -> None:
        self.chain, epoch = Chain.start(self.identity, issuer=issuer_of(self.name), time=TIME, now_boot_ns=BOOT_NS)
        self.records.append(epoch)
        self.encoded = EncodedCatalogue.of(CATALOGUE)

    def announce(self, catalogue: Catalogue = CATALOGUE) -> list[Record]:
        """The records of a catalogue, which those after it refer to."""
        self.encoded = EncodedCatalogue.of(catalogue)
        return [self.seal(RecordType.CATALOG, payload) for payload in self.encoded.payloads]

    def seal(self, kind: RecordType, payload: bytes) -> Record:
        """A record of any kind."""
        record = self.chain.seal(kind, payload)
        self.records.append(record)
        return record

    def data(self, *blocks: SampleBlock, chain: Chain | None = None) -> Record:
        """A record of sample blocks, by default of the next complete scan."""
        if not blocks:
            self.numbers += 1
            blocks = (scan(self.numbers),)
        payload = encode_data(
            utc_ns=UTC_NS + blocks[0].sampled_at_ns - BOOT_NS, boot_ns=blocks[0].sampled_at_ns, time=TIME,
            catalogue=self.encoded.digest, blocks=blocks,
        )  # fmt: skip
        if chain is not None:
            return chain.seal(RecordType.DATA, payload)
        return self.seal(RecordType.DATA, payload)

    def every_kind(self) -> None:
        """One record of each kind."""
        self.announce()
        self.data()
        self.data(changes(2, ["temperature", "total", "batch"]), notification(3))
        self.seal(RecordType.EVENT, encode(Event(at_ns=UTC_NS, kind="device.up", subject="mi\0xer",
                                                 data={"n": 1, "of": "a\0b", "raw": b"\x01"})))  # fmt: skip
        self.seal(RecordType.GAP, encode(Gap(group=0, from_ns=UTC_NS, to_ns=None, status=0x80310000)))
        self.seal(RecordType.LOSS, encode(Loss(first=0, last=0, from_ns=None, to_ns=None, records=1, readings=None,
                                               reason=LossReason.CORRUPT)))  # fmt: skip
        self.seal(RecordType.CONFIG, encode(ConfigChange(at_ns=UTC_NS, account="anna", why="trial", old_hash=b"",
                                                         new_hash=b"n" * 32, changes=(("a", "1", "2"),))))  # fmt: skip
        self.context(batch="B\0-17", phase="heat", operation=None, lot="")
        known = KnownDevice("mixer", Identity(vendor="acme", serial="7"), UTC_NS)
        for payload in encode_identities(self.encoded.digest, CATALOGUE.path, [known]):
            self.seal(RecordType.CATALOG, payload)
        self.roll()
        self.checkpoint()

    def context(self, number: int = 0, *, at_s: int = 0, chain: Chain | None = None, **members: str | None) -> Record:
        """What the reactor does from a second of the world on; by default under a number of its own."""
        payload = encode(Context(
            number=number or self.records[-1].seq + 1, unit="reactor-1", members=members, from_ns=UTC_NS + at_s * S,
            to_ns=UTC_NS + at_s * S + 7, sources=dict.fromkeys(members, ("mixer", "batch")),
        ))  # fmt: skip
        return self.seal(RecordType.CONTEXT, payload) if chain is None else chain.seal(RecordType.CONTEXT, payload)

    def correct(self, first_s: int, last_s: int, by_ns: int) -> Record:
        """What the gateway learned of its clock in these seconds of the world."""
        return self.seal(RecordType.TIME, encode(TimeChange(
            before=TIME, after=replace(TIME, offset_ns=TIME.offset_ns + by_ns),
            corrected_boot_ns=(BOOT_NS + first_s * S, BOOT_NS + last_s * S), correction_ns=by_ns, bound_after_ns=7000,
        )))  # fmt: skip

    def roll(self) -> Record:
        """The next session key."""
        self.records.append(self.chain.roll(TIME, BOOT_NS))
        self.chain.roll_is_durable()
        return self.records[-1]

    def checkpoint(self) -> Record:
        """A checkpoint."""
        self.records.append(self.chain.checkpoint(TIME))
        return self.records[-1]

    def thief(self) -> Chain:
        """Who goes on from here with the session key that is in force."""
        return copy.copy(self.chain)

    def place(self, record: Record) -> Place:
        """The key of a record."""
        return Place(self.name, record.epoch, record.seq)


@dataclass
class Site:
    """The archive of a relay, without its network."""

    folder: Path
    plants: Sequence[SealedPlant]

    def __post_init__(self) -> None:
        self.trust = []
        for plant in self.plants:
            path = self.folder / f"{plant.name}.pub.pem"
            path.write_bytes(plant.identity.public_pem(issuer_of(plant.name)))
            self.trust.append(path)
        self.archive = self.folder / "archive"
        self.store = self._open()

    def _open(self) -> RelayStore:
        return RelayStore(self.archive, self.trust, quarantine_bytes=1 << 20, waiting_bytes=1 << 20, view=None)

    async def receive(self, records: Iterable[Record], name: str = "line-4", arrived_ns: int = ARRIVED_NS) -> None:
        """What comes from the broker, durable."""
        messages = [ReceivedMessage(f"tidegate/v1/{name}/r/data", record.data, arrived_ns) for record in records]
        await asyncio.to_thread(self.store.take, messages)
        await asyncio.to_thread(self.store.sync)

    async def restart(self, *, is_crash: bool = False) -> None:
        """Begin again, with what is on disk."""
        await asyncio.to_thread(self.store._archive.close if is_crash else self.store.close)
        self.store = await asyncio.to_thread(self._open)

    async def parcels(self, mark: str) -> AsyncIterator[Parcel]:
        """What a sink is given that has this mark, as its feed does it."""
        reader = await asyncio.to_thread(Reader, self.archive, mark)
        while found := await asyncio.to_thread(reader.read, self.store.durable_ends()):
            yield await asyncio.to_thread(reader.parcel, found, self.store.standing([each.place for each in found]))

    async def feed(self, session: SinkSession) -> int:
        """Write all that follows the mark of a session; returns how many records were refused."""
        return sum([await session.write(parcel) async for parcel in self.parcels(session.mark)])
