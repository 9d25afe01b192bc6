"""The configuration as it is kept in the state directory: which one is on record, and what each of them was.

The gateway itself needs this part; `edge.config.written` makes and compares what is kept.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson

from edge.files import make_directory, replace_file, replace_like

Change = tuple[str, str, str]
"""(path, old, new) as written; empty where there was or is nothing."""

DIRECTORY = "configurations"
DIGEST = "configuration.sha256"
PENDING = "configuration.pending"
FILES_KEPT = 100
VALUE = 60
"""How many characters of a changed value stand in a sentence."""
LIMIT_BYTES = 64 * 2**20
"""Largest configuration that is unpacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptConfiguration:
    """What is kept of a configuration.

    Attributes:
        packed: the JSON, in gzip.
        files: the files as they are, in a compressed tar; they stay in the state directory.
        changes: since the one on record before, as many as a record can hold.
        count: how many changes there are; None where the one before is not kept.
    """

    packed: bytes
    files: bytes = b""
    changes: tuple[Change, ...] = ()
    count: int | None = None


def digest_of(digests: Mapping[str, str]) -> bytes:
    """SHA-256 over the sorted `sha256sum` lines of files, by their names: reproducible with that command."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).digest()


def part_names(folder: Path) -> list[str]:
    """The names of the files in a directory that may be parts of a configuration; not those that editors hide."""
    return sorted(found.name for found in folder.iterdir() if is_part(found.name) and found.is_file())


def is_part(name: str) -> bool:
    """Whether a file of this name may be a part of a configuration."""
    return name.endswith((".yaml", ".yml")) and not name.startswith(".") and "/" not in name


def unpack(packed: bytes) -> Any:
    """The configuration. Raises ValueError where it is none."""
    try:
        with gzip.open(BytesIO(packed)) as file:
            text = file.read(LIMIT_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"not a kept configuration: {error}") from error
    if len(text) > LIMIT_BYTES:
        raise ValueError(f"a kept configuration of more than {LIMIT_BYTES} bytes")
    return orjson.loads(text)


def changed(path: str, old: str, new: str, longest: int = VALUE) -> str:
    """One change of a configuration in words; values of more than `longest` characters are cut."""
    old, new = (each if len(each) <= longest else f"{each[: longest - 1]}…" for each in (old, new))
    if old and new:
        return f"{path} from {old} to {new}"
    return f"{path} added: {new}" if new else f"{path} removed, was {old}"


def file_of(state: Path, digest: bytes) -> Path:
    """Where a configuration is kept in the state directory."""
    return state / DIRECTORY / f"{digest.hex()}.json.gz"


def is_held(state: Path, digest: bytes) -> bool:
    """Whether a configuration is kept; False where the disk does not answer."""
    return os.path.exists(file_of(state, digest))  # noqa: PTH110 - Path.exists raises for a disk that fails


def digest_on_record(state: Path) -> bytes:
    """The digest of the configuration that was recorded last; empty where there is none."""
    try:
        return bytes.fromhex((state / DIGEST).read_text("ascii").strip())
    except (OSError, ValueError):
        return b""


def files_of(state: Path, digest: bytes) -> Path:
    """Where the files of a configuration are kept in the state directory."""
    return state / DIRECTORY / f"{digest.hex()}.tar.gz"


def keep_configuration(state: Path, digest: bytes, kept: KeptConfiguration) -> None:
    """Keep a configuration that will be on record; of those kept before, the newest. Raises OSError."""
    path = file_of(state, digest)
    make_directory(path.parent, 0o750)
    replace_file(path, kept.packed, 0o640)
    if kept.files:
        replace_file(files_of(state, digest), kept.files, 0o640)
    for each in digests_kept(state)[FILES_KEPT:]:
        for old in (file_of(state, each), files_of(state, each)):
            old.unlink(missing_ok=True)


def digests_kept(state: Path) -> list[bytes]:
    """The configurations that are kept, the one that was put on record last first."""
    held = sorted((state / DIRECTORY).glob("*.json.gz"), key=lambda each: each.stat().st_mtime_ns, reverse=True)
    return [bytes.fromhex(each.name.partition(".")[0]) for each in held]


def held(state: Path, running: bytes, number: int) -> tuple[bytes, bytes, bytes]:
    """(digest, packed, files) of the configuration so many before the one that runs; 0 is that one.

    `files` is empty where an earlier version kept none.

    Raises:
        LookupError: so many are not kept.
        OSError: it cannot be read.
    """
    kept = [running, *(each for each in digests_kept(state) if each != running)]
    if not 0 <= number < len(kept):
        raise LookupError(f"{len(kept) - 1} earlier configurations are kept, and there is no number {number}")
    files = b""
    with suppress(FileNotFoundError):
        files = files_of(state, kept[number]).read_bytes()
    return kept[number], file_of(state, kept[number]).read_bytes(), files


def put_on_record(state: Path, digest: bytes) -> None:
    """Note the configuration that is on record now. Raises OSError."""
    with suppress(FileNotFoundError):
        os.utime(file_of(state, digest))
    replace_file(state / DIGEST, digest.hex().encode() + b"\n", 0o640)
    (state / PENDING).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A configuration that is asked for: of which digest, by whom and why, and how it was approved.

    Attributes:
        change: the head of the text that was signed; empty where nobody has approved it.
        sha256: of the whole text, in hexadecimal.
        signature: an SSHSIG in its armour.
    """

    digest: str
    account: str
    why: str
    change: str = ""
    sha256: str = ""
    signature: str = ""


def pending(state: Path, digest: bytes) -> Pending | None:
    """Who asked for a configuration that is started now, and why; None where nobody has."""
    try:
        found = Pending(**orjson.loads((state / PENDING).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    texts = (found.digest, found.account, found.why, found.change, found.sha256, found.signature)
    return found if all(isinstance(text, str) for text in texts) and found.digest == digest.hex() else None


def set_pending(state: Path, wanted: Pending) -> None:
    """Leave word for the next start. Raises OSError."""
    replace_like(state / PENDING, orjson.dumps(wanted), state)


def drop_pending(state: Path) -> None:
    """Take that back, as far as the disk lets it."""
    with suppress(OSError):
        (state / PENDING).unlink(missing_ok=True)
