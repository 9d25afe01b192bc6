"""The frame of a record in a segment: "REC1", length, checksum, seq, bytes.

The checksum covers epoch, seq and bytes, so that a frame left from an earlier use of the file is not taken for one of
this epoch; within an epoch it has a lower seq.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from edge.buffer.disk import File

MAGIC = b"REC1"
HEADER = struct.Struct("<4sIIQ")
RECORD_BYTES_LIMIT = 65_535
WINDOW_BYTES = 1 << 20
_PAGE_BYTES = 4096
_SEQ = struct.Struct("<Q")


class Frame(NamedTuple):
    """A record found in a segment, from byte `start` to byte `end`."""

    seq: int
    start: int
    end: int
    data: bytes


def checksum(epoch: bytes, seq: int, data: bytes) -> int:
    """CRC-32 over epoch, seq and record."""
    return zlib.crc32(data, zlib.crc32(epoch + _SEQ.pack(seq)))


def encode(epoch: bytes, seq: int, data: bytes) -> bytes:
    """The frame of one record."""
    return HEADER.pack(MAGIC, len(data), checksum(epoch, seq, data), seq) + data


def decode(image: bytes, at: int, epoch: bytes) -> Frame | None:
    """The frame at this offset of the image, or None; `start` and `end` are offsets in the image."""
    if len(image) - at < HEADER.size:
        return None
    magic, length, crc, seq = HEADER.unpack_from(image, at)
    start = at + HEADER.size
    end = start + length
    if magic != MAGIC or length > RECORD_BYTES_LIMIT or end > len(image):
        return None
    data = image[start:end]
    return Frame(seq, at, end, data) if checksum(epoch, seq, data) == crc else None


def scan(file: File, epoch: bytes, seq: int, seq_end: int, offset: int = 0) -> Iterator[Frame]:
    """Every intact frame with an ascending seq in [seq, seq_end) from `offset` on; damage is skipped."""
    base, image, is_last = offset, *_window(file, offset)
    at = 0
    while seq < seq_end:
        frame = decode(image, at, epoch)
        if frame is not None and seq <= frame.seq < seq_end:
            yield frame._replace(start=base + frame.start, end=base + frame.end)
            seq, at = frame.seq + 1, frame.end
            continue
        if not is_last and len(image) - at < HEADER.size + RECORD_BYTES_LIMIT:
            base, (image, is_last) = base + at, _window(file, base + at)
            at = 0
            continue
        found = _find_magic(image, at + 1)
        if found < 0 and is_last:
            return
        # The last bytes of a window may begin a magic that the next window completes.
        at = found if found >= 0 else max(at + 1, len(image) - len(MAGIC) + 1)


def _find_magic(image: bytes, at: int) -> int:
    """The offset of the next magic, or -1. Finding its first letter is a hundred times faster, and zeros have none."""
    first = image.find(MAGIC[0], at)
    return image.find(MAGIC, first) if first >= 0 else -1


def _window(file: File, offset: int) -> tuple[bytes, bool]:
    image = read_tolerant(file, offset, WINDOW_BYTES)
    return image, len(image) < WINDOW_BYTES


def read_tolerant(file: File, offset: int, length: int) -> bytes:
    """Read, with zeros for pages that the disk cannot read."""
    try:
        return file.read_at(offset, length)
    except OSError:
        length = max(0, min(length, file.size() - offset))
        return b"".join(_page(file, at, min(_PAGE_BYTES, offset + length - at))
                        for at in range(offset, offset + length, _PAGE_BYTES))  # fmt: skip


def _page(file: File, offset: int, length: int) -> bytes:
    try:
        return file.read_at(offset, length).ljust(length, b"\0")
    except OSError:
        return bytes(length)
