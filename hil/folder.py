"""The folder of a report: evidence, `report.json`, `report.html`, and the signed sums that hold them together.

`SHA256SUMS` names every file of the folder with its hash, as `sha256sum --check` reads it, and `SHA256SUMS.sig` is the
signature over it. So two programs that every machine has find every changed byte, and `check` finds added files, too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from edge.errors import ConfigError
from edge.files import replace_file
from edge.seal import PublicKey
from edge.seal.signed_file import FileSigner
from hil.document import EvidenceFile, Report
from hil.page import report_page

REPORT, PAGE, SUMS, SIGNATURE = "report.json", "report.html", "SHA256SUMS", "SHA256SUMS.sig"
_OURS = (REPORT, PAGE, SUMS, SIGNATURE)
_RUNTIME = (".lock", ".sock")


def write(folder: Path, report: Report, signer: FileSigner | None) -> Report:
    """Write the report on what was played in a folder beside its evidence, signed where there is a key.

    Returns:
        the report, which names every file of the evidence.

    Raises:
        ConfigError: the folder holds something that is no evidence, or cannot be written.
    """
    named = replace(report, files=tuple(_evidence(folder)), signer=signer.fingerprint if signer else "")
    _write(folder, named, signer)
    return named


def render(folder: Path, signer: FileSigner | None = None) -> Report:
    """Render the page again from `report.json`, signed where there is a key; else a valid signature remains.

    Raises:
        ConfigError: there is no such report, or the folder cannot be written.
    """
    report = read(folder)
    if signer is not None:
        report = replace(report, signer=signer.fingerprint)
    _write(folder, report, signer)
    return report


def read(folder: Path) -> Report:
    """The document in a folder. Raises ConfigError."""
    return Report.from_json(_bytes(folder, REPORT))


def check(folder: Path, anchor: Path) -> list[str]:
    """What speaks against a report, in a sentence each; nothing when it is as the key's owner signed it.

    Raises:
        ConfigError: the trust anchor cannot be used.
    """
    key, fingerprint = _anchor(anchor)
    if not (folder / SIGNATURE).is_file():
        return ["the report is not signed"]
    try:
        sums, signature, document, page = (_bytes(folder, name) for name in (SUMS, SIGNATURE, REPORT, PAGE))
        if not key.has_signed_file(signature, sums):
            return [f"{SUMS} was not signed with the key of {anchor}, or was changed since; nothing else was judged"]
        if problems := list(_differences(folder, sums)):
            return problems
        report = Report.from_json(document)
    except ConfigError as error:
        return [str(error)]
    if report.signer != fingerprint:
        problems.append(f"{REPORT} names another signer than the key of {anchor}")
    if hashlib.sha256(document).hexdigest().encode() not in page:
        problems.append(f"{PAGE} was not made from this {REPORT}")
    if _sums(report, document, page) != sums:
        problems.append(f"{REPORT} names other evidence than {SUMS}")
    return problems


def _write(folder: Path, report: Report, signer: FileSigner | None) -> None:
    document = report.to_json()
    page = report_page(report, hashlib.sha256(document).hexdigest()).encode()
    sums = _sums(report, document, page)
    try:
        if signer is not None or not (folder / SUMS).exists() or _bytes(folder, SUMS) != sums:
            (folder / SIGNATURE).unlink(missing_ok=True)
        for name, data in ((REPORT, document), (PAGE, page), (SUMS, sums)):
            replace_file(folder / name, data, 0o644)
        if signer is not None:
            replace_file(folder / SIGNATURE, signer.sign(sums), 0o644)
    except OSError as error:
        raise ConfigError(f"report folder {folder} cannot be written: {error.strerror}") from error


def _sums(report: Report, document: bytes, page: bytes) -> bytes:
    """The sums as `sha256sum` writes them, evidence as the report names it."""
    lines = [(each.path, each.sha256) for each in report.files]
    lines += [(REPORT, hashlib.sha256(document).hexdigest()), (PAGE, hashlib.sha256(page).hexdigest())]
    return "".join(f"{sha256}  {path}\n" for path, sha256 in lines).encode()


def _differences(folder: Path, sums: bytes) -> Iterator[str]:
    named = {line[66:]: line[:64] for line in sums.decode().splitlines()}
    for path, sha256 in named.items():
        file = folder / path
        if file.is_symlink() or not file.is_file():
            yield f"{path} is missing"
        elif _sha256(file) != sha256:
            yield f"{path} was changed"
    there = [each.relative_to(folder).as_posix() for each in _all_files(folder)]
    yield from (f"{path} was added" for path in there if path not in named and path not in (SUMS, SIGNATURE))


def _evidence(folder: Path) -> Iterator[EvidenceFile]:
    for file in _all_files(folder):
        path = file.relative_to(folder).as_posix()
        if path in _OURS:
            continue
        if file.suffix in _RUNTIME or file.name in _RUNTIME:
            file.unlink()  # A lock or socket of a process that has ended holds nothing.
        elif file.is_symlink() or not file.is_file() or not path.isprintable() or "\\" in path:
            raise ConfigError(f"{file} is no plain file with a plain name, and cannot be evidence; remove it")
        else:
            yield EvidenceFile(path=path, size_bytes=file.stat().st_size, sha256=_sha256(file))


def _all_files(folder: Path) -> list[Path]:
    """Everything below a folder that is no folder, in a fixed order."""
    found = [Path(at) / name for at, folders, names in os.walk(folder)
             for name in (*names, *(each for each in folders if (Path(at) / each).is_symlink()))]  # fmt: skip
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _bytes(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise ConfigError(f"{folder / name} cannot be read: {error.strerror}") from error


def _anchor(path: Path) -> tuple[PublicKey, str]:
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
