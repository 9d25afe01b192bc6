"""Records that cannot be judged yet: durable beside the archive, until they enter it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cbor2

from edge.files import replace_file, sync_directory

_SMALLEST_REWRITE_BYTES = 1 << 20


class ReceivedMessage(NamedTuple):
    """A message of the broker, and UTC of its arrival."""

    topic: str
    data: bytes
    arrived_ns: int


class Waiting:
    """A CBOR sequence of [arrived ns, topic, bytes]; how much waits is limited by the verifier.

    What was taken stays in the file until that is rewritten: at the next start it is a duplicate of a record in the
    archive. Raises OSError where the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._messages: dict[bytes, ReceivedMessage] = {}
        self._pending: list[bytes] = []
        self._file_bytes = self._waiting_bytes = 0
        self._handle: int | None = None
        self._stored = path.read_bytes() if path.exists() else b""
        self._is_to_rewrite = bool(self._stored)

    def __len__(self) -> int:
        return len(self._messages)

    def __contains__(self, digest: object) -> bool:
        return digest in self._messages

    def stored(self) -> Iterator[ReceivedMessage]:
        """What waited when the relay ended, once; what waits still has to be put again."""
        file, self._stored = io.BytesIO(self._stored), b""
        while True:
            try:
                arrived_ns, topic, data = cbor2.load(file)
            except (EOFError, ValueError, TypeError, cbor2.CBORDecodeError):
                return  # The end was torn: it was never acknowledged.
            yield ReceivedMessage(topic, data, arrived_ns)

    def on_topic(self, prefix: str) -> dict[bytes, ReceivedMessage]:
        """What waits and came on a topic that begins so, by hash."""
        return {digest: each for digest, each in self._messages.items() if each.topic.startswith(prefix)}

    def put(self, digest: bytes, message: ReceivedMessage) -> None:
        """Hold a message for the next sync."""
        self._messages[digest] = message
        item = _item(message)
        self._pending.append(item)
        self._waiting_bytes += len(item)

    def take(self, digest: bytes) -> ReceivedMessage:
        """Take a message out: it is in the archive once that is synced, or refused."""
        message = self._messages.pop(digest)
        self._waiting_bytes -= len(_item(message))
        return message

    def sync(self) -> None:
        """Make what waits durable, after the archive; after an OSError it may be repeated."""
        kept_bytes = max(2 * self._waiting_bytes, _SMALLEST_REWRITE_BYTES) if self._messages else 0
        if self._is_to_rewrite or self._file_bytes > kept_bytes:
            self._rewrite()
        elif self._pending and self._messages:
            self._append(b"".join(self._pending))
        self._pending.clear()

    def _append(self, data: bytes) -> None:
        if self._handle is None:
            self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
            sync_directory(self.path.parent)
        written = 0
        while written < len(data):
            written += os.pwrite(self._handle, data[written:], self._file_bytes + written)
        os.fdatasync(self._handle)
        self._file_bytes += len(data)

    def _rewrite(self) -> None:
        """Leave out what was taken."""
        self.close()
        replace_file(self.path, b"".join(map(_item, self._messages.values())), 0o640)
        self._file_bytes, self._is_to_rewrite = self._waiting_bytes, False

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _item(message: ReceivedMessage) -> bytes:
    return cbor2.dumps([message.arrived_ns, message.topic, message.data])
