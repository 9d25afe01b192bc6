"""The watermark: how far a reader in another process may read.

It is written through the page cache after each sync, and never synced itself: after a power cut it is stale, which
only means that a reader waits for the writer to start. The file is not mapped into memory, because a process that
touches a mapped page of a failed disk is killed.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from edge.buffer.disk import Disk, File

WATERMARK = "mark"
_LAYOUT = struct.Struct("<4sIQQ16s")
_BODY = struct.Struct("<QQ16s")
_CHECKED_FROM = 8


class Watermark(NamedTuple):
    """Records below `durable_end` are on disk, numbers below `used_end` are assigned, as of the boot `boot_id`."""

    durable_end: int = 0
    used_end: int = 0
    boot_id: bytes = bytes(16)


def read_watermark(file: File) -> Watermark | None:
    """The watermark, or None where it is not intact, for instance while it is being written."""
    image = file.read_at(0, _LAYOUT.size)
    if len(image) < _LAYOUT.size:
        return None
    magic, crc, durable_end, used_end, boot_id = _LAYOUT.unpack(image)
    if magic != b"MRK1" or zlib.crc32(image[_CHECKED_FROM:]) != crc:
        return None
    return Watermark(durable_end, used_end, boot_id)


def load_watermark(disk: Disk) -> Watermark:
    """The watermark of the last writer; zeros where it cannot be read."""
    try:
        file = disk.open(WATERMARK)
    except OSError:
        return Watermark()
    try:
        return read_watermark(file) or Watermark()
    except OSError:
        return Watermark()
    finally:
        file.close()


class WatermarkWriter:
    """Publishes the watermark. A disk that refuses it delays readers in other processes, and nothing else."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._file: File | None = None

    def publish(self, watermark: Watermark) -> None:
        """Write the watermark; has no effect while the disk refuses."""
        body = _BODY.pack(*watermark)
        try:
            if self._file is None or not self._file.is_linked():
                self.close()
                self._file = self._open()
            self._file.write_at(0, b"MRK1" + struct.pack("<I", zlib.crc32(body)) + body)
        except OSError:
            self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> File:
        try:
            return self._disk.open(WATERMARK, writable=True)
        except FileNotFoundError:
            return self._disk.create(WATERMARK)
