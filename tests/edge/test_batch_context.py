"""Batches on two units, acted by simulated devices with a log of their own: what each block says of its context."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from click.testing import CliRunner

from edge.buffer import PosixDisk, Reader
from edge.cli import cli
from edge.clock import Clock, SystemClock
from edge.config.check import check
from edge.driver import DeviceSettings, ScanGroupSettings, TagSettings
from edge.errors import DeviceUnreachable
from edge.gateway import settings_map
from edge.gateway.acquire import Acquisition, acquire
from edge.gateway.devices import plan_site
from edge.model import DataType, Reading, SampleBlock
from edge.seal import Context, Data, Event, decode_frame, parse
from edge.settings import MinLen
from edge.testing.devices import MemoryDevice, MemoryPlan

MES, PLC_1, PLC_2, LINE = range(4)
SITE = """\
gateway: {name: line-4, path: acme/basel, state: state}
clock: {require: any, chrony: off}
contexts:
  - unit: R1
    members: {batch: {device: mes, tag: r1-batch}, phase: {device: mes, tag: r1-phase}}
    devices: [plc-1]
  - unit: R2
    members:
      batch: {device: mes, tag: r2-batch}
      phase: {device: plc-2, tag: phase, texts: {0: "", 1: HEAT, 2: HOLD}}
    devices: [plc-2/fast]
devices:
  - name: mes
    driver: batches
    retry: 50 ms
    retry_limit: 100 ms
    scan_groups:
      - every: 50 ms
        tags: [{name: r1-batch, type: text}, {name: r1-phase, type: text}, {name: r2-batch, type: text}]
  - name: plc-1
    driver: batches
    scan_groups: [{every: 20 ms, tags: [{name: level}]}]
  - name: plc-2
    driver: batches
    scan_groups: [{name: fast, every: 30 ms, tags: [{name: phase}, {name: level}]}, {every: 1 s, tags: [{name: hours}]}]
