"""Sealing: records, their encoding, chain and keys. Gateway, relay and verifier share it."""

from __future__ import annotations

from edge.seal.catalogue import (
    CataloguePart,
    EncodedCatalogue,
    Identities,
    KnownDevice,
    catalogue_digest,
    encode_identities,
    join_catalogue,
)
from edge.seal.cbor import Unknown
from edge.seal.chain import Chain, ChainRules, Origin, RecordTooLarge
from edge.seal.codec import Payload, decode, decode_frame, encode
from edge.seal.cose import Envelope, parse
from edge.seal.counter import EpochCounter, FileCounter, MemoryCounter
from edge.seal.data import Data, encode_data
from edge.seal.keys import (
    IdentityKey,
    PublicKey,
    create_identity,
    keep_public,
    load_identity_file,
    load_or_create_identity,
    public_path_of,
)
from edge.seal.payloads import (
    BufferState,
    Checkpoint,
    ConfigChange,
    Epoch,
    EpochReason,
    Event,
    Gap,
    KeyChange,
    Loss,
    LossReason,
    Severity,
    Stop,
    StopReason,
    TimeChange,
)
from edge.seal.record import (
    MAX_RECORD_BYTES,
    Encoding,
    Garbage,
    Head,
    Malformed,
    Record,
    RecordType,
    issuer_of,
)

__all__ = [
    "MAX_RECORD_BYTES",
    "BufferState",
    "CataloguePart",
    "Chain",
    "ChainRules",
    "Checkpoint",
    "ConfigChange",
    "Data",
    "EncodedCatalogue",
    "Encoding",
    "Envelope",
    "Epoch",
    "EpochCounter",
    "EpochReason",
    "Event",
    "FileCounter",
    "Gap",
    "Garbage",
    "Head",
    "Identities",
    "IdentityKey",
    "KeyChange",
    "KnownDevice",
    "Loss",
    "LossReason",
    "Malformed",
    "MemoryCounter",
    "Origin",
    "Payload",
    "PublicKey",
    "Record",
    "RecordTooLarge",
    "RecordType",
    "Severity",
    "Stop",
    "StopReason",
    "TimeChange",
    "Unknown",
    "catalogue_digest",
    "create_identity",
    "decode",
    "decode_frame",
    "encode",
    "encode_data",
    "encode_identities",
    "issuer_of",
    "join_catalogue",
    "keep_public",
    "load_identity_file",
    "load_or_create_identity",
    "parse",
    "public_path_of",
]  # fmt: skip
