"""The approval in a CONFIG record: who approved the configuration, and the signature by which anybody can see that."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from edge.seal.cbor import Unknown, as_bytes, as_fields, as_text, decode, encode, optional
from edge.seal.record import Malformed

LIMIT_BYTES = 16_000
"""Most bytes in a record; the text of a larger change is left out, and its digest stays."""
_TEXT_LIMIT = 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Who approved a configuration, and what was signed.

    Attributes:
        name: of the signer, with the role and what the signature means.
        fingerprint: of the key, as `ssh-keygen -l` shows it.
        proposed_by: the account that proposed it.
        proposed_at: UTC as RFC 3339.
        digest: of the text, by the hash of the signature.
        signature: an SSHSIG without its armour.
        text: that was signed; empty where it has no room in a record.
    """

    name: str
    role: str
    meaning: str
    fingerprint: str
    proposed_by: str
    proposed_at: str
    digest: bytes
    signature: bytes
    text: bytes = b""

    def to_bytes(self) -> bytes:
        """As the member 7 of a CONFIG record has it."""
        packed = zlib.compress(self.text, 9) if self.text else None
        members = {1: self.name, 2: self.role, 3: self.meaning, 4: self.fingerprint, 5: self.proposed_by,
                   6: self.proposed_at, 7: self.digest, 8: self.signature, 9: packed}  # fmt: skip
        data = encode(members)
        return data if len(data) <= LIMIT_BYTES else encode({**members, 9: None})

    @classmethod
    def from_bytes(cls, data: bytes) -> Approval | None:
        """What the member says; None where it has a form that only a later version knows."""
        try:
            f = as_fields(decode(data), 9, Unknown())
            packed = optional(as_bytes, f[9])
            return cls(
                name=as_text(f[1]), role=as_text(f[2]), meaning=as_text(f[3]), fingerprint=as_text(f[4]),
                proposed_by=as_text(f[5]), proposed_at=as_text(f[6]), digest=as_bytes(f[7]), signature=as_bytes(f[8]),
                text=b"" if packed is None else _unpacked(packed),
            )  # fmt: skip
        except (Malformed, zlib.error):
            return None


def _unpacked(packed: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(packed, _TEXT_LIMIT)
    if not unpacking.eof or unpacking.unused_data:
        raise Malformed("a text was expected")
    return text
