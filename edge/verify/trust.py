"""Trust anchors, and the check of a record's signature against the keys that are allowed at its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from edge.errors import ConfigError
from edge.seal.codec import Payload
from edge.seal.cose import Envelope
from edge.seal.keys import PublicKey
from edge.seal.payloads import Checkpoint, Epoch, certificates_of_epoch
from edge.seal.record import ISSUER_PREFIX, Malformed, RecordType
from edge.verify.chain_state import ChainState
from edge.verify.verdicts import Verdict

_EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)
_SUFFIXES = (".pem", ".crt", ".cer")
# What the library raises for certificates that are not well formed; anybody can put one into an EPOCH.
_UNUSABLE = (
    ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, Malformed,
    x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType,
)  # fmt: skip


class Trust:
    """Identity keys that are pinned, and authorities whose certificates vouch for identity keys."""

    def __init__(self) -> None:
        self._pins: dict[bytes, tuple[PublicKey, str | None]] = {}
        self._authorities: list[x509.Certificate] = []

    @classmethod
    def load(cls, paths: Iterable[Path]) -> Trust:
        """From PEM files, or directories of them, each a public key or CA certificates.

        Raises:
            ConfigError: a file is neither, or there is none.
        """
        trust = cls()
        for path in paths:
            files = sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES) if path.is_dir() else [path]
            if not files:
                raise ConfigError(f"trust directory {path} holds no .pem file; put a gateway's public key there")
            for file in files:
                try:
                    trust.add_pem(file.read_bytes(), name=str(file))
                except OSError as error:
                    raise ConfigError(f"trust anchor {file} cannot be read: {error.strerror}") from error
        return trust

    def add_pem(self, pem: bytes, *, name: str = "trust anchor") -> None:
        """Add a PEM: a public key, bound to an issuer by a `Subject:` line above it, or CA certificates."""
        try:
            if b"-----BEGIN CERTIFICATE" in pem:
                self._authorities += x509.load_pem_x509_certificates(pem)
            else:
                self.pin(PublicKey.of(serialization.load_pem_public_key(pem)), _subject(pem))
        except _UNUSABLE:
            raise ConfigError(
                f"trust anchor {name} is neither a P-256 or Ed25519 public key nor a certificate in PEM form; "
                "give the .pub.pem beside the gateway's identity key, or the CA certificate"
            ) from None

    def pin(self, key: PublicKey, issuer: str | None = None) -> None:
        """Trust an identity key, for one issuer or for any."""
        self._pins[key.kid] = (key, issuer)

    def pinned(self, kid: bytes, issuer: str) -> PublicKey | None:
        """The pinned key with this id, where it is allowed to sign for the issuer."""
        key, bound_to = self._pins.get(kid, (None, None))
        return key if bound_to in (None, issuer) else None

    def may_vouch_for(self, issuer: str) -> bool:
        """Whether a pinned key, or a certificate of an authority, can be for this issuer."""
        return bool(self._authorities) or any(bound_to in (None, issuer) for _, bound_to in self._pins.values())

    def is_bound(self, issuer: str) -> bool:
        """Whether a pinned key is for this issuer and no other."""
        return any(bound_to == issuer for _, bound_to in self._pins.values())

    def vouches_for(self, certificates: Sequence[bytes], issuer: str, utc_ns: int) -> str:
        """Why a chain of certificates, leaf first, does not vouch for an issuer at a time; empty when it does."""
        at = _EPOCH_START + timedelta(microseconds=utc_ns // 1000)
        try:
            chain = [x509.load_der_x509_certificate(each) for each in certificates]
            if not chain or issuer not in _names(chain[0]):
                return f"its certificate is not for {issuer}"
            for certificate, above in pairwise(chain):
                certificate.verify_directly_issued_by(above)
            anchors = [anchor for anchor in self._authorities if _has_issued(anchor, chain[-1])]
            if not anchors:
                return "its certificate comes from no trusted authority"
            if not all(_is_authority(each) for each in [*chain[1:], anchors[0]]):
                return "its certificate was issued by one that is no authority"
            is_valid = all(each.not_valid_before_utc <= at <= each.not_valid_after_utc for each in [*chain, anchors[0]])
        except _UNUSABLE:
            return "its certificates do not form a chain"
        return "" if is_valid else f"its certificate was not valid at {at:%Y-%m-%dT%H:%M:%SZ}, the time of the record"


def leaf_key(certificates: Sequence[bytes]) -> PublicKey | None:
    """The key that the first certificate is for."""
    try:
        return PublicKey.of(x509.load_der_x509_certificate(certificates[0]).public_key()) if certificates else None
    except _UNUSABLE:
        return None


def _has_issued(anchor: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(anchor)
    except _UNUSABLE:
        return False
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _names(certificate: x509.Certificate) -> set[str]:
    """The issuers a certificate is for: URIs of its subject alternative name, else its common name as a gateway."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = set(names.get_values_for_type(x509.UniformResourceIdentifier))
    except x509.ExtensionNotFound:
        uris = set()
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return uris or {ISSUER_PREFIX + str(each.value) for each in common}


