"""Any payload to bytes and back."""

from __future__ import annotations

from collections.abc import Callable

from edge.seal import cbor
from edge.seal.catalogue import CataloguePart
from edge.seal.data import Data, data_from_cbor
from edge.seal.identities import Identities, catalog_from_cbor
from edge.seal.payloads import Checkpoint, ConfigChange, Epoch, Event, Gap, KeyChange, Loss, Stop, TimeChange
from edge.seal.record import RecordType

Sealable = Epoch | KeyChange | Checkpoint | Event | Loss | Gap | TimeChange | ConfigChange | Stop
Payload = Sealable | Data | CataloguePart | Identities

_READERS: dict[RecordType, Callable[[object], Payload]] = {
    RecordType.DATA: data_from_cbor,
    RecordType.CATALOG: catalog_from_cbor,
    **{kind.type: kind.from_cbor for kind in (Epoch, KeyChange, Checkpoint, Event, Loss, Gap, TimeChange,
                                              ConfigChange, Stop)},
}  # fmt: skip


def encode(payload: Sealable) -> bytes:
    """The payload as it is sealed."""
    return cbor.encode(payload.to_cbor())


def decode(kind: RecordType, payload: bytes) -> Payload:
    """What a payload says. Raises Malformed for anything that would not be encoded so."""
    return _READERS[kind](cbor.decode(payload))


def decode_data(payload: bytes) -> Data:
    """What a DATA payload says. Raises Malformed."""
    return data_from_cbor(cbor.decode(payload))
