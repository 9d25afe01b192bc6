"""The configuration as it is kept in the state directory: which one is on record, and what each of them was.

The gateway itself needs this part; `edge.config.written` makes and compares what is kept.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson

from edge.files import make_directory, replace_file

Change = tuple[str, str, str]
"""(path, old, new) as written; empty where there was or is nothing."""

DIRECTORY = "configurations"
DIGEST = "configuration.sha256"
FILES_KEPT = 100
LIMIT_BYTES = 64 * 2**20
"""Largest configuration that is unpacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptConfiguration:
    """What is kept of a configuration.

    Attributes:
        packed: the JSON, in gzip.
        changes: since the one on record before, as many as a record can hold.
        count: how many changes there are; None where the one before is not kept.
    """

    packed: bytes
    changes: tuple[Change, ...] = ()
    count: int | None = None


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


def file_of(state: Path, digest: bytes) -> Path:
    """Where a configuration is kept in the state directory."""
    return state / DIRECTORY / f"{digest.hex()}.json.gz"


def digest_on_record(state: Path) -> bytes:
    """The digest of the configuration that was recorded last; empty where there is none."""
    try:
        return bytes.fromhex((state / DIGEST).read_text("ascii").strip())
    except (OSError, ValueError):
        return b""


def put_on_record(state: Path, digest: bytes, packed: bytes) -> None:
    """Keep a configuration that is recorded now; of those kept before, the newest. Raises OSError."""
    if packed:
        path = file_of(state, digest)
        make_directory(path.parent, 0o750)
        replace_file(path, packed, 0o640)
        held = sorted(path.parent.glob("*.json.gz"), key=lambda each: each.stat().st_mtime_ns)
        for each in held[:-FILES_KEPT]:
            each.unlink()
    replace_file(state / DIGEST, digest.hex().encode() + b"\n", 0o640)