def _subject(pem: bytes) -> str | None:
    for line in pem.partition(b"-----BEGIN")[0].splitlines():
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"subject":
            return value.strip().decode()
    return None


_public_key = lru_cache(1024)(PublicKey)


class SignatureResult(NamedTuple):
    """A verdict, its reason, whether it is final, and the keys that did not sign the record."""

    verdict: Verdict
    reason: str
    is_final: bool
    keys_tried: tuple[bytes, ...]


def check_signature(
    trust: Trust, chain: ChainState, frame: Envelope, keys_tried: tuple[bytes, ...] = ()
) -> SignatureResult:
    """The verdict that the signature gives; `keys_tried` are keys that are known not to have made it."""
    keys, is_final = allowed_keys(trust, chain, frame)
    if not keys:
        if is_final:
            return SignatureResult(Verdict.UNTRUSTED, "its identity is not among the trust anchors", True, ())
        return SignatureResult(Verdict.UNVERIFIABLE, "its key is not known yet", False, ())
    for key in keys:
        if key.raw not in keys_tried and key.has_signed(frame.alg, frame.signature, frame.signed):
            return SignatureResult(Verdict.AUTHENTIC, "", True, ())
    keys_tried = tuple(key.raw for key in keys)
    if _is_signed_by_another(trust, chain, frame, keys, is_final=is_final):
        return SignatureResult(Verdict.UNTRUSTED, "signed by a key that is not allowed here", is_final, keys_tried)
    if any(key.kid == frame.kid for key in keys):
        return SignatureResult(Verdict.ALTERED, "the signature is not that of the key it names", is_final, keys_tried)
    if is_final:
        return SignatureResult(Verdict.UNTRUSTED, "it names a key that is not allowed here", True, keys_tried)
    return SignatureResult(Verdict.UNVERIFIABLE, "its key is not known yet", False, keys_tried)


def allowed_keys(trust: Trust, chain: ChainState, frame: Envelope) -> tuple[list[PublicKey], bool]:
    """The keys allowed at the place of a record as far as they are known, and whether all others are excluded."""
    if not frame.type.is_identity_signed:
        return list(map(_public_key, chain.keys_at(frame.seq))), chain.is_settled(frame.seq)
    if chain.is_identity_final and chain.identity is not None:
        return [chain.identity], True
    pinned = trust.pinned(frame.kid, frame.issuer)
    if frame.type is RecordType.EPOCH:
        key = pinned or leaf_key(certificates_of_epoch(frame.payload))
        return [key] if key else [], True
    key = chain.identity or pinned
    return [key] if key else [], False


def _is_signed_by_another(
    trust: Trust, chain: ChainState, frame: Envelope, allowed: list[PublicKey], *, is_final: bool
) -> bool:
    def has_signed(key: PublicKey | None) -> bool:
        return key is not None and key not in allowed and key.has_signed(frame.alg, frame.signature, frame.signed)

    if has_signed(chain.identity) or has_signed(trust.pinned(frame.kid, frame.issuer)):
        return True
    # Until the key is settled, one that is known from a later place may be what a missing KEY introduced.
    known = chain.known_key(frame.kid)
    return known is not None and has_signed(known) and (is_final or chain.is_superseded(frame.seq, known.raw))


def refusal(trust: Trust, frame: Envelope, content: Payload) -> tuple[Verdict, str] | None:
    """Why a record with a valid signature is rejected all the same, or None."""
    if isinstance(content, Checkpoint) and (content.size != frame.seq or content.head != frame.prev):
        return Verdict.FORK, "the checkpoint vouches for another chain than its own"
    if isinstance(content, Epoch) and trust.pinned(frame.kid, frame.issuer) is None:
        at_ns = content.time.as_of_ns + content.time.offset_ns
        why = trust.vouches_for(content.certificates, frame.issuer, at_ns)
        return (Verdict.UNTRUSTED, why) if why else None
    return None
