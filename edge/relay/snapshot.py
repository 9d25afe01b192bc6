"""What a relay remembers between two starts. It is a cache: without it everything is read from the archive again."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import cbor2

from edge.relay.archive import Place
from edge.relay.day_file import sync_directory
from edge.relay.follow import Item, Memory

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of a relay after everything that `ends` names was taken in.

    Attributes:
        trust: digest of the trust anchors that were believed; with others, every verdict may be another.
        ends: for each gateway, the day and the offset up to which its records are in here.
        verifier: the verifier's own snapshot.
        view: what the view remembers.
    """

    trust: bytes
    ends: dict[str, tuple[str, int]]
    verifier: bytes
    view: Memory


def save(path: Path, snapshot: Snapshot) -> None:
    """Replace the snapshot on disk, whole or not at all."""
    view = [list(snapshot.view.catalogues), list(snapshot.view.unfinished), snapshot.view.shown_ns]
    content = cbor2.dumps([_FORMAT, snapshot.trust, snapshot.ends, snapshot.verifier, view])
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
    form, known_trust, ends, verifier, (catalogues, unfinished, shown_ns) = cbor2.loads(content)
    if form != _FORMAT or known_trust != trust:
        return None
    view = Memory(
        [Place(*place) for place in catalogues],
        [Item(Place(*place), arrived_ns) for place, arrived_ns in unfinished],
        shown_ns,
    )
    ends = {gateway: (day, offset) for gateway, (day, offset) in ends.items()}
    return Snapshot(trust=trust, ends=ends, verifier=verifier, view=view)
