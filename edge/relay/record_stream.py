"""Cut a CBOR sequence (RFC 8742) into records, and find the next record after damage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

RECORD_BYTES_LIMIT = 65_535

_START = b"\xd2\x84"  # Tag 18 and an array of four: how every COSE_Sign1 begins (RFC 9052, section 4.2).
_NO_HEADERS = b"\xa0"
_SIGNATURE = b"\x58\x40"
_CHUNK_BYTES = 1 << 20


class Piece(NamedTuple):
    """A stretch of a file: the bytes of one record, or None for bytes that are not a record."""

    offset: int
    length: int
    data: bytes | None

    @property
    def end(self) -> int:
        """Offset of the first byte after it."""
        return self.offset + self.length


def split(file: BinaryIO, offset: int = 0) -> Iterator[Piece]:
    """Every record of a file from `offset` on, in order, and every stretch between them that is not a record.

    Only lengths are followed: whether a record is well formed is for the verifier to say.
    """
    file.seek(offset)
    data, at, damage_from, is_end = b"", 0, -1, False
    while True:
        if len(data) - at <= 2 * RECORD_BYTES_LIMIT and not is_end:
            chunk = file.read(_CHUNK_BYTES)
            data, offset, at, is_end = data[at:] + chunk, offset + at, 0, not chunk
            continue
        end = _record_end(data, at)
        if end or at == len(data):
            if damage_from >= 0:
                yield Piece(damage_from, offset + at - damage_from, None)
                damage_from = -1
            if not end:
                return
            yield Piece(offset + at, end - at, data[at:end])
            at = end
            continue
        if damage_from < 0:
            damage_from = offset + at
        found = data.find(_START, at + 1)
        at = found if found >= 0 else len(data) if is_end else len(data) - 1


def _record_end(data: bytes, at: int) -> int:
    """Where the record that starts at `at` ends; 0 where no record starts, or it was cut short."""
    start = at
    if not data.startswith(_START, at):
        return 0
    at = _skip_bytes(data, at + 2)
    if not at or data[at : at + 1] != _NO_HEADERS:
        return 0
    at = _skip_bytes(data, at + 1)
    # A damaged length leads into the middle of something else: there is no signature of 64 bytes there.
    if not at or data[at : at + 2] != _SIGNATURE:
        return 0
    at = _skip_bytes(data, at)
    return at if at - start <= RECORD_BYTES_LIMIT else 0


def _skip_bytes(data: bytes, at: int) -> int:
    """The offset after a byte string of less than 64 kB; 0 where there is no such string."""
    head = data[at] if at < len(data) else 0
    if 0x40 <= head <= 0x57:
        at += 1 + head - 0x40
    elif head == 0x58:
        at += 2 + int.from_bytes(data[at + 1 : at + 2])
    elif head == 0x59:
        at += 3 + int.from_bytes(data[at + 1 : at + 3])
    else:
        return 0
    return at if at <= len(data) else 0
