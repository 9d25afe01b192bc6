"""A buffer that refuses records for a while: losses are declared, later records are authentic, no value is stale."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from edge.buffer import BufferLimits, BufferWriter, Reader, Store
from edge.clock.timekeeper import Require, Timekeeper
from edge.errors import BufferFull
from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType, SampleBlock
from edge.recorder import Recorder, RecorderSettings
from edge.seal import Chain, ChainRules, Data, Gap, IdentityKey, MemoryCounter, Record, RecordType, issuer_of
from edge.seal.keys import SigningKey
from edge.testing.clock import ManualClock
from edge.testing.disk import SimulatedDisk
from edge.verify import Trust, Verdict, Verifier
from edge.verify.verdicts import RangeVerdict

GROUP = CatalogueGroup(
    device="mixer", name="1 s", interval_ns=10**9,
    tags=(CatalogueTag(name="level", data_type=DataType.FLOAT32, address="holding 1"),),
)  # fmt: skip
CATALOGUE = Catalogue(path="acme/basel", groups=(GROUP,))
LIMITS = BufferLimits(
    limit_bytes=1 << 20, segment_bytes=1 << 18, reserve_bytes=0, memory_bytes=100_000, when_full="stop"
)

RULES = RecorderSettings(require=Require.ANY, commit_window_ns=3600 * 10**9)
KEYS = ChainRules()


class CountingCounter(MemoryCounter):
    """Remembers the count that was saved last."""

    saved = 0

    def save(self) -> None:
        self.saved = self._last


@dataclass
class Site:
    """A recorder on a disk that fails on request."""

    recorder: Recorder
    disk: SimulatedDisk
    writer: BufferWriter
    clock: ManualClock
    counter: CountingCounter
    trust: Trust
    elapsed_ns: list[int]

    def scan(self, value: float) -> SampleBlock:
        """Hand in one scan."""
        now_ns = self.clock.boot_ns()
        block = SampleBlock(0, now_ns - 2_000, now_ns, (np.array([value], np.float32),))
        self.recorder.add_block(block)
        return block

    async def settle(self) -> None:
        """Wait until everything handed in is on the disk or refused."""
        await self.writer.run(lambda _: None)
        for _ in range(5):
            await asyncio.sleep(0)

    async def tick(self) -> None:
        """Advance a second and tick."""
        self.clock.advance_ns(10**9)
        self.elapsed_ns[0] += 2 * 10**9
        await self.recorder.tick()
        await self.settle()

    def kill_disk(self) -> None:
        """Make every write fail."""
        for kind in ("write", "create", "fdatasync"):
            self.disk.fail(kind, errno.EIO)

    def fill_memory(self) -> None:
        """Seal events until the memory is full."""
        for number in range(400):
            self.recorder.record_event(0, "device.down", 1, f"device-{number}", {"reason": "x" * 900})

    def records(self) -> Iterator[bytes]:
        """Every record that can be read."""
        reader, number = Reader(self.disk, self.recorder._writer._store.pending), 0
        while some := reader.read(number, 1 << 20):
            yield from (data for _, data in some)
            number = some[-1][0] + 1
        reader.close()

    def verified(self) -> tuple[Verifier, list[tuple[RecordType | None, Verdict, object]]]:
        """A verifier with all records, and (type, verdict, content) of each."""
        verifier, seen = Verifier(self.trust), []
        for data in self.records():
            first, *_ = verifier.add(data)
            seen.append((first.type, first.verdict, first.content))
        return verifier, seen


@asynccontextmanager
async def running(rules: ChainRules = KEYS) -> AsyncIterator[Site]:
    clock, disk, counter = ManualClock(), SimulatedDisk(), CountingCounter()
    elapsed_ns = [0]
    timekeeper = Timekeeper(clock, [], bytes(16), on_step=lambda _: None, on_event=lambda *_: None)
    identity = IdentityKey(SigningKey.generate(), counter)
    issuer = issuer_of("line-4")
    chain, first = Chain.start(
        identity, issuer=issuer, time=timekeeper.quality, now_boot_ns=clock.boot_ns(), rules=rules
    )
    trust = Trust()
    trust.pin(identity.public, issuer)
    store = Store(disk, LIMITS, lambda: elapsed_ns[0])
    async with BufferWriter(store) as writer:
        recorder = Recorder(chain, writer, timekeeper, clock, CATALOGUE, RULES)
        recorder.store_first(first)
        site = Site(recorder, disk, writer, clock, counter, trust, elapsed_ns)
        await site.settle()
        yield site


async def test_the_gap_begins_with_the_first_gathered_reading_that_was_refused() -> None:
    async with running() as site:
        site.kill_disk()
        first = site.scan(1.0)
        site.clock.advance_ns(5 * 10**6)
        site.fill_memory()
        await site.settle()
        assert site.recorder.is_refusing
        site.disk.heal()
        await site.tick()

        gap = next(content for _, _, content in site.verified()[1] if isinstance(content, Gap))
        assert gap.from_ns == site.clock.utc_ns() - site.clock.boot_ns() + first.asked_at_ns
        assert site.recorder.counts.scans == 0
        assert site.recorder.counts.refused_scans == 1


async def test_the_gap_begins_with_the_first_sealed_reading_that_was_refused() -> None:
    async with running() as site:
        site.kill_disk()
        scans = 0
        while not site.recorder.is_refusing:
            last = site.scan(1.0)
            scans += 1
            site.recorder.commit()
            site.clock.advance_ns(5 * 10**6)
            await site.settle()
        site.disk.heal()
        await site.tick()

        gap = next(content for _, _, content in site.verified()[1] if isinstance(content, Gap))
        assert gap.from_ns == site.clock.utc_ns() - site.clock.boot_ns() + last.asked_at_ns
        assert site.recorder.counts.scans == scans - 1
        assert site.recorder.counts.refused_scans == 1


async def test_all_that_goes_on_after_a_full_buffer_is_authentic_and_the_rest_declared() -> None:
    async with running(rules=ChainRules(key_period_ns=1)) as site:
        site.kill_disk()
        site.fill_memory()
        await site.settle()
        for _ in range(3):
            await site.tick()  # A key change falls into the time when nothing is stored.
        site.disk.heal()
        for number in range(4):
            await site.tick()
            site.scan(number)
        await site.recorder.close()

        verifier, seen = site.verified()
        assert {verdict for _, verdict, _ in seen} == {Verdict.AUTHENTIC}
        assert {absence.verdict for absence in verifier.missing()} == {RangeVerdict.DECLARED_LOST}
        assert sum(kind is RecordType.KEY for kind, _, _ in seen) >= 2


async def test_the_session_key_still_changes_after_one_change_was_refused() -> None:
    async with running(rules=ChainRules(key_period_ns=1)) as site:
        site.kill_disk()
        site.recorder._roll(site.clock.boot_ns())
        site.fill_memory()
        site.recorder._roll(site.clock.boot_ns())
        await site.settle()

        assert site.recorder.chain.is_roll_due(site.clock.boot_ns() + 2)


async def test_a_loss_that_was_refused_itself_is_declared_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as site:
        site.kill_disk()
        site.fill_memory()
        await site.settle()
        site.disk.heal()
        append, refused = Store.append, []

        def full_for_the_first_loss(store: Store, records: list[Record], *, urgent: bool = False) -> int:
            if any(record.type is RecordType.LOSS for record in records) and not refused:
                refused.append(records)
                raise BufferFull("no machine")
            return append(store, records, urgent=urgent)

        monkeypatch.setattr(Store, "append", full_for_the_first_loss)
        for _ in range(3):
            await site.tick()
        await site.recorder.close()

        assert refused
        assert {absence.verdict for absence in site.verified()[0].missing()} == {RangeVerdict.DECLARED_LOST}


async def test_every_tag_is_reported_anew_when_readings_are_taken_again() -> None:
    resumed: list[bool] = []
    async with running() as site:
        site.recorder.on_backpressure_end = lambda: resumed.append(site.recorder.is_refusing)
        site.kill_disk()
        site.fill_memory()
        await site.settle()
        await site.tick()
        assert not resumed
        site.disk.heal()
        await site.tick()

        assert resumed == [False]


async def test_a_catalogue_that_was_refused_is_sealed_again() -> None:
    async with running() as site:
        site.kill_disk()
        site.fill_memory()
        for _ in range(20):  # The first may still fit.
            site.recorder.repeat_catalogue()
        await site.settle()
        site.disk.heal()
        await site.writer.run(Store.commit)
        before = sum(kind is RecordType.CATALOG for kind, _, _ in site.verified()[1])
        await site.tick()

        assert sum(kind is RecordType.CATALOG for kind, _, _ in site.verified()[1]) == before + 1


async def test_readings_are_taken_again_once_the_uplink_has_emptied_the_memory_of_a_dead_disk() -> None:
    async with running() as site:
        site.kill_disk()
        site.fill_memory()
        await site.settle()
        await site.tick()
        assert site.recorder.is_refusing
        waiting = site.recorder._writer._store.pending
        waiting.acknowledge(waiting.first, waiting.end - 1)
        await site.tick()
        site.scan(7.0)
        await site.settle()

        assert not site.recorder.is_refusing


async def test_the_counter_is_saved_only_after_what_it_counted_is_durable() -> None:
    """Saved too early, a crash leaves a signature without its record: the verifier would report a rewritten past."""
    async with running() as site:
        seen: list[int] = []
        site.disk.watch = lambda kind, _: seen.append(site.counter.saved) if kind == "fdatasync" else None
        before = site.counter.saved
        await site.recorder.checkpoint()

        assert seen[0] == before
        assert site.counter.saved == before + 2  # EPOCH and CHECKPOINT.


async def test_nothing_is_sealed_after_the_stop() -> None:
    async with running() as site:
        await site.recorder.close()
        head = site.recorder.chain.head
        site.recorder.record_event(0, "uplink.down", 1, "uplink", {"reason": "it closed the connection"})

        assert site.recorder.chain.head == head


async def test_an_event_of_any_length_fits_a_record() -> None:
    async with running() as site:
        site.recorder.record_event(0, "device.protocol", 1, "mixer", {"answers": "a wrong answer; " * 20_000})
        site.recorder.record_gap(0, site.clock.boot_ns(), None, 0x80310000, "lost " * 20_000)
        await site.settle()

        kinds = [kind for kind, _, _ in site.verified()[1]]
        assert kinds.count(RecordType.EVENT) == kinds.count(RecordType.GAP) == 1


async def test_a_scan_whose_status_fits_no_record_gets_a_coarser_and_never_a_better_one() -> None:
    count = 14_000
    tags = tuple(CatalogueTag(name=f"t{n}", data_type=DataType.FLOAT32, address="") for n in range(count))
    big = Catalogue(path="", groups=(CatalogueGroup(device="d", name="g", interval_ns=10**9, tags=tags),))
    async with running() as site:
        recorder = site.recorder
        wide = Recorder(recorder.chain, site.writer, recorder._timekeeper, site.clock, big, RecorderSettings())
        rng = np.random.default_rng(1)
        values = rng.standard_normal(count).astype(np.float32)
        runs = tuple((n, 1, 0x80000000 + int(rng.integers(1, 2**29))) for n in range(0, count, 2))
        wide.add_block(SampleBlock(0, 1, 2, (values,), None, runs), urgent=True)
        await site.settle()

        [data] = [content for _, _, content in site.verified()[1] if isinstance(content, Data)]
        [block] = data.blocks(big)
        codes = np.zeros(count, np.uint32)
        for first, length, code in block.status:
            codes[first : first + length] = code
        assert all(codes[first] >> 30 >= code >> 30 for first, _, code in runs)
        assert np.array_equal(block.vectors[0], values)
