"""Retention: removes day files that are old or too many, and leaves what the chain needs and a signed statement.

Theory of operation.

A day file is removed whole, and only if all of this holds:

    it is over         never the newest file of a gateway
    it is due          by its age, or as the oldest one while the archive is larger than it may be. What arrived before
                       2020, when the clock was not set yet, is as old as the next file
    it is verified     each record is the one that was verified when it arrived (its hash is in the index), the verifier
                       holds all places, and no place has two histories
    nothing holds it   no file `hold` lies in the archive or in the folder of the gateway

What stays in the file is what later records need to be verified and read: each EPOCH, the last session key, the last
identity signature and the last record of each run, each catalogue once, and LOSS. The statement names all other places.

    signature, statement    durable before anything is removed: about records that are still here it is harmless, and
                            the next round finds the file as it was
    file replaced           whole, or not at all
    index replaced          after a crash before it, the old one still has the hashes of what was there
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from edge.files import replace_file
from edge.relay.archive import day_ns, days, gateways, intact_entries, make_index, pieces
from edge.relay.removals import BadStatement, RemovedRange, Statement, load, signature_of, statement_of
from edge.seal import Garbage, RecordType, parse
from edge.seal.signed_file import FileSigner
from edge.units import format_duration, format_size, format_utc

HOLD = "hold"

_DAY_NS = 86_400 * 10**9
_CLOCK_IS_SET = "2020-01-01"
_INTRODUCING = (RecordType.EPOCH, RecordType.KEY, RecordType.CHECKPOINT)
_ALWAYS_KEPT = (RecordType.EPOCH, RecordType.LOSS)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPlan:
    """How long records are kept.

    Attributes:
        age_ns: after the end of a day its file is kept so long; None without a limit.
        size_bytes: most bytes of the day files of all gateways; None without a limit.
        signer: signs the statements, for relay `relay`.
    """

    relay: str
    signer: FileSigner
    age_ns: int | None = None
    size_bytes: int | None = None


class Due(NamedTuple):
    """A day file that is due, and the rule by which it is."""

    path: Path
    rule: str


class Place(NamedTuple):
    """A record of a day file."""

    seq: int
    type: RecordType
    offset: int
    length: int
    hash: bytes


class NotRemovable(ValueError):
    """A day file that is kept although it is due, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a day file holds: its runs of places by chain, and the bytes of it that stay."""

    path: Path
    size_bytes: int
    sha256: str
    records: int
    runs: list[tuple[bytes, int, int]]
    ranges: tuple[RemovedRange, ...]
    kept: tuple[tuple[int, int], ...]


def due(directory: Path, plan: RetentionPlan, now_ns: int) -> list[Due]:
    """The day files to remove by now, oldest first; never the newest of a gateway, and none that is held."""
    if (directory / HOLD).exists():
        return []
    found = []
    files = [path for name in gateways(directory) for path in days(directory / name)]
    newest = {days(path.parent)[-1] for path in files}
    over_ns = {
        path: day_ns(path.stem) + _DAY_NS if path.stem >= _CLOCK_IS_SET else day_ns(following.stem)
        for path, following in pairwise(files)
    }
    total_bytes = sum(path.stat().st_size for path in files)
    for path in sorted(files, key=lambda each: each.stem):
        if path in newest or (path.parent / HOLD).exists() or _is_removed(path):
            continue
        size_bytes = path.stat().st_size
        if plan.age_ns is not None and over_ns[path] + plan.age_ns <= now_ns:
            found.append(Due(path, f"older than {format_duration(plan.age_ns)}"))
        elif plan.size_bytes is not None and total_bytes > plan.size_bytes:
            found.append(Due(path, f"the archive was larger than {format_size(plan.size_bytes)}"))
        else:
            continue
        total_bytes -= size_bytes
    return found


def _is_removed(path: Path) -> bool:
    """Whether what was to be removed from a file is: a crash may have come between the statement and that."""
    try:
        return load(statement_of(path)).size_bytes != path.stat().st_size
    except BadStatement:
        return False


def examine(path: Path) -> Content:
    """What a day file holds. Raises NotRemovable where it is not what was verified when it arrived, and OSError."""
    indexed = {entry.offset: entry for entry in intact_entries(path.with_suffix(".idx").read_bytes())}
    by_chain: defaultdict[bytes, list[Place]] = defaultdict(list)
    catalogues: dict[bytes, int] = {}  # The last offset of each payload.
    count = 0
    for piece in pieces(path):
        if piece.data is None:
            raise NotRemovable(f"{piece.length} bytes from offset {piece.offset} are no record")
        digest, known = hashlib.sha256(piece.data).digest(), indexed.get(piece.offset)
        if known is None or known.hash != digest:
            raise NotRemovable(f"the record at offset {piece.offset} is not the one that was verified when it arrived")
        try:
            frame = parse(piece.data)
        except Garbage:
            raise NotRemovable(f"the bytes at offset {piece.offset} are no record") from None
        by_chain[frame.epoch].append(Place(frame.seq, frame.type, piece.offset, piece.length, digest))
        if frame.type is RecordType.CATALOG:
            catalogues[hashlib.sha256(frame.payload).digest()] = piece.offset
        count += 1
    kept: set[tuple[int, int]] = set()
    runs: list[tuple[bytes, int, int]] = []
    ranges: list[RemovedRange] = []
    for epoch, places in by_chain.items():
        for run in _runs(sorted(places)):
            runs.append((epoch, run[0].seq, run[-1].seq))
            stay = _kept_of(run, set(catalogues.values()))
            kept |= {(each.offset, each.length) for each in stay}
            ranges += _ranges(epoch.hex(), run, stay)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Content(
        path=path, size_bytes=path.stat().st_size, sha256=sha256, records=count, runs=runs, ranges=tuple(ranges),
        kept=tuple(sorted(kept)),
    )  # fmt: skip


def _runs(places: list[Place]) -> Iterator[list[Place]]:
    run = places[:1]
    for before, place in pairwise(places):
        if place.seq == before.seq:
            raise NotRemovable(f"seq {place.seq} is there twice")
        if place.seq != before.seq + 1:
            yield run
            run = []
        run.append(place)
    yield run


def _kept_of(run: list[Place], catalogues: set[int]) -> set[Place]:
    """The last record, key and identity signature of a run, and what is needed to read later records."""
    introducing = [each for each in run if each.type in _INTRODUCING]
    by_identity = [each for each in run if each.type.is_identity_signed]
    always = [each for each in run if each.type in _ALWAYS_KEPT or each.offset in catalogues]
    return {run[-1], *introducing[-1:], *by_identity[-1:], *always}


def _ranges(epoch: str, run: list[Place], stay: set[Place]) -> Iterator[RemovedRange]:
    first: Place | None = None
    for place, following in pairwise(run):  # The last one always stays.
        if place in stay:
            continue
        first = first or place
        if following in stay:
            yield RemovedRange(epoch=epoch, first=first.seq, last=place.seq, hash=place.hash.hex())
            first = None


def remove(content: Content, rule: str, plan: RetentionPlan, now_ns: int) -> Statement:
    """Remove what need not stay of a day file, after it was stated. Raises OSError; the next round does the rest."""
    path = content.path
    statement = Statement(
        relay=plan.relay, gateway=path.parent.name, file=path.name, size_bytes=content.size_bytes,
        sha256=content.sha256, removed_at=format_utc(now_ns), rule=rule,
        records=content.records - len(content.kept), kept=len(content.kept), ranges=content.ranges,
    )  # fmt: skip
    with path.open("rb") as file:
        stay = b"".join(os.pread(file.fileno(), length, offset) for offset, length in content.kept)
    said = statement_of(path)
    replace_file(signature_of(said), plan.signer.sign(statement.encode()), 0o640)
    replace_file(said, statement.encode(), 0o640)
    replace_file(path, stay, 0o640)
    replace_file(path.with_suffix(".idx"), b"".join(entry.pack() for entry in make_index(path)), 0o640)
    return statement
