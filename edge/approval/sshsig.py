"""A signature that `ssh-keygen -Y sign` made over a file, verified with `cryptography` alone.

The form is OpenSSH's PROTOCOL.sshsig: a public key, a namespace, a hash algorithm and a signature, in armour. What is
signed is not the file but its hash, with the namespace: a signature made for one purpose is none for another. A key on
a FIDO token signs besides what the token saw, a byte of flags and a counter, and a signature that nobody touched the
token for is refused. Everything accepted here is accepted by `ssh-keygen -Y verify`; what that also takes, such as
SHA-1, short RSA keys and numbers with needless zeros, is not accepted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from edge.errors import ErrorCode, TidegateError

LIMIT_BYTES = 16_384
"""Largest signature in armour: one of RSA with 16,384 bits has 6 kB."""

_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_MAGIC = b"SSHSIG"
_HASHES = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}
_CURVES: dict[str, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    "nistp256": (ec.SECP256R1(), hashes.SHA256()),
    "nistp384": (ec.SECP384R1(), hashes.SHA384()),
    "nistp521": (ec.SECP521R1(), hashes.SHA512()),
}
_ECDSA = "ecdsa-sha2-"
_RSA: dict[str, hashes.HashAlgorithm] = {"rsa-sha2-256": hashes.SHA256(), "rsa-sha2-512": hashes.SHA512()}
_RSA_BITS = 2048
_SK_ED25519, _SK_ECDSA = "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"
_PRESENT = 0x01


class Refused(TidegateError):
    """This signature, or what it is for, is not accepted.

    Attributes:
        reason: the kind in one word, for the record: form, namespace, presence, altered, ...
        why: of a form that cannot be read, what is wrong with it.
    """

    default_code = ErrorCode.APPROVAL_REFUSED

    def __init__(self, reason: str, sentence: str, why: str = "") -> None:
        super().__init__(sentence)
        self.reason, self.why = reason, why


class _Reader:
    """Takes the parts of a binary SSH structure, each a length and bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, count: int) -> bytes:
        if count > len(self._data):
            _refuse_form("it ends too early")
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def bytes(self) -> bytes:
        return self.take(int.from_bytes(self.take(4), "big"))

    def word(self) -> str:
        try:
            return self.bytes().decode("ascii")
        except UnicodeDecodeError:
            _refuse_form("a name in it has other characters than ASCII")

    def number(self) -> int:
        """A number above zero in its shortest form."""
        data = self.bytes()
        if not data or data[0] & 0x80 or (data[0] == 0 and not (data[1:2] or b"\0")[0] & 0x80):
            _refuse_form("a number in it is not in its shortest form")
        return int.from_bytes(data, "big")

    def end(self) -> None:
        if self._data:
            _refuse_form("something follows its end")


def _refuse_form(why: str) -> NoReturn:
    raise Refused("form", f"the signature cannot be read: {why}; make it with ssh-keygen -Y sign", why)


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature as it was read; `verify` says whether it is one over a text.

    Attributes:
        blob: without its armour.
        key: the public key, as a line of an allowed-signers file has it in base64.
        hash_name: sha256 or sha512, by which the text was hashed.
    """

    blob: bytes
    key: bytes
    namespace: str
    hash_name: str
    _signature: bytes

    @classmethod
    def from_armour(cls, text: bytes) -> Signature:
        """From the content of a .sig file. Raises Refused."""
        lines = text[:LIMIT_BYTES].decode("ascii", "replace").strip().splitlines()
        if len(text) > LIMIT_BYTES or len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
            _refuse_form(f"it is not all between {_BEGIN} and {_END}")
        try:
            return cls.from_blob(base64.b64decode("".join(lines[1:-1]), validate=True))
        except binascii.Error:
            _refuse_form("it is not base64")

    @classmethod
    def from_blob(cls, blob: bytes) -> Signature:
        """From its bytes without armour. Raises Refused."""
        reader = _Reader(blob)
        if reader.take(len(_MAGIC)) != _MAGIC or int.from_bytes(reader.take(4), "big") != 1:
            _refuse_form("it is not an SSH signature of version 1")
        key, namespace, reserved, hash_name, signature = (
            reader.bytes(), reader.word(), reader.bytes(), reader.word(), reader.bytes(),
        )  # fmt: skip
        reader.end()
        if reserved or hash_name not in _HASHES:
            _refuse_form(f"it hashes with {hash_name[:20]!r}, and sha256 or sha512 are accepted")
        return cls(blob, key, namespace, hash_name, signature)

    @property
    def fingerprint(self) -> str:
        """Of the key, as `ssh-keygen -l` shows it."""
        return fingerprint(self.key)

    def digest(self, text: bytes) -> bytes:
        """The hash of a text by which it is signed."""
        return _HASHES[self.hash_name](text).digest()

    def verify(self, digest: bytes, namespace: str) -> None:
        """Raise Refused unless it is a signature over a text of this digest, in this namespace."""
        if self.namespace != namespace:
            raise Refused("namespace", f"the signature is for {self.namespace[:40]!r}, and not for {namespace!r}: sign "
                                       f"with ssh-keygen -Y sign -n {namespace}")  # fmt: skip
        parts = (namespace.encode(), b"", self.hash_name.encode(), digest)
        data = _MAGIC + b"".join(len(each).to_bytes(4, "big") + each for each in parts)
        try:
            _check(self.key, self._signature, data)
        except InvalidSignature:
            raise Refused("altered", "the signature is not one over this text: the text was altered after it was "
                                     "signed, or the signature is of another file") from None  # fmt: skip
        except (ValueError, UnsupportedAlgorithm):
            _refuse_form("its key is not a valid one")


def fingerprint(key: bytes) -> str:
    """Of a public key, as `ssh-keygen -l` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def check_key(key: bytes, name: str) -> None:
    """Raise Refused where a public key is not of a kind whose signatures are accepted; `name` is its name in a file."""
    reader = _Reader(key)
    if reader.word() != name:
        _refuse_form("its key is of another kind than its name says")
    try:
        _verifier(name, reader)
    except (ValueError, UnsupportedAlgorithm):
        _refuse_form("its key is not a valid one")


