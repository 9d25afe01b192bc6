"""Places whose verdict changed after their record was archived: the sinks look at them again.

Per gateway one file of 16 bytes a place, which only grows: a chain of 8 bytes and a number, little endian. It says
where to look and not what to find, so that a place may be in it twice, or in vain.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import numpy as np

from edge.files import sync_directory

CHANGES = "changed"
PLACE = np.dtype([("epoch", "<u8"), ("seq", "<u8")])


class Changes:
    """Written by the archive's thread; what is noted is durable after `sync`, which may be repeated."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pending: defaultdict[str, list[bytes]] = defaultdict(list)

    def note(self, gateway: str, epoch: bytes, seq: int) -> None:
        """The verdict on what is archived at a place changed."""
        self._pending[gateway].append(epoch + seq.to_bytes(8, "little"))

    def sync(self) -> None:
        """Make everything noted durable. Raises OSError."""
        while self._pending:
            gateway, places = next(iter(self._pending.items()))
            folder = self._directory / gateway
            if folder.is_dir():  # Else nothing of it is archived.
                _append(folder / CHANGES, b"".join(places))
            del self._pending[gateway]


def _append(path: Path, data: bytes) -> None:
    is_new = not path.exists()
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        end = os.fstat(handle).st_size // PLACE.itemsize * PLACE.itemsize  # What a crash tore is written over.
        written = 0
        while written < len(data):
            written += os.pwrite(handle, data[written:], end + written)
        os.fdatasync(handle)
    finally:
        os.close(handle)
    if is_new:
        sync_directory(path.parent)
