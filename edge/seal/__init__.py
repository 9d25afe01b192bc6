"""Sealing and verifying: records, chain, keys, verdicts. Pure: shared by gateway, relay and verifier.

What only verifies is imported when it is first used: a gateway never does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from edge.seal.catalogue import CataloguePart, EncodedCatalogue, catalogue_digest, encode_catalogue, join_catalogue
from edge.seal.chain import Chain, ChainRules, Origin, RecordTooLarge
from edge.seal.codec import Payload, decode, decode_data, encode
from edge.seal.data import Data, encode_data
from edge.seal.frame import Frame, parse, split
from edge.seal.identities import Identities, KnownDevice, encode_identities
from edge.seal.identity import (
    Counter,
    FileCounter,
    IdentityKey,
    MemoryCounter,
    load_identity_file,
    load_or_create_identity,
    public_path_of,
)
from edge.seal.keys import PublicKey
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

if TYPE_CHECKING:
    from edge.seal.report import EpochReport, Report
    from edge.seal.trust import Trust
    from edge.seal.verdicts import Absence, Judgement, RangeVerdict, Verdict
    from edge.seal.verifier import Verifier

__all__ = [
    "MAX_RECORD_BYTES", "Absence", "BufferState", "CataloguePart", "Chain", "ChainRules", "Checkpoint",
    "ConfigChange", "Counter", "Data", "EncodedCatalogue", "Encoding", "Epoch", "EpochReason", "EpochReport", "Event",
    "FileCounter", "Frame", "Gap", "Garbage", "Head", "Identities", "IdentityKey", "Judgement", "KeyChange",
    "KnownDevice", "Loss", "LossReason", "Malformed", "MemoryCounter", "Origin", "Payload", "PublicKey",
    "RangeVerdict", "Record", "RecordTooLarge", "RecordType", "Report", "Severity", "Stop", "StopReason",
    "TimeChange", "Trust", "Verdict", "Verifier", "catalogue_digest", "decode", "decode_data", "encode",
    "encode_catalogue", "encode_data", "encode_identities", "issuer_of", "join_catalogue", "load_identity_file",
    "load_or_create_identity", "parse", "public_path_of", "split",
]  # fmt: skip

_VERIFYING = {
    "report": ("EpochReport", "Report"),
    "trust": ("Trust",),
    "verdicts": ("Absence", "Judgement", "RangeVerdict", "Verdict"),
    "verifier": ("Verifier",),
}


def __getattr__(name: str) -> object:
    for module, names in _VERIFYING.items():
        if name in names:
            value: object = getattr(import_module(f"edge.seal.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
