"""Evidence: what was observed outside of the gateway, and what the archive says; only authentic records count."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import TypeAdapter

from edge.clock import SystemClock, read_pair
from edge.model import NO_TIME, Catalogue, Layout, Quality, SampleBlock, quality_of, status_codes
from edge.relay.archive import record_files, records_of
from edge.seal import CataloguePart, Data, Event, Gap, Head, Loss, join_catalogue
from edge.verify import Judgement, Trust, Verdict, Verifier
from hil.alignment import Alignment, BootAsked, RecordTimes, RigClock
from hil.devices import Served, served_in
from hil.document import Figure, Plot, Point, Span
from hil.rig import Rig, load_rig

OBSERVED, ARCHIVE, TRUST, DEVICES, RIG = "observed.json", "archive", "gateway.pub.pem", "devices", "rig.yaml"
"""The names of the evidence in the folder of a scenario."""


_EVERY_NS, _MOVED_NS = 10**9, 10**5


ADMIT = "declared_lost,linked"
"""What `tidegate verify` admits where a scenario makes the gateway lose records."""


class Archived(NamedTuple):
    """A value in the archive, with the rig times of its request and answer; `value` is None where it is BAD."""

    from_ns: int
    to_ns: int
    value: Any
    status: int = 0
    source_ns: int | None = None


class Declared(NamedTuple):
    """An interval of rig time for which the gateway declares missing values, of one device or of all."""

    device: str | None
    from_ns: int
    to_ns: int


class Finding(NamedTuple):
    """The result of a pass criterion: whether it holds, what was found in one sentence, and the figures behind it."""

    holds: bool
    found: str
    figures: Sequence[Figure] = ()
    plots: Sequence[Plot] = ()


@dataclass(slots=True, kw_only=True)
class Observed:
    """What was seen during a run, outside of the archive.

    Attributes:
        figures: measurements, by name.
        samples: values over time (UTC), by name; the runner adds those of `hil.trial.SAMPLED`.
        disturbances: what was done to the rig, and when (UTC).
        devices: what the gateway said of each device at the end of the first steps, by name.
        witnesses: the library that read a device beside the gateway, with its version, by the device's name.
        deviations: what was other than planned, in a sentence each.
        troubles: why a step did not come to its end.
        stopped_boot_ns: when the gateway was stopped, in rig time: what a device serves later answers nothing.
        boot_id: of the machine that runs the scenarios, in hexadecimal.
        clock: its UTC and its boot time, in pairs; a pair holds until the next one.
        asked: boot times of the gateway, and when they were asked for.
    """

    figures: dict[str, float] = field(default_factory=dict)
    samples: dict[str, list[Point]] = field(default_factory=dict)
    disturbances: list[Span] = field(default_factory=list)
    devices: dict[str, dict[str, Any]] = field(default_factory=dict)
    witnesses: dict[str, str] = field(default_factory=dict)
    deviations: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    stopped_boot_ns: int = sys.maxsize
    boot_id: str = ""
    clock: list[tuple[int, int]] = field(default_factory=list)
    asked: list[BootAsked] = field(default_factory=list)

    def note_boot_time(self, asked: BootAsked) -> None:
        """Keep what the gateway answered: of each second the answer that tells most."""
        last = self.asked[-1] if self.asked else None
        if last is None or last.boot_id != asked.boot_id or asked.asked_ns - last.asked_ns > _EVERY_NS:
            self.asked.append(asked)
        elif asked.answered_ns - asked.asked_ns < last.answered_ns - last.asked_ns:
            self.asked[-1] = asked

    def note_clock(self) -> None:
        """Keep UTC and boot time of this machine, where they are not those of before."""
        boot_ns, offset_ns = read_pair(SystemClock())
        if not self.clock or abs(self.clock[-1][0] - self.clock[-1][1] - offset_ns) > _MOVED_NS:
            self.clock.append((boot_ns + offset_ns, boot_ns))

    def to_json(self) -> bytes:
        """One JSON document."""
        return orjson.dumps(self, default=tuple)

    @classmethod
    def from_json(cls, document: bytes) -> Observed:
        """The inverse of `to_json`. Raises ValueError for another document."""
        return TypeAdapter(cls).validate_json(document)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The input of pass criteria.

    Attributes:
        served: what the simulated devices said that they served, by `device/tag`.
        archived: the values of every tag, by `device/tag`, in the order of their arrival.
        declared: intervals that the gateway declares missing.
        catalogue: the last one, which describes the tags; None where there is none.
        records: authentic records without readings, in the order of their arrival: events, gaps, losses.
        chain: all authentic records, in the order in which they were sealed.
        clock: converts UTC of the rig to rig time and back.
        alignment: how the gateway's boot times became rig time.
        verdict: output of `tidegate verify` for the archive, which admits declared losses.
        head: the last record of the archive.
        identity: fingerprint of the key that signs the archive.
    """

    rig: Rig
    folder: Path
    observed: Observed
    served: Mapping[str, Sequence[Served]]
    archived: Mapping[str, Sequence[Archived]]
    declared: Sequence[Declared]
    catalogue: Catalogue | None
    records: Sequence[Any]
    chain: Sequence[Any]
    clock: RigClock
    alignment: Alignment
    verdict: dict[str, Any]
    head: Head | None
    identity: str

    @property
    def is_admitted(self) -> bool:
        """Whether every record is authentic, or declared lost."""
        return bool(self.verdict.get("is_admitted"))

    @property
    def is_fine(self) -> bool:
        """Whether every record is there and authentic."""
        return self.is_admitted and bool(self.verdict["is_wholly_authentic"])

    @cached_property
    def events(self) -> list[Event]:
        """The events on record."""
        return [each for each in self.records if isinstance(each, Event)]

    def counters(self) -> Iterator[str]:
        """The tags, `device/tag`, whose signal is a counter and whose device keeps what it served."""
        for device in self.rig.wired.devices:
            for tag, signal in device.signals.items():
                if signal.wave == "counter" and f"{device.name}/{tag}" in self.served:
                    yield f"{device.name}/{tag}"


