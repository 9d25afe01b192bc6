"""Evidence from an archive; only authentic records count."""

from __future__ import annotations

import subprocess
import sys
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from edge.model import Catalogue, Layout, Quality, SampleBlock, quality_of, status_codes
from edge.relay.archive import record_files, records_of
from edge.seal import CataloguePart, Data, Gap, Head, Loss, join_catalogue
from edge.verify import Judgement, Trust, Verdict, Verifier
from hil.simulation import Witness


class Archived(NamedTuple):
    """A value in the archive, with the boot times of its request and answer."""

    from_ns: int
    to_ns: int
    value: int


class Declared(NamedTuple):
    """An interval of boot time for which the gateway declares missing values, of one device or of all."""

    device: str | None
    from_ns: int
    to_ns: int


class Finding(NamedTuple):
    """The result of a claim, and the figures behind it."""

    holds: bool
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The input of claims: records of the devices, and the archive.

    Attributes:
        witness: observations outside the gateway.
        archived: values of the counters, by `device/tag`, in the order of their arrival.
        declared: intervals that the gateway declares missing.
        verdict: output of `tidegate verify` for the archive; `is_fine` if it succeeded.
        head: the last record of the archive.
        identity: fingerprint of the key that signs the archive.
    """

    witness: Witness
    archived: dict[str, list[Archived]]
    declared: list[Declared]
    verdict: dict[str, Any]
    is_fine: bool
    head: Head | None
    identity: str


def gather(witness: Witness, archive: Path, trust: Path) -> Evidence:
    """Read an archive, and run `tidegate verify` on it."""
    command = [sys.executable, "-m", "edge.cli", "verify", str(archive), "--trust", str(trust), "--json"]
    verified = subprocess.run(command, check=False, capture_output=True)
    verdict: dict[str, Any] = orjson.loads(verified.stdout) if verified.stdout.startswith(b"{") else {"epochs": []}
    judgements = list(_authentic(archive, trust))
    parts: defaultdict[bytes, list[CataloguePart]] = defaultdict(list)
    for judgement in judgements:
        if isinstance(judgement.content, CataloguePart):
            parts[judgement.content.digest].append(judgement.content)
    catalogues = {digest: join_catalogue(found) for digest, found in parts.items()}
    data = [judgement.content for judgement in judgements if isinstance(judgement.content, Data)]
    last = max(judgements, key=lambda judgement: judgement.seq, default=None)
    return Evidence(
        witness=witness,
        archived=_values(data, catalogues, witness.served.keys()),
        declared=_declared(judgements, data, catalogues),
        verdict=verdict,
        is_fine=verified.returncode == 0,
        head=None if last is None else Head(last.epoch, last.seq, last.hash),
        identity=verdict["epochs"][0]["identity"] if verdict["epochs"] else "",
    )


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
    data: Sequence[Data], catalogues: dict[bytes, Catalogue], counters: Iterable[str]
) -> dict[str, list[Archived]]:
    found: dict[str, list[Archived]] = {name: [] for name in counters}
    for record in data:
        catalogue = catalogues.get(record.catalogue)
        if catalogue is None:
            continue  # Values without their catalogue cannot be decoded: they count as missing.
        for block in record.blocks(catalogue):
            group = catalogue.groups[block.group]
            for position, tag in enumerate(group.tags):
                values = found.get(f"{group.device}/{tag.name}")
                if values is not None:
                    numbers = _values_of(block, catalogue, position)
                    values += [Archived(block.asked_at_ns, block.answered_at_ns, value) for value in numbers]
    return found


def _values_of(block: SampleBlock, catalogue: Catalogue, tag: int) -> list[int]:
    """The values of a tag in a block, without BAD ones; only a notification can have more than one."""
    layout = catalogue.groups[block.group].layout
    if block.is_notification:
        return _notified(block, *layout.slots[tag])
    value = _value(block, layout, tag)
    return [] if value is None else [value]


def _notified(block: SampleBlock, vector: int, position: int) -> list[int]:
    assert block.positions is not None
    begin = sum(map(len, block.vectors[:vector]))
    codes = status_codes(block.status, sum(map(len, block.vectors)))
    found = (block.positions[vector] == position).nonzero()[0]
    values = block.vectors[vector]
    return [int(values[at]) for at in found if quality_of(int(codes[begin + at])) is not Quality.BAD]


def _value(block: SampleBlock, layout: Layout, tag: int) -> int | None:
    if quality_of(int(status_codes(block.status, len(layout))[tag])) is Quality.BAD:
        return None
    vector, position = layout.slots[tag]
    if block.positions is None:
        return int(block.vectors[vector][position])
    (at,) = (block.positions[vector] == position).nonzero()
    return int(block.vectors[vector][at[0]]) if len(at) else None


def _declared(
    judgements: Sequence[Judgement], data: Sequence[Data], catalogues: dict[bytes, Catalogue]
) -> list[Declared]:
    boot = _BootTime(data)
    newest = catalogues[data[-1].catalogue].groups if data and data[-1].catalogue in catalogues else ()
    gaps = [each.content for each in judgements if isinstance(each.content, Gap)]
    found = []
    for gap in gaps:
        # A gap has one record for its begin and one for its end; without the latter it is open.
        ends = [each.to_ns for each in gaps if each.group == gap.group and (each.to_ns or 0) >= gap.from_ns]
        to_ns = gap.to_ns or min(filter(None, ends), default=None)
        device = newest[gap.group].device if gap.group is not None and gap.group < len(newest) else None
        found.append(Declared(device, boot.of(gap.from_ns), sys.maxsize if to_ns is None else boot.of(to_ns)))
    losses = [each.content for each in judgements if isinstance(each.content, Loss)]
    return found + [
        Declared(None, boot.of(loss.from_ns), boot.of(loss.to_ns))
        for loss in losses
        if loss.from_ns is not None and loss.to_ns is not None
    ]


class _BootTime:
    """Converts UTC to boot time, by the nearest earlier record."""

    def __init__(self, data: Sequence[Data]) -> None:
        self._known = sorted((record.utc_ns, record.boot_ns) for record in data)

    def of(self, utc_ns: int) -> int:
        if not self._known:
            return utc_ns
        at_ns, boot_ns = self._known[max(0, bisect_right(self._known, (utc_ns, sys.maxsize)) - 1)]
        return utc_ns - at_ns + boot_ns
