"""Records on a medium that is carried by hand: `GATEWAY/EPOCH-FIRST-LAST.rec`, and their checksums beside them.

A file is a CBOR sequence of neighbouring records of one chain. It gets its name once it is durable, so that a medium
that was pulled out has whole files; `SHA256SUMS` has the form of sha256sum. Nothing on a medium is believed: the
records prove themselves.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from edge.files import make_directory, replace_file
from edge.intervals import IntervalSet
from edge.relay.archive import is_gateway_name
from edge.seal import Garbage, parse
from edge.seal.record import ISSUER_PREFIX

SUMS = "SHA256SUMS"
_FILE_BYTES = 16 * 2**20
_NAME = re.compile(r"([0-9a-f]{16})-(\d{1,20})-(\d{1,20})\.rec")


class Written(NamedTuple):
    """How much was written."""

    records: int = 0
    size_bytes: int = 0


class RecordFile(NamedTuple):
    """A file of records on a medium: of a gateway, and which of them it has by its name."""

    path: Path
    gateway: str
    epoch: bytes
    first: int
    last: int


def record_files(medium: Path) -> list[RecordFile]:
    """The files on a medium, gateway after gateway, in the order in which a chain was sealed."""
    found = []
    for path in sorted(medium.glob("*/*.rec")):
        name = _NAME.fullmatch(path.name)
        if name and is_gateway_name(path.parent.name):
            found.append(
                RecordFile(path, path.parent.name, bytes.fromhex(name[1]), int(name[2]), int(name[3]))
            )  # fmt: skip
    # Chains in the order in which they were written: their names say nothing of it.
    begun: dict[tuple[str, bytes], float] = {}
    for each in found:
        written_s = each.path.stat().st_mtime
        begun[each.gateway, each.epoch] = min(written_s, begun.get((each.gateway, each.epoch), written_s))
    return sorted(found, key=lambda each: (each.gateway, begun[each.gateway, each.epoch], each.epoch, each.first))


def held(medium: Path) -> defaultdict[tuple[str, bytes], IntervalSet]:
    """Which records a medium has, by gateway and chain."""
    found: defaultdict[tuple[str, bytes], IntervalSet] = defaultdict(IntervalSet)
    for each in record_files(medium):
        found[each.gateway, each.epoch].add(each.first, each.last)
    return found


def write(medium: Path, records: Iterable[bytes]) -> Iterator[Written]:
    """Write those records that the medium does not have; gives how much, after each file. Raises OSError."""
    already = held(medium)
    draft: _Draft | None = None
    for data in records:
        try:
            frame = parse(data)
        except Garbage:
            continue  # The buffer damaged it: it is missing, and said so by whoever verifies.
        gateway = frame.issuer.removeprefix(ISSUER_PREFIX)
        if frame.seq in already[gateway, frame.epoch]:
            continue
        if draft is not None and not draft.continues(gateway, frame.epoch, frame.seq):
            yield draft.close()
            draft = None
        if draft is None:
            draft = _Draft(medium, gateway, frame.epoch, frame.seq)
        draft.add(data)
    if draft is not None:
        yield draft.close()


class _Draft:
    """The next file of a medium, which is in memory until it is whole."""

    def __init__(self, medium: Path, gateway: str, epoch: bytes, first: int) -> None:
        self._folder, self._gateway, self._epoch, self._first = medium / gateway, gateway, epoch, first
        self._records: list[bytes] = []
        self._size_bytes = 0

    def continues(self, gateway: str, epoch: bytes, seq: int) -> bool:
        """Whether a record comes next in this file."""
        is_next = (gateway, epoch, seq) == (self._gateway, self._epoch, self._first + len(self._records))
        return is_next and self._size_bytes < _FILE_BYTES

    def add(self, data: bytes) -> None:
        """Take the next record."""
        self._records.append(data)
        self._size_bytes += len(data)

    def close(self) -> Written:
        """Make it a file, and put its checksum on the list."""
        make_directory(self._folder)
        last = self._first + len(self._records) - 1
        data = b"".join(self._records)
        path = self._folder / f"{self._epoch.hex()}-{self._first}-{last}.rec"
        replace_file(path, data, 0o644)
        sums = {**checksums(self._folder), path.name: hashlib.sha256(data).hexdigest()}
        text = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
        replace_file(self._folder / SUMS, text.encode(), 0o644)
        return Written(len(self._records), len(data))


def checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a gateway, by its name, as the list says."""
    try:
        lines = (folder / SUMS).read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return {}
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def is_whole(file: RecordFile, sums: Mapping[str, str]) -> bool:
    """Whether a file is that on the list; one that is not on it was written just before a power cut. Raises OSError."""
    digest = sums.get(file.path.name)
    with file.path.open("rb") as content:
        return digest is None or digest == hashlib.file_digest(content, "sha256").hexdigest()
