"""The catalogues that verified CATALOG records carry, put together from their parts."""

from __future__ import annotations

from edge.model import Catalogue
from edge.relay.archive import Place
from edge.seal import CataloguePart, join_catalogue

_KEPT = 1000


class Catalogues:
    """By digest, the newest ones; remembers where their parts lie in the archive."""

    def __init__(self) -> None:
        self._whole: dict[bytes, Catalogue] = {}
        self._parts: dict[bytes, dict[int, tuple[CataloguePart, Place]]] = {}

    def add(self, part: CataloguePart, place: Place) -> bool:
        """Take one part in; True when it completes a catalogue that was not known. Raises Malformed."""
        parts = self._parts.pop(part.digest, {})
        parts[part.part] = (part, place)
        self._parts[part.digest] = parts
        if part.digest in self._whole or len(parts) < part.parts:
            return False
        self._whole[part.digest] = join_catalogue(held for held, _ in parts.values())
        while len(self._parts) > _KEPT:
            oldest = next(iter(self._parts))
            del self._parts[oldest]
            self._whole.pop(oldest, None)
        return True

    def get(self, digest: bytes) -> Catalogue | None:
        """The catalogue with this digest, once all its parts have come."""
        return self._whole.get(digest)

    def places(self) -> list[Place]:
        """Where every part lies."""
        return [place for parts in self._parts.values() for _, place in parts.values()]