"""
CHANGED = SITE.replace("unit: R1", "unit: R1-renamed").replace("[plc-2/fast]", "[plc-2]")


@dataclass(frozen=True, kw_only=True)
class Tag(TagSettings):
    type: Literal["text", "int32"] = "int32"

    @property
    def data_type(self) -> DataType:
        return DataType.TEXT if self.type == "text" else DataType.INT32

    @property
    def address_text(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class Group(ScanGroupSettings):
    tags: Sequence[Tag] = ()


@dataclass(frozen=True, kw_only=True)
class Device(DeviceSettings):
    driver: Literal["batches"]
    scan_groups: Annotated[Sequence[Group], MinLen(1)]


@dataclass(frozen=True)
class Plan(MemoryPlan):
    names: tuple[str, ...] = ()


@dataclass
class Plant:
    """What the devices hold, and their log: at which boot time a tag got another value."""

    clock: Clock
    values: dict[str, str | int] = field(default_factory=lambda: {"r1-batch": "", "r1-phase": "", "r2-batch": "",
                                                                  "phase": 0, "level": 0, "hours": 0})  # fmt: skip
    log: list[tuple[int, str, str | int]] = field(default_factory=list)
    devices: dict[str, Simulated] = field(default_factory=dict)

    def put(self, **values: str | int) -> None:
        for name, value in values.items():
            tag = name.replace("_", "-")
            self.values[tag] = value
            self.log.append((self.clock.boot_ns(), tag, value))

    def was(self, tag: str, since_ns: int, until_ns: int) -> set[str | int]:
        """All values that a tag had at any time between."""
        told = [(at_ns, value) for at_ns, name, value in self.log if name == tag]
        before = [value for at_ns, value in told if at_ns <= since_ns][-1:]
        return {*before, *(value for at_ns, value in told if since_ns < at_ns <= until_ns)}


class Simulated(MemoryDevice):
    """A device of the plant; an answer takes a while, and its values are of a moment in the middle."""

    def __init__(self, plant: Plant) -> None:
        super().__init__(plant.clock, None)  # type: ignore[arg-type]
        self._plant = plant

    def plan(self, tags: Sequence[Any]) -> Plan:
        return Plan(super().plan(tags).layout, tuple(tag.name for tag in tags))

    async def read(self, plan: MemoryPlan) -> Reading:
        assert isinstance(plan, Plan)
        asked_at_ns = self._plant.clock.boot_ns()
        await asyncio.sleep(0.002)
        if self.failure is not None:
            raise self.failure
        values = [self._plant.values[name] for name in plan.names]
        await asyncio.sleep(0.002)
        vectors = tuple(
            np.array([values[tag] for tag in members], data_type.numpy)
            for data_type, members in zip(plan.layout.vector_types, plan.layout.members, strict=True)
        )
        return Reading(vectors, asked_at_ns, self._plant.clock.boot_ns())


class Kind:
    settings = Device

    def __init__(self, plant: Plant) -> None:
        self.plant = plant

    def driver(self, device: Device, clock: Clock) -> Simulated:
        return self.plant.devices.setdefault(device.name, Simulated(self.plant))


async def _act(plant: Plant) -> None:
    """Three batches back to back on both units; an id that is blank for 2 s, one that recurs, and a lost device."""
    for number, (one, other) in enumerate([("B-1", "C-1"), ("B-2", "C-2"), ("B-1", "C-3")]):
        for phase, text in ((1, "HEAT"), (2, "HOLD")):
            plant.put(r1_batch=one, r1_phase=text)
            await asyncio.sleep(0.15)
            plant.put(r2_batch=other, phase=phase)
            await asyncio.sleep(0.25)
            if (number, phase) == (1, 1):
                mes = plant.devices["mes"]
                mes.failure = DeviceUnreachable("its cable is pulled")
                await asyncio.sleep(0.2)
                plant.put(r1_batch="unseen", r2_batch="unseen")
                await asyncio.sleep(0.2)
                plant.put(r1_batch=one, r2_batch=other)
                mes.failure = None
                await asyncio.sleep(0.4)
            if (number, phase) == (1, 2):
                plant.put(r1_batch="\0\0", r2_batch="  ")
                await asyncio.sleep(2)
    plant.put(r1_batch="", r1_phase="", r2_batch="", phase=0)
    await asyncio.sleep(0.3)


TEXTS = {0: "", 1: "HEAT", 2: "HOLD"}
TAGS = {
    "R1": {"batch": "r1-batch", "phase": "r1-phase"}, "R2": {"batch": "r2-batch", "phase": "phase"},
    "R1-renamed": {"batch": "r1-batch", "phase": "r1-phase"},
}  # fmt: skip


def _text(value: str | int) -> str:
    return TEXTS[value] if isinstance(value, int) else value.strip("\0 ")


def _is_right(plant: Plant, context: Context, block: SampleBlock) -> bool:
    return all(
        {_text(value) for value in plant.was(TAGS[context.unit][member], block.asked_at_ns, block.answered_at_ns)}
        == {text}
        for member, text in context.members.items()
        if text is not None
    )


@pytest.mark.requirement("REQ-BATCH-01", "REQ-BATCH-02", "REQ-BATCH-03", "REQ-BATCH-04")
def test_each_block_has_the_context_of_the_plant_or_says_that_it_is_not_certain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = Plant(SystemClock())
    plant.put(r1_batch="", r1_phase="", r2_batch="", phase=0)
    kind = Kind(plant)
    monkeypatch.setattr("edge.gateway.devices.load", lambda name: kind)
    (tmp_path / "site.yaml").write_text(SITE)
    (tmp_path / "changed.yaml").write_text(CHANGED)
    settings, changed = (check(tmp_path / name, lambda name: kind).gateway() for name in ("site.yaml", "changed.yaml"))
    settings.gateway.state.mkdir()
    changed_at_ns = 0

    async def apply(acquisition: Acquisition) -> None:
        nonlocal changed_at_ns
        plant.put(r1_batch="B-9", r2_batch="C-9")
        await asyncio.sleep(0.3)
        planned = plan_site(changed, plant.clock, {device.name for device in changed.devices})
        changed_at_ns = plant.clock.boot_ns()
        await acquisition.change(changed, bytes(32), planned)
        await asyncio.sleep(0.5)

    async def work(*, is_first: bool) -> None:
        async with acquire(settings, bytes(32), plant.clock) as acquisition:
            running = asyncio.create_task(acquisition.run())
            await asyncio.sleep(0.3)
            await (_act(plant) if is_first else apply(acquisition))
            running.cancel()
            await asyncio.wait([running])

    asyncio.run(work(is_first=True))
    restarted_at_ns = plant.clock.boot_ns()
    asyncio.run(work(is_first=False))

    with closing(Reader(PosixDisk(settings.buffer_directory))) as reader:
        records = [data for _, data in reader.read(0, 1 << 24)]
    content = [decode_frame(parse(data)) for data in records]
    offset_ns = next(each.utc_ns - each.boot_ns for each in content if isinstance(each, Data) and each.wire_blocks)
    _check_blocks(plant, content, changed_at_ns)
    events = [each for each in content if isinstance(each, Event) and each.kind.startswith("batch.")]
    first = [each for each in events if each.at_ns < restarted_at_ns + offset_ns]
    for unit, ids in (("R1", ("B-1", "B-2", "B-1")), ("R2", ("C-1", "C-2", "C-3"))):
        told = [(each.kind, each.data["batch"]) for each in first if each.subject == unit]
        assert told == [(kind, batch) for batch in ids for kind in ("batch.start", "batch.end")]
    for event in events:
        if event.data["from_ns"] is not None:
            moments = [at_ns + offset_ns for at_ns, tag, _ in plant.log if tag == TAGS[event.subject]["batch"]]
            assert any(_has(event, at_ns) for at_ns in moments)
    identity, _ = settings_map.identity(settings)
    _check_reports(tmp_path, records, identity.public_pem("urn:tidegate:line-4"), content)


def _check_reports(folder: Path, records: Sequence[bytes], public_pem: bytes, content: Sequence[object]) -> None:
    """The report on each batch has its blocks, and all that it does not have lie outside."""
    archive = folder / "archive/line-4"
    archive.mkdir(parents=True)
    (archive / "2026-01-31.rec").write_bytes(b"".join(records))
    (folder / "line-4.pub.pem").write_bytes(public_pem)
    contexts = {each.number: each for each in content if isinstance(each, Context)}
    blocks = [block for each in content if isinstance(each, Data) for block in each.blocks()]
    every = ["--from", "2000-01-01T00:00Z", "--to", "2100-01-01T00:00Z", "--json"]
    for batch in ("B-1", "B-2", "C-1", "C-2", "C-3", "B-9"):
        result = CliRunner().invoke(cli, [
            "report", str(archive.parent), "--trust", str(folder / "line-4.pub.pem"), "--batch", batch, *every,
        ])  # fmt: skip
        [gateway] = json.loads(result.stdout)["gateways"]
        runs = gateway["batch"]["runs"]
        own = {number for number, each in contexts.items() if each.members["batch"] == batch}
        within = sum(bool(block.context) and own >= set(block.context) for block in blocks)
        assert sum(run["blocks"] for run in runs) == within > 0
        assert len(runs) == (2 if batch in ("B-1", "B-9") else 1)  # Used again; and the unit was renamed.
        counted = sum(run["blocks"] + run["boundary_blocks"] + run["unknown_blocks"] for run in runs)
        assert counted + gateway["batch"]["outside_blocks"] == len(blocks)
    exact = folder / "b-9.rec"
    asked = ["--trust", str(folder / "line-4.pub.pem"), "--batch", "B-9", *every, "-o", str(exact)]
    assert json.loads(CliRunner().invoke(cli, ["export", str(archive.parent), *asked]).stdout)["records"] > 0
    verified = CliRunner().invoke(cli, ["verify", str(exact), *asked[:2], "--json"])
    assert {name for chain in json.loads(verified.stdout)["epochs"] for name, count in chain["verdicts"].items()
            if count} == {"AUTHENTIC"}  # fmt: skip
    assert not json.loads(verified.stdout)["unattributed"]


def _check_blocks(plant: Plant, content: Sequence[object], changed_at_ns: int) -> None:
    contexts = {each.number: each for each in content if isinstance(each, Context)}
    counts: Counter[str] = Counter()
    seen: set[int] = set()
    for block in (block for each in content if isinstance(each, Data) for block in each.blocks()):
        if block.asked_at_ns < changed_at_ns < block.answered_at_ns:
            continue  # The unit of a block is the one at its end.
        is_of_unit = block.group in (PLC_1, PLC_2) or (block.group == LINE and block.asked_at_ns > changed_at_ns)
        assert is_of_unit == bool(block.context)
        seen |= set(block.context)
        if is_of_unit:
            counts[_judge(plant, contexts, block)] += 1
    assert seen <= {0, *contexts}
    assert counts["known"] > 0.7 * sum(counts.values())
    assert counts.keys() >= {"partly", "boundary", "unknown"}
    assert {context.unit for number, context in contexts.items() if number in seen} == set(TAGS)
    for unit in ("R1", "R2"):
        known = {context.members["batch"] for context in contexts.values() if context.unit == unit}
        assert {None, ""} < known
        assert "unseen" not in known


def _judge(plant: Plant, contexts: Mapping[int, Context], block: SampleBlock) -> str:
    """What a block says of its context, in a word; fails where that is not what the plant was doing."""
    if len(block.context) > 1:
        return "boundary" if all(block.context) else "unknown"
    if (context := contexts.get(block.context[0])) is None:
        return "unknown"
    assert _is_right(plant, context, block)
    assert block.group == PLC_1 if context.unit.startswith("R1") else block.group in (PLC_2, LINE)
    return "partly" if None in context.members.values() else "known"


def _has(event: Event, utc_ns: int) -> bool:
    """Whether a moment is between the two reads of an event, but for what the clock is steered meanwhile."""
    from_ns, to_ns = event.data["from_ns"], event.data["to_ns"]
    assert isinstance(from_ns, int)
    assert isinstance(to_ns, int)
    return from_ns - 10**6 <= utc_ns <= to_ns + 10**6
