"""The archivist owns everything that is on disk, and lives in one thread.

It judges what arrives, keeps it, hands what is durable to the view, and finds all of that again after a restart.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from edge.logs import get_logger
from edge.relay import snapshot
from edge.relay.archive import Archive, Place, gateways
from edge.relay.completeness import Missing
from edge.relay.follow import Follower, Item, Memory
from edge.relay.intake import Heard, Intake, Message
from edge.relay.quarantine import Quarantine
from edge.relay.unified_namespace import UnifiedNamespace
from edge.seal.record import ISSUER_PREFIX
from edge.verify import RangeVerdict, Trust, Verifier

_ISSUER = re.compile(re.escape(ISSUER_PREFIX) + r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

log = get_logger(__name__)


class Archivist:
    """Everything a relay knows, from its archive.

    Args:
        directory: the archive; made when it does not exist.
        trust: files and directories of trust anchors.
        quarantine_bytes: bound of what is kept of refused messages.
        view_prefix: topic prefix of the unified namespace; None when nothing is shown.

    Raises:
        ConfigError: the archive or a trust anchor cannot be used.
    """

    def __init__(
        self, directory: Path, trust: Sequence[Path], *, quarantine_bytes: int, view_prefix: str | None
    ) -> None:
        anchors = Trust.load(trust)
        self._trust_digest = _digest(trust)
        self._snapshot_path = directory / "relay.snapshot"
        self._archive = Archive(directory)
        for path, recovered in self._archive.recovered.items():
            log.warning("archive recovered", file=str(path), torn_bytes=recovered.torn_bytes, indexed=recovered.indexed)
        held = snapshot.load(self._snapshot_path, self._trust_digest)
        verifier = Verifier(anchors, hash_of=self._archive.hash_of)
        if held:
            verifier.restore(held.verifier)
        self._quarantine = Quarantine(directory / "quarantine.cbor", quarantine_bytes)
        self._verifier = verifier
        self.intake = Intake(self._archive, self._quarantine, verifier, lambda issuer: _may_speak(anchors, issuer))
        self._held: list[Item] = []
        self._is_ahead = False
        self.follower: Follower | None = None
        if view_prefix is not None:
            view = UnifiedNamespace(view_prefix, held.view.shown_ns if held else None)
            self.follower = Follower(view, self._archive.read)
        self._resume(held)

    def take(self, messages: Iterable[Message]) -> list[Heard]:
        """Judge messages and keep what is to be kept, durable after `sync`; who was heard."""
        # If this fails midway the verifier knows records that the archive has not: it must not be remembered so.
        self._is_ahead = True
        items, heard = self.intake.take(messages)
        self._is_ahead = False
        self._held += items
        return heard

    def sync(self) -> None:
        """Make everything taken durable, and due for the view; after an OSError it may be repeated."""
        self._archive.sync()
        if self.follower is not None:
            self.follower.offer(self._held)
        self._held.clear()

    def expected(self) -> list[str]:
        """Issuers whose newest chain did not end with STOP: they should be heard."""
        tails = {}
        for epoch in sorted(self._verifier.report().epochs, key=lambda each: each.tail_ns or 0):
            tails[epoch.issuer] = epoch.tail
        return [issuer for issuer, tail in tails.items() if tail is not RangeVerdict.CLOSED]

    def missing(self) -> list[Missing]:
        """Every range that is known to have existed and is not here, declared lost or not."""
        return [
            Missing(gap.issuer, gap.epoch.hex(), gap.first, gap.last, gap.verdict is RangeVerdict.DECLARED_LOST)
            for gap in self._verifier.missing()
        ]

    def save(self) -> None:
        """Write the snapshot; raises OSError."""
        self.sync()
        if self._is_ahead:
            return
        memory = self.follower.memory() if self.follower else Memory([], [], {})
        snapshot.save(
            self._snapshot_path,
            snapshot.Snapshot(
                trust=self._trust_digest, ends=self._archive.ends(), verifier=self._verifier.snapshot(), view=memory
            ),
        )

    def close(self) -> None:
        """Save and give everything back."""
        try:
            self.save()
        finally:
            self._quarantine.close()
            self._archive.close()

    def _resume(self, held: snapshot.Snapshot | None) -> None:
        """Take in what the archive has and the snapshot has not."""
        if held and self.follower is not None:
            self.follower.recall(held.view)
        self._held += self.intake.replay(self._unknown_to(held))
        self.sync()

    def _unknown_to(self, held: snapshot.Snapshot | None) -> Iterator[tuple[Place, bytes]]:
        ends = held.ends if held else {}
        for gateway in gateways(self._archive.directory):
            yield from self._archive.since(gateway, *ends.get(gateway, ("", 0)))


def _may_speak(trust: Trust, issuer: str) -> bool:
    """Whether a trust anchor could vouch for this gateway; its name becomes a directory, and has to be one."""
    if not _ISSUER.fullmatch(issuer):
        return False
    names = {name for _, name in trust._pins.values()}  # noqa: SLF001
    return bool(trust._authorities) or not names.isdisjoint((None, issuer))  # noqa: SLF001


def _digest(trust: Sequence[Path]) -> bytes:
    """Of the content of every trust file: with other anchors every verdict may be another."""
    digest = hashlib.sha256()
    for path in trust:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.digest()
