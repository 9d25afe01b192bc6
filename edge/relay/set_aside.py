"""Moves out of an archive what no trusted chain can ever show to belong to it. The relay must not run."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edge.files import make_directory, replace_file, sync_directory
from edge.relay.archive import Archive, RecordLocation, day_ns, days, gateways, make_index
from edge.seal import parse
from edge.verify import Trust, Verdict, Verifier
from edge.verify.trust import TrustFile

_PROVEN = frozenset({Verdict.AUTHENTIC, Verdict.LINKED, Verdict.FORK})
_MOVED = frozenset({Verdict.UNVERIFIABLE, Verdict.UNTRUSTED, Verdict.ALTERED})
_COPY_BYTES = 1 << 20


@dataclass(slots=True)
class SetAside:
    """What was done for one gateway.

    Attributes:
        authentic: records; without one nothing is moved, because the trust anchors may be incomplete.
        moved: records, and `moved_bytes` their size.
        kept: records that nothing proves, at places of a trusted chain that are still free.
    """

    gateway: str
    authentic: int = 0
    moved: int = 0
    moved_bytes: int = 0
    kept: int = 0


def set_aside(directory: Path, trust: Sequence[TrustFile]) -> list[SetAside]:
    """Move unproven records to `aside`, an archive of its own, and say what was moved for each gateway.

    Raises:
        ConfigError: the archive is in use, or a trust anchor cannot be used.
        OSError: nothing is lost, and it may be repeated.
    """
    verifier = Verifier(Trust.load(trust))
    with closing(Archive(directory)) as archive:
        unproven, authentic = _judge(archive, verifier)
        results = {name: SetAside(name, authentic[name]) for name in gateways(directory)}
        by_file: defaultdict[Path, list[RecordLocation]] = defaultdict(list)
        for locations in unproven.values():
            result = results[locations[0].gateway]
            frame = parse(archive.read(locations[0]))
            if not result.authentic or verifier.may_hold_place(frame):
                result.kept += len(locations)
                continue
            for each in locations:
                by_file[directory / each.gateway / f"{each.day}.rec"].append(each)
                result.moved += 1
                result.moved_bytes += each.length
    if by_file:
        # It has offsets into the files as they are.
        (directory / "relay.snapshot").unlink(missing_ok=True)
        sync_directory(directory)
    for path, locations in by_file.items():
        _move(path, sorted(locations), directory / "aside" / path.parent.name / path.name)
    _complete_indexes(directory)
    return list(results.values())


def _judge(archive: Archive, verifier: Verifier) -> tuple[dict[bytes, list[RecordLocation]], Counter[str]]:
    """Where the records lie that nothing proves, by their hash, and how many are authentic by gateway."""
    unproven: dict[bytes, list[RecordLocation]] = {}
    authentic: Counter[str] = Counter()
    for gateway in gateways(archive.directory):
        for location, data in archive.since(gateway):
            first, *later = verifier.add(data, arrived_ns=day_ns(location.day))
            if first.verdict in _MOVED:
                unproven[first.hash] = [location]
            elif first.verdict is Verdict.DUPLICATE and first.hash in unproven:
                unproven[first.hash].append(location)
            for each in later:
                if each.verdict in _PROVEN:
                    unproven.pop(each.hash, None)
            authentic[gateway] += sum(each.verdict is Verdict.AUTHENTIC for each in (first, *later))
    return unproven, authentic


def _move(path: Path, locations: list[RecordLocation], aside: Path) -> None:
    """Durable aside first, and only then left out: after a crash a record may be in both."""
    draft, index = path.with_suffix(".rec.new"), path.with_suffix(".idx")
    make_directory(aside.parent)
    spans = [(each.offset, each.offset + each.length) for each in locations]
    with path.open("rb") as source:
        with aside.open("ab") as moved:
            _copy(source, spans, moved)
        sync_directory(aside.parent)
        with draft.open("wb") as kept:
            _copy(source, _between(spans, path.stat().st_size), kept)
    index.unlink(missing_ok=True)
    draft.replace(path)
    sync_directory(path.parent)


def _copy(source: BinaryIO, spans: list[tuple[int, int]], target: BinaryIO) -> None:
    for start, end in spans:
        source.seek(start)
        while start < end:
            data = source.read(min(end - start, _COPY_BYTES))
            target.write(data)
            start += len(data)
    target.flush()
    os.fsync(target.fileno())


def _between(spans: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    starts, ends = [0, *(end for _, end in spans)], [*(start for start, _ in spans), size]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if start < end]


def _complete_indexes(directory: Path) -> None:
    for path in (day for name in gateways(directory) for day in days(directory / name)):
        index = path.with_suffix(".idx")
        if not index.exists():
            replace_file(index, b"".join(entry.pack() for entry in make_index(path)), 0o640)
