"""The pack: `qualification.json`, `qualification.html`, the raw records, and signed sums that hold them together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
from pydantic import TypeAdapter, ValidationError

from edge.errors import ConfigError
from edge.files import replace_file
from edge.qualify.checks import RAW, Qualification, Verdict
from edge.qualify.page import qualification_page
from edge.seal.signed_file import FileSigner
from edge.seal.signed_folder import SIGNATURE, SUMS, anchor_of, differences, files_in, read_file, sha256_of, sums_of

DOCUMENT, PAGE = "qualification.json", "qualification.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackAnswer:
    """What `tidegate verify` says of a pack of evidence."""

    is_as_signed: bool
    """Whether every file is as it was signed by a key that is trusted: then the exit code is 0."""
    problems: tuple[str, ...]
    """What speaks against it, a sentence each: a file that was changed, is missing, or was added."""
    signer: str
    """Fingerprint of the key that signed; empty where none that is trusted did."""
    name: str
    """Of the gateway or relay that was qualified, as the pack says it, as are all that follow."""
    host: str
    made_by: str
    made_at_ns: int
    version: str
    build: str
    result: Verdict
    text: str


def prepare(folder: Path) -> None:
    """Make the folder of a pack. Raises ConfigError where it is not empty, or cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if next(folder.iterdir(), None) is not None:
            raise ConfigError(f"{folder} is not empty: a pack is written into a folder of its own")
        (folder / RAW).mkdir()
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}") from error


def write(folder: Path, found: Qualification, signer: FileSigner | None) -> Qualification:
    """Write document, page, sums and signature beside the raw records. Raises OSError."""
    found = replace(found, signer=signer.fingerprint if signer else "")
    document = orjson.dumps({"json_version": 1, **orjson.loads(orjson.dumps(found))}, option=orjson.OPT_INDENT_2)
    replace_file(folder / DOCUMENT, document, 0o644)
    page = qualification_page(found, hashlib.sha256(document).hexdigest(), signer.public_pem if signer else "")
    replace_file(folder / PAGE, page.encode(), 0o644)
    sums = sums_of((file.relative_to(folder).as_posix(), sha256_of(file)) for file in files_in(folder))
    replace_file(folder / SUMS, sums, 0o644)
    if signer is not None:
        replace_file(folder / SIGNATURE, signer.sign(sums), 0o644)
    return found


def is_pack(path: Path) -> bool:
    """Whether a path is the folder of a pack."""
    return (path / DOCUMENT).is_file() and (path / SUMS).is_file()


def check(folder: Path, anchors: Sequence[Path]) -> PackAnswer:
    """Whether every file of a pack is as it was signed, and what it says. Raises ConfigError for no public key."""
    problems, signer = [], ""
    sums = read_file(folder, SUMS)
    if not (folder / SIGNATURE).is_file():
        problems.append("the pack is not signed")
    else:
        signature = read_file(folder, SIGNATURE)
        signers = [fingerprint for key, fingerprint in map(anchor_of, anchors) if key.has_signed_file(signature, sums)]
        signer = signers[0] if signers else ""
        if not signers:
            problems.append(f"{SUMS} was not signed with a key that --trust names, or was changed since")
    try:
        problems += differences(folder, sums)
        found = _read(folder)
    except (ValueError, ConfigError):
        found = None
        problems.append(f"{DOCUMENT} or {SUMS} cannot be read")
    if found is not None and signer and found.signer != signer:
        problems.append(f"{DOCUMENT} names another signer")
    return PackAnswer(
        is_as_signed=not problems, problems=tuple(problems), signer=signer, name=found.name if found else "",
        host=found.host if found else "", made_by=found.made_by if found else "",
        made_at_ns=found.made_at_ns if found else 0, version=found.version if found else "",
        build=found.build if found else "", result=found.result if found else "failed",
        text=found.text if found else "",
    )  # fmt: skip


def _read(folder: Path) -> Qualification:
    try:
        return TypeAdapter(Qualification).validate_json(read_file(folder, DOCUMENT))
    except ValidationError as error:
        raise ValueError(str(error)) from error
