"""The file of a proposed change with its signature beside it, as `tidegate apply` is given it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from edge.approval.change import TITLE, Change
from edge.approval.sshsig import LIMIT_BYTES, Refused
from edge.cli.output import Failure

_LIMIT_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFile:
    """What was proposed, the SHA-256 of the text in hexadecimal, and the signature in its armour."""

    change: Change
    sha256: str
    signature: str


def read_change(path: Path) -> ChangeFile | None:
    """The proposed change in a file; None where the file is something else, such as a configuration.

    Raises:
        Failure: it was altered, or there is no signature beside it.
    """
    title = TITLE.encode()
    if not path.is_file():
        return None
    with path.open("rb") as file:
        if file.read(len(title)) != title:
            return None
        text = title + file.read(_LIMIT_BYTES)
    try:
        change = Change.from_head(text.decode("utf-8", "replace"))
    except Refused as error:
        raise Failure(f"{path}: {error}") from error
    signed = path.with_name(f"{path.name}.sig")
    try:
        with signed.open("rb") as file:
            armour = file.read(LIMIT_BYTES + 1).decode("ascii", "replace")
    except OSError as error:
        raise Failure(f"{signed} cannot be read, and a change is applied with the signature of who approved it: "
                      f"{error.strerror}") from error  # fmt: skip
    return ChangeFile(change=change, sha256=hashlib.sha256(text).hexdigest(), signature=armour)
