from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from edge.buffer import BufferLimits, BufferWriter, Reader, Store
from edge.clock import Timekeeper
from edge.clock.timekeeper import ClockStep, Require
from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType, SampleBlock
from edge.recorder import Recorder, RecorderSettings, ResumeResult, resume_chain
from edge.recorder.losses import LossDeclarer
from edge.seal import ChainRules, IdentityKey, MemoryCounter, Origin, Payload, issuer_of, parse
from edge.seal.keys import SigningKey
from edge.testing.clock import ManualClock
from edge.testing.disk import SimulatedDisk
from edge.verify import Judgement, Trust, Verdict, Verifier

ISSUER = issuer_of("line-4")
TAGS = 4
TAGS_OF_MIXER = tuple(
    CatalogueTag(name=f"tag-{i}", data_type=DataType.UINT32, address=f"holding {i}") for i in range(TAGS)
)
MIXER = CatalogueGroup(device="mixer", name="fast", interval_ns=10**8, tags=TAGS_OF_MIXER)
DAILY = replace(MIXER, name="daily", interval_ns=86_400 * 10**9)
GROUPS = 3
CATALOGUE = Catalogue(path="acme/basel/line-4", groups=(MIXER, MIXER, DAILY))
LIMITS = BufferLimits(limit_bytes=1 << 20, segment_bytes=1 << 16, reserve_bytes=1 << 14)
RULES = RecorderSettings(commit_window_ns=10**6, require=Require.ANY)


@dataclass
class Recording:
    """A recorder on a disk in memory, with a clock that only the test moves."""

    clock: ManualClock
    timekeeper: Timekeeper
    store: Store
    writer: BufferWriter
    recorder: Recorder
    loss_declarer: LossDeclarer
    resumed: ResumeResult

    def block(self, value: int = 1, group: int = 0) -> SampleBlock:
        at_ns = self.clock.boot_ns()
        return SampleBlock(group, at_ns, at_ns + 1000, (np.full(TAGS, value, np.uint32),))

    async def settle(self) -> None:
        """Wait until everything handed in so far is on the disk."""
        await self.writer.run(lambda store: None)


@dataclass
class Machine:
    """A disk, an identity and a clock that outlive the gateways that use them."""

    disk: SimulatedDisk = field(default_factory=SimulatedDisk)
    identity: IdentityKey = field(default_factory=lambda: IdentityKey(SigningKey.generate(), MemoryCounter()))
    clock: ManualClock = field(default_factory=ManualClock)
    chain_rules: ChainRules = field(default_factory=ChainRules)
    is_new_identity: bool = True

    @asynccontextmanager
    async def recording(
        self, limits: BufferLimits = LIMITS, rules: RecorderSettings = RULES
    ) -> AsyncIterator[Recording]:
        """A gateway's recorder, opened as the daemon does."""
        recorder: Recorder

        def step(step: ClockStep) -> None:
            recorder.record_step(step)

        timekeeper = Timekeeper(self.clock, [], bytes(16), on_step=step, on_event=lambda *_: None)
        store = Store(self.disk, limits, self.clock.boot_ns)
        resumed = self.open(store, timekeeper)
        async with BufferWriter(store) as writer:
            recorder = Recorder(resumed.chain, writer, timekeeper, self.clock, CATALOGUE, rules)
            recorder.store_first(resumed.first)
            loss_declarer = LossDeclarer(writer, recorder, self.clock, CATALOGUE)
            yield Recording(self.clock, timekeeper, store, writer, recorder, loss_declarer, resumed)

    def open(self, store: Store, timekeeper: Timekeeper, *, issuer: str = ISSUER) -> ResumeResult:
        reader = Reader(self.disk)
        try:
            return resume_chain(
                store, reader, self.identity, issuer=issuer, time=timekeeper.quality, origin=Origin(),
                rules=self.chain_rules, is_new_identity=self.is_new_identity, groups=GROUPS,
            )  # fmt: skip
        finally:
            reader.close()

    def stored(self) -> list[bytes]:
        """Every record on the disk."""
        reader, found, number = Reader(self.disk), list[bytes](), 0
        while batch := reader.read(number, 1 << 16):
            found += [data for _, data in batch]
            number = batch[-1][0] + 1
        reader.close()
        return found

    def judged(self, before: Sequence[bytes] = ()) -> list[Judgement]:
        """The verdicts on every record on the disk, after the records in `before`."""
        trust = Trust()
        trust.pin(self.identity.public, ISSUER)
        verifier = Verifier(trust)
        judged = [each for data in [*before, *self.stored()] for each in verifier.add(data)]
        return [each for each in judged if each.verdict is not Verdict.DUPLICATE]

    def contents(self) -> list[Payload]:
        """The payloads of all records, which must be authentic and complete."""
        judged = self.judged()
        assert {each.verdict for each in judged} == {Verdict.AUTHENTIC}
        seqs = [each.seq for each in judged]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        return [each.content for each in judged if each.content is not None]

    def types(self) -> list[str]:
        """The types of all records, in order."""
        return [parse(data).type.name for data in self.stored()]


@pytest.fixture
def machine() -> Machine:
    return Machine()
