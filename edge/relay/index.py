"""The index beside each day file: one entry of 64 bytes per record, rebuilt from the records when in doubt."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

ENTRY_BYTES = 64

_BODY = struct.Struct("<8sQQI32s")
_FIELDS = np.dtype([("epoch", "<u8"), ("seq", "<u8"), ("rest", "V48")])
_CRC = struct.Struct("<I")


class Entry(NamedTuple):
    """Where a record lies in the day file, and its SHA-256."""

    epoch: bytes
    seq: int
    offset: int
    length: int
    hash: bytes

    @property
    def end(self) -> int:
        """Offset of the first byte behind the record."""
        return self.offset + self.length

    def pack(self) -> bytes:
        """The entry as it is stored, little endian, with its CRC-32."""
        body = _BODY.pack(*self)
        return body + _CRC.pack(zlib.crc32(body))


def unpack(data: bytes) -> Entry | None:
    """The entry in these 64 bytes; None when they are damaged."""
    body = data[: _BODY.size]
    if len(data) != ENTRY_BYTES or _CRC.unpack_from(data, _BODY.size)[0] != zlib.crc32(body):
        return None
    return Entry(*_BODY.unpack(body))


def intact(data: bytes) -> list[Entry]:
    """The entries up to the first that is damaged or does not follow on the one before."""
    entries: list[Entry] = []
    end = 0
    for at in range(0, len(data), ENTRY_BYTES):
        entry = unpack(data[at : at + ENTRY_BYTES])
        if entry is None or entry.offset < end:
            break
        entries.append(entry)
        end = entry.end
    return entries


def find(path: Path, epoch: bytes, seq: int) -> set[bytes]:
    """The hashes that an index gives for one place of a chain."""
    count = path.stat().st_size // ENTRY_BYTES if path.exists() else 0
    if not count:
        return set()
    entries = np.memmap(path, _FIELDS, "r", shape=(count,))
    at = np.flatnonzero((entries["seq"] == seq) & (entries["epoch"] == int.from_bytes(epoch, "little")))
    found = [unpack(entries[place].tobytes()) for place in at.tolist()]
    return {entry.hash for entry in found if entry}
