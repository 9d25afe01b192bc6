"""Ranges of records in chains, as lines of text: what is missing, and what a gateway is to send again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_COMMENT = "# Gateway, epoch, first and last seq. On the gateway: tidegate resend BUFFER --missing FILE\n"
_LINE = re.compile(r"(\S+) ([0-9a-f]{16}) ([0-9]{1,20}) ([0-9]{1,20})")


class RecordRange(NamedTuple):
    """Records `first` to `last` of one chain, both included."""

    issuer: str
    epoch: bytes
    first: int
    last: int


def ranges_to_text(ranges: Iterable[RecordRange]) -> str:
    """One line for each range. A name that would break its line is left out: no gateway is called so."""
    lines = (f"{issuer} {epoch.hex()} {first} {last}" for issuer, epoch, first, last in ranges)
    return _COMMENT + "".join(f"{line}\n" for line in lines if _LINE.fullmatch(line))


def ranges_from_text(text: str) -> list[RecordRange]:
    """The ranges of a text. Raises ValueError with the line that is none."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or int(match[3]) > int(match[4]):
            raise ValueError(f"line {number} is not a gateway, an epoch, a first and a last seq: {line[:80]!r}")
        found.append(RecordRange(match[1], bytes.fromhex(match[2]), int(match[3]), int(match[4])))
    return found
