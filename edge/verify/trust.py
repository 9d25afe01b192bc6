"""Trust anchors, and the check of a record's signature against the keys that are allowed at its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from edge.errors import ConfigError
from edge.seal.codec import Payload
from edge.seal.cose import Envelope
from edge.seal.keys import PublicKey
from edge.seal.payloads import Checkpoint, Epoch, certificates_of_epoch
from edge.seal.record import ISSUER_PREFIX, RELAY_PREFIX, RecordType
from edge.units import format_utc
from edge.verify.anchors import Anchor, of_certificate, of_key, of_list
from edge.verify.authorities import EPOCH_START, UNUSABLE, Authorities, is_authority, leaf_key
from edge.verify.chain_state import ChainState, stated_ns
from edge.verify.verdicts import Verdict

_KINDS = re.compile(rb"-----BEGIN (PUBLIC KEY|CERTIFICATE|X509 CRL)-----|^\x30")
RETIRED = b"Retired"
"""Begins the line above a public key that says from when it is trusted no longer."""

_SUFFIXES = (".pem", ".crt", ".cer", ".crl")

TrustFile = Path | tuple[Path, str | None]
"""A trust file, or a directory of them, and where it is bound to a gateway the name of that."""


class NoTrustFiles(ConfigError):
    """A directory of trust files is empty."""


class Trust:
    """Identity keys that are pinned to a gateway, and authorities whose certificates vouch for identity keys."""

    def __init__(self) -> None:
        self._pins: dict[tuple[bytes, str], PublicKey] = {}
        self._retired_ns: dict[tuple[bytes, str], int] = {}
        self.authorities = Authorities()

    @classmethod
    def load(cls, paths: Iterable[TrustFile]) -> Trust:
        """From files, or directories of them: public keys, CA certificates and revocation lists.

        Raises:
            ConfigError: a file is none of them, a public key is bound to no gateway, or there is no file.
        """
        trust = cls()
        for each in paths:
            path, gateway = (each, None) if isinstance(each, Path) else each
            try:
                files = trust_files(path)
            except OSError as error:
                raise ConfigError(f"trust directory {path} cannot be read: {error.strerror}") from error
            if not files:
                raise NoTrustFiles(f"trust directory {path} holds no .pem file; put a gateway's public key there")
            for file in files:
                try:
                    trust.add_pem(file.read_bytes(), name=str(file), gateway=gateway)
                except OSError as error:
                    raise ConfigError(f"trust anchor {file} cannot be read: {error.strerror}") from error
        return trust

    def add_pem(self, pem: bytes, *, name: str = "trust anchor", gateway: str | None = None) -> None:
        """Add CA certificates, revocation lists, or a public key that a `Subject:` line above it binds to an issuer.

        Args:
            pem: the file; a single revocation list may be in DER.
            name: of the file, for messages.
            gateway: the only gateway that it counts for. An authority may then use the gateway's common name, and a
                certificate that is no authority's pins its key.

        Raises:
            ConfigError: it cannot be used.
        """
        bound_to = None if gateway is None else ISSUER_PREFIX + gateway
        try:
            if b"-----BEGIN PUBLIC KEY" in pem:
                key, subject = PublicKey.of(serialization.load_pem_public_key(pem)), _above(pem, b"subject")
                self._add_key(key, subject, bound_to, name)
                self._retire(key, subject or bound_to or "", _above(pem, RETIRED.lower()), name)
            if b"-----BEGIN CERTIFICATE" in pem:
                for each in x509.load_pem_x509_certificates(pem):
                    if bound_to is not None and not is_authority(each):
                        self.pin(PublicKey.of(each.public_key()), bound_to)
                    else:
                        self.authorities.add(each, bound_to)
            if b"-----BEGIN X509 CRL" in pem or b"-----BEGIN" not in pem:
                self.authorities.add_lists(pem)
            if not _KINDS.search(pem):
                raise ValueError("another kind of PEM")
        except UNUSABLE:
            raise ConfigError(
                f"trust anchor {name} is neither a P-256 or Ed25519 public key, nor a certificate, nor a revocation "
                "list; give the .pub.pem beside the gateway's identity key, or the CA certificate"
            ) from None

    def _add_key(self, key: PublicKey, subject: str | None, bound_to: str | None, name: str) -> None:
        if subject is None and bound_to is None:
            raise ConfigError(
                f"trust anchor {name} is a public key that is bound to no gateway; give it as GATEWAY={name}, or put "
                f"the line 'Subject: {ISSUER_PREFIX}GATEWAY' above it"
            )
        if None not in (subject, bound_to) and subject != bound_to:
            raise ConfigError(f"trust anchor {name} is the key of {subject}, and is given for {bound_to}")
        self.pin(key, subject or bound_to or "")

    def _retire(self, key: PublicKey, issuer: str, text: str | None, name: str) -> None:
        if text is None:
            return
        try:
            at = datetime.fromisoformat(text).astimezone(UTC) if "T" in text else None
        except ValueError:
            at = None
        if at is None:
            raise ConfigError(
                f"trust anchor {name} is retired at {text!r}, which is no time: write 2026-11-30T12:00:00Z"
            )
        place = key.kid, issuer
        at_ns = (at - EPOCH_START) // timedelta(microseconds=1) * 1000
        self._retired_ns[place] = min(at_ns, self._retired_ns.get(place, at_ns))

    def retired_ns(self, kid: bytes, issuer: str) -> int | None:
        """UTC from when a pinned key is trusted no longer; None while nothing says so."""
        return self._retired_ns.get((kid, issuer))

    def pin(self, key: PublicKey, issuer: str) -> None:
        """Trust an identity key for one issuer."""
        self._pins[key.kid, issuer] = key

    def pinned(self, kid: bytes, issuer: str) -> PublicKey | None:
        """The pinned key with this id, where it is allowed to sign for the issuer."""
        return self._pins.get((kid, issuer))

    def may_vouch_for(self, issuer: str) -> bool:
        """Whether a pinned key, or a certificate of an authority, can be for this issuer."""
        return self.authorities.may_vouch_for(issuer) or self._is_pinned(issuer)

    def is_bound(self, issuer: str) -> bool:
        """Whether a trust anchor is for this issuer and no other."""
        return self.authorities.is_bound(issuer) or self._is_pinned(issuer)

    def relay_keys(self, relay: str) -> list[PublicKey]:
        """The keys with which a relay states what it removed."""
        return [key for (_, issuer), key in self._pins.items() if issuer == RELAY_PREFIX + relay]

    def anchors(self) -> Iterator[Anchor]:
        """Whom this trusts: each key, authority and revocation list."""
        for (kid, issuer), key in self._pins.items():
            yield of_key(key, issuer, self.retired_ns(kid, issuer))
        for each in self.authorities.anchors():
            yield of_certificate(*each) if isinstance(each, tuple) else of_list(each)

    def _is_pinned(self, issuer: str) -> bool:
        return any(bound_to == issuer for _, bound_to in self._pins)


def trust_files(path: Path) -> list[Path]:
    """The trust files behind a path: itself, or those of a directory."""
    return sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES) if path.is_dir() else [path]


def state_of(paths: Iterable[TrustFile]) -> list[tuple[str, int, int, int]]:
    """Something that differs once a trust file was added, removed or written again. Raises OSError."""
    files = [file for each in paths for file in trust_files(each if isinstance(each, Path) else each[0])]
    found = [(str(file), file.stat()) for file in files]
    return [(name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in found]


def _above(pem: bytes, name: bytes) -> str | None:
    """The value of a line NAME: VALUE above a key."""
    for line in pem.partition(b"-----BEGIN")[0].splitlines():
        known, _, value = line.partition(b":")
        if known.strip().lower() == name:
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


def refusal(
    trust: Trust, chain: ChainState, frame: Envelope, content: Payload, arrived_ns: int | None
) -> tuple[Verdict, str] | None:
    """Why a record with a valid signature is rejected all the same, or None."""
    if isinstance(content, Checkpoint) and (content.size != frame.seq or content.head != frame.prev):
        return Verdict.FORK, "the checkpoint vouches for another chain than its own"
    if chain.is_distrusted:
        return Verdict.UNTRUSTED, "no trust anchor vouches for the identity of its chain any more"
    kid = frame.kid if isinstance(content, Epoch) or chain.identity is None else chain.identity.kid
    if trust.pinned(kid, frame.issuer) is not None:
        return _too_late(trust.retired_ns(kid, frame.issuer), "its key was retired", content, arrived_ns)
    certificates = chain.certificates
    if isinstance(content, Epoch):
        certificates = content.certificates
        why = trust.authorities.refusal(certificates, frame.issuer, content.time.as_of_ns + content.time.offset_ns)
        if why:
            return Verdict.UNTRUSTED, why
    return _too_late(trust.authorities.revoked_ns(certificates), "its certificate is revoked", content, arrived_ns)


def _too_late(since_ns: int | None, what: str, content: Payload, arrived_ns: int | None) -> tuple[Verdict, str] | None:
    if since_ns is None:
        return None
    # The time that a record states is the choice of whoever has the key; but it did not arrive before it.
    known_ns = [at_ns for at_ns in (arrived_ns, stated_ns(content)) if at_ns is not None]
    if not known_ns or max(known_ns) < since_ns:
        return None
    by = "the time that the record states" if arrived_ns is None else "its arrival"
    return Verdict.UNTRUSTED, f"{what} since {format_utc(since_ns)}, before {by}"


def may_go_on(trust: Trust, chain: ChainState) -> bool:
    """Whether the trust anchors vouch for the identity of a chain, as far as it is known."""
    if chain.identity is None or trust.pinned(chain.identity.kid, chain.issuer) is not None:
        return True
    return not trust.authorities.refusal(chain.certificates, chain.issuer, chain.began_ns)
