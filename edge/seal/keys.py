"""Keys: public keys in records (COSE_Key, RFC 9052, 7), signatures, and the identity key with its files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from edge.errors import ConfigError
from edge.files import replace_file
from edge.seal import cbor
from edge.seal.cbor import as_bytes
from edge.seal.cose import ED25519, ES256, ESP256
from edge.seal.counter import EpochCounter
from edge.seal.record import ISSUER_PREFIX, Malformed

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_HALF = (ORDER // 2).to_bytes(32, "big")
_ECDSA = ec.ECDSA(hashes.SHA256())

NEW_KEY = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"

AnyPublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True)
class PublicKey:
    """A P-256 key (64 bytes, x and y) or an Ed25519 key (32 bytes)."""

    raw: bytes

    @property
    def is_p256(self) -> bool:
        """Whether this is a P-256 key."""
        return len(self.raw) == 64

    @classmethod
    def of(cls, key: object) -> PublicKey:
        """From a key of the library. Raises Malformed when it is of another kind."""
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
            return cls(point[1:])
        if isinstance(key, ed25519.Ed25519PublicKey):
            return cls(key.public_bytes_raw())
        raise Malformed("the key is neither P-256 nor Ed25519")

    @classmethod
    def from_cose(cls, value: object) -> PublicKey:
        """From a COSE_Key. Raises Malformed unless it has exactly its required members and is on its curve."""
        members = value if isinstance(value, dict) else {}
        key = cls(b"".join(as_bytes(members.get(label), 32) for label in ((-2, -3) if len(members) == 4 else (-2,))))
        if key.cose() != members:
            raise Malformed("a COSE_Key of P-256 or Ed25519 was expected")
        _ = key._loaded
        return key

    def cose(self) -> dict[int, int | bytes]:
        """The required members of the COSE_Key."""
        if self.is_p256:
            return {1: 2, -1: 1, -2: self.raw[:32], -3: self.raw[32:]}
        return {1: 1, -1: 6, -2: self.raw}

    @cached_property
    def kid(self) -> bytes:
        """The key id: a hint in records, never a proof."""
        return hashlib.sha256(cbor.encode(self.cose())).digest()[:8]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the COSE_Key for people to compare, in groups."""
        digits = hashlib.sha256(cbor.encode(self.cose())).hexdigest()
        return ":".join(digits[at : at + 4] for at in range(0, 64, 4))

    @cached_property
    def _loaded(self) -> AnyPublicKey:
        try:
            if self.is_p256:
                return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + self.raw)
            return ed25519.Ed25519PublicKey.from_public_bytes(self.raw)
        except ValueError as error:
            raise Malformed(f"the key is not on its curve: {error}") from error

    def has_signed(self, alg: int, signature: bytes, message: bytes) -> bool:
        """Whether the signature is valid; an ECDSA signature with a high S never is."""
        key = self._loaded
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                if alg != ED25519:
                    return False
                key.verify(signature, message)
            else:
                s = signature[32:]
                if alg not in (ES256, ESP256) or s > _HALF:
                    return False
                whole = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(s, "big"))
                key.verify(whole, message, _ECDSA)
        except InvalidSignature:
            return False
        return True

    def has_signed_file(self, signature: bytes, data: bytes) -> bool:
        """Whether this is a signature over a file as `FileSigner` makes it."""
        try:
            if isinstance(self._loaded, ed25519.Ed25519PublicKey):
                self._loaded.verify(signature, data)
            else:
                self._loaded.verify(signature, data, _ECDSA)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """A P-256 key that signs with low S."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.public = PublicKey.of(key.public_key())

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key, in memory only."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    def sign(self, message: bytes) -> bytes:
        """A raw signature: r and s, 32 bytes each, with s in the lower half."""
        r, s = decode_dss_signature(self._key.sign(message, _ECDSA))
        return r.to_bytes(32, "big") + min(s, ORDER - s).to_bytes(32, "big")

    def certificate_request(self, issuer: str) -> bytes:
        """See `IdentityKey.certificate_request`."""
        from cryptography import x509
        from cryptography.x509.oid import NameOID

        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer.removeprefix(ISSUER_PREFIX))])
        uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(issuer)])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).add_extension(uri, critical=False)
        return request.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class IdentityKey:
    """A P-256 key with its counter and, optionally, the certificates that vouch for it, leaf first."""

    def __init__(self, key: SigningKey, counter: EpochCounter, certificates: Sequence[bytes] = ()) -> None:
        self._key = key
        self.counter = counter
        self.certificates = tuple(certificates)
        self.public = key.public

    @classmethod
    def load(
        cls, pem: bytes, counter: EpochCounter, *, name: str = "identity key", certificates: bytes = b""
    ) -> IdentityKey:
        """From the bytes of a PEM file or credential.

        Args:
            pem: the private key, not encrypted.
            counter: counts its signatures.
            name: its name in error messages.
            certificates: PEM of its certificate and the authorities above it, leaf first.

        Raises:
            ConfigError: not a P-256 private key, or the certificate is for another key.
        """
        key = SigningKey(_private_key(pem, name))
        return cls(key, counter, _chain(certificates, key.public, name))

    @property
    def key_id(self) -> bytes:
        """The kid of its records."""
        return self.public.kid

    @property
    def fingerprint(self) -> str:
        """SHA-256 for people to compare, in groups."""
        return self.public.fingerprint

    def public_pem(self, issuer: str) -> bytes:
        """The trust anchor for a verifier: the public key, bound to the issuer by a line above it (RFC 7468, 5.2)."""
        point = b"\x04" + self.public.raw
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return f"Subject: {issuer}\n".encode() + pem

    def sign(self, message: bytes) -> bytes:
        """A raw low-S signature."""
        return self._key.sign(message)

    def certificate_request(self, issuer: str) -> bytes:
        """A request to an authority in PEM, which names the gateway as a URI, as verifiers want it."""
        return self._key.certificate_request(issuer)


def _private_key(pem: bytes, name: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        raise ConfigError(f"{name} is encrypted; give it without a password, in a credential or a 0600 file") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{name} is not a PEM private key; make one with: {NEW_KEY}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        kind = f"an EC key on {key.curve.name}" if isinstance(key, ec.EllipticCurvePrivateKey) else _kind(key)
        raise ConfigError(f"{name} holds {kind}, a P-256 key is needed; make one with: {NEW_KEY}")
    return key


def _kind(key: object) -> str:
    return f"an {type(key).__name__.removesuffix('PrivateKey').lstrip('_')} key"


def _chain(pem: bytes, public: PublicKey, name: str) -> tuple[bytes, ...]:
    if not pem:
        return ()
    from cryptography import x509

    try:
        certificates = x509.load_pem_x509_certificates(pem)
        leaf = certificates[0].public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"the certificate of {name} cannot be read: {error}; give a PEM file, leaf first") from error
    if not isinstance(leaf, ec.EllipticCurvePublicKey) or PublicKey.of(leaf) != public:
        raise ConfigError(f"the first certificate of {name} is for another key; put the gateway's own first")
    return tuple(each.public_bytes(serialization.Encoding.DER) for each in certificates)


def load_or_create_identity(
    path: Path, *, issuer: str, counter: EpochCounter, certificate: Path | None = None
) -> tuple[IdentityKey, bool]:
    """The identity key of a file, and whether it is another than before: a missing file is created.

    Its public PEM is kept beside it.

    Raises:
        ConfigError: the file is readable by others, or holds no P-256 private key.
    """
    is_new = not _is_there(path)
    if is_new:
        create_identity(path)
    identity = load_identity_file(path, counter=counter, certificate=certificate)
    is_another = keep_public(public_path_of(path), identity.public_pem(issuer))
    return identity, is_new or is_another


def keep_public(path: Path, pem: bytes) -> bool:
    """Keep the public half of the key in use for others to read; whether the file was of another key, kept beside it.

    A full or read-only disk does not make a valid key unusable.
    """
    before, old = b"", None
    with suppress(OSError, ValueError, UnsupportedAlgorithm, Malformed):
        before = path.read_bytes()
        old = PublicKey.of(serialization.load_pem_public_key(before))
    is_another = old is not None and old != PublicKey.of(serialization.load_pem_public_key(pem))
    with suppress(ConfigError, OSError):
        if old is not None and is_another:  # Whoever verifies what it signed needs it.
            name = f"{path.name.removesuffix('.pub.pem')}-{old.kid.hex()}.pub.pem"
            _write(path.with_name(name), before, 0o644)
        if before != pem:
            _write(path, pem, 0o644)
        elif path.stat().st_mode & 0o044 != 0o044:
            path.chmod(0o644)
    return is_another


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise ConfigError(f"identity file {path} cannot be looked for: {error.strerror}; check its owner") from error


def public_path_of(path: Path) -> Path:
    """Where the public PEM of an identity file is kept."""
    return path.with_suffix(".pub.pem")


def load_identity_file(path: Path, *, counter: EpochCounter, certificate: Path | None = None) -> IdentityKey:
    """The identity key of a file. Raises ConfigError as `load_or_create_identity`."""
    try:
        mode = path.stat().st_mode
        if mode & 0o077:
            raise ConfigError(
                f"identity key {path} can be read by others (mode {mode & 0o777:04o}): chmod 600 {path}; where "
                "somebody may have copied it, make a new one with: tidegate keys identity rotate CONFIG"
            )
        pem = path.read_bytes()
        certificates = certificate.read_bytes() if certificate else b""
    except OSError as error:
        raise ConfigError(f"identity key {path} cannot be read: {error.strerror}; check its owner") from error
    return IdentityKey.load(pem, counter, name=f"identity key {path}", certificates=certificates)


def create_identity(path: Path) -> None:
    """Make a key in a file that only its owner reads. Raises ConfigError."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip
    _write(path, pem, 0o600)


def _write(path: Path, data: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data, mode)
        path.chmod(mode)  # A service's umask takes away what others need of a public key.
    except OSError as error:
        raise ConfigError(f"identity file {path} cannot be written: {error.strerror}; check its directory") from error