def _check(key: bytes, signature: bytes, data: bytes) -> None:
    """Raise InvalidSignature, ValueError or Refused."""
    reader, signed = _Reader(key), _Reader(signature)
    verify = _verifier(reader.word(), reader)
    verify(signed.word(), signed, data)


_Verify = Callable[[str, _Reader, bytes], None]


def _verifier(kind: str, key: _Reader) -> _Verify:
    """What verifies signatures of a key, of which the kind was read."""
    if kind in ("ssh-ed25519", _SK_ED25519):
        verify = _ed25519(kind, key.bytes())
    elif kind == _SK_ECDSA or kind.startswith(_ECDSA):
        verify = _ecdsa(kind, key.word(), key.bytes())
    elif kind == "ssh-rsa":
        verify = _rsa(key.number(), key.number())
    else:
        _refuse_form(f"keys of the kind {kind[:40]!r} are not accepted; use ssh-ed25519, ecdsa-sha2, ssh-rsa, or a "
                     "token's sk-ssh-ed25519 or sk-ecdsa-sha2")  # fmt: skip
    if kind in (_SK_ED25519, _SK_ECDSA):
        verify = _on_token(key.bytes(), verify)
    key.end()
    return verify


def _named(name: str, *known: str) -> None:
    if name not in known:
        _refuse_form(f"its algorithm is {name[:40]!r}, and {' or '.join(known)} is accepted for this key")


def _ed25519(kind: str, point: bytes) -> _Verify:
    key = ed25519.Ed25519PublicKey.from_public_bytes(point)

    def verify(name: str, signed: _Reader, data: bytes) -> None:
        _named(name, kind)
        signature = signed.bytes()
        signed.end()
        key.verify(signature, data)

    return verify


def _ecdsa(kind: str, curve_name: str, point: bytes) -> _Verify:
    if curve_name not in _CURVES or kind not in (f"{_ECDSA}{curve_name}", _SK_ECDSA):
        _refuse_form(f"its key has the curve {curve_name[:20]!r}")
    if point[:1] != b"\x04":
        _refuse_form("its key is not written out in full")
    curve, hash_of = _CURVES["nistp256" if kind == _SK_ECDSA else curve_name]
    key = ec.EllipticCurvePublicKey.from_encoded_point(curve, point)

    def verify(name: str, signed: _Reader, data: bytes) -> None:
        _named(name, kind)
        numbers = _Reader(signed.bytes())
        signed.end()
        r, s = numbers.number(), numbers.number()
        numbers.end()
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hash_of))

    return verify


def _rsa(exponent: int, modulus: int) -> _Verify:
    if modulus.bit_length() < _RSA_BITS:
        _refuse_form(f"an RSA key of {modulus.bit_length()} bits is too short; {_RSA_BITS} are needed")
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()

    def verify(name: str, signed: _Reader, data: bytes) -> None:
        _named(name, *_RSA)
        signature = signed.bytes()
        signed.end()
        key.verify(signature, data, padding.PKCS1v15(), _RSA[name])

    return verify


def _on_token(application: bytes, verify: _Verify) -> _Verify:
    """What verifies signatures of a FIDO token, over the hash of the data and what the token saw."""

    def verify_seen(name: str, signed: _Reader, data: bytes) -> None:
        signature = signed.bytes()
        seen = signed.take(5)  # The flags, and the counter.
        signed.end()
        if not seen[0] & _PRESENT:
            raise Refused("presence", "nobody touched the token for this signature: its presence flag is missing; sign "
                                      "with a key that was made without no-touch-required")  # fmt: skip
        own = _Reader(len(signature).to_bytes(4, "big") + signature)
        verify(name, own, hashlib.sha256(application).digest() + seen + hashlib.sha256(data).digest())

    return verify_seen
