"""The folder of a report: evidence, `report.json`, `report.html`, and the signed sums that hold them together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edge.errors import ConfigError
from edge.files import replace_file
from edge.seal.signed_file import FileSigner
from edge.seal.signed_folder import (
    SIGNATURE,
    SUMS,
    anchor_of,
    differences,
    files_in,
    read_file,
    sha256_of,
    sums_of,
)
from hil.document import EvidenceFile, Report
from hil.page import report_page

REPORT, PAGE = "report.json", "report.html"
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
    return Report.from_json(read_file(folder, REPORT))


def check(folder: Path, anchor: Path) -> list[str]:
    """What speaks against a report, in a sentence each; nothing when it is as the key's owner signed it.

    Raises:
        ConfigError: the trust anchor cannot be used.
    """
    key, fingerprint = anchor_of(anchor)
    if not (folder / SIGNATURE).is_file():
        return ["the report is not signed"]
    try:
        sums, signature, document, page = (read_file(folder, name) for name in (SUMS, SIGNATURE, REPORT, PAGE))
        if not key.has_signed_file(signature, sums):
            return [f"{SUMS} was not signed with the key of {anchor}, or was changed since; nothing else was judged"]
        if problems := list(differences(folder, sums)):
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
        if signer is not None or not (folder / SUMS).exists() or read_file(folder, SUMS) != sums:
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
    return sums_of(lines)


def _evidence(folder: Path) -> Iterator[EvidenceFile]:
    for file in files_in(folder):
        path = file.relative_to(folder).as_posix()
        if path in _OURS:
            continue
        if file.suffix in _RUNTIME or file.name in _RUNTIME:
            file.unlink()  # A lock or socket of a process that has ended holds nothing.
        elif file.is_symlink() or not file.is_file() or not path.isprintable() or "\\" in path:
            raise ConfigError(f"{file} is no plain file with a plain name, and cannot be evidence; remove it")
        else:
            yield EvidenceFile(path=path, size_bytes=file.stat().st_size, sha256=sha256_of(file))