def gather(folder: Path) -> Evidence:
    """The evidence in the folder of a scenario, with what `tidegate verify` says of its archive."""
    archive, trust, rig = folder / ARCHIVE, folder / TRUST, load_rig(folder / RIG, is_evidence=True)
    observed = Observed.from_json((folder / OBSERVED).read_bytes())
    command = [sys.executable, "-m", "edge.cli", "verify", str(archive), "--trust", str(trust), "--json",
               "--admit", ADMIT]  # fmt: skip
    verified = subprocess.run(command, check=False, capture_output=True)
    verdict: dict[str, Any] = orjson.loads(verified.stdout) if verified.stdout.startswith(b"{") else {"epochs": []}
    judgements = list(_authentic(archive, trust)) if trust.exists() else []
    parts: defaultdict[bytes, list[CataloguePart]] = defaultdict(list)
    for judgement in judgements:
        if isinstance(judgement.content, CataloguePart):
            parts[judgement.content.digest].append(judgement.content)
    catalogues = {digest: join_catalogue(found) for digest, found in parts.items()}
    data = [judgement.content for judgement in judgements if isinstance(judgement.content, Data)]
    alignment = Alignment(observed.asked, observed.boot_id)
    last = max(judgements, key=lambda judgement: judgement.seq, default=None)
    return Evidence(
        rig=rig,
        folder=folder,
        observed=observed,
        served=_served(rig, folder / DEVICES, observed.stopped_boot_ns),
        archived=_values(data, catalogues, rig.devices, alignment),
        declared=_declared(judgements, data, catalogues, RecordTimes(data, alignment)),
        catalogue=catalogues.get(data[-1].catalogue) if data else None,
        records=[judgement.content for judgement in judgements if not isinstance(judgement.content, Data)],
        chain=[each.content for each in sorted(judgements, key=lambda each: each.seq)],
        clock=RigClock(observed.clock),
        alignment=alignment,
        verdict=verdict,
        head=None if last is None else Head(last.epoch, last.seq, last.hash),
        identity=verdict["epochs"][0]["identity"] if verdict["epochs"] else "",
    )


