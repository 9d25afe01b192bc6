"""What a relay remembers between two starts. It is a cache: without it everything is read from the archive again."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cbor2

from edge.relay.day_file import sync_directory

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of a relay after everything that `ends` names was taken in.

    Attributes:
        trust: digest of the trust anchors that were believed; with others, every verdict may be another.
        ends: for each gateway, the day and the offset up to which its records are in here.
        verifier: the verifier's own snapshot.
        catalogues: where the catalogues in force lie in the archive, as (gateway, day, offset, length).
        shown_ns: for each topic of a view, the UTC of the value it shows.
    """

    trust: bytes
    ends: dict[str, tuple[str, int]]
    verifier: bytes
    catalogues: list[tuple[str, str, int, int]] = field(default_factory=list)
    shown_ns: dict[str, int] = field(default_factory=dict)


def save(path: Path, snapshot: Snapshot) -> None:
    """Replace the snapshot on disk, whole or not at all."""
    content = cbor2.dumps({"format": _FORMAT, **asdict(snapshot)})
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        file.write(hashlib.sha256(content).digest() + content)
        file.flush()
        os.fdatasync(file.fileno())
    new.replace(path)
    sync_directory(path.parent)


def load(path: Path, trust: bytes) -> Snapshot | None:
    """The snapshot on disk; None where there is none that is whole and was made with the same trust."""
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        return None
    content = stored[32:]
    if hashlib.sha256(content).digest() != stored[:32]:
        return None
    fields = cbor2.loads(content)
    if fields.pop("format") != _FORMAT or fields["trust"] != trust:
        return None
    fields["ends"] = {gateway: (day, offset) for gateway, (day, offset) in fields["ends"].items()}
    fields["catalogues"] = [tuple(place) for place in fields["catalogues"]]
    return Snapshot(**fields)
