"""Responses to PublishRequests, byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

FORMS = {1: "?", 2: "b", 3: "B", 4: "h", 5: "H", 6: "i", 7: "I", 8: "q", 9: "Q", 10: "f", 11: "d"}
NOW = 133_000_000_000_000_000
SOURCE = 132_000_000_000_000_000
SOURCE_NS = (SOURCE - 116_444_736_000_000_000) * 100


@dataclass(frozen=True)
class Item:
    handle: int
    type: int
    value: object
    status: int | None = None
    source: int | None = SOURCE
    server: int | None = None

    def bytes(self) -> bytes:
        mask = 1 | (2 if self.status is not None else 0) | (4 if self.source else 0) | (8 if self.server else 0)
        parts = [struct.pack("<IBB", self.handle, mask, self.type), self._value()]
        if self.status is not None:
            parts.append(struct.pack("<I", self.status))
        parts += [struct.pack("<q", time) for time in (self.source, self.server) if time]
        return b"".join(parts)

    def _value(self) -> bytes:
        if self.type == 12:
            text = str(self.value).encode()
            return struct.pack("<i", len(text)) + text
        return struct.pack(f"<{FORMS[self.type]}", self.value)


def head(service: int, handle: int = 5, result: int = 0) -> bytes:
    return struct.pack("<BBHqIIBiBBB", 1, 0, service, NOW, handle, result, 0, -1, 0, 0, 0)


def fault(code: int, handle: int = 5) -> bytes:
    return head(397, handle, code)


def message(sequence: int, items: Iterable[Item] | None, status: int | None = None) -> bytes:
    contents = []
    if items is not None:
        listed = list(items)
        body = struct.pack("<i", len(listed)) + b"".join(item.bytes() for item in listed) + struct.pack("<i", -1)
        contents.append(struct.pack("<BBHBi", 1, 0, 811, 1, len(body)) + body)
    if status is not None:
        contents.append(struct.pack("<BBHBiIB", 1, 0, 820, 1, 5, status, 0))
    return struct.pack("<Iqi", sequence, NOW, len(contents)) + b"".join(contents)


def published(
    sequence: int, items: Sequence[Item] | None = None, *, subscription: int = 7, more: bool = False, handle: int = 5,
    status: int | None = None,
) -> bytes:  # fmt: skip
    """A PublishResponse; without items it is a keep-alive."""
    start = struct.pack("<Ii?", subscription, -1, more)
    return head(829, handle) + start + message(sequence, items, status) + struct.pack("<ii", -1, -1)
