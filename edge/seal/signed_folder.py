"""A folder whose files are held together by signed sums.

`SHA256SUMS` names every file of the folder with its hash, as `sha256sum --check` reads it, and `SHA256SUMS.sig` is the
signature over it. So two programs that every machine has find every changed byte, and `differences` finds added files,
too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from edge.errors import ConfigError
from edge.seal.keys import PublicKey

SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"


def sums_of(hashes: Iterable[tuple[str, str]]) -> bytes:
    """The sums as `sha256sum` writes them, of (path, SHA-256)."""
    return "".join(f"{sha256}  {path}\n" for path, sha256 in hashes).encode()


def differences(folder: Path, sums: bytes) -> Iterator[str]:
    """What is not as the sums say, in a sentence each: files that are missing, were changed, or were added."""
    named = {line[66:]: line[:64] for line in sums.decode().splitlines()}
    for path, sha256 in named.items():
        file = folder / path
        if file.is_symlink() or not file.is_file():
            yield f"{path} is missing"
        elif sha256_of(file) != sha256:
            yield f"{path} was changed"
    there = [each.relative_to(folder).as_posix() for each in files_in(folder)]
    yield from (f"{path} was added" for path in there if path not in named and path not in (SUMS, SIGNATURE))


def files_in(folder: Path) -> list[Path]:
    """Everything below a folder that is no folder, in a fixed order."""
    found = [Path(at) / name for at, folders, names in os.walk(folder)
             for name in (*names, *(each for each in folders if (Path(at) / each).is_symlink()))]  # fmt: skip
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def read_file(folder: Path, name: str) -> bytes:
    """A file of the folder. Raises ConfigError where it cannot be read."""
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise ConfigError(f"{folder / name} cannot be read: {error.strerror}") from error


def anchor_of(path: Path) -> tuple[PublicKey, str]:
    """The public key of who signs, and its fingerprint. Raises ConfigError where the file holds none."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"trust anchor {path} is no public key in PEM form; give the .pub.pem of the key") from error
    is_p256 = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    if not is_p256 and not isinstance(key, ed25519.Ed25519PublicKey):
        raise ConfigError(f"trust anchor {path} is neither a P-256 nor an Ed25519 key, and reports are signed with one")
    assert isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey)
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PublicKey.of(key), hashlib.sha256(der).hexdigest()
