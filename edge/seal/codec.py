"""Payloads to bytes and back, with compression that is bounded on the way back."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import zstandard

from edge.seal import cbor
from edge.seal.calibrations import Calibrations
from edge.seal.catalogue import CataloguePart, Identities, catalog_from_cbor
from edge.seal.cbor import U64, Unknown
from edge.seal.cose import Envelope
from edge.seal.data import Data, data_from_cbor
from edge.seal.payloads import Checkpoint, ConfigChange, Context, Epoch, Event, Gap, KeyChange, Loss, Stop, TimeChange
from edge.seal.record import MAX_PAYLOAD_BYTES, Encoding, Malformed, RecordType

Sealable = Epoch | KeyChange | Checkpoint | Event | Loss | Gap | TimeChange | ConfigChange | Stop | Context


@dataclass(frozen=True, slots=True)
class LaterContent:
    """The payload of a record type, or of a form of one that was added, that only a later version knows."""

    members: Mapping[int, object]


Payload = Sealable | Data | CataloguePart | Identities | Calibrations | LaterContent


def encode(payload: Sealable) -> bytes:
    """The bytes of a payload, as they are sealed."""
    return cbor.encode(payload.to_cbor())


def decode(kind: RecordType, payload: bytes, unknown: Unknown | None = None, *, is_verified: bool = False) -> Payload:
    """The content of an uncompressed payload; `unknown` collects what only a later version knows.

    With `is_verified` it is of a record that was verified before, which makes it cheaper.

    Raises:
        Malformed: what is known does not have its format, or the payload is not in deterministic encoding.
    """
    unknown = Unknown() if unknown is None else unknown
    value = cbor.decode(payload, is_verified=is_verified)
    reader = _READERS.get(kind)
    content = _later(kind, value, unknown) if reader is None else reader(value, unknown)
    if unknown.words:
        cbor.check_depth(value)
    return content


def _context(value: object, unknown: Unknown) -> Context | LaterContent:
    try:
        return Context.from_cbor(value, unknown)
    except Malformed:  # A reader that does not know this type accepts any map.
        return _later(RecordType.CONTEXT, value, unknown)


def _later(kind: RecordType, value: object, unknown: Unknown) -> LaterContent:
    if type(value) is not dict or any(type(key) is not int or not 1 <= key <= U64[1] for key in value):
        raise Malformed("a map of fields with numbers from 1 was expected")
    unknown.skip(f"record type {int(kind)}", value)
    return LaterContent(value)


_READERS: dict[int, Callable[[object, Unknown], Payload]] = {
    RecordType.DATA: data_from_cbor,
    RecordType.CATALOG: catalog_from_cbor,
    RecordType.CONTEXT: _context,
    **{kind.type: kind.from_cbor for kind in (Epoch, KeyChange, Checkpoint, Event, Loss, Gap, TimeChange,
                                              ConfigChange, Stop)},
}  # fmt: skip


def decode_frame(frame: Envelope, unknown: Unknown | None = None, *, is_verified: bool = False) -> Payload:
    """The content of a record's payload, as `decode` gives it. Raises Malformed."""
    return decode(frame.type, unpack(frame.payload, frame.enc), unknown, is_verified=is_verified)


WORTH_PACKING_BYTES = 64
ENC_HEADER_BYTES = 6


class _Zstd(threading.local):
    """zstd contexts, one of each per thread: they are expensive to make and not thread-safe."""

    def __init__(self) -> None:
        # No checksum: the signature covers the bytes.
        self.packer = zstandard.ZstdCompressor(level=1, write_checksum=False)
        self.unpacker = zstandard.ZstdDecompressor(max_window_size=MAX_PAYLOAD_BYTES)


_zstd = _Zstd()


def pack(payload: bytes, wanted: Encoding) -> tuple[Encoding, bytes]:
    """The payload compressed as wanted, or plain where compression does not make it shorter."""
    if wanted is Encoding.PLAIN or len(payload) < WORTH_PACKING_BYTES:
        return Encoding.PLAIN, payload
    packed = zlib.compress(payload, 1) if wanted is Encoding.ZLIB else _zstd.packer.compress(payload)
    shorter = len(packed) + ENC_HEADER_BYTES < len(payload)
    return (wanted, packed) if shorter else (Encoding.PLAIN, payload)


def unpack(payload: bytes, enc: Encoding) -> bytes:
    """The payload before compression.

    Raises:
        Malformed: not exactly one whole stream, or one of more than the allowed size.
    """
    if enc is Encoding.PLAIN:
        return payload
    try:
        return _unzlib(payload) if enc is Encoding.ZLIB else _unzstd(payload)
    except (zlib.error, zstandard.ZstdError) as error:
        raise Malformed(f"payload does not unpack within {MAX_PAYLOAD_BYTES} bytes: {error}") from error


def _unzlib(payload: bytes) -> bytes:
    stream = zlib.decompressobj()
    unpacked = stream.decompress(payload, MAX_PAYLOAD_BYTES)
    if not stream.eof or stream.unused_data:
        raise Malformed(f"payload is not exactly one zlib stream of at most {MAX_PAYLOAD_BYTES} bytes")
    return unpacked


def _unzstd(payload: bytes) -> bytes:
    # The library allocates the size that a frame states, whatever its own limit.
    if zstandard.frame_content_size(payload) > MAX_PAYLOAD_BYTES:
        raise Malformed(f"payload unpacks to more than {MAX_PAYLOAD_BYTES} bytes")
    return _zstd.unpacker.decompress(payload, max_output_size=MAX_PAYLOAD_BYTES, allow_extra_data=False)