def _served(rig: Rig, folder: Path, until_ns: int) -> dict[str, list[Served]]:
    found: dict[str, list[Served]] = {}
    for device in rig.wired.devices:
        log = folder / f"{device.name}.log"
        if log.exists():
            found |= {f"{device.name}/{tag}": [] for tag in device.signals}
            for served in served_in(log):
                if served.boot_ns <= until_ns:
                    found.setdefault(f"{device.name}/{served.tag}", []).append(served)
    return found


def _authentic(archive: Path, trust: Path) -> Iterator[Judgement]:
    """The authentic records, each as often as it is in the archive."""
    verifier = Verifier(Trust.load([trust]))
    seen: dict[bytes, Judgement] = {}
    for file in record_files(archive):
        for found in records_of(file):
            for judgement in verifier.add(found.data) if found.data is not None else ():
                if judgement.verdict is Verdict.AUTHENTIC:
                    seen[judgement.hash] = judgement
                    yield judgement
                elif judgement.verdict is Verdict.DUPLICATE and judgement.hash in seen:
                    yield seen[judgement.hash]


def _values(
    data: Sequence[Data], catalogues: Mapping[bytes, Catalogue], devices: Collection[str], alignment: Alignment
) -> dict[str, list[Archived]]:
    found: defaultdict[str, list[Archived]] = defaultdict(list)
    for record in data:
        catalogue = catalogues.get(record.catalogue)
        if catalogue is None:
            continue  # Values without their catalogue cannot be decoded: they count as missing.
        for block in record.blocks(catalogue):
            group = catalogue.groups[block.group]
            if group.device not in devices:
                continue  # A load, whose values are many and mean nothing.
            interval = alignment.interval(record.time.boot_id.hex(), block.asked_at_ns, block.answered_at_ns)
            for tag, archived in _values_of(block, group.layout, interval):
                found[f"{group.device}/{group.tags[tag].name}"].append(archived)
    return found


def _values_of(block: SampleBlock, layout: Layout, interval: tuple[int, int]) -> Iterator[tuple[int, Archived]]:
    """(number of the tag, value) of everything that a block reports."""
    codes = status_codes(block.status, sum(map(len, block.vectors)) if block.is_notification else len(layout))
    begin = 0
    for vector, members in enumerate(layout.members):
        values = block.vectors[vector].tolist()
        places = range(len(members)) if block.positions is None else block.positions[vector].tolist()
        times = None if block.source_times is None else block.source_times[vector].tolist()
        for at, (value, place) in enumerate(zip(values, places, strict=True)):
            tag = int(members[place])
            code = int(codes[begin + at if block.is_notification else tag])
            source_ns = None if times is None or times[at] == NO_TIME else times[at]
            is_bad = quality_of(code) is Quality.BAD
            yield tag, Archived(*interval, None if is_bad else value, code, source_ns)
        begin += len(values)


def _declared(
    judgements: Sequence[Judgement], data: Sequence[Data], catalogues: Mapping[bytes, Catalogue], times: RecordTimes
) -> list[Declared]:
    newest = catalogues[data[-1].catalogue].groups if data and data[-1].catalogue in catalogues else ()
    gaps = [each.content for each in judgements if isinstance(each.content, Gap)]
    found = []
    for gap in gaps:
        # A gap has one record for its begin and one for its end; without the latter it is open.
        ends = [each.to_ns for each in gaps if each.group == gap.group and (each.to_ns or 0) >= gap.from_ns]
        to_ns = gap.to_ns or min(filter(None, ends), default=None)
        device = newest[gap.group].device if gap.group is not None and gap.group < len(newest) else None
        first_ns, last_ns = times.interval(gap.from_ns, gap.from_ns if to_ns is None else to_ns)
        found.append(Declared(device, first_ns, sys.maxsize if to_ns is None else last_ns))
    losses = [each.content for each in judgements if isinstance(each.content, Loss)]
    return found + [
        Declared(None, *times.interval(loss.from_ns, loss.to_ns))
        for loss in losses
        if loss.from_ns is not None and loss.to_ns is not None
    ]
