"""Where records to verify come from: an archive, files, or what a caller reads elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge.relay.archive import days, gateways, pieces


class Found(NamedTuple):
    """Bytes of a file: one record, or None for a stretch that is none."""

    file: Path
    offset: int
    length: int
    data: bytes | None


def files(path: Path, gateway: str | None = None) -> list[Path]:
    """The record files behind a path: itself, those of one gateway, or those of a whole archive, oldest first."""
    if path.is_file():
        return [path]
    if own := days(path):
        return own
    names = gateways(path)
    return [file for name in names if gateway in (None, name) for file in days(path / name)]


def records(file: Path) -> Iterator[Found]:
    """The content of a record file, in order; it is streamed."""
    for piece in pieces(file):
        yield Found(file, piece.offset, piece.length, piece.data)
