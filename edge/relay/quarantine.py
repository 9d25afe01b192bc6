"""What is proven not to be a record of a trusted gateway: kept for inspection within a bound, never archived."""

from __future__ import annotations

from pathlib import Path

import cbor2


class Quarantine:
    """A CBOR sequence of [arrived ns, verdict, reason, topic, bytes]; at half the limit the older half goes."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self.path = path
        self._half_bytes = limit_bytes // 2
        self._file = path.open("ab", buffering=0)

    def put(self, data: bytes, *, verdict: str, reason: str, topic: str, arrived_ns: int) -> None:
        """Keep one message; the oldest make room."""
        item = cbor2.dumps([arrived_ns, verdict, reason, topic, data])
        if self._file.tell() + len(item) > self._half_bytes:
            self._file.close()
            self.path.replace(self.path.with_suffix(".older"))
            self._file = self.path.open("ab", buffering=0)
        self._file.write(item)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()
