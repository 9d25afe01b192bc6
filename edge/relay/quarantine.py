"""What is proven not to be a record of a trusted gateway: kept for inspection within a bound, never archived."""

from __future__ import annotations

from io import FileIO
from pathlib import Path

import cbor2


class Quarantine:
    """A CBOR sequence of [arrived ns, verdict, reason, topic, bytes]; at half the limit the older half goes.

    What the disk refuses is not kept: it is no record, and it was counted and logged.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self.path = path
        self._half_bytes = limit_bytes // 2
        self._file: FileIO | None = None

    def put(self, data: bytes, *, verdict: str, reason: str, topic: str, arrived_ns: int) -> None:
        """Keep one message; the oldest make room."""
        item = cbor2.dumps([arrived_ns, verdict, reason, topic, data])
        try:
            self._file_for(len(item)).write(item)
        except OSError:
            self.close()

    def _file_for(self, more_bytes: int) -> FileIO:
        file = self._file = self._file or self.path.open("ab", buffering=0)
        if file.tell() + more_bytes <= self._half_bytes:
            return file
        self.close()
        self.path.replace(self.path.with_suffix(".older"))
        file = self._file = self.path.open("ab", buffering=0)
        return file

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            self._file.close()
            self._file = None
